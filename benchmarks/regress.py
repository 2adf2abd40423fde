"""``regress``: has RecGauge itself become slower? Each benchmark's ratio to a control against what it was before.

A benchmark is slower when its median ratio is above the earlier one by more than its own factor, a one-sided
Mann-Whitney test says that this is not chance, and a second measurement in another process says the same.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from benchmarks import baselines
from benchmarks.baselines import Reference, Verdict, judge
from benchmarks.benching import Benchmark, Outcome, choose, collect, measure
from benchmarks.cli import INTERRUPTED, NOTHING_MEASURED, OK, REGRESSION, SOME_FAILED
from benchmarks.environment import ROOT, commit, hardware_fingerprint, require_our_datasets_package
from benchmarks.plugins import load_plugin
from datasets.errors import UserError, unknown_name

ACCEPTED_PROCESSES = 3
"""Processes whose rounds make a baseline: where memory and code happen to lie differs from one to the next."""

Measure = Callable[[Sequence[Benchmark]], "Comparison"]


@dataclass
class Comparison:
    """What was measured, and what it is compared with."""

    now: Outcome
    before: Mapping[str, Reference]
    base: Outcome = field(default_factory=Outcome)
    """Of ``--base``: why it has no ratios of a benchmark."""

    def verdict(self, benchmark: Benchmark) -> Verdict | None:
        """None where one of the two is missing."""
        ratios, reference = self.now.ratios.get(benchmark.path), self.before.get(benchmark.path)
        return None if ratios is None or reference is None else judge(ratios, reference, benchmark.factor)


@dataclass
class Row:
    """One benchmark in the table: its status, the verdicts of one or two measurements, or why there is none."""

    path: str
    status: str
    reason: str = ""
    verdicts: list[Verdict] = field(default_factory=list)
    ratio: float | None = None


def regress(options: argparse.Namespace) -> int:
    """Measure, compare, print, and add a line to the history; or accept what is measured as the baseline."""
    try:
        return _regress(options)
    except KeyboardInterrupt:
        print("recgauge: interrupted; nothing of this measurement is kept", file=sys.stderr)
        return INTERRUPTED


def _regress(options: argparse.Namespace) -> int:
    require_our_datasets_package()
    if options.accept is not None and options.base is not None:
        raise UserError("--accept writes a baseline, --base needs none: give one of the two")
    if options.accept is not None and not options.accept.strip():
        raise UserError("--accept wants a reason, such as --accept 'exact ties cost 10 % of the lists'")
    for path in options.plugin:
        load_plugin(path)
    known = collect(options.plugin)
    for pattern in options.path:  # one that is misspelt would be left out, and the rest be green
        if not choose(known, [pattern]):
            print(f"recgauge: {unknown_name('benchmark', pattern, (each.path for each in known))}", file=sys.stderr)
            return NOTHING_MEASURED
    chosen = choose(known, options.path)
    if options.dry_run:
        print("\n".join(each.path for each in chosen))
        return OK
    before = baselines.references(options.baselines)  # what is damaged is said before anything is measured
    if options.accept is not None:
        return _accept(chosen, {each.path for each in known}, options)
    begin = time.monotonic()
    if options.base is None:
        rows = compare(chosen, lambda some: Comparison(_measured(some, ROOT, options), before))
    else:
        with _worktree(options.base) as base:
            rows = compare(chosen, lambda some: _against_base(some, base, options))
    code = exit_code(rows)
    seconds = time.monotonic() - begin
    gone = sorted(before.keys() - {each.path for each in known}) if options.base is None else []
    print(render(rows, seconds, gone))
    _remember(options.history, rows, options.base, code, seconds)
    return code


def compare(benchmarks: Sequence[Benchmark], measure: Measure) -> list[Row]:
    """One row for each benchmark; those that seem slower are measured once more."""
    first = measure(benchmarks)
    verdicts = {each.path: first.verdict(each) for each in benchmarks}
    suspects = [each for each in benchmarks if (verdict := verdicts[each.path]) is not None and verdict.slower]
    second = measure(suspects) if suspects else Comparison(Outcome(), {})
    return [_row(each, first, second) for each in benchmarks]


def _row(benchmark: Benchmark, first: Comparison, second: Comparison) -> Row:
    path = benchmark.path
    for comparison in (first, second):
        if obstacle := comparison.now.obstacle(path):
            return Row(path, *obstacle)
        if obstacle := comparison.base.obstacle(path):
            return Row(path, "failed", f"in the base: {obstacle[1]}")
    found = [verdict for each in (first, second) if (verdict := each.verdict(benchmark)) is not None]
    if not found:
        return Row(path, "new", "nothing to compare with", ratio=float(np.median(first.now.ratios[path])))
    if len(found) == 2:
        return Row(path, "slower" if found[1].slower else "ok, slower once", verdicts=found)
    if found[0].slower:
        return Row(path, "failed", "it was slower, and could not be measured again")
    return Row(path, "faster" if found[0].change < 1 / found[0].allowed else "ok", verdicts=found)


def exit_code(rows: Sequence[Row]) -> int:
    """3 for a regression, 2 where something failed, 4 where nothing was compared."""
    statuses = {row.status for row in rows}
    if "slower" in statuses:
        return REGRESSION
    if "failed" in statuses:
        return SOME_FAILED
    return OK if any(row.verdicts for row in rows) else NOTHING_MEASURED


# -- what is compared -------------------------------------------------------------------------------------------------


def _measured(benchmarks: Sequence[Benchmark], root: Path, options: argparse.Namespace) -> Outcome:
    with _progress(len(benchmarks)) as tell:
        return measure(benchmarks, root, options.plugin, tell)


def _against_base(benchmarks: Sequence[Benchmark], base: Path, options: argparse.Namespace) -> Comparison:
    """Working tree and base in turn, base in the middle: what drifts, drifts for both."""
    now, before = Outcome(), Outcome()
    with _progress(4 * len(benchmarks)) as tell:
        for outcome, root in ((now, ROOT), (before, base), (before, base), (now, ROOT)):
            outcome.add(measure(benchmarks, root, options.plugin, tell, seconds=0.8))
    return Comparison(now, {path: Reference(ratios) for path, ratios in before.ratios.items()}, before)


@contextmanager
def _worktree(revision: str) -> Iterator[Path]:
    """A checkout of another commit, gone afterwards."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(ROOT), "worktree", *arguments], check=True, capture_output=True, text=True)

    scratch = ROOT / "results" / ".scratch"  # the file system of the checkout: the same speed for both
    scratch.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-base-", dir=scratch))
    try:
        try:
            git("add", "--detach", str(folder / "checkout"), revision)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
            raise UserError(f"--base {revision}: git cannot check it out: {said}") from error
        yield folder / "checkout"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError, subprocess.CalledProcessError):
            git("prune")
        with suppress(OSError):
            scratch.rmdir()


def _accept(benchmarks: Sequence[Benchmark], known: Container[str], options: argparse.Namespace) -> int:
    outcome = Outcome()
    with _progress(ACCEPTED_PROCESSES * len(benchmarks)) as tell:
        for _ in range(ACCEPTED_PROCESSES):
            outcome.add(measure(benchmarks, ROOT, options.plugin, tell))
    accepted = {path: ratios for path, ratios in outcome.ratios.items() if path not in outcome.failed}
    for path, reason in (outcome.failed | outcome.skipped).items():
        print(f"{path} is not accepted: {reason}")
    if accepted:
        about = {"reason": options.accept.strip(), "commit": commit(), "date": _now()}
        file = baselines.accept(options.baselines, accepted, about, known)
        print(f"{len(accepted)} benchmarks accepted in {file}")
    if outcome.failed:
        return SOME_FAILED
    return OK if accepted else NOTHING_MEASURED


# -- what is told -----------------------------------------------------------------------------------------------------


@contextmanager
def _progress(total: int) -> Iterator[Callable[[str], None]]:
    """On a terminal a bar with the time left, in a pipe a line now and then."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done, said = 0, time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=total)

        def tell(path: str) -> None:
            nonlocal done, said
            done += 1
            progress.update(task, advance=1, description=f"{path:<28}")
            if not console.is_terminal and (done == total or time.monotonic() - said > 20):
                said = time.monotonic()
                console.print(f"measured {done} of {total} benchmarks", markup=False)

        yield tell


def render(rows: Sequence[Row], seconds: float, gone: Sequence[str] = ()) -> str:
    """The table, and below it what is slower, what failed, and what to do; ``gone``: in the baseline only."""
    console = Console(file=io.StringIO(), width=max(80, shutil.get_terminal_size().columns), highlight=False)
    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for header in ("benchmark", "ratio", "before", "change", "allowed", "status"):
        grid.add_column(header, justify="left" if header in ("benchmark", "status") else "right", no_wrap=True)
    for row in rows:
        last = row.verdicts[-1] if row.verdicts else None
        figures = (
            [f"{last.now:.3f}", f"{last.before:.3f}", _change(last), f"+{last.allowed - 1:.0%}"]
            if last
            else ["–" if row.ratio is None else f"{row.ratio:.3f}", "–", "–", "–"]
        )
        grid.add_row(*map(Text, [row.path, *figures, row.status]))
    console.print(grid)
    console.print()
    for line in _notes(rows, seconds, gone):
        console.print(Text(line))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines())


def _notes(rows: Sequence[Row], seconds: float, gone: Sequence[str]) -> Iterator[str]:
    yield f"ratio: seconds of ours by seconds of a control, medians of rounds in turn. {seconds:.0f} s in all."
    if any(row.verdicts and row.verdicts[-1].foreign for row in rows):
        yield (
            "The baseline is of another kind of machine, so that more is allowed: --accept makes one of this machine, "
            "--base REV compares with another commit on it."
        )
    for status in ("failed", "skipped"):
        for row in rows:
            if row.status == status:
                yield f"{row.path} {'was skipped' if status == 'skipped' else status}: {row.reason}"
    new = [row.path for row in rows if row.status == "new"]
    if new:
        yield f"Nothing to compare with: {', '.join(new)}. To accept what is measured: --accept 'a reason'."
    if gone:
        yield f"In the baseline, but no benchmark any more: {', '.join(gone)}. The next --accept leaves them out."
    for row in rows:
        if row.status == "slower":
            first, second = row.verdicts
            yield (
                f"SLOWER {row.path}: {_change(first)} and, measured again, {_change(second)} "
                f"(ratio {second.before:.3f} before, {first.now:.3f} and {second.now:.3f} now; p = {second.p:.1g})"
            )


def _change(verdict: Verdict) -> str:
    return f"{verdict.change - 1:+.1%}"


def _remember(history: Path, rows: Sequence[Row], base: str | None, code: int, seconds: float) -> None:
    """One line a run."""
    line = {
        "date": _now(),
        "commit": commit(),
        "base": base,
        "hardware_fingerprint": hardware_fingerprint(),
        "exit_code": code,
        "seconds": round(seconds, 1),
        "benchmarks": {row.path: _history(row) for row in rows},
    }
    try:
        history.parent.mkdir(parents=True, exist_ok=True)
        with history.open("a") as lines:
            lines.write(json.dumps(line) + "\n")
    except OSError as error:  # what was found is worth more than its line
        print(
            f"recgauge: {history}: cannot be written ({error.strerror}): this run is not in the history",
            file=sys.stderr,
        )


def _history(row: Row) -> dict[str, Any]:
    measured = [{"ratio": v.now, "before": v.before, "p": v.p} for v in row.verdicts]
    return {"status": row.status, "reason": row.reason, "ratio": row.ratio, "measured": measured}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
