"""A fitted model as an evaluation sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms.base import Recommender
from benchmarks.seal import Seal
from datasets.types import FloatArray, IntArray
from protocols.calibration import Calibration


class SealedScorer:
    """The seal is on while the model computes."""

    def __init__(self, model: Recommender, seal: Seal, progress: Callable[[int], None] = lambda users: None) -> None:
        self._model = model
        self._seal = seal
        self._progress = progress

    @property
    def lists_from_scores(self) -> bool:
        return self._model.lists_from_scores

    def score(self, users: IntArray) -> FloatArray:
        with self._seal.adapter():
            scores = self._model.score(users)
        self._progress(len(users))
        return scores

    def score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        with self._seal.adapter():
            return self._model.score_pairs(users, items)

    def recommend(
        self, users: IntArray, k: int, exclude: sparse.csr_matrix, scores: FloatArray | None = None
    ) -> npt.NDArray[np.int32]:
        with self._seal.adapter():
            return self._model.recommend(users, k, exclude, scores)


class CalibratedScorer(SealedScorer):
    """A ranking model as a rating protocol sees it (†): scores through the map, cold pairs by damped biases."""

    def __init__(self, model: Recommender, seal: Seal, calibration: Calibration) -> None:
        super().__init__(model, seal)
        self._calibration = calibration

    def score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        ratings = self._calibration(super().score_pairs(users, items))
        cold = self._model.cold_pairs(users, items)
        ratings[cold] = self._model.cold_ratings(users[cold], items[cold])
        return ratings
