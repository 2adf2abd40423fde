"""Maximal marginal relevance: re-ranking a model's scores so that each list repeats itself less."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms._metadata import unit_rows
from datasets.top_k import PADDING, top_k
from datasets.types import FloatArray

POOL = 100
"""Items of each row that are re-ranked, best scores first."""


def mmr(
    scores: FloatArray, features: FloatArray | sparse.csr_matrix, k: int, trade_off: float, pool: int = POOL
) -> npt.NDArray[np.int32]:
    """Greedy lists: the next item has the largest λ · relevance(i) − (1 − λ) · max_{j listed} cosine(i, j).

    Carbonell and Goldstein (1998), applied to the ``pool`` best items of each row. Relevance is the score scaled to
    0 … 1 over that pool, so that λ means the same for every model; 1 for all where they are equal.

    Args:
        scores: (b, n) floating, higher is better, -inf where an item must not be listed.
        features: (n, d) non-negative vectors, such as genres; an item without features resembles nothing.
        k: length of the lists.
        trade_off: λ in [0, 1]; 1 keeps the order of the scores.
        pool: at least k items are taken.

    Returns:
        (b, k) int32, best first, ties to the item that scores higher, then to the lower index; ``PADDING`` where a row
        has fewer than k finite scores.

    Raises:
        ValueError: when λ lies outside [0, 1].
    """
    if not 0 <= trade_off <= 1:
        raise ValueError(f"trade_off must lie between 0 and 1, got {trade_off}")
    items = top_k(scores, min(max(k, pool), scores.shape[1]))
    free = items != PADDING
    relevance = _scaled(np.take_along_axis(scores, np.where(free, items, 0), axis=1), free)
    vectors = unit_rows(features)[items]

    rows = np.arange(len(items))
    lists = np.full((len(items), k), PADDING, dtype=np.int32)
    nearest = np.zeros(items.shape)  # the largest cosine with a listed item; cosines of features are never negative
    for place in range(min(k, items.shape[1])):
        gain = np.where(free, trade_off * relevance - (1 - trade_off) * nearest, -np.inf)
        best = gain.argmax(axis=1)
        lists[:, place] = np.where(free[rows, best], items[rows, best], PADDING)
        free[rows, best] = False
        cosine = np.einsum("bpd,bd->bp", vectors, vectors[rows, best])
        nearest = np.maximum(nearest, cosine.round(12))  # equal cosines must tie, whatever their last bits are
    return lists


def _scaled(scores: FloatArray, free: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(b, p) scores -> their place between the row's lowest and highest free score; 1 where there is none."""
    high = np.where(free, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    low = np.where(free, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(free & (high > low), (scores.astype(np.float64) - low) / (high - low), 1.0)
