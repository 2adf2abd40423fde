"""Which rows are held out, and the identity of a split. Vectorised: no Python per user."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import sparse

from datasets.errors import NotApplicableError
from datasets.types import IntArray, Interactions

Mask = npt.NDArray[np.bool_]

TEST_SHARE = 0.2
VALID_SHARE = 0.1
TRAIN_QUANTILE = 0.8

MOST_RANKED_PAIRS = 200_000_000
RANKED_SAMPLE = 10_000


class Stream(IntEnum):
    """Streams of draws, one for each purpose, so that one more draw here never moves another there."""

    HOLDOUT = 0
    LEAVE_ONE_OUT_ITEM = 1
    TEST_NEGATIVES = 2
    VALID_NEGATIVES = 3
    RANK_SAMPLE = 4


def generator(split_seed: int, stream: Stream) -> np.random.Generator:
    """``default_rng([split_seed, stream])``: belongs to the split, never to a model."""
    return np.random.default_rng([split_seed, int(stream)])


@dataclass(frozen=True, eq=False)
class Division:
    """(n,) masks over canonical rows; rows in neither are training rows."""

    valid: Mask
    test: Mask

    @property
    def train(self) -> Mask:
        return ~(self.valid | self.test)


def leave_latest_out(users: IntArray) -> Division:
    """Test is each user's last row in canonical order, validation the one before it.

    Canonical order is by user, time, item id: of rows with the latest time, the larger item id is the test item.
    Users with fewer than 3 rows have neither.

    Args:
        users: (n,) users of rows in canonical order, ascending.
    """
    _, stops = _long_groups(users)
    return Division(_mask(stops - 2, len(users)), _mask(stops - 1, len(users)))


def leave_random_out(users: IntArray, draws: npt.NDArray[np.float64]) -> Division:
    """Test is each user's row with the smallest draw, validation the next; users with fewer than 3 rows have neither.

    Args:
        users: (n,) users of rows in canonical order, ascending.
        draws: (n,) one uniform draw a row.
    """
    starts, _ = _long_groups(users)
    order = np.lexsort((draws, users))
    return Division(_mask(order[starts + 1], len(users)), _mask(order[starts], len(users)))


def random_holdout(n: int, split_seed: int, folds: int = 0, fold: int = 0) -> Division:
    """Of the drawn order, test is the first round(.2 n) rows and validation the next round(.1 n).

    With ``folds`` = k, test is the ``fold``-th of k nearly equal parts of the same drawn order, and validation the
    round(.1 n) rows after it (cyclic), so that fold 0 of 5 is the plain holdout. Halves round to even (Python's round).
    """
    order = np.argsort(generator(split_seed, Stream.HOLDOUT).random(n), kind="stable")
    start, stop = (round(fold * n / folds), round((fold + 1) * n / folds)) if folds else (0, round(TEST_SHARE * n))
    rest = np.roll(order, -stop)
    return Division(_mask(rest[: round(VALID_SHARE * n)], n), _mask(order[start:stop], n))


def time_holdout(times: IntArray) -> Division:
    """Train is the rows earlier than the 80 % quantile of all times, validation the latest eighth of those.

    Rows of one time are never divided between train and test. Within train, equal times keep canonical order.
    """
    test = times >= np.quantile(times, TRAIN_QUANTILE)
    earlier = np.flatnonzero(~test)
    by_time = earlier[np.argsort(times[earlier], kind="stable")]
    n_valid = round(len(by_time) / 8)
    return Division(_mask(by_time[len(by_time) - n_valid :], len(times)), test)


def keep_latest(rows: Interactions, k: int) -> Interactions:
    """The last ``k`` rows of each user; ``rows`` are in canonical order, by user and time.

    Raises:
        NotApplicableError: the rows have no times.
    """
    if rows.times is None:
        raise NotApplicableError("max_history keeps the latest rows of each user, but this data set has no times")
    from_the_end = np.searchsorted(rows.users, rows.users, side="right") - np.arange(len(rows))
    return rows.select(from_the_end <= k)


def sample_of_users(users: npt.NDArray[np.int32], n_pairs: int) -> npt.NDArray[np.int32]:
    """The fixed sample whose full catalogue models without factors rank: all ``users`` (m,) up to 2e8 user-item pairs.

    Beyond, 10,000 of them, ascending, the same for every algorithm and machine.
    """
    if n_pairs <= MOST_RANKED_PAIRS or len(users) <= RANKED_SAMPLE:
        return users
    draws = generator(0, Stream.RANK_SAMPLE).random(len(users))
    return np.sort(users[np.argsort(draws, kind="stable")[:RANKED_SAMPLE]])


def known(seen: sparse.csr_matrix) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(n_users,) users and (n_items,) items with an entry in ``seen`` (n_users, n_items): all others are cold."""
    items = np.zeros(seen.shape[1], dtype=bool)
    items[seen.indices] = True
    return np.diff(seen.indptr) > 0, items


def fingerprint(
    train: Interactions,
    valid: Interactions,
    test: Interactions,
    candidates: npt.NDArray[np.int32] | None,
    valid_candidates: npt.NDArray[np.int32] | None,
    user_ids: npt.NDArray[np.generic],
    item_ids: npt.NDArray[np.generic],
) -> str:
    """sha256 over (user, item) pairs, candidates and id maps.

    Ids enter as JSON integers or strings, so that the storage dtype of an id map does not matter.
    """
    digest = hashlib.sha256()
    for part in (train, valid, test):
        _add_array(digest, part.users)
        _add_array(digest, part.items)
    for drawn in (candidates, valid_candidates):
        _add_array(digest, np.empty((0, 0), dtype=np.int32) if drawn is None else drawn)
    for ids in (user_ids, item_ids):
        digest.update(json.dumps(ids.tolist()).encode())
    return digest.hexdigest()


def _long_groups(users: IntArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First row, and the row after the last, of each user with at least 3 rows."""
    steps = np.diff(users)
    if (steps < 0).any():
        raise ValueError("rows must be in canonical order: users ascending")
    changes = np.flatnonzero(steps) + 1
    starts, stops = np.concatenate(([0], changes)), np.concatenate((changes, [len(users)]))
    long = stops - starts >= 3
    return starts[long], stops[long]


def _mask(rows: npt.NDArray[np.int64], n: int) -> Mask:
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask


def _add_array(digest: hashlib._Hash, array: npt.NDArray[np.integer]) -> None:
    """Shape and values as little-endian int32, so that neighbouring arrays cannot run into each other."""
    digest.update(json.dumps(array.shape).encode())
    digest.update(np.ascontiguousarray(array, dtype="<i4").data)
