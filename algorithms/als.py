"""ALS: implicit's matrix factorisation."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from algorithms.base import FactorRecommender, Shape
from algorithms.config import AtLeast
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, TrainSet


class ALS(FactorRecommender):
    """Weighted least squares on 0/1 preferences, a rating r having confidence α·r (Hu, Koren, Volinsky 2008, eq. 3).

    implicit's conjugate-gradient solver (Takács, Pilászy, Tikk 2011). An item nobody rated scores 0.
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

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        from implicit.cpu.als import AlternatingLeastSquares
        from threadpoolctl import threadpool_limits

        config, sweeps = self.config, self._steps(run, self.config.epochs)
        with threadpool_limits(1, user_api="blas"):  # its own threads call BLAS: more there would oversubscribe
            model = AlternatingLeastSquares(
                factors=config.factors,
                regularization=config.reg,
                alpha=config.alpha,
                iterations=sweeps,
                num_threads=run.threads,
                random_state=run.seed,
            )

            def after_sweep(sweep: int, seconds: float, loss: float | None) -> None:
                self.user_factors, self.item_factors = model.user_factors, model.item_factors
                if self._step_done(run, sweep + 1, sweeps):
                    raise _StopEarly

            with suppress(_StopEarly):
                model.fit(train.interactions.matrix(), show_progress=False, callback=after_sweep)

    @staticmethod
    def environment(config: Any) -> dict[str, str]:
        return {"OPENBLAS_NUM_THREADS": "1"}

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        factors = 4 * config.factors * (shape.n_users + shape.n_items)
        return factors + 2 * 8 * shape.n_rows  # the matrix by users and by items


class _StopEarly(Exception):
    """Raised by the callback: there is no other way out of implicit's loop."""
