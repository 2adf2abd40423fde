"""``report``: writes everything recorded as one HTML file that needs no network."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import leaderboard as boards
from benchmarks import plan, records, render
from benchmarks.cli import OK
from benchmarks.commands import recorded
from benchmarks.environment import require_our_datasets_package
from benchmarks.leaderboard import Row, Table, row_name
from benchmarks.records import Record
from benchmarks.report import cards, figures
from datasets.errors import UserError

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class _Column:
    """One column: its header, what it is, the figure's name in JSON, and its value and texts for a row."""

    header: str
    meaning: str
    name: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str]
    interval: Callable[[Row], str] = lambda row: ""
    kind: str = "number"


def report(options: argparse.Namespace) -> int:
    """Write the report of the records in a folder; prints where it is."""
    require_our_datasets_package()
    for package in ("plotly", "jinja2"):
        if find_spec(package) is None:
            raise UserError(f"{package} is not installed: {plan.install_command('report')}")
    found = recorded(options)
    text = page(boards.build(found, options.results), found, _history(options.history))
    temporary = options.out.with_suffix(f"{options.out.suffix}.tmp-{os.getpid()}")
    with records.writing(options.out.parent):
        options.out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, options.out)
    print(f"{options.out}: {len(found)} records, {len(text.encode()) / 2**20:.1f} MiB; open it in a browser")
    return OK


def page(tables: Sequence[Table], found: Sequence[Record], history: Sequence[dict[str, Any]]) -> str:
    """The HTML of the report: tables that can be read without a script, charts, cards; all that is data is escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    views = [_board(table, place) for place, table in enumerate(tables)]
    speed = figures.history(history)
    drawn = {chart["anchor"]: chart["figure"] for view in views for chart in view["charts"]}
    speed_view = None if speed is None else _chart(speed, "speed-history")
    if speed_view is not None:
        drawn["speed-history"] = speed_view["figure"]
    rows = boards.rows_of(tables, {})
    newest = max(record.data["created"] for record in found)
    template = Environment(loader=FileSystemLoader(FOLDER), autoescape=True).get_template("page.html.j2")
    return template.render(
        title="RecGauge: recommender algorithms compared",
        about=f"{len(rows)} rows from {len(found)} records, the newest of {newest[:10]}. Higher on a page is better; "
        "rows of one group cannot be told apart.",
        footer="Made by RecGauge: python -m benchmarks report",
        filters={
            "data set": _values(rows, "dataset"),
            "protocol": _values(rows, "protocol"),
            "device": _values(rows, "device"),
            "preset": _values(rows, "label"),
        },
        boards=views,
        history=speed_view,
        datasets=_anchored(cards.of_datasets(found), "dataset"),
        algorithms=_anchored(cards.of_algorithms(found), "algorithm"),
        cells=_anchored(cards.of_cells(found), "cell"),
        rows=rows,
        figures=drawn,
        css=Markup((FOLDER / "page.css").read_text()),
        script=Markup((FOLDER / "page.js").read_text()),
        plotly=Markup(get_plotlyjs()),
    )


# -- a leaderboard ----------------------------------------------------------------------------------------------------


def _board(table: Table, place: int) -> dict[str, Any]:
    anchor = f"board-{place}"
    columns = [column for column in _columns(table) if any(_shown(column, row) for row in table.rows)]
    return {
        "anchor": anchor,
        "title": boards.title(table),
        "dataset": table.dataset,
        "protocol": table.protocol_name,
        "columns": columns,
        "rows": [_row(row, index, columns) for index, row in enumerate(table.rows)],
        "notes": [*render.notes_on(table), *render.notes_on_gains(table)],
        "charts": [_chart(chart, f"{anchor}-{chart.name}") for chart in figures.charts(table)],
    }


def _row(row: Row, index: int, columns: Sequence[_Column]) -> dict[str, Any]:
    return {
        "id": index,
        "name": row_name(row),
        "device": row["device"],
        "label": row["label"],
        "group_parity": (row["group"] or 0) % 2,
        "cells": [_cell(row, column) for column in columns],
    }


def _cell(row: Row, column: _Column) -> dict[str, Any]:
    value = column.value(row)
    exact = "" if value is None else json.dumps(value) if not isinstance(value, str) else value
    text = "" if value is None else column.text(value)
    return {"name": column.name, "value": exact, "text": text, "interval": column.interval(row), "kind": column.kind}


def _shown(column: _Column, row: Row) -> bool:
    return column.value(row) not in (None, "", 0.0) or column.name in ("group", "algorithm")


def _columns(table: Table) -> list[_Column]:
    """Group and name, the protocol's figures with their intervals, then every cost that a row has."""
    return [
        _Column("group", "rank group", "group", lambda row: row["group"], str),
        _Column("algorithm", "name", "algorithm", render.marked_name, str, kind="text"),
        *(_metric(header, name) for header, name in table.protocol.columns.items()),
        _Column("sd", "spread over model seeds", "spread", lambda row: row["spread"], render.fraction),
        *(_metric(f"{header} {part}", f"{name}/{part}") for part, header, name in _slices(table)),
        _cost("fit s", "seconds of a fit", "fit_s", render.seconds_text),
        _cost("search s", "seconds of the fits before it", "search_s", render.seconds_text),
        _cost("rows/s", "training rows a second", "train_per_s", render.count_text),
        _cost("pairs/s", "scored pairs a second", "pairs_per_s", render.count_text),
        _cost("users/s", "lists a second", "users_per_s", render.count_text),
        _cost("p50 ms", "milliseconds for one user, median", "p50_ms", render.milliseconds_text),
        _cost("p99 ms", "milliseconds for one user, 99 %", "p99_ms", render.milliseconds_text),
        _cost("MiB", "peak memory", "peak_rss_bytes", render.mebibytes_text),
        _cost("GPU MiB", "peak GPU memory", "peak_gpu_bytes", render.mebibytes_text),
        _cost("model MiB", "size of the model", "model_bytes", render.model_size_text),
        _Column("status", "status", "status", _not_ok, str, kind="text"),
    ]


def _not_ok(row: Row) -> str | None:
    return None if row["status"] == "ok" else str(row["status"]).replace("_", " ")


def _metric(header: str, name: str) -> _Column:
    def interval(row: Row) -> str:
        figure = row["metrics"].get(name) or {}
        return (
            "" if figure.get("low") is None else f"{render.fraction(figure['low'])}–{render.fraction(figure['high'])}"
        )

    def mean(row: Row) -> float | None:
        return (row["metrics"].get(name) or {}).get("mean")

    return _Column(header, name, name, mean, render.fraction, interval)


def _slices(table: Table) -> list[tuple[str, str, str]]:
    """(part, header, metric) of the slices that a row has, such as warm and cold-item."""
    parts = dict.fromkeys(
        name.removeprefix(f"{metric}/")
        for metric in table.protocol.slice_columns.values()
        for row in table.rows
        for name in row["metrics"]
        if name.startswith(f"{metric}/") and "full" not in name
    )
    return [(part, header, name) for part in parts for header, name in table.protocol.slice_columns.items()]


def _cost(header: str, meaning: str, name: str, text: Callable[[Any], str]) -> _Column:
    def value(row: Row) -> Any:
        found = row["cost"][name]
        figure = found["median"] if isinstance(found, dict) else found
        return None if name == "search_s" and not figure else figure  # a row without a search took no time for it

    return _Column(header, meaning, name, value, text)


def _chart(chart: figures.Chart, anchor: str) -> dict[str, Any]:
    figure = json.loads(chart.figure.to_json())
    figure["layout"].pop("template", None)  # the page has colours of its own, light and dark
    return {
        "anchor": anchor,
        "title": chart.title,
        "text": chart.text,
        "height": figure["layout"]["height"],
        "figure": figure,
    }


# -- the rest ---------------------------------------------------------------------------------------------------------


def _anchored(some: Sequence[cards.Card], kind: str) -> list[dict[str, Any]]:
    return [{**asdict(card), "anchor": f"{kind}-{place}"} for place, card in enumerate(some)]


def _values(rows: Sequence[Row], field: str) -> list[str]:
    return sorted({str(row[field]) for row in rows if row[field] is not None})


def _history(path: Path) -> list[dict[str, Any]]:
    """The lines that ``regress`` added; those that cannot be read are left out, and said."""
    if not path.is_file():
        return []
    lines = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            lines.append(json.loads(line))
        except ValueError:
            print(f"recgauge: {path}:{number}: not a line of regress, left out", file=sys.stderr)
    return lines
