"""Keras deep MF: concatenated embeddings and metadata through one hidden layer, as a Keras model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt

from algorithms import _keras_common as common
from algorithms.base import Recommender, Shape, cosines
from algorithms.config import AtLeast, Epochs, Negatives, Patience
from algorithms.space import Choice, IntUniform, LogUniform, Uniform
from algorithms.types import FitContext, TrainSet
from datasets.types import Features, FloatArray, IntArray

TILE_ELEMENTS = 250_000
"""Hidden activations held at once: 1 MB of float32, which stays in the cache."""


class KerasDeepMF(Recommender):
    """ŷ = μ + b_u + b_i + w · relu(W [p_u, q_i, x_u, x_i] + b): a perceptron of embeddings p, q and metadata x.

    Ratings: squared error. Ranking: every training row is a positive, sampled unrated items are negatives, logistic
    loss. W [p_u, q_i, x_u, x_i] is a sum of one part a user and one part an item; both are computed after each epoch
    for everybody, so that scoring a pair costs one addition, one relu and one product, without a framework. Backends
    differ in Adam as for ``KerasMF``.
    """

    predicts_ratings = True
    scores_cold = True
    similar_by = "cosine of what items add to the hidden layer's inputs, less its mean over items"

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of a user's and an item's embedding", AtLeast(1)] = 50
        units: Annotated[int, "units of the hidden layer", AtLeast(1)] = 128
        metadata: Annotated[bool, "item and user metadata are inputs too, where the data set has any"] = True
        connect_metadata: Annotated[bool, "metadata inputs lead to the hidden layer; false: they lead nowhere"] = True
        epochs: Epochs = 15
        patience: Patience = 3
        learning_rate: Annotated[float, "step of Adam", AtLeast(0)] = 5e-3
        batch_size: Annotated[int, "rows and negatives of one step", AtLeast(1)] = 4096
        dropout: Annotated[float, "share of inputs and of hidden units dropped in training", AtLeast(0)] = 0.0
        initial_std: Annotated[float, "standard deviation of the initial embeddings", AtLeast(0)] = 0.01
        negatives: Negatives = 4
        biases: Annotated[bool, "add a bias of each user and item"] = True
        centred: Annotated[bool, "start from the mean rating or, when ranking, the log-odds of a positive"] = True
        backend: Annotated[Literal["tensorflow", "torch"], "what Keras computes with"] = "tensorflow"

    SPACE = {
        "factors": IntUniform(8, 128, log=True),
        "units": IntUniform(32, 512, log=True),
        "metadata": Choice((True, False)),
        "epochs": IntUniform(5, 40),
        "learning_rate": LogUniform(5e-4, 0.02),
        "batch_size": IntUniform(1_024, 16_384, log=True),
        "dropout": Uniform(0, 0.6),
        "initial_std": LogUniform(1e-3, 0.1),
        "negatives": IntUniform(1, 10),
    }

    _device = "cpu"

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        framework = common.load_framework(self.config.backend)
        epochs, offset = self._steps(run, self.config.epochs), common.offset(train, self.config)
        metadata = self._metadata(train)
        with framework.session(self.config.backend, run):
            model = framework.deep_model(train, self.config, metadata, offset)
            for epoch in framework.train_epochs(model, train, self.config, run.seed, epochs):
                self._publish(framework, model, train, metadata if self.config.connect_metadata else {}, offset)
                if self._step_done(run, epoch, epochs):
                    break

    def _metadata(self, train: TrainSet) -> dict[str, Features]:
        sides = {"user_metadata": train.user_features, "item_metadata": train.item_features}
        return {name: features for name, features in sides.items() if features is not None and self.config.metadata}

    def _publish(
        self, framework: Any, model: Any, train: TrainSet, connected: Mapping[str, Features], offset: float
    ) -> None:
        """Users' and items' parts of the hidden layer's input and the layers above as NumPy arrays: scoring needs no
        framework and leaves training alone. An embedding that no row has trained says nothing: it is taken as 0."""
        self._device = framework.device_of(model)
        rows = train.interactions
        tables = {}
        for name, trained in (("user_factors", rows.users), ("item_factors", rows.items)):
            factors = framework.weights(model, name)[0]
            tables[name] = np.where(np.bincount(trained, minlength=len(factors))[:, None] > 0, factors, 0)
        tables |= {name: features.matrix for name, features in connected.items()}
        kernel, bias = framework.weights(model, "hidden")
        ends = np.cumsum([table.shape[1] for table in tables.values()])
        blocks = np.split(kernel, ends[:-1])
        parts = {name: table @ block for (name, table), block in zip(tables.items(), blocks, strict=True)}
        self.user_hidden = parts["user_factors"] + parts.get("user_metadata", 0)
        self.item_hidden = parts["item_factors"] + parts.get("item_metadata", 0) + bias

        output, constant = framework.weights(model, "output")
        self.output = output[:, 0]
        self.user_bias = np.full(self.n_users, constant[0] + offset, dtype=np.float32)
        self.item_bias = np.zeros(self.n_items, dtype=np.float32)
        if self.config.biases:
            self.user_bias += framework.weights(model, "user_bias")[0][:, 0]
            self.item_bias += framework.weights(model, "item_bias")[0][:, 0]

    def _score(self, users: IntArray) -> FloatArray:
        scores = np.empty((len(users), self.n_items), dtype=np.float32)
        for tile in self._hidden_tiles(self.n_items):
            for row, user in enumerate(users):
                scores[row, tile] = self._outputs(self.user_hidden[user] + self.item_hidden[tile])
        scores += self.user_bias[users, None]
        scores += self.item_bias
        return scores

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        scores = np.empty(len(users), dtype=np.float32)
        for tile in self._hidden_tiles(len(users)):
            scores[tile] = self._outputs(self.user_hidden[users[tile]] + self.item_hidden[items[tile]])
        scores += self.user_bias[users]
        scores += self.item_bias[items]
        return scores

    def _similarities(self, item: int) -> FloatArray:
        """The mean, with the layer's bias in it, is common to all items and would make all of them alike."""
        return cosines(self.item_hidden - self.item_hidden.mean(axis=0), item)

    @property
    def uses_item_metadata(self) -> bool:
        return bool(self.config.metadata and self.config.connect_metadata)

    def _hidden_tiles(self, n: int) -> Iterator[slice]:
        """Slices of ``n`` pairs whose hidden activations fit in ``TILE_ELEMENTS``."""
        size = max(1, TILE_ELEMENTS // self.config.units)
        return (slice(start, start + size) for start in range(0, n, size))

    def _outputs(self, hidden: FloatArray) -> FloatArray:
        """(t, units) inputs of the hidden layer, overwritten -> (t,) outputs."""
        outputs: FloatArray = np.maximum(hidden, 0, out=hidden) @ self.output
        return outputs

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        return {name: getattr(self, name) for name in _PARTS}

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        for name in _PARTS:
            setattr(self, name, state[name])

    @property
    def fitted_device(self) -> str:
        return self._device

    @staticmethod
    def environment(config: Any) -> dict[str, str]:
        return common.environment(config.backend)

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        tables = 4 * (config.factors + 1) * (shape.n_users + shape.n_items)
        hidden = 4 * config.units * (shape.n_users + shape.n_items)
        metadata = 4 * shape.n_features * max(shape.n_users, shape.n_items) if config.metadata else 0
        activations = 4 * 4 * config.batch_size * (2 * config.factors + shape.n_features + config.units)
        return common.COPIES * tables + hidden + metadata + activations + common.samples_bytes(shape, config.negatives)


_PARTS = ("user_hidden", "item_hidden", "output", "user_bias", "item_bias")
