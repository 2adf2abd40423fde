"""Popularity: one order of items for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from algorithms.base import Recommender
from algorithms.config import AtLeast
from algorithms.space import Choice, LogUniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray, Interactions


class Popularity(Recommender):
    """Items by their number of training rows, or by their mean rating, plain or damped towards the global mean.

    ``damped-mean`` is (Σr + damping · μ) / (n + damping), the "weighted rating" of film charts. An item without a
    training row has count 0 and mean μ.
    """

    @dataclass(frozen=True)
    class Config:
        by: Annotated[Literal["count", "mean", "damped-mean"], "what makes an item popular"] = "count"
        damping: Annotated[float, "rows at the global mean added to each item, for damped-mean", AtLeast(0)] = 5.0

    SPACE = {"by": Choice(("count", "mean", "damped-mean")), "damping": LogUniform(1, 1_000)}

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        rows = train.interactions
        damping = self.config.damping if self.config.by == "damped-mean" else 0.0
        counts = np.bincount(rows.items, minlength=rows.n_items)
        self.item_scores = counts.astype(np.float64) if self.config.by == "count" else _means(rows, counts, damping)

    def _score(self, users: IntArray) -> FloatArray:
        return np.tile(self.item_scores, (len(users), 1))

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        return self.item_scores[items]

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"item_scores": self.item_scores}

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.item_scores = state["item_scores"]


def _means(rows: Interactions, counts: npt.NDArray[np.int64], damping: float) -> npt.NDArray[np.float64]:
    mean = rows.values.mean(dtype=np.float64)
    sums = np.bincount(rows.items, rows.values, rows.n_items) + damping * mean
    return np.divide(sums, counts + damping, out=np.full(rows.n_items, mean), where=counts + damping > 0)
