"""A few hostile inputs for every reader, the same ones each time; ``fuzz.py`` gives them a hundred thousand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from fuzz_targets import TARGETS, Target, build_seeds, judge
from hypothesis import HealthCheck, Phase, given, settings

from datasets.errors import UserError

FEW, FEWER = 40, 6
"""Examples of a target, and of one whose inputs take long."""


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_hostile_is_taken_or_refused_in_one_line(name: str) -> None:
    build_seeds(name)
    target = TARGETS[name]

    @settings(
        max_examples=FEW if target.most is None else FEWER,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def run(value: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            judge(target, value, Path(folder))

    run()


def refuse(message: str) -> Target:
    def read(given: Any, folder: Path) -> None:
        error = UserError("")
        error.args = (message,)  # as a message would be that did not go through UserError
        raise error

    return Target(TARGETS["texts"].inputs, read, r"file\.csv")


@pytest.mark.parametrize(
    ("message", "trouble"),
    [
        ("file.csv:2: two\nlines", "not one printable line"),
        ("file.csv:2: \x1b[31mred", "not one printable line"),
        ("somewhere: wrong", "does not name"),
        ("file.csv: " + "x" * 5_000, "characters"),
    ],
)
def test_a_bad_refusal_is_found(tmp_path: Path, message: str, trouble: str) -> None:
    with pytest.raises(AssertionError, match=trouble):
        judge(refuse(message), None, tmp_path)


def test_a_good_refusal_is_none(tmp_path: Path) -> None:
    assert judge(refuse("file.csv:2: wrong"), None, tmp_path) is False
