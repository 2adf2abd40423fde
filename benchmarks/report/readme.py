"""The part of a README that is made of records: the leaderboards as text, and pictures of the report."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks import render
from benchmarks.leaderboard import Table
from datasets.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES = {"wide": (1280, 1900), "phone": (390, 1000)}
"""Of the pictures, in CSS pixels."""
WIDTH = 80

_PART = re.compile(
    r"(<!-- reference leaderboard: [^\n]* -->\n).*?(<!-- end of the reference leaderboard -->)", re.DOTALL
)


def browser() -> str:
    """The path of Chromium or Chrome.

    Raises:
        UserError: neither is installed.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise UserError("Chromium or Chrome draws figures and pictures, and neither is here: apt-get install chromium")
    return found


def take_pictures(page: Path, folder: Path) -> list[Path]:
    """A PNG of the report in a wide and in a phone-sized window."""
    pictures = []
    for name, (width, height) in SIZES.items():
        picture = folder / f"report-{name}.png"
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
        command = [browser(), "--headless=new", *sandbox, "--hide-scrollbars", f"--window-size={width},{height}"]
        command += ["--virtual-time-budget=10000", f"--screenshot={picture.resolve()}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode or not picture.is_file():
            raise RuntimeError(f"{browser()} took no picture:\n{done.stderr}")
        pictures.append(picture)
    return pictures


def update(readme: Path, tables: Sequence[Table], pictures: Sequence[Path]) -> None:
    """Put the first picture and the tables between ``<!-- reference leaderboard: … -->`` and ``<!-- end of … -->``.

    Raises:
        UserError: the file has no such part.
    """
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    shown = "".join(f"![The report]({os.path.relpath(path, readme.parent)})\n\n" for path in pictures[:1])
    made = f"{shown}```\n{render.render(tables, {}, 'terminal', width=WIDTH)}\n```\n"
    changed, parts = _PART.subn(lambda found: f"{found[1]}{made}{found[2]}", text)
    if parts != 1:
        raise UserError(f"{readme}: has no part '<!-- reference leaderboard: … -->' to '<!-- end of the … -->' to fill")
    temporary = readme.with_name(f"{readme.name}.tmp-{os.getpid()}")
    temporary.write_text(changed, encoding="utf-8")
    os.replace(temporary, readme)
