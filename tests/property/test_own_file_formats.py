"""A valid table is one data set, one split and one set of figures, whatever its rows' order, delimiter or format."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.base import Recommender
from algorithms.bias import Bias
from algorithms.popularity import Popularity
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.split_store import union
from datasets.errors import DataError
from datasets.own_file import OwnFile
from datasets.types import Dataset
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import EvaluationProtocol

Row = Sequence[Any]

# Letters that need quotes or care in some format, and integers, so that a column may be all integers; but no "::",
# which nothing can quote, and no ":" at an end, which would make one with the delimiter.
texts = st.text(st.sampled_from("ab,;|\t\"' é7:"), min_size=1, max_size=4).filter(
    lambda text: "::" not in text and text.strip(":") == text
)
ids = texts | st.integers(-3, 12).map(str)
values = st.sampled_from([0.1, 0.5, 3.3, 5.0])
tables = st.lists(st.tuples(ids, ids, values, st.integers(-5, 5)), min_size=1, max_size=20).filter(
    lambda rows: len({row[0] for row in rows}) > 1
)
NAMES = ("user", "item", "rating", "time")

# Few users with long histories, so that there is something to split.
long_tables = st.lists(
    st.tuples(st.sampled_from(["ann", "b,b", "7"]), st.integers(-3, 12).map(str), values, st.integers(-5, 5)),
    min_size=12,
    max_size=30,
).filter(lambda rows: len({row[0] for row in rows}) > 1)


def load(path: Path) -> Dataset:
    return OwnFile(path).load([path])


def text_of(names: Sequence[str], rows: list[Row], delimiter: str, quoting: int) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([names, *rows])  # type: ignore[arg-type]
    return text.getvalue()


def write_double_colons(path: Path, names: Sequence[str], rows: list[Row]) -> Path:
    path.write_text("".join("::".join(map(str, row)) + "\n" for row in [names, *rows]), newline="")
    return path


def write_parquet(path: Path, names: Sequence[str], rows: list[Row]) -> Path:
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@settings(deadline=None)  # six files are written and read
@given(tables, st.data())
def test_one_table_is_one_data_set(folder: Path, rows: list[Row], data: st.DataObject) -> None:
    found = set()
    for delimiter in (",", "\t", ";", "|"):
        rows = data.draw(st.permutations(rows))
        quoting = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
        path = folder / "ratings.csv"
        path.write_text(text_of(NAMES, rows, delimiter, quoting), newline="")
        found.add(load(path).fingerprint)
    found.add(load(write_double_colons(folder / "ratings.dat", NAMES, rows)).fingerprint)
    found.add(load(write_parquet(folder / "ratings.parquet", NAMES, rows)).fingerprint)
    assert len(found) == 1


@settings(deadline=None)
@given(long_tables, st.sets(st.sampled_from(["rating", "time"])), st.data())
def test_one_table_is_one_split_and_one_set_of_figures(
    folder: Path, rows: list[Row], without: set[str], data: st.DataObject
) -> None:
    """With and without ratings and times, columns and rows in any order."""
    found = []
    for kind in ("csv", "dat", "parquet"):
        rows = data.draw(st.permutations(rows))
        names = data.draw(st.permutations([name for name in NAMES if name not in without]))
        columns = [[row[NAMES.index(name)] for name in names] for row in rows]
        path = folder / f"ratings.{kind}"
        if kind == "csv":
            path.write_text(text_of(names, columns, ",", csv.QUOTE_MINIMAL), newline="")
        elif kind == "dat":
            write_double_colons(path, names, columns)
        else:
            write_parquet(path, names, columns)
        dataset = load(path)
        found.append(
            [dataset.fingerprint, figures(Popularity, LeaveOneOut(), dataset), figures(Bias, Holdout(), dataset)]
        )
    for one, other in itertools.pairwise(found):
        assert one == other


def figures(model: type[Recommender], protocol: EvaluationProtocol, dataset: Dataset) -> object:
    """The split and what a model gets on it, or why there is none."""
    try:
        split = protocol.split(dataset, 42)
    except DataError as error:
        return str(error)
    rows = union(split.train, split.valid)
    fitted = model().fit(TrainSet(rows, Task(protocol.task), rating_scale=split.rating_scale), FitContext())
    outcomes = protocol.evaluate(fitted, protocol.question(split), protocol.labels(split), rows.matrix())
    return split.fingerprint, split.notes, protocol.metrics(outcomes)
