"""Warm and cold slices of drawn splits against a loop over the test rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scorers import ByScores

from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import Question, UserStatistic

N_USERS, N_ITEMS = 5, 6
pairs = st.sets(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), max_size=12)
NOBODY = np.empty(0, dtype=np.int32)


class Threes(ByScores):
    """Rates 3, and prefers low items."""

    def score(self, users: np.ndarray) -> np.ndarray:
        return np.tile(-np.arange(N_ITEMS, dtype=np.float64), (len(users), 1))

    def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.full(len(users), 3.0)


def seen_of(train: set[tuple[int, int]]) -> sparse.csr_matrix:
    seen = np.zeros((N_USERS, N_ITEMS), dtype=np.float32)
    for pair in train:
        seen[pair] = 1
    return sparse.csr_matrix(seen)


def totals(statistics: dict[str, UserStatistic], name: str) -> np.ndarray:
    return statistics[name].sums.sum(axis=0) if name in statistics else np.zeros(2)


@given(train=pairs, test=pairs.filter(bool), ratings=st.lists(st.integers(1, 5), min_size=30, max_size=30))
def test_slices_of_ratings(train: set[tuple[int, int]], test: set[tuple[int, int]], ratings: list[int]) -> None:
    rows = sorted(test)
    users, items = (np.array(column, dtype=np.int32) for column in zip(*rows, strict=True))
    values = np.array(ratings[: len(rows)], dtype=np.float32)
    question = Question(users, items, NOBODY, NOBODY)
    statistics = Holdout().per_user(Holdout().evaluate(Threes(), question, {"values": values}, seen_of(train)))

    expected = {suffix: np.zeros(2) for suffix in ("", "/warm", "/cold", "/cold-user", "/cold-item", "/cold-both")}
    for (user, item), value in zip(rows, values, strict=True):
        cold_user = all(user != other for other, _ in train)
        cold_item = all(item != other for _, other in train)
        parts = {"": True, "/warm": not (cold_user or cold_item), "/cold": cold_user or cold_item}
        parts |= {"/cold-user": cold_user, "/cold-item": cold_item, "/cold-both": cold_user and cold_item}
        for suffix, belongs in parts.items():
            expected[suffix] += [(value - 3) ** 2, 1] if belongs else [0, 0]
    for suffix, sums in expected.items():
        assert totals(statistics, f"rmse{suffix}") == pytest.approx(sums)
        assert (f"rmse{suffix}" in statistics) == (sums[1] > 0)
    assert totals(statistics, "mae/warm") + totals(statistics, "mae/cold") == pytest.approx(totals(statistics, "mae"))


@given(train=pairs, positives=st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=N_USERS), data=st.data())
def test_slices_of_ranks(train: set[tuple[int, int]], positives: list[int], data: st.DataObject) -> None:
    users = np.arange(len(positives), dtype=np.int32)
    ranked = np.array(sorted(data.draw(st.sets(st.sampled_from(users.tolist())))), dtype=np.int32)
    question = Question(users, np.array(positives, np.int32), ranked, ranked)  # one candidate each
    labels = {"users": users, "positive_items": np.array(positives, np.int32), "positive_index": users}
    protocol = LeaveOneOut()
    statistics = protocol.per_user(protocol.evaluate(Threes(), question, labels, seen_of(train)))
    warm = sum(any(item == other for _, other in train) for item in positives)
    assert totals(statistics, "hr@10/warm")[1] == warm
    for name in ("hr@10", "ndcg@10", "mrr", "hr@10/full"):
        parts = totals(statistics, f"{name}/warm") + totals(statistics, f"{name}/cold-item")
        assert parts == pytest.approx(totals(statistics, name))
