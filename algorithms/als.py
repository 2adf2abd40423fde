"""ALS: implicit's matrix factorisation."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from scipy import sparse

from algorithms import gpu
from algorithms.base import FactorRecommender, Shape
from algorithms.config import AtLeast
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, Interactions

WARP = 32
"""Threads that a GPU runs in step."""


class ALS(FactorRecommender):
    """Weighted least squares on 0/1 preferences, a rating r having confidence α·r (Hu, Koren, Volinsky 2008, eq. 3).

    implicit's conjugate-gradient solver (Takács, Pilászy, Tikk 2011). An item nobody rated scores 0. On a GPU the same
    solver starts from the same factors as on the CPU: the two differ by rounding, which the sweeps amplify.
    """

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of a user's and an item's vector", AtLeast(1)] = 50
        reg: Annotated[float, "L2 penalty on the vectors", AtLeast(0)] = 10.0
        alpha: Annotated[float, "confidence of a rating, times its value", AtLeast(0)] = 1.0
        epochs: Annotated[int, "sweeps over users and items", AtLeast(1)] = 15

    SPACE = {
        "factors": IntUniform(8, 256, log=True),
        "reg": LogUniform(1e-3, 100),
        "alpha": LogUniform(0.1, 100),
        "epochs": IntUniform(5, 40),
    }

    _device = "cpu"

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        from threadpoolctl import threadpool_limits

        rows, sweeps = train.interactions, self._steps(run, self.config.epochs)
        prepare = _on_gpu if run.device == "cuda" else _on_cpu
        with threadpool_limits(1, user_api="blas"):  # its own threads call BLAS: more there would oversubscribe
            model, confidences = prepare(rows, self.config, sweeps, run)

            def after_sweep(sweep: int, seconds: float, loss: float | None) -> None:
                if run.validates or sweep + 1 == sweeps:  # in between nobody looks
                    self._publish(model)
                if self._step_done(run, sweep + 1, sweeps):
                    raise _StopEarly

            with suppress(_StopEarly):
                model.fit(confidences, show_progress=False, callback=after_sweep)

    def _publish(self, model: Any) -> None:
        """The factors on the host, where they are scored with; on a GPU they are copied there after each sweep."""
        if isinstance(model.user_factors, np.ndarray):
            self._device = "cpu"
            self.user_factors, self.item_factors = model.user_factors, model.item_factors
        else:
            self._device = "cuda"
            self.user_factors, self.item_factors = (
                np.ascontiguousarray(factors.to_numpy()[:, : self.config.factors])
                for factors in (model.user_factors, model.item_factors)
            )

    @property
    def fitted_device(self) -> str:
        return self._device

    @staticmethod
    def environment(config: Any) -> dict[str, str]:
        return {"OPENBLAS_NUM_THREADS": "1"}

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        factors = 4 * config.factors * (shape.n_users + shape.n_items)
        return factors + 2 * 8 * shape.n_rows  # the matrix by users and by items


def _on_cpu(rows: Interactions, config: Any, sweeps: int, run: FitContext) -> tuple[Any, sparse.csr_matrix]:
    """implicit's model, and the confidences to fit it to."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        factors=config.factors,
        regularization=config.reg,
        alpha=config.alpha,
        iterations=sweeps,
        num_threads=run.threads,
        random_state=run.seed,
    )
    return model, rows.matrix()


def _on_gpu(rows: Interactions, config: Any, sweeps: int, run: FitContext) -> tuple[Any, sparse.csr_matrix]:
    """The same on the GPU, where implicit leaves it to its caller to multiply by alpha.

    Raises:
        NotApplicableError: implicit cannot use a GPU here.
    """
    gpu.require("implicit")
    from implicit.gpu import Matrix
    from implicit.gpu.als import AlternatingLeastSquares

    user_factors, item_factors = initial_factors(rows, config.factors, run.seed)
    model = AlternatingLeastSquares(factors=user_factors.shape[1], regularization=config.reg, iterations=sweeps)
    model.user_factors, model.item_factors = Matrix(user_factors), Matrix(item_factors)
    return model, config.alpha * rows.matrix()


def initial_factors(rows: Interactions, factors: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """(n_users, w) and (n_items, w) float32 that implicit starts from on the CPU; w is ``factors`` up to a full warp.

    Sums within a warp that is not full would read threads that do not exist. Columns that are 0 stay 0 in every sweep.
    """
    rng = np.random.default_rng(seed)
    width = -(-factors // WARP) * WARP
    tables = (rng.random((size, factors), dtype=np.float32) * 0.01 for size in (rows.n_users, rows.n_items))
    user_factors, item_factors = (np.pad(table, ((0, 0), (0, width - factors))) for table in tables)
    return user_factors, item_factors


class _StopEarly(Exception):
    """Raised by the callback: there is no other way out of implicit's loop."""
