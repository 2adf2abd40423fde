"""Splits by hand: who is held out, in which order, and what identifies a split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datasets.errors import NotApplicableError
from datasets.types import Interactions
from protocols import splits
from protocols.types import Split


def rows_of(users: list[int], n_items: int = 20) -> Interactions:
    n = len(users)
    items = np.arange(n, dtype=np.int32) % n_items
    return Interactions(np.array(users, np.int32), items, np.ones(n, np.float32), np.arange(n), max(users) + 1, n_items)


def test_latest_is_the_last_row_and_short_users_train_only() -> None:
    division = splits.leave_latest_out(np.array([0, 0, 0, 0, 1, 1, 3, 3, 3]))
    assert np.flatnonzero(division.test).tolist() == [3, 8]
    assert np.flatnonzero(division.valid).tolist() == [2, 7]
    assert np.flatnonzero(division.train).tolist() == [0, 1, 4, 5, 6]


def test_random_item_has_the_smallest_draw_of_its_user() -> None:
    draws = np.array([0.3, 0.1, 0.2, 0.9, 0.5, 0.0])
    division = splits.leave_random_out(np.array([0, 0, 0, 1, 1, 1]), draws)
    assert np.flatnonzero(division.test).tolist() == [1, 5]
    assert np.flatnonzero(division.valid).tolist() == [2, 4]


def test_equal_draws_keep_canonical_order() -> None:
    division = splits.leave_random_out(np.zeros(4, dtype=int), np.full(4, 0.5))
    assert (np.flatnonzero(division.test).tolist(), np.flatnonzero(division.valid).tolist()) == ([0], [1])


def test_rows_out_of_canonical_order_are_refused() -> None:
    with pytest.raises(ValueError, match="canonical order"):
        splits.leave_latest_out(np.array([1, 0, 0]))


def test_holdout_takes_the_first_rows_of_the_drawn_order() -> None:
    division = splits.random_holdout(107, split_seed=42)
    order = np.argsort(np.random.default_rng([42, 0]).random(107), kind="stable")
    assert np.flatnonzero(division.test).tolist() == sorted(order[:21])  # round(21.4)
    assert np.flatnonzero(division.valid).tolist() == sorted(order[21:32])  # round(10.7)


def test_the_first_of_five_folds_is_the_plain_holdout() -> None:
    plain, fold = splits.random_holdout(100, 42), splits.random_holdout(100, 42, folds=5, fold=0)
    assert np.array_equal(plain.test, fold.test) and np.array_equal(plain.valid, fold.valid)


def test_time_holdout_is_latest_and_never_divides_one_time() -> None:
    times = np.array([5, 1, 9, 9, 3, 2, 4, 6, 7, 8, 9, 0, 1, 2, 3])  # the 80 % quantile is 8.2
    division = splits.time_holdout(times)
    assert sorted(times[division.test]) == [9, 9, 9]
    assert np.flatnonzero(division.valid).tolist() == [8, 9]  # the latest eighth of 12 rows: round(1.5) = 2
    at_the_cut = splits.time_holdout(np.array([0, 1, 2, 3, 4, 4, 4, 4, 4, 4]))
    assert at_the_cut.test.sum() == 6


def test_the_latest_rows_of_each_user_are_kept() -> None:
    rows = rows_of([0, 0, 0, 1, 3, 3])  # item and time are the row's place
    assert splits.keep_latest(rows, 2).items.tolist() == [1, 2, 3, 4, 5]
    last = splits.keep_latest(rows, 1)
    assert last.items.tolist() == [2, 3, 5] and last.users.tolist() == [0, 1, 3]
    assert last.times is not None and last.times.tolist() == [2, 3, 5]
    assert (last.n_users, last.n_items) == (rows.n_users, rows.n_items)
    assert splits.keep_latest(rows, 3).items.tolist() == splits.keep_latest(rows, 10**9).items.tolist() == [*range(6)]


def test_no_rows_have_no_latest_ones() -> None:
    nobody = rows_of([0]).select(np.zeros(1, dtype=bool))
    assert len(splits.keep_latest(nobody, 3)) == 0


def test_without_times_there_is_no_latest_row() -> None:
    with pytest.raises(NotApplicableError, match=r"max_history .* has no times"):
        splits.keep_latest(replace(rows_of([0, 0]), times=None), 1)


@pytest.mark.parametrize(
    ("n_users", "n_pairs"), [(12_000, 200_000_000), (10_000, 200_000_001), (3, 10**12), (0, 10**12)]
)
def test_all_users_are_ranked_where_that_is_cheap_or_they_are_few(n_users: int, n_pairs: int) -> None:
    users = np.arange(5, 5 + n_users, dtype=np.int32)
    np.testing.assert_array_equal(splits.sample_of_users(users, n_pairs), users)


def test_beyond_that_a_fixed_sample_is_ranked() -> None:
    users = np.arange(7, 7 + 2 * 12_000, 2, dtype=np.int32)  # not every user has a test row
    sample = splits.sample_of_users(users, 200_000_001)
    draws = np.random.default_rng([0, 4]).random(12_000)
    assert sample.tolist() == sorted(users[np.argsort(draws, kind="stable")[:10_000]])
    assert sample.dtype == np.int32 and len(np.unique(sample)) == 10_000
    np.random.seed(1)  # global state, such as a model's seed, has no say
    np.testing.assert_array_equal(splits.sample_of_users(users, 10**12), sample)


def test_validation_split_asks_about_the_validation_rows() -> None:
    train, valid, test = rows_of([0, 1]), rows_of([0, 0, 1]), rows_of([1])
    drawn, blind = np.ones((1, 2), np.int32), np.zeros((3, 2), np.int32)
    view = Split(train, valid, test, drawn, "f", blind).for_validation()
    assert view.train is train and view.test is valid and view.candidates is blind
    assert len(view.valid) == 0 and view.valid_candidates is None


# --- identity --------------------------------------------------------------------------------------------------------


def identity(
    test: Interactions | None = None, candidates: np.ndarray | None = None, user_ids: np.ndarray | None = None
) -> str:
    train, valid = rows_of([0, 0, 1]), rows_of([0, 1])
    return splits.fingerprint(
        train,
        valid,
        rows_of([0, 1]) if test is None else test,
        np.array([[0, 3], [1, 4]], dtype=np.int32) if candidates is None else candidates,
        None,
        np.array([10, 11]) if user_ids is None else user_ids,
        np.arange(20),
    )


def test_fingerprint_is_not_made_of_counts() -> None:
    other_pairs = replace(rows_of([0, 1]), items=np.array([1, 0], dtype=np.int32))
    assert identity(test=other_pairs) != identity()
    assert identity(candidates=np.array([[0, 3], [1, 5]], dtype=np.int32)) != identity()
    assert identity(user_ids=np.array([10, 12])) != identity()


def test_fingerprint_knows_train_from_test() -> None:
    a, b, ids = rows_of([0, 0, 1]), rows_of([0, 1, 1]), np.arange(2)
    assert splits.fingerprint(a, b, b, None, None, ids, ids) != splits.fingerprint(b, a, b, None, None, ids, ids)


def test_fingerprint_does_not_depend_on_storage() -> None:
    assert identity(user_ids=np.array([10, 11], dtype=np.int16)) == identity()
    wide = np.array(["a", "b"], dtype="<U40")
    assert identity(user_ids=wide) == identity(user_ids=np.array(["a", "b"], dtype="<U1"))
    assert identity(user_ids=np.array(["10", "11"])) != identity()  # text ids are other ids
    assert identity(candidates=np.array([[0, 3], [1, 4]], dtype=np.int64)) == identity()
