"""Leaderboards: records become rows, rows become tables. Every format shows the same rows.

Records with different split fingerprints never share a table, and records of different hardware neither, so that
times are only ever ranked beside times of the same machine.
"""

from __future__ import annotations

import io
import json
import shutil
import statistics as stdlib_statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.environment import digest
from benchmarks.records import Record
from protocols import registry as protocol_registry
from protocols import statistics
from protocols.types import EvaluationProtocol, UserStatistic

Row = dict[str, Any]

_WORST_FIRST = ("failed", "out_of_memory", "timeout", "skipped", "ok")
_CLOCK_ONLY = ("samples_per_s", "pairs_per_s", "p50_ms", "p99_ms")


@dataclass(frozen=True)
class Table:
    """Rows that may be compared with each other: one data set, protocol, set of splits and machine."""

    dataset: str
    protocol: str
    protocol_config: dict[str, Any]
    split_seeds: tuple[int, ...]
    sizes: dict[str, int]
    hardware: dict[str, Any]
    rows: list[Row]


@dataclass(frozen=True)
class _Column:
    """One column of a printed table."""

    header: str
    text: Callable[[Row], str]


def build(records: Iterable[Record], results: Path) -> list[Table]:
    """Tables of all records, best row first, rows without a figure last."""
    by_row: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_row[record.row_identity].append(record)
    by_table: dict[str, list[list[Record]]] = defaultdict(list)
    for group in by_row.values():
        first = group[0].data
        comparable = (first["dataset"]["fingerprint"], first["protocol"], first["hardware_fingerprint"])
        by_table[digest([*comparable, _split_fingerprint(group)])].append(group)
    return [_table(groups, results) for groups in by_table.values()]


def rows_of(tables: Iterable[Table], missing: dict[str, str]) -> list[Row]:
    """All rows in the stable form of ``--format json``, with one for each data set that was not measured."""
    rows = [row for table in tables for row in table.rows]
    for dataset, reason in missing.items():
        rows.append({**dict.fromkeys(_ROW_FIELDS), "dataset": dataset, "status": "skipped", "reason": reason})
    return rows


def render(tables: Sequence[Table], missing: dict[str, str], form: str) -> str:
    """The tables as ``terminal`` (80 columns wide, or the terminal's width), ``markdown`` or ``json`` text."""
    if form == "json":
        return json.dumps(rows_of(tables, missing), indent=1, allow_nan=False)
    parts = [_markdown(table) if form == "markdown" else _terminal(table) for table in tables]
    parts += [f"{dataset}: not measured: {reason}" for dataset, reason in missing.items()]
    return "\n\n".join(parts)


_ROW_FIELDS = (
    *(
        "dataset",
        "protocol",
        "algorithm",
        "label",
        "config",
        "device",
        "threads",
        "seeds",
        "split_seeds",
        "status",
        "reason",
    ),
    *("rank", "metrics", "cost", "not_measured", "support", "split_fingerprint", "hardware_fingerprint", "records"),
)


def _table(groups: list[list[Record]], results: Path) -> Table:
    first = groups[0][0].data
    spec = protocol_registry.spec(first["protocol"]["name"])
    protocol_class = protocol_registry.load_class(spec)
    protocol = protocol_class(protocol_class.Config(**first["protocol"]["config"]))
    metrics = _metrics_of_rows(groups, protocol)
    rows = [_row(group, metrics[index], results) for index, group in enumerate(groups)]
    sign = -1 if protocol.higher_is_better else 1

    def order(row: Row) -> tuple[bool, float, str]:
        figure = row["metrics"].get(protocol.primary)
        value = figure["mean"] if figure else 0.0
        return row["status"] != "ok", sign * value, f"{row['algorithm']} {row['label']}"

    rows.sort(key=order)
    for rank, row in enumerate(rows, start=1):
        row["rank"] = rank if row["status"] == "ok" else None
    seeds = sorted({record.data["split"]["seed"] for group in groups for record in group})
    sizes = {name: first["dataset"][name] for name in ("n_users", "n_items", "n_rows")}
    return Table(
        dataset=first["dataset"]["name"],
        protocol=first["protocol"]["name"],
        protocol_config=first["protocol"]["config"],
        split_seeds=tuple(seeds),
        sizes=sizes,
        hardware=first["hardware"],
        rows=rows,
    )


def _metrics_of_rows(groups: list[list[Record]], protocol: EvaluationProtocol) -> list[dict[str, dict[str, float]]]:
    """Mean and interval of every metric, seeds averaged per user before users are drawn."""
    metrics: list[dict[str, dict[str, float]]] = [{} for _ in groups]
    statistic_of: dict[str, dict[int, UserStatistic]] = defaultdict(dict)
    for index, group in enumerate(groups):
        per_user = [protocol.per_user(record.outcomes) for record in group if record.status == "ok"]
        for name in per_user[0] if per_user else ():
            statistic_of[name][index] = statistics.average([each[name] for each in per_user])
    for name, by_row in statistic_of.items():
        intervals = statistics.bootstrap_intervals(list(by_row.values()))
        for index, interval in zip(by_row, intervals, strict=True):
            metrics[index][name] = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return metrics


def _row(group: list[Record], metrics: dict[str, dict[str, float]], results: Path) -> Row:
    first = group[0].data
    worst = min(group, key=lambda record: _WORST_FIRST.index(record.status))
    return {
        "dataset": first["dataset"]["name"],
        "protocol": first["protocol"]["name"],
        "algorithm": first["algorithm"]["name"],
        "label": first["algorithm"]["label"],
        "config": first["algorithm"]["config"],
        "device": first["device"],
        "threads": first["threads"],
        "seeds": sorted({record.data["seed"] for record in group}),
        "split_seeds": sorted({record.data["split"]["seed"] for record in group}),
        "status": worst.status,
        "reason": worst.data["reason"],
        "rank": None,
        "metrics": metrics,
        "cost": _cost([record for record in group if record.status == "ok"]),
        "not_measured": dict.fromkeys(_CLOCK_ONLY, "not measured by this suite") | {"peak_gpu_bytes": "no GPU used"},
        "support": first["algorithm"]["support"],
        "split_fingerprint": _split_fingerprint(group),
        "hardware_fingerprint": first["hardware_fingerprint"],
        "records": sorted(str(record.path.relative_to(results)) for record in group),
    }


def _cost(group: list[Record]) -> dict[str, Any]:
    """Times and memory over a row's records; all null where nothing was measured."""
    cost: dict[str, Any] = dict.fromkeys(
        ("fit_s", "search_s", "train_per_s", "users_per_s", "peak_rss_bytes", "peak_gpu_bytes", *_CLOCK_ONLY)
    )
    if not group:
        return cost
    timings = [record.data["timings"] for record in group]
    fits = [seconds for timing in timings for seconds in timing["fit_s"]]
    epochs = group[0].data["algorithm"]["config"].get("epochs") or 1
    median = stdlib_statistics.median
    cost["fit_s"] = {"median": median(fits), "low": min(fits), "high": max(fits)}
    cost["search_s"] = median(timing["search_s"] for timing in timings)
    cost["train_per_s"] = timings[0]["train_rows"] * epochs / cost["fit_s"]["median"]
    if timings[0]["ranked_users"]:
        cost["users_per_s"] = median(timing["ranked_users"] / timing["rank_s"] for timing in timings)
    peaks = [record.data["memory"][f"peak_rss_{phase}_bytes"] for record in group for phase in ("fit", "score")]
    cost["peak_rss_bytes"] = max((peak for peak in peaks if peak), default=None)
    return cost


def _split_fingerprint(group: list[Record]) -> str:
    """One split's own fingerprint; the hash of them all for a row over several."""
    prints = sorted({record.split_fingerprint for record in group})
    return prints[0] if len(prints) == 1 else digest(prints)


def _name(row: Row) -> str:
    return row["algorithm"] if row["label"] == "default" else f"{row['algorithm']} ({row['label']})"


def _metric(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        figure = row["metrics"].get(name)
        return _fraction(figure["mean"]) if figure else ""

    return text


def _interval_or_status(name: str) -> Callable[[Row], str]:
    def text(row: Row) -> str:
        figure = row["metrics"].get(name)
        return f"{_fraction(figure['low'])}–{_fraction(figure['high'])}" if figure else row["status"].replace("_", " ")

    return text


def _columns(table: Table) -> list[_Column]:
    """Rank, name, the protocol's own figures (the primary one with its interval), cost."""
    protocol = protocol_registry.load_class(protocol_registry.spec(table.protocol))
    figures = []
    for header, name in protocol.columns.items():
        figures.append(_Column(header, _metric(name)))
        if name == protocol.primary:
            figures.append(_Column("95 %", _interval_or_status(name)))
    return [
        _Column("#", lambda row: "" if row["rank"] is None else str(row["rank"])),
        _Column("algorithm", _name),
        *figures,
        _Column("fit s", lambda row: _seconds((row["cost"]["fit_s"] or {}).get("median"))),
        _Column("users/s", lambda row: _count(row["cost"]["users_per_s"])),
        _Column("MiB", lambda row: _mebibytes(row["cost"]["peak_rss_bytes"])),
    ]


def _cells(table: Table) -> tuple[list[str], list[list[str]]]:
    columns = _columns(table)
    return [column.header for column in columns], [[column.text(row) for column in columns] for row in table.rows]


def _title(table: Table) -> str:
    seeds = max((len(row["seeds"]) for row in table.rows), default=1)
    splits = ", ".join(map(str, table.split_seeds))
    return f"{table.dataset} · {table.protocol} · split {splits} · {seeds} seed{'s' if seeds > 1 else ''}"


def _notes(table: Table) -> list[str]:
    """What the figures are, where they come from, and why a row has none."""
    protocol_class = protocol_registry.load_class(protocol_registry.spec(table.protocol))
    protocol = protocol_class(protocol_class.Config(**table.protocol_config))
    sizes = {name: f"{value:,}" for name, value in table.sizes.items()}
    threads = sorted({row["threads"] for row in table.rows})
    notes = [
        protocol.explain(),
        f"{sizes['n_rows']} rows, {sizes['n_users']} users, {sizes['n_items']} items. 95 %: bootstrap over users. "
        f"{table.hardware['cpu']}, {'/'.join(map(str, threads))} thread{'s' if threads != [1] else ''}.",
    ]
    return notes + [f"{_name(row)}: {row['status']}: {row['reason']}" for row in table.rows if row["status"] != "ok"]


def _terminal(table: Table) -> str:
    headers, rows = _cells(table)
    grid = RichTable(
        title=_title(table), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for header in headers:
        text = header == "algorithm"
        grid.add_column(
            header, justify="left" if text else "right", overflow="fold" if text else "ellipsis", no_wrap=not text
        )
    for row in rows:
        grid.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=max(80, shutil.get_terminal_size().columns), highlight=False)
    console.print(grid)
    for note in _notes(table):
        console.print(Text(note))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _markdown(table: Table) -> str:
    headers, rows = _cells(table)
    lines = [f"### {_title(table)}", "", "| " + " | ".join(headers) + " |"]
    lines.append("|" + "|".join("---" if header == "algorithm" else "---:" for header in headers) + "|")
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"* {note}" for note in _notes(table))])


def _fraction(value: float) -> str:
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _count(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value < 10_000 else f"{value / 1000:.0f} k"


def _mebibytes(value: int | None) -> str:
    return "" if value is None else f"{value / 2**20:.0f}"
