"""The soak: the synthetic suite in a loop while everything goes wrong. Nothing that was recorded may be lost.

``python tests/faults/soak.py --seconds 120 --faults 300 --seed 1`` runs real harnesses with real workers, kills, stops
and interrupts them, fills their disks, damages their files and leaves junk, and after every round checks what must hold
(``soak_checks.py``). At the end the suite runs undisturbed, and its leaderboard must be that of a run in which nothing
ever happened, but for times. The seed decides which faults come and whom they hit; when exactly, the machine decides.

Exit codes: 0 nothing was lost, 1 a violation, each printed with the faults before it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import soak_checks as checks
from soak_plugin import ORDERS

ROOT = checks.ROOT
PLUGIN = Path(__file__).with_name("soak_plugin.py")
SUITE = (
    *("--dataset", "planted-genres[n_users=120,n_items=80,n_ratings=2400]"),
    *("--algorithm", "popularity,random,bias,biased-als,item-knn,obedient", "--seeds", "2"),
    *("--protocol", "leave-one-out,holdout", "--plugin", str(PLUGIN), "--keep-models"),
)
TIME_LIMIT_S = 4.0
"""Of a cell while there are faults: what a stopped worker costs. An undisturbed one takes a second; where the machine
is busy, three times the slowest one."""
WORK = 5
"""So many cells are to be measured at least when a harness begins."""
PATIENCE_S = 120.0
"""A harness that has not ended after so long never will."""
UNDISTURBED_PATIENCE_S = 480.0
"""The same of one that measures every cell."""
GRACE_S = 3.0
"""So long after the harness its workers may still be dying."""
DISK_BYTES = {"results": 64 << 20, "cache": 24 << 20}

OK, USER_ERROR, SOME_FAILED, NOTHING_MEASURED, INTERRUPTED = 0, 1, 2, 4, 130

WAYS = ("truncate", "flip", "garbage", "delete", "empty")
DAMAGED = ("record", "side", "model", "split-meta", "split-array")
JUNK = ("file", "directory", "link", "temporary", "lock", "scratch")
PROCESS_FAULTS = {
    "kill worker": 4,
    "stop worker": 1,
    "kill harness": 4,
    "terminate harness": 2,
    "interrupt harness": 2,
    "interrupt harness twice": 2,
    "kill one of two harnesses": 2,
    "leaderboard meanwhile": 3,
    "fill results": 2,
}
"""Fault of a running harness -> how often it comes beside the others. Quiet ones come once each."""
ENDINGS = [kind for kind in PROCESS_FAULTS if "harness" in kind]


def kinds(without: Sequence[str] = ()) -> dict[str, int]:
    """Every kind of fault with its weight, but for those whose name holds one of the words ``without``."""
    weights = {
        **PROCESS_FAULTS,
        "fill cache": 1,
        **{f"order {order}": 1 for order in ORDERS},
        **{f"{way} {file}": 1 for file in DAMAGED for way in WAYS},
        **{f"junk {what}": 1 for what in JUNK},
    }
    return {kind: weight for kind, weight in weights.items() if not any(word in kind for word in without)}


@dataclass
class Fault:
    """One fault: its kind and its own source of chance, so that the faults after it are the same whatever it met."""

    number: int
    kind: str
    chance: random.Random
    target: str = "(nothing to hit)"
    tries: int = 0

    def __str__(self) -> str:
        return f"{self.number} {self.kind}: {self.target}"


def faults(seed: int, weights: dict[str, int]) -> Iterator[Fault]:
    """The endless sequence of faults of a seed."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        (kind,) = chance.choices(list(weights), list(weights.values()))
        yield Fault(number, kind, random.Random(f"{seed}-{number}"))


@dataclass
class Harness:
    """A running ``python -m benchmarks run``, and which endings of it what was done to it allows."""

    process: psutil.Popen
    log: Path
    began: float
    allowed: set[int] = field(default_factory=lambda: {OK})

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def err(self) -> str:
        return self.log.with_suffix(".err").read_text(errors="replace")

    @property
    def out(self) -> str:
        return self.log.with_suffix(".out").read_text(errors="replace")

    def cells_done(self) -> int:
        """How many cells it has said are done."""
        return sum(line.startswith(("✓", "✗")) for line in self.err.splitlines())

    def workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return [each for each in self.process.children(recursive=True) if _is_worker(each)]
        return []

    def is_up(self) -> bool:
        """Whether it is past its imports: from then on it answers for signals."""
        with contextlib.suppress(psutil.Error):
            return bool(self.process.children())
        return False


def _may_hit_a_run(fault: Fault) -> bool:
    """Arrays of a split are checked when a run begins: one that changes under a run is measured as it is."""
    return "split-array" not in fault.kind


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "benchmarks.worker" in process.cmdline()
    return False


@dataclass(frozen=True)
class _Release:
    """When a full disk gets room again: at the ``latest`` moment, or once so many ``cells`` are done."""

    ballast: Path
    latest: float
    cells: int


@dataclass
class Violation:
    """What does not hold, and all that is known of how it came."""

    what: str
    round: int
    faults: list[str]
    err: list[str]
    """The last lines of what the command said that showed it."""


class Soak:
    """A folder, what runs in it, what was done to it and what was found."""

    def __init__(self, folder: Path, seed: int, disks: bool = False, suite: tuple[str, ...] = SUITE) -> None:
        self.folder = folder
        self.seed = seed
        self.suite = suite
        self.disks = {name: folder / f"{name}-disk" for name in DISK_BYTES}
        self.results, self.cache = (self.disks[name] / name for name in DISK_BYTES)
        self.order, self.logs = folder / "order", folder / "logs"
        self.mark = f"soak-{uuid.uuid4().hex}"
        for needed in (*self.disks.values(), self.logs, folder / "tmp"):
            needed.mkdir()
        self.has_disks = disks and all(_mount(self.disks[name], size) for name, size in DISK_BYTES.items())
        self.ledger = checks.Ledger(self.results)
        self.counts: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.rounds = self.commands = self.checks = self.obeyed = 0
        self.time_limit = TIME_LIMIT_S
        self._may_fail = 0
        """How many cells the faults of this round may cost."""
        self._allowed: set[int] = set()
        """Exit codes that the faults of this round allow, whichever harness meets them."""
        self._recent: deque[Fault] = deque(maxlen=8)
        self._this_round: list[Fault] = []
        self._running: list[Harness] = []
        self._readers: list[Harness] = []
        self._releases: list[_Release] = []
        self._junk: set[Path] = set()

    # Commands.

    def environment(self, cache: Path | None = None) -> dict[str, str]:
        """Every process of ours carries the mark, however it escapes."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "TMPDIR": str(self.folder / "tmp"),
            "RECGAUGE_CACHE": str(cache or self.cache),
            "RECGAUGE_SOAK_ORDER": str(self.order),
            "RECGAUGE_SOAK_MARK": self.mark,
        }

    def start(self, *arguments: str, cache: Path | None = None) -> Harness:
        """Start a command in a session of its own, its output in files."""
        self.commands += 1
        log = self.logs / f"{self.commands:04}"
        with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
            process = psutil.Popen(
                [sys.executable, "-m", "benchmarks", *arguments],
                cwd=ROOT,
                env=self.environment(cache),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_listen_to_interrupts,
            )
        return Harness(process, log, time.time())

    def run_arguments(self, results: Path, time_limit: float) -> list[str]:
        return ["run", *self.suite, "--results", str(results), "--time-limit", str(time_limit), "--format", "json"]

    def start_run(self) -> Harness:
        """A harness on the results under test."""
        harness = self.start(*self.run_arguments(self.results, self.time_limit))
        self._running.append(harness)
        return harness

    def finish(self, command: Harness, patience: float = PATIENCE_S) -> int:
        """Wait for a command; one that hangs is a violation, and is killed."""
        try:
            return int(command.process.wait(patience))
        except psutil.TimeoutExpired:
            self.violate(f"command {command.log.name} did not end within {patience:g} s", command)
            command.process.kill()
            return int(command.process.wait())

    def start_leaderboard(self, results: Path) -> Harness:
        return self.start("leaderboard", "--results", str(results), "--plugin", str(PLUGIN), "--format", "json")

    # Rounds.

    def round(self, queue: deque[Fault]) -> None:
        """Some quiet faults, a harness, some faults while it runs, its end, the checks."""
        self.rounds += 1
        self._this_round = []
        self._may_fail = int(self.order.exists())
        self._allowed = set()
        self.ledger.forget_touched_folders()
        chance = random.Random(f"{self.seed}-round-{self.rounds}")
        quiet = [fault for fault in queue if fault.kind not in PROCESS_FAULTS]
        for fault in quiet[: chance.randrange(4)]:
            queue.remove(fault)
            self._inject(fault)
        self._make_work(chance)
        first = self.start_run()
        while self._any_running() and (fault := next(filter(_may_hit_a_run, queue), None)):
            self._pause(5.0, until=lambda: first.is_up() or not self._any_running())
            self._wait_for_the_moment(fault)
            if self._any_running():
                self._try(fault, queue)
        self._end_round()

    def _wait_for_the_moment(self, fault: Fault) -> None:
        """Some tenths of a second; before the end of a harness some cells too, else none would come far."""
        cells = fault.chance.choice([0, 1, 2, 3]) if fault.kind in ENDINGS else 0
        done = self._cells_done()

        def ready() -> bool:
            return not self._any_running() or self._cells_done() >= done + cells

        self._pause(10.0, until=ready)
        self._pause(fault.chance.uniform(0.0, 0.6), until=lambda: not self._any_running())

    def _try(self, fault: Fault, queue: deque[Fault]) -> None:
        """A fault of a running harness comes again in the next round where it found nothing to hit."""
        queue.remove(fault)
        if not self._inject(fault) and fault.kind in PROCESS_FAULTS and fault.tries < 3:
            fault.tries += 1
            queue.appendleft(fault)

    def _end_round(self) -> None:
        for harness in self._running:
            self._pause(PATIENCE_S, until=lambda each=harness: not each.running)  # type: ignore[misc]
        self._release(everything=True)
        for harness in self._running:
            self._check_ending(harness, self.finish(harness))
        self._check_failures()
        for reader in self._readers:
            self._check_leaderboard(reader, may_be_empty=True)
        self.check()
        for harness in self._running:
            self._report(self.ledger.announced(harness.err), harness)
        self._running, self._readers = [], []

    def _inject(self, fault: Fault) -> bool:
        """Do it; False where there was nothing to hit."""
        name, _, detail = fault.kind.partition(" ")
        try:
            done = {
                **dict.fromkeys(WAYS, self._damage),
                "order": self._order,
                "junk": self._leave_junk,
                "fill": self._fill,
            }.get(name, self._hit)(fault, detail)
        except OSError as error:  # a full disk or a file that has just gone: also for us
            fault.target, done = f"(not possible: {type(error).__name__})", False
        if done:
            self.counts[fault.kind] += 1
            self._recent.append(fault)
            self._this_round.append(fault)
        return done

    def _make_work(self, chance: random.Random) -> None:
        """Take some records away where few are missing, so that there is something to be measured, but not for long."""
        complete = sorted(self.ledger.complete)
        missing = len(checks.record_paths(self.folder / "undisturbed")) - len(complete)
        for path in chance.sample(complete, min(len(complete), max(0, WORK - missing))):
            self._remove(path)

    # Faults of processes.

    def _hit(self, fault: Fault, detail: str) -> bool:
        if "worker" in fault.kind:
            return self._hit_worker(fault)
        if fault.kind == "kill one of two harnesses":
            return self._kill_one_of_two(fault)
        if fault.kind == "leaderboard meanwhile":
            self._readers.append(self.start_leaderboard(self.results))
            fault.target = f"leaderboard {self._readers[-1].log.name}"
            return True
        harness = next((each for each in self._running if each.running), None)
        if harness is None or not harness.is_up():
            return False
        self._report(self.ledger.look(), harness)  # what is there before must be there after
        fault.target = f"run {harness.log.name}"
        if fault.kind == "kill harness":
            harness.process.kill()
            harness.allowed |= {-signal.SIGKILL}
            return True
        number = signal.SIGTERM if fault.kind == "terminate harness" else signal.SIGINT
        harness.allowed |= {INTERRUPTED}
        harness.process.send_signal(number)
        if fault.kind.endswith("twice"):
            harness.allowed |= {-signal.SIGINT}
            time.sleep(fault.chance.choice([0.0, 0.01, 0.05]))
            with contextlib.suppress(psutil.NoSuchProcess):
                harness.process.send_signal(number)
        return True

    def _hit_worker(self, fault: Fault) -> bool:
        found: list[psutil.Process] = []

        def look() -> bool:
            found[:] = [worker for each in self._running for worker in each.workers()]
            return bool(found) or not self._any_running()

        self._pause(1.5, until=look)
        for worker in found:
            with contextlib.suppress(psutil.Error):
                place = Path(worker.cwd())
                of_cell = place.is_relative_to(self.results)
                if fault.kind == "stop worker":
                    if not of_cell:  # canaries and preparations have limits that nobody wants to wait for
                        continue
                    worker.suspend()
                else:
                    worker.kill()
                fault.target = f"in {place.name}"
                self._may_fail += 1
                self._allowed |= {SOME_FAILED} if of_cell else {USER_ERROR, SOME_FAILED, NOTHING_MEASURED}
                return True
        return False

    def _kill_one_of_two(self, fault: Fault) -> bool:
        second = self.start_run()
        self._pause(5.0, until=second.is_up)
        self._pause(fault.chance.uniform(0.0, 1.0), until=lambda: not second.running)
        alive = [each for each in self._running if each.running]
        if not alive:
            return False
        self._report(self.ledger.look(), second)
        killed = fault.chance.choice(alive)
        killed.process.kill()
        killed.allowed |= {-signal.SIGKILL}
        fault.target = f"run {killed.log.name} of {', '.join(each.log.name for each in self._running)}"
        return True

    def _order(self, fault: Fault, what: str) -> bool:
        """The next fit of the obedient algorithm goes wrong; one of its records goes, so that there is a next fit."""
        own = [path for path, seen in sorted(self.ledger.complete.items()) if seen.cell[0] == "obedient"]
        if own:
            self._remove(fault.chance.choice(own))
        self.order.write_text(what)
        self._may_fail += 1
        self._allowed |= {SOME_FAILED}
        fault.target = "the next fit of obedient"
        return True

    def _fill(self, fault: Fault, disk: str) -> bool:
        if not self.has_disks:
            return False
        if disk == "cache":
            self._forget_split(fault)
        self._may_fail = 1_000  # every cell that meets the full disk
        ballast = self.disks[disk] / "ballast"
        _fill_up(ballast)
        # Half of the time until somebody has met the full disk, else for a moment in which it may go unnoticed.
        seconds = fault.chance.choice([15.0, fault.chance.uniform(0.1, 2.0)])
        self._releases.append(_Release(ballast, time.monotonic() + seconds, self._cells_done() + 1))
        self._allowed |= {USER_ERROR, SOME_FAILED, NOTHING_MEASURED}
        fault.target = f"the disk of the {disk}"
        return True

    def _forget_split(self, fault: Fault) -> None:
        """A split has to be prepared again, so that something is written to the cache."""
        if splits := sorted(self.cache.glob("splits/[!.]*")):
            shutil.rmtree(fault.chance.choice(splits), ignore_errors=True)

    # Faults of files.

    def _damage(self, fault: Fault, file: str) -> bool:
        targets = self._targets(file)
        if not targets:
            return False
        path = fault.chance.choice(targets)
        fault.target = str(path.relative_to(self.folder))
        self.ledger.touch(path)
        damage(path, fault.kind.partition(" ")[0], fault.chance)
        self.ledger.note(path)
        if self._any_running():  # a run that ends with tables of damaged files may say so instead
            self._allowed |= {USER_ERROR, SOME_FAILED}
        return True

    def _targets(self, file: str) -> list[Path]:
        if file == "split-meta":
            return sorted(self.cache.glob("splits/[!.]*/meta.json"))
        if file == "split-array":
            return sorted(self.cache.glob("splits/[!.]*/**/*.npy"))
        owned = [checks.files_of(seen)[file] for seen in self.ledger.complete.values()]
        return sorted(path for paths in owned for path in paths if path.is_file())

    def _remove(self, path: Path) -> None:
        self.ledger.touch(path)
        path.unlink(missing_ok=True)
        self.ledger.note(path)

    def _leave_junk(self, fault: Fault, what: str) -> bool:
        records = sorted(self.ledger.complete)
        if not records:
            return False
        record = fault.chance.choice(records)
        path = _junk_path(record, what, fault.chance, self.results)
        if path == record:
            self._remove(path)
        if path.exists() or path.is_symlink():
            return False
        fault.target = str(path.relative_to(self.folder))
        _make_junk(path, what, fault.chance)
        if path != record:
            self._junk.add(path)
        self.ledger.note(path)
        return True

    # Checks.

    def check(self, excuses: bool = True) -> None:
        """All that must hold while no harness runs."""
        self._check_processes()
        self._report(self.ledger.look(excuses))
        seen = [*self.ledger.complete.values(), *self.ledger.incomplete.values()]
        shown = [each.path for each in seen if each.is_shown]
        board = self.start_leaderboard(self.results)
        rows = self._check_leaderboard(board, may_be_empty=not shown)
        if rows is not None:
            self._report(checks.unnamed([each.path for each in seen if not each.is_shown], board.err), board)
            self._report(checks.miscounted(rows, shown, self.results), board)

    def _check_leaderboard(self, board: Harness, may_be_empty: bool) -> list[dict[str, Any]] | None:
        """Whatever is damaged, it prints the rest; the rows, or None where there are none."""
        self.checks += 1
        code = self.finish(board)
        self._report(checks.bad_output(board.out, board.err), board)
        if code == OK:
            rows: list[dict[str, Any]] = json.loads(board.out)
            return rows
        if not (may_be_empty and code == USER_ERROR and "no such records" in board.err):
            self.violate(f"leaderboard ended with exit code {code}", board)
        return None

    def _check_processes(self) -> None:
        deadline = time.monotonic() + GRACE_S
        while (left := checks.marked_processes(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.05)
        self.checks += 1
        for process in left:
            with contextlib.suppress(psutil.Error):
                self.violate(f"process {process.pid} is still alive: {' '.join(process.cmdline())}")
                process.kill()

    def _check_ending(self, harness: Harness, code: int) -> None:
        """Its exit code is one that the faults allow, its messages are in plain English, its failures are ours."""
        self.checks += 1
        out, err = harness.out, harness.err
        self._report(checks.bad_output(out, err), harness)
        if code == SOME_FAILED and any(self._failures()):
            return  # _check_failures judges them
        if code == USER_ERROR and self._obey(err):
            return
        allowed = sorted(harness.allowed | self._allowed)
        if code not in allowed:
            self._repair()
            self.violate(f"run {harness.log.name} ended with exit code {code}, not one of {allowed}", harness)
        if code in (USER_ERROR, NOTHING_MEASURED, INTERRUPTED) and "recgauge: " not in err:
            self.violate(f"run {harness.log.name} ended with exit code {code} and without a word", harness)

    def _failures(self) -> Iterator[str]:
        """The status of every failed cell that was recorded in this round."""
        began = min(each.began for each in self._running) - 0.1
        for path in checks.record_paths(self.results):
            if path.lstat().st_mtime >= began and (status := checks.see(path).data.get("status", "ok")) != "ok":
                yield status

    def _check_failures(self) -> None:
        """A fault costs its own cell and no other. A time limit may also be reached because the machine is busy."""
        self.checks += 1
        failed = [status for status in self._failures() if status != "timeout"]
        if len(failed) > self._may_fail:
            self.violate(f"{len(failed)} cells failed, the faults explain {self._may_fail}", self._running[-1])

    def _obey(self, err: str) -> bool:
        """Remove what the message of a run names, as its reader would, where we damaged it."""
        named = [path for path in [*self.ledger.damaged_paths(), *self._junk] if self._names(err, path)]
        for path in named:
            self.ledger.touch(path)
            target = self._split_of(path) if path.is_relative_to(self.cache) else path
            shutil.rmtree(target) if target.is_dir() and not target.is_symlink() else target.unlink(missing_ok=True)
            self.ledger.note(path)
        self.obeyed += len(named)
        return bool(named)

    def _names(self, err: str, path: Path) -> bool:
        of_cache = path.is_relative_to(self.cache)
        return str(path) in err or (of_cache and self._split_of(path).name in err)

    def _split_of(self, path: Path) -> Path:
        """The folder of the prepared split that a file of the cache belongs to."""
        splits = self.cache / "splits"
        return splits / path.relative_to(splits).parts[0]

    def _repair(self) -> None:
        """After a violation: take away what may stop every run, so that the rest of the soak still says something."""
        for path in self.ledger.damaged_paths():
            if path.is_relative_to(self.cache):
                shutil.rmtree(self._split_of(path), ignore_errors=True)
            elif path.is_dir():
                shutil.rmtree(path)
                self.ledger.note(path)

    def violate(self, what: str, command: Harness | None = None) -> None:
        """Note and print a violation, and what led to it where that was not printed just before."""
        before = [str(fault) for fault in self._recent]
        err = command.err.splitlines()[-12:] if command else []
        same = self.violations and (self.violations[-1].faults, self.violations[-1].err) == (before, err)
        self.violations.append(Violation(what, self.rounds, before, err))
        print(f"VIOLATION in round {self.rounds}: {what}", flush=True)
        if not same:
            print("".join(f"    after fault {line}\n" for line in before), end="")
            print("".join(f"    | {line}\n" for line in err), end="", flush=True)

    def _report(self, wrong: list[str], command: Harness | None = None) -> None:
        for what in wrong:
            self.violate(what, command)

    # The beginning and the end.

    def undisturbed(self) -> Path:
        """The same suite in folders of its own, to which nothing happens. The soak goes on from a copy of them."""
        results, cache = self.folder / "undisturbed", self.folder / "undisturbed-cache"
        command = self.start(*self.run_arguments(results, 120), cache=cache)
        if self.finish(command, UNDISTURBED_PATIENCE_S) != OK:
            raise SystemExit(f"soak: the undisturbed run failed:\n{command.err}")
        shutil.copytree(results, self.results)
        shutil.copytree(cache, self.cache)
        self._report(self.ledger.look())
        slowest = max(seen.data["wall_s"] for seen in self.ledger.complete.values())
        self.time_limit = max(TIME_LIMIT_S, round(3 * slowest, 1))
        return results

    def last_run(self, undisturbed: Path) -> None:
        """Without faults: the suite to its end, then no damage is excused and all must be as if nothing had been."""
        self.rounds += 1
        self.order.unlink(missing_ok=True)
        for _ in range(8):
            harness = self.start(*self.run_arguments(self.results, 120))
            code = self.finish(harness, UNDISTURBED_PATIENCE_S)
            self._report(checks.bad_output(harness.out, harness.err), harness)
            if code == OK:
                break
            if code != USER_ERROR or not self._obey(harness.err):
                self.violate(f"the last run, without faults, ended with exit code {code}", harness)
                self._repair()
        for path in self._junk & set(checks.record_paths(self.results)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.check(excuses=False)
        self._report(checks.leftovers(self.results))
        self._report(self._differences(undisturbed))

    def _differences(self, undisturbed: Path) -> list[str]:
        """What the faults changed in tables and records."""
        rows = [self._rows(undisturbed), self._rows(self.results)]
        wrong = [f"leaderboard differs: {line}" for line in checks.differences(*rows, checks.TIMES_IN_ROWS)[:5]]
        for path in checks.record_paths(undisturbed):
            name = path.relative_to(undisturbed)
            mine = self.ledger.complete.get(self.results / name)
            self.checks += 1
            if mine is None:
                wrong.append(f"the last run left no complete record {name}")
            else:
                found = checks.differences(checks.see(path).data, mine.data, checks.TIMES_IN_RECORDS)
                wrong += [f"record differs: {name}: {line}" for line in found[:5]]
        return wrong

    def _rows(self, results: Path) -> Any:
        return self._check_leaderboard(self.start_leaderboard(results), may_be_empty=False)

    def close(self, keep: bool) -> None:
        """End what is left, and keep the folder for a post-mortem or remove it."""
        for process in checks.marked_processes(self.mark):
            with contextlib.suppress(psutil.Error):
                process.kill()
        if keep and self.has_disks:  # the disks go with this process
            for name, disk in self.disks.items():
                if (disk / name).is_dir():
                    shutil.copytree(disk / name, self.folder / name, symlinks=True)
        if self.has_disks:
            for disk in self.disks.values():
                subprocess.run(["umount", "--lazy", str(disk)], check=False)
        if not keep:
            shutil.rmtree(self.folder)

    def summary(self, seconds: float) -> dict[str, Any]:
        """What was done and found."""
        return {
            "seed": self.seed,
            "seconds": round(seconds, 1),
            "faults": sum(self.counts.values()),
            "kinds": dict(sorted(self.counts.items())),
            "rounds": self.rounds,
            "commands": self.commands,
            "records_written": self.ledger.written,
            "records_replaced_by_equal_ones": self.ledger.replaced,
            "messages_obeyed": self.obeyed,
            "checks": self.checks + self.ledger.checks,
            "not_possible_here": [] if self.has_disks else ["fill results", "fill cache"],
            "violations": [vars(each) for each in self.violations],
        }

    # Waiting.

    def _cells_done(self) -> int:
        return sum(each.cells_done() for each in self._running)

    def _any_running(self) -> bool:
        return any(each.running for each in self._running)

    def _pause(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait, and make room on full disks when it is time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not until():
            self._release()
            time.sleep(0.02)

    def _release(self, everything: bool = False) -> None:
        for each in list(self._releases):
            if everything or time.monotonic() >= each.latest or self._cells_done() >= each.cells:
                each.ballast.unlink(missing_ok=True)
                self._releases.remove(each)


def damage(path: Path, way: str, chance: random.Random) -> None:
    """Damage a file in place, as a bad disk or a careless program does."""
    raw = bytearray(path.read_bytes())
    if way == "delete":
        path.unlink()
    elif way == "empty" or not raw:
        path.write_bytes(b"")
    elif way == "truncate":
        path.write_bytes(raw[: chance.randrange(len(raw))])
    elif way == "garbage":
        path.write_bytes(chance.randbytes(chance.randint(1, 2 * len(raw))))
    else:
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        path.write_bytes(raw)


def _junk_path(record: Path, what: str, chance: random.Random, results: Path) -> Path:
    """Where junk lies: in the place of ``record``, beside it, or under the name of a record that never was."""
    never_was = record.with_name(f"{chance.getrandbits(128):032x}.json")
    if what == "file":
        folder = chance.choice([results, *record.relative_to(results).parents[1:-1], record.parent])
        return results / folder / chance.choice(["notes.txt", "notes.json", ".hidden", "core.1234"])
    if what == "temporary":
        return record.with_name(f"{record.name}.tmp-{_gone_process()}")
    if what == "lock":
        return results / ".locks" / f"{record.stem}.lock"
    if what == "scratch":
        return results / ".scratch" / f"{_gone_process()}-{record.stem[:16]}"
    return chance.choice([record, never_was])


def _make_junk(path: Path, what: str, chance: random.Random) -> None:
    path.parent.mkdir(exist_ok=True)
    if what == "link":
        path.symlink_to("nowhere")
        return
    if what in ("directory", "scratch"):
        path.mkdir()
        path = path / "outcomes.npz"
    path.write_bytes(b'{"schema": "recgauge.record/1", "key": ' + chance.randbytes(chance.randrange(100)))


def _gone_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def _fill_up(ballast: Path) -> None:
    """Write until nothing more fits."""
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


def _listen_to_interrupts() -> None:
    """What a shell starts in the background has SIGINT ignored, also for its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _mount(folder: Path, size: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


def own_mounts() -> None:
    """Start this program again where it may mount small disks, which vanish with it; go on without where that fails."""
    if "RECGAUGE_SOAK_MOUNTS" in os.environ or shutil.which("unshare") is None:
        return
    os.environ["RECGAUGE_SOAK_MOUNTS"] = "1"
    for flags in (["-m"], ["-r", "-m"]):
        probe = ["unshare", *flags, "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])


def soak(soak: Soak, seconds: float, n_faults: int, without: Sequence[str]) -> None:
    """Faults for so many seconds, or so many of them; then the last run."""
    undisturbed = soak.undisturbed()
    if not soak.has_disks:
        print("soak: no small disk can be mounted here: no fault fills one")
        without = [*without, "fill"]
    sequence = faults(soak.seed, kinds(without))
    queue = deque(next(sequence) for _ in range(n_faults))
    began = time.monotonic()
    while queue and time.monotonic() - began < seconds:
        soak.round(queue)
        left = seconds - (time.monotonic() - began)
        print(
            f"round {soak.rounds}: {sum(soak.counts.values())} of {n_faults} faults, {soak.ledger.written} records "
            f"written, {len(soak.violations)} violations, at most {max(0, left):.0f} s left",
            flush=True,
        )
    soak.last_run(undisturbed)


def main() -> int:
    """Run the soak that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120, help="of faults; a first and a last run come on top")
    parser.add_argument("--faults", type=int, default=300, help="at most so many")
    parser.add_argument("--seed", type=int, default=0, help="decides which faults come and whom they hit")
    parser.add_argument(
        "--without",
        default="",
        metavar="WORD,…",
        help="no faults whose kind holds such a word, such as side,junk",
    )
    parser.add_argument("--out", type=Path, help="write the summary into this file, not to standard output")
    parser.add_argument("--keep", action="store_true", help="keep the folder, also where nothing was found")
    options = parser.parse_args()
    own_mounts()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    this = Soak(Path(tempfile.mkdtemp(prefix="recgauge-soak-")), options.seed, disks=True)
    print(f"soak: seed {options.seed}, {options.seconds:g} s or {options.faults} faults, in {this.folder}", flush=True)
    try:
        soak(this, options.seconds, options.faults, [word for word in options.without.split(",") if word])
    finally:
        this.close(options.keep)
    summary = json.dumps(this.summary(time.monotonic() - began), indent=1)
    if options.out:
        options.out.write_text(summary + "\n")
    print(summary if not options.out else f"soak: {len(this.violations)} violations; summary in {options.out}")
    if this.violations:
        print(
            f"soak: again with: python tests/faults/soak.py --seed {options.seed} --seconds {options.seconds:g} --keep"
        )
    return 1 if this.violations else 0


if __name__ == "__main__":
    sys.exit(main())
