"""Live progress on a terminal, plain lines in a pipe. Both go to standard error; tables go to standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from benchmarks.records import Record

_MARKS = {"ok": "✓", "skipped": "–"}


class Display:
    """Cells done, the running cell's own steps, time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._total = self._known = self._done = 0
        self._begin = time.monotonic()
        self._name = ""
        self._started = 0.0
        self._step = ""

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def start(self, total: int, known: int) -> None:
        """The plan is made: so many cells, of which so many are known."""
        self._total, self._known, self._begin = total, known, time.monotonic()
        if known:
            self._print(f"{known} of {total} cells are known already")

    def running(self, name: str) -> None:
        """Work on ``name`` begins, or goes on."""
        if name == self._name:
            return
        self._name, self._started, self._step = name, time.monotonic(), ""
        if self._live is None and name.startswith(("prepare", "waiting")):
            self._print(name)

    def step(self, phase: str, step: int, total: int) -> None:
        """The running work's own progress."""
        self._step = f"{phase} {step}/{total}"

    def finished(self, name: str, record: Record, how: str = "") -> None:
        """A cell has its record; ``how`` where it was not measured here and now."""
        self._done += 1
        mark = _MARKS.get(record.status, "✗")
        if record.status == "ok":
            primary = record.data["protocol"]["primary"]
            result = f"{primary} {record.data['metrics'][primary]:.3f}, {record.data['wall_s']:.1f} s"
        else:
            result = f"{record.status}: {record.data['reason']}"
        how = f", {how}" if how else ""
        self._print(f"{mark} {self._known + self._done}/{self._total} {name}: {result}{how}{self._time_left()}")
        self._name = ""

    def _time_left(self) -> str:
        remaining = self._total - self._known - self._done
        if not remaining or not self._done:
            return ""
        seconds = (time.monotonic() - self._begin) / self._done * remaining
        return f" (about {seconds:.0f} s left)" if seconds < 120 else f" (about {seconds / 60:.0f} min left)"

    def _render(self) -> Group:
        if not self._name:
            return Group()
        head = f"[{self._known + self._done}/{self._total}] " if self._total else ""
        running = f"{head}{self._name}  {self._step}  {time.monotonic() - self._started:.0f} s{self._time_left()}"
        return Group(Text(running, style="bold", overflow="ellipsis", no_wrap=True))

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


class ManyDisplay(Display):
    """Several cells at a time: a line for each, with its own steps."""

    def __init__(self, console: Console | None = None) -> None:
        super().__init__(console)
        self._cells: dict[str, tuple[float, str]] = {}
        """Name of a running cell -> when it began, and its step."""

    def began(self, name: str) -> None:
        """A node has taken up the cell."""
        self._name = ""
        self._cells[name] = time.monotonic(), ""

    def progress(self, name: str, phase: str, step: int, total: int) -> None:
        """A running cell's own progress."""
        began, _ = self._cells.get(name, (time.monotonic(), ""))
        self._cells[name] = began, f"{phase} {step}/{total}"

    def lost(self, name: str, reason: str) -> None:
        """A running cell has to start again."""
        self._cells.pop(name, None)
        self._print(f"↻ {name}: {reason}: it starts again")

    def finished(self, name: str, record: Record, how: str = "") -> None:
        self._cells.pop(name, None)
        super().finished(name, record, how)

    def _render(self) -> Group:
        if not self._cells:
            return super()._render()
        done, now = self._known + self._done, time.monotonic()
        lines = [f"[{done}/{self._total}] {len(self._cells)} running{self._time_left()}"]
        lines += [f"  {name}  {step}  {now - began:.0f} s" for name, (began, step) in sorted(self._cells.items())]
        return Group(*(Text(line, style="bold", overflow="ellipsis", no_wrap=True) for line in lines))


class TuningDisplay(Display):
    """The running study: its trials, the best value so far, the seconds left."""

    def trials(self, status: str) -> None:
        """Where the study stands."""
        self._step = status

    def say(self, line: str) -> None:
        """A line that stays."""
        self._print(line)


def download_progress(name: str) -> Callable[[int, int], None]:
    """Reports a download's bytes as a line that rewrites itself, on a terminal only."""

    def report(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= total else ""
            print(f"\r{name}: {done / 2**20:.1f} of {total / 2**20:.1f} MiB", end=end, file=sys.stderr, flush=True)

    return report
