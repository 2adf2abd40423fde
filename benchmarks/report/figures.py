"""The charts of the report, as Plotly figures. Every point is a row of a leaderboard and names it in ``customdata``.

Colours are Okabe and Ito's, which people with any kind of colour vision tell apart; groups also differ by symbol.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks import render
from benchmarks.leaderboard import Row, Table, row_name

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star")
"""As many as share no factor with the colours: 42 series differ in one of the two."""
UNRANKED = {"color": "#999999", "symbol": "x"}
FULL = "/full"
DIVERSITY = "diversity@10"
ROW_PX = 24
ROUNDING = 1e-12


@dataclass(frozen=True)
class Chart:
    """A figure with its heading and, in a sentence, what it shows.

    ``listed``: whether its numbers are in no table, so that the page lists them.
    """

    name: str
    title: str
    text: str
    figure: Figure
    listed: bool = False


def charts(table: Table) -> list[Chart]:
    """All charts of a table for which it has figures."""
    makers: tuple[Callable[[Table], Chart | None], ...] = (
        intervals,
        fit_time,
        throughput,
        order,
        diversity,
        slices,
        gains,
        expected_best,
    )
    return [chart for make in makers if (chart := make(table)) is not None]


def intervals(table: Table) -> Chart | None:
    """The primary figure of every row with its interval."""
    rows = _measured(table)
    if not rows:
        return None
    primary = table.protocol.primary
    figure = _figure(height=120 + ROW_PX * len(rows))
    _add_intervals(figure, table, rows, primary, marker=_group_markers(rows))
    figure.update_xaxes(title=primary)
    figure.update_yaxes(autorange="reversed", automargin=True)
    text = "Best row first, with its 95 % interval over users. Rows of one colour and symbol are one rank group."
    return Chart("intervals", f"{primary} with intervals", text, figure)


def fit_time(table: Table) -> Chart | None:
    """Accuracy against the seconds of a fit, and the rows that no other beats in both."""
    return _against_cost(
        table, "fit-time", "Accuracy against fit time", lambda row: (row["cost"]["fit_s"] or {}).get("median"),
        "seconds of a fit", lower=True,
    )  # fmt: skip


def throughput(table: Table) -> Chart | None:
    """Accuracy against users a second."""
    return _against_cost(
        table, "throughput", "Accuracy against throughput", lambda row: row["cost"]["users_per_s"],
        "users a second (top-10 lists)", lower=False,
    )  # fmt: skip


def _against_cost(
    table: Table, name: str, title: str, cost: Callable[[Row], float | None], axis: str, lower: bool
) -> Chart | None:
    rows = [row for row in _ranked(table) if cost(row)]
    if len(rows) < 2:
        return None
    primary = table.protocol.primary
    figure = _figure()
    figure.add_scatter(
        x=[cost(row) for row in rows],
        y=[_mean(row, primary) for row in rows],
        text=[_label(row) for row in rows],
        mode="markers",
        marker=_group_markers(rows),
        customdata=[_id(table, row) for row in rows],
        hovertemplate="%{text}: %{y:.4f}, %{x:.4g}<extra></extra>",
        name="rows",
    )
    front = pareto_front([((cost(row) or 0) * (1 if lower else -1), _loss(table, row)) for row in rows])
    best = sorted((rows[index] for index in front), key=lambda row: cost(row) or 0)
    figure.add_scatter(
        x=[cost(row) for row in best],
        y=[_mean(row, primary) for row in best],
        mode="lines",
        line={"color": COLOURS[-1], "dash": "dot"},
        customdata=[_id(table, row) for row in best],
        hoverinfo="skip",
        name="Pareto front",
    )
    figure.update_xaxes(title=axis, type="log")
    figure.update_yaxes(title=primary)
    text = f"The dotted line, the Pareto front, joins those of all rows that no other beats in both: {_names(best)}."
    return Chart(name, title, text, figure)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, loss) of which no other is as good in both and better in one; less is better."""
    return [
        place
        for place, (cost, loss) in enumerate(points)
        if not any(
            other_cost <= cost and other_loss <= loss and (other_cost, other_loss) != (cost, loss)
            for other_cost, other_loss in points
        )
    ]


def order(table: Table) -> Chart | None:
    """The place of every default row by sampled and by full-catalogue figure."""
    primary, full = table.protocol.primary, table.protocol.primary + FULL
    rows = [row for row in _ranked(table) if row["label"] == "default" and _has(row, full)]
    if len(rows) < 2:
        return None
    sampled, complete = _places(rows, primary), _places(rows, full)
    figure = _figure(height=120 + ROW_PX * len(rows))
    for index, row in enumerate(rows):
        figure.add_scatter(
            x=["sampled", "full"],
            y=[sampled[index], complete[index]],
            text=["", f"  {_label(row)}"],
            hovertext=[_label(row)] * 2,
            mode="lines+markers+text",
            textposition="middle right",
            marker=_mark(index),
            customdata=[_id(table, row)] * 2,
            hovertemplate="%{hovertext}: place %{y} %{x}<extra></extra>",
            name=_label(row),
            showlegend=False,
        )
    figure.update_xaxes(range=[-0.2, 2.2])
    figure.update_yaxes(autorange="reversed", title="place", dtick=1)
    flipped = flips(rows, primary, full)
    pairs = ", ".join(f"{row_name(a)} / {row_name(b)}" for a, b in flipped)
    text = f"{len(flipped)} of {len(rows) * (len(rows) - 1) // 2} pairs change their order: {pairs or 'none'}."
    return Chart("order", "Sampled against full-catalogue order", text, figure, listed=True)


def flips(rows: Sequence[Row], first: str, second: str) -> list[tuple[Row, Row]]:
    """Pairs of rows that two metrics, both higher is better, put in opposite orders."""
    return [(a, b) for a, b in itertools.combinations(rows, 2) if _sign(a, b, first) * _sign(a, b, second) < 0]


def _sign(a: Row, b: Row, metric: str) -> int:
    """1, 0 or -1 as ``a`` is above, equal to or below ``b``; sums in another order are no difference."""
    difference = _mean(a, metric) - _mean(b, metric)
    return 0 if abs(difference) < ROUNDING else 1 if difference > 0 else -1


def diversity(table: Table) -> Chart | None:
    """Diversity of the lists against accuracy; rows of one algorithm, such as a sweep, are joined."""
    primary = table.protocol.primary
    rows = [row for row in _ranked(table) if _has(row, DIVERSITY)]
    if len(rows) < 2:
        return None
    figure = _figure()
    names = list(dict.fromkeys(row["algorithm"] for row in rows))
    for place, name in enumerate(names):
        own = sorted((row for row in rows if row["algorithm"] == name), key=lambda row: _mean(row, DIVERSITY))
        figure.add_scatter(
            x=[_mean(row, DIVERSITY) for row in own],
            y=[_mean(row, primary) for row in own],
            text=[_label(row) for row in own],
            mode="lines+markers" if len(own) > 1 else "markers",
            marker=_mark(place),
            customdata=[_id(table, row) for row in own],
            hovertemplate="%{text}: %{y:.4f}, diversity %{x:.4f}<extra></extra>",
            name=html.escape(name),
        )
    figure.update_xaxes(title=DIVERSITY)
    figure.update_yaxes(title=primary)
    figure.update_layout(showlegend=True)
    text = "Intra-list diversity of genres in the ten best of the full catalogue. Rows of one algorithm are joined."
    return Chart("diversity", "Diversity against accuracy", text, figure)


def slices(table: Table) -> Chart | None:
    """The primary figure on warm rows and on cold users and items apart."""
    primary, rows, found = table.protocol.primary, _measured(table), render.slices_of(table)
    if not found:
        return None
    figure = _figure(height=120 + ROW_PX * len(rows))
    for place, (part, (suffix, n)) in enumerate(found.items()):
        name = primary + suffix
        own = [row for row in rows if _has(row, name)]
        _add_intervals(figure, table, own, name, marker=_mark(place), name=f"{part} (n={n:,})")
    figure.update_xaxes(title=primary)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(showlegend=True)
    return Chart("slices", "Warm and cold", table.protocol.slices_note, figure)


def gains(table: Table) -> Chart | None:
    """Default and tuned figure of every algorithm."""
    if table.tuning is None or not table.tuning["rows"]:
        return None
    ids = {(row["algorithm"], row["label"]): _id(table, row) for row in table.rows if row["device"] == "cpu"}
    rows = table.tuning["rows"]
    figure = _figure(height=120 + ROW_PX * len(rows))
    for place, label in enumerate(("default", "tuned")):
        figure.add_scatter(
            x=[row[label] for row in rows],
            y=[html.escape(row["algorithm"]) for row in rows],
            mode="markers",
            marker=_mark(place),
            customdata=[ids.get((row["algorithm"], label)) for row in rows],
            hovertemplate=f"%{{y}}, {label}: %{{x:.4f}}<extra></extra>",
            name=label,
        )
    figure.update_xaxes(title=table.protocol.primary)
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(showlegend=True)
    text = "What the same budget of tuning brought each algorithm, on test rows that no trial has seen."
    return Chart("gains", "Default and tuned", text, figure)


def expected_best(table: Table) -> Chart | None:
    """Expected best validation figure after so many trials (Dodge et al. 2019)."""
    if table.tuning is None or not table.tuning["expected_best"]:
        return None
    figure = _figure()
    for place, (name, values) in enumerate(table.tuning["expected_best"].items()):
        figure.add_scatter(
            x=list(range(1, len(values) + 1)),
            y=values,
            mode="lines+markers",
            marker=_mark(place),
            name=html.escape(name),
        )
    figure.update_xaxes(title="trials")
    figure.update_yaxes(title="expected best on validation rows")
    figure.update_layout(showlegend=True)
    text = "What the best of n trials is to be expected to reach: whose curve is flat has little to gain from more."
    return Chart("expected-best", "What more trials would bring", text, figure, listed=True)


def history(lines: Iterable[Mapping[str, Any]]) -> Chart | None:
    """RecGauge's own speed over the runs of ``regress``: each benchmark's ratio by its baseline."""
    points: dict[str, list[tuple[str, float]]] = {}
    against_baseline = [line for line in lines if line["base"] is None]
    machines = {line["hardware_fingerprint"] for line in against_baseline}
    for line in against_baseline:
        machine = f" on {line['hardware_fingerprint'][:6]}" if len(machines) > 1 else ""
        for path, found in line["benchmarks"].items():
            if found["measured"]:
                last = found["measured"][-1]
                points.setdefault(path + machine, []).append((line["date"], last["ratio"] / last["before"]))
    if not points:
        return None
    figure = _figure(height=480)
    for place, (path, values) in enumerate(sorted(points.items())):
        figure.add_scatter(
            x=[date for date, _ in values],
            y=[change for _, change in values],
            mode="lines+markers",
            marker=_mark(place),
            name=html.escape(path),
        )
    figure.update_yaxes(title="ratio, baseline = 1")
    figure.update_layout(showlegend=True)
    text = "Each line is a benchmark of RecGauge itself, each point a run of 'regress': 1.3 takes 30 % longer."
    return Chart("history", "RecGauge's own speed", text, figure, listed=True)


# -- parts ------------------------------------------------------------------------------------------------------------


def _figure(height: int = 420) -> Figure:
    from plotly.graph_objects import Figure

    margin = {"l": 60, "r": 20, "t": 20, "b": 50}
    return Figure(layout={"height": height, "margin": margin, "showlegend": False, "hovermode": "closest"})


def _add_intervals(figure: Figure, table: Table, rows: Sequence[Row], metric: str, **style: Any) -> None:
    """A point with its interval for each row, which is named on the other axis."""
    figure.add_scatter(
        x=[_mean(row, metric) for row in rows],
        y=[_label(row) for row in rows],
        error_x=_error_bars([row["metrics"][metric] for row in rows]),
        mode="markers",
        customdata=[_id(table, row) for row in rows],
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
        **style,
    )


def _measured(table: Table) -> list[Row]:
    """Rows that were measured whole, in the table's order."""
    return [row for row in table.rows if row["status"] == "ok" and _has(row, table.protocol.primary)]


def _ranked(table: Table) -> list[Row]:
    """Those of them that compete: the oracle does not."""
    return [row for row in _measured(table) if row["rank"] is not None]


def _has(row: Row, metric: str) -> bool:
    return (row["metrics"].get(metric) or {}).get("mean") is not None


def _mean(row: Row, metric: str) -> float:
    return float(row["metrics"][metric]["mean"])


def _loss(table: Table, row: Row) -> float:
    value = _mean(row, table.protocol.primary)
    return -value if table.protocol.higher_is_better else value


def _label(row: Row) -> str:
    """Plotly reads text as HTML, so what is data is escaped."""
    return html.escape(row_name(row))


def _id(table: Table, row: Row) -> int:
    """The row's place in its table, by which the page filters points."""
    return table.rows.index(row)


def _error_bars(figures: Sequence[Mapping[str, float | None]]) -> dict[str, Any]:
    def arm(figure: Mapping[str, float | None], edge: str, sign: int) -> float:
        value, mean = figure[edge], figure["mean"]
        return 0.0 if value is None or mean is None else sign * (value - mean)

    return {
        "type": "data",
        "symmetric": False,
        "array": [arm(each, "high", 1) for each in figures],
        "arrayminus": [arm(each, "low", -1) for each in figures],
    }


def _mark(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "symbol": SYMBOLS[place % len(SYMBOLS)], "size": 9}


def _group_markers(rows: Sequence[Row]) -> dict[str, Any]:
    """A colour and symbol for each rank group; the oracle, which has none, is grey."""
    marks = [UNRANKED if row["group"] is None else _mark(row["group"] - 1) for row in rows]
    return {"color": [mark["color"] for mark in marks], "symbol": [mark["symbol"] for mark in marks], "size": 9}


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(map(row_name, rows))


def _places(rows: Sequence[Row], metric: str) -> list[int]:
    """The place of each row, 1 the best; equal rows share one."""
    return [1 + sum(_sign(other, row, metric) > 0 for other in rows) for row in rows]
