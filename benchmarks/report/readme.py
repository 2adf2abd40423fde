"""The part of a README that is made of records: the leaderboards as text, and pictures of the report."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks import records, render
from benchmarks.leaderboard import Table
from datasets.errors import UserError

WIDTH = 80

_PART = re.compile(
    r"(<!-- reference leaderboard: [^\n]* -->\n)(!\[[^\n]*\n\n)?.*?(<!-- end of the reference leaderboard -->)",
    re.DOTALL,
)
"""The comment that begins it, a picture, the tables, the comment that ends it."""


def update(readme: Path, tables: Sequence[Table], pictures: Sequence[Path]) -> None:
    """Put the tables, and the first of new pictures, between the comments that mark their place.

    Raises:
        UserError: the file has no such part.
    """
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    board = f"```\n{render.render(tables, {}, 'terminal', width=WIDTH)}\n```\n"
    shown = "".join(f"![The report]({os.path.relpath(path, readme.parent)})\n\n" for path in pictures[:1])
    changed, parts = _PART.subn(lambda found: f"{found[1]}{shown or found[2] or ''}{board}{found[3]}", text)
    if parts != 1:
        raise UserError(f"{readme}: has no part '<!-- reference leaderboard: … -->' to '<!-- end of the … -->' to fill")
    records.write_text(readme, changed)
