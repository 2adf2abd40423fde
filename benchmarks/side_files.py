"""Side files: per-user outcomes as ``.npz``. Nothing is unpacked before the directory says that it is harmless."""

from __future__ import annotations

import errno
import hashlib
import math
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from benchmarks.record_format import DamagedError, readable
from protocols.types import Arrays

RAW_SCORES = "pair_scores"
"""By far the largest array of a side file, and no figure of a table needs it: it is never unpacked here."""

MAX_ARRAYS = 100
BYTES_PER_USER = 1024
"""What the arrays of any protocol have of a user is a fraction of this."""
BYTES_FOR_ALL = 2**20
MAX_RATIO = 1040
"""Deflate makes nothing smaller than by 1,032: a directory that says so lies."""

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    re.escape(_MAGIC)
    + rb"(?P<size>..)\{'descr': '(?P<type>[<>|][biuf][1248])', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>[0-9, ]{0,60})\), \} *\n",
    re.DOTALL,
)
"""The only one that NumPy writes for such arrays. Its own reader would evaluate whatever stands there."""

_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError),
    *(OverflowError, TypeError, KeyError),
)
"""What zipfile raises for a file that is none of ours, and NumPy for a type that is none."""


def read(path: Path, sha256: str, n_users: int) -> Arrays:
    """All arrays but the raw scores of a side file with this sha256.

    Raises:
        DamagedError: it is missing, another file, or unpacks to more than ``n_users`` users can need.
        UnreadableError: the system does not let it be read.
    """
    with readable(path):
        if not path.is_file():
            raise DamagedError(path, "the record's side file is missing")
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise DamagedError(path, "not the side file that its record names (its sha256 differs)")
            return _unpacked(file, path, n_users)


def _unpacked(file: BinaryIO, path: Path, n_users: int) -> Arrays:
    try:
        with zipfile.ZipFile(file) as archive:
            return _arrays(archive, path, n_users)
    except DamagedError:
        raise
    except OSError as problem:
        if problem.errno != errno.EINVAL:
            raise
        raise DamagedError(path, "no side file of ours (it leads to where no byte can be)") from None
    except _UNREADABLE as problem:
        raise DamagedError(path, f"no side file of ours ({type(problem).__name__}: {problem})") from None


def _arrays(archive: zipfile.ZipFile, path: Path, n_users: int) -> Arrays:
    entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()) or len(entries) > MAX_ARRAYS:
        raise DamagedError(path, f"holds {len(archive.infolist())} arrays, {MAX_ARRAYS} with different names at most")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries.values()):
        raise DamagedError(path, "packed in a way that NumPy does not use")
    packed = path.stat().st_size
    if sum(entry.compress_size for entry in entries.values()) > packed:
        raise DamagedError(path, "its directory names more bytes than it has")
    wanted = {name: entry for name, entry in entries.items() if name != RAW_SCORES}
    unpacked = sum(entry.file_size for entry in wanted.values())
    limit = min(BYTES_FOR_ALL + BYTES_PER_USER * n_users, BYTES_FOR_ALL + MAX_RATIO * packed)
    if unpacked > limit:
        raise DamagedError(path, f"unpacks to {unpacked:,} bytes, {limit:,} are possible for {n_users:,} users")
    return {name: _array(name, archive.read(entry)) for name, entry in wanted.items()}


def _array(name: str, content: bytes) -> npt.NDArray[Any]:
    """The array of an ``.npy`` as NumPy writes it, whose header must fit what follows it.

    Raises:
        ValueError: it does not.
    """
    found = _HEADER.match(content)
    if found is None or found.end() != len(_MAGIC) + 2 + int.from_bytes(
        content[len(_MAGIC) : len(_MAGIC) + 2], "little"
    ):
        raise ValueError(f"array {name} is of no type that an outcome has")
    dtype, fortran_order = np.dtype(found["type"].decode()), found["fortran"] == b"True"
    shape = tuple(int(size) for size in found["shape"].replace(b",", b" ").split())
    entries = content[found.end() :]
    if math.prod(shape) * dtype.itemsize != len(entries):
        raise ValueError(f"array {name} of type {dtype} and shape {shape} has {len(entries):,} bytes")
    if dtype.kind == "b" and max(entries, default=0) > 1:
        raise ValueError(f"array {name} holds more than true and false")
    return np.frombuffer(entries, dtype).reshape(shape, order="F" if fortran_order else "C")
