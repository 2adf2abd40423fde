"""Canonical order, inner ids and fingerprints: one table of ratings is one ``Dataset``, however it was stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from datasets.errors import DataError
from datasets.formats import LONGEST
from datasets.types import Column, Dataset, Interactions, Questions

RawIds = Any
"""(n,) raw ids: integers or texts, as a NumPy array or an Arrow array, chunked or dictionary-encoded or not."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Canonical:
    """Rows in canonical order, with the raw ids of their inner indices.

    Attributes:
        user_ids, item_ids: (n_users,) and (n_items,) int64 or unicode, ascending.
        duplicate_rows: rows dropped because a later one of the same user and item stays.
        questions: the rows to predict, by inner index, where there are any.
    """

    interactions: Interactions
    user_ids: Array
    item_ids: Array
    duplicate_rows: int
    questions: Questions | None = None


@dataclass(frozen=True, eq=False)
class RawQuestions:
    """Rows to predict, as the source has them: (q,) unicode ids of the rows, (q,) raw users and items."""

    ids: npt.NDArray[np.str_]
    users: RawIds
    items: RawIds


@dataclass(frozen=True, eq=False)
class Metadata:
    """Raw metadata of items or users: ``ids`` (m,) distinct, in any order; columns and titles (m,) beside them.

    ``left_out`` counts columns that the source has and no algorithm could use.
    """

    ids: RawIds
    columns: dict[str, Column] = field(default_factory=dict)
    titles: npt.NDArray[np.str_] | None = None
    left_out: int = 0


def build_dataset(
    *,
    name: str,
    users: RawIds,
    items: RawIds,
    values: Array,
    times: Array | None,
    rating_scale: tuple[float, float] | None,
    licence: str,
    citation: str,
    item_metadata: Metadata | None = None,
    user_metadata: Metadata | None = None,
    questions: RawQuestions | None = None,
) -> Dataset:
    """A ``Dataset`` from (n,) raw columns in any order; every array of it is read-only.

    The universe is the users and items with a rating, and those of ``questions`` where they are given. Metadata rows of
    others are left out and counted in ``notes``; an item or user without a metadata row has missing values.
    """
    canonical = canonicalise(users, items, values, times, questions)
    rows = canonical.interactions
    notes = {"duplicate_rows": canonical.duplicate_rows}
    if times is not None:
        notes["users_with_tied_latest_time"] = tied_latest_times(rows)
    item_columns, item_titles = _aligned("items", canonical.item_ids, item_metadata, notes)
    user_columns, _ = _aligned("users", canonical.user_ids, user_metadata, notes)
    ids = (canonical.user_ids, canonical.item_ids)
    dataset = Dataset(
        name=name,
        interactions=rows,
        user_ids=canonical.user_ids,
        item_ids=canonical.item_ids,
        rating_scale=rating_scale,
        licence=licence,
        citation=citation,
        fingerprint=fingerprint(rows, *ids, rating_scale, item_columns, user_columns),
        item_titles=item_titles,
        item_columns=item_columns,
        user_columns=user_columns,
        notes=notes,
        questions=canonical.questions,
    )
    _freeze(dataset)
    return dataset


def canonicalise(
    users: RawIds, items: RawIds, values: Array, times: Array | None = None, questions: RawQuestions | None = None
) -> Canonical:
    """Sort rows by user id, time, item id, value; of one (user, item) keep the last; number users and items by id.

    ``values`` (n,) become float32, ``times`` (n,) int64 seconds; ``questions`` stay in their order. Raises DataError
    where there is no row.
    """
    if len(values) == 0:
        raise DataError("no ratings: at least one row is required")
    if questions is not None:  # numbered together: one id is one user, rated or asked for
        users, items = _joined(users, questions.users), _joined(items, questions.items)
    user_codes, user_ids = inner_ids(users)
    item_codes, item_ids = inner_ids(items)
    asked = None
    if questions is not None:
        asked = Questions(questions.ids, user_codes[len(values) :], item_codes[len(values) :])
        user_codes, item_codes = user_codes[: len(values)], item_codes[: len(values)]
    values = np.asarray(values, dtype=np.float32) + np.float32(0)  # -0.0 becomes 0.0: equal values, equal bytes
    times = None if times is None else np.asarray(times, dtype=np.int64)

    order = _canonical_order(user_codes, times, item_codes, values)
    last = _last_of_pairs(user_codes[order], item_codes[order])
    if last is not None:
        order = order[last]
    rows = Interactions(
        users=user_codes[order],
        items=item_codes[order],
        values=values[order],
        times=None if times is None else times[order],
        n_users=len(user_ids),
        n_items=len(item_ids),
    )
    return Canonical(rows, user_ids, item_ids, len(values) - len(order), asked)


def inner_ids(raw: RawIds) -> tuple[npt.NDArray[np.int32], Array]:
    """(n,) raw ids -> (n,) int32 inner indices, and the distinct ids in ascending order.

    Ids that are all canonical decimal int64 ("7", not "07") are integers whatever their stored type; otherwise all are
    texts in order of code points.
    """
    encoded = _arrow(raw)
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    labels = _id_array(encoded.dictionary)
    order = np.argsort(labels, kind="stable")
    rank = np.empty(len(labels), dtype=np.int32)
    rank[order] = np.arange(len(labels), dtype=np.int32)
    return rank[encoded.indices.to_numpy()], labels[order]


def tied_latest_times(rows: Interactions) -> int:
    """Users whose latest time is shared by two rows or more, so that "their last item" rests on the item id."""
    if rows.times is None:
        raise ValueError("rows without times have no latest one")
    same_user = rows.users[1:] == rows.users[:-1]
    last_of_user = np.append(~same_user[1:], True)
    return int((same_user & (rows.times[1:] == rows.times[:-1]) & last_of_user).sum())


def fingerprint(
    rows: Interactions,
    user_ids: Array,
    item_ids: Array,
    rating_scale: tuple[float, float] | None,
    item_columns: Mapping[str, Column],
    user_columns: Mapping[str, Column],
) -> str:
    """sha256 (hex) over canonical rows, ids, rating scale and metadata columns; titles do not enter.

    It depends on content only: byte order, the width of text arrays and the order of columns make no difference.
    """
    digest = hashlib.sha256()
    scale = None if rating_scale is None else [float(bound) for bound in rating_scale]
    digest.update(json.dumps({"format": 1, "rating_scale": scale}).encode())
    arrays = {"users": rows.users, "items": rows.items, "values": rows.values, "times": rows.times}
    for name, array in {**arrays, "user_ids": user_ids, "item_ids": item_ids}.items():
        if array is not None:
            _update(digest, name, array)
    for owner, columns in (("item", item_columns), ("user", user_columns)):
        for name in sorted(columns):
            _update(digest, f"{owner} {columns[name].kind} {name}", columns[name].values)
    return digest.hexdigest()


def _arrow(raw: RawIds) -> Any:
    return raw if isinstance(raw, pa.Array | pa.ChunkedArray) else pa.array(raw)


def _joined(first: RawIds, second: RawIds) -> pa.ChunkedArray:
    """The texts of both, one after the other."""
    return pa.concat_tables([pa.table({"ids": _arrow(raw).cast(pa.string())}) for raw in (first, second)]).column("ids")


def _id_array(labels: pa.Array) -> Array:
    texts = labels.cast(pa.string())
    try:
        numbers = texts.cast(pa.int64())
    except pa.ArrowInvalid:
        return np.array(texts.to_pylist(), dtype=np.str_)
    # Only a canonical decimal reads back as it was written.
    if not numbers.cast(pa.string()).equals(texts):
        return np.array(texts.to_pylist(), dtype=np.str_)
    return numbers.to_numpy()


def _canonical_order(users: Array, times: Array | None, items: Array, values: Array) -> Array:
    keys = [users, items] if times is None else [users, times, items]
    packed = _packed(keys)
    if packed is None:
        return np.lexsort((values, *reversed(keys)))  # the most significant key comes last
    # Sorting by one key is far faster than by two, and rows that differ in their value alone are duplicates: rare.
    order = np.argsort(packed)
    return _by_value_in_ties(order, packed[order], values)


def _by_value_in_ties(order: Array, ordered: Array, values: Array) -> Array:
    """``order`` with each run of equal ``ordered`` keys sorted by value."""
    same_as_next = ordered[1:] == ordered[:-1]
    if same_as_next.any():
        tied = np.flatnonzero(np.append(same_as_next, False) | np.append(False, same_as_next))
        rows = order[tied]
        order[tied] = rows[np.lexsort((values[rows], ordered[tied]))]
    return order


def _packed(keys: Sequence[Array]) -> Array | None:
    """One (n,) int64 key that sorts like ``keys``, first one first; None where 63 bits cannot hold it."""
    packed, size = np.zeros(len(keys[0]), dtype=np.int64), 1
    for key in keys:
        low = int(key.min())
        span = int(key.max()) - low + 1
        size *= span
        if size >= 2**63:
            return None
        packed *= span
        packed += key.astype(np.int64) - low
    return packed


def _last_of_pairs(users: Array, items: Array) -> Array | None:
    """Ascending positions of the last row of each (user, item); None where no pair comes twice."""
    pairs = users.astype(np.int64) * (int(items.max()) + 1) + items
    if not _has_duplicates(pairs):
        return None
    by_pair = np.argsort(pairs, kind="stable")
    pairs = pairs[by_pair]
    return np.sort(by_pair[np.append(pairs[1:] != pairs[:-1], True)])


def _has_duplicates(keys: Array) -> bool:
    ordered = np.sort(keys)
    return bool((ordered[1:] == ordered[:-1]).any())


def _aligned(
    owner: str, ids: Array, metadata: Metadata | None, notes: dict[str, int]
) -> tuple[dict[str, Column], npt.NDArray[np.str_] | None]:
    """Metadata columns and titles in inner order; what does not fit is counted in ``notes``."""
    if metadata is None:
        return {}, None
    texts = _arrow(metadata.ids).cast(pa.string())
    if len(pa.compute.unique(texts)) < len(texts):
        raise ValueError(f"metadata of {owner}: ids must be distinct")
    # Compared as texts: one unrated item with an odd id must not turn the others into strangers.
    found = pa.compute.index_in(pa.array(ids).cast(pa.string()), value_set=texts)
    known = found.is_valid().to_numpy(zero_copy_only=False)
    places = found.fill_null(0).to_numpy()
    notes[f"{owner}_without_ratings"] = len(texts) - int(known.sum())
    notes[f"{owner}_without_metadata"] = len(ids) - int(known.sum())
    if metadata.left_out:
        notes[f"{owner}_columns_left_out"] = metadata.left_out

    columns = {
        name: Column(column.kind, np.where(known, column.values[places], np.nan if column.kind == "number" else ""))
        for name, column in metadata.columns.items()
    }
    if metadata.titles is None:
        return columns, None
    titles = np.where(known, metadata.titles[places], "")
    if cut := int((np.strings.str_len(titles) > LONGEST).sum()):  # LONGEST characters and the mark of a cut
        notes[f"{owner}_titles_cut"] = cut
    return columns, titles


def _update(digest: Any, name: str, array: Array) -> None:
    """Add a name, a length and the content, in little-endian bytes of fixed width or in UTF-8."""
    digest.update(json.dumps([name, array.dtype.kind, len(array)]).encode())
    if array.dtype.kind == "U":
        digest.update(np.strings.str_len(array).astype("<i8").tobytes())
        digest.update("".join(array.tolist()).encode())
        return
    if array.dtype.kind == "f":
        # One bit pattern for "missing", one for zero.
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array) + array.dtype.type(0)
    digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")))


def _freeze(dataset: Dataset) -> None:
    rows = dataset.interactions
    columns = [*dataset.item_columns.values(), *dataset.user_columns.values()]
    arrays = [rows.users, rows.items, rows.values, rows.times, dataset.user_ids, dataset.item_ids, dataset.item_titles]
    if dataset.questions is not None:
        arrays += vars(dataset.questions).values()
    for array in [*arrays, *(column.values for column in columns)]:
        if array is not None:
            array.setflags(write=False)
