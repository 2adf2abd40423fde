"""``tune``: the same budget of trials and seconds for every algorithm, judged on validation rows alone.

One study for each algorithm × data set × protocol. Its owner, in this process, asks and is told; warm workers run the
trials. Both are given a split's ``validation`` folder and its sizes, nothing of its test rows.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from algorithms.config import resolve_config
from algorithms.registry import CALIBRATED
from benchmarks import locks, records, tuned
from benchmarks.environment import ROOT, commit, digest, file_digest
from benchmarks.executors import LOST, MAX_LOSSES
from benchmarks.executors.local import Ending, Event, Limits, LocalExecutor, Session, wait_for_any
from benchmarks.plan import AlgorithmChoice, Cell, Preparation, TuningBudget
from benchmarks.progress import TuningDisplay
from benchmarks.render import fraction
from benchmarks.run import (
    NothingMeasured,
    PrepareRequest,
    prepare,
    sealed_paths,
    wrong_canaries,
)
from benchmarks.split_store import VALIDATION
from benchmarks.studies import Asked, Search, Study, open_storage
from benchmarks.tuned import Tuned
from datasets.cache import cache_root
from datasets.errors import UserError
from protocols import registry as protocol_registry

START_S = 300.0
"""What a worker may take to import a framework and warm up; no part of the budget."""

PRESETS = ("default", "report")
"""What every study tries first, where the algorithm has it."""


@dataclass(frozen=True)
class TuneRequest(PrepareRequest):
    """All that ``tune`` needs."""

    choices: list[AlgorithmChoice]
    budget: TuningBudget
    seed: int
    threads: int
    device: str
    sampler: str
    pruner: str
    storage: str | None
    """URL of a data base; None for a journal file below ``results``."""
    workers: int | None
    """Trials at a time; None for as many as the executor takes."""
    results: Path
    tuned: Path


@dataclass(frozen=True)
class StudyPlan:
    """One study: what is tuned, on which split, as the request has it."""

    request: TuneRequest
    cell: Cell

    @cached_property
    def reason(self) -> str | None:
        """Why there is nothing to run, or None."""
        return self.cell.cannot_run(self.request.budget.trial)

    @cached_property
    def search(self) -> Search:
        choice, adapter = self.cell.choice, self.cell.choice.adapter
        presets: dict[str, dict[str, Any]] = {}
        for name in PRESETS:
            if name in choice.spec.presets:
                options = {**choice.spec.presets[name], **choice.given}
                config = _plain(dataclasses.asdict(resolve_config(adapter.Config, options, choice.spec.name)))
                if config not in presets.values():
                    presets[name] = config
        return Search(
            base=_plain(choice.config),
            space={option: space for option, space in adapter.SPACE.items() if option not in choice.given},
            presets=presets,
            higher_is_better=self.protocol.higher_is_better,
            sampler=self.request.sampler,
            pruner=self.request.pruner,
            seed=self.request.seed,
        )

    @cached_property
    def trials(self) -> int:
        """The budget's; where nothing is to be tuned, the presets alone."""
        budget = self.request.budget.trials
        return budget if self.search.space else min(budget, len(self.search.presets))

    @cached_property
    def protocol(self) -> Any:
        return protocol_registry.load_class(self.cell.preparation.protocol)

    @cached_property
    def place(self) -> str:
        return self.cell.preparation.name

    @cached_property
    def title(self) -> str:
        label = "" if self.cell.choice.label == "default" else f" ({self.cell.choice.label})"
        return f"{self.cell.choice.spec.name}{label} · {self.place}"

    @cached_property
    def name(self) -> str:
        """Of the study: the cell, and a digest of all that decides its figures. The budget may grow later."""
        search, split = self.search, str(self.cell.meta["split"]["fingerprint"])
        decides = {
            "cell": self.cell.key,
            "space": {option: repr(space) for option, space in search.space.items()},
            "presets": search.presets,
            "search": [search.sampler, search.pruner],
            "code": [file_digest(ROOT / "benchmarks" / f"{name}.py") for name in ("trial", "studies")],
        }
        preparation = self.cell.preparation
        place = f"{preparation.dataset.name}/{preparation.protocol.name}/{self.cell.choice.spec.name}"
        return f"{place}/{split[:12]}/{digest(decides)[:16]}"

    @cached_property
    def journal(self) -> Path:
        *place, algorithm, split, decides = self.name.split("/")
        return Path(self.request.results, "studies", *place, f"{algorithm}-{split}-{decides}.journal")

    @cached_property
    def variables(self) -> dict[str, str]:
        return self.cell.variables


@dataclass(frozen=True)
class StudyResult:
    """What a study ended with: the winner, or the reason why there is none."""

    plan: StudyPlan
    tuned: Tuned | None
    path: Path | None = None
    reason: str | None = None
    failed: bool = False
    """There was something to run, and no trial came through."""


@dataclass(frozen=True)
class TuneResult:
    """Every study's result in the order of the plan, and why a data set (· protocol) has none."""

    studies: list[StudyResult]
    not_measured: dict[str, str]
    failed: bool
    """Whether a study or a split failed."""


class Slots(Protocol):
    """Where trials run: sessions, each with a warm worker. ``cluster.py`` has those on other machines."""

    number: int
    """How many sessions there is room for, where the request does not say how many."""

    def opened(self, cell: Cell, scratch: Path) -> AbstractContextManager[Any]:
        """A session for trials in the cell's environment; its worker is killed in the end."""

    def ready(self, session: Any) -> bool:
        """Whether a trial can begin there now."""

    def send(self, session: Any, cell: Cell, request: Event, limits: Limits) -> None:
        """Begin the cell's trial."""

    def wait_for_any(self, sessions: Iterable[Any]) -> None:
        """Wait until one of the busy sessions has something to ``poll``, or for a moment."""


class LocalSlots:
    """Workers on this machine."""

    number = 1

    def __init__(self, executor: LocalExecutor) -> None:
        self._executor = executor

    @contextmanager
    def opened(self, cell: Cell, scratch: Path) -> Iterator[Session]:
        session = self._executor.session(cell.variables, scratch)
        try:
            yield session
        finally:
            session.close()

    def ready(self, session: Session) -> bool:
        return True

    def send(self, session: Session, cell: Cell, request: Event, limits: Limits) -> None:
        session.send(request, limits)

    def wait_for_any(self, sessions: Iterable[Session]) -> None:
        wait_for_any(sessions)


def execute(request: TuneRequest, display: TuningDisplay, slots: Slots | None = None) -> TuneResult:
    """Run what the budget still allows, write the winners. Trials run in ``slots``, or on this machine.

    Raises:
        UserError: bad input, found before any training.
        NothingMeasured: a canary's figure came out wrong.
    """
    records.sweep_results(request.results)
    records.sweep_cache(cache_root())
    prepared = prepare(request, display)
    plans = plan_studies(request, prepared.splits)
    for plan in plans:
        _refuse_other_split(plan)
    with LocalExecutor() as executor, display:
        done = _Tuner(request, executor, slots or LocalSlots(executor), display).tune_all(plans)
    studies = [done[plan.title] for plan in plans]
    return TuneResult(studies, prepared.not_measured, prepared.failed or any(study.failed for study in studies))


def _refuse_other_split(plan: StudyPlan) -> None:
    """A winner of another split must not go without a word, and this one could not be told from it by its place."""
    preparation, spec = plan.cell.preparation, plan.cell.choice.spec
    path = tuned.path_of(plan.request.tuned, preparation.dataset.name, preparation.protocol.name, spec.name)
    if path.exists() and tuned.read(path).split_fingerprint != plan.cell.meta["split"]["fingerprint"]:
        raise UserError(
            f"{path}: holds the winner of another split: remove it, or name another folder (--tuned FOLDER)"
        )


def plan_studies(request: TuneRequest, prepared: Iterable[tuple[Preparation, dict[str, Any]]]) -> list[StudyPlan]:
    """Data set by data set, algorithm by algorithm."""
    return [
        StudyPlan(
            request,
            Cell(choice, preparation, meta, request.seed, request.threads, device),
        )
        for preparation, meta in prepared
        for choice in request.choices
        for device in choice.devices([request.device])
    ]


class _Tuner:
    """Studies one after another, each with all workers of its environment."""

    def __init__(self, request: TuneRequest, executor: LocalExecutor, slots: Slots, display: TuningDisplay) -> None:
        self._request = request
        self._executor = executor
        self._slots = slots
        self._display = display
        self._canaries_checked = False

    def tune_all(self, plans: Sequence[StudyPlan]) -> dict[str, StudyResult]:
        """By title. Environment by environment, so that workers stay warm and one framework is loaded at a time."""
        results = {plan.title: StudyResult(plan, None, reason=plan.reason) for plan in plans if plan.reason}
        order: dict[tuple[Any, ...], int] = {}
        runnable = [plan for plan in plans if not plan.reason]
        for plan in runnable:
            order.setdefault(plan.cell.environment, len(order))
        left = sorted(runnable, key=lambda plan: order[plan.cell.environment])
        while left:
            found = self._tune_free(left)
            results |= found
            left = [plan for plan in left if plan.title not in found]
            if left and not found:
                locks.wait_for_another(self._display, left[0].title)
        return results

    def _tune_free(self, plans: Sequence[StudyPlan]) -> dict[str, StudyResult]:
        """By title, of the studies that no other harness is at."""
        found = {}
        for _, group in groupby(plans, key=lambda plan: plan.cell.environment):
            same = list(group)
            with self._workers(same[0].cell) as sessions:
                for plan in same:
                    with locks.held(self._request.results, digest(plan.name)[:32]) as ours:
                        if ours:
                            found[plan.title] = self._tune(plan, sessions)
        return found

    @contextmanager
    def _workers(self, cell: Cell) -> Iterator[list[tuple[Any, Path]]]:
        """Sessions for the cell's environment, with their scratch folders; a worker starts with its first trial."""
        with ExitStack() as stack:
            sessions = []
            for number in range(self._request.workers or self._slots.number):
                scratch = stack.enter_context(records.scratch_folder(self._request.results, f"tune-{number}"))
                sessions.append((stack.enter_context(self._slots.opened(cell, scratch)), scratch))
            yield sessions

    def _tune(self, plan: StudyPlan, sessions: Sequence[tuple[Any, Path]]) -> StudyResult:
        storage = open_storage(self._request.storage, plan.journal)
        with records.writing(self._request.results):
            study = Study(plan.name, storage, plan.search)
            study.allow(plan.trials, self._request.budget.seconds)
            lost = study.recover()
            owner = _Owner(plan, study, self._slots, sessions, self._display)
            if owner.may_start():
                self._check_canaries()
                self._display.running(plan.title)
                self._display.say(owner.announcement(lost))
                owner.run()
                self._display.say(owner.summary())
            return self._result(plan, study, owner)

    def _check_canaries(self) -> None:
        if self._canaries_checked:
            return
        self._display.running("canaries")
        if wrong := wrong_canaries(self._executor):
            raise NothingMeasured(f"nothing was tuned, the harness is wrong: {'; '.join(wrong)}")
        self._canaries_checked = True

    def _result(self, plan: StudyPlan, study: Study, owner: _Owner) -> StudyResult:
        if owner.not_applicable is not None:
            return StudyResult(plan, None, reason=owner.not_applicable)
        if study.best() is None:
            reason = (study.failures() or ["no trial was finished"])[-1]
            return StudyResult(plan, None, reason=f"no trial is complete: {reason}", failed=True)
        winner = _winner(plan, study)
        with records.writing(self._request.tuned):
            return StudyResult(plan, winner, tuned.write(self._request.tuned, winner))


@dataclass
class _Running:
    """A trial in a worker. ``started``: when its seconds began to count, None while the worker warms up."""

    asked: Asked
    session: Any
    scratch: Path
    cold: bool
    losses: int
    """How often its machine has gone before."""
    sent: float = field(default_factory=time.monotonic)
    started: float | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self.started is None else time.monotonic() - self.started


class _Owner:
    """One study's ask and tell. Never more trials than the budget has, none begun once its seconds are spent.

    A trial is stopped when its own limit is reached or the study's seconds are spent. The default is not: what it is
    worth has to be known, so it may take as long as a whole study.
    """

    def __init__(
        self,
        plan: StudyPlan,
        study: Study,
        slots: Slots,
        sessions: Sequence[tuple[Any, Path]],
        display: TuningDisplay,
    ) -> None:
        self._plan = plan
        self._study = study
        self._slots = slots
        self._sessions = sessions
        self._display = display
        self._budget = plan.request.budget
        self._running: dict[Any, _Running] = {}
        self._again: list[tuple[Asked, int]] = []
        """Trials whose machine has gone, and how often."""
        self._reported: set[tuple[int, int]] = set()
        """Number of a trial and step, of each figure that the study knows."""
        self._finished = len(study.finished())
        self._spent = self._spent_before = study.spent()
        self._start = time.monotonic()
        self._starting_s = 0.0
        self._best = _best(study)
        self.not_applicable: str | None = None

    def may_start(self) -> bool:
        """Whether the budget has another trial."""
        handed_out = self._finished + len(self._running) + len(self._again)
        return self.not_applicable is None and handed_out < self._plan.trials and self._left() > 0

    def run(self) -> None:
        """Hand out trials until the budget is spent and the last one has ended."""
        self._start = time.monotonic()
        while True:
            for session, scratch in self._sessions:
                if session not in self._running and self._has_trial() and self._slots.ready(session):
                    self._hand_out(session, scratch)
            if not self._running and not self._has_trial():
                return
            self._slots.wait_for_any(self._running)
            for trial in list(self._running.values()):
                self._follow(trial)
            self._display.trials(self._status())

    def announcement(self, lost: int) -> str:
        known = f", {self._finished} of them known" if self._finished else ""
        given_up = f"; {lost} lost to an interruption" if lost else ""
        return f"{self._plan.title}: {_trials(self._plan.trials)}{known}{given_up}"

    def summary(self) -> str:
        """What this run of the study cost; of what is no fit or scoring, how much was starting workers."""
        spent = self._spent - self._spent_before
        wall = (time.monotonic() - self._start) * len(self._sessions)
        return (
            f"{self._plan.title}: {self._best}, {self._finished}/{_trials(self._plan.trials)}, {spent:.1f} s of fit "
            f"and scoring, {wall - spent:.1f} s beside it ({self._starting_s:.1f} s starting workers)"
        )

    def _has_trial(self) -> bool:
        return bool(self._again) or self.may_start()

    def _hand_out(self, session: Any, scratch: Path) -> None:
        asked, losses = self._again.pop() if self._again else (self._study.ask(), 0)
        trial = _Running(asked, session, scratch, cold=not session.warm, losses=losses)
        self._running[session] = trial
        limits = Limits(START_S, self._budget.trial.memory_bytes)
        self._slots.send(session, self._plan.cell, self._request(trial), limits)

    def _request(self, trial: _Running) -> Event:
        cell, request = self._plan.cell, self._plan.request
        preparation, spec = cell.preparation, cell.choice.spec
        sealed = [*sealed_paths(request.results, preparation), request.tuned]
        return {
            "kind": "trial",
            "plugins": [str(path.resolve()) for path in request.plugins],
            "algorithm": spec.target,
            "config": trial.asked.config,
            "protocol": {"target": preparation.protocol.target, "config": preparation.protocol_config},
            "validation": str(preparation.folder / VALIDATION),
            "forbidden": [str(path) for path in sealed],
            "allowed": [str(trial.scratch)],
            "seed": cell.seed,
            "threads": cell.threads,
            "device": cell.device,
            "seconds": self._seconds_for(trial),
            "calibrate": spec.support[preparation.protocol.task] == CALIBRATED,
            "prune": request.pruner != "none",
        }

    def _limit_of(self, trial: _Running) -> float:
        budget = self._budget
        return max(budget.seconds, budget.trial.seconds) if _is_default(trial) else budget.trial.seconds

    def _seconds_for(self, trial: _Running) -> float:
        return self._limit_of(trial) if _is_default(trial) else min(self._limit_of(trial), self._left())

    def _left(self) -> float:
        """Seconds of the budget, what is running taken off."""
        return self._budget.seconds - self._spent - sum(trial.seconds for trial in self._running.values())

    def _follow(self, trial: _Running) -> None:
        events, ending = trial.session.poll()
        for event in events:
            if event["event"] == "started":
                trial.started = time.monotonic()
                self._starting_s += (trial.started - trial.sent) if trial.cold else 0.0
                trial.session.limit(self._limit_of(trial))
            elif event["event"] == "validated":
                trial.session.answer({"stop": self._gives_up(trial.asked, event["step"], event["figure"])})
        if ending is None and not _is_default(trial) and self._left() <= 0:
            trial.session.close()
            reason = f"stopped: the study's {self._budget.seconds:g} s are spent"
            ending = Ending("timeout", {"reason": reason}, trial.seconds, 0)
        if ending is not None:
            self._finish(trial, ending)

    def _gives_up(self, asked: Asked, step: int, figure: float) -> bool:
        """A trial that began again comes to the same steps: it was not given up there before."""
        if (asked.trial.number, step) in self._reported:
            return False
        self._reported.add((asked.trial.number, step))
        return self._study.gives_up(asked, step, figure)

    def _finish(self, trial: _Running, ending: Ending) -> None:
        del self._running[trial.session]
        if ending.status == LOST and trial.losses + 1 < MAX_LOSSES and self.not_applicable is None:
            self._again.append((trial.asked, trial.losses + 1))
            self._display.say(f"  trial {trial.asked.trial.number} starts again: {ending.reason}")
            return
        if ending.status == "skipped":  # the algorithm cannot serve this data, whatever its options
            self.not_applicable = str(ending.reason)
            self._study.withdraw(trial.asked)
            return
        seconds = ending.event["seconds"] if ending.status == "ok" else trial.seconds
        value = ending.event.get("value")
        if ending.status != "ok":
            self._fail(trial, f"{ending.status}: {ending.reason}", seconds, ending.event.get("traceback"))
        elif value is not None and not math.isfinite(value):
            self._fail(trial, f"its figure is {value}", seconds)
        elif value is None:
            self._study.prune(trial.asked, seconds)
        else:
            self._study.complete(trial.asked, value, ending.event["steps"], seconds)
        self._finished += 1
        self._spent += seconds
        self._best = _best(self._study)

    def _fail(self, trial: _Running, reason: str, seconds: float, traceback: str | None = None) -> None:
        self._study.fail(trial.asked, reason, seconds, traceback)
        self._display.say(f"  trial {trial.asked.trial.number} failed: {reason}")

    def _status(self) -> str:
        running = len(self._running)
        return (
            f"{self._finished}/{self._plan.trials} trials, {running} running, {self._best}, {self._left():.0f} s left"
        )


def _trials(n: int) -> str:
    return "1 trial" if n == 1 else f"{n} trials"


def _is_default(trial: _Running) -> bool:
    return trial.asked.preset == "default"


def _best(study: Study) -> str:
    best = study.best()
    return f"best {fraction(best[1])}" if best else "nothing complete yet"


def _winner(plan: StudyPlan, study: Study) -> Tuned:
    best = study.best()
    assert best is not None
    config, value = best
    cell, request = plan.cell, plan.request
    adapter, spec, preparation = cell.choice.adapter, cell.choice.spec, cell.preparation
    values = study.values()
    return Tuned(
        dataset=preparation.dataset.name,
        protocol=preparation.protocol.name,
        protocol_config=preparation.protocol_config,
        algorithm=spec.name,
        config=_plain(dataclasses.asdict(resolve_config(adapter.Config, config, spec.name))),
        value=value,
        metric=plan.protocol.objective,
        default_value=study.value_of_preset("default"),
        study=plan.name,
        trials=study.counts(),
        seconds=round(study.spent(), 3),
        bound_by="seconds" if study.spent() >= request.budget.seconds or len(values) < plan.trials else "trials",
        budget={"name": request.budget.name, "trials": request.budget.trials, "seconds": request.budget.seconds},
        values=values,
        dataset_fingerprint=cell.meta["dataset"]["fingerprint"],
        split_fingerprint=cell.meta["split"]["fingerprint"],
        split_seed=preparation.split_seed,
        sampler=request.sampler,
        pruner=request.pruner,
        seed=request.seed,
        packages={name: version for name, version in cell.packages.items() if version is not None},
        commit=commit(),
    )


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a storage gives them back: lists for tuples."""
    plain: dict[str, Any] = json.loads(json.dumps(config))
    return plain


def table(result: TuneResult) -> str:
    """What every study found and spent, 80 columns wide; then where the tuned configurations lie."""
    parts = [_table_of(place, list(group)) for place, group in groupby(result.studies, lambda each: each.plan.place)]
    folders = sorted({str(each.path.parent) for each in result.studies if each.path is not None})
    if folders:
        parts.append("\n".join(["tuned configurations:", *(f"  {folder}/" for folder in folders)]))
    parts += [f"{place}: not tuned: {reason}" for place, reason in result.not_measured.items()]
    return "\n\n".join(parts)


def _table_of(place: str, studies: Sequence[StudyResult]) -> str:
    plan = studies[0].plan
    budget = plan.request.budget
    direction = "higher" if plan.protocol.higher_is_better else "lower"
    lines = [
        place,
        f"{plan.protocol.objective} on validation rows, {direction} is better. c/p/f: complete, pruned, failed.",
        f"Budget {budget.name}: {budget.trials} trials or {budget.seconds:g} s of fit and scoring each.",
        f"{'algorithm':<20} {'default':>7} {'tuned':>7}  {'trials':>6} {'c/p/f':>8} {'seconds':>8}  bound by",
        "─" * 70,
    ]
    lines += [_row(each) for each in studies]
    lines += [f"{each.plan.cell.choice.spec.name}: not tuned: {each.reason}" for each in studies if each.tuned is None]
    return "\n".join(lines)


def _row(result: StudyResult) -> str:
    name, found = result.plan.cell.choice.spec.name, result.tuned
    if found is None:
        return f"{name:<20} {'–':>7} {'–':>7}"
    default = "failed" if found.default_value is None else fraction(found.default_value)
    states = "/".join(str(count) for count in found.trials.values())
    bound = found.bound_by if result.plan.search.space else "nothing to tune"
    return (
        f"{name:<20} {default:>7} {fraction(found.value):>7}  {sum(found.trials.values()):>6} {states:>8} "
        f"{found.seconds:>8.1f}  {bound}"
    )
