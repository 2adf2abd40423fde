"""Reading of Parquet files with the promises of ``datasets.readers``; what is wrong is named by row, from 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets.errors import DataError
from datasets.formats import Field
from datasets.readers import ARROW_TYPES, OVER_64_BITS, Refused, convert, over_64_bits, shown

_REQUIRED = {
    "id": "an integer or a text of one line is required, once where ids must be unique",
    "number": "finite numbers are required",
    "real": "finite numbers are required",
    "whole": "whole numbers are required",
    "seconds": "whole seconds or time stamps are required",
    "text": "texts, numbers or truth values are required",
    "title": "texts, numbers or truth values are required",
}


_DAMAGED = (pa.ArrowException, OSError, UnicodeDecodeError)
_MOST_ROWS_A_BYTE = 100
"""Of the file. Users and items differ from row to row, so that no honest file comes near."""


def column_names(path: Path) -> list[str]:
    """The names of the columns, without reading them."""
    try:
        return list(pq.read_schema(path).names)
    except _DAMAGED as error:
        raise _unreadable(path, error) from None


def read_parquet(path: Path, fields: Sequence[Field]) -> dict[str, Any]:
    """The columns ``fields`` as ``readers.read_table`` returns them; a text that is missing is empty."""
    try:
        _refuse_bomb(path)
        table = pq.read_table(path, columns=[field.name for field in fields])
    except _DAMAGED as error:
        raise _unreadable(path, error) from None
    if len(table) == 0:
        raise DataError(f"{path}: no row; at least one is required")
    columns: dict[str, Any] = {}
    for field in fields:
        raw = _whole(path, field.name, table.column(field.name))
        try:
            column = _as_read_from_text(raw, field)
            columns |= convert({field.name: column}, [field])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, Refused):
            raise _problem(path, raw, field) from None
        label = over_64_bits(column) if field.kind == "id" else None
        if label is not None:
            raise DataError(f"{path}: column '{field.name}' holds {shown(label)}; {OVER_64_BITS}")
    return columns


def _refuse_bomb(path: Path) -> None:
    rows, size = pq.read_metadata(path).num_rows, path.stat().st_size
    if rows > _MOST_ROWS_A_BYTE * size:
        raise DataError(f"{path}: {rows:,} rows in {size:,} bytes are no ratings")


def _whole(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """``column``, once it is sure that it is what its type says: Arrow takes a file's word that its texts are UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: column {shown(name)} is damaged: {error}") from None
    return column


def _as_read_from_text(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    """``column`` in the type that a text file's would have. Raises ArrowInvalid or Refused."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if field.kind in ("text", "title"):
        return pc.fill_null(column.cast(pa.string()), "")
    if column.null_count:
        raise Refused(f"column '{field.name}'")
    if field.kind == "id":
        if not _may_be_an_id(kind):
            raise Refused(f"column '{field.name}'")
        encoded = column.dictionary_encode().unify_dictionaries()
        chunks = [
            pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(pa.string()))
            for chunk in encoded.chunks
        ]
        return pa.chunked_array(chunks, ARROW_TYPES["id"])
    if field.kind == "seconds" and pa.types.is_timestamp(kind):
        # Rounded down, before 1970 too; a cast would round towards zero.
        column = pc.floor_temporal(column, unit="second").cast(pa.timestamp("s", kind.tz))
    return column.cast(ARROW_TYPES[field.kind])


def _may_be_an_id(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _problem(path: Path, column: pa.ChunkedArray, field: Field) -> DataError:
    """The first row that is wrong where rows differ, else the column."""
    reason = _REQUIRED[field.kind]
    if field.low is not None or field.high is not None:
        reason += f", from {field.low} to {field.high}"
    row = _first_bad_row(column, field)
    if row is None:
        return DataError(f"{path}: column '{field.name}' is of type {column.type}; {reason}")
    value = "missing" if column[row].as_py() is None else shown(str(column[row].as_py()))
    return DataError(f"{path}: row {row + 1}: column '{field.name}' is {value}; {reason}")


def _first_bad_row(column: pa.ChunkedArray, field: Field) -> int | None:
    if column.null_count:
        return int(np.argmax(column.is_null().to_numpy()))
    if field.kind == "id" and _may_be_an_id(column.type):
        seen: set[str] = set()
        for row, text in enumerate(column.cast(pa.string()).to_pylist()):
            if not text or set(text) & {"\n", "\r", "\0"} or text in seen:
                return row
            if field.unique:
                seen.add(text)
    if field.kind in ("number", "real") and (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        values = column.to_numpy().astype(np.float64)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and bad
            rounded = values.astype(np.float32) if field.kind == "number" else values
        low = -np.inf if field.low is None else field.low
        high = np.inf if field.high is None else field.high
        bad = ~(np.isfinite(rounded) & (values >= low) & (values <= high))
        return int(np.argmax(bad)) if bad.any() else None
    return None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: no readable Parquet file: {str(error).splitlines()[0]}")
