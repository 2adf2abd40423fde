"""Chromium or Chrome: draws figures for a paper and takes pictures of the page."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from datasets.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES = {"wide": (1280, 1900), "phone": (390, 1000)}
"""Of the pictures, in CSS pixels."""


def find() -> str:
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
    program = find()
    pictures = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height) in SIZES.items():
        picture = folder / f"report-{name}.png"
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
        picture.unlink(missing_ok=True)
        command = [program, "--headless=new", *sandbox, "--hide-scrollbars", f"--window-size={width},{height}"]
        command += ["--virtual-time-budget=10000", f"--screenshot={picture.resolve()}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode or not picture.is_file():
            raise RuntimeError(f"{program} took no picture:\n{done.stderr}")
        pictures.append(picture)
    return pictures
