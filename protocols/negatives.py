"""Uniform negatives without replacement, for many users at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from datasets.top_k import PADDING
from datasets.types import IntArray, Interactions

Keys = npt.NDArray[np.int64]
Items = npt.NDArray[np.int32]

_DENSE_CELLS = 4_000_000
"""Cells of (users, items) that the exact path holds at a time: 32 MB of draws."""

_LOOKUP_TILE = 1 << 12
"""Ascending keys that are looked up at a time: the stretch of sorted keys that they fall into stays in the cache."""


def pair_keys(*parts: Interactions) -> Keys:
    """(n,) sorted int64 ``user * n_items + item`` of all rows of ``parts``, which share one universe."""
    keys: Keys = np.concatenate([part.users for part in parts], dtype=np.int64)
    keys *= parts[0].n_items
    keys += np.concatenate([part.items for part in parts])
    keys.sort()
    return keys


def draw_negatives(excluded: Keys, users: IntArray, n_items: int, count: int, rng: np.random.Generator) -> Items:
    """Draw ``count`` distinct items a user, uniformly among those that ``excluded`` does not name.

    Args:
        excluded: (e,) sorted, distinct int64 keys ``user * n_items + item``.
        users: (m,) ascending users.
        n_items: size of the item universe.
        count: negatives a user, at least 1.
        rng: consumed; the same state gives the same negatives.

    Returns:
        (m, count) int32, ascending in each row. A user with fewer than ``count`` free items gets all of them, then
        ``PADDING``.
    """
    wide: Keys = users.astype(np.int64)
    free = n_items - np.searchsorted(excluded, (wide + 1) * n_items) + np.searchsorted(excluded, wide * n_items)
    # Rejection accepts a draw with a chance of at least (free - count) / n_items: below 1/2, rank all items instead.
    crowded = 2 * (free - count) < n_items
    negatives = np.full((len(users), count), PADDING, dtype=np.int32)
    negatives[~crowded] = _draw_by_rejection(excluded, wide[~crowded], n_items, count, rng)
    negatives[crowded] = _draw_by_ranking(excluded, wide[crowded], n_items, count, rng)
    return negatives


def _draw_by_rejection(excluded: Keys, users: Keys, n_items: int, count: int, rng: np.random.Generator) -> Items:
    """Draw all, reject pairs that are excluded or repeated, and redraw just those until none is left.

    A row ends with the first ``count`` distinct free items of an endless stream of uniform draws: a uniform subset.
    """
    drawn = rng.integers(n_items, size=(len(users), count), dtype=np.int32)
    drawn.sort(axis=1)
    drawn[contains(excluded, (users[:, None] * n_items + drawn).ravel()).reshape(drawn.shape)] = n_items
    open_rows = np.arange(len(users))
    while len(open_rows):
        rows = np.sort(drawn[open_rows], axis=1)
        rejected = rows == n_items
        rejected[:, 1:] |= rows[:, 1:] == rows[:, :-1]
        drawn[open_rows] = rows
        redraw = rejected.any(axis=1)
        rows, rejected, open_rows = rows[redraw], rejected[redraw], open_rows[redraw]
        # Only what is new is looked up: the rest of a row is free already.
        fresh = rng.integers(n_items, size=np.count_nonzero(rejected), dtype=np.int32)
        owners: Keys = np.repeat(users[open_rows], np.count_nonzero(rejected, axis=1))
        fresh[contains(excluded, owners * n_items + fresh)] = n_items
        rows[rejected] = fresh
        drawn[open_rows] = rows
    return drawn


def _draw_by_ranking(excluded: Keys, users: Keys, n_items: int, count: int, rng: np.random.Generator) -> Items:
    """One uniform draw for every item of a user; the free items with the smallest draws are taken."""
    taken = min(count, n_items)
    negatives = np.full((len(users), count), n_items, dtype=np.int32)
    tile = max(1, _DENSE_CELLS // n_items)
    for start in range(0, len(users), tile):
        block = users[start : start + tile]
        draws = rng.random((len(block), n_items))
        rows, items = _excluded_of(excluded, block, n_items)
        draws[rows, items] = 2.0  # beyond every draw: behind all free items
        chosen = np.argpartition(draws, taken - 1, axis=1)[:, :taken].astype(np.int32)
        chosen[np.take_along_axis(draws, chosen, axis=1) == 2.0] = n_items
        negatives[start : start + tile, :taken] = chosen
    negatives.sort(axis=1)
    negatives[negatives == n_items] = PADDING
    return negatives


def _excluded_of(excluded: Keys, users: Keys, n_items: int) -> tuple[Keys, Keys]:
    """Row in ``users`` and item of each excluded pair of these users."""
    first, last = np.searchsorted(excluded, users * n_items), np.searchsorted(excluded, (users + 1) * n_items)
    rows = np.repeat(np.arange(len(users)), last - first)
    offsets = np.arange(len(rows)) - np.repeat(np.cumsum(last - first) - (last - first), last - first)
    return rows, excluded[first[rows] + offsets] - users[rows] * n_items


def contains(sorted_keys: Keys, keys: Keys) -> npt.NDArray[np.bool_]:
    """Which of ``keys`` (fastest when ascending) are among ``sorted_keys``."""
    found = np.empty(len(keys), dtype=bool)
    for start in range(0, len(keys), _LOOKUP_TILE):
        tile = keys[start : start + _LOOKUP_TILE]
        first, last = np.searchsorted(sorted_keys, (tile.min(), tile.max() + 1))
        near = sorted_keys[first:last]
        places = np.searchsorted(near, tile)
        found[start : start + _LOOKUP_TILE] = near.take(places, mode="clip") == tile if len(near) else False
    return found
