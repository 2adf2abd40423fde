"""What goes wrong stays one row: hanging, memory-eating, dying, cheating algorithms; killed workers and harnesses."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import MISBEHAVING, ROOT, CommandLine

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


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ("writes-to-the-harness", "something wrote to the harness's channel: 'epoch 1: loss 0.5'"),
        ("never-ends-its-line", "something wrote to the harness's channel: 'xxx"),
        ("prints-without-end", "it printed more than 256 MiB"),
        ("removes-its-folder", "ZeroDivisionError: a bug in an adapter"),
        ("raises-user-error", "this algorithm wants at least 10,000 users"),
        ("forks-and-dies", "the worker was killed by SIGKILL"),
    ],
)
def test_what_an_adapter_does_beside_its_work_stays_its_own_row(
    benchmarks: CommandLine, algorithm: str, reason: str
) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", f"{algorithm},popularity", "--time-limit", "60")
    assert ended.code == 2, ended.err
    (record,) = records_of(benchmarks.results, algorithm)
    assert record["status"] == "failed" and record["reason"].startswith(reason)
    assert records_of(benchmarks.results, "popularity")[0]["status"] == "ok"
    assert sum(log.stat().st_size for log in benchmarks.results.glob("*/*/*/*.log")) < 2 * 2**20


def test_what_is_said_in_the_workers_name_is_a_failed_row(benchmarks: CommandLine) -> None:
    algorithms = [f"forges[event={event}]" for event in ("ended", "weird", "progress", "ok")]
    algorithms += [f"counts-wrongly[samples={samples}]" for samples in ("nan", "text", "negative")]
    ended = benchmarks.run(*PLUGIN, "--algorithm", ",".join([*algorithms, "popularity"]), "--time-limit", "60")
    assert ended.code == 2 and "Traceback" not in ended.err
    found = {
        str(each["algorithm"]["config"]): each
        for name in ("forges", "counts-wrongly")
        for each in records_of(benchmarks.results, name)
    }
    assert len(found) == 7 and {each["status"] for each in found.values()} == {"failed"}
    reasons = sorted(each["reason"] for each in found.values())
    assert sum(reason.startswith("something wrote to the harness's channel") for reason in reasons) == 3
    assert sum(reason.startswith("no record can hold its figures") for reason in reasons) == 3
    assert "the worker said that it ended well, and left no outcomes" in reasons
    assert not any(str(benchmarks.results) in reason for reason in reasons), "a record holds no path"
    assert records_of(benchmarks.results, "popularity")[0]["status"] == "ok"


def test_a_log_that_leads_elsewhere_is_not_followed(benchmarks: CommandLine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    both = "replaces-its-log[by=link],replaces-its-log[by=folder]"
    ended = benchmarks.run(*PLUGIN, "--algorithm", both, TALLY=str(elsewhere))
    assert ended.code == 2, ended.err
    assert {each["reason"] for each in records_of(benchmarks.results, "replaces-its-log")} == {
        "ZeroDivisionError: a bug in an adapter"
    }
    assert elsewhere.read_text() == "untouched"
    logs = [log.read_text() for log in benchmarks.results.glob("*/*/replaces-its-log/*.log")]
    assert len(logs) == 2 and all("before" in log and "Traceback" in log for log in logs)


def test_a_worker_that_forks_answers_once(benchmarks: CommandLine) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", "forks")
    assert ended.code == 0, ended.err
    (record,) = records_of(benchmarks.results, "forks")
    assert record["status"] == "ok" and record["metrics"]["hr@10"] == pytest.approx(0.1, abs=0.001)


def test_a_daemon_of_an_adapter_ends_with_its_worker(benchmarks: CommandLine) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", "leaves-a-daemon")
    assert ended.code == 0, ended.err
    assert not workers_of(benchmarks.results)


def test_a_daemon_ends_when_the_harness_is_killed(benchmarks: CommandLine) -> None:
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *PLUGIN),
        *("--algorithm", "leaves-a-daemon", "--suite", "clock"),  # which goes on for a while after the fit
    )
    wait_until(lambda: any("time.sleep(600)" in " ".join(each.cmdline()) for each in workers_of(benchmarks.results)))
    process.kill()
    process.communicate()
    wait_until(lambda: not workers_of(benchmarks.results), seconds=5)


@pytest.mark.parametrize(
    ("algorithm", "status", "reason"),
    [
        ("torch-runs-out-of-gpu-memory", "out_of_memory", "OutOfMemoryError: CUDA out of memory. Tried to allocate"),
        ("torch-loses-the-gpu", "failed", "AcceleratorError: CUDA error: an illegal memory access was encountered"),
        ("tensorflow-runs-out-of-gpu-memory", "out_of_memory", "ResourceExhaustedError: OOM when allocating tensor"),
    ],
)
def test_a_gpu_that_fails_is_one_row(benchmarks: CommandLine, algorithm: str, status: str, reason: str) -> None:
    ended = benchmarks.run(*PLUGIN, "--algorithm", f"{algorithm},popularity")
    assert ended.code == 2
    (record,) = records_of(benchmarks.results, algorithm)
    assert record["status"] == status and record["reason"].startswith(reason)
    assert "\n" not in record["reason"]
    assert records_of(benchmarks.results, "popularity")[0]["status"] == "ok"


def test_a_worker_that_is_stopped_ends_at_its_limit(benchmarks: CommandLine) -> None:
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *PLUGIN),
        *("--algorithm", "sleeps", "--time-limit", "4"),
    )
    wait_until(lambda: any("benchmarks.worker" in worker.cmdline() for worker in workers_of(benchmarks.results)))
    for worker in workers_of(benchmarks.results):
        worker.suspend()
    process.communicate(timeout=60)
    assert process.returncode == 2
    assert records_of(benchmarks.results, "sleeps")[0]["status"] == "timeout"


def test_a_reaper_that_was_killed_is_replaced(benchmarks: CommandLine) -> None:
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *PLUGIN),
        *("--algorithm", "popularity,sleeps,hangs", "--set", "sleeps.seconds=2"),
    )

    def reapers() -> list[psutil.Process]:
        children = psutil.Process(process.pid).children()
        return [child for child in children if any("reaper.py" in part for part in child.cmdline())]

    wait_until(lambda: records_of(benchmarks.results, "popularity"))
    for reaper in reapers():
        reaper.kill()
    wait_until(lambda: records_of(benchmarks.results, "sleeps") and workers_of(benchmarks.results))
    assert len(reapers()) == 1
    process.kill()
    process.communicate()
    wait_until(lambda: not workers_of(benchmarks.results), seconds=5)


def test_a_preparation_that_dies_costs_its_own_rows(
    benchmarks: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "cache"))
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), *LEAVE_ONE_OUT, "--algorithm", "popularity"),
        *("--dataset", "planted-genres,synthetic-genres", "--format", "json"),
    )
    scratch = tmp_path / "cache" / ".scratch"
    wait_until(lambda: list(scratch.glob("*-prepare/log")))
    for worker in psutil.Process(process.pid).children():
        if "benchmarks.worker" in worker.cmdline():
            worker.kill()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "Traceback" not in err
    rows = {row["dataset"]: row for row in json.loads(out)}
    assert rows["synthetic-genres"]["status"] == "ok"
    assert "could not be prepared: failed: the worker was killed by SIGKILL" in rows["planted-genres"]["reason"]


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_second_interrupt_ends_at_once(benchmarks: CommandLine, pause: float) -> None:
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *PLUGIN),
        *("--algorithm", "popularity,hangs"),
    )
    wait_until(lambda: records_of(benchmarks.results, "popularity") and workers_of(benchmarks.results))
    for _ in range(3):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT)
        time.sleep(pause)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("recgauge: interrupted") and "Traceback" not in err
    wait_until(lambda: not workers_of(benchmarks.results), seconds=5)
    ended = benchmarks.run("--algorithm", "popularity")
    assert ended.code == 0 and "1 of 1 cells are known" in ended.err
    assert not list(benchmarks.results.glob(".scratch/*"))


def test_a_full_disk_ends_the_run_in_one_line_and_the_next_goes_on(benchmarks: CommandLine, small_disk: Path) -> None:
    """The results lie on the small disk; the cache is elsewhere."""
    results = small_disk / "results"
    arguments = ("--results", str(results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, "--compact")
    cache = {"RECGAUGE_CACHE": str(benchmarks.results.parent / "cache")}
    assert benchmarks("run", *arguments, "--algorithm", "popularity", **cache).code == 0
    before = {path: path.read_bytes() for path in results.glob("*/*/*/*") if path.is_file()}
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    ended = benchmarks("run", *arguments, "--algorithm", "popularity,random,bias", **cache)
    assert ended.code == 1
    assert "No space left on device" in ended.err.splitlines()[-1] and "Traceback" not in ended.err
    assert {path: path.read_bytes() for path in results.glob("*/*/*/*") if path.is_file()} == before
    filler.unlink()
    ended = benchmarks("run", *arguments, "--algorithm", "popularity,random,bias", **cache)
    assert ended.code == 0 and "1 of 3 cells are known" in ended.err


def test_results_that_cannot_be_written_are_one_line(benchmarks: CommandLine, small_disk: Path) -> None:
    results = small_disk / "results"
    cache = {"RECGAUGE_CACHE": str(benchmarks.results.parent / "cache")}
    arguments = ("--results", str(results), "--dataset", "synthetic-genres", *LEAVE_ONE_OUT)
    assert benchmarks("run", *arguments, "--algorithm", "popularity", **cache).code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = benchmarks("run", *arguments, "--algorithm", "popularity,random", **cache)
    assert ended.code == 1
    assert len([line for line in ended.err.splitlines() if line.startswith("recgauge:")]) == 1
    assert "cannot be written (Read-only file system)" in ended.err
    ended = benchmarks("run", *arguments, "--algorithm", "popularity", **cache)
    assert ended.code == 0, "what is known needs no writing"
    assert benchmarks("leaderboard", "--results", str(results)).code == 0


def test_what_a_script_starts_in_the_background_does_not_hear_ctrl_c(benchmarks: CommandLine) -> None:
    """A shell without job control has such commands ignore SIGINT."""
    arguments = ("run", "--results", benchmarks.results, "--dataset", "synthetic-genres", *LEAVE_ONE_OUT, *PLUGIN)
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments), "--algorithm", "popularity,sleeps"]
    process = subprocess.Popen(
        command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    wait_until(lambda: records_of(benchmarks.results, "popularity") and workers_of(benchmarks.results))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    assert records_of(benchmarks.results, "sleeps")[0]["status"] == "ok"
