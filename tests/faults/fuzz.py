"""Fuzz every reader: ``python tests/faults/fuzz.py --inputs 100000 --seed 1 --out results/reference/faults/fuzz.txt``.

Each target of ``fuzz_targets`` runs in a process of its own, with a limit on its memory, an alarm of five seconds for
each input, and an audit hook that refuses to write, rename or remove anything outside the input's own folder. What
breaks is listed with its traceback's end, and the input is kept.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # a reader's first import would be a write outside its folder
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT)]

import fuzz_targets  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

from datasets.errors import one_line  # noqa: E402

INPUT_S = 5
MEMORY_BYTES = 6 << 30
GROWTH_BYTES = 1 << 30
BATCH = 1_000
"""Examples of one Hypothesis run, which remembers all of them."""


class TooLong(BaseException):
    """An input took more than ``INPUT_S``; no reader may take it for its own error."""


class OutsideWrite(BaseException):
    """A reader touched something that is not its own."""


# --- one target, in a process of its own -----------------------------------------------------------------------------


class Guard:
    """While a reader runs, its files may change and nothing else may; no process may be started."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.outside: str | None = None
        sys.addaudithook(self._look)

    def _look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or event not in _EVENTS:
            return
        if event == "open" and not _writes(arguments):
            return
        for place, at in _EVENTS[event]:
            if not self._inside(arguments[place], arguments[at] if at is not None else -1):
                self.outside = f"{event} {arguments[place]!r}"
                raise OutsideWrite(self.outside)
        if not _EVENTS[event]:
            self.outside = f"{event} {arguments[:1]!r:.200}"
            raise OutsideWrite(self.outside)

    def _inside(self, path: Any, at: Any) -> bool:
        if isinstance(path, int):
            return True  # an open file
        above = os.readlink(f"/proc/self/fd/{at}") if isinstance(at, int) and at >= 0 else ""
        whole = os.path.realpath(os.path.join(above, os.fsdecode(path)))
        return (self.folder is not None and Path(whole).is_relative_to(self.folder)) or whole == os.devnull


_EVENTS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "open": ((0, None),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.utime": ((0, 3),),
    "sqlite3.connect": ((0, None),),
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"), ()),
}
"""Audit event -> places of a path that changes, and of the folder's descriptor that it is relative to.

An event without places is never allowed.
"""


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def fuzz_one(name: str, inputs: int, start: int, kept: Path) -> dict[str, Any]:
    """Counts and findings of one target."""
    target = fuzz_targets.TARGETS[name]
    fuzz_targets.build_seeds(name)
    guard = Guard()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _too_long)
    counts = {"inputs": 0, "accepted": 0, "refused": 0}
    slowest, grown, said = 0.0, 0, time.monotonic()
    findings: dict[str, int] = {}

    def run(value: Any) -> None:
        nonlocal slowest, grown, said
        folder = kept / "input"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        faulthandler.dump_traceback_later(4 * INPUT_S, exit=True)  # C code that hears no alarm
        signal.setitimer(signal.ITIMER_REAL, INPUT_S)
        guard.folder, guard.outside = folder, None
        before, began = _peak(), time.perf_counter()
        try:
            accepted = fuzz_targets.judge(target, value, folder)
            if guard.outside is not None:
                raise OutsideWrite(guard.outside)
            counts["accepted" if accepted else "refused"] += 1
        except (Exception, TooLong, OutsideWrite) as error:
            guard.folder = None
            _note(findings, error, folder, kept / "findings" / name.replace(" ", "-"))
        finally:
            guard.folder = None
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
        slowest, grown = max(slowest, time.perf_counter() - began), grown + _peak() - before
        counts["inputs"] += 1
        if time.monotonic() - said > 20:
            said = time.monotonic()
            print(f"  {name}: {counts['inputs']:,} of {inputs:,}", file=sys.stderr, flush=True)

    batch = 0
    while counts["inputs"] < inputs and batch < 2 * inputs / BATCH + 10:
        _hypothesis(target, run, min(BATCH, inputs - counts["inputs"]), start * 1_000 + batch)
        batch += 1
    if grown > GROWTH_BYTES:
        findings[f"memory grew by {grown / 2**30:.1f} GiB"] = 1
    return {**counts, "slowest_ms": 1e3 * slowest, "findings": findings}


def _hypothesis(target: fuzz_targets.Target, run: Any, inputs: int, start: int) -> None:
    quiet = settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    seed(start)(quiet(given(target.inputs)(run)))()


def _too_long(signum: int, frame: Any) -> None:
    raise TooLong(f"more than {INPUT_S} s")


def _note(findings: dict[str, int], error: BaseException, folder: Path, kept: Path) -> None:
    """Count what went wrong by its place; keep the first input of each."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename]
    ours = [frame for frame in frames if "faults" not in frame.filename] or frames
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    what = f"{type(error).__name__} at {place}: {one_line(str(error), 160)}"
    known = next((key for key in findings if key.startswith(f"{type(error).__name__} at {place}")), what)
    findings[known] = findings.get(known, 0) + 1
    if findings[known] == 1:
        shutil.copytree(folder, kept / str(len(findings)), dirs_exist_ok=True, symlinks=True)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- all of them -----------------------------------------------------------------------------------------------------


def shares(names: Sequence[str], inputs: int) -> dict[str, int]:
    """Inputs of each target: those that take long have their own number, the others share the rest."""
    targets = {name: fuzz_targets.TARGETS[name] for name in names}
    slow = {name: min(target.most, 1 + inputs // 60) for name, target in targets.items() if target.most is not None}
    others = [name for name in targets if name not in slow]
    each = -(-(inputs - sum(slow.values())) // max(1, len(others)))
    return {name: slow.get(name, max(each, 1)) for name in targets}


def fuzz(names: Sequence[str], inputs: int, start: int, kept: Path, jobs: int) -> dict[str, dict[str, Any]]:
    """Every target in a process of its own, ``jobs`` of them at a time; what is known in ``kept`` is not run again."""
    due, began, lock = shares(names, inputs), time.monotonic(), threading.Lock()
    done = 0

    def one(name: str) -> dict[str, Any]:
        nonlocal done
        command = [sys.executable, __file__, "--one", name, "--inputs", str(due[name]), "--seed", str(start)]
        known = kept / f"{name.replace(' ', '-')}-{due[name]}-{start}.json"
        if not known.exists():
            child = subprocess.run([*command, "--keep", str(kept)], stdout=subprocess.PIPE, text=True)
            known.write_text(json.dumps(_answer(child, due[name])), encoding="utf-8")
        row: dict[str, Any] = json.loads(known.read_text(encoding="utf-8"))
        with lock:
            done += due[name]
            spent, total = time.monotonic() - began, sum(due.values())
            print(
                f"{name}: {row['inputs']:,} inputs, {len(row['findings'])} findings; {done:,} of {total:,}, "
                f"about {spent / done * (total - done):.0f} s left",
                file=sys.stderr,
                flush=True,
            )
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip(due, pool.map(one, due), strict=True))


def _answer(child: subprocess.CompletedProcess[str], number: int) -> dict[str, Any]:
    lines = child.stdout.splitlines()
    if child.returncode == 0 and lines:
        return dict(json.loads(lines[-1]))
    finding = f"the process ended with {child.returncode}"
    return {"inputs": number, "accepted": 0, "refused": 0, "slowest_ms": 0.0, "findings": {finding: 1}}


def table(found: dict[str, dict[str, Any]], start: int) -> str:
    """What was found, for people."""
    columns = ("inputs", "accepted", "refused")
    lines = [f"{'target':28} {'inputs':>9} {'accepted':>9} {'refused':>9} {'slowest ms':>11} {'findings':>9}"]
    for name, row in found.items():
        numbers = " ".join(f"{row[column]:>9,}" for column in columns)
        lines.append(f"{name:28} {numbers} {row['slowest_ms']:>11.0f} {sum(row['findings'].values()):>9,}")
    total = " ".join(f"{sum(row[column] for row in found.values()):>9,}" for column in columns)
    findings = [f"{name}: {what} ({n:,})" for name, row in found.items() for what, n in row["findings"].items()]
    slowest = max(row["slowest_ms"] for row in found.values())
    lines.append(
        f"{'all':28} {total} {slowest:>11.0f} {sum(sum(row['findings'].values()) for row in found.values()):>9,}"
    )
    about = (
        f"seed {start}, Python {platform.python_version()}, {INPUT_S} s and no write outside its folder for each input"
    )
    return "\n".join([about, "", *lines, "", *(findings or ["No findings."])]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--target", action="append", choices=list(fuzz_targets.TARGETS), help="these alone")
    parser.add_argument("--out", type=Path, help="write the table to this file too")
    parser.add_argument(
        "--keep", type=Path, help="finished targets and inputs that broke something go here (default: a folder in /tmp)"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    kept = (options.keep or Path(tempfile.mkdtemp(prefix="recgauge-fuzz-"))).resolve()
    kept.mkdir(parents=True, exist_ok=True)
    if options.one:
        print(json.dumps(fuzz_one(options.one, options.inputs, options.seed, kept / "run" / str(os.getpid()))))
        return 0
    found = fuzz(options.target or list(fuzz_targets.TARGETS), options.inputs, options.seed, kept, options.jobs)
    text = table(found, options.seed)
    print(text, end="")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    broken = any(row["findings"] for row in found.values())
    print(f"inputs that broke something: {kept}" if broken else "", file=sys.stderr)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
