"""What kept models say, as tables for a terminal of 80 columns or more: side by side as far as they fit."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.titles import printable

LEAST_WIDTH = 80
NARROWEST = {"recommend": 22, "similar": 22, "audience": 13}
"""Columns that a list needs beside others: titles are folded, never cut."""

Report = dict[str, Any]


def render(report: Report) -> str:
    """The report of a look as text."""
    width = max(LEAST_WIDTH, shutil.get_terminal_size().columns)
    console = Console(file=io.StringIO(), width=width, highlight=False)
    parts: Iterator[RenderableType] = _PARTS[report["ask"]](report, width)
    for part in parts:
        console.print(part)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _recommend(report: Report, width: int) -> Iterator[RenderableType]:
    user = report["user"]
    yield Text(f"user {_id(user['user'])}, {user['ratings']:,} ratings · {_place(report)}")
    yield Text()
    from_ = report["likes_from"]
    likes = "likes" if from_ is None else f"rated {from_:g} or more"
    shown = len(report["likes"])
    likes += f" ({shown} of {report['n_likes']:,})" if shown < report["n_likes"] else f" ({shown})"
    yield _taste(likes, report["likes"], report["lowest"])
    yield Text()
    if not report["trained"]:
        yield Text("These models were fitted on no row of this user: no list is made for this user in particular.")
        yield Text()
    yield from _lists(report, "score", _title, width)
    yield Text(f"Left out of every list: all {user['ratings']:,} items that the user has rated, held out or not.")


def _similar(report: Report, width: int) -> Iterator[RenderableType]:
    yield from _item_head(report, "like")
    yield from _lists(report, "likeness", _title, width)
    for by, names in _grouped(report, "by").items():
        yield Text(f"{', '.join(names)}: {by}.")
    yield Text("Left out: items without a row to fit on, but for models that use metadata of items.")


def _audience(report: Report, width: int) -> Iterator[RenderableType]:
    yield from _item_head(report, "users for")
    yield from _lists(report, "score", lambda entry: _id(entry["user"]), width)
    yield Text(f"Left out of every list: the {report['ratings']:,} users who have rated the item, held out or not.")


_PARTS: dict[str, Callable[[Report, int], Iterator[RenderableType]]] = {
    "recommend": _recommend,
    "similar": _similar,
    "audience": _audience,
}


def _item_head(report: Report, what: str) -> Iterator[RenderableType]:
    item = report["item"]
    id_ = "" if item["title"] is None else f", id {_id(item['item'])}"
    yield Text(f"{what} {_title(item)}{id_}, {report['ratings']:,} ratings · {_place(report)}")
    if report["or"]:
        others = "; ".join(f"{_title(other)}, id {_id(other['item'])}" for other in report["or"])
        yield Text(f"'{printable(report['asked'])}' may also be: {others}")
    yield Text()


def _place(report: Report) -> str:
    return printable(report["split"])


def _taste(heading: str, likes: Sequence[Report], lowest: Sequence[Report]) -> Table:
    table = _table()
    for text in (heading, *(["rated lowest"] if lowest else [])):
        table.add_column("", justify="right", no_wrap=True)
        table.add_column(text, overflow="fold", ratio=1)
    for high, low in zip_longest(likes, lowest):
        cells = [*_rated(high), *(_rated(low) if lowest else [])]
        table.add_row(*map(Text, cells))
    return table


def _rated(entry: Report | None) -> tuple[str, str]:
    return ("", "") if entry is None else (f"{entry['rating']:g}", _title(entry))


def _lists(report: Report, value: str, text: Callable[[Report], str], width: int) -> Iterator[RenderableType]:
    """One list with its ids and values, or several beside each other, as many as fit, the others below; then why some
    models have none."""
    models = [model for model in report["models"] if model["reason"] is None]
    if len(models) == 1:
        yield _single(models[0], value, text)
        yield Text()
    else:
        fit = (width - 4) // (NARROWEST[report["ask"]] + 2)
        blocks = -(-len(models) // fit)
        for block in range(blocks):
            yield _beside(_share(models, block, blocks), text)
            yield Text()
    for reason, names in _grouped(report, "reason").items():
        yield Text(f"{', '.join(names)}: {reason}.")


def _share(models: Sequence[Report], block: int, blocks: int) -> Sequence[Report]:
    """The models of one of several blocks of nearly equal size, in order."""
    return models[block * len(models) // blocks : (block + 1) * len(models) // blocks]


def _single(model: Report, value: str, text: Callable[[Report], str]) -> Table:
    """With the ids of titles, or the number of ratings of users."""
    table = _table(expand=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column(printable(model["name"]), overflow="fold")
    table.add_column(value, justify="right", no_wrap=True)
    table.add_column("id" if model["list"] and "item" in model["list"][0] else "ratings", justify="right", no_wrap=True)
    for place, entry in enumerate(model["list"], start=1):
        last = _id(entry["item"]) if "item" in entry else f"{entry['ratings']:,}"
        table.add_row(*map(Text, [str(place), text(entry), f"{entry['value']:.3f}", last]))
    return table


def _beside(models: Sequence[Report], text: Callable[[Report], str]) -> Table:
    table = _table()
    table.add_column("", justify="right", no_wrap=True)
    for model in models:
        table.add_column(printable(model["name"]), overflow="fold", ratio=1)
    rows = zip_longest(*(model["list"] for model in models))
    for place, row in enumerate(rows, start=1):
        table.add_row(*map(Text, [str(place), *("" if entry is None else text(entry) for entry in row)]))
    return table


def _table(expand: bool = True) -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=expand)


def _title(entry: Report) -> str:
    return printable(f"item {entry['item']}" if entry["title"] is None else entry["title"])


def _id(raw: object) -> str:
    return printable(str(raw))


def _grouped(report: Report, field: str) -> dict[str, list[str]]:
    """Names of models by what they have in this field, where that is not null."""
    groups: dict[str, list[str]] = {}
    for model in report["models"]:
        if model[field] is not None:
            groups.setdefault(model[field], []).append(printable(model["name"]))
    return groups
