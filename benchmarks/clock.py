"""The clock of the worker: wall seconds of blocks, and the memory that they took.

Only the call under test is inside a block: warm-up, loading and counting stay outside. The device is synchronised on
both sides and Python's garbage collector is off inside.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class Clock:
    """Seconds by name: ``with clock("fit"): ...`` appends one block; ``clock.total("rank")`` adds them up.

    Args:
        synchronize: waits until the device has done all that was asked of it.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.synchronize = synchronize
        self.blocks: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        was_enabled = gc.isenabled()
        gc.disable()
        self.synchronize()
        start = time.perf_counter()
        try:
            yield
            self.synchronize()
            self.blocks[name].append(time.perf_counter() - start)
        finally:
            if was_enabled:
                gc.enable()

    def total(self, name: str) -> float:
        """Seconds in all blocks of that name, 0 where there was none."""
        return sum(self.blocks.get(name, ()))


def reset_peak_rss() -> None:
    """Let the kernel forget this process's peak of resident memory (Linux: proc(5), ``clear_refs``)."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def peak_rss_bytes() -> int | None:
    """``VmHWM`` since the last reset, in bytes; None where there is no /proc (the parent's sampling serves there).

    Not ``ru_maxrss``: a child inherits its parent's.
    """
    if sys.platform != "linux":
        return None
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
