"""Find a published archive's files on this machine, or fetch, check and unpack the archive."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import os
import shlex
import stat
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any

from datasets.cache import cache_root, publish, scratch_beside
from datasets.errors import DataError, MissingDataError
from datasets.loader import Progress

TIMEOUT_S = 10
_BLOCK_BYTES = 1 << 16
_MOST_ENTRIES = 1_000
_LONGEST_NAME, _LONGEST_PART = 500, 200
_OF_ENTRIES = (errno.EINVAL, errno.EEXIST, errno.EISDIR, errno.ENOTDIR)
"""Errors of a zip whose places or names contradict each other."""
_ENCRYPTED = 0x2061
"""Flags of an entry: encrypted, patched, strongly encrypted, hidden headers."""


@dataclass(frozen=True)
class Archive:
    """A published zip file with one folder in it.

    Attributes:
        name: of the data set, and of its folder below the data roots.
        url: where it is published.
        size: bytes of the zip; None where its publisher does not say.
        digest: ``"sha256:..."`` or ``"md5:..."``, as its publisher gives it.
        unpacked_limit: bytes that its content may take.
        folder: the folder inside the zip, where it is not ``name``.
    """

    name: str
    url: str
    size: int | None
    digest: str
    unpacked_limit: int
    folder: str | None = None

    @property
    def folders(self) -> list[str]:
        """Names that its folder may have on this machine: ours, then that of the zip."""
        return [self.name] if self.folder is None else [self.name, self.folder]


def data_roots() -> list[Path]:
    """Folders that may hold data sets, in the order they are searched: ``$RECGAUGE_DATA``, then the cache."""
    chosen = os.environ.get("RECGAUGE_DATA")
    roots = [Path(chosen).expanduser().absolute()] if chosen else []
    return [*roots, cache_root() / "data"]


def find(folders: Iterable[Path], files: Sequence[str]) -> list[Path] | None:
    """The paths of ``files`` in the first of ``folders`` that has them all."""
    for folder in folders:
        paths = [folder / file for file in files]
        if all(path.is_file() for path in paths):
            return paths
    return None


def locate(archive: Archive, files: tuple[str, ...], progress: Progress | None = None) -> list[Path]:
    """The paths of ``files`` in the first data root that has them all; else the archive is fetched into the cache.

    Raises MissingDataError that says where was looked, why nothing could be fetched, and what to type.
    """
    if found := find_archive(archive, files):
        return found
    roots = data_roots()
    try:
        fetch(archive, roots[-1], progress)
    except (OSError, http.client.HTTPException, DataError) as error:
        raise _missing(archive, files, roots, f"fetching failed: {error}") from None
    paths = [roots[-1] / archive.name / file for file in files]
    if not all(path.is_file() for path in paths):
        raise _missing(archive, files, roots, f"{roots[-1] / archive.name} is incomplete: remove it")
    return paths


def find_archive(archive: Archive, files: tuple[str, ...]) -> list[Path] | None:
    """The paths of ``files`` in the first data root that has them all, None where none has."""
    return find([root / name for root in data_roots() for name in archive.folders], files)


def fetch(archive: Archive, root: Path, progress: Progress | None = None) -> None:
    """Download ``archive``, check its size and digest, and unpack it to ``root/NAME``, in one rename.

    What came of a download that was cut stays in ``root/.NAME.zip.part``, and the next call goes on from there.

    Raises OSError or HTTPException where the network or the disk fails, DataError for a wrong archive.
    """
    root.mkdir(parents=True, exist_ok=True)
    part = root / f".{archive.name}.zip.part"
    with _locked(part) as file:
        if (root / archive.name).is_dir():  # another process was faster
            part.unlink()
            return
        try:
            _download(archive, file, progress)
        finally:
            if file.seek(0, os.SEEK_END) == 0:
                part.unlink()
        # From here on a part that is of no use must not stand in the way of the next call.
        try:
            _check_digest(archive, file)
            _unpack(archive, part, root)
        finally:
            part.unlink()


def unzip(packed: Path, target: Path, limit: int) -> None:
    """Unpack into ``target``; refuse, before a byte is written, what no data set holds (see ``_check_entries``).

    Raises DataError for that, for a damaged zip and for names that this file system cannot have.
    """
    try:
        with zipfile.ZipFile(packed) as archive:
            _check_entries(archive, packed.name, limit)
            archive.extractall(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise DataError(f"{packed.name}: damaged zip ({error})") from None
    except OSError as error:
        if error.errno not in _OF_ENTRIES:
            raise  # a full disk
        raise DataError(f"{packed.name}: damaged zip ({error})") from None


@contextmanager
def _locked(path: Path) -> Iterator[BufferedRandom]:
    """``path`` opened for reading and appending by one process at a time; the others wait."""
    while True:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # The process that held it may have removed the file: then ours is not the one with the name.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield file
                return


def _download(archive: Archive, file: BufferedRandom, progress: Progress | None) -> None:
    """Append to ``file`` what it lacks of the archive. A connection that is cut is taken up again while bytes come."""
    came = -1
    while (done := file.seek(0, os.SEEK_END)) > came and done != archive.size:
        came = done
        try:
            total = _stream(archive, file, done, progress)
        except (ConnectionError, TimeoutError, http.client.IncompleteRead):
            continue
        if file.tell() == total:
            return
    if done != archive.size:
        of = f" of {archive.size:,}" if archive.size else ""
        raise DataError(f"{archive.url}: {done:,}{of} bytes came; they are kept, and the next run goes on from there")


def _stream(archive: Archive, file: BufferedRandom, done: int, progress: Progress | None) -> int:
    """Ask for the archive from byte ``done`` on and append what comes; the size that the whole should have.

    A server that does not know ranges sends all of it, and a part that is none of its file's gets status 416: both
    start again. One byte too many stops it.
    """
    request = urllib.request.Request(archive.url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if not done or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        response = urllib.request.urlopen(archive.url, timeout=TIMEOUT_S)
    with response:
        if not _continues(response, done):
            file.truncate(0)
            done = 0
        length = response.headers["Content-Length"]
        total = archive.size or (done + int(length) if length else None)
        limit = archive.size or archive.unpacked_limit
        while done <= limit and (block := response.read(_BLOCK_BYTES)):
            file.write(block)
            done += len(block)
            if progress is not None:
                progress(done, total or done)
    if done > limit:
        file.truncate(0)
        raise DataError(f"{archive.url}: more than {limit:,} bytes came")
    return done if total is None else total


def _continues(response: Any, done: int) -> bool:
    """Whether ``response`` begins at byte ``done``."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return done == 0
    return str(response.headers["Content-Range"]).startswith(f"bytes {done}-")


def _check_digest(archive: Archive, file: BufferedRandom) -> None:
    algorithm, _, expected = archive.digest.partition(":")
    file.seek(0)
    found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise DataError(f"{archive.url}: {algorithm} is {found}, expected {expected}; the download was removed")


def _unpack(archive: Archive, packed: Path, root: Path) -> None:
    folder = archive.folders[-1]
    with scratch_beside(root / archive.name) as scratch:
        unzip(packed, scratch, archive.unpacked_limit)
        if not (scratch / folder).is_dir():
            raise DataError(f"{archive.url}: the archive holds no folder {folder}/")
        publish(scratch / folder, root / archive.name)


def _check_entries(archive: zipfile.ZipFile, name: str, limit: int) -> None:
    """Refuse all but plain files and folders, each once and inside the archive's own folder, that are small together.

    zipfile never unpacks more of an entry than the size declared here.
    """
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise DataError(f"{name}: {len(entries):,} entries, at most {_MOST_ENTRIES:,} are expected")
    total = sum(entry.file_size for entry in entries)
    if total > limit:
        raise DataError(f"{name}: would unpack to {total:,} bytes, at most {limit:,} are expected")
    seen = set()
    for entry in entries:
        reason = _entry_problem(entry)
        if reason is None and entry.filename in seen:
            reason = "is there twice"
        if reason is not None:
            raise DataError(f"{name}: entry {entry.filename[:80]!r} {reason}")
        seen.add(entry.filename)


def _entry_problem(entry: zipfile.ZipInfo) -> str | None:
    """What is wrong with one entry. A name is taken as it is stored, before zipfile makes another one of it."""
    parts = entry.filename.removesuffix("/").split("/")
    if not entry.filename.isprintable() or entry.filename != entry.orig_filename:
        return "has a name with control characters"
    if len(entry.filename) > _LONGEST_NAME or any(len(part.encode()) > _LONGEST_PART for part in parts):
        return "has a name that is too long"
    if any(part in ("", ".", "..") for part in parts) or "\\" in entry.filename or ":" in parts[0]:
        return "would be written outside its folder"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is neither a file nor a folder"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"is compressed by method {entry.compress_type}, which is not read here"
    return None


def _missing(archive: Archive, files: tuple[str, ...], roots: list[Path], reason: str) -> MissingDataError:
    looked = " and ".join(str(root / archive.name) for root in roots)
    folder = shlex.quote(str(roots[-1]))
    packed = shlex.quote(str(roots[-1] / f"{archive.name}.zip"))
    command = f"mkdir -p {folder} && curl -fL {archive.url} -o {packed} && unzip {packed} -d {folder}"
    return MissingDataError(
        f"{archive.name}: no {', '.join(files)} in {looked}; {reason}. "
        f"Type: {command}  (or set RECGAUGE_DATA to the folder that holds {archive.name}/)"
    )
