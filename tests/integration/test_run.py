"""The main job on real input: run, resume, keys, records, and one line for every mistake."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest
from conftest import MISBEHAVING, NETWORKS, ROOT, CommandLine, cpu_seconds_of_commands

from algorithms.registry import ALGORITHMS

HEAVY = ("ray", "torch", "tensorflow", "implicit", "lightfm", "keras", "pytorch_lightning")
OTHERS = [name for name in ALGORITHMS if name not in NETWORKS]
EVERY_ALGORITHM = pytest.mark.parametrize(
    "algorithms", [OTHERS, pytest.param(NETWORKS, marks=pytest.mark.slow)], ids=["quick ones", "networks"]
)
TIMES = ("sha256", "created", "wall_s", "timings", "memory")


def read_records(results: Path) -> dict[str, dict]:
    return {str(path.relative_to(results)): json.loads(path.read_text()) for path in results.glob("*/*/*/*.json")}


def loaded_by(code: str, modules: tuple[str, ...]) -> str:
    """Which of ``modules`` a fresh process has loaded after ``code``."""
    script = f"import sys\nsys.argv = ['benchmarks']\n{code}\nprint([m for m in {modules!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["list"]])
def test_help_and_list_load_no_numpy(arguments: list[str]) -> None:
    code = f"from benchmarks.cli import main\ntry:\n    main({arguments!r})\nexcept SystemExit:\n    pass"
    assert loaded_by(code, ("numpy", "scipy", "rich", "pyarrow", *HEAVY)).splitlines()[-1] == "[]"


def test_planning_everything_loads_no_framework(tmp_path: Path) -> None:
    command = ["run", "--dry-run", "--results", str(tmp_path), "--dataset", "synthetic-genres"]
    code = f"from benchmarks.cli import main\nmain({command!r})"
    assert loaded_by(code, HEAVY).splitlines()[-1] == "[]"


def test_a_second_run_knows_every_cell(benchmarks: CommandLine) -> None:
    first = benchmarks.run("--algorithm", "popularity,ease")
    assert first.code == 0 and "popularity" in first.out and "ease" in first.out
    before = read_records(benchmarks.results)
    start = cpu_seconds_of_commands()
    second = benchmarks.run("--algorithm", "popularity,ease")
    assert cpu_seconds_of_commands() - start < 15  # BLAS threads spin while they wait, on a busy machine for seconds
    assert "2 of 2 cells are known" in second.err
    assert second.out == first.out
    assert read_records(benchmarks.results) == before


def test_records_follow_their_schema_and_name_nobody(benchmarks: CommandLine) -> None:
    benchmarks.run("--plugin", str(MISBEHAVING), "--algorithm", "popularity,raises", "--seeds", "2")
    schema = json.loads((ROOT / "results" / "record.schema.json").read_text())
    records = read_records(benchmarks.results)
    assert len(records) == 4
    for path, record in records.items():
        jsonschema_rs.validate(schema, record)
        text = json.dumps(record)
        assert str(Path.home()) not in text and str(ROOT) not in text
        assert record["status"] == ("failed" if "raises" in path else "ok")


def test_results_folder_may_be_relative(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    options = ("--dataset", "synthetic-genres", "--protocol", "leave-one-out", "--algorithm", "als")
    ended = benchmarks("run", "--results", "results/runs", *options)
    assert ended.code == 0, ended.out
    assert len(read_records(benchmarks.root / "results" / "runs")) == 1


def test_json_rows_carry_the_stable_fields(benchmarks: CommandLine) -> None:
    ended = benchmarks.run("--algorithm", "popularity,random", "--seeds", "2", "--format", "json")
    rows = json.loads(ended.out)
    assert len(rows) == 2
    fields = "dataset protocol algorithm config device seeds status reason rank metrics cost support split_fingerprint"
    for row in rows:
        assert set(fields.split()) <= set(row)
        assert row["seeds"] == [0, 1] and len(row["records"]) == 2
        assert all((benchmarks.results / record).exists() for record in row["records"])
        figure = row["metrics"]["hr@10"]
        assert figure["low"] < figure["mean"] < figure["high"]
        assert row["cost"]["p50_ms"] is None and row["not_measured"]["p50_ms"]
    constants = {row["algorithm"]: row["rank"] for row in rows}
    assert sorted(constants.values()) == [1, 2]


def test_metrics_can_be_recomputed_from_the_side_file(benchmarks: CommandLine) -> None:
    from protocols.leave_one_out import LeaveOneOut

    benchmarks.run("--algorithm", "als")
    ((path, record),) = read_records(benchmarks.results).items()
    with np.load((benchmarks.results / path).with_name(record["side"]["file"])) as side:
        outcomes = dict(side)
    again = LeaveOneOut().metrics(outcomes)
    assert {name: pytest.approx(value) for name, value in record["metrics"].items()} == again


@EVERY_ALGORITHM
def test_same_seed_gives_equal_records_in_another_process(
    benchmarks: CommandLine, tmp_path: Path, algorithms: list[str]
) -> None:
    other = CommandLine(tmp_path / "other")
    for command in (benchmarks, other):
        assert command.run("--algorithm", ",".join(algorithms), timeout=600).code == 0
    first, second = read_records(benchmarks.results), read_records(other.results)
    assert first.keys() == second.keys() and len(first) >= 6
    for path in first:
        for field in TIMES:
            first[path].pop(field), second[path].pop(field)
        assert first[path] == second[path]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("algorithms/popularity.py", '"""', '"""Edited. '),
        ("protocols/metrics.py", '"""', '"""Edited. '),
        ("algorithms/base.py", '"""', '"""Edited. '),
    ],
)
def test_editing_what_decides_the_result_runs_the_cell_again(
    in_copy: Callable[[], CommandLine], file: str, old: str, new: str
) -> None:
    benchmarks = in_copy()
    assert benchmarks.run("--algorithm", "popularity").code == 0
    path = benchmarks.root / file
    path.write_text(path.read_text().replace(old, new, 1))
    again = benchmarks.run("--algorithm", "popularity")
    assert "known" not in again.err and len(read_records(benchmarks.results)) == 2


def test_editing_a_private_sibling_runs_the_cell_again(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    assert benchmarks.run("--algorithm", "lightfm").code == 0
    sibling = benchmarks.root / "algorithms" / "_metadata.py"
    sibling.write_text(sibling.read_text() + "\n# edited\n")
    assert "known" not in benchmarks.run("--algorithm", "lightfm").err


def test_what_does_not_decide_the_result_does_not(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    assert benchmarks.run("--algorithm", "popularity").code == 0
    leaderboard = benchmarks.root / "benchmarks" / "leaderboard.py"
    leaderboard.write_text(leaderboard.read_text() + "\n# edited\n")
    ease = benchmarks.root / "algorithms" / "ease.py"
    ease.write_text(ease.read_text() + "\n# edited\n")
    again = benchmarks.run("--algorithm", "popularity", "--time-limit", "77", "--memory-limit", "3")
    assert "1 of 1 cells are known" in again.err


def test_equal_configs_are_one_cell_however_they_are_written(benchmarks: CommandLine) -> None:
    assert benchmarks.run("--algorithm", "ease", "--set", "ease.l2=250").code == 0
    assert "1 of 1 cells are known" in benchmarks.run("--algorithm", "ease", "--set", "ease.l2=250.0").err


def test_labels_of_one_configuration_are_one_row(benchmarks: CommandLine) -> None:
    arguments = ("--algorithm", "popularity,popularity[by=count]", "--format", "json")
    for _ in range(2):
        (row,) = json.loads(benchmarks.run(*arguments).out)
        assert row["label"] == "default" and row["metrics"]["hr@10"]["n"] == 10_000
    assert len(read_records(benchmarks.results)) == 1


def test_peak_memory_of_a_small_cell_is_not_its_parents(benchmarks: CommandLine) -> None:
    command = ["run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres"]
    command += ["--protocol", "leave-one-out", "--algorithm", "popularity"]
    script = f"ballast = bytearray(800 << 20)\nfrom benchmarks.cli import main\nmain({command!r})"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)
    (record,) = read_records(benchmarks.results).values()
    for phase in ("fit", "score"):
        assert 20 * 2**20 < record["memory"][f"peak_rss_{phase}_bytes"] < 300 * 2**20


def test_missing_framework_is_a_skipped_row_with_the_install_line(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    registry = benchmarks.root / "algorithms" / "registry.py"
    registry.write_text(registry.read_text().replace('"rectools-lightfm"', '"rectools-lightfm-missing"'))
    ended = benchmarks.run("--algorithm", "lightfm,popularity")
    assert ended.code == 0
    assert "skipped" in ended.out
    assert "pip install -c constraints.txt '.[lightfm]'" in " ".join(ended.out.split())


def test_leaderboard_command_prints_what_run_printed(benchmarks: CommandLine) -> None:
    ran = benchmarks.run("--algorithm", "popularity,random")
    board = benchmarks("leaderboard", "--results", str(benchmarks.results))
    assert board.code == 0 and board.out == ran.out


def test_damaged_record_is_named_and_stops_nothing(benchmarks: CommandLine) -> None:
    benchmarks.run("--algorithm", "popularity,random")
    victim = next(benchmarks.results.glob("*/*/random/*.json"))
    victim.write_text(victim.read_text()[:100])
    board = benchmarks("leaderboard", "--results", str(benchmarks.results))
    assert board.code == 0 and " popularity " in board.out and " random  " not in board.out
    assert victim.name in board.err
    assert "1 of 2 cells are known" in benchmarks.run("--algorithm", "popularity,random").err


def test_dry_run_measures_and_writes_nothing(benchmarks: CommandLine) -> None:
    ended = benchmarks.run("--algorithm", "popularity,als", "--seeds", "2", "--dry-run")
    assert ended.code == 0 and ended.out.count("synthetic-genres") >= 2
    assert not benchmarks.results.exists()


def test_table_fits_eighty_columns(benchmarks: CommandLine) -> None:
    ended = benchmarks.run("--algorithm", "popularity,als", COLUMNS="80")
    assert max(map(len, ended.out.splitlines())) <= 80


def test_default_run_without_movielens_succeeds_and_says_so(benchmarks: CommandLine, tmp_path: Path) -> None:
    nowhere = {
        "RECGAUGE_DATA": str(tmp_path),
        "RECGAUGE_CACHE": str(tmp_path / "cache"),
        "https_proxy": "http://127.0.0.1:9",
    }
    ended = benchmarks("run", "--results", str(benchmarks.results), "--algorithm", "popularity", **nowhere)
    assert ended.code == 0
    assert "synthetic-genres" in ended.out and re.search(r"ml-latest-small: not measured: ", ended.out)

    named = benchmarks("run", "--results", str(tmp_path / "other"), "--dataset", "ml-latest-small", **nowhere)
    assert named.code == 1 and len(named.err.splitlines()) == 1
    assert "ml-latest-small" in named.err and "RECGAUGE_DATA" in named.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--algorithm", "popularty"], "did you mean 'popularity'"),
        (["--dataset", "ml-latest-smal"], "did you mean 'ml-latest-small'"),
        (["--protocol", "leave-one-in"], "did you mean 'leave-one-out'"),
        (["--algorithm", "als", "--set", "als.factor=3"], "did you mean 'factors'"),
        (["--algorithm", "als", "--set", "als.factors=many"], "als.factors"),
        (["--algorithm", "ease", "--set", "als.factors=3"], "als is not part of this run"),
        (["--algoritm", "als"], "did you mean '--algorithm'"),
        (["--suite", "quik"], "did you mean 'quick'"),
        (["--seeds", "none"], "whole number"),
        (["--plugin", "no_such_file.py"], "no such plug-in"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(benchmarks: CommandLine, arguments: list[str], expected: str) -> None:
    ended = benchmarks("run", "--results", str(benchmarks.results), *arguments)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1 and expected in ended.err
    assert not benchmarks.results.exists()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda text: text.replace("rating", "score", 1), "ratings.csv:1"),
        (lambda text: text.replace("1,3,4.0,", "1,3,four,", 1), "ratings.csv:3"),
        (lambda text: text.replace("1,3,4.0,", "1,3,nan,", 1), "ratings.csv:3"),
        (lambda text: text.rstrip("\n").rsplit(",", 2)[0] + "\n", "ratings.csv:100837"),
        (lambda text: "", "ratings.csv"),
    ],
    ids=["missing column", "not a number", "not finite", "last line cut", "empty"],
)
def test_bad_data_is_refused_with_file_line_and_reason(
    benchmarks: CommandLine, movielens: Path, tmp_path: Path, damage: Callable[[str], str], expected: str
) -> None:
    data = tmp_path / "data" / "ml-latest-small"
    shutil.copytree(movielens, data)
    for file in data.iterdir():
        file.chmod(0o644)
    ratings = data / "ratings.csv"
    ratings.write_text(damage(ratings.read_text()))
    ended = benchmarks.run("--dataset", "ml-latest-small", "--algorithm", "popularity", RECGAUGE_DATA=str(data.parent))
    assert ended.code == 1
    assert len(ended.err.splitlines()) <= 2 and expected in ended.err.splitlines()[-1]
    assert not benchmarks.results.exists()


@pytest.mark.slow
def test_networks_on_movielens(benchmarks: CommandLine, movielens: Path) -> None:
    """Floors well below what three seeds reached."""
    what = ("--dataset", "ml-latest-small", "--algorithm", ",".join(NETWORKS), "--format", "json")
    ranking = benchmarks.run(*what, timeout=1200)
    rates = {row["algorithm"]: row["metrics"]["hr@10"]["mean"] for row in json.loads(ranking.out)}
    assert rates["keras-mf"] >= 0.68 and rates["keras-deep-mf"] >= 0.64 and rates["tfrs-gmf"] >= 0.68
    assert rates["ncf"] >= 0.67 and rates["neumf"] >= 0.69 and rates["ncf-diversity"] >= 0.66
    rating = benchmarks.run(*what, "--protocol", "holdout", timeout=1200)
    rmse = {row["algorithm"]: row["metrics"].get("rmse", {}).get("mean") for row in json.loads(rating.out)}
    assert rmse["keras-mf"] <= 0.868 and rmse["keras-deep-mf"] <= 0.870
    assert rmse["tfrs-gmf"] <= 0.878 and rmse["ncf"] <= 0.885


def test_ranking_on_movielens(benchmarks: CommandLine, movielens: Path) -> None:
    ended = benchmarks.run("--dataset", "ml-latest-small", "--algorithm", ",".join(OTHERS), "--format", "json")
    assert ended.code == 0
    rates = {row["algorithm"]: row["metrics"]["hr@10"]["mean"] for row in json.loads(ended.out)}
    assert 0.58 <= rates["popularity"] <= 0.65 and 0.07 <= rates["random"] <= 0.13
    assert rates["als"] >= 0.70 and rates["lightfm"] >= 0.71 and rates["ease"] >= 0.73
    assert rates["item-knn"] >= 0.64 and 0.15 <= rates["content-cosine"] <= 0.30


def test_rating_on_movielens(benchmarks: CommandLine, movielens: Path) -> None:
    holdout = ("--dataset", "ml-latest-small", "--protocol", "holdout", "--format", "json")
    ended = benchmarks.run(*holdout, "--algorithm", "bias,biased-als,popularity")
    rmse = {row["algorithm"]: row["metrics"]["rmse"]["mean"] for row in json.loads(ended.out)}
    r2 = {row["algorithm"]: row["metrics"]["r2"]["mean"] for row in json.loads(ended.out)}
    assert rmse["bias"] <= 0.875 and r2["bias"] >= 0.29
    assert rmse["biased-als"] <= 0.862 and rmse["biased-als"] <= 0.99 * rmse["bias"]

    folds = benchmarks.run(*holdout, "--algorithm", "bias", "--folds", "5")
    (row,) = json.loads(folds.out)
    assert len(row["records"]) == 5
    assert abs(row["metrics"]["rmse"]["mean"] - rmse["bias"]) <= 0.01


@EVERY_ALGORITHM
def test_no_rank_is_learned_from_noise(benchmarks: CommandLine, algorithms: list[str]) -> None:
    ended = benchmarks.run("--algorithm", ",".join(algorithms), "--splits", "3", "--format", "json", timeout=1200)
    assert ended.code == 0
    for row in json.loads(ended.out):
        assert row["split_seeds"] == [42, 43, 44]
        figure = row["metrics"]["hr@10"]
        standard_error = (figure["high"] - figure["low"]) / 2 / 1.96
        assert abs(figure["mean"] - 0.10) <= 4 * standard_error, row["algorithm"]


@EVERY_ALGORITHM
def test_no_rating_is_learned_from_noise(benchmarks: CommandLine, algorithms: list[str]) -> None:
    what = ("--algorithm", ",".join(algorithms), "--protocol", "holdout", "--format", "json")
    ended = benchmarks.run(*what, timeout=1200)
    assert ended.code == 0
    for row in json.loads(ended.out):
        if row["status"] == "skipped":
            continue
        name, rmse, r2 = row["algorithm"], row["metrics"]["rmse"]["mean"], row["metrics"]["r2"]
        # R² = 1 − (RMSE / RMSE of the constant that is the test mean)²
        of_constant = 1 / (1 - r2["mean"]) ** 0.5
        assert r2["low"] <= 0 and rmse > 0 and 1 / of_constant >= 0.995, name
        limit = {"calibrated": 1.01, "native": 1.04}[row["support"]]
        assert 1 / of_constant <= limit, name


def test_a_protocol_that_a_data_set_cannot_serve_is_skipped(benchmarks: CommandLine) -> None:
    ended = benchmarks.run("--protocol", "holdout", "--by", "time", "--algorithm", "bias")
    assert ended.code == 0 and "has no times" in ended.out
