"""Splits and candidates hold for any data: disjoint, complete, latest, blind, the same every time."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import DataError
from datasets.top_k import PADDING
from datasets.types import Dataset, Interactions
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.negatives import draw_negatives
from protocols.splits import keep_latest
from protocols.types import EvaluationProtocol, Split

N_ITEMS = 9

histories = st.lists(
    st.lists(st.tuples(st.integers(0, N_ITEMS - 1), st.integers(0, 3)), max_size=8, unique_by=lambda row: row[0]),
    min_size=1,
    max_size=6,
).filter(lambda users: any(len(rows) >= 3 for rows in users))
"""For each user (item, time) with many equal times."""


def dataset_of(users: list[list[tuple[int, int]]], with_times: bool = True) -> Dataset:
    rows = sorted((user, time, item) for user, own in enumerate(users) for item, time in own)
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    interactions = Interactions(
        columns[0].astype(np.int32),
        columns[2].astype(np.int32),
        (1 + (columns[2] + columns[0]) % 5).astype(np.float32),
        columns[1].astype(np.int64) if with_times else None,
        len(users),
        N_ITEMS,
    )
    ids = np.arange(len(users)), np.arange(N_ITEMS)
    return Dataset("drawn", interactions, *ids, (1.0, 5.0), "", "", "")


def pairs(rows: Interactions) -> list[tuple[int, int]]:
    return list(zip(rows.users.tolist(), rows.items.tolist(), strict=True))


def same(a: Split, b: Split) -> bool:
    return a.fingerprint == b.fingerprint and all(
        np.array_equal(getattr(a, part).items, getattr(b, part).items) for part in ("train", "valid", "test")
    )


protocols = st.sampled_from(
    [
        LeaveOneOut(LeaveOneOut.Config(negatives=4)),
        LeaveOneOut(LeaveOneOut.Config(held_out="random", negatives=4)),
        Holdout(),
        Holdout(Holdout.Config(folds=3, fold=2)),
        Holdout(Holdout.Config(by="time")),
    ]
)


@given(users=histories, protocol=protocols, split_seed=st.integers(0, 5))
def test_parts_are_disjoint_complete_and_repeatable(
    users: list[list[tuple[int, int]]], protocol: EvaluationProtocol, split_seed: int
) -> None:
    dataset = dataset_of(users)
    try:
        split = protocol.split(dataset, split_seed)
    except DataError:
        assert isinstance(protocol, Holdout) and len(dataset.interactions) < 24  # a part would be empty
        return
    parts = pairs(split.train) + pairs(split.valid) + pairs(split.test)
    assert sorted(parts) == sorted(pairs(dataset.interactions))
    np.random.seed(split_seed)  # global state, such as a model's seed, has no say
    random.seed(split_seed)
    assert same(split, protocol.split(dataset, split_seed))


@given(users=histories)
def test_the_test_item_is_the_latest_and_of_ties_the_largest(users: list[list[tuple[int, int]]]) -> None:
    split = LeaveOneOut(LeaveOneOut.Config(negatives=2)).split(dataset_of(users), 0)
    histories_by_time = {
        user: [item for _, item in sorted((time, item) for item, time in own)] for user, own in enumerate(users)
    }
    wanted = {user: items for user, items in histories_by_time.items() if len(items) >= 3}
    assert pairs(split.test) == [(user, items[-1]) for user, items in wanted.items()]
    assert pairs(split.valid) == [(user, items[-2]) for user, items in wanted.items()]
    assert split.notes["users_without_test"] == len(users) - len(wanted)


@given(users=histories, split_seed=st.integers(0, 3), held_out=st.sampled_from(["latest", "random"]))
def test_candidates_are_distinct_free_and_blind(
    users: list[list[tuple[int, int]]], split_seed: int, held_out: str
) -> None:
    config = LeaveOneOut.Config(held_out=held_out, negatives=4)  # type: ignore[arg-type]
    split = LeaveOneOut(config).split(dataset_of(users), split_seed)
    rated: dict[int, set[int]] = defaultdict(set)
    for user, own in enumerate(users):
        rated[user] = {item for item, _ in own}
    assert split.candidates is not None and split.valid_candidates is not None
    known = pairs(split.train) + pairs(split.valid)
    for rows, drawn, taken in (
        (split.test, split.candidates, rated),
        (split.valid, split.valid_candidates, {user: {i for u, i in known if u == user} for user in rated}),
    ):
        for user, positive, row in zip(rows.users, rows.items, drawn, strict=True):
            negatives = [item for item in row[1:] if item != PADDING]
            assert row[0] == positive
            assert len(set(negatives)) == len(negatives) == min(4, N_ITEMS - len(taken[user]))
            assert not set(negatives) & taken[user]


@given(users=histories)
def test_validation_candidates_do_not_depend_on_the_test_item(users: list[list[tuple[int, int]]]) -> None:
    """Another test item, the same train and validation rows: the same validation candidates."""
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=3))
    before = protocol.split(dataset_of(users), 1)
    test_item = dict(pairs(before.test))
    moved = []
    for user, own in enumerate(users):
        free = [item for item in range(N_ITEMS) if item not in {i for i, _ in own}]
        rest = [(item, time) for item, time in own if item != test_item.get(user)]
        moved.append([*rest, (free[0], 9)] if user in test_item and free else own)
    after = protocol.split(dataset_of(moved), 1)
    assert np.array_equal(before.valid.items, after.valid.items)
    assert np.array_equal(before.valid_candidates, after.valid_candidates)


@given(users=histories, k=st.integers(1, 9))
def test_the_latest_k_rows_are_those_that_a_loop_keeps(users: list[list[tuple[int, int]]], k: int) -> None:
    wanted = []
    for user, own in enumerate(users):
        by_time = sorted((time, item) for item, time in own)
        wanted += [(user, item) for _, item in by_time[max(0, len(by_time) - k) :]]
    assert pairs(keep_latest(dataset_of(users).interactions, k)) == wanted


@given(users=histories, k=st.integers(1, 9), data=st.data())
def test_a_short_history_changes_nothing_but_train(
    users: list[list[tuple[int, int]]], k: int, data: st.DataObject
) -> None:
    kind, options = data.draw(
        st.sampled_from(
            [
                (LeaveOneOut, {"negatives": 4}),
                (LeaveOneOut, {"held_out": "random", "positive_min": 2, "negatives": 4}),
                (Holdout, {}),
                (Holdout, {"folds": 3, "fold": 1}),
                (Holdout, {"by": "time"}),
            ]
        )
    )
    try:
        whole = kind(kind.Config(**options)).split(dataset_of(users), 1)
    except DataError:
        return
    short = kind(kind.Config(**options, max_history=k)).split(dataset_of(users), 1)
    assert pairs(short.train) == pairs(keep_latest(whole.train, k))
    assert pairs(short.valid) == pairs(whole.valid) and pairs(short.test) == pairs(whole.test)
    assert np.array_equal(short.candidates, whole.candidates)  # type: ignore[arg-type]
    assert np.array_equal(short.valid_candidates, whole.valid_candidates)  # type: ignore[arg-type]
    assert (short.fingerprint == whole.fingerprint) == (len(short.train) == len(whole.train))


@given(users=histories, folds=st.integers(2, 6))
def test_folds_cover_every_row_once(users: list[list[tuple[int, int]]], folds: int) -> None:
    dataset = dataset_of(users)
    if len(dataset.interactions) < 24:
        return
    tested = []
    for fold in range(folds):
        tested += pairs(Holdout(Holdout.Config(folds=folds, fold=fold)).split(dataset, 3).test)
    assert sorted(tested) == sorted(pairs(dataset.interactions))


@given(users=histories)
def test_time_holdout_keeps_time_in_order(users: list[list[tuple[int, int]]]) -> None:
    dataset = dataset_of(users)
    try:
        split = Holdout(Holdout.Config(by="time")).split(dataset, 0)
    except DataError:
        return
    assert split.train.times.max() <= split.valid.times.min()
    assert split.valid.times.max() < split.test.times.min()


@given(
    n_items=st.integers(1, 30),
    count=st.integers(1, 12),
    excluded=st.sets(st.integers(0, 89)),
    seed=st.integers(0, 9),
)
def test_negatives_for_any_density(n_items: int, count: int, excluded: set[int], seed: int) -> None:
    keys = np.array(sorted(key for key in excluded if key < 3 * n_items), dtype=np.int64)
    drawn = draw_negatives(keys, np.arange(3), n_items, count, np.random.default_rng(seed))
    assert drawn.shape == (3, count) and drawn.dtype == np.int32
    for user in range(3):
        free = {item for item in range(n_items) if user * n_items + item not in excluded}
        negatives = [item for item in drawn[user].tolist() if item != PADDING]
        assert set(negatives) <= free and len(set(negatives)) == len(negatives) == min(count, len(free))
    again = draw_negatives(keys, np.arange(3), n_items, count, np.random.default_rng(seed))
    assert np.array_equal(drawn, again)


def test_data_without_times_hold_out_a_random_item() -> None:
    dataset = dataset_of([[(item, 0) for item in range(8)]] * 5, with_times=False)
    split = LeaveOneOut(LeaveOneOut.Config(negatives=1)).split(dataset, 1)
    draws = np.random.default_rng([1, 1]).random(40).reshape(5, 8)
    assert split.test.items.tolist() == draws.argmin(axis=1).tolist()
    with pytest.raises(DataError, match="no times"):
        Holdout(Holdout.Config(by="time")).split(dataset, 1)
