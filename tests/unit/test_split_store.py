"""Prepared splits: what training files, validation and encoders may hold of the rows that are held out."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from algorithms.types import Task
from benchmarks.split_store import Part, load_train_set, load_validation, prepare, read_meta, union
from datasets.types import Column, Dataset, Interactions
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import EvaluationProtocol

N_USERS, POOL = 12, 10

protocols = pytest.mark.parametrize(
    "protocol",
    [
        LeaveOneOut(LeaveOneOut.Config(negatives=3)),
        Holdout(),
        LeaveOneOut(LeaveOneOut.Config(negatives=3, max_history=2)),
        Holdout(Holdout.Config(max_history=2)),
    ],
    ids=["leave-one-out", "holdout", "leave-one-out-short", "holdout-short"],
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Each user rates five items of a common pool, then one that nobody else rates. Each item has its own genre."""
    users = np.repeat(np.arange(N_USERS), 6)
    items = (users + np.tile(np.arange(6), N_USERS)) % POOL
    items[5::6] = POOL + np.arange(N_USERS)
    n_items = POOL + N_USERS
    rows = Interactions(
        users.astype(np.int32),
        items.astype(np.int32),
        (1 + np.arange(len(users)) % 5).astype(np.float32),
        np.arange(len(users)),
        N_USERS,
        n_items,
    )
    genres = Column("categories", np.array([f"of item {item}" for item in range(n_items)]))
    ids = np.arange(N_USERS), np.arange(n_items)
    return Dataset("made by rule", rows, *ids, (1.0, 5.0), "", "", "", item_columns={"genres": genres})


def rated(rows: Interactions) -> list[tuple[int, int, float]]:
    """Rows sorted by user and item."""
    return sorted(zip(rows.users.tolist(), rows.items.tolist(), rows.values.tolist(), strict=True))


def held_out(part: Part) -> list[tuple[int, int]]:
    """The pairs whose labels decide the figures: positives where items are ranked, else all that are asked."""
    places = part.labels.get("positive_index", np.arange(len(part.question.pair_users)))
    return sorted(zip(part.question.pair_users[places], part.question.pair_items[places], strict=True))


@protocols
def test_training_files_hold_train_and_valid_rows_only(
    protocol: EvaluationProtocol, dataset: Dataset, tmp_path: Path
) -> None:
    split = protocol.split(dataset, 42)
    prepare(tmp_path / "split", dataset, protocol, 42)
    train = load_train_set(tmp_path / "split" / "fit", Task(protocol.task))
    assert rated(train.interactions) == sorted(rated(split.train) + rated(split.valid))


@protocols
def test_validation_fits_on_train_and_asks_about_valid_rows(
    protocol: EvaluationProtocol, dataset: Dataset, tmp_path: Path
) -> None:
    split = protocol.split(dataset, 42)
    prepare(tmp_path / "split", dataset, protocol, 42)
    part = load_validation(tmp_path / "split", Task(protocol.task))
    assert held_out(part) == [(user, item) for user, item, _ in rated(split.valid)]
    assert rated(part.train.interactions) == rated(split.train)
    assert list(zip(*part.seen.nonzero(), strict=True)) == [(user, item) for user, item, _ in rated(split.train)]


@protocols
def test_encoders_know_items_with_a_training_row_only(
    protocol: EvaluationProtocol, dataset: Dataset, tmp_path: Path
) -> None:
    split = protocol.split(dataset, 42)
    prepare(tmp_path / "split", dataset, protocol, 42)
    whole = load_train_set(tmp_path / "split" / "fit", Task(protocol.task))
    part = load_validation(tmp_path / "split", Task(protocol.task))
    for train, rows in ((whole, union(split.train, split.valid)), (part.train, split.train)):
        assert train.item_features is not None
        known = set(rows.items.tolist())
        assert len(known) < rows.n_items
        expected = {f"genres=of item {item}" for item in known} | {"genres=missing"}
        assert set(train.item_features.names) == expected
        assert train.item_features.matrix.shape == (rows.n_items, len(known) + 1)


@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "another", "link", "meta", "count", "deep"])
def test_a_split_that_is_not_as_it_was_written_is_made_anew(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    protocol, target = LeaveOneOut(LeaveOneOut.Config(negatives=3)), tmp_path / "split"
    meta = prepare(target, dataset, protocol, 42)
    assert read_meta(target) == meta
    users, meta_file = target / "validation" / "labels" / "users.npy", target / "meta.json"
    content = users.read_bytes()
    if damage == "cut":
        users.write_bytes(content[:-4])
    elif damage == "changed":
        users.write_bytes(content[:-4] + bytes(4))
    elif damage == "removed":
        users.unlink()
    elif damage == "another":
        np.save(target / "fit" / "values2.npy", np.zeros(1))
    elif damage == "link":
        users.unlink()
        users.symlink_to("nowhere")
    elif damage == "count":
        meta_file.write_text(meta_file.read_text().replace('"n_train": ', '"n_train": 1'))
    else:
        meta_file.write_text("[" * 50_000 if damage == "deep" else "{}")
    assert read_meta(target) is None
    assert prepare(target, dataset, protocol, 42) == meta == read_meta(target)


@pytest.mark.parametrize("whole_seconds", [False, True])
def test_a_copy_of_a_split_with_other_times_is_as_good(dataset: Dataset, tmp_path: Path, whole_seconds: bool) -> None:
    """``cp -r`` gives new times, the layers of an image whole seconds."""
    split, copy = tmp_path / "split", tmp_path / "copy"
    meta = prepare(split, dataset, LeaveOneOut(LeaveOneOut.Config(negatives=3)), 42)
    shutil.copytree(split, copy)
    for path in copy.rglob("*"):
        time_s = int(path.stat().st_mtime) if whole_seconds else 1_000
        os.utime(path, (time_s, time_s))
    assert read_meta(copy) == meta
    users = copy / "fit" / "users.npy"
    users.write_bytes(users.read_bytes()[:-4] + b"\xff\xff\xff\x7f")  # of the same size
    assert read_meta(copy) is None


def test_a_split_that_is_not_there_has_no_meta_data(tmp_path: Path) -> None:
    assert read_meta(tmp_path / "split") is None
