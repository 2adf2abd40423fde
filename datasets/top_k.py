"""Ordered top-k with ties to the lower index: the one order in which items are ever listed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from datasets.types import FloatArray

PADDING = -1
"""Fills rows that have fewer entries than asked for: lists, and candidates of users with few free items."""


def top_k(scores: FloatArray, k: int) -> npt.NDArray[np.int32]:
    """The k best items of each row by (-score, index), exactly, ties across the cut included.

    Args:
        scores: (b, n_items) floating, -inf where an item must not be listed.

    Returns:
        (b, k) int32, ``PADDING`` where a row has fewer than k finite scores.
    """
    n_rows, n_items = scores.shape
    cut = max(n_items - k, 0)
    threshold = np.partition(scores, cut, axis=1)[:, cut]
    lowest = np.maximum(threshold, np.finfo(scores.dtype).min)  # -inf marks items that must not be listed
    rows, items = np.nonzero(scores >= lowest[:, None])
    values = scores[rows, items]

    # All items above the threshold are in; of those at it, in order of index, as many as there is room for.
    above = values > threshold[rows]
    room = k - np.bincount(rows[above], minlength=n_rows)
    at_rows = rows[~above]
    place = np.arange(len(at_rows)) - np.searchsorted(at_rows, at_rows)
    keep = above.copy()
    keep[~above] = place < room[at_rows]
    rows, items, values = rows[keep], items[keep], values[keep]

    order = np.lexsort((items, -values, rows))
    rows, items = rows[order], items[order]
    top = np.full((n_rows, k), PADDING, dtype=np.int32)
    top[rows, np.arange(len(rows)) - np.searchsorted(rows, rows)] = items
    return top
