"""Calibration: monotone, flat outside its ends, and sound where plain isotonic regression is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from datasets.errors import DataError
from protocols.calibration import fit_calibration


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
