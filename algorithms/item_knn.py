"""Item-kNN: implicit's cosine neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from algorithms import storage
from algorithms.base import Recommender, Shape
from algorithms.config import AtLeast
from algorithms.space import IntUniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray


class ItemKNN(Recommender):
    """Σ over the user's items j of r_uj · cos(j, i), for i among the nearest neighbours of j (Deshpande, Karypis 2004).

    The cosine is of columns of ratings, where a rating of 0 is none; an item is its own nearest neighbour.
    """

    @dataclass(frozen=True)
    class Config:
        neighbours: Annotated[int, "most similar items kept for each item", AtLeast(1)] = 200

    similar_by = "cosine of rating columns, among the neighbours kept"

    SPACE = {"neighbours": IntUniform(10, 1_000, log=True)}

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        from implicit.nearest_neighbours import CosineRecommender
        from implicit.utils import ParameterWarning

        model = CosineRecommender(K=self.config.neighbours, num_threads=run.threads)
        self.ratings = train.interactions.matrix().copy()
        self.ratings.eliminate_zeros()  # the cosine of an item with nothing but ratings of 0 is 0 / 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ParameterWarning)  # about a conversion between its own two functions
            model.fit(self.ratings, show_progress=False)
        self.similarity = model.similarity

    def _score(self, users: IntArray) -> FloatArray:
        return np.asarray((self.ratings[users] @ self.similarity).toarray())

    def _similarities(self, item: int) -> FloatArray:
        neighbours = self.similarity[[item]]
        similarities = np.full(self.n_items, -np.inf)
        similarities[neighbours.indices] = neighbours.data
        return similarities

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        return storage.csr_arrays("ratings", self.ratings) | storage.csr_arrays("similarity", self.similarity)

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.ratings = storage.csr_matrix("ratings", state)
        self.similarity = storage.csr_matrix("similarity", state)

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        neighbours = min(config.neighbours, shape.n_items) * shape.n_items
        return 3 * 12 * neighbours + 2 * 12 * shape.n_rows  # coordinates and CSR of the neighbours; normalised ratings
