"""Damaged records and side files: named with their reason, measured again, kept; the rest of a folder is untouched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import CommandLine

from benchmarks.environment import file_digest
from benchmarks.record_format import sealed

ALGORITHMS = ("--algorithm", "popularity,random")


def record_of(benchmarks: CommandLine, algorithm: str) -> tuple[Path, dict[str, Any]]:
    (path,) = benchmarks.results.glob(f"*/*/{algorithm}/*.json")
    return path, json.loads(path.read_text())


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.fixture
def two(benchmarks: CommandLine) -> CommandLine:
    """A results folder with two sound records."""
    assert benchmarks.run(*ALGORITHMS).code == 0
    return benchmarks


@pytest.mark.parametrize("what", ["record", "side file"])
def test_a_flipped_bit_is_named_measured_again_and_kept(two: CommandLine, what: str) -> None:
    path, record = record_of(two, "random")
    victim = path if what == "record" else path.with_name(record["side"]["file"])
    flip(victim)
    damage = victim.read_bytes()

    board = two("leaderboard", "--results", str(two.results))
    assert board.code == 0 and " popularity " in board.out and "  random  " not in board.out
    (line,) = board.err.splitlines()
    assert line.startswith(f"recgauge: {victim}: ") and line.endswith(": left out")
    checked = two("check", "--results", str(two.results))
    assert checked.code == 2 and str(victim) in checked.out and "1 sound, 1 damaged" in checked.out

    again = two.run(*ALGORITHMS)
    assert again.code == 0 and " random  " in again.out
    assert "1 of 2 cells are known" in again.err
    (line,) = [line for line in again.err.splitlines() if "set aside" in line]
    assert victim.name in line and ".damaged" in line
    (kept,) = two.results.glob(f".damaged/*/*/random/*/{victim.name}")
    assert kept.read_bytes() == damage
    assert two("check", "--results", str(two.results)).code == 0
    assert two.run(*ALGORITHMS).err.startswith("2 of 2 cells are known")


def test_where_nothing_is_left_there_is_one_line_more(two: CommandLine) -> None:
    for algorithm in ("popularity", "random"):
        path, _ = record_of(two, algorithm)
        path.write_text("{}")
    for command in (("leaderboard",), ("compare", "popularity", "random"), ("report", "--out", "nowhere.html")):
        ended = two(*command, "--results", str(two.results))
        assert ended.code == 1 and len(ended.err.splitlines()) == 3, ended.err
        assert "no such records here" in ended.err.splitlines()[-1]


def test_a_record_from_the_future_gives_way_to_what_is_measured_now(two: CommandLine) -> None:
    """The same cell, measured by other code while the clock was ahead: a key that will not be asked for again."""
    path, record = record_of(two, "random")
    path.unlink()
    side = path.with_name(record["side"]["file"])
    future = path.with_name(f"{'0' * 32}.json")
    side = side.rename(future.with_name(f"{'0' * 32}.{file_digest(side)[:8]}.npz"))
    record |= {"created": "2099-05-05T00:00:00.000+00:00", "key": "0" * 64, "wall_s": 123.0}
    record["side"]["file"] = side.name
    future.write_text(json.dumps(sealed(record), indent=1))
    before = json.loads(two("leaderboard", "--results", str(two.results), "--format", "json").out)
    assert {name for row in before if row["algorithm"] == "random" for name in row["records"]} == {
        str(future.relative_to(two.results))
    }
    assert two.run(*ALGORITHMS).code == 0
    after = json.loads(two("leaderboard", "--results", str(two.results), "--format", "json").out)
    assert {name for row in after if row["algorithm"] == "random" for name in row["records"]} == {
        str(path.relative_to(two.results))
    }
    assert future.exists()
    assert json.loads(path.read_text())["created"] == "2099-05-05T00:00:00.001+00:00"


def test_a_protocol_that_is_not_here_is_named(two: CommandLine) -> None:
    path, record = record_of(two, "random")
    record["protocol"]["name"] = "somewhere-else"
    path.write_text(json.dumps(sealed(record)))
    board = two("leaderboard", "--results", str(two.results))
    assert board.code == 0 and "unknown protocol 'somewhere-else': give its --plugin" in board.err


def test_published_records_are_sound(benchmarks: CommandLine) -> None:
    ended = benchmarks("check", "--results", "results/reference")
    assert ended.code == 0, ended.out
    assert "271 records: 271 sound, 0 damaged" in ended.out


def test_check_takes_algorithms_or_a_folder(benchmarks: CommandLine) -> None:
    ended = benchmarks("check", "als", "--results", str(benchmarks.results))
    assert ended.code == 1 and len(ended.err.splitlines()) == 1 and "leave out one of them" in ended.err


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.json", "[]"),
        ("model.json", '{"algorithm": "ALS", "config": {"factors": "\\u001b[2J"}}'),
        ("model.json", "[" * 100_000),
        ("model.json", None),
        ("model.safetensors", "no arrays"),
    ],
)
def test_a_hostile_model_with_the_right_digest_ends_in_one_line(
    benchmarks: CommandLine, file: str, content: str | None
) -> None:
    assert benchmarks.run("--keep-models", "--algorithm", "als").code == 0
    path, record = record_of(benchmarks, "als")
    target = path.with_name(record["model"]["folder"]) / file
    if content is None:  # a model of far more users than it has factors of
        facts = json.loads(target.read_text())
        content = json.dumps({**facts, "n_users": 2**30})
    target.write_text(content)
    record["model"]["sha256"][file] = file_digest(target)
    path.write_text(json.dumps(sealed(record)))
    look = ("recommend", "--user", "1", "--dataset", "synthetic-genres", "--results", str(benchmarks.results))
    ended = benchmarks(*look, "--algorithm", "als")
    assert ended.code == 1 and len(ended.err.splitlines()) == 1, ended.err
    assert "Traceback" not in ended.err and "\x1b" not in ended.err
