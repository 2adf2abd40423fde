"""Runs the benchmarks of RecGauge itself, which are tests below ``tests/performance``, in processes of their own.

One process serves all algorithms of one framework, and stays warm for them; the ratios to the controls come back as
JSON lines (see ``tests/performance/conftest.py``). A benchmark's time is that of the checkout that it is run in.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from algorithms import registry
from benchmarks import plan, records
from benchmarks.check import by_environment
from benchmarks.environment import ROOT, worker_variables
from datasets.cache import cache_root
from datasets.errors import UserError

MOST_SILENT_S = 300.0
"""A process that reports nothing for so long hangs."""

MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
"""glibc keeps freed memory: else whether a call has to fault its pages in again, by half its time, is chance."""

Tell = Callable[[str], None]
"""Called with each benchmark that is done."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        path: its name, such as ``fit/als``.
        factor: how much slower than its baseline it may be.
        algorithm: the algorithm that it measures, None for what is no algorithm's.
    """

    path: str
    factor: float
    algorithm: str | None


@dataclass
class Outcome:
    """What came of some benchmarks: ratios by path, and why others have none."""

    ratios: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Further rounds of the same benchmarks, or others."""
        for path, values in other.ratios.items():
            self.ratios[path] = self.ratios.get(path, []) + values
        self.failed |= other.failed
        self.skipped |= other.skipped


def collect(plugins: Sequence[Path]) -> list[Benchmark]:
    """Every benchmark that there is, two for each registered algorithm among them.

    Raises:
        UserError: pytest-benchmark is missing.
    """
    if find_spec("pytest_benchmark") is None:
        raise UserError(f"pytest-benchmark is not installed: {plan.install_command('dev')}")
    with records.scratch_folder(cache_root(), "benchmarks") as scratch:
        report, log = scratch / "report.jsonl", scratch / "log.txt"
        code = _run(_command(report, plugins, "--collect-only"), ROOT, {}, log, report, lambda line: None)
        if code:
            raise RuntimeError(f"the benchmarks could not be collected:\n{log.read_text()}")
        return [Benchmark(**line) for line in _lines(report)]


def choose(benchmarks: Sequence[Benchmark], patterns: Sequence[str]) -> list[Benchmark]:
    """Those whose path, or a part of it between slashes, is one of ``patterns`` (``*`` stands for anything)."""

    def matches(path: str, pattern: str) -> bool:
        return any(fnmatchcase(part, pattern) for part in (path, *path.split("/")))

    return [each for each in benchmarks if not patterns or any(matches(each.path, pattern) for pattern in patterns)]


def measure(
    benchmarks: Iterable[Benchmark], root: Path, plugins: Sequence[Path], tell: Tell, seconds: float = 1.5
) -> Outcome:
    """Measure the checkout ``root``: a process for each framework and its environment, one after the other.

    ``seconds``: of one benchmark, about. What fails or dies is told with its reason, and the others go on.
    """
    outcome = Outcome()
    for variables, paths in _by_process(benchmarks, outcome):
        outcome.add(_measure_in_process(paths, root, variables, plugins, tell, seconds))
    return outcome


def _by_process(benchmarks: Iterable[Benchmark], outcome: Outcome) -> list[tuple[dict[str, str], list[str]]]:
    """Variables and paths of each process; frameworks of two extras never meet. What is missing goes to ``outcome``."""
    paths: dict[str | None, list[str]] = {}
    for each in benchmarks:
        paths.setdefault(each.algorithm, []).append(each.path)
    of_none = paths.pop(None, [])
    specs = [registry.spec(name) for name in paths if name is not None]
    for spec in specs:
        if lacking := plan.not_installed(spec):
            outcome.skipped |= dict.fromkeys(paths[spec.name], lacking)

    def cannot_load(name: str, reasons: Sequence[str]) -> None:
        outcome.failed |= dict.fromkeys(paths[name], reasons[0])

    groups = by_environment(specs, cannot_load)
    groups.setdefault((None, ()), [])
    processes = [
        (
            dict(variables),
            [*(of_none if (extra, variables) == (None, ()) else ()), *(p for n in names for p in paths[n])],
        )
        for (extra, variables), names in groups.items()
    ]
    return [(variables, chosen) for variables, chosen in processes if chosen]


def _measure_in_process(
    paths: Sequence[str], root: Path, variables: Mapping[str, str], plugins: Sequence[Path], tell: Tell, seconds: float
) -> Outcome:
    outcome = Outcome()
    chosen = [argument for path in paths for argument in ("--path", path)]

    def report_line(line: dict[str, Any]) -> None:
        for kind in ("ratios", "failed", "skipped"):
            if kind in line:
                getattr(outcome, kind)[line["path"]] = line[kind]
        tell(line["path"])

    with records.scratch_folder(cache_root(), "benchmarks") as scratch:
        report, log = scratch / "report.jsonl", scratch / "log.txt"
        command = _command(report, plugins, "--seconds", str(seconds), "--basetemp", str(scratch / "tmp"), *chosen)
        environment = {**worker_variables(1, dict(variables)), **MALLOC}
        code = _run(command, root, environment, log, report, report_line)
        reason = (log.read_text().strip().splitlines() or ["nothing printed"])[-1]
    known = outcome.ratios.keys() | outcome.failed.keys() | outcome.skipped.keys()
    for path in paths:
        if path not in known:
            outcome.failed[path] = f"its process ended with code {code}: {reason}"
            tell(path)
    return outcome


def _command(report: Path, plugins: Sequence[Path], *options: str) -> list[str]:
    """The benchmarks of this checkout, whichever checkout is measured: both sides of a comparison run the same."""
    tests = ROOT / "tests" / "performance"
    added = [argument for path in plugins for argument in ("--add-plugin", str(path.resolve()))]
    settings = ("--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-m", "regress")
    report_to = ("--report", str(report))
    return [sys.executable, "-m", "pytest", str(tests), *settings, *report_to, *added, *options, "-q", "--tb=short"]


def _run(
    command: Sequence[str],
    root: Path,
    variables: Mapping[str, str],
    log: Path,
    report: Path,
    tell: Callable[[dict[str, Any]], None],
) -> int:
    """Run to the end, handing over each line of the report as it comes; returns the exit code."""
    # Of the tests' own folder a process needs the plug-ins that PYTEST_ADDOPTS may name.
    search = os.pathsep.join([str(root), str(ROOT / "tests")])
    environment = {**os.environ, **variables, "PYTHONPATH": search}
    told, last = 0, time.monotonic()
    with log.open("w") as output, _started(command, root, environment, output) as process:
        while True:
            ended = process.poll() is not None
            lines = _lines(report)
            if len(lines) > told:
                last = time.monotonic()
            for line in lines[told:]:
                tell(line)
            told = len(lines)
            if ended:
                return process.returncode
            if time.monotonic() - last > MOST_SILENT_S:
                output.write(f"\nkilled: it reported nothing for {MOST_SILENT_S:.0f} s\n")
                return -signal.SIGKILL
            time.sleep(0.1)


@contextmanager
def _started(
    command: Sequence[str], root: Path, environment: Mapping[str, str], output: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own; what is left of it at the end is killed."""
    process = subprocess.Popen(
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _lines(report: Path) -> list[dict[str, Any]]:
    """The complete lines so far."""
    if not report.exists():
        return []
    return [json.loads(line) for line in report.read_text().splitlines(keepends=True) if line.endswith("\n")]
