"""Content cosine: metadata of items only, no collaboration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms._metadata import item_metadata, unit_rows
from algorithms.base import FactorRecommender, Recommender
from algorithms.space import Choice
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray, Interactions


class ContentCosine(FactorRecommender):
    """Cosine of an item's metadata vector and the user's profile, the weighted sum of the unit vectors of rated items.

    The Rocchio profile of content-based filtering (Lops, de Gemmis, Semeraro 2011). A profile or item without metadata
    has cosine 0.
    """

    @dataclass(frozen=True)
    class Config:
        weights: Annotated[
            Literal["one", "rating", "centred"], "what a rated item weighs: 1, its rating, or rating − user's mean"
        ] = "rating"
        numbers: Annotated[bool, "metadata includes numbers such as the year, not only categories"] = True

    lists_from_scores = True
    recommend = Recommender.recommend  # from scores, whose ties are exact
    similar_by = "cosine of item metadata"

    SPACE = {"weights": Choice(("one", "rating", "centred")), "numbers": Choice((False, True))}

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        vectors = unit_rows(item_metadata(train, self.config.numbers, "content-cosine"))
        self._set_items(vectors)
        self.user_factors = unit_rows(_weights(train.interactions, self.config.weights) @ vectors)

    @property
    def uses_item_metadata(self) -> bool:
        return True

    def _score(self, users: IntArray) -> FloatArray:
        """Through the distinct vectors, so that items with the same metadata tie exactly, whatever BLAS does."""
        return (self.user_factors[users] @ self.distinct.T)[:, self.vector_of_item]

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        super()._restore(state)
        self._set_items(state["item_factors"])

    def _set_items(self, vectors: FloatArray) -> None:
        self.item_factors = vectors
        self.distinct, self.vector_of_item = np.unique(vectors, axis=0, return_inverse=True)


def _weights(rows: Interactions, kind: str) -> sparse.csr_matrix:
    """(n_users, n_items) weight of each rated item in its user's profile."""
    values = rows.values.astype(np.float64)
    if kind == "one":
        values = np.ones_like(values)
    if kind == "centred":
        counts = np.bincount(rows.users, minlength=rows.n_users)
        means = np.bincount(rows.users, values, rows.n_users) / np.maximum(counts, 1)
        values = values - means[rows.users]
    return sparse.csr_matrix((values, (rows.users, rows.items)), shape=(rows.n_users, rows.n_items))
