"""Whatever stands in a record or a side file, tables are made of the others, and what is damaged is named.

Each ``fuzz_…`` function takes what an attacker or a bad disk chooses and an empty folder, and raises an AssertionError
where RecGauge does anything but name it. ``RECGAUGE_FUZZ_EXAMPLES`` sets how many of each are tried.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import compare, records
from benchmarks import leaderboard as boards
from benchmarks.environment import digest
from benchmarks.record_format import sealed
from benchmarks.render import render
from benchmarks.report import cards, latex
from benchmarks.worker import save_side_file
from datasets.errors import UserError

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
SAMPLES = (
    *("clock/ml-latest-small/leave-one-out/als", "clock/ml-latest-small/leave-one-out/popularity"),
    *("clock/ml-latest-small/holdout/als", "clock/ml-latest-small/holdout/bias"),
    "clock/ml-latest-small/holdout/ncf-mmr",
)
"""Folders of real records: two rows of each protocol, and one that was skipped."""
TUNED = "ml-latest-small/holdout/als"
USERS = 12
"""Test users that are kept of each side file, so that thousands of examples can be tried."""
FORMATS = ("terminal", "markdown", "csv", "json")
EXAMPLES = settings(
    max_examples=int(os.environ.get("RECGAUGE_FUZZ_EXAMPLES", "12")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]")
_PARTS = re.compile(r"(.+)/([^/]+/[^/]+/[^/]+)")


# --- a folder of real records ----------------------------------------------------------------------------------------


@functools.cache
def _sources() -> tuple[tuple[str, str, bytes, bytes | None], ...]:
    """(folder, stem, JSON, side file) of each sample, as records of the newest version."""
    found = []
    tuned = [path for path in (REFERENCE / TUNED).glob("*-tuned.json")][:1]
    for path in [*(next((REFERENCE / sample).glob("*.json")) for sample in SAMPLES), *tuned]:
        record = records.load(path)
        side = None
        data = {**record.data, "side": None}
        if record.status == "ok":
            side = _small(records.side_file(record))
            sha256 = hashlib.sha256(side).hexdigest()
            data["side"] = {"file": f"{path.stem}.{sha256[:8]}.npz", "sha256": sha256}
        folder = "/".join(path.parent.parts[-3:])
        found.append((folder, path.stem, json.dumps(sealed(data), indent=1).encode(), side))
    return tuple(found)


def _small(path: Path) -> bytes:
    with np.load(path) as arrays:
        return npz({name: array if name == "n_items" else array[:USERS] for name, array in arrays.items()})


def npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    save_side_file(file, arrays)
    return file.getvalue()


def put_samples(folder: Path) -> list[Path]:
    """Write all samples; the paths of their records."""
    paths = []
    for place, stem, text, side in _sources():
        path = folder / place / f"{stem}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        if side is not None:
            path.with_name(json.loads(text)["side"]["file"]).write_bytes(side)
        paths.append(path)
    return paths


def assert_harmless(folder: Path, touched: Path) -> records.Record | None:
    """Every command's way from files to text; returns the touched record if it is taken for sound."""
    found, damages = records.read_all(folder)
    sound, of_files = records.complete(found)
    named = [*damages, *of_files]
    tables = boards.build(sound, folder)
    texts = [render(tables, {}, form) for form in FORMATS]
    texts += [latex.tabular(boards.title(table), table) for table in tables]
    names = sorted({boards.row_name(row) for table in tables for row in table.rows})
    for a, b in itertools.pairwise(names):
        try:
            texts.append(compare.describe(tables, a, b))
        except UserError as error:
            texts.append(str(error))
    cards.of_cells(sound)
    for text in texts:
        assert not _CONTROL.search(text), f"a control character reaches the reader: {_CONTROL.findall(text)}"
        text.encode()
    for error in named:
        assert "\n" not in str(error) and not _CONTROL.search(str(error)) and len(str(error)) < 1000
    (mine,) = [record for record in sound if record.path == touched] or [None]
    assert mine is not None or any(touched.stem in str(error) for error in named), "a record is gone, and not named"
    others = [record for record in sound if record.path != touched]
    assert len(others) >= len(_sources()) - 2, "one bad file takes others with it"
    return mine


# --- what is tried ---------------------------------------------------------------------------------------------------


def fuzz_record(data: bytes, folder: Path, which: int = 0) -> None:
    """``data`` in the place of a record: it is what was written, or it is refused."""
    path = put_samples(folder)[which]
    before = json.loads(path.read_bytes())
    path.write_bytes(data)
    mine = assert_harmless(folder, path)
    assert mine is None or mine.data == before, "a changed record passes for the one that was written"


def fuzz_data(data: dict[str, Any], folder: Path, which: int = 0) -> None:
    """``data`` as a record that somebody wrote on purpose, with the right digest."""
    path = put_samples(folder)[which]
    path.write_text(_text(data))
    assert_harmless(folder, path)


def _text(data: Any) -> str:
    """With its digest where it has one; else with NaN as Python writes it, or just far too deep."""
    for text in (lambda: json.dumps(sealed(data)), lambda: json.dumps(data)):
        with contextlib.suppress(ValueError, RecursionError):
            return text()
    return "[" * 5000


def fuzz_side_file(data: bytes, folder: Path, which: int = 0, matching: bool = True) -> None:
    """``data`` in the place of a side file; ``matching``: its record names its sha256."""
    path = put_samples(folder)[which]
    record = json.loads(path.read_bytes())
    side = path.with_name(record["side"]["file"])
    before = side.read_bytes()
    side.write_bytes(data)
    if matching:
        record["side"]["sha256"] = hashlib.sha256(data).hexdigest()
        path.write_text(json.dumps(sealed(record)))
    mine = assert_harmless(folder, path)
    assert matching or mine is None or data == before, "a changed side file passes for the one that was written"


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, 1e308, -1e308, 1e-320, 2**53, 2**63, 10**30, 10**5000, float("nan")),
    *("", "\x1b[2J\x1b]0;x\x07", "a\nb", "a|b", "\u202eevil", "\ud800", "x" * 100_000, "<script>", "{{7*7}}", "%s%n"),
    *("../../../etc/passwd", "/etc/passwd", "..", ".", "con", "a/b", "a\\b", "\x00", "-1", "NaN", "oracle", "tuned"),
    *([], {}, [[]], [None], {"": None}, {"\x1b": 1}, [1e308, 1e308], nested(20), nested(60), nested(500)),
    *("2999-12-31T23:59:59.999+00:00", "2025-02-31T00:00:00.000+00:00", "ok", "skipped", "external", "holdout"),
)


def places(data: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a record."""
    if before:
        yield before
    parts = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in parts:
        yield from places(value, (*before, name))


def replaced(data: Any, place: tuple[Any, ...], value: Any, how: str) -> Any:
    """A copy of a record with ``value`` at ``place``; or without it, or with it under one more name."""
    copy = json.loads(json.dumps(data))
    at = copy
    for name in place[:-1]:
        at = at[name]
    if how == "delete" and isinstance(at, dict):
        del at[place[-1]]
    elif how == "add" and isinstance(at, dict):
        at["more"] = value
    else:
        at[place[-1]] = value
    return copy


def _whichs(ok: bool = False) -> st.SearchStrategy[int]:
    return st.sampled_from([i for i, (_, _, _, side) in enumerate(_sources()) if side is not None or not ok])


WILD_TEXTS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"-0", b"1e-999")


@st.composite
def broken(draw: st.DrawFn, whole: Callable[[int], bytes], ok: bool = False) -> tuple[int, bytes]:
    """A file of a sample with bytes cut off, flipped, put in or put in place of others."""
    which = draw(_whichs(ok))
    data = bytearray(whole(which))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["cut", "flip", "insert", "overwrite", "number"]))
        if how == "cut":
            del data[place:]
        elif how == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "number":
            numbers = list(re.finditer(rb"(?<=[ :\[])-?[0-9][0-9.e+-]*", bytes(data)))
            if numbers:
                found = numbers[place % len(numbers)]
                wild = draw(
                    st.sampled_from([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"-0", b"1e-999"])
                )
                data[found.start() : found.end()] = wild
        else:
            some = draw(st.binary(min_size=1, max_size=40))
            data[place : place + (len(some) if how == "overwrite" else 0)] = some
    return which, bytes(data)


@st.composite
def hostile_data(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    """A sample with one to three of its values replaced."""
    which = draw(_whichs())
    data = json.loads(_sources()[which][2])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(places(data))))
        value, how = draw(st.sampled_from(HOSTILE)), draw(st.sampled_from(["replace", "replace", "delete", "add"]))
        try:
            data = replaced(data, place, value, how)
        except (ValueError, RecursionError):  # what was put in before cannot be copied as JSON
            break
    return which, data


WILD_NUMBERS = (-1, 0, 1, 99, 2**31 - 1, -(2**31), 1e308, -1e308, np.nan, np.inf, 1e-320, 0.5)
TYPES = ("int8", "int32", "uint64", ">i4", "float16", "float32", "float64", "complex128", "bool", "U3", "S2", "M8[s]")


@st.composite
def hostile_arrays(draw: st.DrawFn) -> tuple[int, bytes]:
    """A side file with arrays of other types, shapes and values."""
    which = draw(_whichs(ok=True))
    with np.load(io.BytesIO(_sources()[which][3] or b"")) as file:
        arrays = dict(file)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(arrays)))
        how = draw(st.sampled_from(["value", "type", "shape", "drop", "empty", "name"]))
        array = np.atleast_1d(arrays[name])
        if array.dtype.kind not in "biuf" and how in ("value", "type"):
            continue  # it is of no type that an outcome has already
        with np.errstate(all="ignore"):
            if how == "value" and array.size:
                flat = array.astype(np.float64).ravel()
                flat[draw(st.integers(0, flat.size - 1))] = draw(st.sampled_from(WILD_NUMBERS))
                arrays[name] = flat.reshape(array.shape).astype(
                    draw(st.sampled_from([array.dtype, np.dtype("float64")]))
                )
            elif how == "type":
                arrays[name] = array.astype(draw(st.sampled_from(TYPES)))
            elif how == "shape":
                arrays[name] = draw(st.sampled_from([array[:-1], array[None], array.ravel(), np.array(3), array[::-1]]))
            elif how == "empty":
                arrays[name] = array[:0]
            elif how == "name":
                arrays[draw(st.sampled_from(["pair_scores", "..", "/x", "é", "users"]))] = array
            elif len(arrays) > 1:
                del arrays[name]
    return which, npz(arrays)


def bombs() -> list[bytes]:
    """Archives that promise, or are, far more than they seem."""
    zeros = np.zeros(40_000_000, dtype=np.int8)
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<i4', 'fortran_order': False, 'shape': (%s,), }"
    big, nest = (header % size for size in (b"9" * 12, b"(" * 3000))
    made = [npz({"users": zeros}), npz({f"a{i}": zeros[:1000] for i in range(500)})]
    for content in (big.ljust(128) + b"\n", nest + b"\n", b"\x93NUMPY\x09\x00", b"", b"\x93NUMPY\x01\x00\xff\xff"):
        made.append(_zip(content, zipfile.ZIP_DEFLATED))
    made += [_zip(bytes(10_000_000), method) for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)]
    lies = bytearray(_zip(bytes(1000), zipfile.ZIP_STORED))
    place = lies.rindex(b"PK\x01\x02")
    made.append(
        bytes(lies[: place + 24] + b"\xff\xff\xff\x7f" + lies[place + 28 :])
    )  # the directory's size of the entry
    lies[place + 8] |= 1  # encrypted
    return [*made, bytes(lies)]


def _zip(content: bytes, method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("users.npy", content)
    return file.getvalue()


def in_empty_folder(call: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        call(Path(folder))


# --- tests -----------------------------------------------------------------------------------------------------------


def test_untouched_samples_are_sound(tmp_path: Path) -> None:
    for path in put_samples(tmp_path):
        assert assert_harmless(tmp_path, path) is not None


@EXAMPLES
@given(broken(lambda which: _sources()[which][2]))
def test_a_broken_record_is_named(example: tuple[int, bytes]) -> None:
    which, data = example
    in_empty_folder(lambda folder: fuzz_record(data, folder, which))


@EXAMPLES
@given(hostile_data())
def test_a_record_written_on_purpose_stops_nothing(example: tuple[int, dict[str, Any]]) -> None:
    which, data = example
    in_empty_folder(lambda folder: fuzz_data(data, folder, which))


@EXAMPLES
@given(broken(lambda which: _sources()[which][3] or b"", ok=True), st.booleans())
def test_a_broken_side_file_is_named(example: tuple[int, bytes], matching: bool) -> None:
    which, data = example
    in_empty_folder(lambda folder: fuzz_side_file(data, folder, which, matching))


@EXAMPLES
@given(hostile_arrays())
def test_arrays_written_on_purpose_stop_nothing(example: tuple[int, bytes]) -> None:
    which, data = example
    in_empty_folder(lambda folder: fuzz_side_file(data, folder, which))


@pytest.mark.parametrize("number", range(len(bombs())))
def test_bombs_are_refused_unopened(tmp_path: Path, number: int) -> None:
    fuzz_side_file(bombs()[number], tmp_path)
    assert any(records.damage_at(each) for each in tmp_path.glob("*/*/*/*.json"))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 100_000, '{"a":' * 100_000, "9" * 100_000, "\ufeff{}", "", "null"]
)
def test_texts_that_break_parsers_are_refused(tmp_path: Path, text: str) -> None:
    fuzz_record(text.encode(), tmp_path)


WAYS = (
    *(("algorithm", "name"), ("algorithm", "label"), ("reason",), ("dataset", "name"), ("protocol", "name")),
    *(("protocol", "config", "negatives"), ("protocol", "config"), ("algorithm", "config"), ("metrics", "hr@10")),
    *(("side", "file"), ("created",), ("hardware", "cpu"), ("dataset", "n_users"), ("timings", "fit_s", 0)),
)
"""To values that names, files and figures are made of."""


@EXAMPLES
@given(st.sampled_from(WAYS), st.sampled_from(HOSTILE))
def test_hostile_names_and_figures_stop_nothing(place: tuple[Any, ...], value: Any) -> None:
    data = replaced_raw(json.loads(_sources()[0][2]), place, value)
    in_empty_folder(lambda folder: fuzz_data(data, folder))


def replaced_raw(data: Any, place: tuple[Any, ...], value: Any) -> Any:
    """As ``replaced``, of a value that JSON does not know too."""
    if not place:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[place[0]] = replaced_raw(data[place[0]], place[1:], value)
    return copy


def test_a_record_of_a_newer_version_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = put_samples(tmp_path)[0]
    path.write_text(path.read_text().replace("recgauge.record/2", "recgauge.record/3"))
    _, (error,) = records.read_all(tmp_path)
    assert str(error) == f"{path}: made by a newer RecGauge (recgauge.record/3): update"


def test_test_users_of_another_split_are_no_competitors(tmp_path: Path) -> None:
    """A side file with a right digest, whose users are not those whom everybody else was asked about."""
    paths = put_samples(tmp_path)
    third = paths[0].parent.with_name("third") / f"{digest('third')[:32]}.json"
    third.parent.mkdir()
    data = json.loads(paths[0].read_bytes())
    with np.load(paths[0].with_name(data["side"]["file"])) as file:
        arrays = dict(file)
    arrays["users"] = arrays["users"] + 100
    arrays["users_full"] = arrays["users_full"] + 100
    content = npz(arrays)
    sha256 = hashlib.sha256(content).hexdigest()
    third.with_name(f"{third.stem}.{sha256[:8]}.npz").write_bytes(content)
    data["side"] = {"file": f"{third.stem}.{sha256[:8]}.npz", "sha256": sha256}
    data["algorithm"]["name"] = "third"
    third.write_text(json.dumps(sealed(data)))
    assert assert_harmless(tmp_path, third) is None
