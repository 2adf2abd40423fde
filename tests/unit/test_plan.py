"""From suites and flags to a plan: what wins, what is refused, and what makes another split."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from algorithms.config import resolve_config
from algorithms.registry import ALGORITHMS
from benchmarks import plan
from benchmarks.plan import OwnFileFlags, Preparation
from datasets.errors import MissingDataError, UserError
from datasets.registry import DatasetSpec, make_loader
from protocols import registry as protocols

SUITE = """
summary = "of a test"
budget = "quick"
datasets = ["synthetic-genres"]
protocols = ["leave-one-out"]
algorithms = ["popularity", "als"]
"""


def suite(folder: Path, more: str = "", text: str = SUITE) -> str:
    path = folder / "mine.toml"
    path.write_text(f"{text}{more}\n")
    return str(path)


def ratings(folder: Path, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_text("user,item,rating,time\nann,10,4.0,5\nbob,20,0.5,6\nbob,10,3.0,7\n")
    return path


# --- suites and options ----------------------------------------------------------------------------------------------


def test_a_suite_may_set_options(tmp_path: Path) -> None:
    assert plan.load_suite(suite(tmp_path)).set == ()
    loaded = plan.load_suite(suite(tmp_path, 'set = ["als.factors=4", "leave-one-out.negatives=9"]\nseeds = 3'))
    assert loaded.set == ("als.factors=4", "leave-one-out.negatives=9")
    assert (loaded.algorithms, loaded.seeds, loaded.splits) == (("popularity", "als"), 3, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SUITE + "sets = []", r"mine\.toml: unknown field of a suite 'sets': did you mean 'set'"),
        (SUITE.replace("budget", "# budget"), r"mine\.toml: a suite needs budget$"),
        (SUITE + "set = [", r"mine\.toml: not valid TOML"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.load_suite(suite(tmp_path, text=text))


@pytest.mark.parametrize("path", sorted(plan.SUITES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_suite_of_ours_can_be_planned(path: Path) -> None:
    loaded = plan.load_suite(path.stem)
    overrides = plan.parse_assignments(loaded.set)
    choices = plan.choose_algorithms(loaded.algorithms, overrides)
    assert {choice.spec.name for choice in choices} >= overrides.keys() & ALGORITHMS.keys()
    assert overrides.keys() <= {*ALGORITHMS, *protocols.PROTOCOLS}
    plan.load_limits(loaded.budget)
    plan.choose_datasets(loaded.datasets, OwnFileFlags())
    for name in loaded.protocols:
        resolve_config(protocols.load_class(protocols.spec(name)).Config, overrides.get(name, {}), name)


def test_of_equal_options_the_second_wins() -> None:
    ours = {"als": {"factors": "4", "epochs": "3"}, "ease": {"l2": "9"}}
    asked = {"als": {"factors": "8", "reg": "1"}, "holdout": {"folds": "5"}}
    assert plan.merge_overrides(ours, asked) == {
        "als": {"factors": "8", "epochs": "3", "reg": "1"},
        "ease": {"l2": "9"},
        "holdout": {"folds": "5"},
    }
    assert plan.merge_overrides({}, asked) == plan.merge_overrides(asked, {}) == asked
    assert ours["als"] == {"factors": "4", "epochs": "3"}, "neither is written to"


def test_options_of_what_is_not_chosen_are_left_alone() -> None:
    overrides = plan.merge_overrides({"als": {"factors": "4"}, "ease": {"l2": "9"}}, {"als": {"factors": "8"}})
    (choice,) = plan.choose_algorithms(["als"], overrides)
    assert choice.config["factors"] == 8 and choice.label == "factors=8"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"ease": {"l2": "9"}}, "--set ease.…: ease is not part of this run: add --algorithm ease"),
        ({"holdout": {"folds": "5"}}, "--set holdout.…: holdout is not part of this run: add --protocol holdout"),
        ({"esae": {"l2": "9"}}, "unknown algorithm or protocol 'esae': did you mean 'ease'?"),
    ],
)
def test_an_option_that_was_asked_for_must_be_used(overrides: plan.Overrides, message: str) -> None:
    plan.require_all_used(overrides, overrides)
    with pytest.raises(UserError) as caught:
        plan.require_all_used(overrides, ["als", "leave-one-out"])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["als", "als.factors", "als.factors=", "als=3", ".=3", "als.=3"])
def test_assignments_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"expected name\.option=value"):
        plan.parse_assignments([text])


def test_a_budget_has_limits_that_flags_replace() -> None:
    quick, large = plan.load_limits("quick"), plan.load_limits("large")
    assert large.seconds > quick.seconds and large.memory_bytes <= 6 * 2**30
    assert plan.load_limits("quick", seconds=7.5).memory_bytes == quick.memory_bytes
    assert plan.load_limits("quick", memory_gib=0.5).memory_bytes == 2**29
    assert plan.load_limits("quick", seconds=7.5, memory_gib=1).seconds == 7.5
    with pytest.raises(UserError, match="unknown budget 'larg': did you mean 'large'"):
        plan.load_limits("larg")


# --- data sets -------------------------------------------------------------------------------------------------------


def test_names_and_a_path_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ratings(tmp_path, "My Own.csv")
    monkeypatch.chdir(tmp_path)
    for typed in (str(path), "My Own.csv", "./My Own.csv"):
        specs = plan.choose_datasets([typed, "synthetic-genres", typed], OwnFileFlags())
        assert [spec.name for spec in specs] == ["my-own", "synthetic-genres"]
        assert specs[0].options == {"path": str(path)}, "a worker has another working folder"
        assert not specs[0].fetchable


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    specs = plan.choose_datasets([str(tmp_path / "none.csv")], OwnFileFlags())
    with pytest.raises(MissingDataError, match=r"none\.csv: no such file$"):
        plan.find_datasets(specs, named_by_user=True)


@pytest.mark.parametrize("flag", ["columns", "items", "users", "scale"])
def test_flags_of_a_file_need_one(flag: str) -> None:
    with pytest.raises(UserError, match=rf"^--{flag} x: no file to which it belongs: add --dataset "):
        plan.choose_datasets(["synthetic-genres"], OwnFileFlags(**{flag: "x"}))  # type: ignore[arg-type]


def test_one_file_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one file at a time"):
        plan.choose_datasets([str(ratings(tmp_path)), str(ratings(tmp_path, "other.csv"))], OwnFileFlags())


def test_a_worker_makes_the_same_loader_from_json(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item,genres\n10,A|B\n20,\n")
    flags = OwnFileFlags("user=user,time=time", items=items, scale="0,5")
    (spec,) = plan.choose_datasets([str(ratings(tmp_path))], flags)
    ours = make_loader(spec.target, spec.options)
    theirs = make_loader(spec.target, json.loads(json.dumps(dict(spec.options))))
    assert ours.locate() == theirs.locate() == [tmp_path / "ratings.csv", items]
    assert json.dumps(ours.options()) == json.dumps(theirs.options()), "the key of the cache"
    dataset = theirs.load(theirs.locate())
    assert dataset.fingerprint == ours.load(ours.locate()).fingerprint
    assert dataset.rating_scale == (0.0, 5.0) and list(dataset.item_columns) == ["genres"]


# --- splits ----------------------------------------------------------------------------------------------------------


def prepared(spec: DatasetSpec, protocol: str = "leave-one-out", **options: Any) -> Preparation:
    sources = tuple(make_loader(spec.target, spec.options).locate())
    (found,) = plan.preparations([(spec, sources)], [protocol], [42], {protocol: options})
    return found


def test_all_that_decides_a_split_names_its_folder(tmp_path: Path) -> None:
    path, items = ratings(tmp_path), ratings(tmp_path, "items.csv")

    def of(**flags: Any) -> DatasetSpec:
        (spec,) = plan.choose_datasets([str(path)], OwnFileFlags(**flags))
        return spec

    folders = [
        prepared(of()).folder,
        prepared(of(), max_history="3").folder,
        prepared(of(), max_history="4").folder,
        prepared(of(), "holdout").folder,
        prepared(of(), "holdout", max_history="3").folder,
        prepared(of(columns="user=user")).folder,
        prepared(of(scale="0,5")).folder,
        prepared(of(items=items)).folder,
        prepared(of(users=items)).folder,
    ]
    assert len(set(folders)) == len(folders)
    assert prepared(of(), max_history="none").folder == folders[0]
    os.utime(path, ns=(0, 0))
    assert prepared(of()).folder not in folders


def test_a_split_is_called_by_what_is_not_the_default(tmp_path: Path) -> None:
    (spec,) = plan.choose_datasets([str(ratings(tmp_path))], OwnFileFlags())
    assert prepared(spec).name == "ratings · leave-one-out · split 42"
    assert prepared(spec, max_history="3").name == "ratings · leave-one-out (max_history=3) · split 42"


def test_max_history_goes_to_every_fold(tmp_path: Path) -> None:
    (spec,) = plan.choose_datasets([str(ratings(tmp_path))], OwnFileFlags())
    found = plan.preparations([(spec, ())], ["holdout"], [42], {"holdout": {"folds": "3", "max_history": "2"}})
    assert [each.protocol_config["fold"] for each in found] == [0, 1, 2]
    assert {each.protocol_config["max_history"] for each in found} == {2}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('set = "als.factors=64"', "set = 'als.factors=64': a list of texts is required"),
        ('set = ["al.factors=64"]', "unknown algorithm or protocol 'al': did you mean 'als'"),
        ("seeds = 0", "seeds = 0: a whole number from 1 to 10,000 is required"),
    ],
)
def test_a_suite_with_a_wrong_field_is_refused(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        plan.load_suite(suite(tmp_path, more))


def test_options_in_brackets_come_on_top_and_name_the_row() -> None:
    names = ["als[factors=64,reg=1]", "als:report[factors=8]", "als"]
    first, second, third = plan.choose_algorithms(names, {"als": {"epochs": "3"}})
    assert (first.config["factors"], first.config["reg"], first.config["epochs"]) == (64, 1.0, 3)
    assert first.label == "epochs=3, factors=64, reg=1.0"
    assert second.label == "report, epochs=3, factors=8" and second.config["alpha"] == 1.0
    assert third.label == "epochs=3"


@pytest.mark.parametrize("text", ["als[factors=64", "als[factors]", "als[]", "als[factors=]"])
def test_brackets_that_say_nothing_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="expected name"):
        plan.choose_algorithms([text], {})


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_budgets_of_cells_and_of_studies_are_apart() -> None:
    budget = plan.load_tuning_budget("tune-small")
    assert (budget.trials, budget.seconds) == (20, 90)
    changed = plan.load_tuning_budget("tune-small", trials=3, seconds=0.5, trial_seconds=7, memory_gib=0.5)
    assert (changed.trials, changed.seconds) == (3, 0.5)
    assert (changed.trial.seconds, changed.trial.memory_bytes) == (7, 2**29)
    with pytest.raises(UserError, match=r"unknown budget 'tune-small'.* valid: large, quick"):
        plan.load_limits("tune-small")
    with pytest.raises(UserError, match=r"unknown tuning budget 'quick'.* valid: tune-large, tune-small"):
        plan.load_tuning_budget("quick")


def test_options_that_the_user_set_are_known_to_the_tuner() -> None:
    (choice,) = plan.choose_algorithms(["als[factors=32]"], {"als": {"reg": "1"}})
    assert choice.given == {"reg": "1", "factors": "32"}


HOSTILE_TOML = {
    "not UTF-8": (b"\xff\xfe", "not valid TOML: 'utf-8' codec"),
    "nested": (b"a = " + b"[" * 50_000, "nested too deep"),
    "a key without end": (b"a." * 20_000 + b"b = 1", "a key is longer than 1,000 characters"),
    "too large": (b"#" * (5 << 20), "larger than 4,194,304 bytes"),
    "a huge hexadecimal number": (b"seeds = 0x1" + b"0" * 10_000, "an integer is beyond 64 bits"),
    "a huge number": (b"seeds = 1" + b"0" * 5_000, "not valid TOML: Exceeds the limit"),
}


@pytest.mark.parametrize("case", HOSTILE_TOML)
def test_a_hostile_suite_is_refused_at_once(tmp_path: Path, case: str) -> None:
    content, reason = HOSTILE_TOML[case]
    path = tmp_path / "suite.toml"
    path.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        plan.load_suite(str(path))
    assert str(caught.value).startswith(f"{path}: ") and reason in str(caught.value)
    assert str(caught.value).isprintable() and time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("seeds = 1000000000000", "a whole number from 1 to 10,000"),
        (f"summary2 = '{'x' * 5_000}'", "unknown field of a suite"),
        ('set = ["\\u001b[31mred"]', r"--set \x1b[31mred: expected"),
        (f"repeats = '{'x' * 5_000}'", "repeats = 'xxx"),
    ],
)
def test_a_hostile_field_of_a_suite_is_named_cut_and_escaped(tmp_path: Path, more: str, message: str) -> None:
    path = suite(tmp_path, more)
    with pytest.raises(UserError) as caught:
        plan.load_suite(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and text.isprintable() and len(text) < 500


@pytest.mark.parametrize(
    "text",
    [
        "quick = 1",
        "[quick]\ncell_seconds = 300",
        "[quick]\ncell_seconds = 300\ncell_memory_gib = 'much'",
        "[quick]\ncell_seconds = 0\ncell_memory_gib = 6",
        "[quick]\ncell_seconds = nan\ncell_memory_gib = 6",
        "[quick]\ncell_seconds = true\ncell_memory_gib = 6",
    ],
)
def test_a_damaged_file_of_budgets_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "budgets.toml").write_text(text)
    monkeypatch.setattr(plan, "BUDGETS", tmp_path / "budgets.toml")
    with pytest.raises(UserError, match=r"budgets\.toml: quick: cell_\w+ = .* is required|unknown budget 'quick'"):
        plan.load_limits("quick")
