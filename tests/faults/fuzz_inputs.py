"""Strategies for hostile files: a valid one with one thing broken, or with some bytes changed."""

from __future__ import annotations

import copy
import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

Draw = Callable[..., Any]

HOSTILE = (
    *("", " ", '"', '""', '"a', "a\nb", "a\rb", "\0", "a\0b", "\x1f", "\x85", "\u2028", "::", ":", ",", "|", "\t", ";"),
    *("1e999", "-1e999", "1e-999", "nan", "inf", "-inf", "1_000", "٣", "0x10", "+7", "07", " 7", "7.0", "-0", "7e0"),
    *("9" * 20, "9" * 5_000, "-9223372036854775809", "9223372036854775807", "3.5e38", "2020-01-01", "True", "null"),
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u202eabc", "\ufeff7", "é" * 40, "x" * 5_000, "NA", "none", "=cmd()"),
    *("../../up", "/etc/passwd", "C:\\x", "${HOME}", "%s%n", "{0}", "<script>", "'; drop table"),
)
"""Texts that have broken readers before, here or elsewhere."""

hostile_texts = st.sampled_from(HOSTILE) | st.text(max_size=6)


@st.composite
def mutated(draw: Draw, seed: bytes, most: int = 4) -> bytes:
    """``seed`` with up to ``most`` changes: a byte or a piece replaced, cut, doubled, moved or put in."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(0, most))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.sampled_from((0, 1, 1, 2, 4, 8, 64, 1_000))))
        kind = draw(st.sampled_from(("replace", "insert", "cut", "double", "truncate", "text")))
        if kind == "truncate":
            del data[start:]
        elif kind == "cut":
            del data[start:stop]
        elif kind == "double":
            data[stop:stop] = data[start:stop]
        elif kind == "text":
            data[start:stop] = draw(st.sampled_from(HOSTILE)).encode()
        else:
            data[start : stop if kind == "replace" else start] = draw(st.binary(max_size=8))
    return bytes(data)


# --- delimited text --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column of a valid table: its name and the values it takes."""

    name: str
    values: tuple[str, ...]


@st.composite
def tables(draw: Draw, columns: Sequence[Column], delimiter: str, header: bool = True) -> bytes:
    """A valid table with up to three things broken."""
    names = [column.name for column in columns]
    rows = [
        [draw(st.sampled_from(column.values)) for column in columns]
        for _ in range(draw(st.integers(0, 12) | st.just(4)))
    ]
    rows = _distinct(rows) if draw(st.integers(0, 3)) else rows
    table = [names, *rows] if header else rows
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 1, 2, 3)))):
        _break_row(draw, table)
    ending = draw(st.sampled_from(("\n", "\n", "\n", "\r\n", "\r", "\n\n")))
    text = ending.join(delimiter.join(row) for row in table) + draw(st.sampled_from((ending, ending, "", "\x1a")))
    return _encoded(draw, text)


def _distinct(rows: list[list[str]]) -> list[list[str]]:
    """The first row of each id in the first column, so that files with unique ids are met too."""
    return list({row[0]: row for row in reversed(rows)}.values())


def _break_row(draw: Draw, table: list[list[str]]) -> None:
    if not table:
        return
    row = table[draw(st.integers(0, len(table) - 1))]
    place = draw(st.integers(0, max(0, len(row) - 1)))
    kind = draw(st.sampled_from(("value", "value", "value", "quoted", "more", "less", "blank", "again", "empty")))
    if kind == "value" and row:
        row[place] = draw(hostile_texts)
    elif kind == "quoted" and row:
        row[place] = '"' + draw(hostile_texts) + '"'
    elif kind == "more":
        row.insert(place, draw(hostile_texts))
    elif kind == "less" and row:
        del row[place]
    elif kind == "blank":
        table.insert(0, [])
    elif kind == "again":
        table.append(list(row))
    elif kind == "empty":
        del table[draw(st.integers(0, 1)) :]


def _encoded(draw: Draw, text: str) -> bytes:
    how = draw(st.sampled_from(("plain",) * 8 + ("bom", "utf-16", "latin-1", "not utf-8")))
    if how == "bom":
        return b"\xef\xbb\xbf" + text.encode(errors="replace")
    if how == "utf-16":
        return text.encode("utf-16", errors="replace")
    if how == "latin-1":
        return (text + "é").encode("latin-1", errors="replace")
    data = bytearray(text.encode(errors="replace"))
    if how == "not utf-8":
        place = draw(st.integers(0, len(data)))
        data[place:place] = draw(st.sampled_from((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\x80")))
    return bytes(data)


# --- Parquet ---------------------------------------------------------------------------------------------------------

_ARROW_COLUMNS: dict[str, Callable[[int], Any]] = {
    "whole": lambda n: pa.array([str(k % 5) for k in range(n)]).cast(pa.int64()),
    "text": lambda n: pa.array([f"t{k % 5}" for k in range(n)]),
    "real": lambda n: pa.array([1.0 + k % 5 for k in range(n)], pa.float64()),
    "nulls": lambda n: pa.nulls(n),
    "some nulls": lambda n: pa.array([None if k % 3 else k for k in range(n)], pa.int64()),
    "nan": lambda n: pa.array([float("nan")] * n),
    "huge": lambda n: pa.array([1e300] * n),
    "unsigned": lambda n: pa.array([2**64 - 1 - k for k in range(n)], pa.uint64()),
    "bytes": lambda n: pa.array([b"\xff\xfe"] * n),
    "not utf-8": lambda n: pa.array([b"a\xff"] * n, pa.binary()).view(pa.string()),
    "decimal": lambda n: pa.array([k for k in range(n)], pa.int64()).cast(pa.decimal128(25, 2)),
    "date": lambda n: pa.array(list(range(n)), pa.int32()).cast(pa.date32()),
    "seconds": lambda n: pa.array(list(range(n)), pa.int64()).cast(pa.timestamp("s")),
    "nanoseconds": lambda n: pa.array([-(2**63) + 1 + k for k in range(n)], pa.int64()).cast(pa.timestamp("ns")),
    "zoned": lambda n: pa.array(list(range(n)), pa.int64()).cast(pa.timestamp("us", "Europe/Paris")),
    "no zone": lambda n: pa.array(list(range(n)), pa.int64()).cast(pa.timestamp("us", "No/Where")),
    "duration": lambda n: pa.array(list(range(n)), pa.int64()).cast(pa.duration("ms")),
    "truth": lambda n: pa.array([bool(k % 2) for k in range(n)]),
    "list": lambda n: pa.array([[k] for k in range(n)], pa.list_(pa.int64())),
    "struct": lambda n: pa.array([{"a": k} for k in range(n)], pa.struct([("a", pa.int64())])),
    "dictionary": lambda n: pa.array([f"d{k % 3}" for k in range(n)]).dictionary_encode(),
    "dictionary of nulls": lambda n: pa.DictionaryArray.from_arrays(
        pa.array([0] * n, pa.int8()), pa.array([None], pa.string())
    ),
    "hostile": lambda n: pa.array([HOSTILE[k % len(HOSTILE)] for k in range(n)], pa.string()),
    "escape": lambda n: pa.array(["\x1b[31m" + "x" * 500] * n),
    "half": lambda n: pa.array(np.arange(n, dtype=np.float16)),
    "large": lambda n: pa.array([f"l{k}" for k in range(n)], pa.large_string()),
    "view": lambda n: pa.array([f"v{k}" for k in range(n)], pa.string_view()),
}


@st.composite
def parquet(draw: Draw, names: Sequence[str], good: Sequence[str]) -> bytes:
    """A Parquet file with these columns, each of its ``good`` kind or one of another."""
    n = draw(st.sampled_from((0, 1, 2, 7, 40)))
    broken = draw(st.sets(st.integers(0, len(names) - 1), max_size=2))
    kinds = [draw(st.sampled_from(sorted(_ARROW_COLUMNS))) if k in broken else kind for k, kind in enumerate(good)]
    arrays = [_ARROW_COLUMNS[kind](n) for kind in kinds]
    named = [draw(hostile_texts) if draw(st.integers(0, 30)) == 0 else name for name in names]
    data = written(pa.Table.from_arrays(arrays, names=named))
    return draw(mutated(data, 2)) if draw(st.integers(0, 3)) == 0 else data


def written(table: pa.Table) -> bytes:
    """A table as Parquet."""
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except (pa.ArrowException, UnicodeError):  # a type that Parquet does not have
        return b"PAR1"
    return sink.getvalue()


# --- zip -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One entry of a zip, with what its headers say of it, true or not."""

    name: bytes
    content: bytes = b"x"
    method: int = 0
    flags: int = 0
    mode: int = 0o100644
    size: int | None = None
    packed_size: int | None = None
    offset: int | None = None
    crc: int | None = None


def raw_zip(entries: Sequence[Entry]) -> bytes:
    """A zip that says whatever the entries say."""
    body, directory = bytearray(), bytearray()
    for entry in entries:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(entry.content) + packer.flush() if entry.method == 8 else entry.content
        size = len(entry.content) if entry.size is None else entry.size
        packed_size = len(packed) if entry.packed_size is None else entry.packed_size
        crc = zlib.crc32(entry.content) if entry.crc is None else entry.crc
        offset = len(body) if entry.offset is None else entry.offset
        shared = struct.pack("<HHHHIII", entry.flags, entry.method, 0, 33, crc, packed_size, size)
        body += b"PK\3\4" + struct.pack("<H", 20) + shared + struct.pack("<HH", len(entry.name), 0)
        body += entry.name + packed
        directory += b"PK\1\2" + struct.pack("<HH", (3 << 8) | 20, 20) + shared
        directory += struct.pack("<HHHHHII", len(entry.name), 0, 0, 0, 0, entry.mode << 16, offset) + entry.name
    n = min(len(entries), 0xFFFF)
    return bytes(body + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n, n, len(directory), len(body), 0))


_ENTRY_NAMES = (
    *("toy/README.txt", "toy/links.csv", "toy/", "toy/tags/more.csv", "toy/a/b/c"),
    *("toy/ratings.csv", "toy/movies.csv", "toy", "toy//x", "toy/./x", "./toy/x"),
    *("../up", "toy/../../up", "/etc/absolute", "//double", "..\\up", "C:\\x", "toy/..", "..", ".", "", " ", "\n"),
    *("toy/a\nb", "toy/\x1b[31m", "toy/" + "n" * 300, "toy/" + "d/" * 2_500 + "x", "~/.bashrc", "toy/ratings.csv/x"),
    *("toy/a\0b", "../a\0b", "CON", "toy/é", "toy/\x7f", ".hidden", "toy/x ", "toy/:x"),
)
_MODES = (0o100644, 0o120777, 0o040755, 0o060600, 0o020600, 0o010600, 0o140600, 0o104755, 0)


@st.composite
def archives(draw: Draw) -> bytes:
    """A zip of a valid data set, with up to three entries that are something else."""
    entries = [Entry(b"toy/ratings.csv", b"user,item\n1,2\n", 8), Entry(b"toy/movies.csv", b"x" * 500, 8)]
    for _ in range(draw(st.sampled_from((1, 0, 1, 1, 2, 3)))):
        content = draw(st.sampled_from((b"", b"x", b"../../../up", b"/etc/passwd", b"y" * 5_000, b"\0" * 1_200_000)))
        lies = st.none() | st.sampled_from((0, 1, 10, 2**20, 2**31, 2**32 - 1))
        entry = Entry(
            draw(st.sampled_from(_ENTRY_NAMES[:5]) | st.sampled_from(_ENTRY_NAMES)).encode("utf-8", "replace"),
            content,
            method=draw(st.sampled_from((0, 8)) | st.sampled_from((8, 9, 12, 14, 93, 99, 1, 0xFFFF))),
            flags=draw(st.sampled_from((0, 0x800)) | st.sampled_from((1, 8, 0x40, 0x2000, 0xFFFF))),
            mode=draw(st.just(_MODES[0]) | st.sampled_from(_MODES)),
            size=draw(lies) if draw(st.integers(0, 3)) == 0 else None,
            packed_size=draw(lies) if draw(st.integers(0, 5)) == 0 else None,
            offset=draw(lies) if draw(st.integers(0, 5)) == 0 else None,
            crc=0 if draw(st.integers(0, 9)) == 0 else None,
        )
        entries.insert(draw(st.integers(0, len(entries))), entry)
        if draw(st.integers(0, 5)) == 0:
            entries.append(entry)
    data = raw_zip(entries)
    return draw(mutated(data, 3)) if draw(st.integers(0, 3)) == 0 else data


# --- JSON and TOML ---------------------------------------------------------------------------------------------------

odd_values = (
    st.sampled_from((None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, -0.0, 1e308, float("inf"), float("nan")))
    | hostile_texts
    | st.sampled_from(([], {}, [[]], [None], {"": {}}, [1, "a"], {"a": [1]}, ["x"] * 50, [10**400]))
    | st.floats()
    | st.integers()
)


@st.composite
def altered(draw: Draw, value: Any, most: int = 2) -> Any:
    """A JSON value with up to ``most`` of its parts, anywhere in it, replaced, removed, renamed or added."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(0, most))):
        holder, key = _any_place(draw, value)
        if holder is None:
            return copy.deepcopy(draw(odd_values))
        kind = draw(st.sampled_from(("replace", "replace", "remove", "rename", "add")))
        if kind == "replace":
            holder[key] = copy.deepcopy(draw(odd_values))
        elif kind == "remove":
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, copy.deepcopy(draw(odd_values)))
        else:
            holder[draw(hostile_texts)] = holder.pop(key) if kind == "rename" else copy.deepcopy(draw(odd_values))
    return value


def _any_place(draw: Draw, value: Any) -> tuple[Any, Any]:
    """A dictionary or list inside ``value`` and one of its keys; None where there is none."""
    places = [(value, key) for key in _keys(value)]
    for holder, key in places:  # grows while it is walked
        places += [(holder[key], inner) for inner in _keys(holder[key])]
        if len(places) > 500:
            break
    return draw(st.sampled_from(places)) if places else (None, None)


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def json_files(value: Any) -> st.SearchStrategy[bytes]:
    """JSON of ``value`` with parts altered, or with bytes changed, or nested too deep."""
    text = json.dumps(value, indent=1).encode()
    deep = st.sampled_from((b"[" * 100_000, b'{"a":' * 50_000, b"", b"null", b"[]", b"\xff", b"1" * 5_000))
    return st.one_of(altered(value).map(_dumped), altered(value).map(_dumped), mutated(text), deep)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, default=str).encode(errors="surrogatepass")


def toml_files(value: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """TOML of a flat table, or of one of tables, with parts altered, or bytes changed, or nested too deep."""
    deep = st.sampled_from((b"a = " + b"[" * 50_000, b"a." * 20_000 + b"b = 1", b"", b"\xff\xfe", b"a = 1\n" * 2))
    plain = altered(value).map(lambda changed: toml_of(changed) if isinstance(changed, dict) else b"x")
    return st.one_of(plain, plain, mutated(toml_of(value)), deep)


def toml_of(fields: dict[str, Any]) -> bytes:
    """TOML, of any value that JSON can have: null is left out."""
    lines = [f"{json.dumps(name)} = {_toml(value)}" for name, value in fields.items() if value is not None]
    return ("\n".join(lines) + "\n").encode(errors="replace")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(each) for each in value if each is not None) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value).replace("\x7f", "\\u007f")
