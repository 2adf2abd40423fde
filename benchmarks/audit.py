"""Data and split audit: what a data set is like, and what leave-one-out tests on it. No framework is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from datasets.errors import UserError
from datasets.types import Dataset, IntArray, Interactions
from protocols.leave_one_out import LeaveOneOut
from protocols.types import Split

SPLIT_SEED = 42
DAY_S = 86_400
SITTING_S = 60


@dataclass(frozen=True)
class DataAudit:
    """Counts of a data set and its long tail.

    Attributes:
        density: rows / (users × items).
        top_1_percent, top_10_percent: share of the rows on that part of the items, the most rated ones, rounded up.
        per_user, per_item: (median, most) rows.
    """

    n_rows: int
    n_users: int
    n_items: int
    density: float
    mean_value: float
    top_1_percent: float
    top_10_percent: float
    per_user: tuple[float, int]
    per_item: tuple[float, int]


@dataclass(frozen=True)
class SplitAudit:
    """What leave-one-out holds out. "Training rows" are train ∪ valid, which test figures are fitted on."""

    n_test: int
    cold_test_items: int
    times: TimesAudit | None
    """None where the data set has no times."""


@dataclass(frozen=True)
class TimesAudit:
    """The latest item in time.

    Attributes:
        with_later_training: test rows that are older than some training row, which is another user's.
        later_training_share: of all training rows, how many are later than a test row; median over test rows.
        one_day_users: users, of all, whose first and last row are less than 24 hours apart.
        under_60_s: test users whose test and validation rows are less than 60 s apart.
        tied: test users whose test and validation rows have the same time, so that the item id decides.
    """

    with_later_training: int
    later_training_share: float
    one_day_users: int
    under_60_s: int
    tied: int


def audit_data(rows: Interactions) -> DataAudit:
    """Counts over all rows; there is at least one."""
    per_user = np.bincount(rows.users, minlength=rows.n_users)
    per_item = np.bincount(rows.items, minlength=rows.n_items)
    return DataAudit(
        n_rows=len(rows),
        n_users=rows.n_users,
        n_items=rows.n_items,
        density=len(rows) / (rows.n_users * rows.n_items),
        mean_value=float(rows.values.mean(dtype=np.float64)),
        top_1_percent=_share_of_top(per_item, 0.01),
        top_10_percent=_share_of_top(per_item, 0.10),
        per_user=(float(np.median(per_user)), int(per_user.max())),
        per_item=(float(np.median(per_item)), int(per_item.max())),
    )


def audit_split(rows: Interactions, split: Split) -> SplitAudit:
    """``split``: all ``rows`` divided by leave-one-out, so that its test and validation rows are of the same users."""
    return SplitAudit(len(split.test), split.notes["cold_test_items"], _audit_times(rows, split))


def card(dataset: Dataset) -> list[str]:
    """The audit as lines for people, none of them wrapped: titles, and below each what belongs to it, indented."""
    data = audit_data(dataset.interactions)
    lines = _data_lines(data, dataset)
    try:
        split = LeaveOneOut().split(dataset, SPLIT_SEED)
    except UserError as error:
        return [*lines, *_held_out_lines(dataset.interactions.times is not None), f"  {error}"]
    found = audit_split(dataset.interactions, split)
    return [*lines, *_split_lines(data, found), "what this means:", *_meaning(data, found)]


def _share_of_top(counts: IntArray, part: float) -> float:
    top = math.ceil(len(counts) * part)
    return float(np.sort(counts)[-top:].sum() / counts.sum())


def _audit_times(rows: Interactions, split: Split) -> TimesAudit | None:
    test, valid = split.test.times, split.valid.times
    if rows.times is None or split.train.times is None or test is None or valid is None:
        return None
    trained = np.sort(np.concatenate((split.train.times, valid)))
    later = len(trained) - np.searchsorted(trained, test, side="right")
    gaps = test - valid
    return TimesAudit(
        with_later_training=int(np.count_nonzero(later)),
        later_training_share=float(np.median(later) / len(trained)),
        one_day_users=int(np.count_nonzero(_time_spans(rows.users, rows.times) < DAY_S)),
        under_60_s=int(np.count_nonzero(gaps < SITTING_S)),
        tied=int(np.count_nonzero(gaps == 0)),
    )


def _time_spans(users: IntArray, times: IntArray) -> npt.NDArray[np.int64]:
    """Seconds from first to last row of each user that has rows; rows are in canonical order: by user, then time."""
    last = np.append(np.flatnonzero(np.diff(users)), len(users) - 1)
    first = np.append(0, last[:-1] + 1)
    return times[last] - times[first]


def _data_lines(data: DataAudit, dataset: Dataset) -> list[str]:
    scale = "no rating scale" if dataset.rating_scale is None else "scale {:g} to {:g}".format(*dataset.rating_scale)
    told = [f"{count:,} {name.replace('_', ' ')}" for name, count in dataset.notes.items() if count]
    return [
        "counts:",
        f"  {data.n_rows:,} rows, {data.n_users:,} users, {data.n_items:,} items, density {data.density:.2%}",
        f"  values: {scale}, mean {data.mean_value:.2f}",
        *([f"  notes: {', '.join(told)}"] if told else []),
        "long tail:",
        f"  rows on the most popular 1% of items: {data.top_1_percent:.1%}; on 10%: {data.top_10_percent:.1%}",
        f"  rows of a user: median {data.per_user[0]:g}, most {data.per_user[1]:,}",
        f"  rows of an item: median {data.per_item[0]:g}, most {data.per_item[1]:,}",
    ]


def _split_lines(data: DataAudit, found: SplitAudit) -> list[str]:
    cold = f"  test items without a training row: {_of(found.cold_test_items, found.n_test)}"
    times = found.times
    if times is None:
        return [*_held_out_lines(with_times=False), cold]
    return [
        *_held_out_lines(with_times=True),
        f"  test rows older than training rows of others: {_of(times.with_later_training, found.n_test)}",
        f"  training rows later than the median test row: {times.later_training_share:.1%}",
        f"  users with all their rows within 24 hours: {_of(times.one_day_users, data.n_users)}",
        f"  test and validation item less than {SITTING_S} s apart: {_of(times.under_60_s, found.n_test)}",
        f"  test and validation item at the same second: {_of(times.tied, found.n_test)}",
        cold,
    ]


def _held_out_lines(with_times: bool) -> list[str]:
    """The title of the part about the split; without times also which item is held out, as none is the latest."""
    about = f"item (leave-one-out, split seed {SPLIT_SEED}):"
    if with_times:
        return [f"latest {about}"]
    return [f"held-out {about}", "  the data has no times: a seeded random item of each user is held out"]


def _meaning(data: DataAudit, found: SplitAudit) -> list[str]:
    """What the figures say about the held-out items, in sentences that follow from them."""
    said = []
    if found.times is None:
        said.append("Nothing here tells how well a model foresees what comes next: there are no times to split by.")
    else:
        said += [_about_sittings(data, found, found.times), _about_the_future(found, found.times)]
        if found.times.tied:
            said.append(f"For {found.times.tied:,} users not time but the larger item id decides which item is tested.")
    if found.cold_test_items:
        said.append(
            f"What learns from ratings alone finds {found.cold_test_items:,} test items by luck only: they are cold."
        )
    return [f"  {sentence}" for sentence in said]


def _about_sittings(data: DataAudit, found: SplitAudit, times: TimesAudit) -> str:
    close, one_day = times.under_60_s / found.n_test, times.one_day_users / data.n_users
    if max(close, one_day) < 0.5:
        return '"Latest item" is a step in time for most users: their last two items were rated at different sittings.'
    return (
        f"{close:.1%} of users rated their last two items within a minute, {one_day:.1%} all of theirs within a day: "
        '"latest item" is close to "a random item of one sitting".'
    )


def _about_the_future(found: SplitAudit, times: TimesAudit) -> str:
    if times.with_later_training < 0.5 * found.n_test:
        return "Most test rows are later than all training rows: models hardly see the future of others."
    return (
        f"For {times.with_later_training / found.n_test:.1%} of test rows a model has seen what others did later: the "
        "figures tell how well gaps are filled, not how well the future is foreseen (--protocol holdout --by time)."
    )


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} ({count / total:.1%})"
