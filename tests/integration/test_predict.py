"""``predict`` writes a contest's submission, and ``--drop-train-only`` through the command line."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import CommandLine

from benchmarks.cli import main

USER_HEADER = "User_ID,Var1,Age\n"
ARTICLE_HEADER = "Article_ID,VintageMonths,NumberOfArticlesBySameAuthor,NumberOfArticlesinSameCategory\n"

BREAKING = """
from algorithms.base import Recommender
from algorithms.registry import RATER, AlgorithmSpec

class Breaks(Recommender):
    predicts_ratings = True
    def _fit(self, train, run):
        raise RuntimeError("broken on purpose")
    def _score(self, users):
        raise AssertionError("never asked")

ALGORITHMS = [AlgorithmSpec("breaks", "breaking:Breaks", "", ("numpy",), RATER)]
"""


@pytest.fixture
def contest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 users rate 5 of 30 articles, 0 to 6; 60 rows to predict, some of users and articles that nobody knows."""
    draw = random.Random(3)
    pairs = [(user, article) for user in range(100, 140) for article in draw.sample(range(30), 5)]
    train = [(user, article, draw.randint(0, 6)) for user, article in draw.sample(pairs, len(pairs))]
    asked = draw.sample([(user, article) for user in range(90, 130) for article in range(20, 40)], 60)
    folder = tmp_path / "data" / "news-articles"
    folder.mkdir(parents=True)
    texts = {
        "train.csv": "User_ID,Article_ID,Rating,ID\n" + "".join(f"{u},{a},{r},{u}_{a}\n" for u, a, r in train),
        "test.csv": "User_ID,Article_ID,ID\n" + "".join(f"{u},{a},{u}_{a}\n" for u, a in asked),
        "user.csv": USER_HEADER + "".join(f"{user},A,20-30\n" for user in range(90, 140)),
        "article.csv": ARTICLE_HEADER + "".join(f"{article},{article},1,2\n" for article in range(40)),
    }
    for name, text in texts.items():
        (folder / name).write_bytes(text.replace("\n", "\r\n").encode())
    monkeypatch.setenv("RECGAUGE_DATA", str(folder.parent))
    return folder


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def damped_bias(train: list[dict[str, str]], asked: list[dict[str, str]]) -> list[float]:
    """μ + b_u + b_i with sums over n + 5 rows, articles first, by hand; what nobody knows has bias 0."""
    mean = sum(float(row["Rating"]) for row in train) / len(train)
    by_article, by_user = defaultdict(list), defaultdict(list)
    for row in train:
        by_article[row["Article_ID"]].append(float(row["Rating"]) - mean)
    article_bias = {article: sum(rest) / (len(rest) + 5) for article, rest in by_article.items()}
    for row in train:
        by_user[row["User_ID"]].append(float(row["Rating"]) - mean - article_bias[row["Article_ID"]])
    user_bias = {user: sum(rest) / (len(rest) + 5) for user, rest in by_user.items()}
    return [mean + user_bias.get(row["User_ID"], 0) + article_bias.get(row["Article_ID"], 0) for row in asked]


def predict(*arguments: str) -> int:
    return main(["predict", *arguments])


def test_every_row_is_predicted_from_all_ratings_in_the_order_of_the_file(
    contest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "submission.csv"
    assert predict("--dataset", "news-articles", "--algorithm", "bias", "--out", str(out)) == 0
    assert "60 ratings by bias" in capsys.readouterr().out
    assert out.read_bytes().startswith(b"ID,Rating\n")
    rows, asked = read(out), read(contest / "test.csv")
    assert [row["ID"] for row in rows] == [row["ID"] for row in asked]
    expected = damped_bias(read(contest / "train.csv"), asked)
    assert [float(row["Rating"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("data", "submission.csv")] == []


def test_predictions_are_clipped_to_the_scale(contest: Path, tmp_path: Path) -> None:
    """Without damping a biased mean leaves the scale; the bound itself is what is written."""
    out = tmp_path / "submission.csv"
    arguments = ("--dataset", "news-articles", "--algorithm", "bias", "--set", "bias.damping=0", "--out", str(out))
    text = (contest / "train.csv").read_text()
    (contest / "train.csv").write_text("".join(_extreme(line) for line in text.splitlines(keepends=True)))
    assert predict(*arguments) == 0
    ratings = [float(row["Rating"]) for row in read(out)]
    assert min(ratings) == 0 and max(ratings) == 6


def _extreme(line: str) -> str:
    """0 for odd users and articles below 25, else 6, where the line is a rating."""
    user, article, _, row = line.split(",")
    if not user.isdigit():
        return line
    return f"{user},{article},{6 * (int(user) % 2 == 0 or int(article) >= 25)},{row}"


def test_a_calibrated_ranker_answers_too(contest: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    assert predict("--dataset", "news-articles", "--algorithm", "popularity", "--out", str(out)) == 0
    assert len(read(out)) == 60 and all(0 <= float(row["Rating"]) <= 6 for row in read(out))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--dataset", "synthetic-genres"),
            "'synthetic-genres' has no rows to predict; those that have some: news-art",
        ),
        (("--dataset", "no-such"), "unknown data set 'no-such'"),
        (("--algorithm", "all"), "predict takes one algorithm"),
        (("--algorithm", "ncf-mmr"), "ncf-mmr gives no answer to a rating protocol"),
        (("--set", "als.factors=3"), "als is not part of this run"),
        (("--out", "no/such/folder.csv"), "cannot be written: name a file in a folder that exists"),
        (("--seed", "-1"), "'-1' is not a whole number from 0"),
        (("--device", "cuda"), "bias runs on cpu, not on cuda"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    contest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "submission.csv"
    plain = ("--dataset", "news-articles", "--algorithm", "bias", "--out", str(out))
    assert predict(*plain, *arguments) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("recgauge:")]
    assert len(errors) == 1 and message in errors[0]
    assert not out.exists()


def test_an_algorithm_that_breaks_leaves_the_former_file(
    contest: Path, tmp_path: Path, benchmarks: CommandLine
) -> None:
    out, plugin = tmp_path / "submission.csv", tmp_path / "breaking.py"
    out.write_text("of before")
    plugin.write_text(BREAKING)
    arguments = ("--dataset", "news-articles", "--algorithm", "breaks", "--plugin", str(plugin), "--out", str(out))
    done = benchmarks("predict", *arguments)
    assert done.code == 2
    assert done.err.rstrip().endswith("recgauge: breaks: failed: RuntimeError: broken on purpose")
    assert "Traceback" in done.err
    assert out.read_text() == "of before"


def test_a_data_set_that_is_not_here_says_what_belongs_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RECGAUGE_DATA", str(tmp_path))
    assert predict("--dataset", "news-articles", "--algorithm", "bias", "--out", str(tmp_path / "out.csv")) == 1
    assert "proprietary" in capsys.readouterr().err


# --- --drop-train-only -----------------------------------------------------------------------------------------------


def test_drop_train_only_names_the_data_set_and_drops_the_rows(
    contest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ("prepare", "--dataset", "news-articles,synthetic-genres", "--protocol", "holdout")
    assert main([*both, "--drop-train-only"]) == 0
    out = capsys.readouterr().out
    assert "news-articles[drop_train_only=true] · holdout · split 42" in out
    assert "\nsynthetic-genres · holdout · split 42" in out
    asked = {row["User_ID"] for row in read(contest / "test.csv")}
    train = read(contest / "train.csv")
    kept = sum(row["User_ID"] in asked for row in train)
    assert 0 < kept < len(train)
    assert f"data set     {kept} rows" in out
    assert f"rows dropped of users in train only: {len(train) - kept}" in out


def test_drop_train_only_gives_a_table_of_its_own(
    contest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = str(tmp_path / "results")
    run = ("run", "--dataset", "news-articles", "--protocol", "holdout", "--algorithm", "bias", "--results", results)
    assert main([*run, "--drop-train-only"]) == 0
    assert capsys.readouterr().out.startswith("news-articles[drop_train_only=true] · holdout")
    name = "news-articles[drop_train_only=true]"
    assert main(["leaderboard", "--results", results, "--dataset", name]) == 0
    assert [path.name for path in Path(results).iterdir() if path.name != ".locks"] == [name]


@pytest.mark.parametrize("command", ["run", "prepare"])
def test_drop_train_only_without_such_a_data_set_is_an_error(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--dataset", "synthetic-genres", "--drop-train-only"]) == 1
    line = "--drop-train-only: no data set of this run has it: add --dataset news-articles or news-articles-synthetic"
    assert line in capsys.readouterr().err
