"""The oracle: the best that any model could do, on generated data whose truth is known.

It is no algorithm: only the harness makes one, and what it knows lies where adapters cannot read.
"""

from __future__ import annotations

from algorithms.base import FactorRecommender
from algorithms.registry import NATIVE, AlgorithmSpec
from algorithms.types import FitContext, Task, TrainSet
from datasets.types import Truth

ORACLE = AlgorithmSpec(
    name="oracle",
    target=f"{__name__}:Oracle",
    summary="the truth that the data were drawn from: no model can do better but by luck",
    packages=("numpy",),
    support={"ranking": NATIVE, "rating": NATIVE},
    control=True,
)


class Oracle(FactorRecommender):
    """Ranks by the probability of a draw and rates by the value without noise; learns nothing."""

    predicts_ratings = True

    def __init__(self, truth: Truth) -> None:
        super().__init__()
        self._truth = truth

    @property
    def scores_cold(self) -> bool:
        return True

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        known = self._truth.ranking if train.task is Task.RANKING else self._truth.rating
        self.user_factors, self.item_factors = known.user_factors, known.item_factors
        self.user_bias, self.item_bias = known.user_bias, known.item_bias
