"""Biased ALS: explicit matrix factorisation on top of damped means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from scipy import sparse

from algorithms.base import DampedBias, FactorRecommender, Shape
from algorithms.config import AtLeast
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray

BATCH_ELEMENTS = 1_000_000
"""Gathered factors held at once while solving: 8 MB of float64."""


class BiasedALS(FactorRecommender):
    """r̂ = μ + b_u + b_i + p_u · q_i, ridge regressions in turn for all p and all q (Koren, Bell, Volinsky 2009).

    The biases are damped means and stay fixed; the factors fit what they leave over.
    """

    predicts_ratings = True

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of a user's and an item's vector", AtLeast(1)] = 50
        reg: Annotated[float, "L2 penalty on each vector", AtLeast(1e-6)] = 10.0
        damping: Annotated[float, "rows at the mean added to each item and user", AtLeast(0)] = 5.0
        epochs: Annotated[int, "sweeps over users and items", AtLeast(1)] = 8

    SPACE = {
        "factors": IntUniform(8, 128, log=True),
        "reg": LogUniform(0.5, 100),
        "damping": LogUniform(0.5, 100),
        "epochs": IntUniform(3, 20),
    }

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        rows, config = train.interactions, self.config
        means = DampedBias.fit(rows, config.damping)
        self.user_bias, self.item_bias = means.mean + means.user_bias, means.item_bias
        residual = rows.values - means.predict(rows.users, rows.items)
        by_user = sparse.csr_matrix((residual, (rows.users, rows.items)), shape=(rows.n_users, rows.n_items))
        by_item = by_user.T.tocsr()

        self.user_factors = np.zeros((rows.n_users, config.factors))
        self.item_factors = np.random.default_rng(run.seed).normal(0, 0.1, (rows.n_items, config.factors))
        sweeps = self._steps(run, config.epochs)
        for sweep in range(sweeps):
            _solve_rows(by_user, self.item_factors, config.reg, self.user_factors)
            _solve_rows(by_item, self.user_factors, config.reg, self.item_factors)
            if self._step_done(run, sweep + 1, sweeps):
                break

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        factors = 8 * config.factors * (shape.n_users + shape.n_items)
        return factors + 2 * 12 * shape.n_rows + 4 * 8 * BATCH_ELEMENTS


def _solve_rows(residual: sparse.csr_matrix, other: FloatArray, reg: float, factors: FloatArray) -> None:
    """Write argmin_x Σ_j (residual_ij − x · other_j)² + reg |x|² into each row i of ``factors``; 0 without ratings."""
    factors[np.diff(residual.indptr) == 0] = 0
    for rows, length in _batches(np.diff(residual.indptr), other.shape[1]):
        places = residual.indptr[rows, None] + np.arange(length)
        real = places < residual.indptr[rows + 1, None]
        places = np.where(real, places, 0)
        gathered = np.where(real[:, :, None], other[residual.indices[places]], 0)
        targets = np.where(real, residual.data[places], 0)
        factors[rows] = _ridge(gathered, targets, reg)


def _batches(lengths: IntArray, factors: int) -> Iterator[tuple[IntArray, int]]:
    """(rows, longest) with rows of similar length together: padding to the longest at most doubles the work."""
    magnitude = np.frexp(lengths)[1]
    for power in np.unique(magnitude[lengths > 0]):
        rows = np.flatnonzero(magnitude == power)
        longest = int(lengths[rows].max())
        size = max(1, BATCH_ELEMENTS // (longest * factors))
        for start in range(0, len(rows), size):
            yield rows[start : start + size], longest


def _ridge(inputs: FloatArray, targets: FloatArray, reg: float) -> FloatArray:
    """(b, m, d) inputs and (b, m) targets -> (b, d) weights; solved in whichever of m and d is smaller."""
    m, d = inputs.shape[1:]
    transposed = inputs.transpose(0, 2, 1)
    if m < d:
        gram = inputs @ transposed + reg * np.eye(m)
        weights: FloatArray = transposed @ np.linalg.solve(gram, targets[:, :, None])
    else:
        gram = transposed @ inputs + reg * np.eye(d)
        weights = np.linalg.solve(gram, transposed @ targets[:, :, None])
    return weights[:, :, 0]
