"""Scores become ratings (†): a monotone map, fitted on validation rows that a train-only fit has scored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datasets.errors import DataError
from datasets.types import FloatArray, IntArray
from protocols.metrics import check_finite

BINS = 20
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Calibration:
    """A non-decreasing, piecewise linear map, constant outside its ends.

    Attributes:
        scores: (t,) float64, strictly ascending.
        ratings: (t,) float64, non-decreasing.
    """

    scores: npt.NDArray[np.float64]
    ratings: npt.NDArray[np.float64]

    def __call__(self, scores: FloatArray) -> npt.NDArray[np.float64]:
        """Ratings float64 for scores of any shape."""
        return np.interp(scores, self.scores, self.ratings)


def cross_fit(
    scores: FloatArray, ratings: FloatArray, users: IntArray, fitted: npt.NDArray[np.bool_], folds: int = FOLDS
) -> npt.NDArray[np.float64]:
    """Every row's rating through a map fitted without the rows of its user, so that no map is judged on what it knows.

    Users are dealt into ``folds`` equal groups by a fixed seed; each group's map is fitted on all the others.

    Args:
        scores, ratings, users: (n,) rows.
        fitted: (n,) which rows maps may be fitted on; all are mapped.

    Returns:
        (n,) float64 ratings.

    Raises:
        DataError: a map would have no rows, such as with one user.
    """
    distinct, place = np.unique(users, return_inverse=True)
    group = np.random.default_rng(0).permutation(len(distinct))[place] % folds
    mapped = np.empty(len(scores), dtype=np.float64)
    for fold in np.unique(group):
        inside = group == fold
        others = fitted & ~inside
        mapped[inside] = fit_calibration(scores[others], ratings[others])(scores[inside])
    return mapped


def fit_calibration(scores: FloatArray, ratings: FloatArray, bins: int = BINS) -> Calibration:
    """Isotonic regression on the means of equal-count bins, weighted by count (Zadrozny & Elkan 2002).

    Binned first, because plain isotonic regression ends in steps that rest on its last few points.

    Args:
        scores, ratings: (n,) validation rows scored by a fit that has not seen them. Equal scores share a bin.

    Raises:
        DataError: no rows.
        ValueError: a score is not finite.
    """
    from sklearn.isotonic import IsotonicRegression  # a second of import that most workers never need

    if not len(scores):
        raise DataError("calibration needs validation rows, there are none: use more data")
    check_finite(scores, "validation scores")
    x, y = np.asarray(scores, np.float64), np.asarray(ratings, np.float64)
    edges = np.quantile(x, np.arange(1, bins) / bins)
    place = np.searchsorted(edges, x, side="right")
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    mean_x = np.bincount(place, weights=x, minlength=bins)[filled] / count[filled]
    mean_y = np.bincount(place, weights=y, minlength=bins)[filled] / count[filled]
    fitted = IsotonicRegression(increasing=True, out_of_bounds="clip").fit(mean_x, mean_y, sample_weight=count[filled])
    return Calibration(
        np.asarray(fitted.X_thresholds_, dtype=np.float64), np.asarray(fitted.y_thresholds_, dtype=np.float64)
    )
