"""One epoch or sweep, and the scoring of candidates, of every registered algorithm on a fixed small set."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from algorithms.base import Recommender
from algorithms.config import resolve_config
from algorithms.registry import ALGORITHMS, NATIVE, load_class
from algorithms.registry import spec as find_spec
from algorithms.types import FitContext, Task, TrainSet
from benchmarks import split_store
from datasets.planted_genres import PlantedGenres
from performance import controls
from protocols.leave_one_out import LeaveOneOut
from protocols.types import Question

pytestmark = pytest.mark.benchmark(timer=time.process_time, disable_gc=True)

Against = Callable[[Callable[[], object], Callable[[], object]], None]


FACTORS = {"fit": 1.15, "score": 1.3}
"""Scoring is mostly memory traffic: with other work on the machine the ratio of popularity was seen 21 % up."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    kind = metafunc.function.__name__.removeprefix("test_")
    metafunc.parametrize("algorithm", [pytest.param(name, marks=_marker(kind, name), id=name) for name in ALGORITHMS])


def _marker(kind: str, name: str) -> pytest.MarkDecorator:
    return pytest.mark.regress(f"{kind}/{name}", factor=FACTORS[kind], algorithm=name)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split of 60,000 ratings of 2,000 users, with genres and times, and 100 candidates a user."""
    folder = tmp_path_factory.mktemp("split") / "small"
    split_store.prepare(folder, PlantedGenres().load([]), LeaveOneOut(), 42)
    return folder


def test_fit(algorithm: str, prepared: Path, against: Against) -> None:
    _fitted(algorithm, prepared)  # first, since it sets up its framework, which a control must not
    against(lambda: _fitted(algorithm, prepared), _control(algorithm))


def test_score(algorithm: str, prepared: Path, against: Against) -> None:
    model, question = _fitted(algorithm, prepared), _question(prepared)
    against(lambda: model.score_pairs(question.pair_users, question.pair_items), _control(algorithm))


@cache
def _control(algorithm: str) -> Callable[[], object]:
    return controls.for_extra(find_spec(algorithm).extra)


def _fitted(algorithm: str, prepared: Path) -> Recommender:
    """After one epoch or sweep, with the options of the preset ``default``."""
    spec = find_spec(algorithm)
    task = next((task for task, support in spec.support.items() if support == NATIVE), next(iter(spec.support)))
    adapter = load_class(spec)
    model = adapter(resolve_config(adapter.Config, spec.presets["default"], algorithm))
    return model.fit(_train_set(prepared, Task(task)), FitContext(fixed_steps=1))


@cache
def _train_set(prepared: Path, task: Task) -> TrainSet:
    return split_store.load_train_set(prepared / "fit", task)


@cache
def _question(prepared: Path) -> Question:
    return split_store.load_question(prepared)
