"""Every metric, once: from scores to counts, from counts to per-user values, from sums to errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from datasets.top_k import PADDING
from datasets.types import FloatArray, IntArray
from protocols.types import Scorer, Stopwatch, no_stopwatch

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]

TOP_K = 10
PAIR_TILE = 1_000_000
USER_TILE = 1_024
TILE_SCORES = 1 << 25
"""Most scores asked for at once, 128 MiB of float32: fewer users at a time where items are many."""
_COUNT_BLOCK = 128
"""Rows of a score tile that are compared with their positives at a time: the comparisons stay in the cache."""


# --- ranking metrics from counts -------------------------------------------------------------------------------------


def hit_rate(n_better: IntArray, n_tied: IntArray, k: int) -> Values:
    """Expected hit at ``k`` over random orders of ties: clip((k - b) / (t + 1), 0, 1).

    Args:
        n_better, n_tied: (m,) candidates strictly better than the positive, and others tied with it.

    Returns:
        (m,) float64 in [0, 1]; the metric is their mean over all m users. No user: an empty vector.
    """
    better, tied = np.asarray(n_better, np.float64), np.asarray(n_tied, np.float64)
    return np.clip((k - better) / (tied + 1), 0.0, 1.0)


def ndcg(n_better: IntArray, n_tied: IntArray, k: int) -> Values:
    """Expected NDCG at ``k`` with one relevant item: 1/(t+1) · Σ_{r=b+1}^{min(b+t+1, k)} 1/log2(r+1).

    The ideal gain is 1 (the positive in front), so nothing is divided further. Shapes and empty case as ``hit_rate``.
    """
    gains = np.concatenate(([0.0], np.cumsum(1.0 / np.log2(np.arange(1, k + 1) + 1))))
    return _mean_over_ranks(gains, n_better, n_tied)


def reciprocal_rank(n_better: IntArray, n_tied: IntArray) -> Values:
    """Expected reciprocal rank, without a cut: 1/(t+1) · Σ_{r=b+1}^{b+t+1} 1/r.

    Shapes and empty case as ``hit_rate``.
    """
    lowest = int((np.asarray(n_better, np.int64) + n_tied).max(initial=0)) + 1
    gains = np.concatenate(([0.0], np.cumsum(1.0 / np.arange(1, lowest + 1))))
    return _mean_over_ranks(gains, n_better, n_tied)


def _mean_over_ranks(cumulative: Values, n_better: IntArray, n_tied: IntArray) -> Values:
    """Mean gain over ranks b+1 … b+t+1, where ``cumulative[r]`` sums the gains of ranks 1 … r and ends at the cut."""
    better, tied = np.asarray(n_better, np.int64), np.asarray(n_tied, np.int64)
    cut = len(cumulative) - 1
    return (cumulative[np.minimum(better + tied + 1, cut)] - cumulative[np.minimum(better, cut)]) / (tied + 1)


# --- rating metrics from sums ----------------------------------------------------------------------------------------


def rmse(n: Values, sse: Values) -> Values:
    """Root mean squared error √(SSE / n) over pooled rows; NaN without rows."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.asarray(sse, np.float64) / n)


def mae(n: Values, sae: Values) -> Values:
    """Mean absolute error SAE / n over pooled rows; NaN without rows."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sae, np.float64) / n


def r2(n: Values, sse: Values, sum_y: Values, sum_y2: Values) -> Values:
    """1 - SSE / SST with SST = Σy² - (Σy)²/n around the mean of these very rows: negative when worse than that mean.

    NaN without rows and where all ratings are equal (SST = 0).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.asarray(sum_y2, np.float64) - np.square(sum_y) / n
        # Below rounding of Σy² the ratings are equal.
        return np.where(total > 1e-12 * np.abs(sum_y2), 1.0 - sse / total, np.nan)


# --- counts from scored pairs ----------------------------------------------------------------------------------------


def check_finite(scores: FloatArray, what: str) -> None:
    """Raise ``ValueError`` naming how many of ``scores`` are not finite: NaN and infinities are never ranked."""
    n_bad = scores.size - int(np.count_nonzero(np.isfinite(scores)))
    if n_bad:
        raise ValueError(f"{n_bad} of {scores.size} {what} are not finite")


def group_starts(users: IntArray) -> npt.NDArray[np.int64]:
    """First pair of each run of one user in (p,) ``users``."""
    return np.flatnonzero(np.diff(users, prepend=users[0] - 1)) if len(users) else np.empty(0, dtype=np.int64)


def count_better_and_tied(
    scores: FloatArray, starts: npt.NDArray[np.int64], positive_index: npt.NDArray[np.int64]
) -> tuple[Counts, Counts]:
    """Compare each user's positive with the user's other candidates.

    Args:
        scores: (p,) finite scores of pairs, each user's pairs side by side, any number a user.
        starts: (m,) first pair of each user, ascending, starting at 0.
        positive_index: (m,) place of each user's positive among the p pairs.

    Returns:
        (m,) int32 candidates strictly better, (m,) int32 others tied.
    """
    better, tied = np.empty(len(starts), dtype=np.int32), np.empty(len(starts), dtype=np.int32)
    bounds = np.append(starts, len(scores))
    for first in range(0, len(starts), USER_TILE):  # tiles keep the comparisons in the processor's cache
        last = min(first + USER_TILE, len(starts))
        tile, offsets = scores[bounds[first] : bounds[last]], starts[first:last] - bounds[first]
        positive = np.repeat(scores[positive_index[first:last]], np.diff(bounds[first : last + 1]))
        better[first:last] = np.add.reduceat(tile > positive, offsets, dtype=np.int32)
        tied[first:last] = np.add.reduceat(tile == positive, offsets, dtype=np.int32) - 1
    return better, tied


def score_pairs(scorer: Scorer, users: IntArray, items: IntArray, stopwatch: Stopwatch = no_stopwatch) -> FloatArray:
    """Score (p,) pairs sorted by user in tiles of about a million pairs and whole users; the scores keep their dtype.

    Raises:
        ValueError: a score is not finite, or the scorer returned another shape.
    """
    tiles = []
    for start, stop in _whole_user_tiles(users):
        with stopwatch("pairs"):
            scores = np.asarray(scorer.score_pairs(users[start:stop], items[start:stop]))
        if scores.shape != (stop - start,):
            raise ValueError(f"scores of {stop - start} pairs must be a vector of that length, got {scores.shape}")
        check_finite(scores, "pair scores")
        tiles.append(scores)
    return np.concatenate(tiles) if tiles else np.empty(0, dtype=np.float32)


def _whole_user_tiles(users: IntArray) -> Iterator[tuple[int, int]]:
    bounds = np.append(group_starts(users), len(users))
    first = 0
    while first < len(bounds) - 1:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + PAIR_TILE, side="right")) - 1)
        yield int(bounds[first]), int(bounds[last])
        first = last


# --- the full catalogue ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FullRanking:
    """Where each of m positives stands in the full catalogue.

    Attributes:
        positive_score: (m,) in the scorer's dtype.
        n_better, n_tied, n_candidates: (m,) int32; candidates are the items that are not masked, the positive included.
        top_items: (m, k) int32 unmasked items by (-score, index), ``PADDING`` where fewer are left.
    """

    positive_score: FloatArray
    n_better: Counts
    n_tied: Counts
    n_candidates: Counts
    top_items: npt.NDArray[np.int32]


def rank_catalogue(
    scorer: Scorer,
    users: IntArray,
    positives: IntArray,
    seen: sparse.csr_matrix,
    k: int = TOP_K,
    stopwatch: Stopwatch = no_stopwatch,
) -> FullRanking:
    """Rank the whole catalogue of (m,) distinct ``users``, at most 1,024 at a time, without the items ``seen`` marks.

    A user's own positive in (m,) ``positives`` is never left out of the counts; the model, which makes the lists, is
    told nothing of positives. The stopwatch's ``rank`` runs while lists are made, which costs what it costs a user of
    the model: scoring, where lists are made of scores, masking and top-k. Counting is outside, and so is scoring that
    nothing but counting needs.

    Raises:
        ValueError: a score is not finite, or the scorer returned another shape.
    """
    not_counted = _without_positives(seen, users, positives)
    blocks = []
    size = min(USER_TILE, max(1, TILE_SCORES // seen.shape[1]))
    for start in range(0, len(users), size):
        tile = users[start : start + size]
        if scorer.lists_from_scores:
            with stopwatch("rank"):
                scores = np.asarray(scorer.score(tile))
            _check_tile(scores, (len(tile), seen.shape[1]))
            with stopwatch("rank"):
                top_items = scorer.recommend(tile, k, seen, scores)
        else:
            with stopwatch("rank"):
                top_items = scorer.recommend(tile, k, seen)
            scores = np.asarray(scorer.score(tile))
            _check_tile(scores, (len(tile), seen.shape[1]))
        blocks.append(_count(scores, positives[start : start + size], not_counted[tile], top_items))
    return _concatenate(blocks, k)


def _without_positives(seen: sparse.csr_matrix, users: IntArray, positives: IntArray) -> sparse.csr_matrix:
    """``seen`` without the entries of ``users`` at their own positives."""
    own = np.full(seen.shape[0], -1, dtype=seen.indices.dtype)
    own[users] = positives
    kept = seen.indices != np.repeat(own, np.diff(seen.indptr))
    if kept.all():
        return seen
    starts = np.append(0, np.cumsum(kept))[seen.indptr]
    return sparse.csr_matrix((seen.data[kept], seen.indices[kept], starts), shape=seen.shape)


def _check_tile(scores: FloatArray, shape: tuple[int, int]) -> None:
    if scores.shape != shape:
        raise ValueError(f"scores must be {shape} (users, items), got {scores.shape}")
    check_finite(scores, "full-catalogue scores")


def _count(
    scores: FloatArray, positives: IntArray, excluded: sparse.csr_matrix, top_items: npt.NDArray[np.int32]
) -> FullRanking:
    """Compare each row's positive with all items, then take back the excluded ones; rows as in ``excluded``."""
    rows = np.arange(len(scores))
    positive = scores[rows, positives]
    better, tied = np.empty(len(rows), dtype=np.int32), np.empty(len(rows), dtype=np.int32)
    for low in range(0, len(rows), _COUNT_BLOCK):
        block = slice(low, low + _COUNT_BLOCK)
        better[block] = np.count_nonzero(scores[block] > positive[block, None], axis=1)
        tied[block] = np.count_nonzero(scores[block] == positive[block, None], axis=1) - 1
    sizes = np.diff(excluded.indptr)
    owners = np.repeat(rows, sizes)
    not_ranked = scores[owners, excluded.indices]
    better -= np.bincount(owners[not_ranked > positive[owners]], minlength=len(rows)).astype(np.int32)
    tied -= np.bincount(owners[not_ranked == positive[owners]], minlength=len(rows)).astype(np.int32)
    left = (scores.shape[1] - sizes).astype(np.int32)
    return FullRanking(positive, better, tied, left, top_items)


def _concatenate(blocks: list[FullRanking], k: int) -> FullRanking:
    if not blocks:
        none = np.empty(0, dtype=np.int32)
        return FullRanking(np.empty(0, dtype=np.float32), none, none, none, np.empty((0, k), dtype=np.int32))
    return FullRanking(
        np.concatenate([block.positive_score for block in blocks]),
        np.concatenate([block.n_better for block in blocks]),
        np.concatenate([block.n_tied for block in blocks]),
        np.concatenate([block.n_candidates for block in blocks]),
        np.concatenate([block.top_items for block in blocks]),
    )


# --- beyond accuracy -------------------------------------------------------------------------------------------------


def coverage(top_items: IntArray, n_items: int) -> float:
    """Distinct items in all lists / min(n_items, k · n_lists), the most that (n_lists, k) lists can show.

    NaN without lists.
    """
    possible = min(n_items, top_items.size)
    return len(np.unique(top_items[top_items != PADDING])) / possible if possible else float("nan")


def intra_list_diversity(top_items: IntArray, genres: sparse.csr_matrix) -> Values:
    """Mean of 1 - cosine of genre vectors over the pairs of each list (Ziegler et al. 2005); the metric is their mean.

    Items without genres are left out of a list.

    Args:
        top_items: (m, k) lists, ``PADDING`` allowed.
        genres: (n_items, g) non-negative, a row without entries is an item without genres.

    Returns:
        (m,) float64, NaN for a list with fewer than two items that have genres.
    """
    lengths = np.sqrt(np.asarray(genres.multiply(genres).sum(axis=1)).ravel())
    unit = sparse.diags_array(np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)) @ genres
    rows, columns = np.nonzero(top_items != PADDING)
    items = top_items[rows, columns]
    lists = sparse.csr_array((np.ones(len(items)), (rows, items)), shape=(len(top_items), genres.shape[0]))
    # |Σ g|² of m unit vectors is m + 2 Σ_{pairs} cosine.
    squared = np.square((lists @ unit).toarray()).sum(axis=1)
    n = lists @ (lengths > 0).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n >= 2, 1.0 - (squared - n) / (n * (n - 1)), np.nan)


def novelty(top_items: IntArray, item_counts: IntArray, n_users: int) -> Values:
    """Mean of -log2((count + 1) / (n_users + 1)) over the items of each list; the metric is their mean.

    Args:
        top_items: (m, k) lists, ``PADDING`` allowed.
        item_counts: (n_items,) training rows of each item (train ∪ valid).
        n_users: users of the data set.

    Returns:
        (m,) float64 bits, NaN for an empty list.
    """
    surprise = -np.log2((np.asarray(item_counts, np.float64) + 1) / (n_users + 1))
    listed = top_items != PADDING
    with np.errstate(invalid="ignore"):
        return np.where(listed, surprise[top_items], 0.0).sum(axis=1) / listed.sum(axis=1)
