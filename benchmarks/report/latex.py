"""A leaderboard as a LaTeX table with booktabs, for a paper."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from benchmarks import render
from benchmarks.leaderboard import Row, Table
from benchmarks.report import columns
from benchmarks.report.columns import Column

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "²": "$^2$",
    "–": "{--}",
    "·": r"$\cdot$",
}


def tabular(title: str, table: Table) -> str:
    """A ``tabular`` with a rule between rank groups; needs ``\\usepackage{booktabs}``."""
    shown = columns.of_table(table)
    alignment = "".join("l" if column.kind == "text" else "r" for column in shown)
    groups = [list(rows) for _, rows in itertools.groupby(table.rows, key=lambda row: row["group"])]
    body = "\n\\midrule\n".join("\n".join(_line(row, shown) for row in rows) for rows in groups)
    return "\n".join(
        [
            f"% {title}",
            *(f"% {note}" for note in render.notes_on(table)),
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            " & ".join(escape(column.header) for column in shown) + r" \\",
            "\\midrule",
            body,
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def escape(text: str) -> str:
    """``text`` as LaTeX shows it; other characters are left to its UTF-8 input encoding."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _line(row: Row, shown: Sequence[Column]) -> str:
    return " & ".join(_text(row, column) for column in shown) + r" \\"


def _text(row: Row, column: Column) -> str:
    value = column.value(row)
    if value is None:
        return ""
    escaped = _number if column.kind == "number" else escape
    interval = column.interval(row)
    return escaped(column.text(value)) + (f" {{\\scriptsize {_number(interval)}}}" if interval else "")


def _number(text: str) -> str:
    """With a minus for each hyphen, and a dash that a minus after it does not lengthen."""
    low, dash, high = (part.replace("-", "$-$") for part in text.partition("–"))
    return f"{low}{'{--}' if dash else ''}{high}"
