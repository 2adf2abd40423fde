"""What a look takes an id or title for, what a model answers, and tables that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from algorithms.als import ALS
from algorithms.base import FactorRecommender
from algorithms.popularity import Popularity
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.look import _find_item, _find_user, _taste
from benchmarks.look_render import render
from benchmarks.looking import answer
from benchmarks.records import Record, Wanted
from datasets.errors import UserError
from datasets.types import Dataset, Interactions

TITLES = ["Sabrina (1954)", "Sabrina (1995)", "300 (2007)", "Heat (1995)", "Odd\x1b[2J (2001)"]


def dataset(**fields: Any) -> Dataset:
    """Three users; item 1 has two ratings, the others one each."""
    users, items = np.int32([0, 0, 1, 1, 2, 2]), np.int32([0, 1, 1, 2, 3, 4])
    values, times = np.float32([5, 4, 1, 4, 3, 2]), np.int64([1, 2, 3, 4, 5, 6])
    known: dict[str, Any] = {
        "name": "toy",
        "interactions": Interactions(users, items, values, times, 3, 5),
        "user_ids": np.int64([1, 5, 9]),
        "item_ids": np.int64([7, 10, 20, 300, 1000]),
        "item_titles": np.array(TITLES),
        "rating_scale": (1.0, 5.0),
        "licence": "",
        "citation": "",
        "fingerprint": "",
    }
    return Dataset(**{**known, **fields})


@pytest.mark.parametrize(
    ("text", "item", "others"),
    [
        ("7", 0, []),
        (" 10 ", 1, []),
        ("sabrina", 1, [0]),  # the one with more ratings
        ("sabrina 1954", 0, []),
        ("300", 3, [2]),  # an id, and a title of another item
        ("heat", 3, []),
    ],
)
def test_an_item_is_found_by_id_or_title(text: str, item: int, others: list[int]) -> None:
    assert _find_item(dataset(), text) == (item, others)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8", "no such id or title in toy; the nearest ids: 7, 10, 20"),
        ("9" * 400, "no such id or title in toy; ids are whole numbers, such as 7, 10, 20"),
        ("casablanca", "no such id or title in toy; ids are whole numbers"),
        ("sabrina goes to hollywood", r"the nearest titles: Sabrina \(1954\) \(7\); Sabrina \(1995\) \(10\)$"),
        ("odd one out", r"the nearest titles: Odd\\x1b\[2J \(2001\) \(1000\)$"),
    ],
)
def test_an_unknown_item_is_refused_with_the_nearest(text: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        _find_item(dataset(), text)


def test_ids_of_text_and_no_titles() -> None:
    texts = dataset(user_ids=np.array(["ann", "bob", "cid"]), item_ids=np.array(list("abcde")), item_titles=None)
    assert _find_user(texts, "bob") == 1
    assert _find_item(texts, "e") == (4, [])
    with pytest.raises(UserError, match="--user bo: no such user in toy; the nearest ids: bob"):
        _find_user(texts, "bo")
    with pytest.raises(UserError, match="--item f: no such item in toy"):
        _find_item(texts, "f")


def test_likes_are_four_fifths_of_the_scale_and_nothing_is_both() -> None:
    class Options:
        likes, n = None, 10

    taste = _taste(dataset(), 1, Options)  # type: ignore[arg-type]
    assert (taste["likes_from"], taste["n_likes"]) == (4, 1)
    assert [entry["item"] for entry in taste["likes"]] == [20]
    assert [(entry["item"], entry["rating"]) for entry in taste["lowest"]] == [(10, 1)]


# -- what a model answers ---------------------------------------------------------------------------------------------


class Planted(FactorRecommender):
    """Users (1, 0), (0, 1), (1, 1); items (1, 0), (2, 0), (1, 3), (0, 0)."""

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        self.user_factors = np.float32([[1, 0], [0, 1], [1, 1]])
        self.item_factors = np.float32([[1, 0], [2, 0], [1, 3], [0, 0]])


def fitted(model: Any) -> Any:
    rows = Interactions(np.int32([0, 1, 2]), np.int32([0, 1, 2]), np.float32([1, 1, 1]), None, 3, 4)
    return model.fit(TrainSet(rows, Task.RANKING), FitContext())


def test_recommendations_leave_out_what_they_are_told_to() -> None:
    question = {"ask": "recommend", "user": 2, "k": 3, "without": [2], "trained": True}
    assert answer(fitted(Planted()), question) == {"indices": [1, 0, 3], "values": [2, 1, 0], "reason": None}
    everything = {**question, "without": [0, 1, 2, 3]}
    assert answer(fitted(Planted()), everything)["indices"] == []


def test_an_answer_that_says_nothing_is_a_reason() -> None:
    model = fitted(Planted())
    similar = {"ask": "similar", "k": 3, "without": [1], "trained": True}
    assert answer(model, {**similar, "item": 0})["indices"] == [2, 3]  # item 1 has no row, and no metadata helps
    assert "as similar as any other" in answer(model, {**similar, "item": 3})["reason"]
    assert "no row of this item" in answer(model, {**similar, "item": 0, "trained": False})["reason"]
    assert "compares no items" in answer(fitted(Popularity()), {**similar, "item": 0})["reason"]
    audience = {"ask": "audience", "k": 3, "without": [0], "trained": True}
    assert answer(model, {**audience, "item": 1})["indices"] == [2, 1]
    assert "every user the same score" in answer(model, {**audience, "item": 3})["reason"]
    cold = ALS(ALS.Config(factors=2, epochs=1))
    rows = Interactions(np.int32([0, 1, 0]), np.int32([0, 1, 1]), np.float32([1, 1, 1]), None, 3, 3)
    cold.fit(TrainSet(rows, Task.RANKING), FitContext())
    nobody = {"ask": "recommend", "user": 2, "k": 2, "without": [], "trained": False}
    assert "every item the same score" in answer(cold, nobody)["reason"]


# -- tables -----------------------------------------------------------------------------------------------------------


def report(n_models: int, length: int = 3) -> dict[str, Any]:
    title = "A Title That Goes On And On, The (Un titre qui n'en finit pas) (1999)"
    return {
        "ask": "similar",
        "dataset": "toy",
        "split": "toy · leave-one-out · split 42",
        "seed": 0,
        "item": {"item": 1, "title": "Odd\x1b[2J [bold]title[/bold]"},
        "asked": "odd",
        "or": [{"item": 2, "title": "Even\n"}],
        "ratings": 3,
        "trained": 2,
        "models": [
            {
                "name": f"model-{place}",
                "by": "cosine" if place else None,
                "reason": None if place else "compares no items",
                "list": [{"item": 10_000_000 + i, "title": title, "value": 0.5} for i in range(length if place else 0)],
            }
            for place in range(n_models + 1)
        ],
    }


@pytest.mark.parametrize(("n_models", "heads"), [(1, [1]), (3, [3]), (4, [2, 2]), (7, [2, 2, 3])])
@pytest.mark.parametrize("columns", ["40", "80"])
def test_lists_stand_side_by_side_as_far_as_they_fit(
    n_models: int, heads: list[int], columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = render(report(n_models)).splitlines()
    assert max(map(len, lines)) <= 80
    above = [lines[place - 1] for place, line in enumerate(lines) if line.startswith("───")]
    assert [line.count("model-") for line in above] == heads
    assert " ".join(lines).count("1999") == 3 * n_models  # folded, not cut
    assert "model-0: compares no items." in lines
    assert any(line.startswith("model-1") and line.endswith("cosine.") for line in lines)


def test_a_wide_terminal_has_them_all_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert sum(line.startswith("───") for line in render(report(7)).splitlines()) == 1


def test_titles_are_text_and_nothing_else() -> None:
    text = render(report(1))
    assert "Odd\\x1b[2J [bold]title[/bold], id 1, 3 ratings" in text
    assert "'odd' may also be: Even\\n, id 2" in text
    assert "\x1b" not in text


def test_what_runs_again_is_asked_for_what_its_record_held(tmp_path: Any) -> None:
    data = {
        "status": "ok",
        "key": "k",
        "timings": {"fit_s": [1, 2, 3], "throughput": {"pairs": {}}},
        "model": {"folder": "k.model", "sha256": {}},
    }
    held = Record(tmp_path / "k.json", data)
    assert Wanted().and_what(held, "k") == Wanted(3, True, True)
    assert Wanted(5).and_what(held, "k") == Wanted(5, True, True)
    assert Wanted().and_what(held, "another key") == Wanted().and_what(None, "k") == Wanted()
