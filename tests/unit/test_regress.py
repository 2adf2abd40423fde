"""When a benchmark counts as slower, what the exit code then is, and which baseline it is compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks import baselines
from benchmarks.baselines import FOREIGN, Reference, judge
from benchmarks.benching import Benchmark, Outcome, choose
from benchmarks.regress import Comparison, compare, exit_code, render
from datasets.errors import UserError

BENCHMARK = Benchmark("fit/als", 1.15, "als")
KNOWN = {"fit/als", "load/cold"}
ABOUT = {"reason": "first", "commit": "c0ffee", "date": "2026-01-01T00:00:00+00:00"}


def rounds(median: float, spread: float = 0.02, n: int = 30, seed: int = 0) -> list[float]:
    draws = np.random.default_rng(seed).lognormal(0, spread, n)
    return [float(value) for value in median * draws / np.median(draws)]


def status(*medians: float) -> tuple[str, int, int]:
    """Status, exit code and number of measurements, when the benchmark takes so many times as long."""
    reference = {BENCHMARK.path: Reference(rounds(1.0, seed=9))}
    left = list(medians)

    def measure(some: Sequence[Benchmark]) -> Comparison:
        return Comparison(Outcome({each.path: rounds(left.pop(0)) for each in some}), reference)

    rows = compare([BENCHMARK], measure)
    return rows[0].status, exit_code(rows), len(medians) - len(left)


@pytest.mark.parametrize(
    ("medians", "expected"),
    [
        ((1.0,), ("ok", 0, 1)),
        ((1.14,), ("ok", 0, 1)),  # significant, but not above the factor
        ((1.3, 1.3), ("slower", 3, 2)),
        ((1.3, 1.02), ("ok, slower once", 0, 2)),
        ((0.8,), ("faster", 0, 1)),
    ],
)
def test_slower_is_above_the_factor_twice(medians: tuple[float, ...], expected: tuple[str, int, int]) -> None:
    assert status(*medians) == expected


def test_above_the_factor_by_chance_is_not_slower() -> None:
    verdict = judge(rounds(1.2, spread=1.0, n=8), Reference(rounds(1.0, spread=1.0, n=24, seed=3)), 1.15)
    assert verdict.change > 1.15 and verdict.p > baselines.ALPHA and not verdict.slower


def test_p_is_the_mann_whitney_tables() -> None:
    """All of 8 above all of 8: exact 1/12870; the normal approximation with continuity correction .00047."""
    verdict = judge(range(108, 116), Reference(range(8)), 1.15)
    assert verdict.p == pytest.approx(0.00047, abs=5e-5)


def test_nothing_compared_is_never_green() -> None:
    rows = compare([BENCHMARK], lambda some: Comparison(Outcome({"fit/als": [1.0, 1.1]}), {}))
    assert (rows[0].status, exit_code(rows)) == ("new", 4)
    rows = compare([BENCHMARK], lambda some: Comparison(Outcome(skipped={"fit/als": "not installed"}), {}))
    assert (rows[0].status, exit_code(rows)) == ("skipped", 4)


def test_a_failed_benchmark_is_not_green_and_a_slower_one_matters_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    other = Benchmark("fit/ease", 1.15, "ease")
    comparison = Comparison(
        Outcome({"fit/als": rounds(1.5)}, failed={"fit/ease": "ValueError: no"}),
        {"fit/als": Reference(rounds(1.0)), "fit/ease": Reference(rounds(1.0))},
    )
    rows = compare([BENCHMARK, other], lambda some: comparison)
    assert [row.status for row in rows] == ["slower", "failed"] and exit_code(rows) == 3
    assert exit_code(rows[1:]) == 2
    text = render(rows, 12)
    assert "SLOWER fit/als: +50.0% and, measured again, +50.0%" in text.replace("\n", " ")
    assert "fit/ease failed: ValueError: no" in text
    assert max(map(len, text.splitlines())) <= 80


def test_what_failed_in_the_base_is_said_and_not_green() -> None:
    comparison = Comparison(Outcome({"fit/als": rounds(1.0)}), {}, Outcome(failed={"fit/als": "ImportError: no"}))
    rows = compare([BENCHMARK], lambda some: comparison)
    assert (rows[0].status, rows[0].reason, exit_code(rows)) == ("failed", "in the base: ImportError: no", 2)


def test_slower_and_not_measured_again_is_not_green() -> None:
    found = [Comparison(Outcome({"fit/als": rounds(1.5)}), {"fit/als": Reference(rounds(1.0))})]
    rows = compare([BENCHMARK], lambda some: found.pop() if found else Comparison(Outcome(), {}))
    assert (rows[0].status, exit_code(rows)) == ("failed", 2)


def test_what_is_in_the_baseline_only_is_said() -> None:
    rows = compare(
        [BENCHMARK], lambda some: Comparison(Outcome({"fit/als": rounds(1.0)}), {"fit/als": Reference([1.0])})
    )
    assert "no benchmark any more: lists/old." in render(rows, 1, ["lists/old"])


def test_a_path_or_a_part_of_it_names_benchmarks() -> None:
    known = [Benchmark(path, 1.15, None) for path in ("fit/als", "fit/biased-als", "score/als", "load/cold")]

    def chosen(*patterns: str) -> list[str]:
        return [each.path for each in choose(known, patterns)]

    assert chosen("fit/als") == ["fit/als"]
    assert chosen("als") == ["fit/als", "score/als"]
    assert chosen("fit/*als") == ["fit/als", "fit/biased-als"]
    assert chosen("load", "score") == ["score/als", "load/cold"]
    assert chosen() == [each.path for each in known]
    assert chosen("fi") == []


def test_what_is_accepted_is_what_the_next_run_is_compared_with(tmp_path: Path) -> None:
    baselines.accept(tmp_path, {"fit/als": [1.0, 1.25], "load/cold": [3.0], "old": [1.0]}, ABOUT, KNOWN | {"old"})
    path = baselines.accept(tmp_path, {"fit/als": [2.0]}, {**ABOUT, "reason": "exact ties"}, KNOWN)
    assert {name: each.ratios for name, each in baselines.references(tmp_path).items()} == {
        "fit/als": [2.0],
        "load/cold": [3.0],
    }
    kept = json.loads(path.read_text())["benchmarks"]
    assert (kept["fit/als"]["reason"], kept["load/cold"]["reason"]) == ("exact ties", "first")


def test_on_another_kind_of_machine_the_most_lenient_baseline_with_a_wider_factor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cpu, ratio in (("Fast CPU", 1.0), ("Slow CPU", 2.0), ("Other CPU", 1.5)):
        monkeypatch.setattr(baselines, "machine", lambda cpu=cpu: {"cpu": cpu})
        baselines.accept(tmp_path, {"fit/als": [ratio]}, ABOUT, KNOWN)
    monkeypatch.setattr(baselines, "machine", lambda: {"cpu": "Unknown CPU"})
    found = baselines.references(tmp_path)["fit/als"]
    assert found == Reference([2.0], foreign=True)
    assert judge([2.0], found, 1.2).allowed == pytest.approx(1.2 * FOREIGN)
    monkeypatch.setattr(baselines, "machine", lambda: {"cpu": "Fast CPU"})
    assert baselines.references(tmp_path)["fit/als"] == Reference([1.0])


def test_a_damaged_baseline_is_named(tmp_path: Path) -> None:
    path = baselines.accept(tmp_path, {"fit/als": [1.0]}, ABOUT, KNOWN)
    path.write_text(path.read_text()[:-5])
    with pytest.raises(UserError, match=rf"{path}: no valid JSON .* restore it from git"):
        baselines.references(tmp_path)
    path.write_text("[]")
    with pytest.raises(UserError, match=rf"{path}: no baseline of schema 1"):
        baselines.references(tmp_path)


@pytest.mark.parametrize(
    "benchmarks",
    ["1", "[]", '{"fit": 1}', '{"fit": {}}', *(f'{{"fit": {{"ratios": {each}}}}}' for each in (
        "[]", "1", "[null]", "[[1]]", "[0]", "[-1]", "[NaN]", "[1e999]", "[true]", '["1"]'
    ))],
)  # fmt: skip
def test_a_baseline_without_ratios_is_named(tmp_path: Path, benchmarks: str) -> None:
    path = tmp_path / "another.json"
    path.write_text(f'{{"schema": 1, "benchmarks": {benchmarks}}}')
    with pytest.raises(UserError, match=r"another\.json: (fit|benchmarks) has no list of ratios above 0"):
        baselines.references(tmp_path)


@pytest.mark.parametrize("content", [b"\xff", b"[" * 100_000])
def test_a_baseline_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "another.json").write_bytes(content)
    with pytest.raises(UserError, match=r"another\.json: no valid JSON"):
        baselines.references(tmp_path)
