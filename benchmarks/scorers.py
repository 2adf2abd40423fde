"""A fitted model as an evaluation sees it."""

from __future__ import annotations

from collections.abc import Callable

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

    def score(self, users: IntArray) -> FloatArray:
        with self._seal.adapter():
            scores = self._model.score(users)
        self._progress(len(users))
        return scores

    def score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        with self._seal.adapter():
            return self._model.score_pairs(users, items)


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
