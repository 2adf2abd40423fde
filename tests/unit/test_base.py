"""The base class: top-k, masking, cold pairs, checks of shape and finiteness, storage."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from algorithms.base import DampedBias, FactorRecommender, NonFiniteScores, Recommender
from algorithms.popularity import Popularity
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import NotApplicableError, UserError
from datasets.top_k import PADDING
from datasets.types import Interactions

ROOT = Path(__file__).parents[2]


def _rows(users, items, values, n_users, n_items) -> Interactions:
    return Interactions(np.int32(users), np.int32(items), np.float32(values), None, n_users, n_items)


def _train(task: Task = Task.RANKING) -> TrainSet:
    """3 users × 4 items; user 2 and item 3 have no row."""
    return TrainSet(_rows([0, 0, 1], [0, 1, 1], [5, 3, 4], 3, 4), task)


class Table(Recommender):
    """Scores are a table that the test chooses."""

    table = np.zeros((3, 4), dtype=np.float32)

    def _fit(self, train, run):
        pass

    def _score(self, users):
        return self.table[users]


class RatingTable(Table):
    predicts_ratings = True


class Factors(FactorRecommender):
    @dataclass(frozen=True)
    class Config:
        shift: Annotated[float, "added to every item"] = 0.0

    def _fit(self, train, run):
        self.user_factors = np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32)
        self.item_factors = np.array([[2, 0], [0, 1], [4, 0], [0, 0]], dtype=np.float32)
        self.item_bias = np.full(4, self.config.shift, dtype=np.float32)


def _fitted(model, table=None, task=Task.RANKING):
    if table is not None:
        model.table = np.array(table, dtype=np.float32)
    return model.fit(_train(task), FitContext())


def test_recommend_masks_pads_and_breaks_ties_by_index():
    model = _fitted(Table(), [[1, 2, 2, 0], [3, 3, 3, 3], [0, 0, 0, 1]])
    seen = sparse.csr_matrix(np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0]], dtype=np.float32))
    lists = model.recommend(np.array([0, 1, 2]), 3, exclude=seen)
    assert lists.dtype == np.int32
    assert lists.tolist() == [[2, 0, 3], [0, 1, 2], [3, PADDING, PADDING]]
    assert model.recommend(np.array([2]), 6).tolist() == [[3, 0, 1, 2, PADDING, PADDING]]


def test_an_explicit_zero_in_exclude_is_excluded_too():
    model = _fitted(Table(), np.zeros((3, 4)))
    seen = sparse.csr_matrix((np.zeros(1, np.float32), np.array([0]), np.array([0, 1, 1, 1])), shape=(3, 4))
    assert model.recommend(np.array([0]), 2, exclude=seen).tolist() == [[1, 2]]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30))
def test_default_pairs_gather_from_full_scores(pairs):
    model = _fitted(Table(), np.arange(12).reshape(3, 4))
    users, items = np.array(pairs).T
    assert model.score_pairs(users, items).tolist() == (users * 4 + items).tolist()


def test_pairs_are_gathered_across_tiles(monkeypatch):
    monkeypatch.setattr("algorithms.base.TILE_ELEMENTS", 4)  # one user a tile
    model = _fitted(Table(), np.arange(12).reshape(3, 4))
    assert model.score_pairs(np.array([2, 0, 2, 1]), np.array([3, 1, 0, 2])).tolist() == [11, 1, 8, 6]


def test_no_pairs_no_scores():
    assert _fitted(Table()).score_pairs(np.array([], dtype=np.int32), np.array([], dtype=np.int32)).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_scores_are_refused_with_count_and_user(bad):
    table = np.zeros((3, 4))
    table[1, 2:] = bad
    model = _fitted(Table(), table)
    with pytest.raises(NonFiniteScores, match="2 of 8 scores are not finite, the first for user 1"):
        model.score(np.array([0, 1]))
    with pytest.raises(NonFiniteScores, match=r"1 of 2 .* user 1"):
        model.score_pairs(np.array([0, 1]), np.array([2, 2]))


def test_large_finite_scores_pass_though_their_sum_overflows():
    model = _fitted(Table(), np.full((3, 4), 3e38))
    assert model.score(np.array([0])).max() == np.float32(3e38)


def test_infinities_that_cancel_in_a_sum_are_refused():
    model = _fitted(Table(), [[np.inf, -np.inf, 0, 0]] * 3)
    with pytest.raises(NonFiniteScores):
        model.score(np.array([0]))


def test_questions_outside_the_universe_are_refused():
    model = _fitted(Table())
    for users in ([3], [-1]):
        with pytest.raises(ValueError, match=r"users must lie in \[0, 3\)"):
            model.score(np.array(users))
    with pytest.raises(ValueError, match=r"items must lie in \[0, 4\)"):
        model.score_pairs(np.array([0]), np.array([4]))
    with pytest.raises(ValueError, match="as many items as users"):
        model.score_pairs(np.array([0, 1]), np.array([0]))
    with pytest.raises(ValueError, match="vector of integers"):
        model.score(np.array([0.5]))


def test_answers_of_the_wrong_shape_or_dtype_are_refused():
    model = _fitted(Table())
    model.table = np.zeros((3, 5), dtype=np.float32)
    with pytest.raises(ValueError, match=r"shape \(1, 4\)"):
        model.score(np.array([0]))
    model.table = np.zeros((3, 4), dtype=np.int64)
    with pytest.raises(ValueError, match="float32 or float64"):
        model.score(np.array([0]))


def test_an_unfitted_model_says_so():
    with pytest.raises(ValueError, match="not fitted"):
        Table().score(np.array([0]))
    with pytest.raises(ValueError, match="not fitted"):
        Table().recommend(np.array([0]), 2)


def test_fit_needs_rows():
    empty = TrainSet(_rows([], [], [], 3, 4), Task.RANKING)
    with pytest.raises(UserError, match="no rows"):
        Table().fit(empty, FitContext())


def test_scores_keep_their_dtype():
    assert _fitted(Table()).score(np.array([0])).dtype == np.float32
    assert _fitted(RatingTable(), task=Task.RATING).score(np.array([0])).dtype == np.float32
    assert _fitted(Popularity()).score_pairs(np.array([0]), np.array([0])).dtype == np.float64


def test_cold_pairs_of_a_rating_model_get_damped_means():
    ranking, rating = _fitted(RatingTable()), _fitted(RatingTable(), task=Task.RATING)
    users, items = np.array([0, 2, 0, 2]), np.array([0, 0, 3, 3])
    # μ = 4; b_item0 = (5 − 4) / (1 + 5) = 1/6; b_user0 = ((1 − 1/6) + (−1 + 1/7)) / (2 + 5) with b_item1 = −1/7
    user0 = ((1 - 1 / 6) + (-1 + 1 / 7)) / 7
    expected = [0, 4 + 1 / 6, 4 + user0, 4]
    assert rating.score_pairs(users, items) == pytest.approx(expected, abs=1e-6)
    assert rating.score(np.array([0, 2]))[[0, 1, 0, 1], [0, 0, 3, 3]] == pytest.approx(expected, abs=1e-6)
    assert ranking.score_pairs(users, items).tolist() == [0, 0, 0, 0]


def test_a_calibrated_model_keeps_its_scores_and_names_its_cold_pairs():
    model = _fitted(Table(), task=Task.RATING)
    users, items = np.array([0, 2, 0]), np.array([0, 0, 3])
    assert model.score_pairs(users, items).tolist() == [0, 0, 0]
    assert model.cold_pairs(users, items).tolist() == [False, True, True]
    assert model.cold_ratings(users[1:2], items[1:2]) == pytest.approx([4 + 1 / 6])


def test_damped_bias_leaves_a_constant_alone():
    rows = _rows([0, 0, 1], [0, 1, 1], [3, 3, 3], 2, 2)
    bias = DampedBias.fit(rows)
    assert bias.predict(np.array([0, 1]), np.array([1, 0])).tolist() == [3, 3]


def test_factors_score_as_a_product_and_find_similar_items():
    model = _fitted(Factors(Factors.Config(shift=0.5)))
    assert model.score(np.array([2])).tolist() == [[2.5, 1.5, 4.5, 0.5]]
    assert model.score_pairs(np.array([0, 1]), np.array([2, 2])).tolist() == [4.5, 0.5]
    assert model.similar(0, 2).tolist() == [2, 1]  # parallel, then orthogonal before a zero vector by index
    assert model.similar(0, 5).tolist() == [2, 1, 3, PADDING, PADDING]
    assert model.similar(0, 2, among=np.array([True, True, False, True])).tolist() == [1, 3]
    assert model.audience(1, 2).tolist() == [1, 2]
    assert model.audience(1, 3, exclude=np.array([1])).tolist() == [2, 0, PADDING]


def test_a_model_without_similarities_says_so():
    model = _fitted(Popularity())
    assert not model.similar_by
    with pytest.raises(NotApplicableError, match="Popularity has no vectors or similarities of items"):
        model.similar(0, 2)
    assert model.audience(0, 2).tolist() == [0, 1]  # everybody the same: by index


def test_save_and_load(tmp_path: Path):
    model = Factors(Factors.Config(shift=0.25)).fit(_train(Task.RATING), FitContext())
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]
    loaded = Factors.load(tmp_path)
    users = np.arange(3)
    assert loaded.config == model.config
    assert np.array_equal(loaded.score(users), model.score(users))
    assert np.array_equal(loaded.cold_ratings(users, users), model.cold_ratings(users, users))


def test_transposed_arrays_survive_storage(tmp_path: Path):
    model = _fitted(Factors())
    model.item_factors = np.asfortranarray(np.arange(8, dtype=np.float32).reshape(4, 2))
    model.save(tmp_path)
    assert np.array_equal(Factors.load(tmp_path).item_factors, model.item_factors)


def test_loading_says_what_is_wrong(tmp_path: Path):
    with pytest.raises(UserError, match="no readable model"):
        Factors.load(tmp_path)
    _fitted(Factors()).save(tmp_path)
    with pytest.raises(UserError, match="holds a model of 'Factors', not of Popularity"):
        Popularity.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="no readable model"):
        Factors.load(tmp_path)


def test_the_size_of_a_model_is_that_of_the_arrays_it_saves(tmp_path: Path):
    from safetensors.numpy import load_file

    for task in Task:
        model = _fitted(Factors(), task=task)
        model.save(tmp_path / task)
        saved = load_file(tmp_path / task / "model.safetensors")
        assert model.size_bytes() == sum(array.nbytes for array in saved.values())


def test_a_model_that_cannot_be_saved_has_no_size():
    assert _fitted(Table()).size_bytes() is None


def test_a_fit_finds_implicit_not_imported_yet_and_the_first_list_imports_nothing():
    """implicit looks for its GPU when it is imported: what it needs must be in place by then."""
    code = """
import sys
import numpy as np
from algorithms.base import FactorRecommender
from algorithms.types import FitContext, Task, TrainSet
from datasets.types import Interactions

class Model(FactorRecommender):
    def _fit(self, train, run):
        assert "implicit" not in sys.modules
        self.user_factors, self.item_factors = np.eye(3, dtype=np.float32), np.ones((4, 3), dtype=np.float32)

ids = np.arange(3, dtype=np.int32)
model = Model().fit(TrainSet(Interactions(ids, ids, np.ones(3, np.float32), None, 3, 4), Task.RANKING), FitContext())
before = set(sys.modules)
model.recommend(ids, 2)
assert not {name for name in sys.modules if name not in before and name.startswith("implicit")}
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
