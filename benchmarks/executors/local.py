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
from typing import IO, Any

from benchmarks.environment import ROOT
from benchmarks.executors.group_memory import GroupMemory
from benchmarks.executors.reaper import kill_group, kill_marked
from benchmarks.records import tail, writing
from datasets.errors import UserError

POLL_S = 0.015
LOG = "log"
"""The worker's log, in its scratch folder."""
EXIT_GRACE_S = 5.0
LOG_BYTES = 256 << 20
"""What a worker may print: a library that repeats itself must not fill the disk."""
LOG_TAIL_BYTES = 1 << 20
"""What is kept of the log of a worker that failed: its end."""
EVENT_BYTES = 16 << 20
"""The longest line that a worker may say to the harness."""
MARK = "RECGAUGE_WORKER"
"""Environment variable that a worker hands down to all that it starts, whatever process group that is in."""
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
    printed: str = ""
    """The end of what a worker printed that did not end ``ok``."""

    @property
    def reason(self) -> str | None:
        return self.event.get("reason")


class LocalExecutor:
    """Runs one worker at a time, as a context: not even ``kill -9`` on this process leaves a worker alive."""

    def __init__(self) -> None:
        self._workers: dict[int, str] = {}
        """Process group -> mark."""
        self._reaper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalExecutor:
        self._tell_reaper()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._reaper is not None and self._reaper.stdin is not None
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
        with self._worker(request, variables, scratch) as worker:
            return _follow(worker, limits, respond)

    def session(self, variables: dict[str, str], scratch: Path) -> Session:
        """A worker that stays warm between requests; arguments as for ``run``."""
        return Session(lambda request: self._worker(request, variables, scratch))

    @contextlib.contextmanager
    def _worker(self, request: Event, variables: dict[str, str], scratch: Path) -> Iterator[_Worker]:
        mark = os.urandom(16).hex()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), MARK: mark, **variables}
        with writing(scratch):
            log = (scratch / LOG).open("w+b")
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
            self._workers[process.pid] = mark
            self._tell_reaper()
            # The worker does nothing before its request comes, so there is no moment in which it could be orphaned.
            _send(process, request)
            yield _Worker(process, log)
        finally:
            kill_group(process.pid)
            kill_marked(mark)
            process.wait()
            for stream in (process.stdin, process.stdout, log):
                with contextlib.suppress(BrokenPipeError):
                    stream.close()  # type: ignore[union-attr]
            del self._workers[process.pid]
            self._tell_reaper()

    def _tell_reaper(self) -> None:
        """Name the workers that live; a reaper that was killed is replaced."""
        line = json.dumps(self._workers).encode() + b"\n"
        for _ in range(2):
            if self._reaper is None:
                command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))]
                self._reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
            assert self._reaper.stdin is not None
            try:
                self._reaper.stdin.write(line)
                self._reaper.stdin.flush()
                return
            except BrokenPipeError:
                self._reaper.wait()
                self._reaper = None


@dataclass(frozen=True)
class _Worker:
    """A worker's process, and the file that it prints into."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]


class Session:
    """Requests one after another to a warm worker: started by the first, and anew after any that did not end ``ok``.

    Nothing here blocks: ``poll`` gives what has come, and ``wait_for_any`` waits on several sessions.
    """

    def __init__(self, start: Callable[[Event], contextlib.AbstractContextManager[_Worker]]) -> None:
        self._start = start
        self._stack = contextlib.ExitStack()
        self._worker: _Worker | None = None
        self._lines: _Lines | None = None
        self._watch: _Watch | None = None

    @property
    def warm(self) -> bool:
        """Whether there is a worker that has served a request before."""
        return self._worker is not None

    def send(self, request: Event, limits: Limits) -> None:
        """Begin ``request``; the one before must have ended."""
        if self._worker is None or self._lines is None:
            self._worker = self._stack.enter_context(self._start(request))
            self._lines = _Lines(self._worker.process)
        else:
            _send(self._worker.process, request)
        self._watch = _Watch(self._worker, self._lines, limits)

    def answer(self, message: Event) -> None:
        """Send what the worker asked for within its request."""
        if self._worker is not None:
            _send(self._worker.process, message)

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
        self._worker = self._lines = self._watch = None
        self._stack.close()

    def fileno(self) -> int:
        """Readable when the worker has said something or has ended."""
        assert self._lines is not None
        return self._lines.fileno()


def wait_for_any(sessions: Iterable[Session]) -> None:
    """Wait until one of the busy ``sessions`` has something to ``poll``, or until limits want another look."""
    select.select(list(sessions), [], [], POLL_S)


def _follow(worker: _Worker, limits: Limits, respond: Respond) -> Ending:
    """Read events, answer them and hold the limits until the worker has ended."""
    process = worker.process
    watch = _Watch(worker, _Lines(process), limits)
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

    def __init__(self, worker: _Worker, lines: _Lines, limits: Limits) -> None:
        self._process = worker.process
        self._log = worker.log
        self._lines = lines
        self._limits = limits
        self._memory = GroupMemory(worker.process.pid)
        self._start = self._clock_start = time.monotonic()

    def restart_clock(self, seconds: float) -> None:
        self._clock_start = time.monotonic()
        self._limits = replace(self._limits, seconds=seconds)

    def poll(self, timeout: float) -> tuple[list[Event], Ending | None]:
        """The events that came within ``timeout`` seconds, and the ending once there is one."""
        gone = self._process.poll() is not None
        events = []
        last: Event | None = None
        for event in self._lines.read_to_end() if gone else self._lines.read(timeout):
            if event["event"] == "user_error":
                last = last or {"status": USER_MISTAKE, **event}
            elif event["event"] == "ended":
                last = last or event
            else:
                events.append(event)
        last = last or self._broken_limit(gone)
        if last is None:
            return events, None
        printed = "" if last["status"] == "ok" else tail(self._log, LOG_TAIL_BYTES)
        return events, Ending(last["status"], last, time.monotonic() - self._start, self._memory.peak, printed)

    def _broken_limit(self, gone: bool) -> Event | None:
        if gone:
            return {"status": "failed", "reason": _how_it_died(self._process)}
        if time.monotonic() - self._clock_start > self._limits.seconds:
            return {"status": "timeout", "reason": f"time limit of {self._limits.seconds:g} s reached"}
        if self._memory.sample() > self._limits.memory_bytes:
            used, limit = self._memory.peak / 2**30, self._limits.memory_bytes / 2**30
            return {"status": "out_of_memory", "reason": f"{used:.2f} GiB used, the limit is {limit:.2f} GiB"}
        if os.fstat(self._log.fileno()).st_size > LOG_BYTES:
            return {"status": "failed", "reason": f"it printed more than {LOG_BYTES >> 20} MiB"}
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
        if len(self._rest) > EVENT_BYTES:
            lines, self._rest, self._ended = [*lines, self._rest], b"", True
        return [_event(line) for line in lines]

    def read_to_end(self) -> list[Event]:
        """All that a worker said before it went; not what a process that it left behind may still say."""
        events = []
        while not self._ended and self._selector.select(0.0):
            events += self.read(0.0)
        return events


_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "progress": {"phase": str, "step": int, "total": int},
    "validated": {"step": int, "figure": (int, float)},
    "user_error": {"reason": str},
    "ended": {"status": str},
}
"""Kind of event -> the fields that it has in any case, and their types."""
_STATUSES = ("ok", "skipped", "failed", "timeout", "out_of_memory")


def _event(line: bytes) -> Event:
    """One event; a line that is none ends the request, since no adapter code has business on this channel."""
    with contextlib.suppress(ValueError, RecursionError):
        event = json.loads(line[:EVENT_BYTES])
        if isinstance(event, dict) and isinstance(event.get("event"), str) and _is_whole(event):
            return event
    said = line[:40].decode(errors="replace")
    return {"event": "ended", "status": "failed", "reason": f"something wrote to the harness's channel: {said!r}"}


def _is_whole(event: Event) -> bool:
    fields = _FIELDS.get(event["event"], {})
    if not all(isinstance(event.get(name), kind) for name, kind in fields.items()):
        return False
    if event["event"] != "ended" or event["status"] == "ok":
        return True
    return event["status"] in _STATUSES and isinstance(event.get("reason"), str)


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
