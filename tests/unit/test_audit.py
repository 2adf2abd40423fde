"""The data and split audit: real MovieLens counted again in plain Python, and small data where the answer is known."""

from __future__ import annotations

import csv
import statistics
from bisect import bisect_right
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.audit import SPLIT_SEED, audit_data, audit_split, card
from datasets.canonical import build_dataset
from datasets.movielens import MovieLensSmall
from datasets.synthetic_genres import SyntheticGenres
from datasets.types import Dataset
from protocols.leave_one_out import LeaveOneOut

DAY = 86_400


@pytest.fixture(scope="module")
def small(movielens: Path) -> Dataset:
    return MovieLensSmall().load([movielens / "ratings.csv", movielens / "movies.csv"])


@pytest.fixture(scope="module")
def histories(movielens: Path) -> dict[int, list[tuple[int, int]]]:
    """User -> (time, item) in order, straight from the file."""
    found = defaultdict(list)
    with (movielens / "ratings.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found[int(row["userId"])].append((int(row["timestamp"]), int(row["movieId"])))
    return {user: sorted(rows) for user, rows in found.items()}


def dataset_of(rows: list[tuple[int, int, int]], with_times: bool = True) -> Dataset:
    """From (user, item, time)."""
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    return build_dataset(
        name="toy",
        users=users,
        items=items,
        values=np.ones(len(rows)),
        times=times if with_times else None,
        rating_scale=None,
        licence="",
        citation="",
    )


def split_audit(dataset: Dataset):
    return audit_split(dataset.interactions, LeaveOneOut().split(dataset, SPLIT_SEED))


def test_counts_of_movielens_agree_with_plain_python(small: Dataset, histories: dict) -> None:
    per_user = sorted(len(rows) for rows in histories.values())
    per_item = sorted(Counter(item for rows in histories.values() for _, item in rows).values())
    found = audit_data(small.interactions)
    assert (found.n_rows, found.n_users, found.n_items) == (100_836, 610, 9_724)
    assert (found.n_rows, found.n_users, found.n_items) == (sum(per_user), len(per_user), len(per_item))
    assert found.density == pytest.approx(100_836 / 610 / 9_724)
    assert found.mean_value == pytest.approx(3.5016, abs=1e-4)
    assert found.per_user == (statistics.median(per_user), per_user[-1])
    assert found.per_item == (statistics.median(per_item), per_item[-1])
    assert found.top_1_percent == pytest.approx(sum(per_item[-98:]) / 100_836)
    assert found.top_10_percent == pytest.approx(sum(per_item[-973:]) / 100_836)


def test_latest_items_of_movielens_agree_with_plain_python(small: Dataset, histories: dict) -> None:
    training = [row for rows in histories.values() for row in rows[:-1]]
    trained_items = {item for _, item in training}
    tests = [rows[-1] for rows in histories.values()]
    times = sorted(time for time, _ in training)
    later = [len(times) - bisect_right(times, test_time) for test_time, _ in tests]
    gaps = [rows[-1][0] - rows[-2][0] for rows in histories.values()]

    found = split_audit(small)
    assert found.n_test == 610
    assert found.cold_test_items == sum(item not in trained_items for _, item in tests) == 23
    assert found.times is not None
    assert found.times.with_later_training == sum(count > 0 for count in later)
    assert found.times.later_training_share == pytest.approx(statistics.median(later) / len(training))
    assert found.times.one_day_users == sum(rows[-1][0] - rows[0][0] < DAY for rows in histories.values())
    assert found.times.under_60_s == sum(gap < 60 for gap in gaps)
    assert found.times.tied == sum(gap == 0 for gap in gaps) == 94


def test_card_of_movielens_says_what_latest_item_means(small: Dataset) -> None:
    text = "\n".join(card(small))
    assert "609 of 610 (99.8%)" in text and "94 users" in text and "23 test items" in text
    assert '"latest item" is close to "a random item of one sitting"' in text
    assert "not how well the future is foreseen" in text


def test_boundaries_of_a_day_and_of_a_sitting() -> None:
    """User 0's history is one second short of a day, user 1's is a day; their last gaps are 59 and 60 s."""
    rows = [(0, 0, 0), (0, 1, DAY - 60), (0, 2, DAY - 1), (1, 0, 0), (1, 1, DAY - 60), (1, 2, DAY)]
    found = split_audit(dataset_of(rows))
    assert found.times is not None
    assert (found.times.one_day_users, found.times.under_60_s, found.times.tied) == (1, 1, 0)


def test_a_training_row_at_the_same_second_is_not_later() -> None:
    """User 1's validation row is at second 9: after user 0's test row at 8, beside user 2's at 9."""
    rows = [(0, 0, 1), (0, 1, 2), (0, 2, 8), (1, 0, 1), (1, 1, 9), (1, 2, 20), (2, 0, 1), (2, 1, 2), (2, 2, 9)]
    found = split_audit(dataset_of(rows))
    assert found.times is not None
    assert found.times.with_later_training == 1
    assert found.times.later_training_share == 0  # the median of 1, 0 and 0 of 6 rows


def test_users_with_too_few_rows_count_as_users_but_not_as_tests() -> None:
    found = split_audit(dataset_of([(0, 0, 1), (0, 1, 2), (0, 2, 3), (1, 0, 1)]))
    assert found.times is not None
    assert (found.n_test, found.times.one_day_users) == (1, 2)


def test_a_step_in_time_is_not_called_a_sitting() -> None:
    """Each user's rows are years apart, and no training row is later than a test row."""
    year = 365 * DAY
    text = "\n".join(card(dataset_of([(user, item, (item + 1) * year) for user in range(4) for item in range(3)])))
    assert "is a step in time" in text and "one sitting" not in text
    assert "Most test rows are later than all training rows" in text and "decides which item" not in text


def test_without_times_the_card_says_so_and_gives_the_rest() -> None:
    synthetic = SyntheticGenres()
    text = "\n".join(card(synthetic.load([])))
    assert "the data has no times: a seeded random item of each user is held out" in text
    assert "34,953 rows, 10,000 users, 1,000 items" in text
    assert "test items without a training row: 0 of 10,000" in text and "latest item" not in text


def test_a_data_set_that_cannot_be_split_still_has_its_counts() -> None:
    lines = card(dataset_of([(0, 0, 1), (1, 0, 2)]))
    assert any("2 rows, 2 users, 1 items" in line for line in lines)
    assert "no user of 'toy' has 3 positives" in lines[-1] and lines[-2].startswith("latest item (")


def test_without_times_a_data_set_that_cannot_be_split_has_no_latest_item() -> None:
    text = "\n".join(card(dataset_of([(0, 0, 1), (1, 0, 2)], with_times=False)))
    assert "a seeded random item" in text and "no user of 'toy' has 3 positives" in text and "latest item" not in text
