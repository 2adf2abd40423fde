"""What the report's charts and tables are made of, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report.command import _history
from benchmarks.report.figures import COLOURS, SYMBOLS, _mark, flips, history, pareto_front
from benchmarks.report.latex import _number, escape

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    """(1, 5), (2, 3) and (4, 1) stand; (3, 3) costs more than (2, 3) for the same loss; (4, 4) loses to both."""
    assert pareto_front([(1, 5), (3, 3), (2, 3), (4, 4), (4, 1)]) == [0, 2, 4]


def test_equal_points_stand_together() -> None:
    assert pareto_front([(1, 1), (1, 1), (2, 1)]) == [0, 1]


@given(POINTS)
def test_every_point_is_on_the_front_or_beaten_by_one_on_it(points: list[tuple[int, int]]) -> None:
    front = pareto_front(points)
    assert front
    for place, (cost, loss) in enumerate(points):
        beaten = any(
            points[other][0] <= cost and points[other][1] <= loss and points[other] != (cost, loss) for other in front
        )
        assert beaten != (place in front)


def test_flips_are_pairs_in_opposite_orders() -> None:
    """By the first metric a > b > c, by the second b > a > c: only a and b change; a tie in either is no change."""
    rows = [
        {"algorithm": name, "metrics": {"hr@10": {"mean": first}, "hr@10/full": {"mean": second}}}
        for name, first, second in (("a", 0.7, 0.05), ("b", 0.6, 0.06), ("c", 0.5, 0.01), ("d", 0.5, 0.02))
    ]
    names = [(a["algorithm"], b["algorithm"]) for a, b in flips(rows, "hr@10", "hr@10/full")]
    assert names == [("a", "b")]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("95 %", r"95 \%"),
        ("als (factors=64)", "als (factors=64)"),
        ("a_b", r"a\_b"),
        (".7–.8", ".7{--}.8"),
        ("R²", "R$^2$"),
    ],
)
def test_latex_gets_what_it_can_read(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_a_negative_bound_keeps_its_sign() -> None:
    assert _number("-.050–-.010") == "$-$.050{--}$-$.010"
    assert _number(".745–.807") == ".745{--}.807"


def test_series_differ_in_colour_or_symbol() -> None:
    marks = [_mark(place) for place in range(len(COLOURS) * len(SYMBOLS))]
    assert len({(mark["color"], mark["symbol"]) for mark in marks}) == 42


HISTORY_LINE = {"date": "2026-01-02T03:04:05+00:00", "base": None, "hardware_fingerprint": "f" * 16}
MEASURED = {"load": {"measured": [{"ratio": 1.2, "before": 1.0}]}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"benchmarks": 1},
        {"benchmarks": {"load": 1}},
        {"benchmarks": {"load": {"measured": [1]}}},
        {"benchmarks": {"load": {"measured": [{"ratio": 1.0}]}}},
        {"benchmarks": {"load": {"measured": [{"ratio": 1.0, "before": 0}]}}},
        {"benchmarks": {"load": {"measured": [{"ratio": "1", "before": 1}]}}},
        {"hardware_fingerprint": 7},
        {"date": "yesterday"},
        {"date": 7},
    ],
)
def test_a_line_of_another_form_is_left_out_of_the_history_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any]
) -> None:
    path, good = tmp_path / "regress.jsonl", {**HISTORY_LINE, "benchmarks": MEASURED}
    path.write_text("\n".join([json.dumps(good), json.dumps({**good, **wrong}), "[" * 50_000]))
    lines = _history(path)
    assert lines == [good] and history(lines) is not None
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in said] == [f"{path}:2", f"{path}:3"]
