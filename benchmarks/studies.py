"""A study: which configurations were tried and what they gave, kept by Optuna so that ``kill -9`` loses only what runs.

The one place that talks to Optuna. Trials are counted once they are finished: complete, pruned or failed. A trial that
was running when its harness went is lost: it becomes ``FAIL``, its number is in the study's attribute ``lost``, and it
counts for nothing.
"""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileSymlinkLock
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import FrozenTrial, Trial, TrialState

from algorithms.config import shown
from algorithms.space import Choice, IntUniform, LogUniform, Space
from benchmarks.records import writing
from datasets.errors import UserError

optuna.logging.set_verbosity(optuna.logging.WARNING)

STARTUP_TRIALS = 7
"""Both presets and five random draws, before the sampler trusts what it has seen."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Search:
    """What is searched, and how.

    Attributes:
        base: the options of every trial that the space does not set.
        space: option -> its range.
        presets: name -> all options of a configuration that is tried before any other.
    """

    base: Mapping[str, Any]
    space: Mapping[str, Space]
    presets: Mapping[str, Mapping[str, Any]]
    higher_is_better: bool
    sampler: str
    pruner: str
    seed: int


@dataclass(frozen=True)
class Asked:
    """One trial to run. ``preset`` is its name where it is one."""

    trial: Trial
    config: dict[str, Any]
    preset: str | None


class Study:
    """Asks for configurations and is told what they gave. One owner at a time: whoever runs trials holds this object.

    ``name`` is the study's in the storage; one that is there already is gone on with.
    """

    def __init__(self, name: str, storage: BaseStorage, search: Search) -> None:
        self._search = search
        self._distributions = {option: _distribution(space) for option, space in search.space.items()}
        self.name = name
        self._place = getattr(storage, "place", name)
        try:
            self._study = optuna.create_study(
                study_name=name,
                storage=storage,
                sampler=RandomSampler(),  # each trial brings its own, see ask
                pruner=_pruner(search.pruner),
                direction="maximize" if search.higher_is_better else "minimize",
                load_if_exists=True,
            )
            trials = self._study.get_trials()
            attributes = self._study.user_attrs
        except Exception as error:  # whatever Optuna makes of what it did not write
            raise _damaged(self._place, error) from error
        self._require_ours(trials, attributes)

    def _require_ours(self, trials: Sequence[FrozenTrial], attributes: Mapping[str, Any]) -> None:
        """Refuse what this class cannot have written; what it may have is not looked at again."""
        lost, budget = attributes.get("lost", []), attributes.get("budget", [0, 0.0])
        if not (isinstance(lost, list) and all(isinstance(number, int) for number in lost)):
            raise _damaged(self._place, ValueError(f"lost trials cannot be {lost!r:.80}"))
        if not (isinstance(budget, list) and len(budget) == 2 and all(map(_is_amount, budget))):
            raise _damaged(self._place, ValueError(f"a budget cannot be {budget!r:.80}"))
        for trial in trials:
            if trial.number not in lost and (wrong := self._wrong(trial)):
                raise _damaged(self._place, ValueError(f"{wrong} of trial {trial.number} is none that 'tune' writes"))

    def _wrong(self, trial: FrozenTrial) -> str | None:
        """The first attribute of a trial that is none of ours, or None."""
        noted, finished = trial.user_attrs, trial.state in _FINISHED
        config, options = noted.get("config"), self._search.base.keys()
        failed, complete = trial.state is TrialState.FAIL, trial.state is TrialState.COMPLETE
        needed = {
            "seconds": not finished or _is_amount(noted.get("seconds")),
            "draw": "draw" not in noted or isinstance(noted["draw"], int),
            "steps": "steps" not in noted or isinstance(noted["steps"], int),
            "preset": noted.get("preset") is None or isinstance(noted["preset"], str),
            "config": config.keys() == options if isinstance(config, dict) else "preset" not in noted,
            "reason": not failed or isinstance(noted.get("reason"), str),
            "number": isinstance(trial.number, int),
            "value": not complete or _is_number(trial.value),
            "params": not complete or config is not None or trial.params.keys() == self._distributions.keys(),
        }
        return next((name for name, good in needed.items() if not good), None)

    def recover(self) -> int:
        """Give up the trials that a dead owner left running, queue the presets; how many were lost.

        A preset is queued unless it is complete or in the queue already.
        """
        running = [trial.number for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        self._lose(running)
        done_or_queued = (TrialState.COMPLETE, TrialState.WAITING)
        known = {trial.user_attrs.get("preset") for trial in self._study.get_trials(False, done_or_queued)}
        for preset, config in self._search.presets.items():
            if preset not in known:
                self._study.enqueue_trial(self._params(config), {"preset": preset, "config": dict(config)})
        return len(running)

    def allow(self, trials: int, seconds: float) -> None:
        """Note the budget that the study is run under.

        Raises:
            UserError: it had a larger one before, so that it knows more than others of the smaller one could.
        """
        before = self._study.user_attrs.get("budget", [0, 0.0])
        if before[0] > trials or before[1] > seconds:
            raise UserError(
                f"{self.name}: was run under a budget of {before[0]} trials and {before[1]:g} s, larger than {trials} "
                f"and {seconds:g} s: take at least that, or another folder (--results FOLDER)"
            )
        self._study.set_user_attr("budget", [trials, seconds])

    def ask(self) -> Asked:
        """The next trial: a queued preset, else what the sampler proposes.

        Every trial has a sampler of its own, whose seed is the first number that no finished or running trial has: a
        study that was killed draws again what was lost, and nothing else twice.
        """
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        taken = {trial.user_attrs.get("draw") for trial in [*self.finished(), *running]}
        draw = next(number for number in itertools.count() if number not in taken)
        self._study.sampler = _sampler(self._search.sampler, 1_000 * self._search.seed + draw)
        trial = self._study.ask()
        trial.set_user_attr("draw", draw)
        preset = trial.user_attrs.get("preset")
        if preset is None:
            return Asked(trial, {**self._search.base, **self._suggest_all(trial)}, None)
        config = trial.user_attrs["config"]
        if self._params(config):
            self._suggest_all(trial)  # which gives what was queued
        return Asked(trial, config, preset)

    def gives_up(self, asked: Asked, step: int, figure: float) -> bool:
        """Note a figure of a running trial; whether it is to be pruned. Presets never are: both are told of."""
        asked.trial.report(figure, step)
        return asked.preset is None and bool(asked.trial.should_prune())  # which may be a NumPy one

    def complete(self, asked: Asked, value: float, steps: int | None, seconds: float) -> None:
        self._note(asked, seconds, steps=steps)
        self._study.tell(asked.trial, value)

    def prune(self, asked: Asked, seconds: float) -> None:
        self._note(asked, seconds)
        self._study.tell(asked.trial, state=TrialState.PRUNED)

    def fail(self, asked: Asked, reason: str, seconds: float, traceback: str | None = None) -> None:
        self._note(asked, seconds, reason=reason, traceback=traceback)
        self._study.tell(asked.trial, state=TrialState.FAIL)

    def withdraw(self, asked: Asked) -> None:
        """Take a running trial back: it counts for nothing."""
        self._lose([asked.trial.number])

    def finished(self) -> list[FrozenTrial]:
        """Every trial that counts, in order."""
        lost = set(self._lost())
        return [trial for trial in self._study.get_trials(False, _FINISHED) if trial.number not in lost]

    def spent(self) -> float:
        """Seconds of fit and scoring of the finished trials."""
        return math.fsum(trial.user_attrs["seconds"] for trial in self.finished())

    def counts(self) -> dict[str, int]:
        """How many finished trials are complete, pruned, failed."""
        states = [trial.state for trial in self.finished()]
        kinds = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        return {name: states.count(state) for name, state in kinds.items()}

    def values(self) -> list[float | None]:
        """Validation value of every finished trial in order; None: pruned or failed."""
        return [trial.value if trial.state is TrialState.COMPLETE else None for trial in self.finished()]

    def value_of_preset(self, preset: str) -> float | None:
        return next((value for trial, value in self._complete() if trial.user_attrs.get("preset") == preset), None)

    def best(self) -> tuple[dict[str, Any], float] | None:
        """Configuration and value of the best complete trial, the earliest of equal ones."""
        sign = 1 if self._search.higher_is_better else -1
        ranked = sorted(self._complete(), key=lambda pair: (-sign * pair[1], pair[0].number))
        if not ranked:
            return None
        trial, value = ranked[0]
        return trial.user_attrs.get("config") or {**self._search.base, **trial.params}, value

    def failures(self) -> list[str]:
        """Reasons of the failed trials, in order."""
        return [trial.user_attrs["reason"] for trial in self.finished() if trial.state is TrialState.FAIL]

    def _complete(self) -> list[tuple[FrozenTrial, float]]:
        return [
            (trial, trial.value)
            for trial in self.finished()
            if trial.state is TrialState.COMPLETE and trial.value is not None
        ]

    def _lose(self, running: Sequence[int]) -> None:
        if running:  # first the mark: a kill in between must not leave a trial that counts
            self._study.set_user_attr("lost", sorted({*self._lost(), *running}))
        for number in running:
            self._study.tell(number, state=TrialState.FAIL)

    def _lost(self) -> Sequence[int]:
        return self._study.user_attrs.get("lost", [])

    def _suggest_all(self, trial: Trial) -> dict[str, Any]:
        return {option: _suggest(trial, option, kind) for option, kind in self._distributions.items()}

    def _params(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """``config`` as a point of the space; {} where it is none, so that the sampler learns nothing wrong from it."""
        base, space = self._search.base, self._search.space
        same_elsewhere = all(config[option] == base[option] for option in base.keys() - space.keys())
        if not same_elsewhere or not all(_is_inside(config[option], space[option]) for option in space):
            return {}
        return {option: _as_parameter(config[option]) for option in space}

    def _note(self, asked: Asked, seconds: float, **more: object) -> None:
        for name, value in {"seconds": seconds, **more}.items():
            if value is not None:
                asked.trial.set_user_attr(name, value)


def open_storage(url: str | None, journal: Path) -> BaseStorage:
    """The data base at ``url``, or the file ``journal``; the caller holds the study's lock, see ``locks.py``.

    Raises:
        UserError: the data base cannot be reached.
        NotWritableError: the journal's folder cannot be written.
    """
    if url is not None:
        return _data_base(url)
    with writing(journal.parent):
        journal.parent.mkdir(parents=True, exist_ok=True)
        return _open_journal(journal)


class _Held(JournalFileSymlinkLock):
    """Nothing to do for each write: the owner holds the journal for as long as it runs.

    Optuna's own lock would outlive a killed owner and stop the next one for half a minute.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _damaged(where: str, error: Exception) -> UserError:
    reason = str(error) or type(error).__name__
    return UserError(f"{where}: this study is damaged ({reason:.300}): restore it, or delete or move it to begin anew")


def _open_journal(journal: Path) -> BaseStorage:
    """The study in ``journal``, once it is sure that each of its lines can be used.

    A last line that was not written to its end is what a kill leaves, and NULs at the end, after it or instead of it,
    what a power cut leaves of a file whose last blocks never reached the disk: both are taken back. Whatever else
    Optuna would stumble over, or skip without a word, stays as it is and is the user's to look at.
    """
    content = journal.read_bytes() if journal.exists() else b""
    text = content.rstrip(b"\0")
    whole, end, torn = text.rpartition(b"\n")
    if not torn.startswith(_LINE[: len(torn)]):
        raise _damaged(f"{journal}:{text.count(end) + 1 if end else 1}", ValueError("no line of a journal"))
    lines = _Lines(whole.split(b"\n") if end else [])
    try:
        JournalStorage(lines)
    except Exception as error:  # whatever Optuna makes of lines that it did not write
        raise _damaged(f"{journal}:{lines.number}", error) from error
    if len(content) > len(whole + end):
        with journal.open("r+b") as file:
            file.truncate(len(whole + end))
    return _Journal(journal)


class _Journal(JournalStorage):
    """A journal that can say its place."""

    def __init__(self, path: Path) -> None:
        super().__init__(JournalFileBackend(str(path), lock_obj=_Held(str(path))))
        self.place = str(path)


class _DataBase(RDBStorage):
    """A data base that can say its place."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.place = f"--storage {_without_password(url)}"


_LINE = b'{"op_code":'
"""How a line of a journal begins."""


class _Lines(BaseJournalBackend):
    """Lines of a journal, each of which must be an operation that Optuna knows, on a trial that may be changed.

    Optuna leaves out what is said of trials that are unknown or finished, and what other lines say after a lost or
    repeated one.

    Attributes:
        number: the line, from 1, that was read last.
    """

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._lines = lines
        self.number = 0
        self._studies: set[str] = set()
        self._states: list[int] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        for line in self._lines[log_number_from:]:
            self.number += 1
            try:
                log = json.loads(line)
                self._check(log, log["op_code"])
            except (TypeError, KeyError, RecursionError) as error:
                raise ValueError(f"no operation: {type(error).__name__} {error}") from error
            yield log

    def _check(self, log: dict[str, Any], operation: int) -> None:
        if operation == JournalOperation.CREATE_STUDY:
            self._studies.add(log["study_name"])
        elif operation in _OF_STUDIES:
            if not 0 <= log["study_id"] < len(self._studies):
                raise ValueError(f"there is no study {log['study_id']}")
            if operation == JournalOperation.CREATE_TRIAL:
                self._states.append(log.get("state", TrialState.RUNNING))
        elif operation in _OF_TRIALS:
            trial = log["trial_id"]
            if not 0 <= trial < len(self._states):
                raise ValueError(f"there is no trial {trial}")
            if self._states[trial] in _FINISHED:
                raise ValueError(f"trial {trial} is finished, and changed again")
            if operation == JournalOperation.SET_TRIAL_STATE_VALUES:
                self._states[trial] = log["state"]
        else:
            raise ValueError(f"operation {operation} is none of ours")


_OF_STUDIES = (
    JournalOperation.SET_STUDY_USER_ATTR,
    JournalOperation.SET_STUDY_SYSTEM_ATTR,
    JournalOperation.CREATE_TRIAL,
)
_OF_TRIALS = (
    JournalOperation.SET_TRIAL_PARAM,
    JournalOperation.SET_TRIAL_STATE_VALUES,
    JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE,
    JournalOperation.SET_TRIAL_USER_ATTR,
    JournalOperation.SET_TRIAL_SYSTEM_ATTR,
)


def _data_base(url: str) -> BaseStorage:
    try:
        return _DataBase(url)
    except Exception as error:  # no URL, no driver, no data base, one of another schema
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"--storage {_without_password(url)}: {reason:.300}: a data base's URL is required, such as "
            "sqlite:///tuning.db"
        ) from error


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return repr(url[:80])


def _distribution(space: Space) -> BaseDistribution:
    if isinstance(space, Choice):
        return CategoricalDistribution([_as_parameter(value) for value in space.values])
    if isinstance(space, IntUniform):
        return IntDistribution(space.low, space.high, log=space.log)
    return FloatDistribution(space.low, space.high, log=isinstance(space, LogUniform))


def _as_parameter(value: Any) -> Any:
    """What a storage can hold: tuples become text, which a ``Config`` reads as well."""
    return shown(value) if isinstance(value, list | tuple) else value


def _is_number(value: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def _is_amount(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_inside(value: Any, space: Space) -> bool:
    if isinstance(space, Choice):
        return _as_parameter(value) in map(_as_parameter, space.values)
    return value is not None and value in space


def _suggest(trial: Trial, option: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(option, kind.choices)
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(option, kind.low, kind.high, log=kind.log)
    assert isinstance(kind, FloatDistribution)
    return trial.suggest_float(option, kind.low, kind.high, log=kind.log)


def _sampler(name: str, seed: int) -> BaseSampler:
    if name == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # group has been one since Optuna 2.8
        return TPESampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,  # of Optuna's 10, half of a budget of 20 would be random
            n_ei_candidates=24,  # Optuna's own: draws of the good density, of which the most promising is tried
            multivariate=True,  # options depend on each other: factors on reg, learning rate on epochs
            group=True,  # a preset outside the space is no point of it; without groups that would end the joint model
            constant_liar=True,  # what runs beside counts as poor, so that two workers do not try the same
        )


def _pruner(name: str) -> BasePruner:
    if name == "none":
        return NopPruner()
    return MedianPruner(
        n_startup_trials=STARTUP_TRIALS,  # complete trials before any is pruned
        n_warmup_steps=0,  # figures come from step 4 on
        interval_steps=1,  # each of them decides
        n_min_trials=4,  # a median of fewer says nothing
    )
