"""Calibration: monotone, flat outside its ends, and sound where plain isotonic regression is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from algorithms.base import Recommender
from algorithms.types import FitContext, Task, TrainSet
from benchmarks import split_store
from benchmarks.seal import Seal
from benchmarks.worker import measure
from datasets.errors import DataError
from datasets.types import Dataset, Interactions
from protocols.calibration import fit_calibration
from protocols.holdout import Holdout
from protocols.splits import random_holdout


def test_bins_hold_equal_counts_and_their_means() -> None:
    scores, ratings = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 5.0])
    calibration = fit_calibration(scores, ratings, bins=2)
    assert calibration.scores.tolist() == [1.5, 3.5]
    assert calibration.ratings.tolist() == [1.5, 4.0]
    assert calibration(np.array([-9.0, 1.5, 2.5, 3.5, 9.0])).tolist() == [1.5, 1.5, 2.75, 4.0, 4.0]


def test_bins_against_the_trend_are_pooled_by_count() -> None:
    scores = np.array([0.0, 1.0, 2.0, 2.0, 2.0, 3.0])  # the tied scores share a bin: counts 1, 1, 3, 1
    ratings = np.array([1.0, 4.0, 2.0, 2.0, 2.0, 5.0])
    calibration = fit_calibration(scores, ratings, bins=6)
    assert calibration(scores) == pytest.approx([1.0, 2.5, 2.5, 2.5, 2.5, 5.0])


def test_equal_scores_give_the_mean_rating() -> None:
    calibration = fit_calibration(np.full(50, 0.3, dtype=np.float32), np.tile([2.0, 4.0], 25))
    assert calibration(np.array([[0.0, 0.3], [0.5, 9.0]])) == pytest.approx(np.full((2, 2), 3.0))


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 5)), min_size=1, max_size=80),
    st.lists(st.floats(-9, 9), min_size=2, max_size=20),
)
def test_the_map_is_monotone_and_inside_the_ratings(rows: list[tuple[float, int]], asked: list[float]) -> None:
    scores, ratings = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    answers = fit_calibration(scores, ratings)(np.sort(asked))
    assert (np.diff(answers) >= -1e-12).all()
    assert answers.min() >= ratings.min() - 1e-9 and answers.max() <= ratings.max() + 1e-9


def test_noise_costs_less_than_with_plain_isotonic_regression() -> None:
    """Scores that tell nothing: the map must stay near the mean, also at its ends."""
    rng = np.random.default_rng(1)
    scores, ratings = rng.normal(size=3_000), rng.uniform(1, 9, size=3_000)
    extreme = np.array([-4.0, 4.0])
    binned = fit_calibration(scores, ratings)(extreme)
    plain = IsotonicRegression(out_of_bounds="clip").fit(scores, ratings).predict(extreme)
    assert np.abs(binned - 5).max() < 0.6 < np.abs(plain - 5).max()


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(DataError, match="no"):
        fit_calibration(np.empty(0), np.empty(0))
    with pytest.raises(ValueError, match="1 of 2 validation scores are not finite"):
        fit_calibration(np.array([1.0, np.nan]), np.array([1.0, 2.0]))


def test_a_cell_is_calibrated_on_validation_rows_of_a_train_only_fit(tmp_path: Path) -> None:
    """Training ratings are 4, validation 2, test 5: the map that rests on validation rows alone says 2 everywhere."""
    n_users, n_items = 20, 12
    rows_of_fits = []

    class PairIndex(Recommender):
        """A ranking model with a score of its own for every pair."""

        def _fit(self, train: TrainSet, run: FitContext) -> None:
            rows_of_fits.append(len(train.interactions))

        def _score(self, users: np.ndarray) -> np.ndarray:
            return users[:, None] * float(self.n_items) + np.arange(self.n_items)

    division = random_holdout(n_users * n_items, 42)
    users, items = np.divmod(np.arange(n_users * n_items, dtype=np.int32), np.int32(n_items))
    values = np.where(division.test, 5, np.where(division.valid, 2, 4)).astype(np.float32)
    rows = Interactions(users, items, values, None, n_users, n_items)
    dataset = Dataset("dense", rows, np.arange(n_users), np.arange(n_items), (1.0, 5.0), "", "", "")
    folder = tmp_path / "split"
    split_store.prepare(folder, dataset, Holdout(), 42)
    measured = measure(
        PairIndex,
        split_store.load_train_set(folder / "fit", Task.RATING),
        FitContext(),
        Holdout(),
        lambda: (
            split_store.load_question(folder),
            split_store.load_labels(folder),
            split_store.load_seen(folder / "fit"),
        ),
        Seal(),
        validation=split_store.load_validation(folder, Task.RATING),
        calibrate=True,
    )
    assert measured.outcomes["sum_y"].sum() == 5 * division.test.sum()
    assert measured.metrics["rmse"] == pytest.approx(3)
    assert rows_of_fits[1:] == [division.train.sum(), (~division.test).sum()]  # the first is the warm-up
