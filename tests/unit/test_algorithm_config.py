"""Options are declared once, cast through their types, and refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algorithms import registry
from algorithms.config import AtLeast, Option, describe, resolve_config, shown
from algorithms.space import Choice, IntUniform, LogUniform
from datasets.errors import UserError


@dataclass(frozen=True)
class Config:
    factors: Annotated[int, "how long", AtLeast(1)] = 50
    reg: Annotated[float, "how strict", AtLeast(0)] = 0.1
    biased: Annotated[bool, "with biases"] = True
    by: Annotated[Literal["count", "mean"], "which"] = "count"
    cap: Annotated[float | None, "at most"] = None


@pytest.mark.parametrize(
    ("option", "spellings", "value"),
    [
        ("factors", [500, 500.0, "500", "500.0", "5e2"], 500),
        ("reg", [10, 10.0, "10", "1e1"], 10.0),
        ("biased", [False, "false", "False"], False),
        ("by", ["mean"], "mean"),
        ("cap", [2, 2.0, "2"], 2.0),
        ("cap", [None, "none", "None"], None),
    ],
)
def test_every_spelling_is_the_same_config(option, spellings, value):
    resolved = [getattr(resolve_config(Config, {option: spelling}), option) for spelling in spellings]
    assert [(type(result), result) for result in resolved] == [(type(value), value)] * len(spellings)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"factor": 3}, "unknown option of als 'factor': did you mean 'factors'? valid: biased, by, cap, factors, reg"),
        ({"factors": "many"}, "als.factors must be a whole number, got 'many'"),
        ({"factors": 2.5}, "als.factors must be a whole number, got 2.5"),
        ({"factors": 0}, "als.factors must be at least 1, got 0"),
        ({"factors": True}, "als.factors must be a whole number, got True"),
        ({"reg": "nan"}, "als.reg must be a finite number, got 'nan'"),
        ({"reg": float("inf")}, "als.reg must be a finite number, got inf"),
        ({"biased": "yes"}, "als.biased must be true or false, got 'yes'"),
        ({"by": "median"}, "als.by must be count | mean, got 'median'"),
        ({"cap": "big"}, "als.cap must be a finite number or none, got 'big'"),
        ({"factors": 10**400}, f"als.factors must be a whole number, got 1{'0' * 79}"),
        ({"reg": 10**400}, f"als.reg must be a finite number, got 1{'0' * 79}"),
    ],
)
def test_a_wrong_option_is_one_line(overrides, message):
    with pytest.raises(UserError) as error:
        resolve_config(Config, overrides, "als")
    assert str(error.value) == message


@dataclass(frozen=True)
class Tower:
    layers: Annotated[tuple[int, ...], "how wide", AtLeast(1)] = (64, 32)
    rates: Annotated[tuple[float, ...] | None, "how often"] = None


@pytest.mark.parametrize(
    "spelling",
    ["64-32-16", "64.0-32-1.6e1", [64, 32, 16], ["64", 32.0, "16"], (64, 32, 16), (64.0, 32.0, 16.0)],
)
def test_every_spelling_of_several_numbers_is_the_same_config(spelling):
    layers = resolve_config(Tower, {"layers": spelling}).layers
    assert layers == (64, 32, 16) and {type(layer) for layer in layers} == {int} and type(layers) is tuple


@pytest.mark.parametrize("spelling", [8, 8.0, "8", [8], (8,)])
def test_one_number_may_stand_for_a_tuple_of_one(spelling):
    assert resolve_config(Tower, {"layers": spelling}).layers == (8,)


@pytest.mark.parametrize("layers", [None, "", "64-", "-64", "64--32", "64-x", "64,32", [64, 2.5], [64, [32]], True])
def test_what_is_no_tuple_of_numbers_is_one_line(layers):
    with pytest.raises(UserError) as error:
        resolve_config(Tower, {"layers": layers}, "ncf")
    required = "a whole number, or several joined by '-' such as 64-32-16"
    assert str(error.value) == f"ncf.layers must be {required}, got {layers!r}"


@pytest.mark.parametrize("layers", ["64-0-16", [0], 0, (64, 0)])
def test_each_number_of_a_tuple_has_the_bound(layers):
    with pytest.raises(UserError, match=r"ncf\.layers must be at least 1, got "):
        resolve_config(Tower, {"layers": layers}, "ncf")


@given(st.lists(st.integers(1, 10**9), min_size=1), st.none() | st.lists(st.floats(0, 1e300), min_size=1))
def test_tuples_survive_a_record_and_the_command_line(layers, rates):
    config = resolve_config(Tower, {"layers": layers, "rates": rates})
    assert resolve_config(Tower, json.loads(json.dumps(asdict(config)))) == config
    assert resolve_config(Tower, {"layers": shown(config.layers), "rates": rates}) == config


def test_a_tuple_that_may_be_none():
    assert resolve_config(Tower, {"rates": "none"}).rates is None
    assert resolve_config(Tower, {"rates": "0.5-1"}).rates == (0.5, 1.0)
    assert [option.type for option in describe(Tower)] == ["int-int-…", "float-float-… or none"]


@given(st.integers(1, 10**9), st.floats(0, 1e300))
def test_numbers_survive_text(factors, reg):
    assert resolve_config(Config, {"factors": str(factors), "reg": repr(reg)}) == Config(factors, reg)


def test_describe():
    assert describe(Config)[0] == Option("factors", "int", 50, "how long")
    assert describe(Config)[3].type == "count | mean"
    assert describe(Config)[4].type == "float or none"


def test_an_option_without_meaning_is_refused():
    @dataclass(frozen=True)
    class Bare:
        factors: int = 3

    with pytest.raises(TypeError, match="factors needs Annotated"):
        describe(Bare)


def test_spaces_know_their_values():
    assert 10 in LogUniform(10, 5_000) and 9 not in LogUniform(10, 5_000)
    assert 3 in IntUniform(1, 3) and 4 not in IntUniform(1, 3)
    assert "a" in Choice(("a",)) and "b" not in Choice(("a",))


def test_an_unknown_algorithm_lists_the_valid_names():
    with pytest.raises(UserError, match="did you mean 'lightfm'\\? valid: als, "):
        registry.spec("lihgtfm")


def test_a_plug_in_is_registered_once(monkeypatch):
    monkeypatch.setattr(registry, "ALGORITHMS", dict(registry.ALGORITHMS))
    entry = registry.AlgorithmSpec("mine", "plugin:Mine", "", (), {})
    registry.register(entry)
    assert registry.spec("mine") is entry
    with pytest.raises(UserError, match="'mine' is already registered"):
        registry.register(entry)


def test_the_registry_imports_the_standard_library_only():
    code = "import sys, algorithms.registry; print(*(m for m in ('numpy', 'scipy', 'implicit') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
