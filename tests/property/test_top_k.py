"""Ordered top-k against a plain sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from datasets.top_k import PADDING, top_k


def slow_top_k(row: np.ndarray, k: int) -> list[int]:
    listed = [column for column in range(len(row)) if np.isfinite(row[column])]
    best = sorted(listed, key=lambda column: (-row[column], column))[:k]
    return best + [PADDING] * (k - len(best))


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.integers(1, 40)),
        elements=st.sampled_from([-2.0, -1.0, 0.0, 1.0, -np.inf]),
    ),
    st.integers(1, 15),
)
def test_top_k_equals_a_sort_by_score_and_column(scores: np.ndarray, k: int) -> None:
    assert top_k(scores, k).tolist() == [slow_top_k(row, k) for row in scores]


def test_masked_items_are_never_listed() -> None:
    rows = np.array([[1.0, 2.0, 2.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0], [-np.inf, 3.0, -np.inf, -np.inf, -np.inf]])
    assert top_k(rows, 2).tolist() == [[1, 2], [0, 1], [1, PADDING]]
    assert top_k(rows[:1], 7).tolist() == [[1, 2, 3, 0, 4, PADDING, PADDING]]
