"""A generated data set of the size that brackets ask for, from the command line to its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import MISBEHAVING, NETWORKS, CommandLine

from algorithms.registry import ALGORITHMS

SMALL = "planted-genres[n_users=60,n_items=50,n_ratings=600]"


def test_options_in_brackets_go_from_run_to_table(benchmarks: CommandLine) -> None:
    said_otherwise = "planted-genres[n_ratings=6e2,n_items=50,seed=0,n_users=60]"
    ran = benchmarks.run("--dataset", said_otherwise, "--algorithm", "popularity")
    assert ran.code == 0, ran.err
    for name in (SMALL, said_otherwise):
        shown = benchmarks("leaderboard", "--dataset", name, "--results", str(benchmarks.results), "--format", "json")
        rows = json.loads(shown.out)
        assert [(row["dataset"], row["algorithm"], row["status"]) for row in rows] == [
            (SMALL, "oracle", "ok"),
            (SMALL, "popularity", "ok"),
        ]
    other = benchmarks("leaderboard", "--dataset", "planted-genres", "--results", str(benchmarks.results))
    assert other.code == 1 and "no such records here" in other.err
    assert "2 of 2 cells are known already" in benchmarks.run("--dataset", SMALL, "--algorithm", "popularity").err


def test_the_truth_is_for_the_oracle_alone(benchmarks: CommandLine) -> None:
    ran = benchmarks.run("--dataset", SMALL, "--plugin", str(MISBEHAVING), "--algorithm", "reads-truth")
    assert ran.code == 2 and "tried to open what its cell was not given: truth_noise" in " ".join(ran.out.split())
    assert "oracle" in ran.out
    unknown = benchmarks.run("--dataset", SMALL, "--algorithm", "oracle")
    assert unknown.code == 1 and "unknown algorithm 'oracle'" in unknown.err


@pytest.mark.slow
def test_nobody_is_better_than_the_oracle(benchmarks: CommandLine) -> None:
    """Over five splits, by a one-sided paired test; and ease closes most of the way from popularity."""
    quick_ones = ",".join(name for name in ALGORITHMS if name not in NETWORKS)
    ran = benchmarks.run(
        *("--dataset", "planted-genres", "--protocol", "leave-one-out,holdout", "--splits", "5"),
        *("--algorithm", quick_ones, "--format", "json"),
        timeout=900,
    )
    assert ran.code == 0, ran.err
    rows = json.loads(ran.out)
    assert "LEAK OR BUG" not in ran.out
    for row in rows:
        assert row["status"] == "ok"
        assert all(p >= 0.05 for p in row["table"]["better_than_oracle"].values())
    (ease,) = (row for row in rows if (row["protocol"], row["algorithm"]) == ("leave-one-out", "ease"))
    assert ease["to_oracle"]["mean"] >= 0.6
    (oracle,) = (row for row in rows if (row["protocol"], row["algorithm"]) == ("holdout", "oracle"))
    assert oracle["metrics"]["rmse"]["n"] >= 20_000
    assert oracle["metrics"]["rmse"]["mean"] == pytest.approx(0.8, rel=0.01)


def test_list_shows_the_options_of_a_generated_data_set(benchmarks: CommandLine) -> None:
    shown = benchmarks("list", SMALL)
    assert shown.code == 0, shown.err
    assert "options (--dataset 'planted-genres[OPTION=VALUE,…]'):" in shown.out
    assert "  n_users = 2000 (int): users\n" in shown.out and "600 rows, 60 users, 50 items" in shown.out
    assert "options" not in benchmarks("list", "synthetic-genres").out


def test_list_shows_the_options_of_a_data_set_that_is_not_here(benchmarks: CommandLine, tmp_path: Path) -> None:
    shown = benchmarks("list", "news-articles", RECGAUGE_DATA=str(tmp_path))
    assert shown.code == 0 and "drop_train_only = False (bool)" in shown.out and "not audited" in shown.out
