"""Find a published archive's files on this machine, or fetch, check and unpack the archive."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import tempfile
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from datasets.cache import cache_root, publish
from datasets.errors import DataError, MissingDataError
from datasets.loader import Progress

TIMEOUT_S = 10
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True)
class Archive:
    """A published zip file with one folder in it.

    Attributes:
        name: the folder inside the zip, and its name below the data roots.
        url: where it is published.
        size: bytes of the zip.
        digest: ``"sha256:..."`` or ``"md5:..."``, as its publisher gives it.
        unpacked_limit: bytes that its content may take.
    """

    name: str
    url: str
    size: int
    digest: str
    unpacked_limit: int


def data_roots() -> list[Path]:
    """Folders that may hold data sets, in the order they are searched: ``$RECGAUGE_DATA``, then the cache."""
    chosen = os.environ.get("RECGAUGE_DATA")
    roots = [Path(chosen).expanduser().absolute()] if chosen else []
    return [*roots, cache_root() / "data"]


def locate(archive: Archive, files: tuple[str, ...], progress: Progress | None = None) -> list[Path]:
    """The paths of ``files`` in the first data root that has them all; else the archive is fetched into the cache.

    Raises MissingDataError that says where was looked, why nothing could be fetched, and what to type.
    """
    roots = data_roots()
    for root in roots:
        paths = [root / archive.name / file for file in files]
        if all(path.is_file() for path in paths):
            return paths
    try:
        fetch(archive, roots[-1], progress)
    except (OSError, http.client.HTTPException, DataError) as error:
        raise _missing(archive, files, roots, f"fetching failed: {error}") from None
    if not all(path.is_file() for path in paths):
        raise _missing(archive, files, roots, f"{roots[-1] / archive.name} is incomplete: remove it")
    return paths


def fetch(archive: Archive, root: Path, progress: Progress | None = None) -> None:
    """Download ``archive``, check its size and digest, and unpack it to ``root/NAME``, in one rename.

    Raises OSError or HTTPException where the network or the disk fails, DataError for a wrong archive.
    """
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{archive.name}-") as scratch:
        packed = Path(scratch, "archive.zip")
        _download(archive, packed, progress)
        _check_digest(archive, packed)
        unpacked = Path(scratch, "unpacked")
        unzip(packed, unpacked, archive.unpacked_limit)
        if not (unpacked / archive.name).is_dir():
            raise DataError(f"{archive.url}: the archive holds no folder {archive.name}/")
        publish(unpacked / archive.name, root / archive.name)


def unzip(packed: Path, target: Path, limit: int) -> None:
    """Unpack into ``target``; refuse, before a byte is written, entries outside it and more than ``limit`` bytes.

    Raises DataError for those and for a damaged zip.
    """
    try:
        with zipfile.ZipFile(packed) as archive:
            _check_entries(archive, target, limit)
            archive.extractall(target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{packed.name}: damaged zip ({error})") from None


def _download(archive: Archive, target: Path, progress: Progress | None) -> None:
    """Stream the archive to ``target``; one byte too many stops it."""
    done = 0
    with urllib.request.urlopen(archive.url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
        while done <= archive.size and (block := response.read(_BLOCK_BYTES)):
            file.write(block)
            done += len(block)
            if progress is not None:
                progress(done, archive.size)
    if done != archive.size:
        came = f"more than {archive.size:,}" if done > archive.size else f"{done:,} of {archive.size:,}"
        raise DataError(f"{archive.url}: {came} bytes came")


def _check_digest(archive: Archive, packed: Path) -> None:
    algorithm, _, expected = archive.digest.partition(":")
    with packed.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise DataError(f"{archive.url}: {algorithm} is {found}, expected {expected}")


def _check_entries(archive: zipfile.ZipFile, target: Path, limit: int) -> None:
    inside = target.resolve()
    for name in archive.namelist():
        if not (inside / name).resolve().is_relative_to(inside):
            raise DataError(f"{name!r} in the zip would be written outside its folder")
    # zipfile never unpacks more of an entry than the size declared here.
    total = sum(entry.file_size for entry in archive.infolist())
    if total > limit:
        raise DataError(f"the zip would unpack to {total:,} bytes, at most {limit:,} are expected")


def _missing(archive: Archive, files: tuple[str, ...], roots: list[Path], reason: str) -> MissingDataError:
    looked = " and ".join(str(root / archive.name) for root in roots)
    folder = shlex.quote(str(roots[-1]))
    packed = shlex.quote(str(roots[-1] / f"{archive.name}.zip"))
    command = f"mkdir -p {folder} && curl -fL {archive.url} -o {packed} && unzip {packed} -d {folder}"
    return MissingDataError(
        f"{archive.name}: no {', '.join(files)} in {looked}; {reason}. "
        f"Type: {command}  (or set RECGAUGE_DATA to the folder that holds {archive.name}/)"
    )
