"""LightFM: matrix factorisation with the WARP loss, with or without item metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from scipy import sparse

from algorithms._metadata import item_metadata
from algorithms.base import FactorRecommender, Shape
from algorithms.config import AtLeast
from algorithms.space import IntUniform, LogUniform
from algorithms.types import FitContext, TrainSet


class LightFM(FactorRecommender):
    """Every training row is a positive; WARP samples negatives until one outranks it (Weston et al. 2011; Kula 2015).

    With ``item_features`` an item is the sum of its own embedding and those of its metadata. One thread is
    deterministic, more race by design (Hogwild).
    """

    @dataclass(frozen=True)
    class Config:
        factors: Annotated[int, "length of the embeddings", AtLeast(1)] = 30
        epochs: Annotated[int, "passes over the training rows", AtLeast(1)] = 30
        learning_rate: Annotated[float, "initial step of Adagrad", AtLeast(0)] = 0.05
        item_reg: Annotated[float, "L2 penalty on item embeddings", AtLeast(0)] = 0.0
        user_reg: Annotated[float, "L2 penalty on user embeddings", AtLeast(0)] = 0.0
        max_sampled: Annotated[int, "most negatives sampled for one positive", AtLeast(1)] = 10
        item_features: Annotated[bool, "add the embeddings of an item's metadata"] = False
        numbers: Annotated[bool, "metadata includes numbers such as the year, not only categories"] = False

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
            loss="warp",
            learning_rate=config.learning_rate,
            item_alpha=config.item_reg,
            user_alpha=config.user_reg,
            max_sampled=config.max_sampled,
            random_state=run.seed,
        )
        positives = train.interactions.matrix().tocoo()
        positives.data = np.ones_like(positives.data)
        features = self._item_features(train)
        for epoch in range(epochs):
            model.fit_partial(positives, item_features=features, num_threads=run.threads)
            self._publish(model, features)
            if self._step_done(run, epoch + 1, epochs):
                break

    def _item_features(self, train: TrainSet) -> sparse.csr_matrix:
        """(n_items, n_items + d) float32: one column an item, then its metadata."""
        own = sparse.identity(train.interactions.n_items, dtype=np.float32, format="csr")
        if not self.config.item_features:
            return own
        metadata = item_metadata(train, self.config.numbers, "lightfm.item_features")
        return sparse.hstack([own, metadata], format="csr", dtype=np.float32)

    def _publish(self, model: Any, features: sparse.csr_matrix) -> None:
        """The sums of embeddings, so that scoring is one matrix product."""
        self.user_bias, self.user_factors = model.get_user_representations()
        self.item_bias, self.item_factors = model.get_item_representations(features)

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int:
        metadata = shape.n_features if config.item_features else 0
        embeddings = 3 * 4 * (config.factors + 1) * (shape.n_users + shape.n_items + metadata)  # with Adagrad's state
        return embeddings + 5 * 4 * shape.n_rows  # positives as COO and CSR
