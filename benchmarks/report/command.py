"""``report``: writes everything recorded as one HTML file that needs no network, and figures and tables for a paper."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import leaderboard as boards
from benchmarks import plan, records
from benchmarks.cli import OK
from benchmarks.commands import recorded
from benchmarks.environment import require_our_datasets_package
from benchmarks.report import browser, figures, latex, readme
from benchmarks.report.page import Board, page
from datasets.errors import UserError

FORMATS = ("svg", "pdf")
WIDTH_PX = 720


def report(options: argparse.Namespace) -> int:
    """Write the report of the records in one or more folders; prints where it is."""
    require_our_datasets_package()
    _require("plotly", "jinja2", *(["kaleido"] if options.figures else []))
    if options.out.is_dir():
        raise UserError(f"--out {options.out}: is a folder: name a file in it, such as {options.out / 'report.html'}")
    folders = list(dict.fromkeys(options.results or [Path("results/runs")]))
    found, tables = [], []
    for folder in folders:
        own = recorded(options, folder)
        found += own
        tables += [(folder.name if len(folders) > 1 else "", table) for table in boards.build(own, folder)]
    made = name_boards(tables)
    text = page(made, found, _history(options.history))
    records.write_text(options.out, text)
    print(f"{options.out}: {len(found)} records, {len(text.encode()) / 2**20:.1f} MiB; open it in a browser")
    if options.figures:
        print(f"{options.figures}: {', '.join(write_figures(made, options.figures))}")
    pictures = browser.take_pictures(options.out, options.pictures) if options.pictures else []
    if options.readme:
        readme.update(options.readme, [board.table for board in made], pictures)
        print(f"{options.readme}: its leaderboard is that of {', '.join(map(str, folders))}")
    return OK


def name_boards(tables: Sequence[tuple[str, boards.Table]]) -> list[Board]:
    """Tables with titles that tell them apart: by folder, and where that is not enough by machine, then by number."""
    titles = [" · ".join(filter(None, (boards.title(table), folder))) for folder, table in tables]
    titles = [
        f"{title} · {table.hardware['cpu']}" if titles.count(title) > 1 else title
        for title, (_, table) in zip(titles, tables, strict=True)
    ]
    numbered = [
        f"{title} · {titles[: place + 1].count(title)}" if titles.count(title) > 1 else title
        for place, title in enumerate(titles)
    ]
    return [Board(title, table) for title, (_, table) in zip(numbered, tables, strict=True)]


def write_figures(made: Sequence[Board], folder: Path) -> list[str]:
    """Every leaderboard as a LaTeX table, every chart as SVG and PDF; returns the names of the files.

    Raises:
        UserError: there is no browser to draw with.
    """
    from plotly import io

    drawn, files = [], []
    for board in made:
        name = _file_name(board.title)
        records.write_text(folder / f"{name}.tex", latex.tabular(board.title, board.table))
        files.append(folder / f"{name}.tex")
        for chart in figures.charts(board.table):
            drawn.append(_for_paper(chart))
            files += [folder / f"{name}-{chart.name}.{form}" for form in FORMATS]
    browser.find()  # kaleido draws with it
    images = [file for file in files if file.suffix != ".tex"]
    with tempfile.NamedTemporaryFile(suffix=".js") as nothing:
        io.defaults.mathjax = Path(nothing.name).as_uri()  # else kaleido fetches MathJax, and no text here is a formula
        io.write_images([figure for figure in drawn for _ in FORMATS], images)
    return [file.name for file in files]


def _for_paper(chart: figures.Chart) -> Any:
    """On paper nothing can be pointed at: points that have a name show it."""
    figure = chart.figure.update_layout(template="simple_white", width=WIDTH_PX)
    figure.update_traces(
        {"mode": "markers+text", "textposition": "top center", "textfont": {"size": 8}},
        selector=lambda trace: trace.text is not None and trace.mode in ("markers", "lines+markers"),
    )
    return figure


def _file_name(title: str) -> str:
    return re.sub(r"[^\w.]+", "-", title).strip("-.")


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise UserError(f"{package} is not installed: {plan.install_command('report')}")


def _history(path: Path) -> list[dict[str, Any]]:
    """The lines that ``regress`` added; those that cannot be read are left out, and said."""
    if not path.is_file():
        return []
    lines = []
    for number, text in enumerate(path.read_text(errors="replace").splitlines(), start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if _is_of_regress(line):
            lines.append(line)
        else:
            print(f"recgauge: {path}:{number}: not a line of regress, left out", file=sys.stderr)
    return lines


def _is_of_regress(line: Any) -> bool:
    """Whether a line has all that ``figures.history`` draws."""
    try:
        ratios = [
            figure[name] for each in line["benchmarks"].values() for figure in each["measured"] for name in _RATIOS
        ]
        texts = [line["date"], line["hardware_fingerprint"], line["base"] or ""]
        datetime.fromisoformat(line["date"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return False
    numbers = all(isinstance(each, int | float) and 0 < each < 1e9 for each in ratios)
    return numbers and all(isinstance(each, str) for each in texts)


_RATIOS = ("ratio", "before")
