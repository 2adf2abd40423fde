"""Ordered top-k with ties to the lower index: the one order in which items are ever listed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from datasets.types import FloatArray

PADDING = -1
"""Fills rows that have fewer entries than asked for: lists, and candidates of users with few free items."""

_FOLD = 16
"""Items of which only the best is looked at while searching for what a list takes at least."""


def top_k(scores: FloatArray, k: int) -> npt.NDArray[np.int32]:
    """The k best items of each row by (-score, index), exactly, ties across the cut included.

    Args:
        scores: (b, n_items) floating, -inf where an item must not be listed.

    Returns:
        (b, k) int32, ``PADDING`` where a row has fewer than k finite scores.
    """
    n_rows, n_items = scores.shape
    rows, items = np.divmod(np.flatnonzero(scores >= _enough(scores, k)[:, None]), n_items)
    order = np.lexsort((-scores[rows, items], rows))  # stable: equal scores stay in the order of their items
    items = items[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, np.arange(n_rows))[rows]
    listed = place < k
    top = np.full((n_rows, k), PADDING, dtype=np.int32)
    top[rows[listed], place[listed]] = items[listed]
    return top


def unseen_top_k(scores: FloatArray, k: int, seen: sparse.csr_matrix | None) -> npt.NDArray[np.int32]:
    """``top_k`` without the stored entries of ``seen``, (b, n_items) CSR; ``scores`` stay as they are."""
    if seen is None:
        return top_k(scores, k)
    masked = np.array(scores)
    masked[np.repeat(np.arange(len(masked)), np.diff(seen.indptr)), seen.indices] = -np.inf
    return top_k(masked, k)


def _enough(scores: FloatArray, k: int) -> FloatArray:
    """(b,) finite scores that at least k items of each row reach, and few more; all finite ones where fewer exist.

    The k best of groups of items: k of the groups hold an item that is as good as the worst of these.
    """
    n_rows, n_items = scores.shape
    fold = max(1, min(_FOLD, n_items // k))  # at least k groups, if there are as many items
    groups = n_items // fold
    best = scores[:, : fold * groups].reshape(n_rows, fold, groups).max(axis=1)
    cut = max(groups - k, 0)
    reached: FloatArray = np.partition(best, cut, axis=1)[:, cut]
    return np.maximum(reached, np.finfo(scores.dtype).min)  # -inf marks items that must not be listed
