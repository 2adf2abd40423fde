"""``run``: prepare the splits, check the harness on canaries, measure what is not known yet, record each at once."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from algorithms.registry import CALIBRATED, TUNED
from benchmarks import locks, records, tuned
from benchmarks.environment import (
    ROOT,
    commit,
    digest,
    hardware,
    without_paths,
    worker_variables,
)
from benchmarks.executors.local import Ending, Event, Limits, LocalExecutor, Respond
from benchmarks.oracle import ORACLE
from benchmarks.plan import AlgorithmChoice, Cell, Preparation, with_oracle
from benchmarks.progress import Display
from benchmarks.records import Record, Wanted
from benchmarks.split_store import read_meta
from datasets.cache import cache_root
from datasets.errors import UserError

OUTCOMES, MODEL = "outcomes.npz", "model"
"""What a cell's worker leaves in its scratch folder: the side file, and the folder of the fitted model."""
PREPARE_LIMITS = Limits(seconds=3600, memory_bytes=8 * 2**30)
CANARY_LIMITS = Limits(seconds=60, memory_bytes=2 * 2**30)


class NothingMeasured(Exception):
    """The harness did not measure its canaries right, so it measures nothing."""


@dataclass(frozen=True)
class PrepareRequest:
    """The splits to prepare, resolved from suite and flags."""

    preparations: list[Preparation]
    plugins: list[Path]
    not_measured: dict[str, str]
    """Data set -> why it is not here."""


@dataclass(frozen=True)
class RunRequest(PrepareRequest):
    """All that ``run`` needs."""

    choices: list[AlgorithmChoice]
    seeds: list[int]
    threads: int
    devices: list[str]
    """``cpu``, ``cuda`` or ``auto``: an algorithm has a row on each of them that it knows."""
    limits: Limits
    budget: str
    repeats: int
    results: Path
    compact: bool
    """Side files without the raw scores of pairs, for results that are checked in."""
    throughput: bool = False
    """Also measure how fast fitted models answer."""
    keep_models: bool = False
    """Save each fitted model beside its record."""
    tuned: Path = Path("results/tuned")
    """Folder of tuned configurations."""
    machines: tuple[dict[str, Any], ...] = ()
    """``hardware()`` of the nodes on any of which a cell may run; empty: of this machine."""
    timed: bool = True
    """Whether cells have their machine to themselves, so that records must have times."""

    @property
    def wanted(self) -> Wanted:
        """What each record is to hold."""
        return Wanted(self.repeats, self.throughput, self.keep_models)

    @property
    def needed(self) -> Wanted:
        """What a record has to hold so that its cell need not run again."""
        return self.wanted if self.timed else Wanted(repeats=0, model=self.keep_models)


@dataclass(frozen=True)
class Planned:
    """A cell, the record that stood in its place when it was planned, and whether that satisfies the request."""

    cell: Cell
    path: Path
    seen: Record | None
    satisfied: bool

    @staticmethod
    def of(cell: Cell, request: RunRequest) -> Planned:
        path = _record_path(request.results, cell, cell.choice.label == TUNED)
        seen = records.read(path)
        return Planned(cell, path, seen, _satisfies(seen, cell, request))

    def on(self, machine: dict[str, Any], request: RunRequest) -> Planned:
        """The same cell on another machine: another key, another record."""
        return Planned.of(replace(self.cell, machine=machine), request)

    @property
    def known(self) -> Record | None:
        return self.seen if self.satisfied else None


@dataclass(frozen=True)
class Prepared:
    """Splits with their meta data, and why a data set (· protocol) has none."""

    splits: list[tuple[Preparation, dict[str, Any]]]
    not_measured: dict[str, str]
    failed: bool
    """Whether one has none since its worker failed."""


@dataclass(frozen=True)
class RunResult:
    """A record for every cell, in the order of the plan, and why a data set (· protocol) has none."""

    records: list[Record]
    not_measured: dict[str, str]
    failed: bool
    """Whether a cell or a split failed."""


def execute(request: RunRequest, display: Display, run_all: RunAll | None = None) -> RunResult:
    """Run what is not known yet, on this machine or wherever ``run_all`` runs cells.

    Raises:
        UserError: bad input, found before any training; nothing is written then.
        NothingMeasured: a canary's figure came out wrong.
    """
    records.sweep_results(request.results)
    records.sweep_cache(cache_root())
    with LocalExecutor() as executor, display:
        runner = Runner(request, executor, display)
        planned = plan_cells(request, runner.prepare_all())
        todo = [each for each in planned if each.known is None]
        display.start(len(planned), len(planned) - len(todo))
        if any(each.cell.cannot_run(request.limits) is None for each in todo):
            runner.check_canaries()
        measured = iter(runner.run_all(todo) if run_all is None else run_all(runner, todo))
        found = [each.known or next(measured) for each in planned]
        failed = runner.failed or any(record.status not in ("ok", "skipped") for record in found)
        return RunResult(found, {**request.not_measured, **runner.not_measured}, failed)


def prepare(request: PrepareRequest, display: Display) -> Prepared:
    """Prepare the splits that are not prepared yet; measures nothing.

    Raises:
        UserError: bad input.
    """
    records.sweep_cache(cache_root())
    with LocalExecutor() as executor, display:
        preparer = _Preparer(request, executor, display)
        splits = preparer.prepare_all()
        return Prepared(splits, {**request.not_measured, **preparer.not_measured}, preparer.failed)


def answer(request: RunRequest, side: Path, display: Display) -> Ending:
    """Measure the one cell of ``request`` and keep its outcomes as the file ``side``; no record is written.

    Raises:
        UserError: bad input, or the cell cannot run.
        NothingMeasured: a canary's figure came out wrong.
    """
    records.sweep_cache(cache_root())
    with LocalExecutor() as executor, display:
        runner = Runner(request, executor, display)
        prepared = runner.prepare_all()
        for reason in runner.not_measured.values():
            raise UserError(reason)
        (planned,) = plan_cells(request, prepared)
        hindrance = planned.cell.cannot_run(request.limits)
        if hindrance is not None:
            raise UserError(f"{planned.cell.choice.spec.name}: {hindrance}")
        display.start(1, 0)
        runner.check_canaries()
        display.running(planned.cell.name)
        return runner.measure(planned.cell, side.parent, side, request.wanted)


def plan_cells(request: RunRequest, prepared: Iterable[tuple[Preparation, dict[str, Any]]]) -> list[Planned]:
    """Cells of every prepared split: data set by data set, algorithm by algorithm, device by device, seed by seed.

    Labels of the same configuration, such as two presets that agree, are one cell, of the label that comes first.
    """
    planned: dict[tuple[str, Path], Planned] = {}
    for preparation, meta in prepared:
        for chosen in with_oracle(request.choices, preparation):
            choice = chosen
            if chosen.label == TUNED:
                choice = tuned.for_split(chosen, preparation, meta, request.tuned)
            for device, seed in product(choice.devices(request.devices), request.seeds):
                anywhere = [
                    Planned.of(Cell(choice, preparation, meta, seed, request.threads, device, machine), request)
                    for machine in request.machines or (hardware(),)
                ]
                known = next((each for each in anywhere if each.satisfied), anywhere[0])
                # Two labels of one configuration are one row.
                planned.setdefault((preparation.name, anywhere[0].path), known)
    return list(planned.values())


def _satisfies(record: Record | None, cell: Cell, request: RunRequest) -> bool:
    """Whether the record is all that is asked of the cell; another study may come to the same configuration."""
    if record is None or not records.satisfies(record, cell.key, request.needed):
        return False
    return bool(record.data["algorithm"].get("tuned") == cell.choice.tuned)


def _record_path(results: Path, cell: Cell, is_tuned: bool) -> Path:
    place = (cell.preparation.dataset.name, cell.preparation.protocol.name, cell.choice.spec.name)
    return records.record_path(results, *place, cell.key, is_tuned)


def sealed_paths(results: Path, preparation: Preparation) -> list[Path]:
    """What no adapter code may open but for what its worker is given: data, caches, results."""
    sealed = [cache_root(), results, ROOT / "results", *preparation.sources]
    if "RECGAUGE_DATA" in os.environ:
        sealed.append(Path(os.environ["RECGAUGE_DATA"]))
    return sealed


def wrong_canaries(executor: LocalExecutor) -> list[str]:
    """Send scorers with known figures through the real worker function; one line for each figure that is wrong."""
    with tempfile.TemporaryDirectory(prefix="recgauge-") as folder:  # the cache may be read-only
        request, variables = {"kind": "canaries"}, worker_variables(1, {})
        ending = executor.run(request, CANARY_LIMITS, variables, Path(folder), lambda event: None)
    if ending.status != "ok":
        return [f"the canaries did not end: {ending.status}: {ending.reason}"]
    return list(ending.event["wrong"])


class _Preparer:
    """Workers that write no record: one for each split that is not prepared yet."""

    def __init__(self, request: PrepareRequest, executor: LocalExecutor, display: Display) -> None:
        self._request = request
        self._executor = executor
        self._display = display
        self.not_measured: dict[str, str] = {}
        self.failed = False
        """Whether a split is missing since its worker failed."""
        self._plugins = [str(path.resolve()) for path in request.plugins]

    def prepare_all(self) -> list[tuple[Preparation, dict[str, Any]]]:
        """Every split, prepared now where it is not yet, before anything is trained."""
        prepared = []
        for preparation in self._request.preparations:
            meta = read_meta(preparation.folder) or self._prepare_alone(preparation)
            if meta is not None:
                prepared.append((preparation, meta))
        return prepared

    def _prepare_alone(self, preparation: Preparation) -> dict[str, Any] | None:
        """Prepare it, or wait until another harness has."""
        while True:
            with locks.held(cache_root(), preparation.folder.name) as ours:
                if ours:
                    return read_meta(preparation.folder) or self._prepare(preparation)
            locks.wait_for_another(self._display, f"prepare {preparation.name}")

    def _prepare(self, preparation: Preparation) -> dict[str, Any] | None:
        name = f"prepare {preparation.name}"
        self._display.running(name)
        request = {
            "kind": "prepare",
            "plugins": self._plugins,
            "dataset": {"target": preparation.dataset.target, "options": dict(preparation.dataset.options)},
            "sources": [str(path) for path in preparation.sources],
            "protocol": {"target": preparation.protocol.target, "config": preparation.protocol_config},
            "split_seed": preparation.split_seed,
            "target": str(preparation.folder),
        }
        with records.scratch_folder(cache_root(), "prepare") as scratch:
            ending = self._executor.run(request, PREPARE_LIMITS, worker_variables(1, {}), scratch, self._show_progress)
        if ending.status == "ok":
            meta: dict[str, Any] = ending.event["meta"]
            return meta
        reason = str(ending.reason)
        if ending.status != "skipped":  # the other data sets are measured all the same
            self.failed = True
            reason = f"could not be prepared: {ending.status}: {reason}"
            print(ending.event.get("traceback") or "", end="", file=sys.stderr)
        self.not_measured[f"{preparation.dataset.name} · {preparation.protocol.name}"] = reason
        return None

    def _show_progress(self, event: Event) -> Event | None:
        if event["event"] == "progress":
            self._display.step(event["phase"], event["step"], event["total"])
        return None


class Runner(_Preparer):
    """One run's workers: preparations, canaries, cells."""

    _request: RunRequest

    def check_canaries(self) -> None:
        """Raise NothingMeasured where a canary's figure is not as it must be."""
        self._display.running("canaries")
        if wrong := wrong_canaries(self._executor):
            raise NothingMeasured(f"nothing was measured, the harness is wrong: {'; '.join(wrong)}")

    def run_all(self, todo: Sequence[Planned]) -> list[Record]:
        """A record for each cell; what another harness is at is left for later, and taken when that is done."""
        found: dict[int, Record] = {}
        while left := [place for place in range(len(todo)) if place not in found]:
            before = len(found)
            for place in left:
                planned = todo[place]
                with locks.held(self._request.results, planned.cell.key[:32]) as ours:
                    if ours:
                        found[place] = self.of_another_harness(planned) or self.run_cell(planned)
            if len(found) == before:
                locks.wait_for_another(self._display, todo[left[0]].cell.name)
        return [found[place] for place in range(len(todo))]

    def of_another_harness(self, planned: Planned) -> Record | None:
        """What has been recorded since the plan was made, a failure too: it is of this very moment."""
        record = records.read(planned.path)
        if record is None or (planned.seen is not None and record.data == planned.seen.data):
            return None
        if record.data["split"] != planned.cell.meta["split"]:  # seeds may give equal splits, and so one key
            return None
        failed = record.status != "ok" and record.data["key"] == planned.cell.key and self._had_our_limits(record)
        if not failed and not _satisfies(record, planned.cell, self._request):
            return None
        self._display.finished(planned.cell.name, record, "by another harness")
        return record

    def _had_our_limits(self, record: Record) -> bool:
        """Or larger ones: what failed under less may do well here."""
        limits, ours = record.data["limits"] or {}, self._request.limits
        return limits.get("seconds", 0) >= ours.seconds and limits.get("memory_bytes", 0) >= ours.memory_bytes

    def run_cell(self, planned: Planned) -> Record:
        """Measure one cell, or skip it with its reason; its record is on disk when this returns."""
        wanted = self.begin(planned)
        if (record := self.without_measuring(planned)) is not None:
            return record
        cell = planned.cell
        self._display.running(cell.name)
        with records.scratch_folder(self._request.results, cell.key[:16]) as scratch:
            ending = self.measure(cell, scratch, scratch / OUTCOMES, wanted)
            return self.write(planned, ending, scratch)

    def without_measuring(self, planned: Planned) -> Record | None:
        """The record of a cell that cannot run, or that has been measured under another label; else None."""
        cell = planned.cell
        if (reason := cell.cannot_run(self._request.limits)) is not None:
            return self.skip(planned, reason)
        if (same := self._same_measurement(cell)) is None:
            return None
        record = self._relabelled(same, planned)
        self._display.finished(cell.name, record)
        return record

    def skip(self, planned: Planned, reason: str) -> Record:
        """Record that the cell cannot run, and why."""
        ending = Ending("skipped", {"reason": reason}, 0.0, 0)
        with records.writing(self._request.results):
            record = records.write(planned.path, self._record(planned.cell, ending, {}), side=None, log=None)
        self._display.finished(planned.cell.name, record)
        return record

    def begin(self, planned: Planned) -> Wanted:
        """What is to be measured: what is wanted, and what the cell's record holds already. What is damaged in its
        place is set aside."""
        held = records.read(planned.path)  # its side file or model may be damaged all the same
        with records.writing(self._request.results):
            records.set_aside_damaged(planned.path)
        return self._request.wanted.and_what(held, planned.cell.key)

    def write(self, planned: Planned, ending: Ending, scratch: Path, untimed: str | None = None) -> Record:
        """Record a cell whose worker has ended, and left in ``scratch`` what it had to leave.

        ``untimed``: why its seconds mean nothing, if so. Those of an older record of the cell are kept then, or none.
        """
        if untimed is not None and ending.event.get("timings") is not None:
            timings = _timings_of(records.read(planned.path), planned.cell)
            timings = timings or records.without_seconds(ending.event["timings"], untimed)
            ending = replace(ending, event={**ending.event, "timings": timings})
        if ending.status == "ok" and not (scratch / OUTCOMES).is_file():
            ending = _failed(ending, "the worker said that it ended well, and left no outcomes")
        try:
            record = self._put(planned, ending, scratch)
        except ValueError as problem:
            if ending.status != "ok":
                raise
            record = self._put(planned, _failed(ending, f"no record can hold its figures: {problem}"), scratch)
        self._display.finished(planned.cell.name, record)
        return record

    def _put(self, planned: Planned, ending: Ending, scratch: Path) -> Record:
        failed, model = ending.status != "ok", scratch / MODEL
        data = self._record(planned.cell, ending, planned.cell.variables)
        with records.writing(self._request.results):
            log = _log_of_failure(scratch, ending) if failed else None
            kept = model if model.is_dir() and not failed else None
            side = None if failed else scratch / OUTCOMES
            return records.write(planned.path, data, side=side, log=log, model=kept)

    def _same_measurement(self, cell: Cell) -> Record | None:
        """Of this very configuration, as tuned or under another label: tuning may well find the default best."""
        for is_tuned in (False, True):
            record = records.read(_record_path(self._request.results, cell, is_tuned))
            if record is not None and records.satisfies(record, cell.key, self._request.needed):
                return record
        return None

    def _relabelled(self, same: Record, planned: Planned) -> Record:
        """The measurement as a record of the planned cell too."""
        data = {**same.data, "created": _now(), "algorithm": _algorithm(planned.cell)}
        results = self._request.results
        with records.scratch_folder(results, planned.cell.key[:16]) as scratch, records.writing(results):
            side = Path(shutil.copy(records.side_file(same), scratch))
            kept = records.model_folder(same)
            model = None if kept is None else Path(shutil.copytree(kept, scratch / MODEL))
            return records.write(planned.path, data, side, log=None, model=model)

    def measure(self, cell: Cell, scratch: Path, side: Path, wanted: Wanted) -> Ending:
        """Fit and ask in a fresh worker in the folder ``scratch``.

        Where it ends ``ok``, outcomes are in the file ``side`` and, if wanted and possible, the model is in the folder
        ``scratch/model``.
        """
        request, respond = self.cell_request(cell, scratch, wanted), self._responder(cell, side)
        return self._executor.run(request, self._request.limits, cell.variables, scratch, respond)

    def cell_request(self, cell: Cell, scratch: Path, wanted: Wanted) -> Event:
        """What its worker is asked."""
        request = self._request
        return {
            "kind": "cell",
            "plugins": self._plugins,
            "algorithm": cell.choice.spec.target,
            "truth": str(cell.preparation.folder) if cell.choice.spec is ORACLE else None,
            "config": cell.choice.config,
            "protocol": {"target": cell.preparation.protocol.target, "config": cell.preparation.protocol_config},
            "fit": str(cell.preparation.folder / "fit"),
            "forbidden": [str(path) for path in (*sealed_paths(request.results, cell.preparation), request.tuned)],
            "allowed": [str(scratch)],
            "seed": cell.seed,
            "threads": cell.threads,
            "device": cell.device,
            "seconds": self._request.limits.seconds,
            "repeats": wanted.repeats,
            "compact": self._request.compact,
            "throughput": wanted.throughput,
            "model": str(scratch / MODEL) if wanted.model else None,
            "began": time.monotonic(),
            "calibrate": cell.choice.spec.support[cell.preparation.protocol.task] == CALIBRATED,
        }

    def _responder(self, cell: Cell, side: Path) -> Respond:
        """Names question and labels once the worker says that every fit has returned."""

        def respond(event: Event) -> Event | None:
            if event["event"] == "fitted":
                return {"split": str(cell.preparation.folder), "side": str(side)}
            return self._show_progress(event)

        return respond

    def _record(self, cell: Cell, ending: Ending, variables: dict[str, str]) -> dict[str, Any]:
        event = ending.event
        return {
            "key": cell.key,
            "status": ending.status,
            "reason": ending.reason,
            "created": _now(),
            "dataset": cell.meta["dataset"],
            "protocol": {
                "name": cell.preparation.protocol.name,
                "config": cell.preparation.protocol_config,
                "task": cell.preparation.protocol.task,
                "primary": cell.preparation.protocol.primary,
            },
            "split": cell.meta["split"],
            "algorithm": _algorithm(cell),
            "seed": cell.seed,
            "threads": cell.threads,
            "device": cell.device,
            "metrics": event.get("metrics"),
            "timings": event.get("timings"),
            "memory": {**event.get("memory", {}), "peak_group_rss_bytes": ending.peak_group_rss_bytes},
            "wall_s": round(ending.wall_s, 3),
            "limits": {
                "budget": self._request.budget,
                "seconds": self._request.limits.seconds,
                "memory_bytes": self._request.limits.memory_bytes,
            },
            "hardware": cell.machine,
            "hardware_fingerprint": digest(cell.machine),
            "environment": {
                "packages": cell.packages,
                "variables": variables,
                "commit": commit(),
                "code": cell.choice.sources,
            },
        }


RunAll = Callable[[Runner, Sequence[Planned]], list[Record]]
"""Gives a record for each planned cell."""


def _failed(ending: Ending, reason: str) -> Ending:
    return replace(ending, status="failed", event={"reason": without_paths(reason)})


def _timings_of(record: Record | None, cell: Cell) -> dict[str, Any] | None:
    """Of a record of this very cell that has seconds; else None."""
    if record is None or record.status != "ok" or record.data["key"] != cell.key or record.untimed is not None:
        return None
    timings: dict[str, Any] | None = record.data["timings"]
    return timings


def _algorithm(cell: Cell) -> dict[str, Any]:
    """A record's ``algorithm``; a row of tuned configurations has ``tuned``, null where nothing was tuned."""
    choice = cell.choice
    data = {
        "name": choice.spec.name,
        "label": choice.label,
        "config": choice.config,
        "support": choice.spec.support.get(cell.preparation.protocol.task),
    }
    return {**data, "tuned": choice.tuned} if choice.label == TUNED else data


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _log_of_failure(scratch: Path, ending: Ending) -> Path:
    """The end of what the worker printed, with the traceback of its error, without the paths of this machine.

    It lies beside the folder that an adapter worked in, and may have filled, linked or removed.
    """
    text = ending.printed + str(ending.event.get("traceback") or "")
    handle, name = tempfile.mkstemp(dir=scratch.parent, prefix=f"{scratch.name}-")
    with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(without_paths(text))
    return Path(name)
