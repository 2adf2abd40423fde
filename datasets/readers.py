"""Strict reading of delimited files: fast through Arrow, and where that fails the first wrong line by number."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv

from datasets.errors import DataError

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Field:
    """One column to read; other columns of the file are ignored.

    Attributes:
        name: as the header has it.
        kind: ``id`` (any text but the empty one), ``number`` (finite in float32), ``seconds`` (int64) or ``text``.
        low, high: bounds of a ``number``, inclusive; None is no bound.
        unique: whether an ``id`` may occur once only.
    """

    name: str
    kind: Literal["id", "number", "seconds", "text"]
    low: float | None = None
    high: float | None = None
    unique: bool = False


def read_table(path: Path, fields: Sequence[Field], delimiter: str = ",") -> dict[str, Any]:
    """Read the columns ``fields`` of a UTF-8 file with a header line; blank lines are skipped.

    Returns, by name: ``id`` a dictionary-encoded ``pa.ChunkedArray`` of strings (see ``datasets.canonical``),
    ``number`` (n,) float32, ``seconds`` (n,) int64, ``text`` (n,) unicode.

    Raises DataError ``path:line: reason`` for the first line that is wrong (1 is the header), also for an empty file, a
    missing column, and no rows at all.
    """
    header = _read_header(path, fields, delimiter)
    try:
        table = pa.csv.read_csv(
            path,
            parse_options=pa.csv.ParseOptions(delimiter=delimiter),
            convert_options=pa.csv.ConvertOptions(
                include_columns=[field.name for field in fields],
                column_types={field.name: _ARROW_TYPES[field.kind] for field in fields},
                null_values=[],  # "NA" is a text and no number, never a hole
            ),
        )
        columns = {field.name: _CONVERT[field.kind](table.column(field.name), field) for field in fields}
    except (pa.ArrowInvalid, _RefusedError) as error:
        raise _first_problem(path, fields, header, delimiter, str(error)) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    return columns


class _RefusedError(Exception):
    """A column that Arrow reads and we do not take."""


# --- the fast path -----------------------------------------------------------------------------------------------

_ARROW_TYPES = {
    "id": pa.dictionary(pa.int32(), pa.string()),
    "number": pa.float64(),  # one rounding to float32, the same whatever the file format
    "seconds": pa.int64(),
    "text": pa.string(),
}


def _convert_ids(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    unified = column.unify_dictionaries()
    labels = unified.chunk(0).dictionary if unified.num_chunks else pa.array([], pa.string())
    if any(_id_problem(label) for label in labels.to_pylist()):
        raise _RefusedError(f"column '{field.name}'")
    if field.unique and len(labels) < len(unified):
        raise _RefusedError(f"column '{field.name}': an id occurs twice")
    return unified


def _convert_numbers(column: pa.ChunkedArray, field: Field) -> Any:
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused below
        values = column.to_numpy().astype(np.float32)
    low = -np.inf if field.low is None else field.low
    high = np.inf if field.high is None else field.high
    if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
        raise _RefusedError(f"column '{field.name}'")
    return values


def _convert_seconds(column: pa.ChunkedArray, field: Field) -> Any:
    return column.to_numpy()


def _convert_texts(column: pa.ChunkedArray, field: Field) -> Any:
    texts = column.to_pylist()
    if any(_text_problem(text) for text in texts):
        raise _RefusedError(f"column '{field.name}'")
    return np.array(texts, dtype=np.str_)


_CONVERT: dict[str, Callable[[pa.ChunkedArray, Field], Any]] = {
    "id": _convert_ids,
    "number": _convert_numbers,
    "seconds": _convert_seconds,
    "text": _convert_texts,
}


# --- the first wrong line ------------------------------------------------------------------------------------------


def _read_header(path: Path, fields: Sequence[Field], delimiter: str) -> list[str]:
    """The names in line 1, once it is sure that they are the right ones and that rows follow."""
    lines = _lines(path)
    line = next(lines, "")
    if not line:
        raise DataError.at(path, 1, "the file is empty; a header line is required")
    header = _split(line, delimiter)
    if isinstance(header, str):
        raise DataError.at(path, 1, header)
    for field in fields:
        if header.count(field.name) != 1:
            how = "missing" if field.name not in header else "there more than once"
            raise DataError.at(path, 1, f"column '{field.name}' is {how}; the header is {_shown(line.strip())}")
    if all(line == "\n" for line in lines):
        raise DataError.at(path, 2, "no row below the header; at least one is required")
    return header


def _first_problem(path: Path, fields: Sequence[Field], header: list[str], delimiter: str, fallback: str) -> DataError:
    """Read line by line, as strictly as the fast path or more, until a line is wrong."""
    places = [(field, header.index(field.name)) for field in fields]
    seen: dict[str, set[str]] = {field.name: set() for field in fields if field.unique}
    for number, line in enumerate(_lines(path), start=1):
        if number == 1 or line == "\n":
            continue
        row = _split(line, delimiter)
        if isinstance(row, str):
            return DataError.at(path, number, row)
        if len(row) != len(header):
            return DataError.at(path, number, f"{len(row)} fields came; the header has {len(header)}")
        for field, place in places:
            reason = _problem(row[place], field)
            if reason is None and row[place] in seen.get(field.name, ()):
                reason = "it was there before; each id may occur once"
            if reason is not None:
                return DataError.at(path, number, f"column '{field.name}' is {_shown(row[place])}; {reason}")
            if field.unique:
                seen[field.name].add(row[place])
    return DataError(f"{path}: {fallback}")


def _lines(path: Path) -> Iterator[str]:
    """Lines with their ``\\n``; bytes that are no UTF-8 become lone surrogates, which ``_split`` refuses."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for line in file:
                yield line if line.endswith("\n") else line + "\n"
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def _split(line: str, delimiter: str) -> list[str] | str:
    """The fields of one line, or what is wrong with it."""
    try:
        line.encode("utf-8")
        return next(csv.reader([line], delimiter=delimiter), [])
    except UnicodeEncodeError:
        return "not UTF-8; save the file as UTF-8"
    except csv.Error as error:
        return str(error)


def _problem(text: str, field: Field) -> str | None:
    if field.kind == "id":
        return _id_problem(text)
    if field.kind == "text":
        return _text_problem(text)
    if field.kind == "seconds":
        return _seconds_problem(text)
    return _number_problem(text, field)


def _id_problem(text: str) -> str | None:
    return "an id is required" if not text else _text_problem(text)


def _text_problem(text: str) -> str | None:
    if "\n" in text or "\r" in text:
        return "a quote is not closed on its line"
    return "NUL characters are not allowed" if "\0" in text else None


def _seconds_problem(text: str) -> str | None:
    digits = text.strip(" \t")
    ok = _INTEGER.fullmatch(digits) and -(2**63) <= int(digits) < 2**63
    return None if ok else "a whole number of seconds is required"


def _number_problem(text: str, field: Field) -> str | None:
    digits = text.strip(" \t")
    value = float(digits) if _NUMBER.fullmatch(digits) else math.nan
    if not abs(value) <= _FLOAT32_MAX:
        return "a finite number is required"
    if (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        return f"a number from {field.low} to {field.high} is required"
    return None


def _shown(text: str, limit: int = 80) -> str:
    shown = repr(text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
