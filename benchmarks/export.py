"""``split export``: one split as files, for models that are made elsewhere. The held-out items stay sealed.

Of the prepared split only ``fit`` and ``question`` are read, and the same two of its validation part: what an adapter
gets. ``labels`` is not opened. Rows are sorted by user and item, so that no place in a file tells anything.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from benchmarks import split_store
from benchmarks.cli import OK
from benchmarks.environment import file_digest, require_our_datasets_package
from benchmarks.one_split import OneSplit, one_split
from datasets.cache import atomic_folder
from datasets.errors import UserError
from datasets.types import Column, Dataset, IntArray, Interactions
from protocols.types import Question

SCHEMA = "recgauge.split-export/1"

_ABOUT = {
    "train": "all that a model may learn from; part: train or valid. Tune on these two, then fit on both",
    "validation_candidates": "what to rank for the rows whose part is valid, made like the candidates",
    "candidates": "the question: give every pair a score, higher is better. Nothing may be learned from it",
    "pairs": "the question: predict the rating of every pair. Nothing may be learned from it",
    "items": "the whole catalogue, with what is known of it; categories are joined by |",
    "users": "what is known of users",
}


def export(options: argparse.Namespace) -> int:
    """Write one split as a new folder of files in raw ids, and say what they are."""
    require_our_datasets_package()
    _require_free(options.out)
    split = one_split(options, "split export")
    tables = _tables(split)
    out = options.out.absolute()
    with atomic_folder(out) as folder:
        files = {}
        for name, table in tables.items():
            path = folder / f"{name}.{options.format}"
            _WRITERS[options.format](table, path)
            about = {"rows": len(table), "columns": table.column_names, "about": _ABOUT[name]}
            files[path.name] = {**about, "sha256": file_digest(path)}
        about = _about(split, files, options.format)
        (folder / "split.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(_readme(about), encoding="utf-8")
    print(f"{options.out}: {split.preparation.name}")
    for name, file in files.items():
        size = (out / name).stat().st_size / 2**20
        print(f"  {name:26} {file['rows']:>12,} rows  {size:8.1f} MiB")
    print(
        f"  README.md says what they are and what to hand back; split fingerprint {split.meta['split']['fingerprint']}"
    )
    return OK


def pairs_name(task: str) -> str:
    """The file with the pairs that are asked, without its ending."""
    return "candidates" if task == "ranking" else "pairs"


def _require_free(out: Path) -> None:
    """Before minutes of preparation, not after."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: is there already: name a new or an empty folder")
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise UserError(f"--out {out}: cannot be written: name a folder below one that you may write to")


# --- what is written -------------------------------------------------------------------------------------------------


def _tables(split: OneSplit) -> dict[str, pa.Table]:
    """Every file's table, by its name without the ending."""
    dataset, folder, task = split.dataset(), split.preparation.folder, split.preparation.protocol.task
    rows = split_store.load_rows(folder / "fit")
    validation = folder / split_store.VALIDATION
    tables = {"train": _rows(rows, split_store.load_rows(validation / "fit"), dataset)}
    if task == "ranking":  # of ratings, the rows themselves are the question
        tables["validation_candidates"] = _pairs(split_store.load_question(validation), dataset)
    tables[pairs_name(task)] = _pairs(split_store.load_question(folder), dataset)
    titles = {} if dataset.item_titles is None else {"title": Column("category", dataset.item_titles)}
    tables["items"] = _described("item", dataset.item_ids, {**titles, **dataset.item_columns})
    if dataset.user_columns:
        tables["users"] = _described("user", dataset.user_ids, dataset.user_columns)
    return tables


def _rows(rows: Interactions, train: Interactions, dataset: Dataset) -> pa.Table:
    """``rows`` are train ∪ valid; those that are not in ``train`` are validation rows."""
    keys, of_train = (each.users.astype(np.int64) * each.n_items + each.items for each in (rows, train))
    columns = {
        **_ids(rows.users, rows.items, dataset),
        "rating": np.asarray(rows.values),
        **({} if rows.times is None else {"time": np.asarray(rows.times)}),
        "part": pc.if_else(pa.array(np.isin(keys, of_train)), "train", "valid"),
    }
    return pa.table(columns)


def _pairs(question: Question, dataset: Dataset) -> pa.Table:
    return pa.table(_ids(question.pair_users, question.pair_items, dataset))


def _ids(users: IntArray, items: IntArray, dataset: Dataset) -> dict[str, pa.Array]:
    """Raw ids by inner indices."""
    inner = {"user": (dataset.user_ids, users), "item": (dataset.item_ids, items)}
    return {name: pa.array(ids).take(pa.array(np.asarray(indices))) for name, (ids, indices) in inner.items()}


def _described(owner: str, ids: npt.NDArray[np.generic], columns: dict[str, Column]) -> pa.Table:
    """One row an id; what is missing is empty."""
    arrays = [pa.array(ids), *(pa.array(column.values, from_pandas=True) for column in columns.values())]
    return pa.table(arrays, names=[owner, *columns])


def _write_csv(table: pa.Table, path: Path) -> None:
    with path.open("wb") as file:
        file.write((",".join(table.column_names) + "\n").encode())  # Arrow would put quotes around every name
        options = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
        pa.csv.write_csv(table, file, options)


def _write_parquet(table: pa.Table, path: Path) -> None:
    pa.parquet.write_table(table, path)


_WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {"csv": _write_csv, "parquet": _write_parquet}


# --- what is said of it ----------------------------------------------------------------------------------------------


def _about(split: OneSplit, files: dict[str, Any], form: str) -> dict[str, Any]:
    """``split.json``. Of the test rows it has their number alone: the counts in a split's notes are made of labels."""
    dataset, preparation = split.dataset(), split.preparation
    of_split = {name: split.meta["split"][name] for name in ("seed", "fingerprint", "n_train", "n_valid", "n_test")}
    return {
        "schema": SCHEMA,
        "dataset": {
            **{name: split.meta["dataset"][name] for name in ("name", "fingerprint", "n_users", "n_items")},
            "rating_scale": dataset.rating_scale,
            "licence": dataset.licence,
            "citation": dataset.citation,
        },
        "protocol": {
            "name": preparation.protocol.name,
            "config": preparation.protocol_config,
            "task": preparation.protocol.task,
            "primary": preparation.protocol.primary,
            "sentence": split.protocol.explain(),
        },
        "split": of_split,
        "files": files,
        "hand_back": _hand_back(preparation.protocol.task, form),
        "command": _command(split),
    }


def _hand_back(task: str, form: str) -> list[str]:
    asked = f"{pairs_name(task)}.{form}"
    scores = (
        "A file of scores: CSV or TSV with the header line user,item,score, Parquet with these columns, or lines of "
        f"TREC (user Q0 item rank score tag). One row for every pair of {asked}, in any order, each score finite, with "
        "all its digits. "
    )
    if task == "rating":
        return [scores + "The score is the predicted rating: it is clipped to the scale, and not calibrated."]
    return [
        scores + "Equal scores count as what they are worth on average over random orders.",
        "Or a file of lists, or besides (--lists, as every TREC file of lists): user,item,rank with ranks 1, 2, … up "
        f"to 10 at least, for every user of {asked}, made of all items of items.{form} but for the user's own of "
        f"train.{form}. Figures against the full catalogue need it; equal scores at its end are yours to order.",
    ]


def _command(split: OneSplit) -> str:
    """What to type to have a file scored; it goes into a file, which holds no path of a user's own data."""
    preparation = split.preparation
    dataset = "FILE" if "path" in preparation.dataset.options else shlex.quote(preparation.dataset.name)
    options = "".join(f" --set {preparation.protocol.name}.{option}" for option in preparation.changed)
    return (
        f"python -m benchmarks score scores.csv --name my-model --dataset {dataset} "
        f"--protocol {preparation.protocol.name}{options} --split-seed {preparation.split_seed}"
    )


def _readme(about: dict[str, Any]) -> str:
    dataset, split, protocol = about["dataset"], about["split"], about["protocol"]
    files = "\n".join(
        f"* `{name}` ({file['rows']:,} rows: {', '.join(file['columns'])}): {file['about']}."
        for name, file in about["files"].items()
    )
    asked = pairs_name(protocol["task"])
    back = "\n".join(f"* {text}" for text in about["hand_back"])
    source = f"Licence: {dataset['licence']}. It holds for these files too: they are rows of the data set.\n"
    source += f"Cite: {dataset['citation']}\n" if dataset["citation"] else ""
    return f"""\
# One split of {dataset["name"]}: {protocol["name"]}, split seed {split["seed"]}

{protocol["sentence"]}

{split["n_train"]:,} train, {split["n_valid"]:,} valid and {split["n_test"]:,} test rows, {dataset["n_users"]:,} users,
{dataset["n_items"]:,} items. Split fingerprint `{split["fingerprint"]}`.
`split.json` has all of this for programs.

{files}

Rows are sorted by user and item. The held-out part is not here, and must not be looked up in the data set: fit on
`train`, tune on its part `valid`, and use `{asked}` for nothing but the answers. How often an item stands in it, or
that an item without a training row is there, is no knowledge that a recommender has.

## What to hand back

{back}

```
{about["command"]}
```

A file with a missing, repeated or other pair, an unknown id or a score that is not finite is refused, with its line.

## The data

{source}"""
