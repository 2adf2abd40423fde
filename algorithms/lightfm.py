"""LightFM: matrix factorisation with the WARP loss, with or without item metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from scipy import sparse

from algorithms._metadata import indicators
from algorithms.base import FactorRecommender, Shape
from algorithms.config import AtLeast, Epochs, Patience
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import NotApplicableError
from datasets.types import IntArray


class LightFM(FactorRecommender):
    """A user or item is the sum of the embeddings of its indicators: itself and, as hybrid, its metadata (Kula 2015).

    Ranking: every training row is a positive; WARP samples negatives until one outranks it (Weston et al. 2011).
    Ratings: rows above the mean are positives, below it negatives, with a logistic loss weighted by their distance from
    the mean; the harness turns the scores into ratings. There all users, and all items, have one indicator in common: a
    cold one is an average one, but for what its metadata say. One thread is deterministic, more race by design
    (Hogwild).
    """

    scores_cold = True
    similar_by = "cosine of item embeddings"

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of the embeddings", AtLeast(1)] = 30
        epochs: Epochs = 30
        patience: Patience = 5
        learning_rate: Annotated[float, "initial step of Adagrad", AtLeast(0)] = 0.05
        item_reg: Annotated[float, "L2 penalty on item embeddings", AtLeast(0)] = 0.0
        user_reg: Annotated[float, "L2 penalty on user embeddings", AtLeast(0)] = 0.0
        max_sampled: Annotated[int, "most negatives sampled for one positive", AtLeast(1)] = 10
        metadata: Annotated[bool, "add embeddings of users' and items' metadata, where the data set has any"] = False
        numbers: Annotated[bool, "metadata includes numbers, such as the year, in ten bins of equal counts"] = True

    SPACE = {
        "factors": IntUniform(8, 128, log=True),
        "epochs": IntUniform(5, 60),
        "learning_rate": LogUniform(5e-3, 0.2),
        "max_sampled": IntUniform(5, 50, log=True),
    }

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        from lightfm import LightFM as Model

        config, epochs = self.config, self._steps(run, self.config.epochs)
        model = Model(
            no_components=config.factors,
            loss="warp" if train.task is Task.RANKING else "logistic",
            learning_rate=config.learning_rate,
            item_alpha=config.item_reg,
            user_alpha=config.user_reg,
            max_sampled=config.max_sampled,
            random_state=run.seed,
        )
        rows = train.interactions
        signs, weights = _targets(train)
        users, items = self._indicators(train)
        learned = _without_cold(users, rows.users), _without_cold(items, rows.items)
        for epoch in range(epochs):
            model.fit_partial(
                signs, user_features=users, item_features=items, sample_weight=weights, num_threads=run.threads
            )
            if run.validates or epoch + 1 == epochs:  # in between nobody looks
                self._publish(model, *learned)
            if self._step_done(run, epoch + 1, epochs):
                break

    def _indicators(self, train: TrainSet) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """(n_users, n_users + d) and (n_items, n_items + e) float32: one column each itself, then what is shared.

        Raises:
            NotApplicableError: when metadata is asked for and the data set has none that can be used.
        """
        rows, config = train.interactions, self.config
        sides = ((rows.users, rows.n_users, train.user_features), (rows.items, rows.n_items, train.item_features))
        metadata: list[sparse.csr_matrix | None] = [None, None]
        if config.metadata:
            metadata = [
                indicators(features, config.numbers, np.bincount(of, minlength=size) > 0)
                for of, size, features in sides
            ]
            if all(each is None for each in metadata):
                raise NotApplicableError(
                    "lightfm.metadata needs metadata of users or items, and this data set has none: leave it out"
                )
        common = train.task is Task.RATING
        return _beside_own(metadata[0], rows.n_users, common), _beside_own(metadata[1], rows.n_items, common)

    def _publish(self, model: Any, users: sparse.csr_matrix, items: sparse.csr_matrix) -> None:
        """The sums of embeddings, so that scoring is one matrix product."""
        self.user_bias, self.user_factors = model.get_user_representations(users)
        self.item_bias, self.item_factors = model.get_item_representations(items)

    @property
    def uses_item_metadata(self) -> bool:
        return bool(self.config.metadata)

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        metadata = shape.n_features if config.metadata else 0
        embeddings = 3 * 4 * (config.factors + 1) * (shape.n_users + shape.n_items + metadata)  # with Adagrad's state
        return embeddings + 5 * 4 * shape.n_rows  # positives as COO and CSR


def _targets(train: TrainSet) -> tuple[sparse.coo_matrix, sparse.coo_matrix | None]:
    """(n_users, n_items) float32: 1 for a positive and -1 for a negative row; and what each of them weighs."""
    signs = train.interactions.matrix().tocoo()
    if train.task is Task.RANKING:
        signs.data = np.ones_like(signs.data)
        return signs, None
    distance = signs.data - signs.data.mean()
    signs.data = np.where(distance > 0, 1, -1).astype(np.float32)
    weights = signs.copy()
    weights.data = (np.abs(distance) / (np.abs(distance).mean() or 1)).astype(np.float32)
    return signs, weights


def _beside_own(metadata: sparse.csr_matrix | None, size: int, common: bool) -> sparse.csr_matrix:
    """(size, size + d) float32: a column for each entity, if ``common`` one for all of them, then ``metadata``."""
    own = sparse.identity(size, dtype=np.float32, format="csr")
    shared = [np.ones((size, 1), dtype=np.float32)] if common else []
    described = [] if metadata is None else [metadata]
    return sparse.hstack([own, *shared, *described], format="csr", dtype=np.float32)


def _without_cold(own_and_metadata: sparse.csr_matrix, trained: IntArray) -> sparse.csr_matrix:
    """Without the own columns of entities that no row trains: their embeddings are what they were drawn as."""
    size = own_and_metadata.shape[0]
    keep = np.ones(own_and_metadata.shape[1], dtype=np.float32)
    keep[:size] = np.bincount(trained, minlength=size) > 0
    kept = own_and_metadata.copy()
    kept.data *= keep[kept.indices]
    return kept
