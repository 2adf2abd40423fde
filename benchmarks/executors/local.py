"""Workers on this machine: each in its own process group, watched, limited, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import select
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT
from benchmarks.executors.group_memory import GroupMemory
from datasets.errors import UserError

POLL_S = 0.015
EXIT_GRACE_S = 5.0
USER_MISTAKE = "user_error"
"""The status of a request whose worker found something that the user can mend."""

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

    def session(self, variables: dict[str, str], scratch: Path) -> Session:
        """A worker that stays warm between requests; arguments as for ``run``."""
        return Session(lambda request: self._worker(request, variables, scratch))

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


class Session:
    """Requests one after another to a warm worker: started by the first, and anew after any that did not end ``ok``.

    Nothing here blocks: ``poll`` gives what has come, and ``wait_for_any`` waits on several sessions.
    """

    def __init__(self, start: Callable[[Event], contextlib.AbstractContextManager[subprocess.Popen[bytes]]]) -> None:
        self._start = start
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: _Lines | None = None
        self._watch: _Watch | None = None

    @property
    def warm(self) -> bool:
        """Whether there is a worker that has served a request before."""
        return self._process is not None

    def send(self, request: Event, limits: Limits) -> None:
        """Begin ``request``; the one before must have ended."""
        if self._process is None or self._lines is None:
            self._process = self._stack.enter_context(self._start(request))
            self._lines = _Lines(self._process)
        else:
            _send(self._process, request)
        self._watch = _Watch(self._process, self._lines, limits)

    def answer(self, message: Event) -> None:
        """Send what the worker asked for within its request."""
        if self._process is not None:
            _send(self._process, message)

    def limit(self, seconds: float) -> None:
        """From now on the request has so many wall seconds."""
        if self._watch is not None:
            self._watch.restart_clock(seconds)

    def poll(self) -> tuple[list[Event], Ending | None]:
        """The events that have come, and the ending of the request once there is one."""
        if self._watch is None:
            return [], None
        events, ending = self._watch.poll(timeout=0.0)
        if ending is not None:
            self._watch = None
            if ending.status != "ok":
                self.close()
        return events, ending

    def close(self) -> None:
        """Kill the worker with all that it started."""
        self._process = self._lines = self._watch = None
        self._stack.close()

    def fileno(self) -> int:
        """Readable when the worker has said something or has ended."""
        assert self._lines is not None
        return self._lines.fileno()


def wait_for_any(sessions: Iterable[Session]) -> None:
    """Wait until one of the busy ``sessions`` has something to ``poll``, or until limits want another look."""
    select.select(list(sessions), [], [], POLL_S)


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
    watch = _Watch(process, _Lines(process), limits)
    ending = None
    while ending is None:
        events, ending = watch.poll(POLL_S)
        for event in events:
            if (answer := respond(event)) is not None:
                _send(process, answer)
    if ending.status == USER_MISTAKE:
        raise UserError(ending.reason)
    if ending.status == "ok":
        _let_it_exit(process)
    return ending


class _Watch:
    """One request's way through a worker: its events, its limits, its end."""

    def __init__(self, process: subprocess.Popen[bytes], lines: _Lines, limits: Limits) -> None:
        self._process = process
        self._lines = lines
        self._limits = limits
        self._memory = GroupMemory(process.pid)
        self._start = self._clock_start = time.monotonic()

    def restart_clock(self, seconds: float) -> None:
        self._clock_start = time.monotonic()
        self._limits = replace(self._limits, seconds=seconds)

    def poll(self, timeout: float) -> tuple[list[Event], Ending | None]:
        """The events that came within ``timeout`` seconds, and the ending once there is one."""
        gone = self._process.poll() is not None
        events = []
        last: Event | None = None
        for event in self._lines.read(timeout=0.0 if gone else timeout):
            if event["event"] == "user_error":
                last = {"status": USER_MISTAKE, **event}
            elif event["event"] == "ended":
                last = event
            else:
                events.append(event)
        last = last or self._broken_limit(gone)
        if last is None:
            return events, None
        return events, Ending(last["status"], last, time.monotonic() - self._start, self._memory.peak)

    def _broken_limit(self, gone: bool) -> Event | None:
        if gone:
            return {"status": "failed", "reason": _how_it_died(self._process)}
        if time.monotonic() - self._clock_start > self._limits.seconds:
            return {"status": "timeout", "reason": f"time limit of {self._limits.seconds:g} s reached"}
        if self._memory.sample() > self._limits.memory_bytes:
            used, limit = self._memory.peak / 2**30, self._limits.memory_bytes / 2**30
            return {"status": "out_of_memory", "reason": f"{used:.2f} GiB used, the limit is {limit:.2f} GiB"}
        return None


class _Lines:
    """JSON lines from a worker's standard output, without ever blocking for longer than asked."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        self._rest = b""
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._fd, selectors.EVENT_READ)

    def fileno(self) -> int:
        return self._fd

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
