"""The Keras side of Keras MF and Keras deep MF: their models, and the loop that trains either."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from algorithms import gpu
from algorithms._keras_common import Epochs
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import UserError
from datasets.types import Features

Table = npt.NDArray[np.float32]


@contextmanager
def session(backend: str, run: FitContext) -> Iterator[None]:
    """A clean, seeded Keras on ``run.device``, with at most ``run.threads`` threads.

    Raises:
        UserError: this process imported Keras with another backend.
        NotApplicableError: the backend cannot use a GPU here.
    """
    running = keras.backend.backend()
    if running != backend:
        raise UserError(f"Keras runs on {running} in this process: set KERAS_BACKEND={backend} before Python starts")
    # Initializers and dropouts take their seeds from Python's generator. The base class has seeded it, but a process's
    # first fit has imported Keras since, which draws from it.
    random.seed(run.seed)
    _prepare(backend, run)
    keras.utils.clear_session(free_memory=False)  # what earlier models of the process left behind
    with keras.device("gpu:0" if run.device == "cuda" else "cpu"):
        yield


def mf_model(train: TrainSet, config: Any, offset: float) -> Any:
    """p_u · q_i + b_u + b_i + ``offset`` as a model of the inputs ``user`` and ``item``, (b,) int32 each."""
    rows, penalty = train.interactions, _penalty(train.task, config)
    user, item = _input("user"), _input("item")
    user_factors = _embedding("user_factors", rows.n_users, config, **penalty)(user)
    item_factors = _embedding("item_factors", rows.n_items, config, **penalty)(item)
    product = keras.layers.Dot(axes=1)([user_factors, item_factors])
    scores = keras.layers.Add()([product, *_biases(train, user, item)]) + offset
    return _compiled({"user": user, "item": item}, scores, train.task, config)


def deep_model(train: TrainSet, config: Any, metadata: Mapping[str, Features], offset: float) -> Any:
    """w · relu(W [p_u, q_i, metadata] + b) + c + b_u + b_i + ``offset``.

    ``metadata`` maps the input ``user_metadata`` or ``item_metadata``, (b,) int32 rows, to its features. Without
    ``config.connect_metadata`` these inputs are declared and lead nowhere.
    """
    rows, user, item = train.interactions, _input("user"), _input("item")
    inputs = {"user": user, "item": item} | {name: _input(name) for name in metadata}
    parts = [
        _embedding("user_factors", rows.n_users, config)(user),
        _embedding("item_factors", rows.n_items, config)(item),
    ]
    if config.connect_metadata:
        parts += [_features(features)(inputs[name]) for name, features in metadata.items()]
    hidden = _dropout(keras.layers.Concatenate()(parts), config.dropout)
    hidden = keras.layers.Dense(config.units, activation="relu", name="hidden")(hidden)
    scores = keras.layers.Dense(1, name="output")(_dropout(hidden, config.dropout))
    if config.biases:
        scores = keras.layers.Add()([scores, *_biases(train, user, item)])
    return _compiled(inputs, scores + offset, train.task, config)


def train_epochs(model: Any, train: TrainSet, config: Any, seed: int, epochs: int) -> Iterator[int]:
    """Train ``model``; yields 1, 2, ... ``epochs`` after each epoch. No epoch depends on how many will follow."""
    samples = Epochs(train, config.negatives, seed)
    owner = {name: name.removesuffix("_metadata") for name in model.input}  # whose index an input takes
    for epoch in range(1, epochs + 1):
        indices, targets = samples.draw()
        for start in range(0, len(targets), config.batch_size):
            batch = slice(start, start + config.batch_size)
            # `fit` gives the same weights, but each call builds an input pipeline first: .07 s of every epoch.
            model.train_on_batch({name: indices[owner[name]][batch] for name in owner}, targets[batch])
        yield epoch


def weights(model: Any, layer: str) -> list[Table]:
    """Copies of a layer's arrays on the host, which waits for the device; Keras' order: kernel, bias."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.get_layer(layer).variables]


def device_of(model: Any) -> str:
    """``cpu`` or ``cuda``: where the backend has the weights that ``model`` learns; both names where they differ."""
    names = {str(weight.value.device) for weight in model.trainable_weights}  # "cuda:0" or "…/device:GPU:0"
    kinds = {re.sub(r":\d+$", "", name).rpartition(":")[2].lower() for name in names}
    return "+".join(sorted({"cuda" if kind == "gpu" else kind for kind in kinds}))


def _prepare(backend: str, run: FitContext) -> None:
    """Threads, random state and, on a GPU, operations that give the same numbers in every run."""
    if run.device == "cuda":
        gpu.require(backend)
    if backend == "torch":
        import torch

        torch.manual_seed(run.seed)  # a dropout of this backend has no seed of its own
        torch.set_num_threads(run.threads)
        if run.device == "cuda":
            torch.use_deterministic_algorithms(True, warn_only=True)
        return
    import tensorflow as tf

    if run.device == "cuda":
        for physical in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(physical, True)  # else it takes all memory of the device
        tf.config.experimental.enable_op_determinism()
    tf.get_logger().setLevel("ERROR")  # else many fits in one process draw warnings of retracing
    tf.config.threading.set_intra_op_parallelism_threads(run.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _compiled(inputs: Mapping[str, Any], scores: Any, task: Task, config: Any) -> Any:
    loss = keras.losses.MeanSquaredError()
    if task is Task.RANKING:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model = keras.Model(dict(inputs), scores)
    # Compiled by XLA these small steps gain nothing, and every shape of batch would be compiled apart.
    model.compile(keras.optimizers.Adam(config.learning_rate), loss, jit_compile=False)
    return model


def _input(name: str) -> Any:
    return keras.Input((), dtype="int32", name=name)


def _penalty(task: Task, config: Any) -> dict[str, Any]:
    """The arguments of an embedding that add the L2 penalty of ``config`` to the loss of each batch."""
    strength = config.reg if task is Task.RATING else config.ranking_reg
    if strength == 0:
        return {}
    # Keras divides an activity penalty by the batch size and an embeddings penalty by nothing.
    name = "embeddings_regularizer" if config.reg_over == "tables" else "activity_regularizer"
    return {name: keras.regularizers.L2(strength)}


def _embedding(name: str, size: int, config: Any, **penalty: Any) -> Any:
    """(b,) -> (b, factors)."""
    normal = keras.initializers.RandomNormal(stddev=config.initial_std)
    return keras.layers.Embedding(size, config.factors, embeddings_initializer=normal, name=name, **penalty)


def _biases(train: TrainSet, user: Any, item: Any) -> list[Any]:
    """(b, 1) each, 0 before training."""
    rows = train.interactions
    sides = (("user_bias", rows.n_users, user), ("item_bias", rows.n_items, item))
    return [keras.layers.Embedding(n, 1, embeddings_initializer="zeros", name=name)(side) for name, n, side in sides]


def _features(features: Features) -> Any:
    """(b,) -> (b, d) rows of a fixed table."""
    table = features.matrix.toarray()
    return keras.layers.Embedding(*table.shape, weights=[table], trainable=False)


def _dropout(values: Any, rate: float) -> Any:
    return keras.layers.Dropout(rate)(values) if rate else values
