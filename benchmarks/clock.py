"""The clock of the worker: wall seconds of blocks, and the memory that they took, on host and GPU.

Only the call under test is inside a block: warm-up, loading and counting stay outside. The device is synchronised on
both sides and Python's garbage collector is off inside.
"""

from __future__ import annotations

import builtins
import gc
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def gpu_process_bytes() -> int | None:
    """What the driver says that this process holds on all GPUs now: the framework's pool and the CUDA context.

    None without a driver, or where it does not tell: in a container it may not know the process.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        processes = [each for handle in handles for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
    except pynvml.NVMLError:
        return None
    used = [each.usedGpuMemory for each in processes if each.pid == os.getpid() and each.usedGpuMemory]
    return sum(used) if used else None


class Stages:
    """Where a cell's seconds went, each counted once: ``with stages("fit"): ...`` adds to that name.

    Args:
        began: ``time.monotonic()`` when the parent began to start this process; from then to now is ``start``.
    """

    def __init__(self, began: float | None = None) -> None:
        self.seconds: dict[str, float] = {}
        if began is not None:
            self.seconds["start"] = time.monotonic() - began

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def move(self, seconds: float, source: str, target: str) -> None:
        """So much of ``source`` was ``target``."""
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds


@contextmanager
def importing(seconds: list[float]) -> Iterator[None]:
    """Append what each import statement of the block takes, what it imports in turn included.

    Frameworks are imported by an adapter's first fit, so that no other place could tell loading from learning.
    """
    original, depth = builtins.__import__, 0

    def timed(*arguments: Any, **named: Any) -> Any:
        nonlocal depth
        depth += 1
        begin = time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            depth -= 1
            if not depth:
                seconds.append(time.perf_counter() - begin)

    builtins.__import__ = timed
    try:
        yield
    finally:
        builtins.__import__ = original
