"""A fitted model on disk: ``model.json`` says what it is, ``model.safetensors`` holds its arrays. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms.config import resolve_config
from datasets.errors import UserError

MAX_FACTS = 2**20
"""Bytes of ``model.json``: names, options and sizes."""

Arrays = dict[str, npt.NDArray[Any]]


def write(folder: Path, algorithm: type, config: Any, facts: Mapping[str, object], arrays: Arrays) -> None:
    """Write a model's class name, config, facts (JSON) and arrays into ``folder``, which is made."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # safetensors stores the buffer as it lies in memory, so a transposed view would come back scrambled.
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "model.safetensors")
    description = {"algorithm": algorithm.__name__, "config": asdict(config), **facts}
    (folder / "model.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read(folder: Path, algorithm: Any) -> tuple[Any, dict[str, Any], Arrays]:
    """(config, facts, arrays) of a model of ``algorithm``; a UserError when there is none in ``folder``."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        facts = _facts(folder / "model.json")
        arrays = load_file(folder / "model.safetensors")
    except (OSError, ValueError, RecursionError, SafetensorError) as problem:
        raise UserError(f"{folder}: no readable model ({problem}); write one with `run --keep-models`") from problem
    if facts["algorithm"] != algorithm.__name__:
        raise UserError(f"{folder}: holds a model of {facts['algorithm']!r}, not of {algorithm.__name__}")
    return resolve_config(algorithm.Config, facts["config"], algorithm.__name__), facts, arrays


def _facts(path: Path) -> dict[str, Any]:
    """What every model says of itself, whoever wrote it.

    Raises:
        ValueError: it is too large to be that, or says something else.
    """
    if path.stat().st_size > MAX_FACTS:
        raise ValueError(f"{path.name} is larger than {MAX_FACTS:,} bytes")
    facts = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"{path.name} is no JSON object")
    for name, kind in (("algorithm", str), ("config", dict), ("task", str), ("n_users", int), ("n_items", int)):
        if not isinstance(facts.get(name), kind):
            raise ValueError(f"{path.name} lacks {name}, {kind.__name__} is required")
    if not (0 < facts["n_users"] < 2**31 and 0 < facts["n_items"] < 2**31):
        raise ValueError(f"{path.name}: {facts['n_users']} users, {facts['n_items']} items")
    return facts


def csr_arrays(name: str, matrix: sparse.csr_matrix) -> Arrays:
    """A CSR matrix as four named arrays."""
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": matrix.indices,
        f"{name}.indptr": matrix.indptr,
        f"{name}.shape": np.array(matrix.shape),
    }


def csr_matrix(name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> sparse.csr_matrix:
    """The CSR matrix that ``csr_arrays`` took apart."""
    parts = (arrays[f"{name}.data"], arrays[f"{name}.indices"], arrays[f"{name}.indptr"])
    return sparse.csr_matrix(parts, shape=tuple(arrays[f"{name}.shape"]))
