"""Early stopping: which step it finds, on which rows, and what the final fit gets of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from algorithms.base import Recommender
from algorithms.types import FitContext, Task, TrainSet
from benchmarks import split_store
from benchmarks.seal import Seal
from benchmarks.search import EarlyStopping
from benchmarks.worker import Measurement, measure
from datasets.types import Dataset, Interactions
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import EvaluationProtocol

N_USERS, N_ITEMS = 60, 150


def run_through(figures: list[float], patience: int, higher_is_better: bool = True) -> tuple[int, int | None]:
    """At which step it stops (or ends), and the best step."""
    coming: Iterator[float] = iter(figures)
    stopping = EarlyStopping(patience, higher_is_better)
    step = next((step for step in range(1, len(figures) + 1) if stopping(step, next(coming))), len(figures))
    return step, stopping.best_step


@pytest.mark.parametrize(
    ("figures", "patience", "expected"),
    [
        ([0.1, 0.2, 0.3, 0.2, 0.1, 0.9], 2, (5, 3)),
        ([0.3, 0.2, 0.4, 0.3, 0.3], 2, (5, 3)),
        ([0.3, 0.3, 0.3], 1, (2, 1)),  # an equal figure is no better one
        ([0.1, 0.2, 0.3], 1, (3, 3)),
    ],
)
def test_it_stops_after_patience_and_remembers_the_best(
    figures: list[float], patience: int, expected: tuple[int, int]
) -> None:
    assert run_through(figures, patience) == expected
    assert run_through([-figure for figure in figures], patience, higher_is_better=False) == expected


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(N_USERS, dtype=np.int32), 8)
    items = np.concatenate([np.sort(rng.choice(N_ITEMS, 8, replace=False)) for _ in range(N_USERS)]).astype(np.int32)
    values = rng.integers(1, 6, len(users)).astype(np.float32)
    rows = Interactions(users, items, values, np.arange(len(users), dtype=np.int64), N_USERS, N_ITEMS)
    return Dataset("toy", rows, np.arange(N_USERS), np.arange(N_ITEMS), (1.0, 5.0), "", "", "")


class Clairvoyant(Recommender):
    """Knows every row and, at each step, answers right for a share of users: best at step 3 of 6."""

    SHARES = (0.2, 0.5, 0.9, 0.6, 0.4, 1.0)
    fits: list[dict[str, Any]]

    @dataclass(frozen=True)
    class Config:
        patience: Annotated[int, "validations without a better figure"] = 2

    predicts_ratings = True
    scores_cold = True

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        fit = {"rows": len(train.interactions), "steps": 0, "fixed": run.fixed_steps}
        self.fits.append(fit)
        for step in range(self._steps(run, len(self.SHARES))):
            self.share = self.SHARES[step]
            fit["steps"] = step + 1
            if self._step_done(run, step + 1, len(self.SHARES)):
                return

    def _score(self, users: np.ndarray) -> np.ndarray:
        scores = np.where((users % 10 < 10 * self.share)[:, None], self.truth[users], 0.0)
        return np.asarray(scores, dtype=np.float64)

    truth: np.ndarray


def measured_cell(tmp_path: Path, protocol: EvaluationProtocol, patience: int) -> tuple[Measurement, list[dict]]:
    data = dataset()
    folder = tmp_path / "split"
    split_store.prepare(folder, data, protocol, 42)
    task = Task(protocol.task)

    class Model(Clairvoyant):
        fits: list[dict[str, Any]] = []
        truth = data.interactions.matrix().toarray() + (1.0 if task is Task.RANKING else 0.0)

    measured = measure(
        lambda: Model(Model.Config(patience=patience)),
        split_store.load_train_set(folder / "fit", task),
        FitContext(),
        protocol,
        lambda: (
            split_store.load_question(folder),
            split_store.load_labels(folder),
            split_store.load_seen(folder / "fit"),
        ),
        Seal(),
        validation=split_store.load_validation(folder, task) if patience else None,
    )
    return measured, Model.fits


@pytest.mark.parametrize("protocol", [LeaveOneOut(), Holdout()], ids=["ranking", "rating"])
def test_the_best_step_of_a_train_only_fit_is_refitted_on_train_and_valid(
    tmp_path: Path, protocol: EvaluationProtocol
) -> None:
    split = protocol.split(dataset(), 42)
    measured, (warm_up, search, final) = measured_cell(tmp_path, protocol, patience=2)
    assert warm_up["steps"] == 1
    assert search == {"rows": len(split.train), "steps": 5, "fixed": None}
    assert final == {"rows": len(split.train) + len(split.valid), "steps": 3, "fixed": 3}
    assert measured.timings["steps"] == 3 and measured.timings["search_s"] > 0


def test_without_patience_there_is_no_search(tmp_path: Path) -> None:
    measured, (_, final) = measured_cell(tmp_path, LeaveOneOut(), patience=0)
    assert final["steps"] == 6 and final["fixed"] is None
    assert measured.timings["steps"] is None and measured.timings["search_s"] == 0
