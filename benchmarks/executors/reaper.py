"""Kills what is left of workers. As a program it outlives the harness, in a session of its own.

A worker's process group is killed first; what left the group, as a daemon does, is found by the mark that it inherited
in its environment (Linux). Standard library only, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time

_ROUNDS, _ROUND_S = 100, 0.01
"""A process may start another between being found and being killed, and takes a moment to end on a busy machine."""


def kill_group(group: int) -> None:
    """Kill the processes of a group, those that are left."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_marked(mark: str) -> None:
    """Kill every process whose environment holds ``mark``, wherever it went."""
    for _ in range(_ROUNDS):
        found = _marked(mark.encode())
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return
        time.sleep(_ROUND_S)


def _marked(mark: bytes) -> list[int]:
    if not sys.platform.startswith("linux"):
        return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            # A process may end while it is looked at, or be another user's; one that has ended has no environment.
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environment:
                if mark in environment.read():
                    found.append(int(name))
    return found


def main() -> None:
    """Each line of standard input names the living workers: process group -> mark. When it ends, so do they."""
    workers: dict[str, str] = {}
    for line in sys.stdin:
        workers = json.loads(line)
    for group in workers:
        kill_group(int(group))
    for mark in workers.values():
        kill_marked(mark)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    main()
