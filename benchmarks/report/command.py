"""``report``: writes everything recorded as one HTML file that needs no network, and figures and tables for a paper."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import leaderboard as boards
from benchmarks import plan, records
from benchmarks.cli import OK
from benchmarks.commands import recorded
from benchmarks.environment import require_our_datasets_package
from benchmarks.leaderboard import Table
from benchmarks.report import figures, latex, readme
from benchmarks.report.page import page
from datasets.errors import UserError

FORMATS = ("svg", "pdf")
WIDTH_PX = 720


def report(options: argparse.Namespace) -> int:
    """Write the report of the records in a folder; prints where it is."""
    require_our_datasets_package()
    _require("plotly", "jinja2", *(["kaleido"] if options.figures else []))
    found = recorded(options)
    tables = boards.build(found, options.results)
    text = page(tables, found, _history(options.history))
    _write(options.out, text)
    print(f"{options.out}: {len(found)} records, {len(text.encode()) / 2**20:.1f} MiB; open it in a browser")
    if options.figures:
        names = write_figures(tables, options.figures)
        print(f"{options.figures}: {', '.join(names)}")
    pictures = readme.take_pictures(options.out, options.pictures) if options.pictures else []
    if options.readme:
        readme.update(options.readme, tables, pictures)
        print(f"{options.readme}: its leaderboard is that of {options.results}")
    return OK


def write_figures(tables: Sequence[Table], folder: Path) -> list[str]:
    """Every chart as SVG and PDF, every leaderboard as a LaTeX table; returns the names of the files.

    Raises:
        UserError: there is no browser to draw with.
    """
    from plotly import io

    readme.browser()  # kaleido draws with it
    drawn, names = [], []
    with records.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for table in tables:
            name = _file_name(boards.title(table))
            _write(folder / f"{name}.tex", latex.tabular(table))
            names.append(f"{name}.tex")
            for chart in figures.charts(table):
                drawn.append(chart.figure.update_layout(template="simple_white", width=WIDTH_PX))
                names += [f"{name}-{chart.name}.{form}" for form in FORMATS]
        files = [folder / each for each in names if not each.endswith(".tex")]
        io.write_images([figure for figure in drawn for _ in FORMATS], files)
    return names


def _file_name(title: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", title).strip("-.")


def _require(*packages: str) -> None:
    for package in packages:
        if find_spec(package) is None:
            raise UserError(f"{package} is not installed: {plan.install_command('report')}")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    with records.writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)


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
