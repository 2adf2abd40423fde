"""Tuned configurations: which file may be used where, what is refused, and what a budget would have bought."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from studies import found

from algorithms.registry import ALGORITHMS, AlgorithmSpec, register
from benchmarks import plan
from benchmarks.plan import AlgorithmChoice, Preparation
from benchmarks.tuned import expected_best, for_split, path_of, read, write
from datasets.errors import UserError
from datasets.registry import spec as dataset_spec
from protocols.leave_one_out import LeaveOneOut
from protocols.registry import spec as protocol_spec

META = {"dataset": {"fingerprint": "d" * 64}, "split": {"fingerprint": "a" * 64}}
OPTIONS = asdict(LeaveOneOut.Config())
ALS = AlgorithmChoice(ALGORITHMS["als"], "tuned", {})


def preparation(**changes: Any) -> Preparation:
    dataset, protocol = dataset_spec("synthetic-genres"), protocol_spec("leave-one-out")
    return replace(Preparation(dataset, (), protocol, OPTIONS, 42), **changes)


# --- which file may be used where ------------------------------------------------------------------------------------


def test_on_its_own_split_the_winner_is_used_and_the_study_kept(tmp_path: Path) -> None:
    write(tmp_path, found())
    choice = for_split(ALS, preparation(), META, tmp_path)
    assert choice.unusable is None and choice.label == "tuned"
    (default,) = plan.choose_algorithms(["als"], {})
    assert choice.config == {**default.config, "factors": 16, "reg": 0.5}
    assert choice.tuned is not None and len(choice.tuned["sha256"]) == 64
    assert (choice.tuned["study"], choice.tuned["values"]) == ("a study", [0.25, None, 0.5])


@pytest.mark.parametrize(
    ("study", "asked", "reason"),
    [
        (
            {"split_fingerprint": "b" * 64},
            {},
            "tuned on split bbbbbbbbbbbb…, this is aaaaaaaaaaaa…: tune again: python -m benchmarks tune --dataset "
            "synthetic-genres --protocol leave-one-out --algorithm als",
        ),
        ({"dataset_fingerprint": "b" * 64}, {}, "tuned on data set bbbbbbbbbbbb…, this is dddddddddddd…: tune again"),
        ({}, {"split_seed": 43}, "tuned on split seed 42, whose validation rows may be test rows of split seed 43: "),
        (
            {},
            {"protocol_config": {**OPTIONS, "negatives": 9}},
            "tuned with leave-one-out.negatives=99, this is 9: tune again: python -m benchmarks tune --dataset "
            "synthetic-genres --protocol leave-one-out --set leave-one-out.negatives=9 --algorithm als",
        ),
        ({"protocol_config": {**OPTIONS, "gone": 1}}, {}, "tuned with leave-one-out.gone=1, this is None: tune again"),
    ],
)
def test_on_any_other_split_it_is_not_used(
    tmp_path: Path, study: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    write(tmp_path, found(**study))
    choice = for_split(ALS, preparation(**asked), META, tmp_path)
    assert choice.unusable is not None and choice.unusable.startswith(reason)


def test_without_a_file_the_reason_says_what_to_do(tmp_path: Path) -> None:
    choice = for_split(ALS, preparation(), META, tmp_path)
    assert choice.unusable is not None and choice.unusable.startswith("not tuned: python -m benchmarks tune --dataset ")
    nothing = for_split(AlgorithmChoice(ALGORITHMS["random"], "tuned", {}), preparation(), META, tmp_path)
    assert nothing.unusable == "random has nothing to tune"


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("factors = 16", "gone = 16", "unknown option of als 'gone'"),
        ("factors = 16", "factors = 0", "als.factors must be at least 1"),
        ('algorithm = "als"', 'algorithm = "ease"', "it is of ease on synthetic-genres under leave-one-out"),
        ("recgauge.tuned/1", "recgauge.tuned/0", "schema must be 'recgauge.tuned/1'"),
        ("value = 0.5", "", "value is missing"),
        ("value = 0.5", "value = 0.5\nmore = 1", "more is no field of it"),
        ("value = 0.5", 'value = "much"', "value cannot be 'much'"),
        ("value = 0.5", "value = nan", "value cannot be nan"),
        ("split_seed = 42", "split_seed = true", "split_seed cannot be True"),
        ('values = [0.25, "none", 0.5]', 'values = [0.25, "x", 0.5]', "values cannot be "),
        ("value = 0.5", "value =", "Invalid value"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, old: str, new: str, reason: str) -> None:
    path = write(tmp_path, found())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        for_split(ALS, preparation(), META, tmp_path)
    assert str(caught.value).startswith(f"{path}: no valid tuned configuration: {reason}")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = path_of(tmp_path, "a", "b", "c")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"c\.toml: no valid tuned configuration: [^\n]*$"):
        read(path)


# --- the flag --------------------------------------------------------------------------------------------------------


def test_each_algorithm_is_taken_with_each_preset_that_it_has() -> None:
    chosen = plan.choose_algorithms(["als[factors=4]", "ease"], {}, ["report", "default"])
    assert [(choice.spec.name, choice.label) for choice in chosen] == [
        ("als", "report, factors=4"),
        ("als", "factors=4"),
        ("ease", "default"),
    ]
    tuned = plan.choose_algorithms(["all"], {}, ["tuned"])
    assert [choice.spec.name for choice in tuned] == list(ALGORITHMS)
    assert {choice.label for choice in tuned} == {"tuned"}
    assert [choice.label for choice in plan.choose_algorithms(["als", "als:tuned"], {})] == ["default", "tuned"]


@pytest.mark.parametrize(
    ("names", "presets", "message"),
    [
        (["als"], ["tunde"], "unknown preset 'tunde': did you mean 'tuned'? valid: default, report, "),
        (["ease"], ["report"], "--config report: no algorithm of this run has a preset of this name"),
        (["als:report"], ["tuned"], "als:report names its own preset: leave out either that or --config"),
        (["als[factors=4]"], ["tuned"], "als.factors is set, and with another option als is no longer tuned: leave "),
    ],
)
def test_what_the_flag_cannot_mean_is_refused(names: list[str], presets: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan.choose_algorithms(names, {"ease": {"l2": "9"}}, presets)
    assert str(caught.value).startswith(message)


def test_the_name_of_the_preset_is_reserved() -> None:
    with pytest.raises(UserError, match="'mine': the preset 'tuned' is what tuning finds"):
        register(AlgorithmSpec("mine", "a:B", "", (), {}, presets={"default": {}, "tuned": {}}))
    assert "mine" not in ALGORITHMS


# --- expected best ---------------------------------------------------------------------------------------------------


def test_expected_best_by_hand() -> None:
    """Of 1 and 3, two draws miss the 3 once in four: (1 + 3 · 3) / 4. For errors the 1 is the best: (3 · 1 + 3) / 4."""
    assert expected_best([3.0, 1.0], True) == pytest.approx([2.0, 2.5])
    assert expected_best([3.0, 1.0], False) == pytest.approx([2.0, 1.5])


def test_a_trial_without_a_value_counts_as_the_worst() -> None:
    assert expected_best([0.5, None, 0.2], True) == expected_best([0.2, 0.5, 0.2], True)
    assert expected_best([0.5, None, 0.2], False) == expected_best([0.5, 0.5, 0.2], False)
    assert expected_best([None, None], True) == [] == expected_best([], True)


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"a = " + b"[" * 50_000, b"a." * 20_000 + b"b = 1", b"a." * 400 + b"b = 1", b"value = 1" + b"0" * 5_000],
)
def test_a_hostile_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "als.toml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"als\.toml: no valid tuned configuration: ") as caught:
        read(path)
    assert str(caught.value).isprintable()


def test_a_number_beyond_floats_is_no_value(tmp_path: Path) -> None:
    path = write(tmp_path, found())
    path.write_text(path.read_text().replace("value = 0.5", "value = 1" + "0" * 400))
    with pytest.raises(UserError, match="an integer is beyond 64 bits"):
        read(path)
