"""The user's own file through the command line: any format, every mistake, disks that are full or read-only."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import CommandLine, Finished

from benchmarks.cli import main

NAMES = ("user", "item", "rating", "time")
GENRES = ("Drama", "Horror", "War")

PEEKING = """
import os
from algorithms.base import Recommender
from algorithms.registry import RANKER, AlgorithmSpec

class Peeks(Recommender):
    def _fit(self, train, run):
        open(os.environ["PEEKS_AT"])
    def _score(self, users):
        raise AssertionError("never asked")

ALGORITHMS = [AlgorithmSpec("peeks", "peeking:Peeks", "", ("numpy",), RANKER)]
"""


def table() -> list[tuple[str, int, float, int]]:
    """30 users rate 8 of the 12 items of one genre each, whole stars, in an order of their own."""
    draw = random.Random(0)
    rows = []
    for user in range(30):
        items = draw.sample([item for item in range(36) if item % 3 == user % 3], 8)
        rows += [
            (f"ü{user:02}", item, float(draw.randint(1, 5)), 1_000 * user + step) for step, item in enumerate(items)
        ]
    return rows


def write(path: Path, rows: list[Any], names: tuple[str, ...] = NAMES, seed: int = 1) -> Path:
    """``rows``, shuffled, in the format that the suffix of ``path`` says."""
    path.parent.mkdir(exist_ok=True)
    rows = random.Random(seed).sample(rows, len(rows))
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    elif path.suffix == ".dat":
        path.write_text("".join("::".join(map(str, row)) + "\n" for row in [names, *rows]))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([names, *rows])
    return path


@dataclass(frozen=True)
class Inline:
    """The same command line in this process, which starts sooner; its workers are processes all the same."""

    results: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Finished:
        code = main(arguments)
        return Finished(code, *self.capsys.readouterr())


@pytest.fixture
def inline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Inline:
    return Inline(tmp_path / "results", capsys)


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    return write(tmp_path / "ratings.csv", table())


@pytest.fixture
def items(tmp_path: Path) -> Path:
    rows = [(item, f"Title {item}", GENRES[item % 3]) for item in range(36)]
    return write(tmp_path / "items.csv", rows, ("item", "title", "genres"))


def records_of(results: Path) -> dict[str, Any]:
    return {str(path.relative_to(results)): json.loads(path.read_text()) for path in results.glob("*/*/*/*.json")}


def run(benchmarks: CommandLine | Inline, path: Path, *arguments: str) -> Finished:
    return benchmarks("run", "--results", str(benchmarks.results), "--dataset", str(path), *arguments)


def refusal(ended: Finished) -> str:
    """The one line with which a command was refused; which split was being prepared may stand before it."""
    assert ended.code == 1 and not ended.out, ended
    *before, line = ended.err.splitlines()
    assert line.startswith("recgauge: ") and all(each.startswith("prepare ") for each in before), ended.err
    return line


def fingerprints(ended: Finished) -> list[str]:
    assert ended.code == 0, ended.err
    return re.findall(r"fingerprint +([0-9a-f]{64})$", ended.out, re.MULTILINE)


# --- formats and flags -----------------------------------------------------------------------------------------------


def test_one_table_is_one_result_whatever_its_format(tmp_path: Path) -> None:
    def measured(kind: str, results: str, algorithms: str) -> tuple[Finished, dict[str, Any]]:
        path = write(tmp_path / f"as-{kind}" / f"ratings.{kind}", table(), seed=len(kind))
        there = CommandLine(tmp_path / results)
        return run(there, path, "--algorithm", algorithms), records_of(there.results)

    ended, found = measured("csv", "ours", "popularity,als")
    assert ended.code == 0 and len(found) == 4
    assert not any(str(tmp_path) in json.dumps(record) for record in found.values())
    _, again = measured("parquet", "measured anew", "als")
    assert len(again) == 2 and again.keys() < found.keys()
    for name, record in again.items():
        assert record["status"] == "ok"
        for part in ("dataset", "split", "metrics"):
            assert record[part] == found[name][part]
    for kind in ("tsv", "dat"):  # the same fingerprints: what was measured on the CSV file holds
        ended, after = measured(kind, "ours", "popularity,als")
        assert "4 of 4 cells are known" in ended.err and after == found


def test_columns_metadata_and_scale_are_taken(benchmarks: CommandLine, tmp_path: Path, items: Path) -> None:
    path = write(tmp_path / "loans.csv", table(), ("reader", "isbn", "stars out of ten", "when"))
    flags = ("--columns", "user=reader,item=isbn,rating=stars out of ten,time=when", "--scale", "0,10")
    leave_one_out = ("--protocol", "leave-one-out", "--algorithm", "content-cosine,random")
    ended = run(
        benchmarks, path, *flags, "--items", str(items), *leave_one_out, "--budget", "large", "--format", "json"
    )
    assert ended.code == 0, ended.err
    rates = {row["algorithm"]: row["metrics"] for row in json.loads(ended.out)}
    # Everybody keeps to one genre, which has 12 items: of the 5 that are left, the tested one is always in a top 10.
    assert rates["content-cosine"]["hr@10"]["mean"] == rates["content-cosine"]["hr@10/full"]["mean"] == 1.0
    assert rates["random"]["hr@10"]["mean"] < 0.8
    for record in records_of(benchmarks.results).values():
        assert record["dataset"]["name"] == "loans"
        assert record["limits"]["budget"] == "large" and record["limits"]["seconds"] == 3600

    card = benchmarks("list", str(path), *flags, "--items", str(items))
    assert card.code == 0
    for fact in ("the user's own file", "240 rows, 30 users, 36 items", "scale 0 to 10", "test items without"):
        assert fact in card.out
    assert max(map(len, card.out.splitlines())) <= 80


def test_without_metadata_what_needs_it_is_skipped(inline: Inline, ratings: Path) -> None:
    ended = run(inline, ratings, "--protocol", "leave-one-out", "--algorithm", "content-cosine,popularity")
    assert ended.code == 0
    statuses = {name.split("/")[2]: record["status"] for name, record in records_of(inline.results).items()}
    assert statuses == {"content-cosine": "skipped", "popularity": "ok"}


def test_without_ratings_items_are_ranked_and_nothing_is_rated(inline: Inline, tmp_path: Path) -> None:
    path = write(tmp_path / "clicks.tsv", [(user, item) for user, item, _, _ in table()] * 2, ("user", "item"))
    ended = run(inline, path, "--algorithm", "popularity,bias", "--format", "json")
    assert ended.code == 0 and "Traceback" not in ended.err
    rows = json.loads(ended.out)
    assert {row["status"] for row in rows if row["protocol"] == "leave-one-out"} == {"ok"}
    (rated,) = (row for row in rows if row["protocol"] == "holdout")
    assert rated["status"] == "skipped" and "all values of 'clicks' are 1, so there is no" in rated["reason"]
    for record in records_of(inline.results).values():
        assert record["dataset"]["n_rows"] == 240
        assert record["dataset"]["notes"]["duplicate_rows"] == 240  # counted, not refused


def test_an_algorithm_cannot_open_the_file(
    benchmarks: CommandLine, ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEEKS_AT", str(ratings))
    (tmp_path / "peeking.py").write_text(PEEKING)
    plugin = ("--plugin", str(tmp_path / "peeking.py"), "--protocol", "leave-one-out", "--algorithm", "peeks")
    assert run(benchmarks, ratings, *plugin).code == 2
    (record,) = records_of(benchmarks.results).values()
    assert record["status"] == "failed" and record["reason"].endswith("what its cell was not given: ratings.csv")


# --- refusals --------------------------------------------------------------------------------------------------------

BAD_FILES: dict[str, tuple[str | bytes, str, list[str]]] = {
    "wrong delimiter": ("user item rating\n1 10 4\n", ":1: no column for user in the header 'user item rating'", []),
    "ids over 64 bits": (f"user,item\n1,1\n{2**64},2\n", f":3: column 'user' is '{2**64}'; integer ids must", []),
    "off the scale": ("user,item,rating\n1,1,5\n2,1,6\n", ":3: column 'rating' is '6'; a number from 1.0", ["1,5"]),
    "not UTF-8": ("user,item\né,1\n".encode("latin-1"), ":2: not UTF-8; save the file as UTF-8", []),
    "no rows": ("user,item\n", ":2: no row below the header", []),
    "one user": ("user,item\n7,1\n7,2\n", ": all 2 rows are of one user; at least two users are required", []),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_line_and_nothing_is_touched(
    inline: Inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    content, reason, scale = BAD_FILES[case]
    path = tmp_path / "ratings.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    flags = [f"--scale={bounds}" for bounds in scale]
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "cache"))
    ended = run(inline, path, *flags, "--algorithm", "popularity")
    assert refusal(ended).startswith(f"recgauge: {path}{reason}")
    assert not inline.results.exists() and not list(tmp_path.glob("cache/*/*"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--dataset", "."], "{folder}: a directory; name the file in it"),
        (["--dataset", "./none.csv"], "{folder}/none.csv: no such file"),
        (["--dataset", "./ratings.csv", "--items", "none.csv"], "{folder}/none.csv: no such file"),
        (["--dataset", "./ratings.csv", "--columns", "user=reader"], "no column 'reader' for user; the header is"),
        (["--dataset", "./ratings.csv", "--columns", "reader=user"], "--columns reader=user: 'reader=user' is wrong"),
        (["--dataset", "./ratings.csv", "--scale", "5,1"], "--scale 5,1: expected LOWEST,HIGHEST rating"),
        (["--dataset", "./ratings.csv", "--max-history", "0"], "--max-history: '0' is not a whole number from 1"),
        (["--dataset", "./ratings.csv", "--set", "holdout.max_history=0"], "holdout: max_history must be at least 1"),
        (["--dataset", "./ratings.csv", "--budget", "big"], "unknown budget 'big': "),
        (["--dataset", "synthetic-genres", "--columns", "user=a"], "--columns user=a: no file to which it belongs"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else "",
)
def test_mistakes_about_a_file_are_one_line_and_write_nothing(
    inline: Inline, ratings: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], reason: str
) -> None:
    folder = ratings.parent
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert reason.format(folder=folder) in refusal(inline("run", "--results", "results", *arguments))
    assert sorted(folder.rglob("*")) == before


def test_a_mistake_leaves_what_was_recorded(inline: Inline, ratings: Path) -> None:
    options = ("--protocol", "leave-one-out", "--algorithm", "popularity")
    assert run(inline, ratings, *options).code == 0
    before = {path: path.read_bytes() for path in inline.results.rglob("*") if path.is_file()}
    good = ratings.read_text()
    ratings.write_text(good.replace(",", ";", 5))
    assert f"{ratings}:" in refusal(run(inline, ratings, *options))
    assert {path: path.read_bytes() for path in inline.results.rglob("*") if path.is_file()} == before
    ratings.write_text(good)
    assert "1 of 1 cells are known" in run(inline, ratings, *options).err


@pytest.mark.parametrize(
    ("name", "files", "reason"),
    [
        ("ml-100k", {"u.data": "1\t10\t5\t7\n2\t10\t6\t8\n"}, "u.data:2: column 'rating' is '6'; a number from 1.0"),
        ("ml-1m", {"ratings.dat": "1::10::5::7\n2::10::3"}, "ratings.dat:2: 3 fields came; required are 4"),
    ],
)
def test_a_bad_file_of_movielens_is_refused_by_line(
    inline: Inline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, str], reason: str
) -> None:
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    for file in ("u.data", "u.item", "u.user", "ratings.dat", "movies.dat", "users.dat"):
        (folder / file).write_text(files.get(file, ""))
    monkeypatch.setenv("RECGAUGE_DATA", str(folder.parent))
    options = ("--protocol", "leave-one-out", "--algorithm", "popularity")
    ended = inline("run", "--results", str(inline.results), "--dataset", name, *options)
    assert refusal(ended).startswith(f"recgauge: {folder}/{reason}")
    assert not inline.results.exists()


# --- histories -------------------------------------------------------------------------------------------------------


def test_max_history_is_another_split_of_the_same_rows(inline: Inline, ratings: Path) -> None:
    prepare = ("prepare", "--dataset", str(ratings))
    whole, short = inline(*prepare), inline(*prepare, "--max-history", "2")
    (data, *splits), (data_again, *splits_again) = (fingerprints(ended)[:2] for ended in (whole, short))
    assert data == data_again and splits != splits_again
    assert "180 train, 30 valid, 30 test" in whole.out and "168 train, 24 valid, 48 test" in whole.out
    assert "60 train, 30 valid, 30 test" in short.out and "60 train, 24 valid, 48 test" in short.out
    assert "ratings · leave-one-out (max_history=2) · split 42" in short.out


def test_max_history_without_times_is_not_measured_and_says_why(inline: Inline, tmp_path: Path) -> None:
    path = write(tmp_path / "timeless.csv", [row[:3] for row in table()], NAMES[:3])
    ended = run(inline, path, "--algorithm", "popularity", "--max-history", "2")
    assert ended.code == 0 and "Traceback" not in ended.err
    said = " ".join(ended.out.split())
    for protocol in ("leave-one-out", "holdout"):
        assert f"timeless · {protocol}: not measured: max_history keeps the latest rows" in said
    assert "has no times" in said
    assert not inline.results.exists()


# --- suites ----------------------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_a_suites_options(inline: Inline, tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(
        'summary = "mine"\nbudget = "quick"\ndatasets = ["synthetic-genres"]\nprotocols = ["leave-one-out"]\n'
        'algorithms = ["als", "ease"]\nset = ["als.factors=4", "als.epochs=3", "ease.l2=9"]\n'
    )
    dry = ("--suite", str(suite), "--dry-run")
    plain = inline("run", *dry)
    assert "als (factors=4, epochs=3)" in plain.out and "ease (l2=9.0)" in plain.out
    mine = inline("run", *dry, "--algorithm", "als", "--set", "als.factors=8")  # ease is not part of this run
    assert mine.code == 0 and "als (factors=8, epochs=3)" in mine.out and "ease" not in mine.out
    refused = inline("run", *dry, "--algorithm", "als", "--set", "ease.l2=3")
    assert "ease is not part of this run" in refusal(refused)


# --- disks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file whose split is larger than the small disk."""
    users, steps = np.divmod(np.arange(40_000), 20)
    return write(
        tmp_path / "big.parquet", np.stack([users, steps * 37 % 500, steps], axis=1).tolist(), ("user", "item", "time")
    )


def test_a_full_disk_is_one_line_and_what_was_prepared_stays(
    inline: Inline, ratings: Path, big: Path, small_disk: Path
) -> None:
    known, new = (("prepare", "--dataset", str(path), "--protocol", "leave-one-out") for path in (ratings, big))
    first = inline(*known)
    before = contents(small_disk / "splits")
    line = refusal(inline(*new))
    assert line.startswith(f"recgauge: {small_disk}/splits: cannot be written (") and "RECGAUGE_CACHE" in line
    assert contents(small_disk / "splits") == before and not list(small_disk.rglob(".*-*"))
    assert inline(*known).out == first.out.replace("written now", "was there")


def test_a_disk_without_one_free_byte_is_one_line_too(inline: Inline, ratings: Path, small_disk: Path) -> None:
    """Not even the worker's log can be written."""
    known = ("prepare", "--dataset", str(ratings), "--protocol", "leave-one-out")
    first = inline(*known)
    fill(small_disk / "ballast")
    other = shutil.copy(ratings, ratings.with_name("other.csv"))
    line = refusal(inline("prepare", "--dataset", str(other), "--protocol", "holdout"))
    assert "cannot be written (" in line
    assert inline(*known).out == first.out.replace("written now", "was there")
    (small_disk / "ballast").unlink()
    assert len(fingerprints(inline("prepare", "--dataset", str(other), "--protocol", "holdout"))) == 2


def test_a_read_only_cache_is_one_line_and_what_was_prepared_is_used(
    inline: Inline, ratings: Path, small_disk: Path
) -> None:
    known = ("prepare", "--dataset", str(ratings), "--protocol", "leave-one-out")
    first = inline(*known)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    line = refusal(inline("prepare", "--dataset", str(ratings), "--protocol", "holdout"))
    assert line.startswith(f"recgauge: {small_disk}: cannot be written (Read-only file system): ")
    assert inline(*known).out == first.out.replace("written now", "was there")
    card = inline("list", str(ratings))
    assert card.code == 0 and "240 rows" in card.out and not card.err


def test_a_results_folder_that_cannot_be_written_is_one_line(inline: Inline, ratings: Path) -> None:
    below_a_file = replace(inline, results=ratings / "results")
    line = refusal(run(below_a_file, ratings, "--protocol", "leave-one-out", "--algorithm", "popularity"))
    assert "cannot be written (Not a directory)" in line and "--results" in line


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fill(path: Path) -> None:
    """Take the whole disk of ``path``, to the last block."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return


# --- two at once -----------------------------------------------------------------------------------------------------


def test_two_that_prepare_the_same_new_data_at_once_both_succeed(
    benchmarks: CommandLine, big: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    prepare = ("prepare", "--dataset", str(big), "--protocol", "leave-one-out")
    both = [benchmarks.start(*prepare, RECGAUGE_CACHE=str(cache)) for _ in range(2)]
    ended = [Finished(process.wait(60), *process.communicate()) for process in both]
    one, other = (fingerprints(each) for each in ended)
    assert one == other and len(one) == 2
    assert len(list(cache.glob("datasets/*/*"))) == len(list(cache.glob("splits/*"))) == 1
    left = [path for path in cache.rglob(".*") if path.name != ".locks"]
    assert not left, "nothing half-made is left"
    again = benchmarks(*prepare, RECGAUGE_CACHE=str(cache))
    assert "was there" in again.out and fingerprints(again) == one
