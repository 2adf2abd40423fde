"""What a trial is judged by: validation rows alone, the best step, maps that are not judged on what they know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from algorithms.base import Recommender
from algorithms.types import FitContext, Task, TrainSet
from benchmarks import split_store
from benchmarks.seal import Seal
from benchmarks.split_store import Part
from benchmarks.trial import judge
from datasets.types import Dataset, FloatArray, IntArray, Interactions
from protocols.calibration import cross_fit, fit_calibration
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import EvaluationProtocol

N_USERS, N_ITEMS = 60, 150
CHANCE = sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / 100  # NDCG@10 where all 100 candidates tie
SHARES = (0.2, 0.5, 0.9, 0.6, 0.4, 0.3, 0.3, 0.7)


def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(N_USERS, dtype=np.int32), 8)
    items = np.concatenate([np.sort(rng.choice(N_ITEMS, 8, replace=False)) for _ in range(N_USERS)]).astype(np.int32)
    values = rng.integers(1, 6, len(users)).astype(np.float32)
    rows = Interactions(users, items, values, np.arange(len(users), dtype=np.int64), N_USERS, N_ITEMS)
    return Dataset("toy", rows, np.arange(N_USERS), np.arange(N_ITEMS), (1.0, 5.0), "", "", "")


def known_pairs() -> np.ndarray:
    """All but the test rows, which are among the validation negatives."""
    rated = dataset().interactions.matrix().toarray() > 0
    test = LeaveOneOut().split(dataset(), 42).test
    rated[test.users, test.items] = False
    return rated


TRUTH = known_pairs()


class Clairvoyant(Recommender):
    """Knows every row and, at step s, ranks right for a share of users."""

    @dataclass(frozen=True)
    class Config:
        patience: Annotated[int, "validations without a better figure"] = 0

    seen: int = 0
    stopped_at = 0

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        self.seen = len(train.interactions)
        for step, share in enumerate(SHARES, 1):
            self.share, self.stopped_at = share, step
            if self._step_done(run, step, len(SHARES)):
                return

    def _score(self, users: IntArray) -> FloatArray:
        return np.where((users % 10 < 10 * self.share)[:, None], TRUTH[users], 0.0).astype(np.float64)


def part(folder: Path, protocol: EvaluationProtocol) -> Part:
    split_store.prepare(folder / "split", dataset(), protocol, 42)
    return split_store.load_validation(folder / "split", Task(protocol.task))


@pytest.mark.parametrize(("patience", "steps", "share"), [(0, None, SHARES[-1]), (2, 3, 0.9)])
def test_the_last_step_counts_or_with_patience_the_best(
    tmp_path: Path, patience: int, steps: int | None, share: float
) -> None:
    protocol = LeaveOneOut()
    model = Clairvoyant(Clairvoyant.Config(patience))
    judged = judge(lambda: model, part(tmp_path, protocol), FitContext(), protocol, Seal(), False, None)
    assert judged.steps == steps and judged.seconds > 0
    assert judged.value == pytest.approx(share + (1 - share) * CHANCE, abs=0.01)
    assert model.seen == len(protocol.split(dataset(), 42).train)


def test_the_tuner_is_asked_at_steps_that_trials_share_and_its_word_ends_the_fit(tmp_path: Path) -> None:
    protocol, model, asked = LeaveOneOut(), Clairvoyant(), []

    def stop(step: int, figure: float) -> bool:
        asked.append((step, figure))
        return step == 4

    judged = judge(lambda: model, part(tmp_path, protocol), FitContext(), protocol, Seal(), False, stop)
    assert judged.value is None and model.stopped_at == 4
    ((step, figure),) = asked
    assert step == 4 and figure == pytest.approx(SHARES[3] + (1 - SHARES[3]) * CHANCE, abs=0.01)


class ByUser(Recommender):
    """Scores a pair by its user's number: a map that knows a user's rows gives that user's own mean."""

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        pass

    def _score(self, users: IntArray) -> FloatArray:
        return np.repeat(users[:, None].astype(np.float64), self.n_items, axis=1)


def test_scores_become_ratings_through_cross_fitted_maps_and_cold_pairs_through_biases(tmp_path: Path) -> None:
    protocol = Holdout()
    rows, model = part(tmp_path, protocol), ByUser()
    judged = judge(lambda: model, rows, FitContext(), protocol, Seal(), True, None)
    users, items = rows.question.pair_users, rows.question.pair_items
    cold = model.cold_pairs(users, items)
    assert 0 < cold.sum() < len(cold)
    ratings = cross_fit(users.astype(np.float64), rows.labels["values"], users, ~cold)
    ratings[cold] = model.cold_ratings(users[cold], items[cold])
    error = np.clip(ratings, 1, 5) - rows.labels["values"]
    assert judged.value == pytest.approx(np.sqrt(np.mean(error**2)))


def test_a_row_is_never_mapped_by_a_map_that_knows_its_user() -> None:
    draw = np.random.default_rng(0)
    users = np.repeat(np.arange(20), 6)
    scores, ratings = draw.random(120), draw.integers(1, 6, 120).astype(np.float64)
    everywhere = np.ones(120, dtype=bool)
    before = cross_fit(scores, ratings, users, everywhere)
    for user in range(20):
        own = users == user
        changed = np.where(own, 9.0, ratings)
        after = cross_fit(scores, changed, users, everywhere)
        assert np.array_equal(after[own], before[own])
        assert not np.array_equal(after, before)
    assert np.array_equal(before, cross_fit(scores, ratings, users, everywhere)), "folds are seeded"
    knowing = fit_calibration(scores, ratings)(scores)
    assert np.mean((knowing - ratings) ** 2) < np.mean((before - ratings) ** 2)
