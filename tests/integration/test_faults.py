"""What goes wrong stays one row: hanging, memory-eating, dying, cheating algorithms; killed workers and harnesses."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import MISBEHAVING, CommandLine

PLUGIN = ("--plugin", str(MISBEHAVING))
LEAVE_ONE_OUT = ("--protocol", "leave-one-out")


def records_of(results: Path, algorithm: str) -> list[dict]:
    return [json.loads(path.read_text()) for path in results.glob(f"*/*/{algorithm}/*.json")]


def workers_of(results: Path) -> list[psutil.Process]:
    """Every process that works in a scratch folder of these results, whoever its parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(results.resolve() / ".scratch")):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def no_orphans(benchmarks: CommandLine) -> Iterator[None]:
    """Whatever a test does, nothing it started is alive a second later."""
    yield
    deadline = time.monotonic() + 2
    while (left := workers_of(benchmarks.results)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert not list(benchmarks.results.glob(".scratch/*")) or not any(
        benchmarks.results.glob(".scratch/*/outcomes.npz")
    )


def test_hanging_algorithm_ends_as_timeout_and_the_rest_completes(benchmarks: CommandLine) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", "hangs,popularity", "--time-limit", "4")
    assert ended.code == 2
    (hanging,) = records_of(benchmarks.results, "hangs")
    assert hanging["status"] == "timeout"
    assert 4 <= hanging["wall_s"] <= 6
    assert records_of(benchmarks.results, "popularity")[0]["status"] == "ok"
    assert "time limit of 4 s" in ended.out


@pytest.mark.parametrize("algorithm", ["eats-memory", "eats-memory-in-child"])
def test_memory_eating_algorithm_ends_within_a_tenth_of_its_limit(benchmarks: CommandLine, algorithm: str) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", algorithm, "--memory-limit", "2")
    assert ended.code == 2
    (record,) = records_of(benchmarks.results, algorithm)
    assert record["status"] == "out_of_memory"
    assert 2 * 2**30 <= record["memory"]["peak_group_rss_bytes"] <= 2.2 * 2**30


def test_worker_killed_by_signal_is_one_failed_row(benchmarks: CommandLine) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", "dies,popularity")
    assert ended.code == 2
    assert "killed by SIGKILL" in records_of(benchmarks.results, "dies")[0]["reason"]
    assert records_of(benchmarks.results, "popularity")[0]["status"] == "ok"


def test_kill_9_on_a_running_worker_from_outside(benchmarks: CommandLine) -> None:
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *PLUGIN),
        *("--algorithm", "sleeps,popularity", "--set", "sleeps.seconds=30"),
    )
    wait_until(lambda: any("benchmarks.worker" in worker.cmdline() for worker in workers_of(benchmarks.results)))
    for worker in workers_of(benchmarks.results):
        worker.kill()
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert records_of(benchmarks.results, "sleeps")[0]["status"] == "failed"
    assert records_of(benchmarks.results, "popularity")[0]["status"] == "ok"


def test_bug_in_an_adapter_keeps_its_traceback_without_paths(benchmarks: CommandLine) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", "raises")
    assert ended.code == 2
    (record,) = records_of(benchmarks.results, "raises")
    assert record["reason"] == "ZeroDivisionError: a bug in an adapter"
    (log,) = benchmarks.results.glob("*/*/raises/*.log")
    assert "Traceback" in log.read_text() and "_misbehave" in log.read_text()
    assert str(Path.cwd()) not in log.read_text()


def test_scores_that_are_no_numbers_fail_the_cell(benchmarks: CommandLine) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", "not-finite")
    assert ended.code == 2
    assert "NonFiniteScores" in records_of(benchmarks.results, "not-finite")[0]["reason"]


def test_failures_are_never_cached(benchmarks: CommandLine) -> None:
    for _ in range(2):
        ended = benchmarks.run(*PLUGIN, "--algorithm", "raises,constant")
        assert ended.code == 2
    assert "raises · synthetic-genres" in ended.err
    assert "1 of 2 cells are known" in ended.err


@pytest.mark.parametrize("algorithm", ["reads-data", "reads-data-quietly", "reads-data-by-process"])
def test_reading_what_was_not_given_is_refused(benchmarks: CommandLine, algorithm: str) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", algorithm)
    assert ended.code == 2
    (record,) = records_of(benchmarks.results, algorithm)
    assert record["status"] == "failed"
    assert "tried to open what its cell was not given" in record["reason"]


@pytest.mark.parametrize("algorithm", ["prefers-first", "prefers-last", "prefers-early-rows", "searches-inputs"])
def test_cheating_gains_nothing(benchmarks: CommandLine, algorithm: str) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", algorithm, "--splits", "2")
    assert ended.code == 0
    for record in records_of(benchmarks.results, algorithm):
        rate, users = record["metrics"]["hr@10"], record["split"]["n_test"]
        assert abs(rate - 0.10) <= 4 * np.sqrt(0.1 * 0.9 / users)


def test_kill_9_on_the_harness_loses_only_the_cell_in_flight(benchmarks: CommandLine) -> None:
    arguments = (*PLUGIN, "--algorithm", "popularity,random,sleeps,constant", "--set", "sleeps.seconds=3")
    process = benchmarks.start(
        "run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *arguments
    )
    wait_until(lambda: records_of(benchmarks.results, "random") and workers_of(benchmarks.results))
    process.kill()
    process.communicate()
    wait_until(lambda: not workers_of(benchmarks.results), seconds=2)
    before = {path: path.stat().st_mtime_ns for path in benchmarks.results.glob("*/*/*/*.json")}
    assert len(before) == 2

    ended = benchmarks.run(*arguments)
    assert ended.code == 0
    assert "2 of 4 cells are known" in ended.err
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in before.items())
    assert len(list(benchmarks.results.glob("*/*/*/*.json"))) == 4
    assert not (benchmarks.results / ".scratch").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing_running_and_says_how_to_go_on(benchmarks: CommandLine, number: int) -> None:
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *PLUGIN),
        *("--algorithm", "popularity,hangs"),
    )
    wait_until(lambda: records_of(benchmarks.results, "popularity") and workers_of(benchmarks.results))
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "goes on from here" in err
    assert not workers_of(benchmarks.results)
    assert not (benchmarks.results / ".scratch").exists()
