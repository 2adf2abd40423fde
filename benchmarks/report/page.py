"""The page of the report: tables that can be read without a script, charts, cards. All that is data is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import leaderboard as boards
from benchmarks import render
from benchmarks.leaderboard import Row, Table, row_name
from benchmarks.records import Record
from benchmarks.report import cards, columns, figures
from benchmarks.report.columns import Column

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Board:
    """A table under a title that no other has."""

    title: str
    table: Table


def page(made: Sequence[Board], found: Sequence[Record], history: Sequence[dict[str, Any]]) -> str:
    """The HTML of the report: tables that can be read without a script, charts, cards; all that is data is escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    algorithms = _anchored(cards.of_algorithms(found), "algorithm")
    card_of = {card["name"]: card["anchor"] for card in algorithms}
    views = [_board(board, place, card_of) for place, board in enumerate(made)]
    speed = figures.history(history)
    drawn = {chart["anchor"]: chart["figure"] for view in views for chart in view["charts"]}
    speed_view = None if speed is None else _chart(speed, "speed-history")
    if speed_view is not None:
        drawn["speed-history"] = speed_view["figure"]
    rows = boards.rows_of([board.table for board in made], {})
    newest = max(record.data["created"] for record in found)
    template = Environment(loader=FileSystemLoader(FOLDER), autoescape=True).get_template("page.html.j2")
    return template.render(
        title="RecGauge: recommender algorithms compared",
        about=f"{len(rows)} rows from {len(found)} records, the newest of {newest[:10]}. Best row first; "
        "a group is its best row and those that cannot be told from it.",
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
        algorithms=algorithms,
        cells=_anchored(cards.of_cells(found), "cell"),
        figures=drawn,
        css=Markup((FOLDER / "page.css").read_text()),
        script=Markup((FOLDER / "page.js").read_text()),
        plotly=Markup(get_plotlyjs()),
    )


# -- a leaderboard ----------------------------------------------------------------------------------------------------


def _board(board: Board, place: int, card_of: Mapping[str, str]) -> dict[str, Any]:
    table, anchor = board.table, f"board-{place}"
    shown = columns.of_table(table)
    return {
        "anchor": anchor,
        "title": board.title,
        "dataset": table.dataset,
        "protocol": table.protocol_name,
        "columns": shown,
        "rows": [_row(row, index, shown, card_of) for index, row in enumerate(table.rows)],
        "notes": render.notes_on(table),
        "gains": render.gains_of(table) if render.notes_on_gains(table) else None,
        "notes_on_gains": render.notes_on_gains(table),
        "charts": [_chart(chart, f"{anchor}-{chart.name}") for chart in figures.charts(table)],
    }


def _row(row: Row, index: int, shown: Sequence[Column], card_of: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": index,
        "name": row_name(row),
        "card": card_of.get(row["algorithm"]),
        "device": row["device"],
        "label": row["label"],
        "group_parity": (row["group"] or 0) % 2,
        "cells": [_cell(row, column) for column in shown],
    }


def _cell(row: Row, column: Column) -> dict[str, Any]:
    value = column.value(row)
    exact = "" if value is None else json.dumps(value) if not isinstance(value, str) else value
    text = "" if value is None else column.text(value)
    return {"name": column.name, "value": exact, "text": text, "interval": column.interval(row), "kind": column.kind}


def _chart(chart: figures.Chart, anchor: str) -> dict[str, Any]:
    figure = json.loads(chart.figure.to_json())
    figure["layout"].pop("template", None)  # the page has colours of its own, light and dark
    return {
        "anchor": anchor,
        "title": chart.title,
        "text": chart.text,
        "height": figure["layout"]["height"],
        "points": _points(figure) if chart.listed else [],
        "figure": figure,
    }


def _anchored(some: Sequence[cards.Card], kind: str) -> list[dict[str, Any]]:
    return [{**asdict(card), "anchor": f"{kind}-{place}"} for place, card in enumerate(some)]


def _values(rows: Sequence[Row], field: str) -> list[str]:
    return sorted({str(row[field]) for row in rows if row[field] is not None})


def _points(figure: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Name and points of each series, for those who cannot see or point at a chart."""
    series = []
    for trace in figure["data"]:
        points = [f"{x}: {y:.4g}" for x, y in zip(trace["x"], trace["y"], strict=True)]
        series.append((html.unescape(trace.get("name", "")), points))
    return series
