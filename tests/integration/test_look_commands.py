"""``recommend``, ``similar`` and ``audience`` on models of the real MovieLens, saved and loaded by real workers."""

from __future__ import annotations

import csv
import json
import shlex
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from conftest import NETWORKS, CommandLine, Finished

from algorithms.registry import ALGORITHMS

QUICK = [name for name in ALGORITHMS if name not in NETWORKS]
PRESETS = [*QUICK, "als:report", "lightfm:report"]
ONE_OF_EACH_FRAMEWORK = ["keras-mf", "ncf"]
USERS = (1, 95, 414, 610)
REFERENCE = {  # what the report that named ALS found like Forrest Gump
    "Shawshank Redemption, The (1994)",
    "Silence of the Lambs, The (1991)",
    "Pulp Fiction (1994)",
    "Braveheart (1995)",
    "Schindler's List (1993)",
    "Jurassic Park (1993)",
    "Matrix, The (1999)",
    "Apollo 13 (1995)",
    "Seven (a.k.a. Se7en) (1995)",
}


@pytest.fixture(scope="module")
def kept(movielens: Path, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Models of all that is fitted within seconds, under leave-one-out."""
    benchmarks = CommandLine(tmp_path_factory.mktemp("kept") / "results")
    data = ("--keep-models", "--compact", "--dataset", "ml-latest-small")
    ended = benchmarks.run(*data, "--algorithm", ",".join(PRESETS), timeout=600)
    assert ended.code == 0, ended.err
    return benchmarks


@pytest.fixture(scope="module")
def rated(movielens: Path) -> dict[int, dict[int, float]]:
    """user -> item -> rating, read from the file without any code of ours."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    with (movielens / "ratings.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            found[int(row["userId"])][int(row["movieId"])] = float(row["rating"])
    return found


def look(benchmarks: CommandLine, *arguments: str) -> Finished:
    return benchmarks(*arguments, "--results", str(benchmarks.results), COLUMNS="80")


def report(benchmarks: CommandLine, *arguments: str) -> dict[str, Any]:
    ended = look(benchmarks, *arguments, "--format", "json")
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_als_finds_like_forrest_gump_what_its_report_found(kept: CommandLine) -> None:
    found = report(kept, "similar", "--item", "forrest gump", "--algorithm", "als:report")
    assert found["item"] == {"item": 356, "title": "Forrest Gump (1994)"}
    (als,) = found["models"]
    assert len(als["list"]) == 10 and als["by"] == "cosine of item factors"
    assert len({entry["title"] for entry in als["list"]} & REFERENCE) >= 7
    values = [entry["value"] for entry in als["list"]]
    assert values == sorted(values, reverse=True) and 0 < values[-1] <= values[0] < 1


@pytest.mark.parametrize("preset", ["lightfm", "lightfm:report"])
def test_lightfm_finds_like_the_second_godfather_the_first_and_goodfellas(kept: CommandLine, preset: str) -> None:
    (lightfm,) = report(kept, "similar", "--item", "1221", "--algorithm", preset)["models"]
    assert {"Godfather, The (1972)", "Goodfellas (1990)"} <= {entry["title"] for entry in lightfm["list"]}


@pytest.mark.parametrize("user", USERS)
def test_nothing_is_recommended_that_the_user_has_rated(
    kept: CommandLine, rated: dict[int, dict[int, float]], user: int
) -> None:
    found = report(kept, "recommend", "--user", str(user), "-n", "50")
    assert {model["algorithm"] for model in found["models"]} == set(QUICK)
    for model in found["models"]:
        items = {entry["item"] for entry in model["list"]}
        assert len(items) == 50 and not items & rated[user].keys(), model["name"]


@pytest.mark.parametrize(
    "names",
    [
        ONE_OF_EACH_FRAMEWORK,
        pytest.param([name for name in NETWORKS if name not in ONE_OF_EACH_FRAMEWORK], marks=pytest.mark.slow),
    ],
    ids=["one of each framework", "other networks"],
)
def test_networks_recommend_nothing_that_the_user_has_rated(
    benchmarks: CommandLine, movielens: Path, rated: dict[int, dict[int, float]], names: list[str]
) -> None:
    """After an epoch; each framework in a worker of its own, all in one command."""
    short = [word for name in names for word in ("--set", f"{name}.epochs=1", "--set", f"{name}.patience=0")]
    chosen = ("--algorithm", ",".join(names), *short)
    ended = benchmarks.run("--keep-models", "--compact", "--dataset", "ml-latest-small", *chosen, timeout=600)
    assert ended.code == 0, ended.err
    found = report(benchmarks, "recommend", "--user", "95", *chosen)
    assert [model["algorithm"] for model in found["models"]] == names
    for model in found["models"]:
        items = {entry["item"] for entry in model["list"]}
        assert len(items) == 10 and not items & rated[95].keys(), model["name"]


def test_likes_and_lowest_ratings_stand_above_the_lists(kept: CommandLine, rated: dict[int, dict[int, float]]) -> None:
    found = report(kept, "recommend", "--user", "95", "--algorithm", "als")
    ratings = rated[95]
    assert found["likes_from"] == 4
    assert found["n_likes"] == sum(rating >= 4 for rating in ratings.values())
    assert found["user"] == {"user": 95, "ratings": len(ratings)} and found["trained"] == len(ratings) - 1
    for part, wanted in (("likes", sorted(ratings.values())[::-1][:10]), ("lowest", sorted(ratings.values())[:10])):
        assert [entry["rating"] for entry in found[part]] == wanted
        assert all(ratings[entry["item"]] == entry["rating"] for entry in found[part])
    strict = report(kept, "recommend", "--user", "95", "--algorithm", "als", "--likes", "5")
    assert strict["n_likes"] == sum(rating == 5 for rating in ratings.values())


def test_an_audience_has_not_rated_the_item(kept: CommandLine, rated: dict[int, dict[int, float]]) -> None:
    found = report(kept, "audience", "--item", "7", "-n", "15")
    assert found["item"]["title"] == "Sabrina (1995)"
    for model in found["models"]:
        if model["algorithm"] == "popularity":
            assert model["list"] == [] and "same score" in model["reason"]
            continue
        assert len(model["list"]) == 15, model["name"]
        assert not any(7 in rated[entry["user"]] for entry in model["list"])
        values = [entry["value"] for entry in model["list"]]
        assert values == sorted(values, reverse=True)


def test_who_compares_no_items_says_so(kept: CommandLine) -> None:
    ended = look(kept, "similar", "--item", "forrest gump")
    assert ended.code == 0
    assert "compares no items" in " ".join(ended.out.split())
    found = {model["algorithm"]: model for model in report(kept, "similar", "--item", "356")["models"]}
    assert {name for name, model in found.items() if model["reason"]} == {"popularity", "random", "bias"}
    assert all(model["by"] and len(model["list"]) == 10 for model in found.values() if not model["reason"])


@pytest.mark.parametrize(
    "command",
    [
        ("recommend", "--user", "414"),
        ("recommend", "--user", "95", "--algorithm", "als,lightfm,ease"),
        ("similar", "--item", "star wars"),
        ("similar", "--item", "7", "--algorithm", "ease"),
        ("audience", "--item", "7", "-n", "15"),
    ],
)
def test_tables_fit_eighty_columns(kept: CommandLine, command: tuple[str, ...]) -> None:
    ended = look(kept, *command)
    assert ended.code == 0 and max(map(len, ended.out.splitlines())) <= 80
    assert "…" not in ended.out  # nothing is cut


def test_of_several_titles_the_one_taken_and_the_next_are_named(kept: CommandLine) -> None:
    found = report(kept, "similar", "--item", "star wars", "--algorithm", "ease")
    assert found["item"]["title"] == "Star Wars: Episode IV - A New Hope (1977)"
    assert found["or"][0]["title"] == "Star Wars: Episode V - The Empire Strikes Back (1980)"
    shown = " ".join(look(kept, "similar", "--item", "star wars", "--algorithm", "ease").out.split())
    assert "'star wars' may also be: Star Wars: Episode V - The Empire Strikes Back (1980), id 1196" in shown


def test_an_item_without_a_training_row_is_left_to_who_knows_metadata(kept: CommandLine, movielens: Path) -> None:
    item = held_out_of_its_only_user(movielens)
    for command in ("similar", "audience"):
        found = report(kept, command, "--item", item)
        assert (found["ratings"], found["trained"]) == (1, 0)
        reasons = {model["algorithm"]: model["reason"] for model in found["models"]}
        assert reasons["content-cosine"] is None and reasons["lightfm-hybrid"] is None
        assert all("fitted on no row of this item" in reasons[name] for name in ("als", "lightfm", "ease", "item-knn"))


def held_out_of_its_only_user(movielens: Path) -> str:
    """An item that one user has rated, who has rated nothing later; of equal times the larger id is held out."""
    latest: dict[str, tuple[int, int]] = {}
    counts: Counter[int] = Counter()
    with (movielens / "ratings.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            place = (int(row["timestamp"]), int(row["movieId"]))
            latest[row["userId"]] = max(latest.get(row["userId"], place), place)
            counts[place[1]] += 1
    return str(next(item for _, item in latest.values() if counts[item] == 1))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("recommend", "--user", "9999"), "no such user in ml-latest-small; the nearest ids: 610, 609, 608"),
        (("recommend", "--user", "ann"), "ids are whole numbers, such as 1, 2, 3"),
        (("similar", "--item", "1076"), "no such id or title in ml-latest-small; the nearest ids: 1077,"),
        (("similar", "--item", "shawshank hudsucker"), "the nearest titles: "),
        (("similar", "--item", "\x1b[2J"), "--item \\x1b[2J: no such id or title"),
        (("recommend", "--user", "1", "--algorithm", "als,ncf"), "no saved model of ncf · ml-latest-small · leave-one"),
        (
            ("recommend", "--user", "1", "--seed", "1"),
            "run --keep-models --dataset ml-latest-small --protocol leave-one",
        ),
        (("recommend", "--user", "1", "--algorithm", "alz"), "did you mean 'als'?"),
        (("recommend", "--user", "1", "--protocol", "leave-one-out,holdout"), "2 splits asked for"),
        (("recommend", "--algorithm", "als"), "the following arguments are required: --user"),
    ],
)
def test_mistakes_are_one_line(kept: CommandLine, command: tuple[str, ...], expected: str) -> None:
    ended = look(kept, *command)
    errors = [line for line in ended.err.splitlines() if not line.startswith("prepare ")]
    assert ended.code == 1 and ended.out == "" and len(errors) == 1
    assert expected in errors[0]


def test_the_command_that_is_offered_makes_the_model(benchmarks: CommandLine, movielens: Path) -> None:
    command = ("recommend", "--user", "7", "--algorithm", "popularity[by=mean]", "--held-out", "random", "--seed", "1")
    missing = look(benchmarks, *command)
    offered = missing.err.splitlines()[-1].partition(": python -m benchmarks ")[2]
    assert missing.code == 1 and offered
    assert benchmarks(*shlex.split(offered)).code == 0
    assert report(benchmarks, *command)["models"][0]["name"] == "popularity (by=mean)"


def test_a_changed_or_missing_file_of_a_model_is_refused(benchmarks: CommandLine, movielens: Path) -> None:
    benchmarks.run("--keep-models", "--dataset", "ml-latest-small", "--algorithm", "popularity,bias")
    changed, missing = sorted(benchmarks.results.glob("*/*/*/*.model/model.safetensors"))
    assert (changed.parts[-3], missing.parts[-3]) == ("bias", "popularity")
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    ended = look(benchmarks, "recommend", "--user", "1", "--algorithm", "bias")
    assert ended.code == 1 and ended.out == "" and ended.err.count("\n") == 1
    assert f"{changed}: has changed since it was saved (its sha256 differs)" in ended.err
    missing.unlink()
    ended = look(benchmarks, "recommend", "--user", "1", "--algorithm", "popularity")
    assert ended.code == 1 and ended.out == "" and ended.err.count("\n") == 1


HOSTILE = """\
user,item,time
ann,a,1
ann,b,2
ann,c,3
bob,a,4
bob,b,5
bob,d,6
cid,b,7
cid,d,8
cid,e,9
"""


def test_titles_cannot_control_the_terminal(benchmarks: CommandLine, tmp_path: Path) -> None:
    """Also where there are no ratings, no numbers as ids and no metadata."""
    ratings, items = tmp_path / "log.csv", tmp_path / "items.csv"
    ratings.write_text(HOSTILE)
    items.write_text("item,title\n" + "".join(f"{item},title [red]\u202e{item}\n" for item in "abcde"))
    data = ("--dataset", str(ratings), "--items", str(items), "--algorithm", "popularity,als")
    assert benchmarks.run("--keep-models", *data).code == 0
    for command in (("recommend", "--user", "ann"), ("similar", "--item", "a"), ("audience", "--item", "e")):
        ended = look(benchmarks, *command, *data)
        assert ended.code == 0, ended.err
        assert "\u202e" not in ended.out and "[red]\\u202e" in ended.out
    likes = report(benchmarks, "recommend", "--user", "ann", *data)
    assert (likes["likes_from"], likes["n_likes"], likes["lowest"]) == (None, 3, [])
    assert "the nearest ids: ann" in look(benchmarks, "recommend", "--user", "anna", *data).err
