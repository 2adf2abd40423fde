"""Strict reading of delimited files: fast through Arrow, and where that fails the first wrong line by number."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from datasets.errors import DataError
from datasets.formats import LONGEST, Field, Format

CSV = Format()

_BLOCK_BYTES = 8 << 20
_SEPARATOR = "\x1f"  # stands for "::" inside Arrow, which takes one character; refused in such files
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_FLOAT64_MAX = float(np.finfo(np.float64).max)
_MOST_DIGITS = 30
"""Of an integer that is read as one; Python refuses texts of thousands of digits."""
_INTEGER = re.compile(r"-?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_table(path: Path, fields: Sequence[Field], format: Format = CSV) -> dict[str, Any]:
    """Read the columns ``fields`` of a text file; blank lines are skipped.

    Returns, by name: ``id`` a dictionary-encoded ``pa.ChunkedArray`` of strings (see ``datasets.canonical``),
    ``number`` (n,) float32, ``real`` (n,) float64, ``seconds`` and ``whole`` (n,) int64, ``text`` (n,) unicode or None
    (see ``Field.longest``), ``title`` (n,) unicode.

    Raises DataError ``path:line: reason`` for the first line that is wrong (1 is the first of the file), also for an
    empty file, a missing column, and no rows at all.
    """
    header = read_header(path, fields, format)
    try:
        with pa.memory_map(str(path)) as source:
            columns = _parse(source, fields, header, format, skip=int(format.names is None))
    except (pa.ArrowInvalid, Refused) as error:
        raise _first_problem(path, fields, header, format, str(error)) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    for field in fields:
        if field.kind == "id" and (label := over_64_bits(columns[field.name])) is not None:
            line = _line_of(path, label, header.index(field.name), format)
            raise DataError.at(path, line, f"column '{field.name}' is {shown(label)}; {OVER_64_BITS}")
    return columns


def read_header(path: Path, fields: Sequence[Field], format: Format) -> list[str]:
    """The names of the columns, once it is sure that they are the right ones and that rows follow."""
    lines = _lines(path, format)
    if format.names is not None:
        header, rows_from = list(format.names), 1
    else:
        header, rows_from = _names_in(path, next(lines, ""), fields, format), 2
    if all(line == "\n" for line in lines):
        where = "at all" if format.names else "below the header"
        raise DataError.at(path, rows_from, f"no row {where}; at least one is required")
    return header


def line_of_row(path: Path, row: int, format: Format) -> int:
    """The line, from 1, on which the row ``row``, from 0, of a file stands that ``read_table`` has read."""
    filled = (number for number, line in enumerate(_lines(path, format), start=1) if line != "\n")
    return next(itertools.islice(filled, row + int(format.names is None), None))


def split_line(line: str, format: Format) -> list[str] | str:
    """The fields of one line, or what is wrong with it."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return "not UTF-8; save the file as UTF-8"
    if format.delimiter == "::" and _SEPARATOR in line:
        return "control characters are not allowed"
    if not format.quoted:
        return line.rstrip("\n").split(format.delimiter)
    try:
        return next(csv.reader([line], delimiter=format.delimiter), [])
    except csv.Error as error:
        return str(error)


class Refused(Exception):
    """A column that Arrow reads and we do not take."""


# --- the fast path -----------------------------------------------------------------------------------------------

ARROW_TYPES = {
    "id": pa.dictionary(pa.int32(), pa.string()),
    "number": pa.float64(),  # one rounding to float32, the same whatever the file format
    "real": pa.float64(),
    "seconds": pa.int64(),
    "whole": pa.int64(),
    "text": pa.string(),
    "title": pa.string(),
}
OVER_64_BITS = "integer ids must fit 64 bits: write them as texts, such as u123"


def convert(columns: dict[str, pa.ChunkedArray], fields: Sequence[Field]) -> dict[str, Any]:
    """Arrow columns of ``ARROW_TYPES`` as ``read_table`` returns them. Raises Refused, without a line."""
    return {field.name: _CONVERT[field.kind](columns[field.name], field) for field in fields}


def over_64_bits(ids: pa.ChunkedArray) -> str | None:
    """Where all ids are integers, the first that does not fit int64. Among texts, digits are a text like any other."""
    labels = ids.chunk(0).dictionary
    try:
        labels.cast(pa.int64())
        return None
    except pa.ArrowInvalid:
        if not pc.all(pc.match_substring_regex(labels, r"^-?[0-9]+$")).as_py():
            return None
    return next((label for label in labels.to_pylist() if not _fits_64_bits(label)), None)


def _fits_64_bits(digits: str) -> bool:
    """Whether a text of digits is an int64; leading zeros do not count."""
    short = digits.lstrip("-0")
    return len(short) < _MOST_DIGITS and int(short or "0") < 2**63 + digits.startswith("-")


def _parse(source: Any, fields: Sequence[Field], header: list[str], format: Format, skip: int) -> dict[str, Any]:
    """The columns of ``source``, whose first ``skip`` lines are no rows."""
    if format.delimiter == "::":
        source = io.BufferedReader(_DoubleColons(source), _BLOCK_BYTES)
    table = pa.csv.read_csv(
        source,
        read_options=pa.csv.ReadOptions(
            block_size=_BLOCK_BYTES, column_names=header, skip_rows=skip, encoding=format.encoding
        ),
        parse_options=pa.csv.ParseOptions(
            delimiter=_SEPARATOR if format.delimiter == "::" else format.delimiter,
            quote_char='"' if format.quoted else False,
        ),
        convert_options=pa.csv.ConvertOptions(
            include_columns=[field.name for field in fields],
            column_types={field.name: ARROW_TYPES[field.kind] for field in fields},
            null_values=[],  # "NA" is a text and no number, never a hole
        ),
    )
    return convert({field.name: table.column(field.name) for field in fields}, fields)


class _DoubleColons(io.RawIOBase):
    """The bytes of ``source`` with each ``::`` replaced by one separator."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._held = b""  # colons that may belong to the "::" of the next read
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            read = self._source.read(_BLOCK_BYTES)
            block = self._held + read
            body = block.rstrip(b":") if read else block
            self._held = block[len(body) :]
            if not block:
                return 0
            self._ready = memoryview(body.replace(b"::", _SEPARATOR.encode()))
        n = min(len(buffer), len(self._ready))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n


def _convert_ids(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    unified = column.unify_dictionaries()
    labels = unified.chunk(0).dictionary if unified.num_chunks else pa.array([], pa.string())
    bad = pc.or_(pc.equal(labels, ""), pc.match_substring_regex(labels, r"[\n\r\x00]"))
    if unified.null_count or pc.any(bad).as_py() or _longest(labels) > LONGEST:
        raise Refused(f"column '{field.name}'")
    if field.unique and len(labels) < len(unified):
        raise Refused(f"column '{field.name}': an id occurs twice")
    return unified


def _convert_numbers(column: pa.ChunkedArray, field: Field) -> Any:
    values = np.empty(len(column), dtype=np.float32)
    filled = 0
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused below
        for chunk in column.chunks:
            values[filled : filled + len(chunk)] = chunk.to_numpy()
            filled += len(chunk)
    low = -_FLOAT32_MAX if field.low is None else field.low
    high = _FLOAT32_MAX if field.high is None else field.high
    # NaN goes through min and max, and compares false.
    if len(values) and not (values.min() >= low and values.max() <= high):
        raise Refused(f"column '{field.name}'")
    return values


def _convert_reals(column: pa.ChunkedArray, field: Field) -> Any:
    if column.null_count or not pc.all(pc.is_finite(column)).as_py():
        raise Refused(f"column '{field.name}'")
    return column.to_numpy()


def _convert_integers(column: pa.ChunkedArray, field: Field) -> Any:
    if column.null_count:
        raise Refused(f"column '{field.name}'")
    return column.to_numpy()


def _convert_texts(column: pa.ChunkedArray, field: Field) -> Any:
    _refuse_line_ends(column, field)
    if field.one_of is not None and not pc.all(pc.is_in(column, pa.array(field.one_of))).as_py():
        raise Refused(f"column '{field.name}'")
    longest = _longest(column)
    if field.longest is not None and longest > field.longest:
        return None
    if longest > LONGEST:
        raise Refused(f"column '{field.name}'")
    return np.array(column.to_pylist(), dtype=np.str_)


def _convert_titles(column: pa.ChunkedArray, field: Field) -> Any:
    _refuse_line_ends(column, field)
    cut = pc.binary_join_element_wise(pc.utf8_slice_codeunits(column, 0, LONGEST), "…", "")
    kept = pc.if_else(pc.greater(pc.utf8_length(column), LONGEST), cut, column)  # before an array is as wide as it
    return np.array(kept.to_pylist(), dtype=np.str_)


def _refuse_line_ends(column: pa.ChunkedArray, field: Field) -> None:
    if pc.any(pc.match_substring_regex(column, r"[\n\r\x00]")).as_py():
        raise Refused(f"column '{field.name}'")


def _longest(texts: Any) -> int:
    """Characters of the longest text."""
    return int(pc.max(pc.utf8_length(texts)).as_py() or 0)


_CONVERT: dict[str, Callable[[pa.ChunkedArray, Field], Any]] = {
    "id": _convert_ids,
    "number": _convert_numbers,
    "real": _convert_reals,
    "seconds": _convert_integers,
    "whole": _convert_integers,
    "text": _convert_texts,
    "title": _convert_titles,
}


# --- the first wrong line ------------------------------------------------------------------------------------------


def _names_in(path: Path, line: str, fields: Sequence[Field], format: Format) -> list[str]:
    if not line:
        raise DataError.at(path, 1, "the file is empty; a header line is required")
    header = split_line(line, format)
    if isinstance(header, str):
        raise DataError.at(path, 1, header)
    for field in fields:
        if header.count(field.name) != 1:
            how = "missing" if field.name not in header else "there more than once"
            raise DataError.at(path, 1, f"column '{field.name}' is {how}; the header is {shown(line.strip())}")
    return header


def _first_problem(path: Path, fields: Sequence[Field], header: list[str], format: Format, fallback: str) -> DataError:
    """Read line by line, as strictly as the fast path or more, until a line is wrong.

    Blocks that the fast path takes are skipped, unless an id has to be compared with those of all blocks.
    """
    places = [(field, header.index(field.name)) for field in fields]
    seen: dict[str, set[str]] = {field.name: set() for field in fields if field.unique}
    number, skip = 0, int(format.names is None)
    for block in _blocks(path):
        if not seen and _is_good(block, fields, header, format, skip):
            number += len(_text_lines(block, format))
            skip = 0
            continue
        for line in _text_lines(block, format):
            number += 1
            if skip or line == "\n":
                skip = 0
                continue
            reason = _line_problem(line, places, len(header), format, seen)
            if reason is not None:
                return DataError.at(path, number, reason)
    return DataError(f"{path}: {fallback}")


def _blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, some megabytes at a time; the end of a line that is longer than that is a line of its own."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block + file.readline(_BLOCK_BYTES)


def _is_good(block: bytes, fields: Sequence[Field], header: list[str], format: Format, skip: int) -> bool:
    try:
        _parse(pa.BufferReader(block), fields, header, format, skip)
    except (pa.ArrowInvalid, Refused):
        return False
    return True


def _line_problem(
    line: str, places: list[tuple[Field, int]], n_columns: int, format: Format, seen: dict[str, set[str]]
) -> str | None:
    if len(line) >= _BLOCK_BYTES:
        return f"the line is longer than {_BLOCK_BYTES:,} characters; are line ends missing?"
    row = split_line(line, format)
    if isinstance(row, str):
        return row
    if len(row) != n_columns:
        return f"{len(row)} fields came; {'the header has' if format.names is None else 'required are'} {n_columns}"
    for field, place in places:
        reason = _problem(row[place], field)
        if reason is None and row[place] in seen.get(field.name, ()):
            reason = "it was there before; each id may occur once"
        if reason is not None:
            return f"column '{field.name}' is {shown(row[place])}; {reason}"
        if field.unique:
            seen[field.name].add(row[place])
    return None


def _line_of(path: Path, label: str, place: int, format: Format) -> int:
    """The first line whose field at ``place`` is ``label``."""
    for number, line in enumerate(_lines(path, format), start=1):
        row = split_line(line, format) if label in line else []
        if len(row) > place and row[place] == label:
            return number
    raise ValueError(f"{label!r} is not in {path}")


def _lines(path: Path, format: Format) -> Iterator[str]:
    """Lines with their ``\\n``; bytes that are no UTF-8 become lone surrogates, which ``split_line`` refuses."""
    try:
        with path.open(encoding=_encoding(format), errors="surrogateescape") as file:
            yield from _ended(iter(lambda: file.readline(_BLOCK_BYTES), ""))  # no file is one endless line in memory
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def _text_lines(block: bytes, format: Format) -> list[str]:
    text = block.decode(_encoding(format), errors="surrogateescape")
    return list(_ended(io.StringIO(text, newline=None)))


def _ended(lines: Iterable[str]) -> Iterator[str]:
    return (line if line.endswith("\n") else line + "\n" for line in lines)


def _encoding(format: Format) -> str:
    return "utf-8-sig" if format.encoding == "utf-8" else format.encoding  # a byte order mark is no part of a name


def _problem(text: str, field: Field) -> str | None:
    if field.kind == "id":
        return _id_problem(text)
    if field.kind == "text":
        return _text_problem(text, field.longest is None) or _choice_problem(text, field)
    if field.kind == "title":
        return _text_problem(text, bounded=False)
    if field.kind in ("seconds", "whole"):
        return _integer_problem(text, "a whole number of seconds" if field.kind == "seconds" else "a whole number")
    return _number_problem(text, field)


def _id_problem(text: str) -> str | None:
    return "an id is required" if not text else _text_problem(text)


def _text_problem(text: str, bounded: bool = True) -> str | None:
    if "\n" in text or "\r" in text:
        return "a quote is not closed on its line"
    if bounded and len(text) > LONGEST:
        return f"{len(text):,} characters are too many, {LONGEST:,} are possible"
    return "NUL characters are not allowed" if "\0" in text else None


def _choice_problem(text: str, field: Field) -> str | None:
    if field.one_of is None or text in field.one_of:
        return None
    return f"one of {', '.join(map(repr, field.one_of))} is required"


def _integer_problem(text: str, what: str) -> str | None:
    digits = text.strip(" \t")
    ok = _INTEGER.fullmatch(digits) and _fits_64_bits(digits)
    return None if ok else f"{what} is required"


def _number_problem(text: str, field: Field) -> str | None:
    digits = text.strip(" \t")
    value = float(digits) if _NUMBER.fullmatch(digits) else math.nan
    if not abs(value) <= (_FLOAT64_MAX if field.kind == "real" else _FLOAT32_MAX):
        return "a finite number is required"
    if (field.low is not None and value < field.low) or (field.high is not None and value > field.high):
        return f"a number from {field.low} to {field.high} is required"
    return None


def shown(value: object, limit: int = 80) -> str:
    """A text in quotes, or a list of them, cut where it is long, for a message of one line."""
    quoted = repr(value)
    return quoted if len(quoted) <= limit else quoted[: limit - 3] + "..."
