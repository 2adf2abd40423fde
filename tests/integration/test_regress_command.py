"""``regress`` as a developer runs it: real measurements, a real slowdown, another commit."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, CommandLine, Finished

PLUGIN = """
import numpy as np
from algorithms.popularity import Popularity
from algorithms.registry import RANKER, AlgorithmSpec

ALGORITHMS = (AlgorithmSpec("mine", "my_plugin:Popularity", "one of my own", ("numpy",), RANKER),)
"""


def with_fit(folder: Path, statement: str) -> Path:
    """The plug-in with another algorithm before its own, ``broken``, whose fit is this statement."""
    broken = f"class Broken(Popularity):\n    def _fit(self, train, run):\n        {statement}\n"
    spec = 'AlgorithmSpec("broken", "my_plugin:Broken", "fails", ("numpy",), RANKER)'
    plugin = folder / "my_plugin.py"
    plugin.write_text(PLUGIN.replace("ALGORITHMS = (", f"{broken}\nALGORITHMS = ({spec}, "))
    return plugin


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

    slowed = regress("-k", "split/negatives", RECGAUGE_PLANTED="negatives:2")
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
    plugin = with_fit(tmp_path, "raise ValueError('out of order')")
    found = regress("--plugin", str(plugin), "-k", "fit/mine", "-k", "fit/broken")
    assert found.code == 2
    assert "fit/broken failed: ValueError: out of order" in found.out.replace("\n", " ")
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


def test_a_benchmark_that_kills_its_process_is_blamed_alone(regress, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plugin = with_fit(tmp_path, "import os; os._exit(9)")
    found = regress("--plugin", str(plugin), "-k", "fit/broken", "-k", "fit/mine")
    out = found.out.replace("\n", " ")
    assert found.code == 2 and "fit/broken failed: its process ended with code 9" in out
    assert "Nothing to compare with: fit/mine." in out


@pytest.fixture
def checkout(tmp_path: Path) -> CommandLine:
    """The command line of a git clone, which a test may change."""
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout")
    git(tmp_path, "clone", "--quiet", str(ROOT), "checkout")
    return CommandLine(tmp_path / "results", tmp_path / "checkout")


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


TWICE = """

_once = draw_negatives


def draw_negatives(*arguments):
    _once(*arguments)
    return _once(*arguments)
"""


@pytest.mark.slow
def test_another_commit_is_the_base(checkout: CommandLine) -> None:
    """Each side runs its own code: slower in the working tree, then in the base, then a module that the base lacks."""
    changed = checkout.root / "protocols" / "negatives.py"
    original = changed.read_text()
    changed.write_text(original + TWICE)
    slower = checkout("regress", "-k", "split/negatives", "--base", "HEAD")
    assert slower.code == 3 and "SLOWER split/negatives: +" in slower.out, slower.out + slower.err

    git(checkout.root, "commit", "--quiet", "--all", "--message", "twice")
    changed.write_text(original)
    faster = checkout("regress", "-k", "split/negatives", "--base", "HEAD")
    assert faster.code == 0 and "faster" in faster.out, faster.out + faster.err

    git(checkout.root, "rm", "--quiet", "--cached", "protocols/negatives.py")
    git(checkout.root, "commit", "--quiet", "--message", "gone")
    lacking = checkout("regress", "-k", "split/negatives", "--base", "HEAD")
    assert lacking.code == 2 and "in the base:" in lacking.out and "protocols.negatives" in lacking.out
    assert list(checkout.root.glob("results/.scratch/*")) == []
    assert len(git(checkout.root, "worktree", "list").splitlines()) == 1


def test_an_unknown_base_is_one_line(regress) -> None:  # type: ignore[no-untyped-def]
    if not (ROOT / ".git").exists():
        pytest.skip("needs the git checkout")
    unknown = regress("-k", "split/negatives", "--base", "no-such-commit")
    assert unknown.code == 1 and "--base no-such-commit: git cannot check it out" in unknown.err
    assert len(unknown.err.splitlines()) == 1


def test_terminated_it_leaves_nothing_behind(checkout: CommandLine) -> None:
    process = checkout.start("regress", "-k", "split/negatives", "--base", "HEAD")
    deadline = time.monotonic() + 60
    while not list(checkout.root.glob("results/.scratch/*/checkout/benchmarks")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "nothing of this measurement is kept" in err
    assert list(checkout.root.glob("results/.scratch/*")) == []
    running = [" ".join(each.cmdline()) for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"]]
    assert not [command for command in running if str(checkout.root) in command]
