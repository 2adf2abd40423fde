"""One table is one data set: row order, storage of ids and file format make no difference."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.canonical import Metadata, build_dataset, canonicalise, inner_ids
from datasets.errors import DataError
from datasets.formats import Field, Format
from datasets.readers import read_table
from datasets.types import Column, Dataset

Row = tuple[int, int, float, int]

# Few users, items and times, so that duplicates and ties are common; far times, so that keys do not fit 63 bits.
times = st.integers(0, 3) | st.sampled_from([-(2**63), -1, 2**62, 2**63 - 1])
ids = st.integers(-2, 6) | st.sampled_from([10, 11, 100, -(2**63), 2**63 - 1])
values = st.sampled_from([-0.0, 0.0, 0.5, 3.0, 4.5])
tables = st.lists(st.tuples(ids, ids, values, times), min_size=1, max_size=25)


def build(rows: list[Row], cast: Any = np.array, with_times: bool = True, **changes: Any) -> Dataset:
    users, items, ratings, seconds = zip(*rows, strict=True)
    arguments: dict[str, Any] = {
        "name": "toy",
        "users": cast(list(users)),
        "items": cast(list(items)),
        "values": np.array(ratings),
        "times": np.array(seconds) if with_times else None,
        "rating_scale": (0.0, 5.0),
        "licence": "",
        "citation": "",
    }
    return build_dataset(**{**arguments, **changes})


def rows_of(dataset: Dataset) -> list[tuple[Any, Any, Any, Any]]:
    rows = dataset.interactions
    seconds = [0] * len(rows) if rows.times is None else rows.times.tolist()
    users, items = dataset.user_ids[rows.users].tolist(), dataset.item_ids[rows.items].tolist()
    return list(zip(users, seconds, items, rows.values.tolist(), strict=True))


def texts(column: list[int]) -> np.ndarray:
    return np.array([str(value) for value in column])


def chunks(column: list[int]) -> pa.ChunkedArray:
    """Texts in chunks of three, each with its own dictionary, as the reader gives them."""
    parts = [column[start : start + 3] for start in range(0, len(column), 3)]
    return pa.chunked_array([pa.array([str(value) for value in part]).dictionary_encode() for part in parts])


@given(tables, st.booleans())
def test_canonical_rows_are_what_the_definition_says(table: list[Row], with_times: bool) -> None:
    dataset = build(table, with_times=with_times)
    in_order = sorted((user, time if with_times else 0, item, value) for user, item, value, time in table)
    last = {(user, item): (user, time, item, value) for user, time, item, value in in_order}
    assert rows_of(dataset) == sorted(last.values())
    assert dataset.notes["duplicate_rows"] == len(table) - len(last)
    assert dataset.user_ids.tolist() == sorted({row[0] for row in table})
    assert dataset.item_ids.tolist() == sorted({row[1] for row in table})


@given(tables, st.data(), st.booleans())
def test_row_order_makes_no_difference(table: list[Row], data: st.DataObject, with_times: bool) -> None:
    shuffled = data.draw(st.permutations(table))
    one, other = build(table, with_times=with_times), build(shuffled, with_times=with_times)
    assert one.fingerprint == other.fingerprint
    for name in ("users", "items", "values", "times"):
        ours, theirs = getattr(one.interactions, name), getattr(other.interactions, name)
        assert (ours is None and theirs is None) or ours.tobytes() == theirs.tobytes()


def test_a_second_decides_the_order() -> None:
    """float32 is 128 s coarse here: both rows would have one time, and the larger item id would come last."""
    table: list[Row] = [(1, 10, 3.0, 1_500_000_001), (1, 20, 4.0, 1_500_000_000)]
    assert rows_of(build(table)) == [(1, 1_500_000_000, 20, 4.0), (1, 1_500_000_001, 10, 3.0)]


def test_both_zeros_are_one_value() -> None:
    rows: list[Row] = [(1, 10, 0.0, 5), (1, 10, -0.0, 5)]
    stored = {build(order).interactions.values.tobytes() for order in (rows, rows[::-1], rows[1:])}
    assert stored == {np.float32(0.0).tobytes()}


@given(tables)
def test_the_storage_of_ids_makes_no_difference(table: list[Row]) -> None:
    integers = build(table)
    assert integers.user_ids.dtype == np.int64
    for cast in (texts, chunks, lambda column: texts(column).astype("U30"), pa.array):
        other = build(table, cast)
        assert other.fingerprint == integers.fingerprint
        assert rows_of(other) == rows_of(integers)


@given(tables, st.sampled_from([",", "\t", ";"]), st.booleans())
def test_the_file_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, table: list[Row], delimiter: str, quoted: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([("time", "value", "item", "user"), *((time, v, item, user) for user, item, v, time in table)])
    path = Path(tmp_path_factory.getbasetemp(), "table.csv")
    path.write_text(text.getvalue(), newline="")
    fields = [Field("user", "id"), Field("item", "id"), Field("value", "number"), Field("time", "seconds")]
    read = read_table(path, fields, Format(delimiter))
    changes = {"users": read["user"], "items": read["item"], "values": read["value"], "times": read["time"]}
    assert build(table, **changes).fingerprint == build(table).fingerprint


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_ids_that_are_no_integers_sort_by_code_point(raw: list[str]) -> None:
    raw = [*raw, "x"]
    codes, distinct = inner_ids(np.array(raw))
    assert distinct.tolist() == sorted(set(raw))
    assert distinct[codes].tolist() == raw


@pytest.mark.parametrize("odd", ["07", "+7", "-0", " 7", "7.0", "0x7", "", str(2**63), "七"])
def test_one_id_that_is_no_canonical_integer_makes_all_texts(odd: str) -> None:
    _, distinct = inner_ids(np.array(["9", "10", odd]))
    assert distinct.tolist() == sorted(["9", "10", odd])
    _, distinct = inner_ids(np.array(["9", "10", "-7", str(2**63 - 1)]))
    assert distinct.tolist() == [-7, 9, 10, 2**63 - 1]


TABLE: list[Row] = [(1, 10, 4.0, 5), (1, 20, 3.0, 6), (2, 10, 1.0, 6)]


def with_metadata(ids: Any, genres: list[str], titles: list[str], years: list[float] | None = None) -> Dataset:
    columns = {"genres": Column("categories", np.array(genres))}
    if years is not None:
        columns["year"] = Column("number", np.array(years))
    return build(TABLE, item_metadata=Metadata(ids, columns, np.array(titles)))


def test_every_content_is_in_the_fingerprint_and_titles_are_not() -> None:
    base = with_metadata([10, 20], ["A", "B"], ["x", "y"], [1990.0, 2000.0])
    others = [
        build(TABLE),
        build([*TABLE, (2, 20, 1.0, 7)]),
        build([(1, 10, 4.5, 5), *TABLE[1:]]),
        build([(1, 10, 4.0, 4), *TABLE[1:]]),
        build([(3, 10, 4.0, 5), (3, 20, 3.0, 6), TABLE[2]]),
        build(TABLE, with_times=False),
        build(TABLE, rating_scale=(0.0, 9.0)),
        build(TABLE, rating_scale=None),
        build(TABLE, user_metadata=Metadata([1, 2], {"genres": Column("categories", np.array(["A", "B"]))})),
        with_metadata([10, 20], ["A", "B"], ["x", "y"]),
        with_metadata([10, 20], ["A", "C"], ["x", "y"], [1990.0, 2000.0]),
        with_metadata([10, 20], ["AB", ""], ["x", "y"], [1990.0, 2000.0]),
        with_metadata([10, 20], ["A", "B"], ["x", "y"], [1990.0, 2001.0]),
    ]
    prints = [base.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == len(prints)
    renamed = with_metadata([10, 20], ["A", "B"], ["other", "titles"], [1990.0, 2000.0])
    assert renamed.fingerprint == base.fingerprint


def test_name_licence_and_citation_are_not_in_the_fingerprint() -> None:
    assert build(TABLE, name="b", licence="c", citation="d").fingerprint == build(TABLE).fingerprint


def test_metadata_is_matched_by_id_whatever_its_order_and_type() -> None:
    base = with_metadata([10, 20, 30], ["A", "B", "C"], ["x", "y", "z"], [1.0, np.nan, 3.0])
    assert base.item_columns["genres"].values.tolist() == ["A", "B"]
    assert base.item_titles is not None and base.item_titles.tolist() == ["x", "y"]
    assert base.notes["items_without_ratings"] == 1 and base.notes["items_without_metadata"] == 0

    # An unrated item with an odd id makes that column a text column; the others still match.
    odd = with_metadata(np.array(["tt3", "20", "10"]), ["C" * 99, "B", "A"], ["z", "y", "x"], [3.0, np.nan, 1.0])
    assert odd.fingerprint == base.fingerprint
    assert odd.notes == base.notes


def test_an_item_without_metadata_has_missing_values() -> None:
    dataset = with_metadata([20], ["B"], ["y"], [1990.0])
    assert dataset.item_columns["genres"].values.tolist() == ["", "B"]
    np.testing.assert_array_equal(dataset.item_columns["year"].values, [np.nan, 1990.0])
    assert dataset.item_titles is not None and dataset.item_titles.tolist() == ["", "y"]
    assert dataset.notes["items_without_metadata"] == 1


def test_metadata_with_an_id_twice_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="ids must be distinct"):
        with_metadata([10, 10], ["A", "B"], ["x", "y"])


def test_no_rows_is_refused() -> None:
    with pytest.raises(DataError, match="no ratings"):
        canonicalise(np.array([], dtype=int), np.array([], dtype=int), np.array([]))


def test_tied_latest_times_are_counted_by_user() -> None:
    table: list[Row] = [
        (1, 10, 1.0, 5), (1, 20, 1.0, 9), (1, 30, 1.0, 9),  # tied at the latest
        (2, 10, 1.0, 5), (2, 20, 1.0, 5), (2, 30, 1.0, 9),  # tied earlier
        (3, 10, 1.0, 9),  # one row
        (4, 10, 1.0, 9), (4, 20, 1.0, 9), (4, 30, 1.0, 9),  # three, counted once
    ]  # fmt: skip
    assert build(table).notes["users_with_tied_latest_time"] == 2


def test_arrays_are_read_only_and_the_source_stays_writeable() -> None:
    users = np.array([1, 1, 2])
    dataset = build(TABLE, users=users)
    users[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        dataset.interactions.values[0] = 9
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"  # type: ignore[misc]
