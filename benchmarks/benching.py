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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from algorithms import registry
from benchmarks import plan, records
from benchmarks.check import Environment, by_environment
from benchmarks.environment import ROOT, worker_variables
from datasets.cache import cache_root
from datasets.errors import UserError

MOST_SILENT_S = 600.0
"""A process that reports nothing for so long hangs."""

MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}
"""glibc keeps freed memory: else whether a call has to fault its pages in again, by half its time, is chance."""

NOT_PASSED_ON = ("PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
"""The first would have one checkout compile what the other has compiled; the others change how benchmarks are run."""

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

    def obstacle(self, path: str) -> tuple[str, str] | None:
        """Why a benchmark has no ratios: ``failed`` or ``skipped``, and the reason."""
        for status, reasons in (("failed", self.failed), ("skipped", self.skipped)):
            if path in reasons:
                return status, reasons[path]
        return None

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
        command = _command(report, plugins, ROOT, "--collect-only")
        code = _run(command, ROOT, {}, log, report, lambda line: None)
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

    ``seconds``: of one benchmark, about. What fails or dies is told with its reason, and the others go on. Variables
    are those that the adapters of this checkout want, also for another one.
    """
    outcome = Outcome()
    for variables, paths in _by_process(benchmarks, outcome):
        left = list(paths)
        while left:
            part = _measure_in_process(left, root, variables, plugins, tell, seconds)
            outcome.add(part)
            left = [path for path in left if path not in part.ratios and part.obstacle(path) is None]
    for path in outcome.skipped:
        tell(path)
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

    processes: dict[Environment, list[str]] = {(None, ()): of_none}
    for environment, names in by_environment(specs, cannot_load).items():
        processes[environment] = [
            *processes.get(environment, []),
            *(path for name in names for path in paths[name]),
        ]
    return [(dict(variables), chosen) for (_, variables), chosen in processes.items() if chosen]


def _measure_in_process(
    paths: Sequence[str], root: Path, variables: Mapping[str, str], plugins: Sequence[Path], tell: Tell, seconds: float
) -> Outcome:
    """One process, until it ends; where it dies, the benchmark that it was at has failed."""
    outcome = Outcome()
    chosen = [argument for path in paths for argument in ("--path", path)]

    def report_line(line: dict[str, Any]) -> None:
        path = line["path"]
        if "ratios" in line:
            outcome.ratios[path] = line["ratios"]
        elif "failed" in line:
            outcome.failed[path] = line["failed"]
        else:
            outcome.skipped[path] = line["skipped"]
            return
        tell(path)

    with records.scratch_folder(cache_root(), "benchmarks") as scratch:
        report, log = scratch / "report.jsonl", scratch / "log.txt"
        options = ("--seconds", str(seconds), "--basetemp", str(scratch / "tmp"), *chosen)
        environment = {**worker_variables(1, dict(variables)), **MALLOC}
        code = _run(_command(report, plugins, root, *options), root, environment, log, report, report_line)
        printed = log.read_text(errors="replace").splitlines()
    unknown = [path for path in paths if path not in outcome.ratios and outcome.obstacle(path) is None]
    if unknown:
        outcome.failed[unknown[0]] = f"its process ended with code {code}: {_reason(printed)}"
        tell(unknown[0])
    return outcome


def _reason(printed: Sequence[str]) -> str:
    """The last line that speaks of an error, else the last."""
    lines = [line.strip() for line in printed if line.strip()] or ["nothing was printed"]
    return next((line for line in reversed(lines) if "Error" in line), lines[-1]).removeprefix("E ").strip()


def _command(report: Path, plugins: Sequence[Path], root: Path, *options: str) -> list[str]:
    """The benchmarks of this checkout, whichever checkout is measured: both sides of a comparison run the same."""
    tests = ROOT / "tests" / "performance"
    added = [argument for path in plugins for argument in ("--add-plugin", str(path.resolve()))]
    start = [sys.executable, "-m", "pytest", str(tests), "-q", "--tb=short", "-m", "regress", "--benchmark-enable"]
    settings = ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-p", "no:xdist"]
    return [*start, *settings, "--report", str(report), "--of-checkout", str(root), *added, *options]


def _run(
    command: Sequence[str],
    root: Path,
    variables: Mapping[str, str],
    log: Path,
    report: Path,
    tell: Callable[[dict[str, Any]], None],
) -> int:
    """Run to the end, handing over each line of the report as it comes; returns the exit code."""
    environment = {**os.environ, **variables, "PYTHONPATH": str(root)}
    for name in NOT_PASSED_ON:
        environment.pop(name, None)
    report.unlink(missing_ok=True)  # of a killed run whose process had our number
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
        with suppress(ProcessLookupError):  # also what a process left behind that has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _lines(report: Path) -> list[dict[str, Any]]:
    """The complete lines so far."""
    if not report.exists():
        return []
    return [json.loads(line) for line in report.read_text().splitlines(keepends=True) if line.endswith("\n")]
