"""Tables and their rows as text: for the terminal, Markdown, CSV, JSON. Every format shows the same rows."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from algorithms.registry import BY_RATING, CALIBRATED
from benchmarks.leaderboard import ORACLE, Row, Table, row_name, rows_of, title
from benchmarks.throughput import BATCH
from datasets.errors import unknown_name
from protocols.statistics import ALPHA

MARKS = {CALIBRATED: "†", BY_RATING: "‡"}

_WIDE = 200
_SELF_REPORTED = "*"
_TEXTS = ("algorithm", "default → tuned")
"""Headers of columns that hold no numbers."""
_LEGEND = {
    CALIBRATED: "† scores turned into ratings by a map fitted on validation rows.",
    BY_RATING: "‡ a rating model, ranking by predicted rating.",
}


@dataclass(frozen=True)
class _Column:
    """One column of a printed table."""

    header: str
    text: Callable[[Row], str]


_Cells = tuple[list[str], list[list[str]]]
"""Headers, and a list of texts for each row."""


def render(
    tables: Sequence[Table],
    missing: dict[str, str],
    form: str,
    metrics: Sequence[str] = (),
    width: int | None = None,
) -> str:
    """The tables as ``terminal`` (80 columns wide, or the terminal's width), ``markdown``, ``csv`` or ``json`` text.

    ``metrics``: the columns of terminal and Markdown tables instead of the protocol's own; CSV and JSON have all.
    ``width``: of terminal text, instead of the terminal's.

    Raises:
        UserError: no table has a metric of that name.
    """
    known = {name for table in tables for row in table.rows for name in row["metrics"]}
    for name in metrics:
        if name not in known:
            raise unknown_name("metric", name, known)
    if form == "json":
        return json.dumps(rows_of(tables, missing), indent=1, allow_nan=False)
    if form == "csv":
        return _csv(rows_of(tables, missing))
    wide = width or max(80, shutil.get_terminal_size().columns)
    parts = [_markdown(table, metrics) if form == "markdown" else _terminal(table, metrics, wide) for table in tables]
    parts += [f"{place}: not measured: {reason}" for place, reason in missing.items()]
    return "\n\n".join(parts)


def fraction(value: float, places: int = 3) -> str:
    """So many decimals without the leading zero: ``.605``, ``-.012``, ``1.000``."""
    text = f"{round(value, places) + 0.0:.{places}f}"  # -0.0 + 0.0 is 0.0
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


# --- terminal and Markdown -------------------------------------------------------------------------------------------


def marked_name(row: Row) -> str:
    mark = MARKS.get(row["support"])
    return f"{row_name(row)}{mark}" if mark else row_name(row)


def _metric(name: str) -> Callable[[Row], str]:
    return lambda row: optional_text(fraction, row["metrics"].get(name, {}).get("mean"))


def _interval_or_status(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        figure = row["metrics"].get(name)
        if row["status"] != "ok" or figure is None:
            return str(row["status"]).replace("_", " ")
        return _interval(figure)

    return text


def _interval(figure: dict[str, float | None]) -> str:
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{fraction(low)}–{fraction(high)}"


def _columns(table: Table, metrics: Sequence[str]) -> list[_Column]:
    """Group, name, the protocol's own figures (the primary one with its interval and spread), costs that there are.

    A row without a search has nothing in that column; JSON and CSV have its 0 seconds.
    """
    figures = []
    for header, name in ({name: name for name in metrics} or table.protocol.columns).items():
        figures.append(_Column(header, _metric(name)))
        if name == table.protocol.primary:
            figures.append(_Column("95 %", _interval_or_status(name)))
            figures.append(_Column("sd", lambda row: optional_text(fraction, row["spread"])))
    if _has_ways(table):
        figures.append(_Column("way", _way))
    group = _Column("grp", lambda row: optional_text(str, row["group"]))
    if metrics:  # costs would not fit beside them
        return [group, _Column("algorithm", marked_name), *figures]
    costs = [_Column("fit s", _fit_seconds)]
    if any(row["cost"]["search_s"] for row in table.rows):
        costs.append(_Column("search", lambda row: optional_text(seconds_text, row["cost"]["search_s"] or None)))
    if any(row["cost"]["users_per_s"] for row in table.rows):
        costs.append(_Column("users/s", lambda row: optional_text(count_text, row["cost"]["users_per_s"])))
    costs.append(_Column("MiB", lambda row: optional_text(mebibytes_text, row["cost"]["peak_rss_bytes"])))
    return [group, _Column("algorithm", marked_name), *figures, *costs]


def _fit_seconds(row: Row) -> str:
    text = optional_text(seconds_text, (row["cost"]["fit_s"] or {}).get("median"))
    return f"{text}{_SELF_REPORTED}" if "fit_s" in (row["external"] or {}).get("self_reported", ()) else text


def _has_ways(table: Table) -> bool:
    return any(row["to_oracle"] is not None for row in table.rows)


def _way(row: Row) -> str:
    return "" if row["to_oracle"] is None else optional_text(lambda way: fraction(way, 2), row["to_oracle"]["mean"])


def _cells(table: Table, metrics: Sequence[str]) -> _Cells:
    columns = _columns(table, metrics)
    return [column.header for column in columns], [[column.text(row) for column in columns] for row in table.rows]


def slices_of(table: Table) -> dict[str, tuple[str, int]]:
    """Header -> suffix and number of test rows, of the slices that there are; none where no row is cold."""
    found = {}
    for header, suffix in table.protocol.slices.items():
        figures = (row["metrics"].get(table.protocol.primary + suffix) for row in table.rows)
        n = max((figure["n"] or 0 for figure in figures if figure), default=0)
        if n:
            found[header] = (suffix, n)
    return found if any(suffix != "/warm" for suffix, _ in found.values()) else {}


def _slices_title(table: Table) -> str:
    return f"warm and cold test rows: {', '.join(table.protocol.slice_columns)}"


def _slice_cells(table: Table, slices: dict[str, tuple[str, int]], header: str, intervals: bool) -> _Cells:
    """A row for each ok row of the table; ``header`` makes a slice's header of its name and its number of rows."""
    columns = [_Column("algorithm", marked_name)]
    (_, primary), *others = table.protocol.slice_columns.items()
    for name, (suffix, n) in slices.items():
        columns.append(_Column(header.format(name, f"{n:,}"), _metric(primary + suffix)))
        if intervals:
            columns.append(_Column("95 %", _metric_interval(primary + suffix)))
        columns += [_Column(other, _metric(metric + suffix)) for other, metric in others]
    ok = [row for row in table.rows if row["status"] == "ok"]
    return [column.header for column in columns], [[column.text(row) for column in columns] for row in ok]


# --- speed and size, a block below the table --------------------------------------------------------------------------


_SPEED_TITLE = "speed and size"


def _has_speed(table: Table) -> bool:
    return any(row["cost"]["pairs_per_s"] is not None for row in table.rows)


def _speed_cells(table: Table, break_: str) -> _Cells:
    """A row for each row whose times were measured here; ``break_`` stands between a header's words."""

    def cost(name: str, form: Callable[[Any], str]) -> Callable[[Row], str]:
        return lambda row: optional_text(form, row["cost"][name])

    columns = [
        _Column("algorithm", marked_name),
        _Column("fit s", lambda row: seconds_text(row["cost"]["fit_s"]["median"])),
        _Column("low–high", lambda row: "–".join(seconds_text(row["cost"]["fit_s"][edge]) for edge in ("low", "high"))),
        _Column(f"rows{break_}/s", cost("train_per_s", count_text)),
        _Column(f"samples{break_}/s", cost("samples_per_s", count_text)),
        _Column(f"pairs{break_}/s", cost("pairs_per_s", count_text)),
        _Column(f"users{break_}/s", cost("users_per_s", count_text)),
        _Column(f"p50{break_}ms", cost("p50_ms", milliseconds_text)),
        _Column(f"p99{break_}ms", cost("p99_ms", milliseconds_text)),
        _Column(f"model{break_}MiB", cost("model_bytes", model_size_text)),
        _Column(f"GPU{break_}MiB", cost("peak_gpu_bytes", mebibytes_text)),
    ]
    ok = [row for row in table.rows if row["cost"]["fit_s"] is not None and not row["external"]]
    cells = [[column.text(row) for column in columns] for row in ok]
    filled = [index for index in range(len(columns)) if any(line[index] for line in cells)]
    return [columns[index].header for index in filled], [[line[index] for index in filled] for line in cells]


def _notes_on_speed(table: Table) -> list[str]:
    """What the block's figures are, where there is one; and which times are doubtful, block or not."""
    notes = []
    if _has_speed(table):
        notes.append(
            "fit s: median of all timed fits, low–high the shortest and the longest. rows/s, samples/s: training rows, "
            "and rows with drawn negatives, times epochs. pairs/s: scores of pairs. users/s: top-10 lists without what "
            f"was seen, {BATCH:,} users at a time; p50, p99: for one user. model: all that is saved."
        )
    busy = [f"{row_name(row)} ({', '.join(row['busy'])})" for row in table.rows if row["busy"]]
    notes += [f"Times are doubtful, the machine was busy: {', '.join(busy)}."] if busy else []
    return notes + _notes_on_untimed(table)


def _notes_on_untimed(table: Table) -> list[str]:
    """Which rows have no times though they were measured, and why."""
    untimed = [row for row in table.rows if row["status"] == "ok" and not row["external"] and not row["cost"]["fit_s"]]
    reasons = {row_name(row): row["not_measured"]["fit_s"] for row in untimed}
    if not reasons:
        return []
    every = len(reasons) == len(table.rows) and len(set(reasons.values())) == 1
    names = [f"{name}: {reason}" for name, reason in reasons.items()]
    return [f"Times were not measured: {next(iter(reasons.values())) if every else ', '.join(names)}."]


def _metric_interval(name: str) -> Callable[[Row], str]:
    return lambda row: _interval(row["metrics"][name]) if name in row["metrics"] else ""


def notes_on(table: Table) -> list[str]:
    """What the figures are, where they come from, how far they go, and why a row has none."""
    sizes = {name: f"{value:,}" for name, value in table.sizes.items()}
    threads = sorted({row["threads"] for row in table.rows if not row["external"]} or {1})
    notes = [
        *_notes_on_leaks(table),
        table.protocol.explain(),
        f"{sizes['n_rows']} rows, {sizes['n_users']} users, {sizes['n_items']} items. 95 %: bootstrap over users. "
        f"{table.hardware['cpu']}, {'/'.join(map(str, threads))} thread{'s' if threads != [1] else ''}.",
    ]
    if table.n_parts > 1:
        notes.append(f"Pooled over {table.n_parts} folds.")
    notes += [table.protocol.slices_note] if slices_of(table) else []
    notes += _notes_on_speed(table) + _notes_on_samples(table) + _notes_on_order(table) + _notes_on_oracle(table)
    notes += _notes_on_external(table)
    notes += [text for support, text in _LEGEND.items() if any(row["support"] == support for row in table.rows)]
    return notes + [f"{row_name(row)}: {row['status']}: {row['reason']}" for row in table.rows if row["status"] != "ok"]


def _notes_on_leaks(table: Table) -> list[str]:
    """Rows that are better than the best possible: first of all notes, since then no figure is to be trusted."""
    found = {name: p for name, p in (table.evidence.better_than_oracle or {}).items() if p < ALPHA}
    if not found:
        return []
    names = ", ".join(f"{name} (p {_p_text(p)})" for name, p in found.items())
    return [
        f"LEAK OR BUG: better than the oracle, which nothing can be but by luck: {names}. "
        "One-sided permutation test over users, Holm over rows. Do not trust this table."
    ]


def _notes_on_oracle(table: Table) -> list[str]:
    p = table.evidence.better_than_oracle
    if p is None:
        return []
    text = f"{ORACLE}: scores with the truth that made the data; no rank, no group, in no pair."
    if _has_ways(table):
        header = next(header for header, name in table.protocol.columns.items() if name == table.protocol.primary)
        text += f" way: how far a row goes in {header} from {table.protocol.baseline} (0) to the oracle (1)."
    if p and min(p.values()) >= ALPHA:
        text += f" No row is better than the oracle (smallest corrected p {_p_text(min(p.values()))})."
    return [text]


def _notes_on_external(table: Table) -> list[str]:
    """Which rows are of answers that were made elsewhere, what their times are, and what they cannot have."""
    rows = [row for row in table.rows if row["external"]]
    if not rows:
        return []
    text = f"{', '.join(map(row_name, rows))}: answers from elsewhere, scored here; what they cost was not measured."
    if table.protocol.task == "rating":
        text += " Their ratings are taken as they are, clipped to the scale and not calibrated."
    if any("fit_s" in row["external"]["self_reported"] for row in rows):
        text += f" {_SELF_REPORTED} as whoever made them reports it, of another machine or not."
    primary = table.protocol.primary
    missing = [f"{row_name(row)} has no {primary}: {why}." for row in rows if (why := row["not_measured"].get(primary))]
    return [text, *missing]


def _p_text(p: float) -> str:
    return f"< {fraction(0.001)}" if p < 0.001 else f"= {fraction(p)}"


def _notes_on_samples(table: Table) -> list[str]:
    """Who was ranked on fewer users than others: models without factors, on large data."""
    ranked = {row_name(row): row["ranked_users"] for row in table.rows if row["ranked_users"]}
    sampled = {name: n for name, n in ranked.items() if n < max(ranked.values())}
    if not sampled:
        return []
    n = f"{max(sampled.values()):,}"
    return [f"Full catalogue of {', '.join(sampled)}: for a fixed sample of {n} users, since they have no factors."]


def _notes_on_order(table: Table) -> list[str]:
    evidence = table.evidence
    notes = []
    if evidence.minimum_detectable_difference is not None:
        notes.append(
            f"grp: the best row of a group and all that cannot be told from it (permutation test over users, 5 %, Holm "
            f"over {len(evidence.p)} pair{'s' if len(evidence.p) > 1 else ''}). Minimum detectable difference: "
            f"{fraction(evidence.minimum_detectable_difference)}."
        )
    if any(row["spread"] is not None for row in table.rows):
        notes.append(f"sd: standard deviation of {table.protocol.primary} over model seeds.")
    agreement = evidence.rank_agreement
    if agreement is not None and agreement["tau_b"] is not None:
        interval = f" (95 % {text})" if (text := _interval(agreement)) else ""
        notes.append(
            f"Sampled against full-catalogue order of the {agreement['n_rows']} default rows: tau-b "
            f"{fraction(agreement['tau_b'])}{interval}."
        )
    return notes


def _terminal(table: Table, metrics: Sequence[str], width: int) -> str:
    widest = max(width, _WIDE) if metrics else width  # columns that were asked for are never cut
    console = Console(file=io.StringIO(), width=widest, highlight=False)
    cells = _cells(table, metrics)
    console.print(Text(title(table)))
    console.print(_widest_that_fits(console, width, [_grid(cells, gap=2), _grid(cells, gap=1)]))
    console.print()
    if slices := slices_of(table):
        long, short = (_slice_cells(table, slices, "{}\n(n={})", intervals) for intervals in (True, False))
        console.print(Text(_slices_title(table)))
        grids = [_grid(cells, gap) for cells in (long, short) for gap in (2, 1)]
        console.print(_widest_that_fits(console, width, grids), width=width)
        console.print()
    if _has_speed(table):
        console.print(Text(_SPEED_TITLE))
        console.print(_widest_that_fits(console, width, [_grid(_speed_cells(table, "\n"), gap) for gap in (2, 1)]))
        console.print()
    for note in notes_on(table):
        console.print(Text(note), width=width)
    if notes := notes_on_gains(table):
        console.print()
        console.print(_widest_that_fits(console, width, [_grid(gains_of(table), gap) for gap in (2, 1)]))
        console.print()
        for note in notes:
            console.print(Text(note), width=width)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _widest_that_fits(console: Console, width: int, grids: Sequence[RichTable]) -> RichTable:
    """The first of ``grids`` that fits, or the last, whose names are folded."""
    options = console.options.update(width=_WIDE)
    return next((grid for grid in grids if Measurement.get(console, options, grid).maximum <= width), grids[-1])


def _grid(cells: _Cells, gap: int) -> RichTable:
    """The rows, with ``gap`` spaces between columns, one of which the box itself puts there."""
    headers, rows = cells
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for header in headers:
        text = header in _TEXTS
        justify: Literal["left", "right"] = "left" if text else "right"
        overflow: Literal["fold", "ellipsis"] = "fold" if text else "ellipsis"
        grid.add_column(header, justify=justify, overflow=overflow, no_wrap=not text, vertical="bottom")
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


def _markdown(table: Table, metrics: Sequence[str]) -> str:
    parts = [f"### {title(table)}", _markdown_table(_cells(table, metrics))]
    if slices := slices_of(table):
        parts += [_slices_title(table), _markdown_table(_slice_cells(table, slices, "{} (n={})", intervals=True))]
    if _has_speed(table):
        parts += [_SPEED_TITLE, _markdown_table(_speed_cells(table, ""))]
    parts.append(_markdown_notes(notes_on(table)))
    if notes := notes_on_gains(table):
        parts += [_markdown_table(gains_of(table)), _markdown_notes(notes)]
    return "\n\n".join(parts)


def _markdown_notes(notes: Sequence[str]) -> str:
    return "\n".join(f"* {note}" for note in notes)


def _markdown_table(cells: _Cells) -> str:
    headers, rows = cells
    lines = ["| " + " | ".join(headers) + " |"]
    lines.append("|" + "|".join("---" if header in _TEXTS else "---:" for header in headers) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


# --- default → tuned, a block below the table ------------------------------------------------------------------------


def gains_of(table: Table) -> _Cells:
    """Headers and cells, one line for each algorithm that has both rows."""
    headers = ["default → tuned", "default", "tuned", "diff", "95 %", "p", "trials", "s", "bound by"]
    rows = [] if table.tuning is None else table.tuning["rows"]
    return headers, [_gain(row) for row in rows]


def _gain(row: Row) -> list[str]:
    return [
        row["algorithm"],
        fraction(row["default"]),
        fraction(row["tuned"]),
        fraction(row["difference"]["mean"]),
        _signed_interval(row["difference"]),
        probability(row["p"]),
        str(sum(row["trials"].values())),
        f"{row['seconds']:.0f}",
        row["bound_by"],
    ]


def notes_on_gains(table: Table) -> list[str]:
    if table.tuning is None or not table.tuning["rows"]:
        return []
    rows, mean = table.tuning["rows"], table.tuning["mean_difference"]
    budgets = {
        f"{each['name']}, {each['trials']} trials or {each['seconds']:g} s" for each in (row["budget"] for row in rows)
    }
    equal = "" if len(budgets) == 1 else " NOT THE SAME FOR ALL: do not compare their gains."
    interval = f" (95 % {text})" if (text := _signed_interval(mean)) else ""
    better = "higher" if table.protocol.higher_is_better else "lower"
    return [
        f"diff: tuned − default in {table.protocol.primary} ({better} is better) on test rows, 95 % over users, p of "
        f"the sign-flip permutation test, Holm over {len(rows)} algorithm{'s' if len(rows) > 1 else ''}.",
        f"Budget of each algorithm: {'; '.join(sorted(budgets))} of fit and scoring, whichever is spent first; "
        f"validation rows only, {rows[0]['metric']}.{equal}",
        f"Mean difference over {'these algorithms' if len(rows) > 1 else 'this algorithm'}: "
        f"{fraction(mean['mean'])}{interval}.",
    ]


def _signed_interval(figure: dict[str, float | None]) -> str:
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{fraction(low)} to {fraction(high)}"


def probability(p: float) -> str:
    """Four decimals without the leading zero: ``.0003``, and ``1``."""
    return f"{p:.4f}".replace("0.", ".", 1) if p < 1 else "1"


# --- figures as text -------------------------------------------------------------------------------------------------


def optional_text(form: Callable[[Any], str], value: Any) -> str:
    return "" if value is None else form(value)


def seconds_text(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def count_text(value: float) -> str:
    if value < 10_000:
        return f"{value:.0f}"
    if value < 1_000_000:
        return f"{value / 1_000:.0f} k"
    return f"{value / 1_000_000:.1f} M" if value < 10_000_000 else f"{value / 1_000_000:.0f} M"


def milliseconds_text(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def model_size_text(value: int) -> str:
    return f"{value / 2**20:.1f}" if value < 10 * 2**20 else mebibytes_text(value)


def mebibytes_text(value: int) -> str:
    return f"{value / 2**20:.0f}"


# --- CSV -------------------------------------------------------------------------------------------------------------


def _csv(rows: list[Row]) -> str:
    """One line a row; numbers in full precision, what was not measured empty."""
    lines = [_csv_fields(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(name for line in lines for name in line), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().rstrip("\n")


def _csv_fields(row: Row) -> dict[str, Any]:
    about = row["table"] or {}
    fields = {
        "dataset": row["dataset"],
        "protocol": row["protocol"],
        "protocol_config": " ".join(f"{name}={value}" for name, value in (row["protocol_config"] or {}).items()),
        "split_seeds": " ".join(map(str, row["split_seeds"] or ())),
        **{name: row[name] for name in ("rank", "group", "algorithm", "label")},
        "mark": MARKS.get(row["support"]),
        **{name: row[name] for name in ("status", "reason", "device", "threads")},
        "n_seeds": len(row["seeds"]) if row["seeds"] else None,
        "spread": row["spread"],
    }
    for edge, column in (("mean", "to_oracle"), ("low", "to_oracle low"), ("high", "to_oracle high")):
        fields[column] = (row["to_oracle"] or {}).get(edge)
    for name, figure in (row["metrics"] or {}).items():
        fields |= {name: figure["mean"], f"{name} low": figure["low"], f"{name} high": figure["high"]}
    for name, value in (row["cost"] or {}).items():
        if name == "fit_s":
            value = value or dict.fromkeys(("median", "low", "high"))
            fields |= {name: value["median"], f"{name} low": value["low"], f"{name} high": value["high"]}
        else:
            fields[name] = value
    fields["busy"] = "; ".join(row["busy"] or ())
    fields["self_reported"] = " ".join((row["external"] or {}).get("self_reported", ()))
    agreement = about.get("rank_agreement") or dict.fromkeys(("tau_b", "low", "high"))
    return fields | {
        "minimum_detectable_difference": about.get("minimum_detectable_difference"),
        "tau_b": agreement["tau_b"],
        "tau_b low": agreement["low"],
        "tau_b high": agreement["high"],
        "split_fingerprint": row["split_fingerprint"],
        "hardware_fingerprint": row["hardware_fingerprint"],
    }
