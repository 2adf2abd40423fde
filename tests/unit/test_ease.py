"""EASE against the formula as printed, in both of its forms."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Shape
from algorithms.ease import EASE
from algorithms.types import FitContext, Task, TrainSet
from datasets.types import Interactions


def _train(seen: np.ndarray) -> TrainSet:
    users, items = np.nonzero(seen)
    values = np.linspace(1, 5, len(users), dtype=np.float32)  # EASE binarises: values must not matter
    return TrainSet(Interactions(np.int32(users), np.int32(items), values, None, *seen.shape), Task.RANKING)


def _fit(seen: np.ndarray, l2: float) -> EASE:
    return EASE(EASE.Config(l2=l2)).fit(_train(seen), FitContext())


def _as_printed(seen: np.ndarray, l2: float) -> np.ndarray:
    """Steck 2019, listing 1."""
    inverse = np.linalg.inv(seen.T @ seen + l2 * np.eye(seen.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return seen @ weights


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)], ids=["dual", "primal"])
def test_similarities_are_rows_of_the_weights(shape):
    seen = (np.random.default_rng(3).random(shape) < 0.4).astype(float)
    seen[0, 0] = 1
    inverse = np.linalg.inv(seen.T @ seen + 2 * np.eye(shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    model = _fit(seen, 2)
    found = np.vstack([model.similarities(item) for item in range(shape[1])])
    assert found == pytest.approx(weights, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.floats(0.5, 1_000), st.integers(0, 10_000))
def test_both_forms_equal_the_paper(n_users, n_items, l2, seed):
    seen = (np.random.default_rng(seed).random((n_users, n_items)) < 0.3).astype(float)
    seen[0, 0] = 1
    scores = _fit(seen, l2).score(np.arange(n_users))
    np.testing.assert_allclose(scores, _as_printed(seen, l2), atol=1e-5)


def test_dual_equals_primal_on_the_same_data():
    seen = (np.random.default_rng(1).random((40, 60)) < 0.2).astype(float)
    dual = _fit(seen, 50)
    assert dual.dual
    primal = EASE(EASE.Config(l2=50))
    primal.seen, primal.n_users, primal.n_items = dual.seen, dual.n_users, dual.n_items
    primal._fit_primal()
    np.testing.assert_allclose(dual.score(np.arange(40)), primal.seen @ primal.weights, atol=1e-5)


@pytest.mark.parametrize(("shape", "dual"), [((3, 5), True), ((5, 5), False), ((6, 5), False)])
def test_the_smaller_side_is_inverted(shape, dual):
    assert _fit(np.eye(*shape), 1).dual is dual


def test_an_item_has_no_weight_on_itself():
    """One user, two items: B_01 = 1 / (1 + l2), so what remains for item 0 comes from item 1 alone."""
    scores = _fit(np.array([[1.0, 1.0]]), 3).score(np.array([0]))
    assert scores[0] == pytest.approx([0.25, 0.25])


def test_the_dual_never_forms_an_item_by_item_matrix():
    n_users, n_items = 20, 6_000
    train = _train((np.random.default_rng(0).random((n_users, n_items)) < 0.05).astype(float))
    tracemalloc.start()
    EASE().fit(train, FitContext()).score(np.arange(n_users))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_items**2  # bytes: an eighth of a float64 item × item matrix
    estimate = EASE.memory_estimate(Shape(n_users, n_items, len(train.interactions)), EASE.Config())
    assert estimate < n_items**2
