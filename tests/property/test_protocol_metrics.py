"""Metrics and full-catalogue ranking against slow references that are plainly right."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scorers import ByScores

from datasets.top_k import PADDING
from protocols import metrics

few_scores = st.lists(st.integers(0, 3), min_size=1, max_size=6)


def expected_over_all_orders(scores: list[int], positive: int, k: int) -> tuple[float, float, float]:
    """Mean HR, NDCG and reciprocal rank of the positive over every order of the candidates that a sort could give."""
    orders = {
        order for order in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(order))
    }
    ranks = [order.index(positive) + 1 for order in orders]
    hits = [rank <= k for rank in ranks]
    gains = [1 / np.log2(rank + 1) if rank <= k else 0.0 for rank in ranks]
    return float(np.mean(hits)), float(np.mean(gains)), float(np.mean([1 / rank for rank in ranks]))


@given(scores=few_scores, k=st.integers(1, 8), data=st.data())
def test_tie_expectations_equal_the_mean_over_all_orders(scores: list[int], k: int, data: st.DataObject) -> None:
    positive = data.draw(st.integers(0, len(scores) - 1))
    counts = metrics.count_better_and_tied(np.array(scores, dtype=np.float64), np.array([0]), np.array([positive]))
    computed = (metrics.hit_rate(*counts, k), metrics.ndcg(*counts, k), metrics.reciprocal_rank(*counts))
    for values, wanted in zip(computed, expected_over_all_orders(scores, positive, k), strict=True):
        assert values == pytest.approx([wanted], abs=1e-12)


@given(groups=st.lists(st.tuples(few_scores, st.integers(0, 5)), min_size=1, max_size=8))
def test_counts_of_ragged_groups_equal_a_loop(groups: list[tuple[list[int], int]]) -> None:
    sizes = [len(scores) for scores, _ in groups]
    starts = np.cumsum([0, *sizes[:-1]])
    places = [place % len(scores) for scores, place in groups]
    flat = np.concatenate([scores for scores, _ in groups]).astype(np.float32)
    better, tied = metrics.count_better_and_tied(flat, starts, starts + places)
    for row, (scores, _) in enumerate(groups):
        positive = scores[places[row]]
        assert better[row] == sum(score > positive for score in scores)
        assert tied[row] == sum(score == positive for score in scores) - 1


@given(
    scores=st.lists(st.lists(st.integers(-2, 2), min_size=7, max_size=7), min_size=1, max_size=5),
    seen=st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=5, max_size=5),
    positives=st.lists(st.integers(0, 6), min_size=5, max_size=5),
    k=st.integers(1, 9),
)
def test_full_ranking_equals_a_loop(
    scores: list[list[int]], seen: list[list[bool]], positives: list[int], k: int
) -> None:
    matrix = np.array(scores, dtype=np.float32)

    class Scorer(ByScores):
        def score(self, users: np.ndarray) -> np.ndarray:
            return matrix[users]

        def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
            return matrix[users, items]

    users = np.arange(len(matrix))
    mask = sparse.csr_matrix(np.array(seen[: len(matrix)], dtype=np.float32))
    ranking = metrics.rank_catalogue(Scorer(), users, np.array(positives[: len(matrix)]), mask, k)
    for user in users:
        own = positives[user]
        left = [item for item in range(7) if item == own or not seen[user][item]]
        assert ranking.n_candidates[user] == len(left)
        assert ranking.n_better[user] == sum(matrix[user, item] > matrix[user, own] for item in left)
        assert ranking.n_tied[user] == sum(matrix[user, item] == matrix[user, own] for item in left) - 1
        unseen = [item for item in range(7) if not seen[user][item]]
        best = sorted(unseen, key=lambda item: (-matrix[user, item], item))[:k]
        assert ranking.top_items[user].tolist() == best + [PADDING] * (k - len(best))


@given(
    lists=st.lists(st.lists(st.integers(0, 5), min_size=3, max_size=3, unique=True), min_size=1, max_size=4),
    genres=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=6, max_size=6),
)
def test_diversity_equals_a_loop_over_pairs(lists: list[list[int]], genres: list[list[bool]]) -> None:
    vectors = np.array(genres, dtype=np.float64)
    computed = metrics.intra_list_diversity(np.array(lists), sparse.csr_matrix(vectors))
    for row, items in enumerate(lists):
        known = [item for item in items if vectors[item].any()]
        distances = [
            1 - vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b])
            for place, a in enumerate(known)
            for b in known[place + 1 :]
        ]
        if distances:
            assert computed[row] == pytest.approx(np.mean(distances), abs=1e-9)
        else:
            assert np.isnan(computed[row])


@given(
    st.lists(st.tuples(st.integers(1, 10), st.floats(0, 11)), min_size=2, max_size=30),
    st.lists(st.integers(0, 3), min_size=30, max_size=30),
)
def test_pooled_errors_equal_those_of_the_rows(rows: list[tuple[int, float]], users: list[int]) -> None:
    true = np.array([row[0] for row in rows], dtype=np.float64)
    error = np.array([row[1] for row in rows]) - true
    owner = np.array(users[: len(rows)])
    sums = np.array([[column[owner == user].sum() for user in range(4)] for column in (error**2, true, true**2)])
    n = float(len(rows))
    assert float(metrics.rmse(n, sums[0].sum())) == pytest.approx(np.sqrt(np.mean(error**2)))
    variance = np.mean((true - true.mean()) ** 2)
    r2 = float(metrics.r2(n, *sums.sum(axis=1)))
    if variance > 0:
        assert r2 == pytest.approx(1 - np.mean(error**2) / variance, rel=1e-9, abs=1e-9)
    else:
        assert np.isnan(r2)
