"""EASE: closed-form item weights, in its dual when users are fewer than items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from scipy import linalg, sparse

from algorithms import storage
from algorithms.base import TILE_ELEMENTS, Recommender, Shape
from algorithms.config import AtLeast
from algorithms.space import LogUniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray


class EASE(Recommender):
    """``min ||X − XB||² + l2 ||B||²`` with ``diag(B) = 0`` (Steck 2019, eq. 8), X being 0/1.

    Memory O(min(n_users, n_items)²). Off the diagonal B_ij = −P_ij / P_jj with P = (XᵀX + l2 I)⁻¹. In the dual, by
    Woodbury, P = (I − XᵀKX) / l2 with K = (XXᵀ + l2 I)⁻¹, so that B_ij = (XᵀKX)_ij / (1 − q_j) with q_j = (XᵀKX)_jj.
    As XXᵀK = I − l2 K, the scores are XB = ((I − l2 K) X − X diag(q)) / (1 − q), column by column: nothing of size
    n_items × n_items is ever formed.
    """

    @dataclass(frozen=True)
    class Config:
        l2: Annotated[float, "ridge added to the diagonal of the Gram matrix", AtLeast(1e-3)] = 500.0

    similar_by = "weight of the item in each other item's score"

    SPACE = {"l2": LogUniform(10, 5_000)}

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        self.seen = train.interactions.matrix().astype(np.float64)  # a copy: the cached matrix stays as it is
        self.seen.data[:] = 1
        self.dual = self.n_users < self.n_items
        if self.dual:
            self._fit_dual()
        else:
            self._fit_primal()

    def _fit_primal(self) -> None:
        inverse = _ridge_inverse(self.seen.T @ self.seen, self.config.l2)
        self.weights = inverse / -np.diag(inverse)
        np.fill_diagonal(self.weights, 0)

    def _fit_dual(self) -> None:
        inverse = _ridge_inverse(self.seen @ self.seen.T, self.config.l2)
        self.self_weights = _quadratic_forms(inverse, self.seen.T.tocsr())
        self.weights = np.eye(self.n_users) - self.config.l2 * inverse

    def _score(self, users: IntArray) -> FloatArray:
        if not self.dual:
            return np.asarray(self.seen[users] @ self.weights)
        smoothed = (self.seen.T @ self.weights[users].T).T
        own = self.seen[users].multiply(self.self_weights).toarray()
        return (smoothed - own) / (1 - self.self_weights)

    def _similarities(self, item: int) -> FloatArray:
        """Row ``item`` of B. In the dual that is (x_iᵀ K X) / (1 − q) with K = (I − weights) / l2."""
        if not self.dual:
            return np.asarray(self.weights[item])
        users = self.seen[:, [item]].toarray().ravel()
        row = (users - users @ self.weights) / self.config.l2 @ self.seen
        weights = np.asarray(row) / (1 - self.self_weights)
        weights[item] = 0
        return weights

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        state = {"weights": self.weights, **storage.csr_arrays("seen", self.seen)}
        return state | ({"self_weights": self.self_weights} if self.dual else {})

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.dual = "self_weights" in state
        self.weights, self.seen = state["weights"], storage.csr_matrix("seen", state)
        if self.dual:
            self.self_weights = state["self_weights"]

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        side = min(shape.n_users, shape.n_items)
        return 3 * 8 * side**2 + 2 * 12 * shape.n_rows  # Gram matrix, factor and inverse; X by users and by items


def _ridge_inverse(gram: sparse.spmatrix, l2: float) -> npt.NDArray[np.float64]:
    """(gram + l2 I)⁻¹, dense, by Cholesky: the matrix is positive definite."""
    dense = gram.toarray()
    dense[np.diag_indices_from(dense)] += l2
    factor = linalg.cho_factor(dense, overwrite_a=True)
    inverse: npt.NDArray[np.float64] = linalg.cho_solve(factor, np.eye(len(dense)), overwrite_b=True)
    return inverse


def _quadratic_forms(inverse: npt.NDArray[np.float64], columns: sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """x_jᵀ K x_j for each row x_j of ``columns``, in tiles so that the dense product stays small."""
    size = max(1, TILE_ELEMENTS // len(inverse))
    tiles = [columns[start : start + size] for start in range(0, columns.shape[0], size)]
    return np.concatenate([np.asarray(tile.multiply(tile @ inverse).sum(axis=1)).ravel() for tile in tiles])
