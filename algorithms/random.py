"""Random: scores that say nothing, the floor under every figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from algorithms.base import Recommender
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray

_STEP = np.uint64(0x9E3779B97F4A7C15)


class Random(Recommender):
    """Uniform scores in [0, 1) that are a pure function of (seed, user, item), however the questions are batched.

    SplitMix64 (Steele, Lea, Flood 2014), once for the user and once more for the item.
    """

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        self.seed = np.array([run.seed % 2**63], dtype=np.int64)

    def _score(self, users: IntArray) -> FloatArray:
        return self._uniform(users[:, None], np.arange(self.n_items)[None, :])

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        return self._uniform(users, items)

    def _uniform(self, users: IntArray, items: IntArray) -> FloatArray:
        stream = _mix(_mix(self.seed.astype(np.uint64)) + _STEP * (users.astype(np.uint64) + np.uint64(1)))
        bits = _mix(stream + _STEP * (items.astype(np.uint64) + np.uint64(1)))
        uniform: FloatArray = (bits >> np.uint64(11)) * 2.0**-53
        return uniform

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        return {"seed": self.seed}

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.seed = state["seed"]


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser; uint64 arithmetic wraps."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
