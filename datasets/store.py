"""Loaded data sets, kept as memory-mapped columns: the second load of 20 million rows takes milliseconds.

An entry is ``cache_root()/datasets/<loader and sources>/<state>/``: one ``.npy`` a column and ``dataset.json``. The
state is a digest of what decides the content: size and mtime of each source, the loader's options, the reading code.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.cache import atomic_folder, cache_root, load_arrays, read_sealed, remove, save_arrays, write_sealed
from datasets.errors import NotWritableError
from datasets.loader import Loader
from datasets.types import Column, Dataset, Interactions, Questions, Truth

_META = "dataset.json"


def load_cached(loader: Loader, sources: list[Path]) -> Dataset:
    """``loader.load(sources)``, from the cache where it holds it, else into the cache.

    A cache that cannot be written is no error: one line on stderr, and what it holds stays as it is.
    """
    folder = _folder(loader, sources)
    dataset = _read(folder)
    if dataset is not None:
        return dataset
    dataset = loader.load(sources)
    if _folder(loader, sources) != folder:  # a source changed under the reader's hands
        return dataset
    try:
        _write(folder, dataset)
    except NotWritableError as error:
        with contextlib.suppress(OSError):  # a worker's log lies on the same full disk
            print(f"warning: {dataset.name} is not cached: {error}", file=sys.stderr)
    return dataset


def _folder(loader: Loader, sources: list[Path]) -> Path:
    kind = type(loader)
    paths = [str(path.absolute()) for path in sources]
    stats = [path.stat() for path in sources]
    identity = [f"{kind.__module__}:{kind.__qualname__}", paths]
    state = [[(stat.st_size, stat.st_mtime_ns) for stat in stats], loader.options(), _code(kind)]
    return cache_root() / "datasets" / _digest(identity) / _digest(state)


def _code(kind: type[Loader]) -> str:
    """The version of the reader: a digest of this package and of a plug-in's own module."""
    files = {*Path(__file__).parent.glob("*.py"), Path(inspect.getfile(kind))}
    return _digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


# --- writing and reading an entry ----------------------------------------------------------------------------------


def _write(folder: Path, dataset: Dataset) -> None:
    """Add the entry ``folder``; older ones of the same source go once it is there."""
    rows = dataset.interactions
    with atomic_folder(folder) as scratch:
        arrays = dict(_arrays(dataset))
        save_arrays(scratch, arrays)
        meta = {
            "rows": {"n_users": rows.n_users, "n_items": rows.n_items},
            "columns": [[owner, name, column.kind] for owner, name, column in _columns(dataset)],
            "plain": {
                name: getattr(dataset, name)
                for name in ("name", "rating_scale", "licence", "citation", "fingerprint", "notes")
            },
        }
        write_sealed(scratch, _META, meta)
    for other in folder.parent.iterdir():
        if other != folder and not other.name.startswith("."):  # dotted: another process is writing it
            shutil.rmtree(other, ignore_errors=True)


def _read(folder: Path) -> Dataset | None:
    """The data set in ``folder``; None where there is none, or where a file is not as it was written."""
    if not folder.is_dir():
        return None
    try:
        meta = read_sealed(folder, _META)
        arrays = {name: np.asarray(array) for name, array in load_arrays(folder).items()}
    except (OSError, ValueError):
        remove(folder)
        return None
    columns: dict[str, dict[str, Column]] = {"item": {}, "user": {}}
    for place, (owner, name, kind) in enumerate(meta["columns"]):
        columns[owner][name] = Column(kind, arrays[f"column_{place}"])
    plain = meta["plain"]
    scale = plain.pop("rating_scale")
    return Dataset(
        interactions=Interactions.unchanged(
            **{name: arrays.get(name) for name in ("users", "items", "values", "times")}, **meta["rows"]
        ),
        user_ids=arrays["user_ids"],
        item_ids=arrays["item_ids"],
        rating_scale=tuple(scale) if scale else None,
        item_titles=arrays.get("item_titles"),
        item_columns=columns["item"],
        user_columns=columns["user"],
        truth=Truth.of_arrays(arrays),
        questions=_questions(arrays),
        **plain,
    )


def _arrays(dataset: Dataset) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    rows = dataset.interactions
    yield from (("users", rows.users), ("items", rows.items), ("values", rows.values))
    if rows.times is not None:
        yield "times", rows.times
    yield from (("user_ids", dataset.user_ids), ("item_ids", dataset.item_ids))
    if dataset.item_titles is not None:
        yield "item_titles", dataset.item_titles
    for place, (_, _, column) in enumerate(_columns(dataset)):
        yield f"column_{place}", column.values
    if dataset.truth is not None:
        yield from dataset.truth.arrays().items()
    if dataset.questions is not None:
        yield from ((f"question_{name}", array) for name, array in vars(dataset.questions).items())


def _questions(arrays: dict[str, npt.NDArray[Any]]) -> Questions | None:
    if "question_ids" not in arrays:
        return None
    return Questions(arrays["question_ids"], arrays["question_users"], arrays["question_items"])


def _columns(dataset: Dataset) -> Iterator[tuple[str, str, Column]]:
    for owner, columns in (("item", dataset.item_columns), ("user", dataset.user_columns)):
        for name, column in columns.items():
            yield owner, name, column
