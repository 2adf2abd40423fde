"""What else the machine did while a cell was timed: a busy host makes honest seconds misleading ones.

Read from /proc (Linux): time that threads of this process were ready and had no core (``schedstat``), time that the
hypervisor gave to others (steal), and workers of other harnesses. Elsewhere nothing is known, and nothing is said.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BUSY_SHARE, BUSY_S = 0.03, 0.05
"""More of the timed seconds than this share, and more than so many seconds of them: waiting or steal worth a note."""

_WORKER = b"benchmarks.worker"

Load = dict[str, Any]
"""``seconds``: of the block. ``waiting``: share of the time in which the worker's threads wanted a core and had none.
``stolen``: share of all cores' time that the hypervisor gave away. ``other_workers``: of another harness, at start or
end. ``running``: other runnable threads of the machine, likewise. Null where the system does not tell."""


@contextmanager
def watched(load: Load) -> Iterator[None]:
    """Fill ``load`` with what the machine did during the block."""
    before = _Reading()
    try:
        yield
    finally:
        load.update(_between(before, _Reading()))


def busy(load: Load | None) -> list[str]:
    """In words, what makes times under this load doubtful; empty on a quiet machine."""
    if not load:
        return []
    reasons = []
    if load["other_workers"]:
        reasons.append("another harness was measuring")
    for name, words in (("waiting", "waited for a core"), ("stolen", "the hypervisor took")):
        share = load[name] or 0
        if share > BUSY_SHARE and share * load["seconds"] > BUSY_S:
            reasons.append(f"{words} {share:.0%} of the time")
    return reasons


class _Reading:
    """One look at /proc."""

    def __init__(self) -> None:
        self.time = time.perf_counter()
        self.threads = _thread_times()
        self.steal = _steal_s()
        self.other_workers = _other_workers()
        self.running = _running()


def _between(before: _Reading, after: _Reading) -> Load:
    seconds = max(after.time - before.time, 1e-9)
    cores = os.cpu_count() or 1
    stolen = None
    if before.steal is not None and after.steal is not None:
        stolen = (after.steal - before.steal) / seconds / cores
    return {
        "seconds": seconds,
        "waiting": _waiting(before.threads, after.threads),
        "stolen": stolen,
        "other_workers": _larger(before.other_workers, after.other_workers),
        "running": _larger(before.running, after.running),
    }


def _larger(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def _waiting(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float | None:
    """Waited / (ran + waited) over all threads: what a thread that wanted a core did without one."""
    ran = waited = 0
    for thread, (running, waiting) in after.items():
        earlier = before.get(thread, (0, 0))
        ran, waited = ran + running - earlier[0], waited + waiting - earlier[1]
    return waited / (ran + waited) if ran + waited > 0 else None


def _thread_times() -> dict[str, tuple[int, int]]:
    """Thread -> nanoseconds on a core, nanoseconds ready without one (Linux, Documentation/scheduler/sched-stats)."""
    times = {}
    with suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with suppress(OSError, ValueError):  # a thread may end while it is looked at
                ran, waited, _ = Path(f"/proc/self/task/{thread}/schedstat").read_text().split()
                times[thread] = int(ran), int(waited)
    return times


def _steal_s() -> float | None:
    """Seconds of all cores that went to other guests of the hypervisor since the start (proc(5), ``/proc/stat``)."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return int(fields[8]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def _running() -> int | None:
    """Runnable threads of the machine but for the one that asks."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1
    except (OSError, ValueError, IndexError):
        return None


def _other_workers() -> int | None:
    """Workers of harnesses that are not this process's parent."""
    if sys.platform != "linux":
        return None
    others = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        with suppress(OSError, ValueError, IndexError):  # a process may end while it is looked at, or be another user's
            if _WORKER in (folder / "cmdline").read_bytes().split(b"\0") and _parent(folder) != os.getppid():
                others += 1
    return others


def _parent(folder: Path) -> int:
    """The second field after the name, which stands in brackets and may hold anything (proc(5))."""
    return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
