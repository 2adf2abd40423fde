"""Tuned configurations: one TOML file for each data set × protocol × algorithm, and when it may be used.

``tune`` writes them, ``run --config tuned`` reads them. ``results/README.md`` explains the fields.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from algorithms.config import resolve_config
from benchmarks import records
from benchmarks.environment import file_digest
from benchmarks.plan import FIRST_SPLIT_SEED, AlgorithmChoice, Preparation, read_toml
from datasets.errors import UserError

SCHEMA = "recgauge.tuned/1"

_NOTHING = "none"
"""TOML has no null: None is written as the command line takes it."""

_IN_RECORD = (
    *("study", "metric", "value", "default_value", "trials", "seconds", "bound_by", "budget", "values"),
    *("sampler", "pruner", "seed", "split_fingerprint"),
)
"""What a record keeps of the study behind its configuration."""


@dataclass(frozen=True)
class Tuned:
    """The winner of one study, and what finding it cost.

    Attributes:
        protocol_config: every option of the protocol.
        config: every option of the winner.
        value: its figure on the validation rows, in units of ``metric``, the protocol's ``objective``.
        default_value: the same of trial 0, the default configuration; None where that trial gave none.
        trials: how many were ``complete``, ``pruned`` and ``failed``.
        seconds: spent in fit and scoring; imports and overheads are not counted.
        bound_by: which cap of the budget ended the study, ``trials`` or ``seconds``.
        budget: its ``name``, ``trials`` and ``seconds``.
        values: validation figure of every counted trial, in their order; None where it failed or was pruned.
        packages: versions by distribution name.
    """

    dataset: str
    protocol: str
    protocol_config: dict[str, Any]
    algorithm: str
    config: dict[str, Any]
    value: float
    metric: str
    default_value: float | None
    study: str
    trials: dict[str, int]
    seconds: float
    bound_by: str
    budget: dict[str, Any]
    values: list[float | None]
    dataset_fingerprint: str
    split_fingerprint: str
    split_seed: int
    sampler: str
    pruner: str
    seed: int
    packages: Mapping[str, str | None]
    commit: str | None


# --- files -----------------------------------------------------------------------------------------------------------


def path_of(root: Path, dataset: str, protocol: str, algorithm: str) -> Path:
    """``root/<dataset>/<protocol>/<algorithm>.toml``."""
    return root / dataset / protocol / f"{algorithm}.toml"


def write(root: Path, tuned: Tuned) -> Path:
    """Write a tuned configuration into its place by a rename, so that a reader never meets half of it.

    Raises:
        NotWritableError: the folder cannot be written.
        ValueError: a number is not finite.
    """
    path = path_of(root, tuned.dataset, tuned.protocol, tuned.algorithm)
    text = _to_toml({"schema": SCHEMA, **dataclasses.asdict(tuned)})
    records.write_text(path, text)
    return path


def read(path: Path) -> Tuned:
    """The tuned configuration at ``path``; tuples come back as lists.

    Raises:
        UserError: the file is no valid tuned configuration, in one line with its path.
    """
    try:
        fields = read_toml(path)
        fields = {name: _from_toml(value) for name, value in fields.items()}
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(path, str(error)) from error
    if fields.pop("schema", None) != SCHEMA:
        raise _invalid(path, f"schema must be '{SCHEMA}'")
    hints = get_type_hints(Tuned)
    for wrong in sorted(fields.keys() ^ hints.keys()):
        raise _invalid(path, f"{wrong} is {'missing' if wrong in hints else 'no field of it'}")
    for name, hint in hints.items():
        if not _is_of_type(fields[name], hint):
            raise _invalid(path, f"{name} cannot be {fields[name]!r:.80}")
    return Tuned(**fields)


def _invalid(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: no valid tuned configuration: {reason}: tune again, or remove the file")


def _to_toml(fields: dict[str, Any]) -> str:
    """Plain values first, then one table for each dictionary, as TOML wants it."""
    plain = [_toml_line(name, value) for name, value in fields.items() if not isinstance(value, dict)]
    tables = [
        [f"\n[{name}]", *(_toml_line(*item) for item in value.items())]
        for name, value in fields.items()
        if isinstance(value, dict)
    ]
    return "\n".join([*plain, *(line for table in tables for line in table)]) + "\n"


def _toml_line(name: str, value: Any) -> str:
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_value(name)
    return f"{key} = {_toml_value(value)}"


def _toml_value(value: Any) -> str:
    """JSON's text of a text, number, truth value or list is TOML too, but for the character DEL."""
    values = [_NOTHING if each is None else each for each in value] if isinstance(value, list | tuple) else value
    text = json.dumps(_NOTHING if values is None else values, ensure_ascii=False, allow_nan=False)
    return text.replace("\x7f", "\\u007f")


def _from_toml(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _from_toml(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_from_toml(each) for each in value]
    return None if value == _NOTHING else value


def _is_of_type(value: Any, hint: Any) -> bool:
    kind, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if kind is UnionType:
        return any(_is_of_type(value, each) for each in inner)
    if kind is list:
        return isinstance(value, list) and all(_is_of_type(each, inner[0]) for each in value)
    if kind in (dict, Mapping):
        return isinstance(value, dict) and all(_is_of_type(each, inner[1]) for each in value.values())
    if hint in (int, float):
        kinds = int if hint is int else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return value is None if hint is NoneType else isinstance(value, hint)


# --- use -------------------------------------------------------------------------------------------------------------


def for_split(choice: AlgorithmChoice, preparation: Preparation, meta: dict[str, Any], root: Path) -> AlgorithmChoice:
    """A choice of the preset ``tuned`` with what was tuned for this very split, or the reason why nothing may be used.

    On any other split the validation rows that tuning has seen may be test rows, so that the figures would leak.

    Args:
        meta: of the prepared split, with the fingerprints of data set and split.
        root: the folder of tuned configurations.

    Raises:
        UserError: the file is damaged, or its configuration no longer fits the algorithm's options.
    """
    place = (preparation.dataset.name, preparation.protocol.name, choice.spec.name)
    path = path_of(root, *place)
    tune = _command(choice, preparation)
    if not path.exists():
        if not choice.adapter.SPACE:
            return dataclasses.replace(choice, unusable=f"{choice.spec.name} has nothing to tune")
        return dataclasses.replace(choice, unusable=f"not tuned: {tune}")
    tuned = read(path)
    if (tuned.dataset, tuned.protocol, tuned.algorithm) != place:
        raise _invalid(path, f"it is of {tuned.algorithm} on {tuned.dataset} under {tuned.protocol}")
    try:
        config = resolve_config(choice.adapter.Config, tuned.config, choice.spec.name)
    except UserError as error:
        raise _invalid(path, str(error)) from error
    return dataclasses.replace(
        choice,
        config=dataclasses.asdict(config),
        tuned={**{name: getattr(tuned, name) for name in _IN_RECORD}, "sha256": file_digest(path)},
        unusable=_mismatch(tuned, preparation, meta, f"tune again: {tune}"),
    )


def _command(choice: AlgorithmChoice, preparation: Preparation) -> str:
    """What to type to tune for this split; it goes into records, which hold no path of a user's own file."""
    dataset = "FILE" if "path" in preparation.dataset.options else shlex.quote(preparation.dataset.name)
    protocol = preparation.protocol.name
    options = "".join(f" --set {protocol}.{option}" for option in preparation.changed)
    return (
        f"python -m benchmarks tune --dataset {dataset} --protocol {protocol}{options} --algorithm {choice.spec.name}"
    )


def _mismatch(tuned: Tuned, preparation: Preparation, meta: dict[str, Any], again: str) -> str | None:
    """What tells the split that was tuned on from the one to be measured, and what to do; None where they are one."""
    ours = preparation.protocol_config
    for option in sorted(ours.keys() | tuned.protocol_config.keys()):
        theirs = tuned.protocol_config.get(option)
        if theirs != ours.get(option):
            return f"tuned with {preparation.protocol.name}.{option}={theirs}, this is {ours.get(option)}: {again}"
    if tuned.split_seed != preparation.split_seed:
        what_to_do = again if preparation.split_seed == FIRST_SPLIT_SEED else "leave out --splits"
        return (
            f"tuned on split seed {tuned.split_seed}, whose validation rows may be test rows of split seed "
            f"{preparation.split_seed}: {what_to_do}"
        )
    for what, theirs in (("dataset", tuned.dataset_fingerprint), ("split", tuned.split_fingerprint)):
        if theirs != meta[what]["fingerprint"]:
            name = "data set" if what == "dataset" else what
            return f"tuned on {name} {theirs[:12]}…, this is {meta[what]['fingerprint'][:12]}…: {again}"
    return None


# --- what a budget would have bought ---------------------------------------------------------------------------------


def expected_best(values: Sequence[float | None], higher_is_better: bool) -> list[float]:
    """Expected best validation figure after n = 1 … N trials (Dodge et al. 2019).

    The best of n draws, with replacement, from the N values: Σ v · (P(V ≤ v)^n - P(V < v)^n), for errors with ≥ and >.
    Trials are taken as independent draws, which holds for random search; for a guided search it tells how the
    values are spread, not the order in which they were found.

    Args:
        values: (N,) of all counted trials. A trial without a value, failed or pruned, cost its share of the budget and
            was not the best: it counts as the worst value that there is.

    Returns:
        (N,) figures, for n = 1 … N; empty where no trial has a value.
    """
    complete = [value for value in values if value is not None]
    if not complete:
        return []
    worst = min(complete) if higher_is_better else max(complete)
    worst_first = sorted((worst if value is None else value for value in values), reverse=not higher_is_better)
    total = len(values)
    trials = np.arange(1, total + 1)[:, None]
    share = np.arange(total + 1) / total
    chances = np.diff(share**trials, axis=1)
    best: list[float] = (chances @ np.array(worst_first)).tolist()
    return best
