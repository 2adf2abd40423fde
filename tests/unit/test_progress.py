"""What is shown of several cells at a time."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from benchmarks.progress import ManyDisplay
from benchmarks.records import Record


def skipped(name: str) -> Record:
    return Record(Path(f"{name}.json"), {"status": "skipped", "reason": "no reason"})


def test_every_running_cell_has_a_line_until_it_ends() -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=80, force_terminal=False)
    display = ManyDisplay(console)

    def shown() -> str:
        with console.capture() as capture:
            console.print(display._render())
        return capture.get()

    display.start(total=3, known=0)
    display.began("als")
    display.began("ease")
    display.progress("als", "fit", 3, 10)
    assert "[0/3] 2 running" in shown() and "als  fit 3/10" in shown() and "ease" in shown()
    display.finished("als", skipped("als"))
    assert "[1/3] 1 running (about" in shown() and "als" not in shown()
    display.lost("ease", "its node has gone")
    assert "ease" not in shown()
    assert "ease: its node has gone: it starts again" in screen.getvalue()
