"""Workers on this machine: each in its own process group, watched, limited, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT
from benchmarks.executors.group_memory import GroupMemory
from datasets.errors import UserError

POLL_S = 0.015
EXIT_GRACE_S = 5.0

Event = dict[str, Any]
Respond = Callable[[Event], Event | None]


@dataclass(frozen=True)
class Limits:
    """What one worker may use: wall seconds from its start, resident bytes of its whole process group."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Ending:
    """How a worker ended: ``ok`` with its last event, or a status with its reason."""

    status: str
    event: Event
    wall_s: float
    peak_group_rss_bytes: int

    @property
    def reason(self) -> str | None:
        return self.event.get("reason")


class LocalExecutor:
    """Runs one worker at a time, as a context: not even ``kill -9`` on this process leaves a worker alive."""

    def __enter__(self) -> LocalExecutor:
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REAPER],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
            bufsize=1,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait()

    def run(
        self,
        request: Event,
        limits: Limits,
        variables: dict[str, str],
        scratch: Path,
        respond: Respond = lambda event: None,
    ) -> Ending:
        """Send ``request`` to a fresh worker and follow it to its end.

        Args:
            variables: environment variables, set before the worker starts.
            scratch: the worker's working folder; its log is ``scratch/log``.
            respond: sees every event; what it returns is sent to the worker as its next request.

        Raises:
            UserError: the worker found something that the user can mend.
        """
        with self._worker(request, variables, scratch) as process:
            return _follow(process, limits, respond)

    @contextlib.contextmanager
    def _worker(self, request: Event, variables: dict[str, str], scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        with (scratch / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "benchmarks.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=scratch,
                env=environment,
                start_new_session=True,
            )
        try:
            self._tell_reaper("+", process.pid)
            # The worker does nothing before its request comes, so there is no moment in which it could be orphaned.
            _send(process, request)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]
            self._tell_reaper("-", process.pid)

    def _tell_reaper(self, sign: str, group: int) -> None:
        assert self._reaper.stdin is not None
        print(f"{sign}{group}", file=self._reaper.stdin)


# Outlives the harness in its own session; when the harness is gone, its pipe ends and the groups still named are
# killed.
_REAPER = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def _follow(process: subprocess.Popen[bytes], limits: Limits, respond: Respond) -> Ending:
    """Read events, answer them and hold the limits until the worker has ended."""
    start = time.monotonic()
    memory = GroupMemory(process.pid)
    lines = _Lines(process)
    last: Event | None = None
    while True:
        gone = process.poll() is not None
        for event in lines.read(timeout=0.0 if gone else POLL_S):
            if event["event"] == "user_error":
                raise UserError(event["reason"])
            if event["event"] == "ended":
                last = event
            elif (answer := respond(event)) is not None:
                _send(process, answer)
        wall_s = time.monotonic() - start
        if last is not None or gone:
            break
        if wall_s > limits.seconds:
            last = {"status": "timeout", "reason": f"time limit of {limits.seconds:g} s reached"}
            break
        if memory.sample() > limits.memory_bytes:
            over = f"{memory.peak / 2**30:.2f} GiB used, the limit is {limits.memory_bytes / 2**30:.2f} GiB"
            last = {"status": "out_of_memory", "reason": over}
            break
    if last is None:
        last = {"status": "failed", "reason": _how_it_died(process)}
    elif last["status"] == "ok":
        _let_it_exit(process)
    return Ending(last["status"], last, wall_s, memory.peak)


class _Lines:
    """JSON lines from a worker's standard output, without ever blocking for longer than asked."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        self._rest = b""
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._fd, selectors.EVENT_READ)

    def read(self, timeout: float) -> list[Event]:
        if self._ended:
            time.sleep(timeout)
            return []
        if not self._selector.select(timeout):
            return []
        chunk = os.read(self._fd, 1 << 16)
        self._ended = not chunk
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines]


def _send(process: subprocess.Popen[bytes], request: Event) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # a dead worker is found and named by _follow
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()


def _how_it_died(process: subprocess.Popen[bytes]) -> str:
    code = process.wait()
    if code < 0:
        return f"the worker was killed by {signal.Signals(-code).name}"
    return f"the worker ended with exit code {code} before it answered"


def _let_it_exit(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=EXIT_GRACE_S)
