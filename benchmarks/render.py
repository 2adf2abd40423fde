"""Tables and their rows as text: for the terminal, Markdown, CSV, JSON. Every format shows the same rows."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from algorithms.registry import BY_RATING, CALIBRATED
from benchmarks.leaderboard import Row, Table, row_name, rows_of, title
from datasets.errors import unknown_name

MARKS = {CALIBRATED: "†", BY_RATING: "‡"}

_WIDE = 200
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


def render(tables: Sequence[Table], missing: dict[str, str], form: str, metrics: Sequence[str] = ()) -> str:
    """The tables as ``terminal`` (80 columns wide, or the terminal's width), ``markdown``, ``csv`` or ``json`` text.

    ``metrics``: the columns of terminal and Markdown tables instead of the protocol's own; CSV and JSON have all.

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
    draw = _markdown if form == "markdown" else _terminal
    parts = [draw(table, metrics) for table in tables]
    parts += [f"{place}: not measured: {reason}" for place, reason in missing.items()]
    return "\n\n".join(parts)


def fraction(value: float) -> str:
    """Three decimals without the leading zero: ``.605``, ``-.012``, ``1.000``."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


# --- terminal and Markdown -------------------------------------------------------------------------------------------


def _marked_name(row: Row) -> str:
    mark = MARKS.get(row["support"])
    return f"{row_name(row)}{mark}" if mark else row_name(row)


def _metric(name: str) -> Callable[[Row], str]:
    return lambda row: _optional(fraction, row["metrics"].get(name, {}).get("mean"))


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
            figures.append(_Column("sd", lambda row: _optional(fraction, row["spread"])))
    group = _Column("grp", lambda row: _optional(str, row["group"]))
    if metrics:  # costs would not fit beside them
        return [group, _Column("algorithm", _marked_name), *figures]
    costs = [_Column("fit s", lambda row: _optional(_seconds, (row["cost"]["fit_s"] or {}).get("median")))]
    if any(row["cost"]["search_s"] for row in table.rows):
        costs.append(_Column("search", lambda row: _optional(_seconds, row["cost"]["search_s"] or None)))
    if any(row["cost"]["users_per_s"] for row in table.rows):
        costs.append(_Column("users/s", lambda row: _optional(_count, row["cost"]["users_per_s"])))
    costs.append(_Column("MiB", lambda row: _optional(_mebibytes, row["cost"]["peak_rss_bytes"])))
    return [group, _Column("algorithm", _marked_name), *figures, *costs]


def _cells(table: Table, metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    columns = _columns(table, metrics)
    return [column.header for column in columns], [[column.text(row) for column in columns] for row in table.rows]


def _notes(table: Table) -> list[str]:
    """What the figures are, where they come from, how far they go, and why a row has none."""
    sizes = {name: f"{value:,}" for name, value in table.sizes.items()}
    threads = sorted({row["threads"] for row in table.rows})
    notes = [
        table.protocol.explain(),
        f"{sizes['n_rows']} rows, {sizes['n_users']} users, {sizes['n_items']} items. 95 %: bootstrap over users. "
        f"{table.hardware['cpu']}, {'/'.join(map(str, threads))} thread{'s' if threads != [1] else ''}.",
    ]
    if table.n_parts > 1:
        notes.append(f"Pooled over {table.n_parts} folds.")
    notes += _notes_on_samples(table) + _notes_on_order(table)
    notes += [text for support, text in _LEGEND.items() if any(row["support"] == support for row in table.rows)]
    return notes + [f"{row_name(row)}: {row['status']}: {row['reason']}" for row in table.rows if row["status"] != "ok"]


# --- default → tuned, a block below the table ------------------------------------------------------------------------


def _gains(table: Table) -> tuple[list[str], list[list[str]]]:
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


def _notes_on_gains(table: Table) -> list[str]:
    if table.tuning is None or not table.tuning["rows"]:
        return []
    rows, mean = table.tuning["rows"], table.tuning["mean_difference"]
    named = {row["budget"]["name"]: row["budget"] for row in rows}
    budgets = [f"{name}, {each['trials']} trials or {each['seconds']:g} s" for name, each in named.items()]
    interval = f" (95 % {text})" if (text := _signed_interval(mean)) else ""
    better = "higher" if table.protocol.higher_is_better else "lower"
    return [
        f"diff: tuned − default in {table.protocol.primary} ({better} is better) on test rows, 95 % over users, p of "
        f"the sign-flip permutation test, Holm over {len(rows)} algorithm{'s' if len(rows) > 1 else ''}.",
        f"Budget of each algorithm: {'; '.join(budgets)} of fit and scoring, whichever is spent first; validation rows "
        f"only, {rows[0]['metric']}.",
        f"Mean difference over {'these algorithms' if len(rows) > 1 else 'this algorithm'}: "
        f"{fraction(mean['mean'])}{interval}.",
    ]


def _signed_interval(figure: dict[str, float | None]) -> str:
    low, high = figure["low"], figure["high"]
    return "" if low is None or high is None else f"{fraction(low)} to {fraction(high)}"


def probability(p: float) -> str:
    """Four decimals without the leading zero: ``.0003``, and ``1``."""
    return f"{p:.4f}".replace("0.", ".", 1) if p < 1 else "1"


# --- terminal and Markdown: the whole ------------------------------------------------------------------------------


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


def _terminal(table: Table, metrics: Sequence[str]) -> str:
    width = max(80, shutil.get_terminal_size().columns)
    widest = max(width, _WIDE) if metrics else width  # columns that were asked for are never cut
    console = Console(file=io.StringIO(), width=widest, highlight=False)
    console.print(Text(title(table)))
    _print_block(console, width, *_cells(table, metrics), _notes(table))
    if notes := _notes_on_gains(table):
        console.print()
        _print_block(console, width, *_gains(table), notes)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _print_block(console: Console, width: int, headers: list[str], rows: list[list[str]], notes: Sequence[str]) -> None:
    grid = _grid(headers, rows, gap=2)
    if Measurement.get(console, console.options.update(width=_WIDE), grid).maximum > width:
        grid = _grid(headers, rows, gap=1)
    console.print(grid)
    console.print()
    for note in notes:
        console.print(Text(note), width=width)


def _grid(headers: list[str], rows: list[list[str]], gap: int) -> RichTable:
    """The rows, with ``gap`` spaces between columns, one of which the box itself puts there."""
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for header in headers:
        text = header in _TEXTS
        grid.add_column(
            header, justify="left" if text else "right", overflow="fold" if text else "ellipsis", no_wrap=not text
        )
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid


def _markdown(table: Table, metrics: Sequence[str]) -> str:
    lines = [f"### {title(table)}", *_markdown_block(*_cells(table, metrics), _notes(table))]
    if notes := _notes_on_gains(table):
        lines += _markdown_block(*_gains(table), notes)
    return "\n".join(lines)


def _markdown_block(headers: list[str], rows: list[list[str]], notes: Sequence[str]) -> list[str]:
    lines = ["", "| " + " | ".join(headers) + " |"]
    lines.append("|" + "|".join("---" if header in _TEXTS else "---:" for header in headers) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*lines, "", *(f"* {note}" for note in notes)]


def _optional(form: Callable[[Any], str], value: Any) -> str:
    return "" if value is None else form(value)


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _count(value: float) -> str:
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f} k"


def _mebibytes(value: int) -> str:
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
    for name, figure in (row["metrics"] or {}).items():
        fields |= {name: figure["mean"], f"{name} low": figure["low"], f"{name} high": figure["high"]}
    for name, value in (row["cost"] or {}).items():
        if name == "fit_s":
            value = value or dict.fromkeys(("median", "low", "high"))
            fields |= {name: value["median"], f"{name} low": value["low"], f"{name} high": value["high"]}
        else:
            fields[name] = value
    agreement = about.get("rank_agreement") or dict.fromkeys(("tau_b", "low", "high"))
    return fields | {
        "minimum_detectable_difference": about.get("minimum_detectable_difference"),
        "tau_b": agreement["tau_b"],
        "tau_b low": agreement["low"],
        "tau_b high": agreement["high"],
        "split_fingerprint": row["split_fingerprint"],
        "hardware_fingerprint": row["hardware_fingerprint"],
    }
