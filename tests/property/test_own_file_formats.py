"""A valid table is one data set, whatever its row order, delimiter, quotes or file format."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.own_file import OwnFile

Row = tuple[str, str, float, int]

# Letters that need quotes or care in some format, and integers, so that a column may be all integers; but no "::",
# which nothing can quote, and no ":" at an end, which would make one with the delimiter.
texts = st.text(st.sampled_from("ab,;|\t\"' é7:"), min_size=1, max_size=4).filter(
    lambda text: "::" not in text and text.strip(":") == text
)
ids = texts | st.integers(-3, 12).map(str)
tables = st.lists(
    st.tuples(ids, ids, st.sampled_from([0.1, 0.5, 3.3, 5.0]), st.integers(-5, 5)), min_size=1, max_size=20
).filter(lambda rows: len({row[0] for row in rows}) > 1)
NAMES = ("user", "item", "rating", "time")


def fingerprint(path: Path) -> str:
    return OwnFile(path).load([path]).fingerprint


def text_of(rows: list[Row], delimiter: str, quoting: int) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=quoting).writerows([NAMES, *rows])  # type: ignore[arg-type]
    return text.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own")


@given(tables, st.data())
def test_one_table_is_one_data_set(folder: Path, rows: list[Row], data: st.DataObject) -> None:
    found = set()
    for delimiter in (",", "\t", ";", "|"):
        rows = data.draw(st.permutations(rows))
        quoting = data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
        path = folder / "ratings.csv"
        path.write_text(text_of(rows, delimiter, quoting), newline="")
        found.add(fingerprint(path))

    path = folder / "ratings.dat"
    path.write_text("".join("::".join(map(str, row)) + "\n" for row in [NAMES, *rows]), newline="")
    found.add(fingerprint(path))

    path = folder / "ratings.parquet"
    pq.write_table(pa.table(dict(zip(NAMES, zip(*rows, strict=True), strict=True))), path)
    found.add(fingerprint(path))
    assert len(found) == 1
