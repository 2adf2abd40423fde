"""Maximal marginal relevance against lists worked out by hand and against a plainer program."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from algorithms._mmr import mmr
from datasets.top_k import PADDING, top_k

A, B, AB = [1, 0], [0, 1], [1, 1]


def test_by_hand():
    """Relevance 1, .9, .6, 0. Second place: .5·.9 − .5·1 = −.05 for item 1, .5·.6 − 0 = .3 for item 2."""
    scores, features = np.array([[10.0, 9.0, 6.0, 0.0]]), np.array([A, A, B, A])
    assert mmr(scores, features, 3, 0.5).tolist() == [[0, 2, 1]]


def test_similarity_is_the_cosine_with_the_nearest_listed_item():
    """Relevance 1, .8, .7, .6, 0; cosine of AB with A or B .707.

    Second place at λ = .6: .48 − .4 for item 1, .42 − .283 for item 2, .36 − 0 for item 3. Third: .08 for item 1, and
    .137 for item 2, which would have −.146 if similarities to the two listed items were added up.
    """
    scores, features = np.array([[10.0, 8.0, 7.0, 6.0, 0.0]]), np.array([A, A, AB, B, A])
    assert mmr(scores, features, 3, 0.6).tolist() == [[0, 3, 2]]


def test_trade_off_of_one_keeps_the_order_and_of_zero_looks_at_features_alone():
    scores, features = np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([A, A, A, B])
    assert mmr(scores, features, 4, 1.0).tolist() == [[0, 1, 2, 3]]
    assert mmr(scores, features, 2, 0.0).tolist() == [[0, 3]]


def test_items_without_features_resemble_nothing():
    scores, features = np.array([[3.0, 2.0, 1.0]]), np.array([A, A, [0, 0]])
    assert mmr(scores, features, 2, 0.3).tolist() == [[0, 2]]


def test_ties_go_to_the_higher_score_then_to_the_lower_index():
    assert mmr(np.zeros((1, 4)), np.array([A] * 4), 3, 0.5).tolist() == [[0, 1, 2]]
    # Gains of the second place at λ = .5: (1 − 1) / 2 for item 2, (0 − 0) / 2 for item 0.
    assert mmr(np.array([[0.0, 1.0, 1.0]]), np.array([B, A, A]), 2, 0.5).tolist() == [[1, 2]]


def test_only_the_pool_is_ranked_again():
    scores, features = np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([A, A, A, B])
    assert mmr(scores, features, 2, 0.0, pool=3).tolist() == [[0, 1]]
    assert mmr(scores, features, 4, 0.0, pool=1)[0, 1] == 3  # never fewer than k


def test_masked_items_are_never_listed_and_short_lists_are_padded():
    scores = np.array([[1.0, -np.inf, 3.0], [-np.inf] * 3, [2.0, 1.0, 0.0]])
    lists = mmr(scores, np.array([A, B, A]), 4, 0.5)
    assert lists.dtype == np.int32
    assert lists.tolist() == [[2, 0, PADDING, PADDING], [PADDING] * 4, [0, 1, 2, PADDING]]


def test_trade_off_outside_zero_and_one_is_refused():
    with pytest.raises(ValueError, match="trade_off must lie between 0 and 1"):
        mmr(np.zeros((1, 2)), np.array([A, B]), 1, 1.5)


@given(st.integers(0, 10_000), st.floats(0, 1), st.integers(1, 12))
def test_against_a_loop(seed, trade_off, k):
    rng = np.random.default_rng(seed)
    scores, genres = rng.normal(size=(3, 15)).astype(np.float32), (rng.random((15, 4)) < 0.4).astype(float)
    scores[rng.random((3, 15)) < 0.2] = -np.inf
    given_scores = scores.copy()
    lists = mmr(scores, sparse.csr_matrix(genres), k, trade_off, pool=12)
    assert np.array_equal(scores, given_scores)
    for row, items in zip(scores, lists, strict=True):
        assert items.tolist() == _listed_one_by_one(row, genres, k, trade_off, 12)


def _listed_one_by_one(scores, genres, k, trade_off, pool):
    """MMR as in the paper: loops and no arrays."""

    def cosine(i, j):
        product = np.linalg.norm(genres[i]) * np.linalg.norm(genres[j])
        return genres[i] @ genres[j] / product if product else 0.0

    left = [item for item in top_k(scores[None, :], pool)[0].tolist() if item != PADDING]
    values = scores[left].astype(np.float64)
    spread = np.ptp(values) if left else 0
    relevance = dict(zip(left, (values - values.min()) / spread if spread else np.ones(len(left)), strict=True))
    listed = []
    while left and len(listed) < k:
        gains = [
            trade_off * relevance[i] - (1 - trade_off) * max((cosine(i, j) for j in listed), default=0) for i in left
        ]
        best = next(place for place, gain in enumerate(gains) if gain >= max(gains) - 1e-9)
        listed.append(left.pop(best))
    return listed + [PADDING] * (k - len(listed))
