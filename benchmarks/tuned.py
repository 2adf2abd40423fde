"""A tuned configuration as a file: ``<folder>/<data set>/<protocol>/<algorithm>.toml``. Stub: JSON for now."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Tuned:
    """The winner of one study, and what it took to find it."""

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
    packages: dict[str, str]
    commit: str | None


def path_of(root: Path, dataset: str, protocol: str, algorithm: str) -> Path:
    """Where the tuned configuration of a cell lies."""
    return root / dataset / protocol / f"{algorithm}.toml"


def write(root: Path, tuned: Tuned) -> Path:
    """Put the file in place by a rename."""
    path = path_of(root, tuned.dataset, tuned.protocol, tuned.algorithm)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".toml.tmp-{os.getpid()}")
    temporary.write_text(json.dumps(dataclasses.asdict(tuned)))
    os.replace(temporary, path)
    return path


def read(path: Path) -> Tuned:
    """What ``write`` wrote."""
    return Tuned(**json.loads(path.read_text()))
