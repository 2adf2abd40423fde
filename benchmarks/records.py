"""Records: one JSON file a cell, with a side file of per-user outcomes. Every table is made of these alone.

``<results>/<dataset>/<protocol>/<algorithm>/<key>.json`` beside ``<key>.npz``, for a failure ``<key>.log`` and, where
the model is kept, ``<key>.model/``. These are renamed into place first, then the JSON: a record that can be read is
complete. ``results/README.md``
explains the fields.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import digest, file_digest
from datasets.errors import NotWritableError, UserError

SCHEMA = "recgauge.record/1"

EXTERNAL = "external"
"""Label of a row whose answers were made elsewhere, and the part of its record that says which they were."""


@dataclass(frozen=True)
class Record:
    """One cell's result as it stands on disk. ``data`` follows ``results/record.schema.json``."""

    path: Path
    data: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.data["status"])

    @property
    def split_fingerprint(self) -> str:
        return str(self.data["split"]["fingerprint"])

    @property
    def is_external(self) -> bool:
        """Whether ``score`` made it, from a file of answers; it has no timings then."""
        return EXTERNAL in self.data

    @property
    def cell_identity(self) -> str:
        """Equal for an older and a newer record of the same cell, whatever code made them.

        A tuned row stays the same row when tuning finds another configuration for it.
        """
        algorithm = self.data["algorithm"]
        if "tuned" in algorithm:
            algorithm = {name: algorithm[name] for name in ("name", "label")}
        parts = ("dataset", "protocol", "seed", "device", "threads", "hardware_fingerprint")
        return digest([self.split_fingerprint, algorithm, *(self.data[part] for part in parts)])


def record_path(results: Path, dataset: str, protocol: str, algorithm: str, key: str, tuned: bool = False) -> Path:
    """Where the record of a cell lies; a tuned row has its own, since its key may be the default row's."""
    return results / dataset / protocol / algorithm / f"{key[:32]}{'-tuned' if tuned else ''}.json"


def read(path: Path) -> Record | None:
    """The record at ``path``; None where there is none or it cannot be read."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return Record(path, data) if isinstance(data, dict) and data.get("schema") == SCHEMA else None


@dataclass(frozen=True)
class Wanted:
    """What a record has to hold beside its figures."""

    repeats: int = 1
    throughput: bool = False
    model: bool = False

    def and_what(self, record: Record | None, key: str) -> Wanted:
        """This, and what a ``record`` of the same cell holds already: a cell that runs again loses nothing."""
        if record is None or record.status != "ok" or record.data["key"] != key:
            return self
        timings = record.data["timings"]
        return Wanted(
            max(self.repeats, len(timings["fit_s"])),
            self.throughput or bool(timings.get("throughput")),
            self.model or record.data.get("model") is not None,
        )


def satisfies(record: Record | None, key: str, wanted: Wanted) -> bool:
    """Whether a cell need not run again: it holds at least what is wanted. Failures never count.

    A model that cannot be saved is not waited for: ``memory.model_bytes`` is null then.
    """
    if record is None or record.status != "ok" or record.data["key"] != key:
        return False
    timings = record.data["timings"]
    if timings is None or len(timings["fit_s"]) < wanted.repeats:
        return False
    if wanted.throughput and not timings.get("throughput"):
        return False
    if wanted.model and record.data["memory"]["model_bytes"] is not None and not _has_model(record):
        return False
    return record.path.with_suffix(".npz").exists()


def model_folder(record: Record) -> Path | None:
    """Where the fitted model of a record lies; None where none was kept."""
    model = record.data.get("model")
    return None if model is None else record.path.with_name(model["folder"])


def checked_model(record: Record) -> Path:
    """``model_folder``, whose files are what the record says they are.

    Raises:
        UserError: a file is missing or has changed since.
    """
    folder = model_folder(record)
    if folder is None:
        raise ValueError(f"{record.path.name} keeps no model")
    for name, sha256 in record.data["model"]["sha256"].items():
        file = folder / name
        if not file.is_file() or file_digest(file) != sha256:
            state = "has changed since it was saved (its sha256 differs)" if file.is_file() else "is missing"
            raise UserError(f"{file}: {state}: delete {folder.name}, then 'run --keep-models' makes it again")
    return folder


def _has_model(record: Record) -> bool:
    folder = model_folder(record)
    return folder is not None and all((folder / name).is_file() for name in record.data["model"]["sha256"])


def write(path: Path, data: dict[str, Any], side: Path | None, log: Path | None, model: Path | None = None) -> Record:
    """Put a record in place: model, side file, log, then the JSON, each by a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"schema": SCHEMA, **data, "side": None, "model": None}
    kept = path.with_suffix(".model")
    shutil.rmtree(kept, ignore_errors=True)
    if model is not None:
        files = sorted(file for file in model.iterdir() if file.is_file())
        data["model"] = {"folder": kept.name, "sha256": {file.name: file_digest(file) for file in files}}
        os.replace(model, kept)
    if side is not None:
        data["side"] = {"file": path.with_suffix(".npz").name, "sha256": file_digest(side)}
        os.replace(side, path.with_suffix(".npz"))
    if log is not None:
        os.replace(log, path.with_suffix(".log"))
    temporary = path.with_suffix(f".json.tmp-{os.getpid()}")
    temporary.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
    os.replace(temporary, path)
    return Record(path, data)


def read_all(folder: Path) -> tuple[list[Record], list[Path]]:
    """The newest record of each cell below ``folder``, and the files that are no readable records."""
    newest: dict[str, Record] = {}
    damaged = []
    for path in sorted(folder.glob("*/*/*/*.json")):
        record = read(path)
        if record is None:
            damaged.append(path)
            continue
        known = newest.get(record.cell_identity)
        if known is None or record.data["created"] > known.data["created"]:
            newest[record.cell_identity] = record
    return list(newest.values()), damaged


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an OSError in the block, such as a full disk, into a NotWritableError that names ``folder``."""
    try:
        yield
    except OSError as error:
        raise NotWritableError(folder, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, by a rename; its folder is made.

    Raises:
        NotWritableError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    with writing(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(results: Path, name: str) -> Iterator[Path]:
    """A cell's working folder on the results' own file system, gone afterwards."""
    folder = results / ".scratch" / f"{os.getpid()}-{name}"
    with writing(results):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def sweep_scratch(results: Path) -> None:
    """Remove what a killed harness left behind: scratch folders and temporary files of processes that are gone."""
    leftovers: Iterable[Path] = [*results.glob(".scratch/*"), *results.glob("*/*/*/*.tmp-*")]
    for path in leftovers:
        owner = path.name.rsplit("tmp-", 1)[-1].split("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if sys.platform == "win32":
        raise OSError("Windows is supported through WSL2 only")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
