"""``run --keep-models``: a fitted model beside its record, in the record, and part of what a record satisfies."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from conftest import MISBEHAVING, ROOT, CommandLine

from algorithms.als import ALS
from benchmarks.environment import file_digest

KNOWN = "2 of 2 cells are known"
BOTH = ("--algorithm", "als,popularity")


def records_of(benchmarks: CommandLine) -> dict[str, tuple[Path, dict[str, Any]]]:
    found = [(path, json.loads(path.read_text())) for path in benchmarks.results.glob("*/*/*/*.json")]
    return {record["algorithm"]["name"]: (path, record) for path, record in found}


@pytest.fixture
def kept(benchmarks: CommandLine) -> CommandLine:
    """A results folder with two kept models on the synthetic data."""
    ended = benchmarks.run("--keep-models", *BOTH)
    assert ended.code == 0, ended.err
    return benchmarks


def test_a_record_names_its_model_with_the_sha256_of_each_file(kept: CommandLine) -> None:
    schema = json.loads((ROOT / "results" / "record.schema.json").read_text())
    for path, record in records_of(kept).values():
        jsonschema_rs.validate(schema, record)
        folder = path.with_name(record["model"]["folder"])
        assert re.fullmatch(rf"{path.stem}\.[0-9a-f]{{8}}\.model", folder.name)
        assert record["model"]["sha256"] == {file.name: file_digest(file) for file in folder.iterdir()}
        assert set(record["model"]["sha256"]) == {"model.json", "model.safetensors"}
        assert str(Path.home()) not in (folder / "model.json").read_text()
    board = kept("leaderboard", "--results", str(kept.results), "--format", "json")
    assert {row["algorithm"] for row in json.loads(board.out)} == {"als", "popularity"}


def test_the_kept_model_is_the_one_that_was_measured(kept: CommandLine) -> None:
    path, record = records_of(kept)["als"]
    model = ALS.load(path.with_name(record["model"]["folder"]))
    with np.load(path.with_name(record["side"]["file"])) as side:
        lists = side["top_items"]
    rows = _training_rows(kept)
    assert np.array_equal(model.recommend(np.arange(model.n_users), 10, rows), lists)


def _training_rows(kept: CommandLine) -> Any:
    from benchmarks.split_store import load_seen

    prepared = kept("prepare", "--dataset", "synthetic-genres", "--protocol", "leave-one-out").out
    return load_seen(Path(prepared.split()[-1]) / "fit")


def test_a_record_without_a_model_does_not_do_where_one_is_asked_for(benchmarks: CommandLine) -> None:
    benchmarks.run(*BOTH)
    assert all(record["model"] is None for _, record in records_of(benchmarks).values())
    assert KNOWN in benchmarks.run(*BOTH).err
    assert "known" not in benchmarks.run("--keep-models", *BOTH).err
    assert all(record["model"] for _, record in records_of(benchmarks).values())
    for again in (("--keep-models", *BOTH), BOTH):
        assert KNOWN in benchmarks.run(*again).err


def test_a_model_that_is_gone_is_made_again(kept: CommandLine) -> None:
    path, before = records_of(kept)["als"]
    shutil.rmtree(path.with_name(before["model"]["folder"]))
    assert "1 of 2 cells are known" in kept.run("--keep-models", *BOTH).err
    _, after = records_of(kept)["als"]
    assert after["model"] == before["model"]  # the same seed: the same bytes
    assert after["created"] > before["created"]


def test_what_runs_again_keeps_what_it_had(benchmarks: CommandLine) -> None:
    """Figures of speed survive a later wish for the model, and the other way round."""
    one = ("--algorithm", "popularity")
    benchmarks.run("--suite", "clock", *one)
    benchmarks.run("--keep-models", *one)
    _, record = records_of(benchmarks)["popularity"]
    assert record["model"] and record["timings"]["throughput"] and len(record["timings"]["fit_s"]) == 5
    benchmarks.run("--keep-models", *one, "--set", "popularity.by=mean")  # another cell
    other = [path for path in benchmarks.results.glob("*/*/*/*.json") if path.stem != record["key"][:32]]
    benchmarks.run("--suite", "clock", *one, "--set", "popularity.by=mean")
    (path,) = other
    again = json.loads(path.read_text())
    assert again["model"] and again["timings"]["throughput"]


def test_a_model_that_cannot_be_saved_is_measured_all_the_same(benchmarks: CommandLine) -> None:
    command = ("--keep-models", "--plugin", str(MISBEHAVING), "--algorithm", "constant")
    assert benchmarks.run(*command).code == 0
    _, record = records_of(benchmarks)["constant"]
    assert (record["status"], record["model"]) == ("ok", None)
    assert "1 of 1 cells are known" in benchmarks.run(*command).err
    look = ("recommend", "--user", "1", "--dataset", "synthetic-genres", "--results", str(benchmarks.results))
    ended = benchmarks(*look, *command[1:])
    assert ended.code == 1 and ended.err.count("\n") == 1
    assert "this algorithm cannot be saved" in ended.err
