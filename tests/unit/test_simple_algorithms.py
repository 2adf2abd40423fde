"""Known answers of the algorithms whose answers can be worked out by hand or by a slower, plainer program."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from algorithms._metadata import indicators
from algorithms.als import ALS
from algorithms.base import Recommender
from algorithms.bias import Bias
from algorithms.biased_als import BiasedALS, _solve_rows
from algorithms.content_cosine import ContentCosine
from algorithms.item_knn import ItemKNN
from algorithms.lightfm import LightFM, _targets
from algorithms.popularity import Popularity
from algorithms.random import Random
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import NotApplicableError, UserError
from datasets.top_k import PADDING
from datasets.types import Features, Interactions

# user 0: items 0 (5), 1 (3); user 1: item 1 (4); user 2: nothing. Item 2: nobody.
ROWS = Interactions(np.int32([0, 0, 1]), np.int32([0, 1, 1]), np.float32([5, 3, 4]), None, 3, 3)


def _fit(model: Recommender, task: Task = Task.RANKING, features: Features | None = None, seed: int = 0) -> Recommender:
    return model.fit(TrainSet(ROWS, task, features), FitContext(seed=seed))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"by": "count"}, [1, 2, 0]),
        ({"by": "mean"}, [5, 3.5, 4]),
        ({"by": "damped-mean", "damping": 3}, [(5 + 12) / 4, (7 + 12) / 5, 4]),
        ({"by": "damped-mean", "damping": 0}, [5, 3.5, 4]),
    ],
)
def test_popularity(options, expected):
    model = _fit(Popularity(Popularity.Config(**options)))
    assert model.score(np.array([2, 0])) == pytest.approx(np.array([expected, expected]))


@pytest.mark.parametrize("task", list(Task))
def test_bias(task):
    model = _fit(Bias(Bias.Config(damping=1)), task)
    # μ = 4; items: (5 − 4) / 2, (−1 + 0) / 3; users: (1 − 1/2 − 1 + 1/3) / 3, (0 + 1/3) / 2
    items, users = np.array([1 / 2, -1 / 3, 0]), np.array([-1 / 18, 1 / 6, 0])
    assert model.score(np.arange(3)) == pytest.approx(4 + users[:, None] + items[None, :])


def test_random_is_a_function_of_seed_user_and_item():
    model = _fit(Random(), seed=7)
    scores = model.score(np.arange(3))
    assert model.score_pairs(np.array([2, 0, 2]), np.array([1, 0, 1])).tolist() == scores[[2, 0, 2], [1, 0, 1]].tolist()
    assert len(np.unique(scores)) == 9
    assert not np.any(scores == _fit(Random(), seed=8).score(np.arange(3)))


def test_random_is_uniform():
    model = Random().fit(
        TrainSet(Interactions(ROWS.users, ROWS.items, ROWS.values, None, 400, 500), Task.RANKING), FitContext()
    )
    scores = model.score(np.arange(400))
    counts = np.histogram(scores, bins=20, range=(0, 1))[0]
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 43.8  # chi², 19 degrees of freedom, p = .001
    assert abs(np.corrcoef(scores[:-1].ravel(), scores[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(scores[:, :-1].ravel(), scores[:, 1:].ravel())[0, 1]) < 0.01


def test_item_knn_sums_cosines():
    model = _fit(ItemKNN())
    cosine = 5 * 3 / (5 * np.sqrt(9 + 16))
    expected = [[5 + 3 * cosine, 5 * cosine + 3, 0], [4 * cosine, 4, 0], [0, 0, 0]]
    assert model.score(np.arange(3)) == pytest.approx(np.array(expected))
    assert model.similarities(0) == pytest.approx([1, cosine, -np.inf])  # item 2 is no neighbour
    assert model.similar(0, 2).tolist() == [1, PADDING]


GENRES = Features(
    sparse.csr_matrix(np.array([[1, 0, 0.5], [1, 1, 2], [0, 0, 0]], dtype=np.float32)), ("genres=A", "genres=B", "year")
)


@pytest.mark.parametrize("weights", ["one", "rating", "centred"])
def test_content_cosine(weights):
    model = _fit(ContentCosine(ContentCosine.Config(weights=weights, numbers=False)), features=GENRES)
    first, second = np.array([1, 0]), np.array([1, 1]) / np.sqrt(2)
    weight = {"one": (1, 1), "rating": (5, 3), "centred": (1, -1)}[weights]
    profile = weight[0] * first + weight[1] * second
    profile = profile / np.linalg.norm(profile)
    assert model.score(np.array([0, 2])) == pytest.approx(np.array([[profile @ first, profile @ second, 0], [0, 0, 0]]))


def test_content_cosine_ties_items_of_equal_metadata_exactly():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 2, (12, 7))
    matrix = sparse.csr_matrix(np.tile(kinds, (31, 1)).astype(np.float32))  # 372 items of 12 kinds
    users, items = np.repeat(np.arange(50), 8), rng.integers(0, 372, 400)
    rows = Interactions(np.int32(users), np.int32(items), rng.random(400).astype(np.float32), None, 50, 372)
    features = Features(matrix, tuple(f"genres={j}" for j in range(7)))
    model = ContentCosine().fit(TrainSet(rows, Task.RANKING, features), FitContext())
    scores = model.score(np.arange(50)).reshape(50, 31, 12)
    assert (scores == scores[:, :1]).all()
    assert model.similar(5, 30).tolist() == [5 + 12 * copy for copy in range(1, 31)]


def test_missing_metadata_is_a_user_error():
    with pytest.raises(UserError, match="needs item metadata"):
        _fit(ContentCosine())


NUMBERS = Features(sparse.csr_matrix(np.array([[0.5, 0], [2, 0], [0, 1]], dtype=np.float32)), ("year", "year=missing"))


def test_lightfm_without_any_metadata_to_use_does_not_apply():
    pytest.importorskip("lightfm")
    with pytest.raises(NotApplicableError, match=r"lightfm\.metadata"):
        _fit(LightFM(LightFM.Config(metadata=True)))
    with pytest.raises(NotApplicableError, match=r"lightfm\.metadata"):
        _fit(LightFM(LightFM.Config(metadata=True, numbers=False)), features=NUMBERS)
    _fit(LightFM(LightFM.Config(metadata=True, epochs=1)), features=NUMBERS)


def test_indicators_bin_numbers_by_the_trained_entities():
    values = np.append(np.arange(1, 101), [1e9, 0]).astype(np.float32)  # a cold outlier, and one that is missing
    missing = np.append(np.zeros(101), 1).astype(np.float32)
    genre = np.ones(102, dtype=np.float32)
    matrix = sparse.csr_matrix(np.column_stack((values, missing, genre)))
    features = Features(matrix, ("year", "year=missing", "genres=A"))
    trained = np.append(np.ones(100, dtype=bool), [False, False])
    found = indicators(features, True, trained).toarray()
    assert found.shape == (102, 1 + 10 + 1)
    assert found[:100, 1:11].sum(axis=0).tolist() == [10] * 10
    assert found[[99, 100]].argmax(axis=1).tolist() == [0, 0] and (found[99] == found[100]).all()
    assert found[101, 1:].tolist() == [0] * 10 + [1]
    assert indicators(features, False, trained).toarray().tolist() == [[1]] * 102
    assert indicators(None, True, trained) is None


def test_lightfm_rates_cold_pairs_by_their_metadata():
    pytest.importorskip("lightfm")
    kinds = np.arange(40) % 2
    users, items = (grid.ravel() for grid in np.meshgrid(np.arange(30), np.arange(38), indexing="ij"))
    values = np.where(kinds[users] == kinds[items], 5, 1).astype(np.float32)
    rows = Interactions(np.int32(users), np.int32(items), values, None, 32, 40)
    of_items, of_users = (
        Features(sparse.csr_matrix(np.eye(2, dtype=np.float32)[kinds[:n]]), ("kind=0", "kind=1")) for n in (40, 32)
    )
    train = TrainSet(rows, Task.RATING, of_items, of_users)
    model = LightFM(LightFM.Config(metadata=True, epochs=20)).fit(train, FitContext())
    cold_users, cold_items = np.array([30, 30, 31, 31]), np.array([38, 39, 38, 39])
    assert not model.cold_pairs(cold_users, cold_items).any()
    like = model.score_pairs(cold_users, cold_items)
    assert min(like[0], like[3]) > max(like[1], like[2]) + 1
    plain = LightFM(LightFM.Config(epochs=2)).fit(train, FitContext())
    assert len(set(plain.score_pairs(cold_users, cold_items))) == 1, "without metadata all cold ones are average ones"
    ranker = LightFM(LightFM.Config(epochs=2)).fit(dataclasses.replace(train, task=Task.RANKING), FitContext())
    assert not ranker.item_factors[38:].any() and ranker.item_factors[:38].any()


def test_lightfm_ratings_above_the_mean_are_positives_weighted_by_their_distance():
    signs, weights = _targets(TrainSet(ROWS, Task.RATING))  # ratings 5, 3, 4: mean 4
    assert signs.data.tolist() == [1, -1, -1]
    assert weights.data.tolist() == [1.5, 1.5, 0]
    signs, weights = _targets(TrainSet(ROWS, Task.RANKING))
    assert signs.data.tolist() == [1, 1, 1] and weights is None


def test_lightfm_scores_as_lightfm_does():
    lightfm = pytest.importorskip("lightfm")
    model = _fit(LightFM(LightFM.Config(factors=4, epochs=3)), seed=5)
    theirs = lightfm.LightFM(no_components=4, loss="warp", random_state=5)
    theirs.fit(sparse.coo_matrix((np.ones(3, np.float32), (ROWS.users, ROWS.items)), shape=(3, 3)), epochs=3)
    users, items = (grid.ravel() for grid in np.meshgrid(np.arange(3), np.arange(3), indexing="ij"))
    expected = theirs.predict(users.astype(np.int32), items.astype(np.int32))
    warm = (users < 2) & (items < 2)  # what a cold one was drawn as is left out
    assert model.score_pairs(users, items)[warm] == pytest.approx(expected[warm], abs=1e-6)


def test_als_scores_as_implicit_does():
    from implicit.cpu.als import AlternatingLeastSquares

    model = _fit(ALS(ALS.Config(factors=2, reg=0.1, alpha=2, epochs=4)), seed=5)
    theirs = AlternatingLeastSquares(
        factors=2, regularization=0.1, alpha=2, iterations=4, num_threads=1, random_state=5
    )
    theirs.fit(ROWS.matrix(), show_progress=False)
    assert model.score(np.arange(3)) == pytest.approx(theirs.user_factors @ theirs.item_factors.T, abs=1e-6)
    assert ROWS.matrix().data.tolist() == [5, 3, 4]


@given(st.integers(1, 9), st.integers(0, 1_000), st.floats(0.01, 10))
def test_ridge_regressions_equal_the_normal_equations(factors, seed, reg):
    """Rows of 0 to 20 ratings: below and above the number of factors, in batches of unequal length."""
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(12, 20)) * (rng.random((12, 20)) < np.linspace(0, 1, 12)[:, None])
    other = rng.normal(size=(20, factors))
    solved = np.full((12, factors), np.nan)
    _solve_rows(sparse.csr_matrix(dense), other, reg, solved)
    for row in range(12):
        rated = np.flatnonzero(dense[row])
        inputs = other[rated]
        gram = inputs.T @ inputs + reg * np.eye(factors)
        expected = np.linalg.solve(gram, inputs.T @ dense[row, rated])
        np.testing.assert_allclose(solved[row], expected, atol=1e-8)


def test_biased_als_lowers_its_loss_every_sweep():
    rng = np.random.default_rng(0)
    users, items = np.divmod(np.flatnonzero(rng.random(30 * 40) < 0.5), 40)
    values = (3 + np.sign((users % 2 - 0.5) * (items % 2 - 0.5))).astype(np.float32)
    rows = Interactions(np.int32(users), np.int32(items), values, None, 30, 40)
    losses = []

    def watch(step: int, total: int) -> None:
        errors = model.score_pairs(users, items) - values
        penalty = np.square(model.user_factors).sum() + np.square(model.item_factors).sum()
        losses.append(np.square(errors).sum() + 2 * penalty)

    model = BiasedALS(BiasedALS.Config(factors=3, reg=2, epochs=6))
    model.fit(TrainSet(rows, Task.RATING), FitContext(progress=watch))
    assert len(losses) == 6
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(losses))
    assert losses[-1] < 0.5 * np.square(values - values.mean()).sum()
