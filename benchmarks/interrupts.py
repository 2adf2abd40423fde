"""Ctrl-C and SIGTERM: the first unwinds, so that workers are killed and scratch folders go; the second ends at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from benchmarks.cli import INTERRUPTED

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h"


@contextmanager
def interruptible() -> Iterator[None]:
    """Raises KeyboardInterrupt for the first signal; the second does not wait for what that unwinds.

    Nothing is lost or left over then: records appear by renames, the executor's reaper kills the workers, and the next
    run sweeps what the scratch folders hold.
    """
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            _end_at_once()
        interrupted = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_at_once() -> None:
    """Write by the system call: whatever was interrupted may hold the streams' locks."""
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os.write(2, b"recgauge: interrupted twice, ended at once; what is finished is recorded\n")
    os._exit(INTERRUPTED)
