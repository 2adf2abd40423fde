"""Metrics against hand-computed cases; the slow reference is in ``tests/property/test_protocol_metrics.py``."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scorers import ByScores

from datasets.top_k import PADDING
from protocols import metrics


class Matrix(ByScores):
    """A scorer whose scores are a matrix."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores
        self.calls: list[int] = []

    def score(self, users: np.ndarray) -> np.ndarray:
        self.calls.append(len(users))
        return self.scores[users]

    def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        self.calls.append(len(users))
        return self.scores[users, items]


# --- ranking metrics by hand -----------------------------------------------------------------------------------------


def test_without_ties_the_rank_decides() -> None:
    better, tied = np.array([0, 1, 9, 10, 99]), np.zeros(5, dtype=int)
    assert metrics.hit_rate(better, tied, 10).tolist() == [1, 1, 1, 0, 0]
    assert metrics.ndcg(better, tied, 10) == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0, 0])
    assert metrics.reciprocal_rank(better, tied) == pytest.approx([1, 1 / 2, 1 / 10, 1 / 11, 1 / 100])


def test_ties_are_expectations() -> None:
    # Rank 9, 10, 11 or 12, each with a chance of 1/4.
    assert metrics.hit_rate(np.array([8]), np.array([3]), 10) == pytest.approx([2 / 4])
    assert metrics.ndcg(np.array([8]), np.array([3]), 10) == pytest.approx([(1 / np.log2(10) + 1 / np.log2(11)) / 4])
    assert metrics.reciprocal_rank(np.array([8]), np.array([3])) == pytest.approx(
        [(1 / 9 + 1 / 10 + 1 / 11 + 1 / 12) / 4]
    )


def test_a_constant_scorer_hits_by_chance() -> None:
    assert metrics.hit_rate(np.array([0]), np.array([99]), 10) == pytest.approx([0.10], abs=1e-15)


def test_no_user_is_an_empty_vector() -> None:
    none = np.empty(0, dtype=np.int32)
    for values in (metrics.hit_rate(none, none, 10), metrics.ndcg(none, none, 10), metrics.reciprocal_rank(none, none)):
        assert values.shape == (0,)


# --- counts from pairs -----------------------------------------------------------------------------------------------


def test_counts_in_ragged_groups() -> None:
    scores = np.array([3, 1, 2, 2, 5, 7, 7], dtype=np.float32)  # groups of 4, 1 and 2
    better, tied = metrics.count_better_and_tied(scores, np.array([0, 4, 5]), np.array([2, 4, 6]))
    assert better.tolist() == [1, 0, 0]
    assert tied.tolist() == [1, 0, 1]


def test_pairs_are_scored_by_whole_users_in_the_scorers_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PAIR_TILE", 5)
    scorer = Matrix(np.arange(32, dtype=np.float32).reshape(4, 8))
    users = np.repeat(np.arange(4, dtype=np.int32), [3, 2, 7, 1])
    items = np.concatenate([np.arange(n, dtype=np.int32) for n in (3, 2, 7, 1)])
    scores = metrics.score_pairs(scorer, users, items)
    assert scores.dtype == np.float32
    assert scores.tolist() == (users * 8 + items).tolist()
    assert scorer.calls == [5, 7, 1]  # a user with more pairs than a tile is not divided


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    scores = np.zeros((3, 5))
    scores[1, 2] = bad
    users, items = np.repeat(np.arange(3, dtype=np.int32), 5), np.tile(np.arange(5, dtype=np.int32), 3)
    with pytest.raises(ValueError, match="1 of 15 pair scores are not finite"):
        metrics.score_pairs(Matrix(scores), users, items)
    with pytest.raises(ValueError, match="1 of 15 full-catalogue scores are not finite"):
        metrics.rank_catalogue(Matrix(scores), np.arange(3), np.zeros(3, dtype=int), sparse.csr_matrix((3, 5)))


def test_scores_of_a_wrong_shape_are_refused() -> None:
    class Short(Matrix):
        def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
            return np.zeros((len(users), 1))

    with pytest.raises(ValueError, match="vector"):
        metrics.score_pairs(Short(np.zeros((1, 4))), np.zeros(2, dtype=np.int32), np.arange(2, dtype=np.int32))
    with pytest.raises(ValueError, match=r"\(1, 3\)"):
        metrics.rank_catalogue(Matrix(np.zeros((1, 4))), np.zeros(1, int), np.zeros(1, int), sparse.csr_matrix((1, 3)))


# --- the full catalogue ----------------------------------------------------------------------------------------------


def test_seen_items_are_masked_but_never_the_positive() -> None:
    scores = np.array([[5.0, 4.0, 3.0, 2.0, 1.0]])
    seen = sparse.csr_matrix(np.array([[1, 0, 1, 0, 0]], dtype=np.float32))
    unseen_positive = metrics.rank_catalogue(Matrix(scores), np.array([0]), np.array([3]), seen, k=2)
    assert (unseen_positive.n_better[0], unseen_positive.n_candidates[0]) == (1, 3)
    assert unseen_positive.top_items.tolist() == [[1, 3]]
    seen_positive = metrics.rank_catalogue(Matrix(scores), np.array([0]), np.array([2]), seen, k=2)
    assert (seen_positive.n_better[0], seen_positive.n_candidates[0]) == (1, 4)
    assert seen_positive.positive_score[0] == 3.0


def test_the_scorers_own_array_is_left_alone() -> None:
    scores = np.arange(12.0).reshape(2, 6)
    scores.flags.writeable = False
    metrics.rank_catalogue(Matrix(scores), np.arange(2), np.zeros(2, int), sparse.csr_matrix(np.eye(2, 6)))


def test_users_come_in_tiles_and_back_in_order() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((2_500, 6))
    scorer = Matrix(scores)
    positives = rng.integers(6, size=2_500)
    ranking = metrics.rank_catalogue(scorer, np.arange(2_500), positives, sparse.csr_matrix((2_500, 6)), k=3)
    assert scorer.calls == [1_024, 1_024, 452]
    assert np.array_equal(ranking.n_better, (scores > scores[np.arange(2_500), positives][:, None]).sum(axis=1))
    assert np.array_equal(ranking.top_items, np.argsort(-scores, axis=1)[:, :3])


# --- rating metrics --------------------------------------------------------------------------------------------------


def test_errors_from_sums() -> None:
    true, predicted = np.array([1.0, 2.0, 4.0, 5.0]), np.array([2.0, 2.0, 3.0, 5.0])
    n, sse, sae = 4.0, float(((true - predicted) ** 2).sum()), float(np.abs(true - predicted).sum())
    assert float(metrics.rmse(n, sse)) == pytest.approx(np.sqrt(2 / 4))
    assert float(metrics.mae(n, sae)) == pytest.approx(2 / 4)
    assert float(metrics.r2(n, sse, true.sum(), (true**2).sum())) == pytest.approx(1 - 2 / 10)


def test_r2_is_negative_for_a_scorer_worse_than_the_mean_and_undefined_without_variance() -> None:
    assert float(metrics.r2(2.0, 16.0, 6.0, 20.0)) == pytest.approx(1 - 16 / 2)
    assert np.isnan(metrics.r2(3.0, 1.0, 3 * 0.1, 3 * 0.1**2))
    assert np.isnan(metrics.rmse(0.0, 0.0)) and np.isnan(metrics.mae(0.0, 0.0))


# --- beyond accuracy -------------------------------------------------------------------------------------------------


def test_coverage_counts_what_lists_could_show_at_most() -> None:
    lists = np.array([[0, 1], [1, 2], [1, PADDING]])
    assert metrics.coverage(lists, n_items=100) == pytest.approx(3 / 6)
    assert metrics.coverage(lists, n_items=4) == pytest.approx(3 / 4)


def test_diversity_leaves_out_items_without_genres() -> None:
    genres = sparse.csr_matrix(np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0]], dtype=np.float32))
    lists = np.array([[0, 1, 2], [0, 3, 4], [0, 4, PADDING]])
    diversity = metrics.intra_list_diversity(lists, genres)
    assert diversity[:2] == pytest.approx([(0 + 1 + 1) / 3, 1 - 1 / np.sqrt(2)])
    assert np.isnan(diversity[2])  # one item with genres makes no pair


def test_novelty_is_surprise_in_bits() -> None:
    counts = np.array([7, 3, 0])
    assert metrics.novelty(np.array([[0, 1], [2, PADDING]]), counts, n_users=7) == pytest.approx([(0 + 1) / 2, 3])


def test_where_items_are_many_fewer_users_are_scored_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Counting(Matrix):
        def score(self, users):
            asked.append(len(users))
            return super().score(users)

    scores = np.random.default_rng(0).random((10, 6))
    users, positives, seen = np.arange(10), np.arange(10) % 6, sparse.csr_matrix((10, 6))
    whole = metrics.rank_catalogue(Counting(scores), users, positives, seen, k=3)
    monkeypatch.setattr(metrics, "TILE_SCORES", 26)
    tiled = metrics.rank_catalogue(Counting(scores), users, positives, seen, k=3)
    assert asked == [10, 4, 4, 2]
    for name, array in vars(whole).items():
        assert np.array_equal(array, getattr(tiled, name))
