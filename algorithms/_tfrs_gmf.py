"""The TensorFlow side of ``tfrs_gmf``: the model, its training loop and its negatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_recommenders as tfrs

from algorithms import gpu
from algorithms.types import FitContext, Task
from datasets.types import Interactions

Floats = npt.NDArray[np.float32]

tf.get_logger().setLevel("ERROR")  # else a process with many fits is warned of retracing: each fit traces its own loop


class GMF(tfrs.models.Model):
    """ŷ = h · (p_u ⊙ q_i) + c, plus b_u + b_i with ``config.biases``; h starts at 1, c and the biases at 0."""

    def __init__(self, n_users: int, n_items: int, task: Task, config: Any, random: tf.random.Generator) -> None:
        super().__init__()

        def normal(shape: tf.TensorShape, dtype: tf.DType, **_: object) -> tf.Tensor:
            return random.normal(shape, stddev=config.initial_std, dtype=dtype)

        self.users = _embedding(n_users, config.factors, normal, config.reg)
        self.items = _embedding(n_items, config.factors, normal, config.reg)
        self.user_biases = _embedding(n_users, 1, "zeros", config.reg) if config.biases else None
        self.item_biases = _embedding(n_items, 1, "zeros", config.reg) if config.biases else None
        self.output_layer = tf.keras.layers.Dense(1, kernel_initializer="ones")
        self.output_layer.build((None, config.factors))
        self.ranking_task = tfrs.tasks.Ranking(
            tf.keras.losses.MeanSquaredError()
            if task is Task.RATING
            else tf.keras.losses.BinaryCrossentropy(from_logits=True)
        )
        self.compile(tf.keras.optimizers.Adagrad(config.learning_rate, config.initial_accumulator, jit_compile=False))
        self.optimizer.build(self.trainable_variables)

    def call(self, pairs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """(b,) users and (b,) items -> (b, 1) float32 ŷ."""
        users, items = pairs
        scores = self.output_layer(self.users(users) * self.items(items))
        if self.user_biases is not None and self.item_biases is not None:
            scores += self.user_biases(users) + self.item_biases(items)
        return scores

    def compute_loss(self, inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Mean loss of (b,) users, items and labels; ``train_step`` adds the penalties."""
        users, items, labels = inputs
        return self.ranking_task(labels[:, None], self((users, items)), compute_metrics=False)


class Trainer:
    """Trains a ``GMF`` epoch by epoch. All draws come from one seeded generator, whatever the number of epochs."""

    def __init__(self, rows: Interactions, task: Task, config: Any, offset: float, run: FitContext) -> None:
        """``offset`` is subtracted from ratings, and added back to the biases that ``factors`` gives.

        Raises:
            NotApplicableError: a GPU is asked for and TensorFlow finds none.
        """
        _prepare_process(run)
        self._random = tf.random.Generator.from_seed(run.seed, alg="philox")
        self._model = GMF(rows.n_users, rows.n_items, task, config, self._random)
        self._users, self._items = tf.constant(rows.users), tf.constant(rows.items)
        self._ratings = tf.constant(rows.values - np.float32(offset))
        self._negatives = Negatives(rows, config.negatives, self._random) if task is Task.RANKING else None
        self._batch_size = config.batch_size
        self._offset = offset
        self.run_epoch = tf.function(self._epoch)  # one pass over the training rows; traced at its first call only

    def device(self) -> str:
        """``cpu`` or ``cuda``: where TensorFlow has the embeddings."""
        return "cuda" if "GPU" in self._model.users.embeddings.device else "cpu"

    def factors(self) -> tuple[Floats, Floats, Floats, Floats | None]:
        """(n_users, d) h ⊙ p and (n_items, d) q, then (n_users,) and (n_items,) biases: copies, float32."""
        model = self._model
        weights, constant = (variable.numpy() for variable in model.output_layer.weights)
        user_factors = _table(model.users) * weights[:, 0]
        user_bias = np.full(len(user_factors), constant[0] + self._offset, dtype=np.float32)
        if model.user_biases is None:
            return user_factors, _table(model.items), user_bias, None
        user_bias += _table(model.user_biases)[:, 0]
        return user_factors, _table(model.items), user_bias, _table(model.item_biases)[:, 0]

    def _epoch(self) -> None:
        users, items, labels = self._examples()
        order = self._order(tf.size(users))
        for start in tf.range(0, tf.size(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            self._model.train_step((tf.gather(users, batch), tf.gather(items, batch), tf.gather(labels, batch)))

    def _examples(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Users and items with ratings, or the positives with 1 and fresh negatives with 0."""
        if self._negatives is None:
            return self._users, self._items, self._ratings
        users, items = self._negatives.draw()
        labels = tf.concat([tf.ones_like(self._ratings), tf.zeros(tf.shape(users))], axis=0)
        return tf.concat([self._users, users], axis=0), tf.concat([self._items, items], axis=0), labels

    def _order(self, n: tf.Tensor) -> tf.Tensor:
        """(n,) int32, a fresh permutation at each call."""
        return tf.random.experimental.stateless_shuffle(tf.range(n), self._random.make_seeds()[:, 0])


class Negatives:
    """Items that a user has not rated, uniform, for each training row; drawn on the device where the model is."""

    def __init__(self, rows: Interactions, count: int, random: tf.random.Generator) -> None:
        """``count`` items a row are drawn; rows of users who rated every item get none."""
        has_free_items = np.bincount(rows.users, minlength=rows.n_users) < rows.n_items
        self._users = tf.repeat(tf.constant(rows.users[has_free_items[rows.users]]), count)
        self._rated = tf.constant(np.sort(rows.users.astype(np.int64) * rows.n_items + rows.items))
        self._n_items = rows.n_items
        self._random = random

    def draw(self) -> tuple[tf.Tensor, tf.Tensor]:
        """(m,) int32 users and (m,) int32 items, no pair a training row. To be called in a ``tf.function``."""
        items = self._uniform(tf.size(self._users))
        rejected = self._rated_among(tf.range(tf.size(items)), items)
        while tf.size(rejected) > 0:
            tf.autograph.experimental.set_loop_options(shape_invariants=[(rejected, tf.TensorShape([None]))])
            items = tf.tensor_scatter_nd_update(items, rejected[:, None], self._uniform(tf.size(rejected)))
            rejected = self._rated_among(rejected, items)
        return self._users, items

    def _uniform(self, count: tf.Tensor) -> tf.Tensor:
        return self._random.uniform([count], maxval=self._n_items, dtype=tf.int32)

    def _rated_among(self, places: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        """Those of ``places`` whose user has rated their item."""
        keys = tf.cast(tf.gather(self._users, places), tf.int64) * self._n_items
        keys += tf.cast(tf.gather(items, places), tf.int64)
        nearest = tf.minimum(tf.searchsorted(self._rated, keys), tf.size(self._rated) - 1)
        return tf.boolean_mask(places, tf.gather(self._rated, nearest) == keys)


def _embedding(size: int, width: int, initializer: Any, reg: float) -> tf.keras.layers.Embedding:
    """A table whose penalty is ``reg`` × the mean squared length of the rows that a batch looks up.

    A penalty on the whole table would make its gradient dense, and a step as slow as the table is long.
    """
    layer = tf.keras.layers.Embedding(size, width, initializer, activity_regularizer=tf.keras.regularizers.L2(reg))
    layer.build(None)
    return layer


def _table(layer: tf.keras.layers.Embedding) -> Floats:
    """(rows, width) float32, a copy."""
    table: Floats = layer.embeddings.numpy()
    return table


def _prepare_process(run: FitContext) -> None:
    """Threads, devices and determinism. TensorFlow takes threads and devices before its first operation only."""
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != run.threads:
        threading.set_intra_op_parallelism_threads(run.threads)
    if threading.get_inter_op_parallelism_threads() != 1:
        threading.set_inter_op_parallelism_threads(1)
    if run.device == "cuda":
        gpu.require("tensorflow")
    else:
        tf.config.set_visible_devices([], "GPU")
    for physical in tf.config.get_visible_devices("GPU"):
        tf.config.experimental.set_memory_growth(physical, True)  # else it takes all memory of the device
    tf.config.experimental.enable_op_determinism()
    # Grappler reorders products as its hash tables happen to lie in memory: the last bits would differ from fit to fit.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
