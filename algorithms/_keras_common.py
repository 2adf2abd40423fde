"""What Keras MF and Keras deep MF share without Keras: the backend's environment, and each epoch's samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from algorithms.base import Shape
from algorithms.types import Task, TrainSet
from datasets.errors import NotApplicableError
from datasets.types import FloatArray, IntArray

Samples = tuple[Mapping[str, IntArray], FloatArray]
"""Inputs ``user`` and ``item``, (n,) int32 each, and targets (n, 1) float32."""


def environment(backend: str) -> dict[str, str]:
    """Keras reads its backend from the environment when it is imported; TensorFlow's tips stay out of the logs."""
    if backend == "tensorflow":
        # oneDNN chooses kernels by batch shape, so that the last bits depend on more than the seed.
        return {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    # Else matrix products on a GPU may differ from run to run.
    return {"KERAS_BACKEND": backend, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


def load_framework(backend: str) -> Any:
    """The module ``algorithms._keras_framework``.

    Raises:
        NotApplicableError: the backend's package is missing.
    """
    if find_spec(backend) is None:
        raise NotApplicableError(
            f"{backend} is not installed: pip install -c constraints.txt '.[{backend}]', or choose another backend"
        )
    return import_module("algorithms._keras_framework")


def offset(train: TrainSet, config: Any) -> float:
    """What a score starts from: the mean rating, or the log-odds that a sample is a positive; 0 unless centred."""
    if not config.centred:
        return 0.0
    return float(train.interactions.values.mean()) if train.task is Task.RATING else -math.log(config.negatives)


COPIES = 5
"""Of each embedding table: itself, Adam's two moments, a gradient, and what scoring uses."""


def samples_bytes(shape: Shape, negatives: int) -> int:
    """Of one epoch's samples: drawn, shuffled and handed over, 12 bytes each time, and their order."""
    return (3 * 12 + 8) * shape.n_rows * (1 + negatives)


class Epochs:
    """Shuffled samples, epoch by epoch, from one generator: epoch e is the same whatever the number of epochs.

    Ranking: every training row is a positive (1), with ``negatives`` items each that the user has not rated (0), drawn
    anew each epoch. Rating: the training rows and their values.
    """

    def __init__(self, train: TrainSet, negatives: int, seed: int) -> None:
        rows = train.interactions
        self._rng = np.random.default_rng(seed)
        self._n_items = rows.n_items
        self._users, self._items, self._values = rows.users, rows.items, rows.values
        self._ranking = train.task is Task.RANKING
        if self._ranking:
            keys = rows.users.astype(np.int64) * rows.n_items + rows.items
            self._rated = np.sort(keys)
            self._negative_users = np.repeat(np.sort(rows.users[self._has_unrated()]), negatives)

    def draw(self) -> Samples:
        """The next epoch's samples."""
        users, items, targets = self._samples()
        order = self._rng.permutation(len(users))
        return {"user": users[order], "item": items[order]}, targets[order, None]

    def _samples(self) -> tuple[IntArray, IntArray, FloatArray]:
        if not self._ranking:
            return self._users, self._items, self._values
        users = np.concatenate([self._users, self._negative_users])
        items = np.concatenate([self._items, self._draw_negatives()])
        targets = np.zeros(len(users), dtype=np.float32)
        targets[: len(self._users)] = 1
        return users, items, targets

    def _has_unrated(self) -> npt.NDArray[np.bool_]:
        """(n,) rows whose user has an item left to draw."""
        counts = np.bincount(self._users)
        left: npt.NDArray[np.bool_] = counts[self._users] < self._n_items
        return left

    def _draw_negatives(self) -> npt.NDArray[np.int32]:
        """(m,) items, uniform among those that each of the negatives' users has not rated: what is rated is redrawn."""
        users = self._negative_users.astype(np.int64)
        items = self._rng.integers(self._n_items, size=len(users), dtype=np.int32)
        unchecked = np.arange(len(users))
        while len(unchecked):
            keys = users[unchecked] * self._n_items + items[unchecked]
            places = np.minimum(np.searchsorted(self._rated, keys), len(self._rated) - 1)
            unchecked = unchecked[self._rated[places] == keys]
            items[unchecked] = self._rng.integers(self._n_items, size=len(unchecked), dtype=np.int32)
        return items
