"""Two harnesses on one results folder: each cell once, and either lets the other finish."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import MISBEHAVING, CommandLine

SECONDS = ("0.4", "0.41", "0.42", "0.43", "0.44", "0.45")
CELLS = ",".join(f"tallies[seconds={seconds}]" for seconds in SECONDS)


def start(benchmarks: CommandLine, tally: Path, *more: str) -> subprocess.Popen[str]:
    arguments = ("--dataset", "synthetic-genres", "--protocol", "leave-one-out", "--plugin", str(MISBEHAVING))
    command = ("run", "--results", str(benchmarks.results), *arguments, "--format", "json", *more)
    return benchmarks.start(*command, TALLY=str(tally))


def fits(tally: Path) -> Counter[str]:
    """How often each cell was fitted."""
    return Counter(tally.read_text().split()) if tally.exists() else Counter()


def wait_for_fits(tally: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while fits(tally).total() < number:
        assert time.monotonic() < deadline, "no cell was fitted in time"
        time.sleep(0.01)


def test_each_cell_is_measured_once_and_both_show_them_all(benchmarks: CommandLine, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    both = [start(benchmarks, tally, "--algorithm", CELLS) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], [err for _, err in outputs]
    assert fits(tally) == dict.fromkeys(SECONDS, 1)
    assert len(list(benchmarks.results.glob("*/*/tallies/*.json"))) == len(SECONDS)
    for out, _ in outputs:
        assert sorted(row["config"]["seconds"] for row in json.loads(out)) == sorted(map(float, SECONDS))
    assert sum(err.count("by another harness") for _, err in outputs) == len(SECONDS)
    assert not list(benchmarks.results.glob(".locks/*"))


def test_the_split_is_prepared_once(benchmarks: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "cache"))
    both = [start(benchmarks, tmp_path / "tally", "--algorithm", "popularity") for _ in range(2)]
    assert all(process.wait(timeout=120) == 0 for process in both)
    said = [line for process in both if process.stderr is not None for line in process.stderr]
    assert sum(line.startswith("prepare synthetic-genres") for line in said) == 1, said


@pytest.mark.parametrize("victim", [0, 1])
def test_killing_either_lets_the_other_finish(benchmarks: CommandLine, tmp_path: Path, victim: int) -> None:
    tally = tmp_path / "tally"
    both = [start(benchmarks, tally, "--algorithm", CELLS) for _ in range(2)]
    wait_for_fits(tally, 2)
    both[victim].kill()
    both[victim].communicate()
    out, err = both[1 - victim].communicate(timeout=120)
    assert both[1 - victim].returncode == 0, err
    assert {row["status"] for row in json.loads(out)} == {"ok"} and len(json.loads(out)) == len(SECONDS)
    count = fits(tally)
    assert set(count) == set(SECONDS)
    assert count.total() <= len(SECONDS) + 1, "more than the cell in flight was measured again"


def test_a_failure_of_this_moment_is_not_repeated(benchmarks: CommandLine, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    arguments = ("--algorithm", "tallies-and-raises", "--set", "tallies-and-raises.seconds=3")
    first = start(benchmarks, tally, *arguments)
    wait_for_fits(tally, 1)
    second = start(benchmarks, tally, *arguments)
    assert first.wait(timeout=60) == 2 and second.wait(timeout=60) == 2
    assert fits(tally).total() == 1

    third = start(benchmarks, tally, *arguments)  # which began when that failure was there already
    assert third.wait(timeout=60) == 2
    assert fits(tally).total() == 2


def test_a_failure_under_smaller_limits_is_none_of_the_others(benchmarks: CommandLine, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    arguments = ("--algorithm", "tallies", "--set", "tallies.seconds=5")
    hasty = start(benchmarks, tally, *arguments, "--time-limit", "3")
    wait_for_fits(tally, 1)
    patient = start(benchmarks, tally, *arguments, "--time-limit", "100")
    assert hasty.wait(timeout=60) == 2 and patient.wait(timeout=60) == 0
    assert patient.stdout is not None and json.load(patient.stdout)[0]["status"] == "ok"
