"""Prepared splits on disk: what the model may see, what it is asked, and what only harness code may know.

``cache/splits/<request>/`` holds ``meta.json`` and the folders ``fit`` (train ∪ valid), ``question`` and ``labels``,
and under ``validation/`` the same three for validation: train alone, and what is asked about the validation rows.
Arrays are plain ``.npy`` files, so that a worker maps them into memory. The folder's name is the hash of the request
(source files, options, split seed and the code that makes the split), so changed code or data never meets a stale
folder. Where the data set's truth is known, ``truth`` holds it, for the oracle alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from algorithms.types import Task, TrainSet
from datasets.cache import atomic_folder, load_arrays, read_sealed, remove, save_arrays, write_sealed
from datasets.features import encode
from datasets.types import Column, Dataset, Features, Interactions, Truth
from protocols.types import Arrays, EvaluationProtocol, Question, Split

VALIDATION = "validation"

_TRUTH = "truth"

_FEATURES = ("item_features", "user_features")


@dataclass(frozen=True, eq=False)
class Part:
    """What a worker needs to fit and evaluate once: on validation rows, or on test rows."""

    train: TrainSet
    question: Question
    labels: Arrays
    seen: sparse.csr_matrix


def prepare(target: Path, dataset: Dataset, protocol: EvaluationProtocol, split_seed: int) -> dict[str, Any]:
    """Split ``dataset`` and write the folder ``target``, in place of what is damaged there; returns its meta data."""
    split = protocol.split(dataset, split_seed)
    meta = _meta(dataset, split, split_seed)
    if read_meta(target) is None:
        remove(target)
    with atomic_folder(target) as folder:
        _save_part(folder, split, dataset, protocol)
        (folder / VALIDATION).mkdir()
        _save_part(folder / VALIDATION, split.for_validation(), dataset, protocol)
        if dataset.truth is not None:
            (folder / _TRUTH).mkdir()
            save_arrays(folder / _TRUTH, dataset.truth.arrays())
        write_sealed(folder, "meta.json", meta)
    return meta


def read_meta(target: Path) -> dict[str, Any] | None:
    """The meta data of a prepared split; None when it is not there, or not as it was written."""
    if not target.is_dir():
        return None
    try:
        return read_sealed(target, "meta.json")
    except (OSError, ValueError):
        return None


def load_train_set(folder: Path, task: Task) -> TrainSet:
    """The training files as copy-on-write maps, with every page touched so that no fit pays for reading the disk."""
    arrays = load_arrays(folder, mmap_mode="c")
    for array in arrays.values():
        array.sum()
    meta = json.loads((folder / "train.json").read_text())
    features = {name: _features(arrays, meta, name) for name in _FEATURES}
    scale = tuple(meta["rating_scale"]) if meta["rating_scale"] else None
    return TrainSet(_interactions(arrays, meta), task, **features, rating_scale=scale)


def load_rows(folder: Path) -> Interactions:
    """The training rows sorted by (user, item), as read-only maps."""
    meta = json.loads((folder / "train.json").read_text())
    return _interactions(load_arrays(folder, mmap_mode="r"), meta)


def load_seen(folder: Path) -> sparse.csr_matrix:
    """(n_users, n_items) CSR of the training rows, read anew so that nothing an adapter wrote can reach it."""
    return load_rows(folder).matrix()


def load_question(target: Path) -> Question:
    """The unlabelled pairs and users of a prepared split."""
    return Question(**load_arrays(target / "question", mmap_mode="c"))


def load_labels(target: Path) -> Arrays:
    """What only harness code may know."""
    return load_arrays(target / "labels", mmap_mode="r")


def load_validation(target: Path, task: Task) -> Part:
    """The validation part of a prepared split; it knows train and valid rows only."""
    folder = target / VALIDATION
    train = load_train_set(folder / "fit", task)
    return Part(train, load_question(folder), load_labels(folder), load_seen(folder / "fit"))


def load_truth(target: Path) -> Truth | None:
    """What the data were drawn from, where that is known; for the oracle alone."""
    return Truth.of_arrays(load_arrays(target / _TRUTH))


def union(first: Interactions, second: Interactions) -> Interactions:
    """The rows of both, sorted by (user, item): an order that does not tell which rows came second."""
    users = np.concatenate([first.users, second.users])
    items = np.concatenate([first.items, second.items])
    order = np.lexsort((items, users))
    times = None
    if first.times is not None and second.times is not None:
        times = np.concatenate([first.times, second.times])[order]
    values = np.concatenate([first.values, second.values])[order]
    return Interactions(users[order], items[order], values, times, first.n_users, first.n_items)


def _save_part(folder: Path, split: Split, dataset: Dataset, protocol: EvaluationProtocol) -> None:
    for name in ("fit", "question", "labels"):
        (folder / name).mkdir()
    _save_train_set(folder / "fit", union(split.train, split.valid), dataset)
    save_arrays(folder / "question", vars(protocol.question(split)))
    save_arrays(folder / "labels", protocol.labels(split))


def _save_train_set(folder: Path, rows: Interactions, dataset: Dataset) -> None:
    arrays: Arrays = {"users": rows.users, "items": rows.items, "values": rows.values}
    if rows.times is not None:
        arrays["times"] = rows.times
    meta: dict[str, Any] = {"n_users": rows.n_users, "n_items": rows.n_items, "rating_scale": dataset.rating_scale}
    sides: tuple[tuple[str, dict[str, Column], Any, int], ...] = (
        ("item_features", dataset.item_columns, rows.items, rows.n_items),
        ("user_features", dataset.user_columns, rows.users, rows.n_users),
    )
    for name, columns, trained, size in sides:
        features = encode(columns, np.bincount(trained, minlength=size) > 0) if columns else None
        if features is not None:
            meta[name] = {"names": features.names, "shape": features.matrix.shape}
            arrays |= {f"{name}_{part}": getattr(features.matrix, part) for part in ("data", "indices", "indptr")}
    save_arrays(folder, arrays)
    (folder / "train.json").write_text(json.dumps(meta))


def _interactions(arrays: Arrays, meta: dict[str, Any]) -> Interactions:
    columns: dict[str, Any] = {name: arrays.get(name) for name in ("users", "items", "values", "times")}
    return Interactions(**columns, n_users=meta["n_users"], n_items=meta["n_items"])


def _features(arrays: Arrays, meta: dict[str, Any], name: str) -> Features | None:
    if name not in meta:
        return None
    parts = tuple(arrays[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return Features(sparse.csr_matrix(parts, shape=tuple(meta[name]["shape"])), tuple(meta[name]["names"]))


def _meta(dataset: Dataset, split: Split, split_seed: int) -> dict[str, Any]:
    rows = dataset.interactions
    return {
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "n_users": rows.n_users,
            "n_items": rows.n_items,
            "n_rows": len(rows),
            "notes": dataset.notes,
        },
        "split": {
            "seed": split_seed,
            "fingerprint": split.fingerprint,
            "n_train": len(split.train),
            "n_valid": len(split.valid),
            "n_test": len(split.test),
            "notes": split.notes,
        },
        "truth": None if dataset.truth is None else _digest(dataset.truth),
    }


def _digest(truth: Truth) -> str:
    digest = hashlib.sha256()
    for name, array in truth.arrays().items():
        digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
