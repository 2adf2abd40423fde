"""A split leaves as files and answers come back: the real command lines, real MovieLens, a script of plain NumPy."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, CommandLine

from benchmarks.cli import main
from benchmarks.environment import file_digest
from datasets.cache import cache_root

SCRIPT = ROOT / "tests" / "outside" / "numpy_models.py"
WHAT = ("--dataset", "ml-latest-small", "--protocol", "leave-one-out")
RATINGS = ("--dataset", "ml-latest-small", "--protocol", "holdout")
ALGORITHMS = {"popularity": "popularity", "ease": "ease", "biased-als": "biased-als[epochs=1]"}
SWEEPS = ("--sweeps", "1")
TIED_LISTS = {"hr@10/full", "ndcg@10/full", "hr@10/full/warm", "hr@10/full/cold-item"}
"""Popularity ties at the end of many lists, which have to choose: an expectation is what a list cannot say."""


def outside(folder: Path, model: str, *arguments: str) -> None:
    subprocess.run([sys.executable, str(SCRIPT), str(folder), model, *SWEEPS, *arguments], check=True, cwd=folder)


def record_of(results: Path, algorithm: str) -> dict[str, Any]:
    (path,) = results.glob(f"*/*/{algorithm}/*.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def side_of(results: Path, algorithm: str) -> dict[str, np.ndarray]:
    (path,) = results.glob(f"*/*/{algorithm}/*.npz")
    with np.load(path) as arrays:
        return dict(arrays)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recgauge: ")]
    return line.removeprefix("recgauge: ")


@pytest.fixture(scope="module")
def split(movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported files of leave-one-out."""
    folder = tmp_path_factory.mktemp("export") / "split"
    assert main(["split", "export", *WHAT, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def answers(split: Path) -> Path:
    """A folder with ``MODEL.csv`` and ``MODEL-lists.csv`` of every model of the script."""
    folder = split.parent / "answers"
    folder.mkdir()
    for model in ALGORITHMS:
        outside(split, model, "--scores", str(folder / f"{model}.csv"), "--lists", str(folder / f"{model}-lists.csv"))
    return folder


@pytest.fixture(scope="module")
def measured(answers: Path) -> CommandLine:
    """The same models as adapters and from their files, in one results folder."""
    benchmarks = CommandLine(answers.parent / "results")
    ended = benchmarks.run(*WHAT, "--algorithm", ",".join(ALGORITHMS.values()), timeout=300)
    assert ended.code == 0, ended.err
    for model in ALGORITHMS:
        assert score(benchmarks.results, answers / f"{model}.csv", f"my-{model}", answers / f"{model}-lists.csv") == 0
    return benchmarks


def score(results: Path, file: Path, name: str, lists: Path | None = None, *arguments: str) -> int:
    given = () if lists is None else ("--lists", str(lists))
    return main(["score", str(file), *given, "--name", name, *WHAT, "--results", str(results), *arguments])


# --- what leaves -----------------------------------------------------------------------------------------------------


def test_the_export_is_what_a_model_may_know(split: Path, movielens: Path) -> None:
    about = json.loads((split / "split.json").read_text())
    assert about["split"]["n_test"] == 610 and about["dataset"]["citation"].startswith("F. Maxwell Harper")
    for name, file in about["files"].items():
        assert file["sha256"] == file_digest(split / name) and file["rows"] == len(read(split / name))
    readme = (split / "README.md").read_text()
    assert "user Q0 item rank score tag" in readme and about["command"] in readme and "GroupLens terms" in readme

    raw = {(row["userId"], row["movieId"]): row for row in read(movielens / "ratings.csv")}
    train, candidates = read(split / "train.csv"), read(split / "candidates.csv")
    for row in train:
        source = raw[row["user"], row["item"]]
        assert float(row["rating"]) == float(source["rating"]) and row["time"] == source["timestamp"]
    latest = {}
    for (user, item), row in raw.items():  # the protocol's own rule: by time, then by item
        latest[user] = max(latest.get(user, (-1, -1)), (int(row["timestamp"]), int(item)))
    held_out = {(user, str(item)) for user, (_, item) in latest.items()}
    learned, asked = ({(row["user"], row["item"]) for row in rows} for rows in (train, candidates))
    assert held_out <= asked and not held_out & learned and learned == raw.keys() - held_out
    assert not (asked - held_out) & raw.keys()
    assert sum(row["part"] == "valid" for row in train) == 610


def test_no_place_in_a_file_tells_the_held_out_item(split: Path) -> None:
    for name in ("train.csv", "candidates.csv", "validation_candidates.csv"):
        pairs = [(int(row["user"]), int(row["item"])) for row in read(split / name)]
        assert pairs == sorted(pairs) and len(set(pairs)) == len(pairs)


def test_the_export_never_opens_the_labels(
    split: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every label of the prepared split overwritten, unnoticed, the files are the same to the byte."""
    cache = tmp_path / "cache"
    shutil.copytree(cache_root(), cache)
    labels = [*cache.glob("splits/*/labels/*"), *cache.glob("splits/*/validation/labels/*")]
    assert labels
    for path in labels:
        stat = path.stat()
        path.write_bytes(bytes(stat.st_size))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    monkeypatch.setenv("RECGAUGE_CACHE", str(cache))
    assert main(["split", "export", *WHAT, "--out", str(tmp_path / "again")]) == 0
    assert "prepare" not in capsys.readouterr().err
    for path in split.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_parquet_holds_the_same_rows(split: Path, tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()  # an empty folder may be there
    assert main(["split", "export", *WHAT, "--out", str(out), "--format", "parquet"]) == 0
    for name in ("train", "validation_candidates", "candidates", "items"):
        ours, theirs = pq.read_table(out / f"{name}.parquet"), pyarrow.csv.read_csv(split / f"{name}.csv")
        assert ours.column_names == theirs.column_names and len(ours) == len(theirs)
        for column in ("user", "item", "rating", "part"):
            if column in ours.column_names:
                assert ours[column].to_pylist() == theirs[column].to_pylist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "holdout", "--folds", "3"), "--folds makes 3 splits, and this is about one"),
        (("--held-out", "random", "--protocol", "holdout"), "leave-one-out is not part of this run"),
        (("--dataset", "no-such"), "unknown data set 'no-such'"),
        (("--protocol", "no-such"), "unknown protocol 'no-such'"),
        (("--set", "leave-one-out.negatives=0"), "negatives must be at least 1"),
        (("--out", "SPLIT"), "is there already: name a new or an empty folder"),
        (
            ("--out", f"{ROOT / 'LICENSE' / 'split'}"),
            "cannot be written: name a folder below one that you may write to",
        ),
    ],
)
def test_a_mistake_in_an_export_is_one_line_and_writes_nothing(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    out, before = tmp_path / "out", {path.name: path.read_bytes() for path in split.iterdir()}
    given = [str(split) if argument == "SPLIT" else argument for argument in arguments]
    assert main(["split", "export", *WHAT, "--out", str(out), *given]) == 1
    assert message in error_of(capsys)
    assert not out.exists() and {path.name: path.read_bytes() for path in split.iterdir()} == before


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ALGORITHMS)
def test_a_model_has_the_same_figures_outside_and_as_an_adapter(measured: CommandLine, model: str) -> None:
    adapter, file = (record_of(measured.results, name)["metrics"] for name in (model, f"my-{model}"))
    assert adapter.keys() == file.keys() and {name for name, value in file.items() if value is None} == {"mrr/full"}
    left_out = {"mrr/full"} | (TIED_LISTS if model == "popularity" else set())
    assert {name: file[name] for name in file.keys() - left_out} == pytest.approx(
        {name: adapter[name] for name in file.keys() - left_out}, abs=1e-9
    )
    ours, theirs = side_of(measured.results, model), side_of(measured.results, f"my-{model}")
    assert ours.keys() == theirs.keys()
    for name in ("users", "n_better", "n_tied", "n_candidates", "cold_item", "users_full", "top_items"):
        assert np.array_equal(ours[name], theirs[name]), name


def test_predicted_ratings_have_the_same_errors_outside_and_as_an_adapter(
    measured: CommandLine, tmp_path: Path
) -> None:
    """As lines of TREC; cold rows have the damped mean in the adapter and in the script."""
    assert main(["split", "export", *RATINGS, "--out", str(tmp_path / "split")]) == 0
    assert read(tmp_path / "split" / "pairs.csv")[0].keys() == {"user", "item"}
    outside(tmp_path / "split", "biased-als", "--scores", str(tmp_path / "ratings.csv"))
    lines = [f"{row['user']} Q0 {row['item']} 1 {row['score']} als\n" for row in read(tmp_path / "ratings.csv")]
    (tmp_path / "ratings.run").write_text("".join(lines))
    results = tmp_path / "results"
    ended = measured("run", *RATINGS, "--algorithm", ALGORITHMS["biased-als"], "--results", str(results))
    assert ended.code == 0, ended.err
    ended = measured("score", str(tmp_path / "ratings.run"), "--name", "mine", *RATINGS, "--results", str(results))
    assert ended.code == 0 and "clipped to the scale and not calibrated" in " ".join(ended.out.split())
    adapter, file = (record_of(results, name)["metrics"] for name in ("biased-als", "mine"))
    assert file == pytest.approx(adapter, abs=1e-9) and "rmse/cold-item" in file
    assert record_of(results, "mine")["external"]["not_measured"] == {}


def test_every_form_of_a_file_is_one_answer(
    answers: Path, measured: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TREC, TSV and Parquet, in another order of rows; the row of one name is replaced, and says by which file."""
    rows = read(answers / "ease.csv")
    random.Random(5).shuffle(rows)
    trec, tsv, parquet = (tmp_path / name for name in ("ease.run", "ease.tsv", "ease.parquet"))
    trec.write_text("".join(f"{row['user']} Q0 {row['item']} 1 {row['score']} x\n" for row in rows))
    tsv.write_text("item\tscore\tuser\n" + "".join(f"{r['item']}\t{r['score']}\t{r['user']}\n" for r in rows))
    pq.write_table(pyarrow.csv.read_csv(answers / "ease.csv"), parquet)
    expected = {
        name: value for name, value in record_of(measured.results, "my-ease")["metrics"].items() if value is not None
    }
    digests = set()
    for path, kind in ((trec, "trec"), (tsv, "tsv"), (parquet, "parquet")):
        assert score(tmp_path / "results", path, "mine") == 0
        record = record_of(tmp_path / "results", "mine")
        known = {name: value for name, value in record["metrics"].items() if value is not None}
        assert known == {name: expected[name] for name in known} and "hr@10/warm" in known
        (file,) = record["external"]["files"]
        assert file == {"what": "scores", "format": kind, "sha256": file_digest(path)}
        digests.add(file["sha256"])
    assert len(digests) == 3 and len(list((tmp_path / "results").glob("*/*/*/*.json"))) == 1


def test_lists_alone_and_scores_alone_say_what_they_cannot_tell(
    answers: Path, measured: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = record_of(measured.results, "my-ease")["metrics"]
    assert score(tmp_path, answers / "ease.csv", "scores", None, "--fit-s", "3") == 0
    assert score(tmp_path, answers / "ease-lists.csv", "lists") == 0
    capsys.readouterr()
    assert main(["leaderboard", "--results", str(tmp_path), "--format", "json"]) == 0
    rows = {row["algorithm"]: row for row in json.loads(capsys.readouterr().out)}
    scores, lists = rows["scores"], rows["lists"]
    assert (scores["rank"], lists["rank"], lists["status"]) == (1, None, "ok")
    assert scores["cost"]["fit_s"]["median"] == 3 and lists["cost"]["fit_s"] is None
    for name, value in both.items():
        of_lists = "/full" in name or name.startswith(("coverage", "diversity", "novelty"))
        for row, has_it in ((scores, not of_lists), (lists, of_lists and name != "mrr/full")):
            figure = row["metrics"].get(name, {"mean": None})
            assert figure["mean"] == (pytest.approx(value, abs=1e-9) if has_it else None), (name, row["algorithm"])
    assert "no lists" in scores["not_measured"]["hr@10/full"] and "no scores" in lists["not_measured"]["hr@10"]
    schema = json.loads((ROOT / "results" / "record.schema.json").read_text())
    for name in ("scores", "lists"):
        jsonschema_rs.validate(schema, record_of(tmp_path, name))


def test_another_option_of_the_protocol_is_another_row(answers: Path, tmp_path: Path) -> None:
    """No rating is below 0.5: the split is the same, and the tables are two."""
    for options in ((), ("--set", "leave-one-out.positive_min=0.5"), ()):
        assert score(tmp_path, answers / "ease.csv", "mine", None, *options) == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/*/mine/*.json")]
    assert len({record["split"]["fingerprint"] for record in records}) == 1
    assert sorted(str(record["protocol"]["config"]["positive_min"]) for record in records) == ["0.5", "None"]


def test_lists_of_trec_are_named_as_such(
    answers: Path, measured: CommandLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line of TREC has a rank and a score: alone, the file is one of scores."""
    run, results = tmp_path / "ease.run", ("--results", str(tmp_path / "results"))
    rows = read(answers / "ease-lists.csv")
    run.write_text("".join(f"{row['user']} Q0 {row['item']} {row['rank']} {-int(row['rank'])} x\n" for row in rows))
    assert main(["score", str(run), "--name", "mine", *WHAT, *results]) == 1
    assert error_of(capsys).endswith("was never asked; lists go with --lists")
    assert main(["score", "--lists", str(run), "--name", "mine", *WHAT, *results]) == 0
    ours, theirs = (
        side_of(folder, name) for folder, name in ((tmp_path / "results", "mine"), (measured.results, "my-ease"))
    )
    assert np.array_equal(ours["top_items"], theirs["top_items"]) and not len(ours["pair_scores"])
    assert np.array_equal(ours["n_better_full"], theirs["n_better_full"])
    assert main(["score", "--name", "mine", *WHAT, *results]) == 1
    assert "name a file of scores, or one of lists" in error_of(capsys)


def test_a_row_from_elsewhere_is_a_row_like_any_other(
    measured: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ("--results", str(measured.results))
    for form in ("terminal", "markdown"):
        assert main(["leaderboard", *results, "--format", form]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert "my-ease (external)" in text and "answers from elsewhere" in text
    assert main(["leaderboard", *results, "--format", "csv"]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {line["algorithm"] for line in lines if line["label"] == "external"} == {f"my-{name}" for name in ALGORITHMS}
    assert len({line["group"] for line in lines if line["algorithm"] in ("ease", "my-ease")}) == 1
    assert main(["compare", "ease", "my-ease", *results]) == 0
    assert "ease is better for 0 users, equal for 610, worse for 0" in capsys.readouterr().out
    assert main(["leaderboard", *results, "--config", "external"]) == 0
    assert re.search(r"\n +1 +my-ease \(external\)", capsys.readouterr().out)


def test_run_never_touches_a_row_from_elsewhere(measured: CommandLine) -> None:
    before = {path: path.read_bytes() for path in measured.results.glob("*/*/my-*/*")}
    ended = measured.run(*WHAT, "--algorithm", ",".join(ALGORITHMS.values()))
    assert ended.code == 0 and "3 of 3 cells are known" in ended.err and "my-ease" not in ended.out
    assert len(before) == 6 and {path: path.read_bytes() for path in measured.results.glob("*/*/my-*/*")} == before


@pytest.mark.parametrize(
    ("line", "new", "reason"),
    [
        (1000, "", "ends here without a score for 1 of 61,000 asked pairs, the first of user '10' and item "),
        (1000, "{user},{item},nan\n", "column 'score' is 'nan'; a finite number is required"),
        (1000, "{user},987654321,{score}\n", "item '987654321' is not in this data set"),
        (1000, "987654321,{item},{score}\n", "user '987654321' is not in this data set"),
        (1001, "{user},{item},{score}\n{user},{item},0\n", "was there before; each has one score"),
        (1000, "{user},1,{score}\n", "the pair of user '10' and item '1' was never asked"),
    ],
)
def test_a_wrong_file_is_refused_by_line_and_nothing_is_recorded(
    answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: int, new: str, reason: str
) -> None:
    path, lines = tmp_path / "scores.csv", (answers / "ease.csv").read_text().splitlines(keepends=True)
    user, item, number = lines[line - 1].strip().split(",")
    lines[line - 1] = new.format(user=user, item=item, score=number)
    path.write_text("".join(lines))
    assert score(tmp_path / "results", path, "mine") == 1
    named = line + 1 if line == 1001 else line if new else 61_000
    error = error_of(capsys)
    assert error.startswith(f"{path}:{named}: ") and reason in error
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "ease"), "--name ease: an algorithm here has that name: choose another, such as my-ease"),
        (("--name", "ALS"), "an algorithm here has that name"),
        (("--name", "oracle"), "an algorithm here has that name"),
        (("--name", "../x"), "letters, digits and . _ + - are possible"),
        (("--split-seed", "43"), "was never asked"),
        (("--protocol", "holdout"), "was never asked"),
        (("--fit-s", "0"), "'0' is not a number above 0"),
        (("--lists", "no-such.csv"), "no-such.csv: No such file"),
    ],
)
def test_a_mistake_in_scoring_is_one_line(
    answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert score(tmp_path, answers / "ease.csv", "mine", None, *arguments) == 1
    assert message in error_of(capsys) and not list(tmp_path.iterdir())


def test_lists_have_no_place_in_a_rating_protocol(
    answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(tmp_path, answers / "ease-lists.csv", "mine", None, "--protocol", "holdout") == 1
    assert "lists, but holdout asks for ratings: give scores" in error_of(capsys)
    assert score(tmp_path, answers / "ease-lists.csv", "mine", answers / "ease-lists.csv") == 1
    assert "leave out one of them" in error_of(capsys)


def test_ids_may_be_any_texts(tmp_path: Path) -> None:
    """Commas, quotes and spaces in ids survive the way there and back; a constant score is worth its expectation."""
    users, items = [f'user, "{n}"' for n in range(6)], [f"item {n}, é" for n in range(40)]
    draw = random.Random(1)
    with (tmp_path / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "time"])
        writer.writerows((user, item, draw.randrange(10**6)) for user in users for item in draw.sample(items, 8))
    what = ("--dataset", str(tmp_path / "own.csv"), "--protocol", "leave-one-out")
    assert main(["split", "export", *what, "--out", str(tmp_path / "split")]) == 0
    asked = read(tmp_path / "split" / "candidates.csv")
    assert {row["user"] for row in asked} == set(users)
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user", "item", "score"])
        writer.writerows((row["user"], row["item"], 0.5) for row in asked)
    results = ("--results", str(tmp_path / "results"))
    assert main(["score", str(tmp_path / "scores.csv"), "--name", "constant", *what, *results]) == 0
    record = record_of(tmp_path / "results", "constant")
    assert record["metrics"]["hr@10"] == pytest.approx(10 / (len(asked) / 6))
    assert str(tmp_path) not in json.dumps(record)


def test_nothing_is_scored_by_a_harness_that_is_wrong(in_copy: Any, answers: Path, tmp_path: Path) -> None:
    copy = in_copy()
    source = copy.root / "protocols" / "metrics.py"
    text = source.read_text()
    broken = "return np.clip((k - better) / (tied + 1), 0.0, 1.0)"
    assert broken in text
    source.write_text(text.replace(broken, "return (better < k).astype(float)"))
    ended = copy("score", str(answers / "ease.csv"), "--name", "mine", *WHAT, "--results", str(tmp_path / "results"))
    assert ended.code == 4 and "nothing was scored, the harness is wrong: canary constant" in ended.err
    assert not (tmp_path / "results").exists()
