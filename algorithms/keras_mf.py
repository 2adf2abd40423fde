"""Keras MF: a biased matrix factorisation as a Keras model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from algorithms import _keras_common as common
from algorithms.base import FactorRecommender, Shape
from algorithms.config import AtLeast, Epochs, Negatives, Patience
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, TrainSet


class KerasMF(FactorRecommender):
    """ŷ = μ + b_u + b_i + p_u · q_i (Koren, Bell, Volinsky 2009, eq. 4), trained by Adam on mini-batches.

    Ratings: squared error. Ranking: every training row is a positive, sampled unrated items are negatives, logistic
    loss. The penalty is on p and q; over ``rows`` it is paid with every sample (their eq. 5), so that frequent users
    and items pay more. The global mean ends up in the user biases.

    On TensorFlow, Keras 3 squares the gradient of every occurrence of a row in a batch and adds up the squares for
    Adam's second moment; Adam as published, and Keras on torch, squares the sum. So frequent users and items take
    smaller steps on TensorFlow, and the two backends differ by more than rounding.
    """

    predicts_ratings = True
    similar_by = "cosine of item embeddings"

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of a user's and an item's embedding", AtLeast(1)] = 50
        epochs: Epochs = 20
        patience: Patience = 3
        learning_rate: Annotated[float, "step of Adam", AtLeast(0)] = 0.01
        batch_size: Annotated[int, "rows and negatives of one step", AtLeast(1)] = 8192
        reg: Annotated[float, "L2 penalty on embeddings beside the squared error of ratings", AtLeast(0)] = 0.1
        ranking_reg: Annotated[
            float, "the same beside the logistic loss, which is about ten times flatter", AtLeast(0)
        ] = 0.01
        reg_over: Annotated[
            Literal["rows", "tables"], "the penalty is on the embeddings of each sample, or on whole tables each step"
        ] = "rows"
        initial_std: Annotated[float, "standard deviation of the initial embeddings", AtLeast(0)] = 0.01
        negatives: Negatives = 4
        centred: Annotated[bool, "start from the mean rating or, when ranking, the log-odds of a positive"] = True
        backend: Annotated[Literal["tensorflow", "torch"], "what Keras computes with"] = "tensorflow"

    SPACE = {
        "factors": IntUniform(8, 128, log=True),
        "epochs": IntUniform(5, 40),
        "learning_rate": LogUniform(1e-3, 0.05),
        "batch_size": IntUniform(1_024, 16_384, log=True),
        "reg": LogUniform(1e-3, 0.5),
        "ranking_reg": LogUniform(1e-4, 0.05),
        "initial_std": LogUniform(1e-3, 0.1),
        "negatives": IntUniform(1, 10),
    }

    _device = "cpu"

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        framework = common.load_framework(self.config.backend)
        epochs, offset = self._steps(run, self.config.epochs), common.offset(train, self.config)
        with framework.session(self.config.backend, run):
            model = framework.mf_model(train, self.config, offset)
            for epoch in framework.train_epochs(model, train, self.config, run.seed, epochs):
                self._publish(framework, model, offset)
                if self._step_done(run, epoch, epochs):
                    break

    def _publish(self, framework: Any, model: Any, offset: float) -> None:
        """Factors and biases as NumPy arrays: scoring needs no framework and leaves training alone."""
        self._device = framework.device_of(model)
        self.user_factors, self.item_factors, user_bias, item_bias = (
            framework.weights(model, layer)[0] for layer in ("user_factors", "item_factors", "user_bias", "item_bias")
        )
        self.user_bias, self.item_bias = user_bias[:, 0] + offset, item_bias[:, 0]

    @property
    def fitted_device(self) -> str:
        return self._device

    @staticmethod
    def environment(config: Any) -> dict[str, str]:
        return common.environment(config.backend)

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        tables = 4 * (config.factors + 1) * (shape.n_users + shape.n_items)
        return common.COPIES * tables + common.samples_bytes(shape, config.negatives)
