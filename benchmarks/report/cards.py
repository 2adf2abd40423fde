"""What the report says about each data set, algorithm and cell, beside its figures."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from algorithms import registry as algorithms
from algorithms.config import describe, shown
from benchmarks import plan
from benchmarks.audit import card as audit_card
from benchmarks.environment import without_paths
from benchmarks.listing import citation_of_module
from benchmarks.records import Record, log_tail
from datasets import registry as datasets
from datasets.errors import UserError
from datasets.loader import Loader
from datasets.store import load_cached

AUDITED_ROWS = 2_000_000
LAST_LINES = 40
"""Of a failed cell's log, which ends with the reason."""


@dataclass(frozen=True)
class Card:
    """A heading, facts by name, and texts that keep their lines."""

    name: str
    summary: str
    facts: dict[str, str]
    texts: dict[str, str]


def of_datasets(records: Sequence[Record]) -> list[Card]:
    """Terms, sizes and notes of each recorded data set, its audit where that data is at hand; nothing is fetched."""
    recorded = {(record.data["dataset"]["name"], record.data["dataset"]["fingerprint"]): record for record in records}
    return [_of_dataset(record.data["dataset"]) for _, record in sorted(recorded.items(), key=lambda each: each[0])]


def _of_dataset(data: dict[str, Any]) -> Card:
    facts = {label: f"{data[field]:,}" for label, field in _SIZES.items()}
    facts["fingerprint"] = data["fingerprint"]
    facts |= {name.replace("_", " "): f"{count:,}" for name, count in data["notes"].items() if count}
    try:
        spec = plan.dataset_spec(data["name"])
    except UserError:
        return Card(data["name"], "a file of the user's own, or of a plug-in", facts, {})
    loader = datasets.make_loader(spec.target, spec.options)
    facts |= {"licence": spec.licence, "citation": citation_of_module(loader)}
    return Card(
        data["name"], spec.summary, {k: v for k, v in facts.items() if v}, {"audit": _audit(spec, loader, data)}
    )


_SIZES = {"ratings": "n_rows", "users": "n_users", "items": "n_items"}


def _audit(spec: datasets.DatasetSpec, loader: Loader, data: dict[str, Any]) -> str:
    """What the data is like, with its long tail and its traps, or why that is not said."""
    again = f"not audited here: python -m benchmarks list {data['name']}"
    generated = loader.generated()
    if data["n_rows"] > AUDITED_ROWS:
        return f"{again} (it is large)"
    if (spec.fetchable and not loader.at_hand()) or (generated is not None and not generated.is_dir()):
        return f"{again} (it is not on this machine)"
    try:
        dataset = load_cached(loader, loader.locate())
    except UserError as error:
        return f"{again} ({error})"
    if dataset.fingerprint != data["fingerprint"]:
        return f"{again} (what is here has another fingerprint)"
    return "\n".join(line.strip() for line in audit_card(dataset))


def of_algorithms(records: Iterable[Record]) -> list[Card]:
    """What each recorded algorithm is: its paper, options, search space and presets."""
    names = sorted({record.data["algorithm"]["name"] for record in records} & algorithms.ALGORITHMS.keys())
    return [_of_algorithm(algorithms.spec(name)) for name in names]


def _of_algorithm(spec: algorithms.AlgorithmSpec) -> Card:
    adapter = algorithms.load_class(spec)
    facts = {
        "tasks": ", ".join(f"{task}: {support}" for task, support in spec.support.items()),
        "devices": ", ".join(spec.devices),
        "packages": ", ".join(spec.packages),
    }
    options = [f"{o.name} = {shown(o.default)}: {o.meaning}" for o in describe(adapter.Config)]
    space = [f"{name}: {distribution}" for name, distribution in adapter.SPACE.items()]
    presets = [
        f"{name}: {', '.join(f'{key}={shown(value)}' for key, value in values.items()) or 'the defaults'}"
        for name, values in spec.presets.items()
    ]
    listed = {"options": options, "search space": space, "presets": presets}
    texts = {"about": inspect.getdoc(adapter) or "", **{name: "\n".join(lines) for name, lines in listed.items()}}
    return Card(spec.name, spec.summary, facts, {name: text for name, text in texts.items() if text})


def of_cells(records: Sequence[Record]) -> list[Card]:
    """Configuration, environment, fingerprints and, where it failed, the log of each record."""
    ordered = sorted(records, key=lambda record: str(record.path))
    return [_of_cell(record) for record in ordered]


def _of_cell(record: Record) -> Card:
    data = record.data
    parts = (data["dataset"]["name"], data["protocol"]["name"], data["algorithm"]["name"], data["algorithm"]["label"])
    name = " · ".join((*parts, f"split {data['split']['seed']}", f"seed {data['seed']}"))
    facts = {
        "status": data["status"] + (f": {data['reason']}" if data["reason"] else ""),
        "created": data["created"],
        "record": record.path.name,
        "device": f"{data['device']}, {data['threads']} thread{'s' if data['threads'] != 1 else ''}",
        "split fingerprint": record.split_fingerprint,
        "data fingerprint": data["dataset"]["fingerprint"],
        "hardware": ", ".join(
            [data["hardware"]["cpu"], f"{data['hardware']['cores']} cores", *data["hardware"]["gpus"]]
        ),
        "hardware fingerprint": data["hardware_fingerprint"],
        "protocol": _line(data["protocol"]["config"]),
        "configuration": _line(data["algorithm"]["config"]),
        "limits": _line(data["limits"] or {}),
        "environment": _line(data["environment"]),
    }
    if data["algorithm"].get("tuned"):
        facts["tuned by"] = data["algorithm"]["tuned"]["study"]
    texts = {}
    if log := log_tail(record):
        texts["log"] = "\n".join(without_paths(log).splitlines()[-LAST_LINES:])
    return Card(name, data["status"], facts, texts)


def _line(values: Mapping[str, Any]) -> str:
    """``factors=50, layers=[64, 32]``; what is nested is JSON."""
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    )
