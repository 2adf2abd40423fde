"""``run --config default,tuned`` through real workers: one table, nothing measured twice, nothing used elsewhere."""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from conftest import ROOT, CommandLine, Finished
from studies import found

from algorithms.config import resolve_config
from algorithms.ease import EASE
from benchmarks.tuned import Tuned, write

WHAT = ("--protocol", "leave-one-out", "--config", "default,tuned")
ALL = "ease,popularity,item-knn,random"


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users rate 8 of the 12 items of one genre each."""
    draw = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("user", "item", "rating", "time"))
        for user in range(40):
            for step, item in enumerate(draw.sample(range(user % 3, 36, 3), 8)):
                lines.writerow((user, item, draw.randint(1, 5), 1_000 * user + step))
    return path


@pytest.fixture(scope="module")
def studies(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Tuned]]:
    """A folder of tuned configurations: ease's default came out best, for popularity another one."""
    command = CommandLine(ratings.parent)
    prepared = command("prepare", "--dataset", str(ratings), "--protocol", "leave-one-out")
    of_data, of_split = re.findall(r"fingerprint +([0-9a-f]{64})$", prepared.out, re.MULTILINE)
    configs = {"ease": asdict(resolve_config(EASE.Config, {})), "popularity": {"by": "damped-mean", "damping": 2.0}}
    winners = [
        found(
            dataset="ratings",
            algorithm=algorithm,
            config=config,
            dataset_fingerprint=of_data,
            split_fingerprint=of_split,
        )
        for algorithm, config in configs.items()
    ]
    folder = tmp_path_factory.mktemp("tuned")
    for winner in winners:
        write(folder, winner)
    return folder, winners


def run(results: Path, ratings: Path, folder: Path, *arguments: str, algorithm: str = "popularity") -> Finished:
    where = ("--results", str(results), "--tuned", str(folder), "--dataset", str(ratings))
    return CommandLine(results)("run", *where, *WHAT, "--algorithm", algorithm, *arguments)


def records_of(results: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in results.glob("*/*/*/*.json")]
    return {(each["algorithm"]["name"], each["algorithm"]["label"], each["split"]["seed"]): each for each in found}


def test_default_and_tuned_rows_are_one_table(ratings: Path, studies: tuple[Path, list[Tuned]], tmp_path: Path) -> None:
    folder, winners = studies
    results = tmp_path / "results"
    ended = run(results, ratings, folder, "--format", "json", algorithm=ALL)
    assert ended.code == 0, ended.err
    rows = {(row["algorithm"], row["label"]): row for row in json.loads(ended.out)}
    assert len(rows) == 8 and len({json.dumps(row["table"]) for row in rows.values()}) == 1

    for algorithm in ("ease", "popularity"):
        assert rows[algorithm, "default"]["status"] == rows[algorithm, "tuned"]["status"] == "ok"
        assert rows[algorithm, "default"]["tuned"] is None
    tuned = rows["popularity", "tuned"]
    assert tuned["config"] == {"by": "damped-mean", "damping": 2.0}
    assert tuned["tuned"]["study"] == "a study" and tuned["tuned"]["split_fingerprint"] == tuned["split_fingerprint"]
    assert rows["item-knn", "tuned"]["reason"].startswith("not tuned: python -m benchmarks tune --dataset FILE ")
    assert rows["random", "tuned"]["reason"] == "random has nothing to tune"

    tuning = tuned["table"]["tuning"]
    assert {row["algorithm"] for row in tuning["rows"]} == set(tuning["expected_best"]) == {"ease", "popularity"}
    for row in tuning["rows"]:
        for label in ("default", "tuned"):
            assert row[label] == rows[row["algorithm"], label]["metrics"]["hr@10"]["mean"]
        assert row["difference"]["mean"] == pytest.approx(row["tuned"] - row["default"])
        assert (row["trials"], row["bound_by"]) == ({"complete": 2, "pruned": 0, "failed": 1}, "trials")

    written = records_of(results)
    schema = json.loads((ROOT / "results" / "record.schema.json").read_text())
    for record in written.values():
        jsonschema_rs.validate(schema, record)
        assert str(tmp_path) not in json.dumps(record) and str(folder) not in json.dumps(record)
    default, same = written["ease", "default", 42], written["ease", "tuned", 42]
    assert default["key"] == same["key"] and default["timings"] == same["timings"], "measured once"
    assert default["side"]["sha256"] == same["side"]["sha256"] and "tuned" not in default["algorithm"]

    board = CommandLine(results)("leaderboard", "--results", str(results), "--config", "tuned", "--format", "json")
    assert {row["label"] for row in json.loads(board.out)} == {"tuned"}
    assert json.loads(board.out)[0]["rank"] == 1, "ranked anew among the rows that are shown"

    suite = tmp_path / "suite.toml"
    suite.write_text(
        'summary = ""\nbudget = "quick"\ndatasets = []\nprotocols = []\nalgorithms = []\nset = ["ease.l2=9"]\n'
    )
    of_suite = run(results, ratings, folder, "--suite", str(suite), "--format", "json", algorithm="ease")
    tuned_row = next(row for row in json.loads(of_suite.out) if row["label"] == "tuned")
    assert tuned_row["config"] == rows["ease", "tuned"]["config"], "what a suite sets is not asked for here"

    again = run(results, ratings, folder, "--format", "json", algorithm=ALL)
    assert "6 of 8 cells are known" in again.err, "skipped ones are looked at anew"
    assert [row["metrics"] for row in json.loads(again.out)] == [row["metrics"] for row in json.loads(ended.out)]

    board = CommandLine(results)("leaderboard", "--results", str(results), COLUMNS="80").out
    assert max(map(len, board.splitlines())) <= 80
    assert re.search(r"^default → tuned +default +tuned +diff +95 % +p +trials +s +bound by$", board, re.MULTILINE)
    assert re.search(r"^ease .* \.000 +\.000 to \.000 +1 +3 +1[23] +trials$", board, re.MULTILINE)

    write(tmp_path / "other", found(**{**asdict(winners[1]), "study": "another study"}))
    retuned = json.loads(run(results, ratings, tmp_path / "other", "--format", "json").out)
    (row,) = (row for row in retuned if (row["algorithm"], row["label"]) == ("popularity", "tuned"))
    after = records_of(results)["popularity", "tuned", 42]
    assert row["tuned"]["study"] == after["algorithm"]["tuned"]["study"] == "another study"
    assert after["timings"] == written["popularity", "tuned", 42]["timings"], "the same configuration, measured once"


def test_the_model_of_a_configuration_that_is_both_is_kept_for_both(
    ratings: Path, studies: tuple[Path, list[Tuned]], tmp_path: Path
) -> None:
    results = tmp_path / "results"
    assert run(results, ratings, studies[0], "--keep-models", algorithm="ease").code == 0
    written = records_of(results)
    default, same = written["ease", "default", 42]["model"], written["ease", "tuned", 42]["model"]
    assert default["sha256"] == same["sha256"] and default["folder"] != same["folder"]
    folders = {path.name: {file.name for file in path.iterdir()} for path in results.glob("*/*/*/*.model")}
    assert folders == {model["folder"]: set(model["sha256"]) for model in (default, same)}


def test_on_another_split_tuned_rows_are_skipped(
    ratings: Path, studies: tuple[Path, list[Tuned]], tmp_path: Path
) -> None:
    folder, _ = studies
    ended = run(tmp_path / "results", ratings, folder, "--splits", "2", "--format", "json")
    assert ended.code == 0, ended.err
    written = records_of(tmp_path / "results")
    skipped = written["popularity", "tuned", 43]
    assert skipped["status"] == "skipped"
    assert skipped["reason"].startswith("tuned on split seed 42, whose validation rows may be test rows of split seed")
    rows = json.loads(ended.out)
    assert [(row["label"], row["status"]) for row in rows] == [("default", "ok"), ("tuned", "skipped")]
    assert rows[0]["table"]["tuning"] is None, "half a row is compared with nothing"


def test_a_newer_tuned_configuration_takes_the_place_of_the_older(
    ratings: Path, studies: tuple[Path, list[Tuned]], tmp_path: Path
) -> None:
    results, (_, winners) = tmp_path / "results", studies
    for damping in (2.0, 50.0):
        write(tmp_path / "tuned", found(**{**asdict(winners[1]), "config": {"by": "damped-mean", "damping": damping}}))
        assert run(results, ratings, tmp_path / "tuned").code == 0
    rows = json.loads(CommandLine(results)("leaderboard", "--results", str(results), "--format", "json").out)
    assert [row["config"]["damping"] for row in rows if row["label"] == "tuned"] == [50.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--set", "ease.l2=9"],
            "ease.l2 is set, and with another option ease is no longer tuned: leave out either the",
        ),
        (["--config", "best"], "unknown preset 'best'"),
    ],
)
def test_what_would_not_be_tuned_is_refused(
    ratings: Path, studies: tuple[Path, list[Tuned]], tmp_path: Path, arguments: list[str], message: str
) -> None:
    ended = run(tmp_path / "results", ratings, studies[0], *arguments, algorithm="ease")
    assert ended.code == 1 and ended.err.startswith(f"recgauge: {message}") and ended.err.count("\n") == 1
    assert not (tmp_path / "results").exists()
