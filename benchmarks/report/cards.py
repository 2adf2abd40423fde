"""What the report says about each data set, algorithm and cell, beside its figures."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from algorithms import registry as algorithms
from algorithms.config import describe, shown
from benchmarks.audit import card as audit_card
from benchmarks.environment import without_paths
from benchmarks.records import Record
from datasets import registry as datasets
from datasets.errors import UserError
from datasets.store import load_cached

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
    """Terms, sizes and notes of each recorded data set; its audit where the data is at hand. Nothing is fetched."""
    first = {record.data["dataset"]["name"]: record.data["dataset"] for record in records}
    return [_of_dataset(data) for _, data in sorted(first.items())]


def _of_dataset(data: dict[str, Any]) -> Card:
    name = data["name"]
    facts = {label: f"{data[field]:,}" for label, field in _SIZES.items()}
    facts["fingerprint"] = data["fingerprint"]
    texts = {}
    spec = datasets.DATASETS.get(name)
    if spec is not None:
        facts["licence"] = spec.licence
        audit = _audit(spec, facts)
        texts = {"audit": audit} if audit else {}
    return Card(name, spec.summary if spec else "a file of the user's own, or one with other options", facts, texts)


_SIZES = {"ratings": "n_rows", "users": "n_users", "items": "n_items"}


def _audit(spec: datasets.DatasetSpec, facts: dict[str, str]) -> str | None:
    """What the data is like, with its long tail and its traps; adds what only the data itself knows to ``facts``."""
    loader = datasets.make_loader(spec.target, spec.options)
    if not loader.at_hand():
        return None
    try:
        dataset = load_cached(loader, loader.locate())
    except UserError:
        return None
    facts |= {"licence": dataset.licence, "citation": dataset.citation} if dataset.citation else {}
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
        "hardware": f"{data['hardware']['cpu']}, {data['hardware']['cores']} cores",
    }
    texts = {
        "configuration": _pretty(data["algorithm"]["config"]),
        "environment": _pretty(data["environment"]),
    }
    log = record.path.with_suffix(".log")
    if data["status"] != "ok" and log.is_file():
        lines = without_paths(log.read_text(errors="replace")).splitlines()
        texts["log"] = "\n".join(lines[-LAST_LINES:])
    return Card(name, data["status"], facts, texts)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True)
