"""Suite ``clock`` for real: every figure of speed, each of which can be recomputed from its record."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from conftest import ROOT, CommandLine

ALGORITHMS = "popularity,als,lightfm"
NULL = {"popularity": {"samples_per_s"}, "als": {"samples_per_s"}, "lightfm": {"samples_per_s"}}
ON_CPU = {"peak_gpu_bytes", "gpu_process_bytes"}


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A results folder with the suite's records of a few algorithms on the synthetic data."""
    benchmarks = CommandLine(tmp_path_factory.mktemp("clock") / "results")
    ended = benchmarks.run("--suite", "clock", "--algorithm", ALGORITHMS, timeout=300)
    assert ended.code == 0, ended.err
    return benchmarks


def rows(benchmarks: CommandLine) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        benchmarks("leaderboard", "--results", str(benchmarks.results), "--format", "json").out
    )
    return found


def test_every_figure_can_be_recomputed_from_counts_and_seconds(clock: CommandLine) -> None:
    schema = json.loads((ROOT / "results" / "record.schema.json").read_text())
    found = rows(clock)
    assert {row["algorithm"] for row in found} == set(ALGORITHMS.split(","))
    for row in found:
        (path,) = row["records"]
        record = json.loads((clock.results / path).read_text())
        jsonschema_rs.validate(schema, record)
        timings, cost = record["timings"], row["cost"]
        fits, throughput = timings["fit_s"], timings["throughput"]
        assert len(fits) == 5
        assert cost["fit_s"] == {"median": statistics.median(fits), "low": min(fits), "high": max(fits)}
        rates = [timings["train_rows"] * timings["epochs"] / seconds for seconds in fits]
        assert cost["train_per_s"] == pytest.approx(statistics.median(rates))
        assert throughput["pairs"]["n"] == 1_000_000
        assert cost["pairs_per_s"] == pytest.approx(throughput["pairs"]["n"] / throughput["pairs"]["s"])
        large = throughput["users"][-1]
        assert large["batch"] == 1024 and large["n"] == 20 * 1024
        assert cost["users_per_s"] == pytest.approx(large["n"] / large["s"])
        assert (cost["p50_ms"], cost["p99_ms"]) == (throughput["single"]["p50_ms"], throughput["single"]["p99_ms"])
        assert throughput["single"]["n"] == 1000
        assert cost["model_bytes"] == record["memory"]["model_bytes"] > 0
        null = {name for name, value in cost.items() if value is None}
        assert null == NULL[row["algorithm"]] | ON_CPU
        assert null <= row["not_measured"].keys()
        # The wall clock begins once the process is there, a moment after the stage ``start``.
        assert record["wall_s"] - 0.5 < sum(timings["stages"].values()) <= record["wall_s"] + 0.1


def test_the_block_of_speed_fits_eighty_columns(clock: CommandLine) -> None:
    lines = clock("leaderboard", "--results", str(clock.results), COLUMNS="80").out.splitlines()
    assert max(map(len, lines)) <= 80
    start = lines.index("speed and size")
    header = " ".join(lines[start + 2].split())
    assert header == "algorithm fit s low–high /s /s /s ms ms MiB"
    assert {line.split()[0] for line in lines[start + 4 : start + 7]} == set(ALGORITHMS.split(","))


def test_more_figures_are_asked_for_than_a_record_has_and_the_other_way_round(
    benchmarks: CommandLine, tmp_path: Path
) -> None:
    """A record of suite quick does not do for suite clock; one of suite clock does for quick."""
    quick = benchmarks.run("--algorithm", "popularity")
    assert quick.code == 0 and "speed and size" not in quick.out
    clock = benchmarks.run("--algorithm", "popularity", "--suite", "clock")
    assert "known" not in clock.err and "speed and size" in clock.out
    for suite in ("clock", "quick"):
        assert "1 of 1 cells are known" in benchmarks.run("--algorithm", "popularity", "--suite", suite).err


def test_profile_says_where_the_seconds_went(benchmarks: CommandLine) -> None:
    ended = benchmarks.run("--algorithm", "popularity,als", "--profile", "--format", "json")
    json.loads(ended.out)  # the profile is on standard error
    lines = ended.err.splitlines()
    start = lines.index("seconds of each cell: synthetic-genres · leave-one-out · split 42")
    assert " ".join(lines[start + 1].split()) == "cell start import load warm-up fit score metrics write other total"
    for line, name in zip(lines[start + 3 :], ("popularity", "als"), strict=True):
        shown, *seconds = line.split()
        *parts, total = map(float, seconds)
        assert shown == name and sum(parts) == pytest.approx(total, abs=0.06)


def test_profile_of_known_cells_is_that_of_their_records(benchmarks: CommandLine) -> None:
    profiles = [benchmarks.run("--algorithm", "popularity", "--profile").err.splitlines()[-4:] for _ in range(2)]
    assert profiles[0] == profiles[1] and profiles[0][0].startswith("seconds of each cell")
