"""Files of a model that somebody else wrote: loaded and able to answer, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms import storage
from algorithms.als import ALS
from algorithms.base import Recommender
from datasets.errors import UserError

FACTS = {"n_users": 4, "n_items": 3, "task": "ranking"}
FACTORS = {"user_factors": np.ones((4, 2), np.float32), "item_factors": np.ones((3, 2), np.float32)}


def refused(folder: Path, algorithm: type[Recommender] = ALS) -> str:
    with pytest.raises(UserError) as error:
        algorithm.load(folder)
    text = str(error.value)
    assert "\n" not in text and str(folder) in text
    return text


def test_a_whole_model_is_loaded(tmp_path: Path) -> None:
    storage.write(tmp_path, ALS, ALS.Config(), FACTS, FACTORS)
    assert ALS.load(tmp_path).score(np.array([0])).shape == (1, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"user_factors": np.ones((2, 2), np.float32)},
        {"item_factors": np.ones((3, 5), np.float32)},
        {"item_factors": np.ones((30, 2), np.float32)},
        {"user_factors": np.full((4, 2), np.nan, np.float32)},
        {"user_factors": np.ones((4, 2), np.int64), "item_factors": np.ones((3, 2), np.int64)},
        {"bias.mean": np.ones(3)},
        {"bias.what": np.ones(3)},
        {"user_bias": np.ones(1), "item_bias": np.ones(7)},
    ],
    ids=range(8),
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    storage.write(tmp_path, ALS, ALS.Config(), FACTS, FACTORS | changes)
    assert "no ALS model that can answer" in refused(tmp_path)


def test_an_array_that_is_missing_is_named(tmp_path: Path) -> None:
    storage.write(tmp_path, ALS, ALS.Config(), FACTS, {"user_factors": FACTORS["user_factors"]})
    assert "item_factors" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("n_users", -1, "-1 users"),
        ("n_users", 2**40, "users"),
        ("n_items", "3", "lacks n_items, int is required"),
        ("task", "cooking", "cooking"),
        ("algorithm", "Other", "holds a model of 'Other'"),
        ("algorithm", None, "lacks algorithm"),
        ("config", [], "lacks config"),
        ("more", "x" * 2**21, "larger than"),
    ],
)
def test_facts_that_cannot_be_are_refused(tmp_path: Path, name: str, value: Any, reason: str) -> None:
    storage.write(tmp_path, ALS, ALS.Config(), FACTS, FACTORS)
    file = tmp_path / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    assert reason in refused(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, '{"a": NaN}', "\x00", "null"], ids=range(6))
def test_a_text_that_is_no_model_is_refused(tmp_path: Path, text: str) -> None:
    storage.write(tmp_path, ALS, ALS.Config(), FACTS, FACTORS)
    (tmp_path / "model.json").write_text(text)
    assert "no readable model" in refused(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"\xff" * 8 + b"{", (2**40).to_bytes(8, "little") + b"{}"], ids=range(4)
)
def test_bytes_that_are_no_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    storage.write(tmp_path, ALS, ALS.Config(), FACTS, FACTORS)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert "no readable model" in refused(tmp_path)


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    storage.write(tmp_path, ALS, ALS.Config(), FACTS, FACTORS)
    file = tmp_path / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "config": {"hands": 3}}))
    with pytest.raises(UserError, match="hands"):
        ALS.load(tmp_path)
