"""An algorithm that keeps one core busy for as many rounds as it is told: for measuring how work spreads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from algorithms.base import Recommender
from algorithms.registry import RANKER, AlgorithmSpec
from algorithms.space import Uniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray

_TINY_USERS = 24  # the warm-up fit's size


class Busy(Recommender):
    """A fixed amount of arithmetic, then popularity."""

    @dataclass(frozen=True)
    class Config:
        rounds: Annotated[int, "products of two 200 × 200 matrices"] = 1000
        x: Annotated[float, "something to tune"] = 0.5

    SPACE = {"x": Uniform(0, 1)}

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        rows = train.interactions
        self.counts = np.bincount(rows.items, minlength=rows.n_items) * self.config.x
        if rows.n_users != _TINY_USERS:
            matrix = np.full((200, 200), 0.005)
            for _ in range(self.config.rounds):
                matrix = matrix @ matrix

    def _score(self, users: IntArray) -> FloatArray:
        return np.tile(self.counts, (len(users), 1))


ALGORITHMS = (AlgorithmSpec("busy", "busy:Busy", "a fixed amount of arithmetic", ("numpy",), RANKER),)
