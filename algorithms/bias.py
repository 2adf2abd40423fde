"""Bias: damped item and user means, the line that a rating model must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from algorithms.base import DampedBias, Recommender
from algorithms.config import AtLeast
from algorithms.space import LogUniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray


class Bias(Recommender):
    """r̂ = μ + b_u + b_i by damped means, items first, then users (Koren, Bell, Volinsky 2009, after Funk 2006)."""

    predicts_ratings = True
    scores_cold = True

    @dataclass(frozen=True)
    class Config:
        damping: Annotated[float, "rows at the mean added to each item and user", AtLeast(0)] = 5.0

    SPACE = {"damping": LogUniform(0.5, 100)}

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        self.means = DampedBias.fit(train.interactions, self.config.damping)

    def _score(self, users: IntArray) -> FloatArray:
        return self.means.predict(users[:, None], np.arange(self.n_items)[None, :])

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        return self.means.predict(users, items)

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        return dict(vars(self.means))

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.means = DampedBias(**{name: state[name] for name in DampedBias.__dataclass_fields__})
