"""Ctrl-C and SIGTERM: the first unwinds, so that workers are killed and scratch folders go; the second ends at once."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from benchmarks.cli import INTERRUPTED

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h"


def listen() -> None:
    """From now on the first signal raises KeyboardInterrupt; the second does not wait for what that unwinds.

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

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is for what a script starts in the background
            signal.signal(number, interrupt)


def ignore() -> None:
    """From now on no signal changes the exit code: all is done and said."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_at_once() -> None:
    """Write by the system call: whatever was interrupted may hold the streams' locks."""
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os.write(2, b"recgauge: interrupted twice, ended at once; what is finished is recorded\n")
    os._exit(INTERRUPTED)
