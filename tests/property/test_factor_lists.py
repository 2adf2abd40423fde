"""Lists of factor models against a plain sort: factors are small integers, so that products are exact and often tie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from algorithms.base import FactorRecommender, NonFiniteScores, Recommender
from algorithms.types import FitContext, Task, TrainSet
from datasets.top_k import top_k
from datasets.types import Interactions

N_USERS = 230
"""More than ``implicit.cpu.topk`` takes at a time, so that two threads share them."""


@dataclass
class Parts:
    user_factors: np.ndarray
    item_factors: np.ndarray
    user_bias: np.ndarray | None
    item_bias: np.ndarray | None


class Given(FactorRecommender):
    """Factors that the test chooses: one ``Parts`` for each step."""

    steps: list[Parts]

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        for step, parts in enumerate(self.steps, 1):
            vars(self).update(vars(parts))
            self._step_done(run, step, len(self.steps))


def parts(rng: np.random.Generator, n_items: int, dtype: str, user_bias: bool, item_bias: bool) -> Parts:
    def integers(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(dtype)

    return Parts(
        integers(N_USERS, 3),
        integers(n_items, 3),
        integers(N_USERS) if user_bias else None,
        integers(n_items) if item_bias else None,
    )


def fit(*steps: Parts, run: FitContext | None = None) -> Given:
    model = Given()
    model.steps = list(steps)
    one, n_items = np.zeros(1, np.int32), len(steps[0].item_factors)
    rows = Interactions(one, one, np.ones(1, np.float32), None, N_USERS, n_items)
    return model.fit(TrainSet(rows, Task.RANKING), run or FitContext())


def expected(of: Parts, users: np.ndarray, k: int, exclude: sparse.csr_matrix | None) -> np.ndarray:
    scores = of.user_factors[users] @ of.item_factors.T
    scores = scores + (0 if of.item_bias is None else of.item_bias)
    if exclude is not None:
        scores[exclude[users].toarray() != 0] = -np.inf
    return top_k(scores, k)


@settings(deadline=None)  # the first list pays for an import
@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.integers(1, 40),
    k=st.integers(1, 45),
    dtype=st.sampled_from(["float32", "float64"]),
    biases=st.tuples(st.booleans(), st.booleans()),
    excluded=st.sampled_from([None, 0.0, 0.3, 0.9, 1.0]),
    threads=st.integers(1, 2),
    batch=st.sampled_from([20, 150, N_USERS]),
)
def test_lists_equal_a_sort_by_score_and_item(seed, n_items, k, dtype, biases, excluded, threads, batch) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    of = parts(rng, n_items, dtype, *biases)
    model = fit(of, run=FitContext(threads=threads))
    marks = rng.random((N_USERS, n_items))
    exclude = None if excluded is None else sparse.csr_matrix(marks < excluded, dtype=np.float32)
    users = rng.permutation(N_USERS)
    lists = [model.recommend(users[at : at + batch], k, exclude) for at in range(0, N_USERS, batch)]
    assert np.array_equal(np.concatenate(lists), expected(of, users, k, exclude))
    assert lists[0].dtype == np.int32
    assert np.array_equal(model.recommend(users, k, exclude, model.score(users)), expected(of, users, k, exclude))


@pytest.mark.parametrize("item_bias", [False, True])
def test_lists_are_those_of_the_latest_step(item_bias: bool) -> None:
    """Also where a library writes into the same arrays."""
    rng, users = np.random.default_rng(0), np.arange(N_USERS)
    first, second = (parts(rng, 30, "float32", True, item_bias) for _ in range(2))
    lists = []

    def look(step: int) -> bool:
        lists.append(model.recommend(users, 4))
        return False

    model = Given()
    run = FitContext(validate=look)
    wanted = [expected(of, users, 4, None) for of in (first, second)]
    model.steps = [first, second]
    rows = Interactions(np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.float32), None, N_USERS, 30)
    model.fit(TrainSet(rows, Task.RANKING), run)
    assert all(np.array_equal(*pair) for pair in zip(lists, wanted, strict=True))
    model.steps = [first]
    model.fit(TrainSet(rows, Task.RANKING), FitContext())
    assert np.array_equal(model.recommend(users, 4), wanted[0])
    for name in ("user_factors", "item_factors"):
        getattr(first, name)[:] = getattr(second, name)
    if item_bias:
        first.item_bias[:] = second.item_bias  # type: ignore[index]
    model.fit(TrainSet(rows, Task.RANKING), FitContext())
    assert np.array_equal(model.recommend(users, 4), wanted[1])


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("where", ["user_factors", "item_factors", "user_bias", "item_bias"])
def test_what_is_not_finite_is_refused(bad: float, where: str) -> None:
    of = parts(np.random.default_rng(0), 30, "float32", True, True)
    for factors in (of.user_factors, of.item_factors):
        factors[:] = 2
    getattr(of, where)[5] = bad
    model = fit(of)
    if np.isfinite(bad) and where.endswith("bias"):
        model.recommend(np.array([5]), 3)  # large, but a score all the same
        return
    with pytest.raises(NonFiniteScores):
        model.recommend(np.array([5]), 3)


def test_large_finite_scores_are_listed() -> None:
    of = parts(np.random.default_rng(0), 30, "float32", False, False)
    of.user_factors[:] = 0
    of.user_factors[:, 0] = 1e19
    of.item_factors[:, 0] = 1e19 * np.linspace(0.1, 1, 30)
    assert fit(of).recommend(np.array([5]), 3).tolist() == [[29, 28, 27]]


def test_nobody_gets_no_list() -> None:
    model = fit(parts(np.random.default_rng(0), 30, "float32", True, True))
    assert model.recommend(np.empty(0, np.int32), 3).shape == (0, 3)
    assert not model.lists_from_scores and Recommender.lists_from_scores
