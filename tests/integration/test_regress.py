"""``regress`` as a developer runs it: real measurements, a real slowdown, another commit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, CommandLine, Finished

PLUGIN = """
import numpy as np
from algorithms.popularity import Popularity
from algorithms.registry import RANKER, AlgorithmSpec

ALGORITHMS = (AlgorithmSpec("mine", "my_plugin:Popularity", "one of my own", ("numpy",), RANKER),)
"""


@pytest.fixture
def regress(benchmarks: CommandLine, tmp_path: Path):  # type: ignore[no-untyped-def]
    """The command with baselines and history of the test's own."""

    def run(*arguments: str, **variables: str) -> Finished:
        own = ("--baselines", str(tmp_path / "baselines"), "--history", str(tmp_path / "history.jsonl"))
        return benchmarks("regress", *own, *arguments, **variables)

    return run


def test_accept_then_unchanged_then_slowed(regress, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    accepted = regress("-k", "split/negatives", "--accept", "first")
    assert accepted.code == 0 and "1 benchmarks accepted in" in accepted.out

    unchanged = regress("-k", "split/negatives", COLUMNS="80")
    assert unchanged.code == 0, unchanged.out
    assert "split/negatives" in unchanged.out and "ok" in unchanged.out

    slowed = regress("-k", "split/negatives", PLANTED="negatives:2", PYTEST_ADDOPTS="-p performance.planted")
    assert slowed.code == 3 and "SLOWER split/negatives: +" in slowed.out

    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["exit_code"] for line in history] == [0, 3]
    assert history[1]["benchmarks"]["split/negatives"]["status"] == "slower"
    assert len(history[1]["benchmarks"]["split/negatives"]["measured"]) == 2


def test_a_registered_algorithm_has_its_benchmarks(regress, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plugin = tmp_path / "my_plugin.py"
    plugin.write_text(PLUGIN)
    found = regress("--plugin", str(plugin), "-k", "mine")
    assert found.code == 4  # measured, but there is nothing to compare with
    assert "Nothing to compare with: fit/mine, score/mine." in found.out.replace("\n", " ")
    assert not (tmp_path / "baselines").exists()


def test_a_benchmark_that_fails_says_why_and_the_others_go_on(regress, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plugin = tmp_path / "my_plugin.py"
    broken = "class Broken(Popularity):\n    def _fit(self, train, run):\n        raise ValueError('out of order')\n"
    spec = 'AlgorithmSpec("broken", "my_plugin:Broken", "fails", ("numpy",), RANKER)'
    plugin.write_text(PLUGIN.replace("ALGORITHMS = (", f"{broken}\nALGORITHMS = ({spec}, "))
    found = regress("--plugin", str(plugin), "-k", "fit/mine", "-k", "fit/broken")
    assert found.code == 2
    assert "fit/broken failed: ValueError: out of order" in found.out
    assert "Nothing to compare with: fit/mine." in found.out


@pytest.mark.parametrize("patterns", [("fit/alz",), ("fit/als", "fit/alz")])
def test_a_misspelt_benchmark_is_not_green(regress, patterns: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    found = regress(*(argument for pattern in patterns for argument in ("-k", pattern)))
    assert found.code == 4 and "unknown benchmark 'fit/alz': did you mean 'fit/als'? valid:" in found.err
    assert len(found.err.splitlines()) == 1


def test_accept_wants_a_reason(regress) -> None:  # type: ignore[no-untyped-def]
    assert regress("--accept", " ").code == 1
    both = regress("--accept", "first", "--base", "HEAD")
    assert (both.code, len(both.err.splitlines())) == (1, 1)


def test_another_commit_is_the_base(regress) -> None:  # type: ignore[no-untyped-def]
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout")
    found = regress("-k", "split/negatives", "--base", "HEAD")
    assert found.code == 0, found.out
    assert "split/negatives" in found.out
    unknown = regress("-k", "split/negatives", "--base", "no-such-commit")
    assert unknown.code == 1 and "--base no-such-commit: git cannot check it out" in unknown.err
    left = subprocess.run(["git", "-C", str(ROOT), "worktree", "list"], capture_output=True, text=True, check=True)
    assert "recgauge-base" not in left.stdout
