"""What protocols refuse in a side file: each array that cannot be, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from made_records import N_ITEMS, N_USERS, errors, hits

from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import Arrays

Change = Callable[[Arrays], Any]


def both(name: str, value: Any) -> Change:
    """The array with its last entry replaced."""

    def change(arrays: Arrays) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][-1] = value

    return change


@pytest.mark.parametrize("n", [0, 1, 3])
def test_lists_or_candidates_alone_are_an_answer(n: int) -> None:
    whole = hits(*[1] * 3, full=(1,) * n)
    LeaveOneOut().check_outcomes(whole, N_USERS, N_ITEMS)
    of_candidates = ("positive_score", "n_better", "n_tied", "n_candidates")
    LeaveOneOut().check_outcomes({**whole, **{k: whole[k][:0] for k in of_candidates}}, N_USERS, N_ITEMS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (both("users", 0), "array users must name users below"),
        (both("users", N_USERS), "array users must name users below"),
        (both("users_full", N_USERS - 1), "array users_full names a user who is not in users"),
        (both("n_better", -1), "array n_better holds -1"),
        (both("n_better", 100), "n_better and n_tied count as many candidates as there are"),
        (both("n_tied_full", 99), "n_better_full and n_tied_full count"),
        (both("n_candidates", 101), "array n_candidates holds 100 to 101, 1 to 100 is required"),
        (both("n_candidates_full", 0), "array n_candidates_full holds 0"),
        (both("positive_score", np.inf), "array positive_score holds"),
        (both("positive_score_full", np.nan), "array positive_score_full holds"),
        (both("top_items", N_ITEMS), "array top_items holds"),
        (both("novelty", np.inf), "array novelty holds"),
        (lambda arrays: arrays.pop("n_tied"), "array n_tied is missing"),
        (lambda arrays: arrays.pop("users"), "array users is missing"),
        (lambda arrays: arrays.update(n_items=np.array([3])), "array n_items holds 3 to 3"),
        (lambda arrays: arrays.update(n_tied=np.zeros((3, 1), np.int32)), "array n_tied is int32 (3, 1)"),
        (lambda arrays: arrays.update(n_tied=np.zeros(3)), "array n_tied is float64"),
        (lambda arrays: arrays.update(cold_item=np.zeros(2, bool)), "array cold_item is bool (2,)"),
        (lambda arrays: arrays.update(diversity=np.full(3, 1.1)), "array diversity holds 1.1"),
    ],
)
def test_leave_one_out(change: Change, reason: str) -> None:
    arrays = hits(1, 0, 0)
    change(arrays)
    with pytest.raises(ValueError) as error:
        LeaveOneOut().check_outcomes(arrays, N_USERS, N_ITEMS)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (both("n", 0), "array n holds 0"),
        (both("sse", -1e-9), "array sse holds -1e-09"),
        (both("sae", np.nan), "array sae holds nan"),
        (both("sum_y", 1e200), "array sum_y holds"),
        (both("cold_n", 9), "array cold_n is more than n"),
        (both("cold_sse", 3.5), "array cold_sse is more than sse"),
        (lambda arrays: arrays.pop("cold_sum_y"), "array cold_sum_y is missing"),
        (lambda arrays: arrays.update(cold_item_n=np.zeros(2)), "array cold_item_sse is missing"),
        (lambda arrays: arrays.update(users=np.zeros(0, np.int32)), "no test user"),
        (lambda arrays: arrays.update(users=np.array([0.0, 1.0])), "array users is float64"),
    ],
)
def test_holdout(change: Change, reason: str) -> None:
    arrays = errors([1.0, 3.0], [2, 3])
    Holdout().check_outcomes(arrays, N_USERS, N_ITEMS)
    change(arrays)
    with pytest.raises(ValueError) as error:
        Holdout().check_outcomes(arrays, N_USERS, N_ITEMS)
    assert reason in str(error.value)
