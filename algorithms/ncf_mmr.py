"""NCF whose lists are re-ranked for diversity after training: the control that costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms._metadata import item_metadata
from algorithms._mmr import mmr
from algorithms.base import Recommender
from algorithms.config import AtLeast
from algorithms.ncf import NCF
from algorithms.space import Uniform
from algorithms.types import FitContext, TrainSet
from datasets.top_k import PADDING
from datasets.types import FloatArray, IntArray


class NCFMMR(NCF):
    """``NCF``, with the best unseen items of each user re-ranked by maximal marginal relevance over genres.

    Carbonell and Goldstein (1998). The items of the re-ranked list get the scores above all others, in its order; the
    rest keeps its scores. Training and early stopping know nothing of it.
    """

    @dataclass(frozen=True)
    class Config(NCF.Config):
        trade_off: Annotated[float, "1 keeps the order of the scores, 0 looks at diversity only", AtLeast(0)] = 0.8
        list_length: Annotated[int, "items that are re-ranked into a list", AtLeast(1)] = 10

    SPACE = {**NCF.SPACE, "trade_off": Uniform(0, 1)}

    _genres: FloatArray | None = None

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        genres = item_metadata(train, numbers=False, algorithm="ncf-mmr").toarray()
        self._genres = None
        super()._fit(train, run)
        self._seen, self._genres = train.interactions.matrix(), genres

    def _score(self, users: IntArray) -> FloatArray:
        scores = super()._score(users)
        if self._genres is None:
            return scores
        lists = mmr(self._without_seen(scores, users), self._genres, self.config.list_length, self.config.trade_off)
        rows, places = np.nonzero(lists != PADDING)
        lifted = scores.astype(np.float64)
        lifted[rows, lists[rows, places]] = scores.max(axis=1)[rows] + lists.shape[1] - places
        return lifted

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        if self._genres is None:
            return super()._score_pairs(users, items)
        return Recommender._score_pairs(self, users, items)

    def _without_seen(self, scores: FloatArray, users: IntArray) -> FloatArray:
        masked = scores.copy()
        seen = self._seen[users]
        masked[np.repeat(np.arange(len(users)), np.diff(seen.indptr)), seen.indices] = -np.inf
        return masked

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        genres = np.zeros((0, 0)) if self._genres is None else self._genres
        seen = {f"seen.{part}": getattr(self._seen, part) for part in ("data", "indices", "indptr")}
        return {**super()._state(), **seen, "genres": genres}

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        own = ("genres", "seen.data", "seen.indices", "seen.indptr")
        super()._restore({name: array for name, array in state.items() if name not in own})
        self._genres = state["genres"]
        parts = tuple(state[f"seen.{part}"] for part in ("data", "indices", "indptr"))
        self._seen = sparse.csr_matrix(parts, shape=(self.n_users, self.n_items))
