"""Negatives: distinct, free, uniform, and all that there are when there are few."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from datasets.top_k import PADDING
from datasets.types import Interactions
from protocols.negatives import contains, draw_negatives, pair_keys


def test_keys_are_sorted_over_all_parts() -> None:
    ones = np.ones(2, np.float32)
    first = Interactions(np.array([1, 0], np.int32), np.array([2, 4], np.int32), ones, None, 2, 5)
    second = Interactions(np.array([0, 1], np.int32), np.array([1, 0], np.int32), ones, None, 2, 5)
    assert pair_keys(first, second).tolist() == [1, 4, 5, 7]


def test_users_with_few_free_items_get_all_of_them() -> None:
    excluded = np.array([0, 1, 2, 5, 6, 7, 8, 9])  # user 0 may have 3, 4; user 1 nothing; user 2 all five
    drawn = draw_negatives(excluded, np.arange(3), n_items=5, count=4, rng=np.random.default_rng(0))
    assert drawn[0].tolist() == [3, 4, PADDING, PADDING]
    assert drawn[1].tolist() == [PADDING] * 4
    assert len(set(drawn[2]) & set(range(5))) == 4


def test_more_negatives_than_items() -> None:
    drawn = draw_negatives(np.array([1]), np.array([0]), n_items=3, count=6, rng=np.random.default_rng(0))
    assert drawn.tolist() == [[0, 2, PADDING, PADDING, PADDING, PADDING]]


@pytest.mark.parametrize("n_excluded", [4, 30], ids=["by rejection", "by ranking"])
def test_negatives_are_uniform_over_free_items(n_excluded: int) -> None:
    n_users, n_items, count = 4_000, 40, 5
    own = np.arange(n_excluded)
    excluded = (np.arange(n_users)[:, None] * n_items + own).ravel()
    drawn = draw_negatives(excluded, np.arange(n_users), n_items, count, np.random.default_rng(3))
    seen = np.bincount(drawn.ravel(), minlength=n_items)
    assert not seen[:n_excluded].any()
    assert stats.chisquare(seen[n_excluded:]).pvalue > 1e-3


@pytest.mark.parametrize(("n_items", "n_excluded"), [(8, 3), (5, 0)], ids=["by ranking", "by rejection"])
def test_every_subset_is_as_likely(n_items: int, n_excluded: int) -> None:
    """Two of 5 free items: ten subsets."""
    n_users = 6_000
    excluded = (np.arange(n_users)[:, None] * n_items + np.arange(5, 5 + n_excluded)).ravel()
    drawn = draw_negatives(excluded, np.arange(n_users), n_items, 2, np.random.default_rng(5))
    subsets = np.bincount(drawn[:, 0] * n_items + drawn[:, 1], minlength=n_items**2)
    assert np.count_nonzero(subsets) == 10
    assert stats.chisquare(subsets[subsets > 0]).pvalue > 1e-3


def test_rounds_of_draws_are_those_of_a_loop_over_users() -> None:
    """The stream is part of every split's fingerprint: each round redraws what was rejected, row by row."""
    n_users, n_items, count = 300, 60, 8
    own = np.sort(np.random.default_rng(0).permuted(np.tile(np.arange(n_items), (n_users, 1)), axis=1)[:, :12])
    excluded = (np.arange(n_users)[:, None] * n_items + own).ravel()
    rng = np.random.default_rng(7)
    rows = rng.integers(n_items, size=(n_users, count), dtype=np.int32).tolist()
    open_rows = list(range(n_users))
    while open_rows:
        kept = {row: sorted(set(rows[row]) - set(own[row].tolist())) for row in open_rows}
        open_rows = [row for row in open_rows if len(kept[row]) < count]
        fresh = rng.integers(n_items, size=sum(count - len(kept[row]) for row in open_rows), dtype=np.int32).tolist()
        for row, items in kept.items():
            rows[row] = items + [fresh.pop(0) for _ in range(count - len(items))]
    drawn = draw_negatives(excluded, np.arange(n_users), n_items, count, np.random.default_rng(7))
    assert drawn.tolist() == [sorted(row) for row in rows]


def test_membership_in_tiles_of_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.negatives._LOOKUP_TILE", 3)
    rng = np.random.default_rng(0)
    sorted_keys, keys = np.unique(rng.integers(0, 50, 20)), rng.integers(-5, 60, 40)
    assert contains(sorted_keys, keys).tolist() == np.isin(keys, sorted_keys).tolist()


def test_membership_against_sets() -> None:
    keys = np.array([2, 3, 9])
    assert contains(keys, np.array([0, 2, 4, 9, 10])).tolist() == [False, True, False, True, False]
    assert contains(keys[:0], np.array([1])).tolist() == [False]


def test_speed_at_a_tenth_of_movielens_20m() -> None:
    """The full size takes .8 s on one core of 2023; a loop over users would need minutes."""
    rng = np.random.default_rng(0)
    n_users, n_items = 13_849, 26_744
    excluded = np.unique(rng.integers(0, n_users * n_items, 2_000_000))
    started = time.process_time()
    drawn = draw_negatives(excluded, np.arange(n_users), n_items, 99, np.random.default_rng(1))
    assert time.process_time() - started < 2
    assert not contains(excluded, (np.arange(n_users)[:, None] * n_items + drawn).ravel()).any()
