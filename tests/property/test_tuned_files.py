"""Tuned configurations survive their files, and the expected best is what drawing every sequence would give."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import found

from benchmarks.tuned import expected_best, path_of, read, write

TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text != "none")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), NUMBERS, TEXTS)
OPTIONS = st.dictionaries(TEXTS, st.one_of(PLAIN, st.lists(st.integers(1, 512))), max_size=5)


@given(
    config=OPTIONS,
    study=TEXTS,
    value=NUMBERS,
    default_value=st.none() | NUMBERS,
    values=st.lists(st.none() | NUMBERS),
    commit=st.none() | TEXTS,
)
def test_what_is_written_is_what_is_read(**fields: Any) -> None:
    tuned = found(**fields)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), tuned)
        assert path == path_of(Path(folder), "synthetic-genres", "leave-one-out", "als")
        assert read(path) == tuned
        assert [each.name for each in path.parent.iterdir()] == ["als.toml"]


@given(
    values=st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=5).filter(
        lambda values: set(values) != {None}
    ),
    higher_is_better=st.booleans(),
)
def test_expected_best_is_the_mean_over_all_sequences_of_draws(
    values: list[int | None], higher_is_better: bool
) -> None:
    complete = [value for value in values if value is not None]
    best, worst = (max, min) if higher_is_better else (min, max)
    filled = [worst(complete) if value is None else value for value in values]
    for n, expected in enumerate(expected_best(values, higher_is_better), start=1):
        every = [best(draws) for draws in itertools.product(filled, repeat=n)]
        assert expected == pytest.approx(np.mean(every))
