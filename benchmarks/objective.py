"""What a model is worth while it is still being chosen: the protocol's objective on validation rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms.base import Recommender
from benchmarks.scorers import SealedScorer
from benchmarks.seal import Seal
from benchmarks.split_store import Part
from datasets.types import FloatArray, IntArray
from protocols.calibration import cross_fit
from protocols.metrics import score_pairs
from protocols.types import EvaluationProtocol, Scorer


def objective(model: Recommender, part: Part, protocol: EvaluationProtocol, seal: Seal, calibrate: bool) -> float:
    """``protocol.objective`` of a model that can score: NDCG@10 among sampled candidates, or RMSE.

    ``calibrate``: scores become ratings first, as ``CalibratedScorer`` has it but for the maps, which are cross-fitted
    over the validation rows' users: a map must not be judged on the rows it comes from.
    """
    scorer = SealedScorer(model, seal)
    return _figure(_Answered(_cross_fitted(model, scorer, part, seal)) if calibrate else scorer, part, protocol)


def _cross_fitted(model: Recommender, scorer: SealedScorer, part: Part, seal: Seal) -> npt.NDArray[np.float64]:
    users, items = part.question.pair_users, part.question.pair_items
    scores = score_pairs(scorer, users, items)
    with seal.adapter():
        cold = model.cold_pairs(users, items)
    ratings = cross_fit(scores, part.labels["values"].astype(np.float64), users, ~cold)
    ratings[cold] = model.cold_ratings(users[cold], items[cold])
    return ratings


def _figure(scorer: Scorer, part: Part, protocol: EvaluationProtocol) -> float:
    nobody = part.question.rank_users[:0]  # the objective is about pairs: no catalogue is ranked
    outcomes = protocol.evaluate(scorer, part.question.for_users(nobody), part.labels, part.seen)
    return protocol.metrics(outcomes)[protocol.objective]


class _Answered:
    """A scorer whose answers are known already, in the order of the question."""

    lists_from_scores = True

    def __init__(self, ratings: npt.NDArray[np.float64]) -> None:
        self._ratings = ratings
        self._asked = 0

    def score(self, users: IntArray) -> FloatArray:
        raise NotImplementedError("only pairs have been answered")

    def score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        start, self._asked = self._asked, self._asked + len(users)
        return self._ratings[start : self._asked]

    def recommend(
        self, users: IntArray, k: int, exclude: sparse.csr_matrix, scores: FloatArray | None = None
    ) -> npt.NDArray[np.int32]:
        raise NotImplementedError("only pairs have been answered")
