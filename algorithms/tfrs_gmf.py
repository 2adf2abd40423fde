"""GMF: generalised matrix factorisation on TensorFlow Recommenders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from algorithms.base import FactorRecommender, Shape
from algorithms.config import AtLeast, Epochs, Negatives, Patience
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, Task, TrainSet


class TFRSGMF(FactorRecommender):
    """ŷ = h · (p_u ⊙ q_i) + b_u + b_i + c (He et al. 2017, eq. 9, with biases), trained by sparse Adagrad.

    Ratings: squared error. Ranking: every training row is a positive, sampled unrated items are negatives, logistic
    loss. Since h · (p_u ⊙ q_i) = (h ⊙ p_u) · q_i, a fitted model is factors and biases. Adagrad's accumulator starts
    near 0: Keras's 0.1 dwarfs the squared gradients of a batch's mean loss, so that every step would be tiny for long.
    """

    predicts_ratings = True
    similar_by = "cosine of item embeddings"

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of the embeddings", AtLeast(1)] = 32
        epochs: Epochs = 16
        patience: Patience = 3
        learning_rate: Annotated[float, "initial step of Adagrad", AtLeast(0)] = 0.05
        batch_size: Annotated[int, "rows a step, negatives included", AtLeast(1)] = 1024
        reg: Annotated[float, "L2 penalty on the embeddings and biases of each row of a batch", AtLeast(0)] = 0.01
        initial_accumulator: Annotated[
            float, "Adagrad's sum of squared gradients before the first step", AtLeast(0)
        ] = 1e-8
        initial_std: Annotated[float, "standard deviation of the initial embeddings", AtLeast(0)] = 0.01
        negatives: Negatives = 4
        biases: Annotated[bool, "add a bias of each user and item"] = True
        centred: Annotated[bool, "learn ratings minus their training mean"] = True

    SPACE = {
        "factors": IntUniform(8, 128, log=True),
        "epochs": IntUniform(5, 60),
        "learning_rate": LogUniform(5e-3, 0.3),
        "batch_size": IntUniform(256, 8_192, log=True),
        "reg": LogUniform(1e-6, 0.1),
        "initial_std": LogUniform(1e-3, 0.3),
        "negatives": IntUniform(1, 10),
    }

    _device = "cpu"

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        from algorithms._tfrs_gmf import Trainer

        rows, config = train.interactions, self.config
        offset = float(rows.values.mean()) if train.task is Task.RATING and config.centred else 0.0
        trainer = Trainer(rows, train.task, config, offset, run)
        epochs = self._steps(run, config.epochs)
        for epoch in range(epochs):
            trainer.run_epoch()
            self._device = trainer.device()
            self.user_factors, self.item_factors, self.user_bias, self.item_bias = trainer.factors()
            if self._step_done(run, epoch + 1, epochs):
                break

    @property
    def fitted_device(self) -> str:
        return self._device

    @staticmethod
    def environment(config: Any) -> dict[str, str]:
        return {
            "TF_USE_LEGACY_KERAS": "1",  # TensorFlow Recommenders is written for Keras 2
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",  # its kernels round differently from one CPU to another
        }

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        embeddings = 3 * 4 * (config.factors + 1) * (shape.n_users + shape.n_items)  # with Adagrad's state and a copy
        return embeddings + 2 * 24 * shape.n_rows * (1 + config.negatives)  # rows, their draws and their order
