"""How fast a model answers: who is asked about, what is timed, and how many questions a slow model gets."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from algorithms.base import Recommender
from algorithms.popularity import Popularity
from algorithms.types import FitContext, Task, TrainSet
from benchmarks import throughput
from benchmarks.clock import Clock
from benchmarks.seal import Seal
from benchmarks.throughput import BATCH, BATCHES, PAIRS, SINGLES, measure_throughput
from datasets.types import FloatArray, IntArray, Interactions

N_USERS, N_ITEMS = 2_000, 50


class Listening(Recommender):
    """Writes down what it is asked."""

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        self.pairs: list[tuple[IntArray, IntArray]] = []
        self.lists: list[tuple[IntArray, Any]] = []

    def _score(self, users: IntArray) -> FloatArray:
        return np.zeros((len(users), self.n_items), dtype=np.float32)

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        self.pairs.append((users, items))
        return np.zeros(len(users), dtype=np.float32)

    def recommend(self, users: IntArray, k: int, exclude: sparse.csr_matrix | None = None) -> Any:
        self.lists.append((users, exclude))
        return np.zeros((len(users), k), dtype=np.int32)


class Slow(Listening):
    """Takes 20 ms for anything."""

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        time.sleep(0.02)
        return super()._score_pairs(users, items)

    def recommend(self, users: IntArray, k: int, exclude: sparse.csr_matrix | None = None) -> Any:
        time.sleep(0.02)
        return super().recommend(users, k, exclude)


def fitted(model: type[Recommender], n_users: int = N_USERS) -> Any:
    users = np.arange(n_users, dtype=np.int32)
    values = np.ones(n_users, dtype=np.float32)
    rows = Interactions(users, (users % N_ITEMS).astype(np.int32), values, None, n_users, N_ITEMS)
    return model().fit(TrainSet(rows, Task.RANKING), FitContext()), rows.matrix()


def test_a_million_pairs_and_lists_for_many_and_for_one() -> None:
    model, seen = fitted(Listening)
    found = measure_throughput(model, seen, True, Seal(), Clock())

    users, items = (np.concatenate(part) for part in zip(*model.pairs, strict=True))
    assert len(users) == found["pairs"]["n"] == PAIRS
    assert len(np.unique(users)) == N_USERS and len(np.unique(items)) == N_ITEMS
    assert (np.diff(users.astype(np.int64) * N_ITEMS + items) >= 0).all()

    assert found["users"][-1]["batch"] == BATCH and found["users"][-1]["n"] == BATCH * BATCHES
    assert found["single"]["n"] == SINGLES
    assert 0 < found["single"]["p50_ms"] <= found["single"]["p99_ms"]
    assert all(exclude is seen for _, exclude in model.lists)
    assert all(len(np.unique(batch)) == len(batch) for batch, _ in model.lists)


def test_fewer_users_than_a_batch_are_asked_about_again() -> None:
    model, seen = fitted(Listening, n_users=40)
    found = measure_throughput(model, seen, True, Seal(), Clock())
    assert found["users"][-1]["n"] == BATCH * BATCHES
    assert max(len(batch) for batch, _ in model.lists) == BATCH


def test_a_slow_model_gets_fewer_questions_and_the_record_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "CAP_S", 0.1)
    model, seen = fitted(Slow)
    clock = Clock()
    found = measure_throughput(model, seen, True, Seal(), clock)
    assert found["pairs"]["n"] == sum(len(users) for users, _ in model.pairs) < PAIRS
    assert 0.1 < found["pairs"]["s"] < 0.5
    for each in found["users"]:
        assert 3 * each["batch"] <= each["n"] <= 6 * each["batch"]
        assert 0.1 < each["s"] < 0.5
    assert 3 <= found["single"]["n"] <= 6 and found["single"]["p50_ms"] >= 20


def test_nothing_is_ranked_where_the_protocol_ranks_nothing() -> None:
    model, seen = fitted(Popularity)
    found = measure_throughput(model, seen, False, Seal(), Clock())
    assert found["pairs"]["n"] == PAIRS and found["users"] is None and found["single"] is None


def test_every_model_gets_the_same_questions() -> None:
    (first, seen), (second, _) = fitted(Listening), fitted(Listening)
    for model in (first, second):
        measure_throughput(model, seen, True, Seal(), Clock())
    for (one, _), (other, _) in zip(first.lists, second.lists, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(first.pairs, second.pairs, strict=True):
        np.testing.assert_array_equal(one, other)
