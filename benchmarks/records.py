"""Records: one JSON file a cell, with a side file of per-user outcomes. Every table is made of these alone.

``<results>/<dataset>/<protocol>/<algorithm>/<key>.json`` beside ``<key>.<digest>.npz``, for a failure ``<key>.log``
and, where the model is kept, ``<key>.<digest>.model/``. Side file and model have the beginning of their own digest in
their names, so that none of them replaces what an older record still names; they are in place before the JSON is. A
record that can be read is complete, whenever the power fails. ``results/README.md`` explains the fields.

Whoever reads a record gets one that is sound, or a ``DamagedError`` that says why it is not. What nobody here
can judge, since it cannot be read now or is of a newer RecGauge, is an ``UnreadableError``: it is never moved or
replaced.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import shutil
import stat
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks import record_format
from benchmarks.environment import canonical_json, digest, file_digest
from benchmarks.record_format import DamagedError, UnreadableError, readable
from datasets.errors import NotWritableError, UserError, one_line

if TYPE_CHECKING:
    from protocols.types import Arrays, EvaluationProtocol

EXTERNAL = "external"
"""Label of a row whose answers were made elsewhere, and the part of its record that says which they were."""

DAMAGED = ".damaged"
"""Folder of a results folder to which ``run`` moves what it does not trust."""

SHOWN_DAMAGES = 10
ORPHAN_S = 24 * 3600
"""Seconds after which a file that no record names is left behind: to write a record takes a few."""

LOG_TAIL = 2**16
"""Bytes of a log that anybody is shown."""

_NOT_IN_TABLES = {"leave-one-out": ("top_items",)}
"""Protocol -> the outcomes of which no figure with an interval is made."""

_LAST_MOMENT = datetime.fromisoformat("2999-12-31T23:59:59.999+00:00")
_CREATED = re.compile(rb'"created":\s*"([^"]{29})"')


@dataclass(frozen=True)
class Record:
    """One cell's result as it stands on disk. ``data`` follows ``results/record.schema.json``."""

    path: Path
    data: dict[str, Any]
    outcomes: Arrays | None = field(default=None, compare=False, repr=False)
    """Of an ok record, without its raw scores, and without lists if ``complete`` read them; None where nobody has read
    them, see ``with_outcomes``."""

    @property
    def status(self) -> str:
        return str(self.data["status"])

    @property
    def split_fingerprint(self) -> str:
        return str(self.data["split"]["fingerprint"])

    @property
    def is_external(self) -> bool:
        """Whether ``score`` made it, from a file of answers; it has no timings then."""
        return EXTERNAL in self.data

    @property
    def untimed(self) -> str | None:
        """Why a measured cell has no seconds, or None where it has them."""
        return (self.data["timings"] or {}).get("not_measured")

    @property
    def cell_identity(self) -> str:
        """Equal for an older and a newer record of the same cell, whatever code made them.

        A tuned row stays the same row when tuning finds another configuration for it.
        """
        algorithm = self.data["algorithm"]
        if "tuned" in algorithm:
            algorithm = {name: algorithm[name] for name in ("name", "label")}
        parts = ("dataset", "protocol", "seed", "device", "threads", "hardware_fingerprint")
        return digest([self.split_fingerprint, algorithm, *(self.data[part] for part in parts)])


def record_path(results: Path, dataset: str, protocol: str, algorithm: str, key: str, tuned: bool = False) -> Path:
    """Where the record of a cell lies; a tuned row has its own, since its key may be the default row's."""
    return results / dataset / protocol / algorithm / f"{key[:32]}{'-tuned' if tuned else ''}.json"


def load(path: Path) -> Record:
    """The record at ``path``, without a look at its side file.

    Raises:
        DamagedError: it is not a readable, unchanged record of a version that is known.
    """
    with readable(path):
        return Record(path, record_format.parse(path, _content(path)))


def read(path: Path) -> Record | None:
    """The record at ``path``; None where there is none or it is damaged."""
    try:
        return load(path)
    except DamagedError:
        return None


def _content(path: Path) -> bytes:
    with readable(path):
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            raise DamagedError(path, "no file")
        with path.open("rb") as file:
            text = file.read(record_format.MAX_BYTES + 1)
    if len(text) > record_format.MAX_BYTES:
        raise DamagedError(path, f"larger than {record_format.MAX_BYTES // 2**20} MiB")
    return text


@dataclass(frozen=True)
class Wanted:
    """What a record has to hold beside its figures."""

    repeats: int = 1
    throughput: bool = False
    model: bool = False

    def and_what(self, record: Record | None, key: str) -> Wanted:
        """This, and what a ``record`` of the same cell holds already: a cell that runs again loses nothing."""
        if record is None or record.status != "ok" or record.data["key"] != key:
            return self
        timings = record.data["timings"]
        return Wanted(
            max(self.repeats, len(timings["fit_s"] or ())),
            self.throughput or bool(timings["throughput"]),
            self.model or record.data["model"] is not None,
        )


_SECONDS = ("fit_s", "search_s", "pairs_s", "rank_s", "throughput", "host", "stages")


def without_seconds(timings: dict[str, Any], reason: str) -> dict[str, Any]:
    """A record's ``timings`` where a machine was shared: the counts, and why there are no seconds."""
    return {**timings, **dict.fromkeys(_SECONDS), "not_measured": reason}


def satisfies(record: Record | None, key: str, wanted: Wanted) -> bool:
    """Whether a cell need not run again: it holds at least what is wanted, and is sound. Failures never count.

    A model that cannot be saved is not waited for: ``memory.model_bytes`` is null then.
    """
    if record is None or record.status != "ok" or record.data["key"] != key:
        return False
    timings = record.data["timings"]
    if timings is None or len(timings["fit_s"] or ()) < wanted.repeats:
        return False
    if wanted.throughput and not timings["throughput"]:
        return False
    if wanted.model and record.data["memory"]["model_bytes"] is not None and not _has_model(record):
        return False
    return damage(record) is None


# --- what belongs to a record ----------------------------------------------------------------------------------------


def side_file(record: Record) -> Path:
    """The side file of an ok record.

    Raises:
        DamagedError: it has none, or it leads out of the record's folder.
    """
    side = record.data["side"]
    if side is None:
        raise DamagedError(record.path, "it has no side file")
    return _beside(record.path, side["file"])


def with_outcomes(record: Record) -> Record:
    """An ok record with its outcomes, checked by its protocol; any other as it is.

    Where another harness has replaced the record since it was read, this is the newer one.

    Raises:
        DamagedError: the side file is missing, is not the one that was written or holds nonsense.
    """
    if record.outcomes is not None:
        return record
    try:
        return _with_outcomes(record)
    except DamagedError:
        newer = read(record.path)
        if newer is None or newer.data == record.data:
            raise
        return _with_outcomes(newer)


def _with_outcomes(record: Record) -> Record:
    protocol = protocol_of(record)
    return replace(record, outcomes=_outcomes(record, protocol)) if record.status == "ok" else record


def _outcomes(record: Record, protocol: EvaluationProtocol) -> Arrays:
    from benchmarks import side_files  # NumPy, which planning can do without where nothing is known yet

    path, dataset = side_file(record), record.data["dataset"]
    outcomes = side_files.read(path, record.data["side"]["sha256"], dataset["n_users"])
    try:
        protocol.check_outcomes(outcomes, dataset["n_users"], dataset["n_items"])
    except ValueError as problem:
        raise DamagedError(path, str(problem)) from None
    return outcomes


def protocol_of(record: Record, without: str | None = None) -> EvaluationProtocol:
    """The protocol of a record with its options, but for the option ``without``.

    Raises:
        DamagedError: there is no such protocol here, or its options cannot be.
    """
    data = record.data["protocol"]
    options = {name: value for name, value in data["config"].items() if name != without}
    try:
        return _protocol(data["name"], canonical_json(options))
    except UserError as problem:
        raise DamagedError(record.path, str(problem)) from None


@functools.cache
def _protocol(name: str, options: str) -> EvaluationProtocol:
    """One for all records that were made by it."""
    from algorithms.config import resolve_config
    from protocols import registry

    if name not in registry.PROTOCOLS:
        raise UserError(f"unknown protocol '{name}': give its --plugin")
    protocol_class = registry.load_class(registry.spec(name))
    protocol: EvaluationProtocol = protocol_class(resolve_config(protocol_class.Config, json.loads(options), name))
    return protocol


def complete(found: Iterable[Record]) -> tuple[list[Record], list[DamagedError]]:
    """The records that are sound, with the outcomes that tables need, and what is wrong with the others."""
    sound, damages = [], []
    for record in found:
        try:
            sound.append(_for_tables(with_outcomes(record)))
        except DamagedError as error:
            damages.append(error)
    strangers = {record.path for record in _strangers(sound)}
    damages += [DamagedError(path, "its test users are not those of the others of its split") for path in strangers]
    return [record for record in sound if record.path not in strangers], damages


def _for_tables(record: Record) -> Record:
    """Without what is only in figures that the record has itself: of a thousand records, that is gigabytes."""
    spare = _NOT_IN_TABLES.get(record.data["protocol"]["name"], ())
    if record.outcomes is None or not spare:
        return record
    return replace(record, outcomes={name: array for name, array in record.outcomes.items() if name not in spare})


def _strangers(found: Iterable[Record]) -> list[Record]:
    """Records whose test users are not those of most records of their split."""
    by_split: dict[str, dict[bytes, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in found:
        if (users := _users(record)) is not None:
            by_split[_split(record)][users].append(record)
    strangers = []
    for groups in by_split.values():
        _, *others = sorted(groups.values(), key=len, reverse=True)
        strangers += [record for group in others for record in group]
    return strangers


def _split(record: Record) -> str:
    """Records with the same one were asked about the same test users."""
    return digest([record.split_fingerprint, record.data["protocol"]["name"]])


def _users(record: Record) -> bytes | None:
    """The test users of an ok record."""
    users = None if record.outcomes is None else record.outcomes.get("users")
    return None if users is None else users.astype("int64").tobytes()


def tell(damages: Iterable[DamagedError]) -> None:
    """Name what is left out, each in a line of standard error, the first ten of them."""
    damages = list(damages)
    for error in damages[:SHOWN_DAMAGES]:
        print(f"recgauge: {error}: left out", file=sys.stderr)
    if len(damages) > SHOWN_DAMAGES:
        more = len(damages) - SHOWN_DAMAGES
        print(f"recgauge: and {more} more: 'python -m benchmarks check --results FOLDER' names all", file=sys.stderr)


def damage(record: Record) -> str | None:
    """What is wrong with the files of a record that was read; None where it is sound."""
    try:
        with_outcomes(record)
    except DamagedError as error:
        return str(error)
    return None


def damage_at(path: Path) -> DamagedError | None:
    """What is wrong with the record at ``path`` or its files; None where there is none or it is sound."""
    if not os.path.lexists(path):
        return None
    try:
        record = with_outcomes(load(path))
        if (folder := model_folder(record)) is not None and os.path.lexists(folder):
            checked_model(record)
    except DamagedError as error:
        return error
    return None


def log_tail(record: Record) -> str:
    """The end of what a failed cell's worker printed; nothing where there is no log."""
    log = record.path.with_suffix(".log")
    if record.status == "ok" or not log.is_file() or log.resolve().parent != log.parent.resolve():
        return ""
    with log.open("rb") as file:
        return tail(file, LOG_TAIL)


def tail(file: IO[bytes], limit: int) -> str:
    """The last ``limit`` bytes of an open file, as text."""
    file.seek(max(0, os.fstat(file.fileno()).st_size - limit))
    return file.read(limit).decode(errors="replace")


def model_folder(record: Record) -> Path | None:
    """Where the fitted model of a record lies; None where none was kept.

    Raises:
        DamagedError: it leads out of the record's folder.
    """
    model = record.data["model"]
    return None if model is None else _beside(record.path, model["folder"])


def checked_model(record: Record) -> Path:
    """``model_folder``, whose files are what the record says they are.

    Raises:
        DamagedError: a file is missing or has changed since.
    """
    folder = model_folder(record)
    if folder is None:
        raise ValueError(f"{record.path.name} keeps no model")
    for name, sha256 in record.data["model"]["sha256"].items():
        file = _beside(folder / name, name)
        with readable(file):
            if not file.is_file():
                raise DamagedError(file, "is missing")
            if file_digest(file) != sha256:
                raise DamagedError(file, "has changed since it was saved (its sha256 differs)")
    return folder


def _has_model(record: Record) -> bool:
    try:
        return record.data["model"] is not None and checked_model(record).is_dir()
    except DamagedError:
        return False


def _beside(path: Path, name: str) -> Path:
    """The file or folder ``name`` in the folder of ``path``.

    Raises:
        UnreadableError: it is a link that leads elsewhere, as one of DVC or git-annex.
    """
    beside = path.with_name(name)
    with readable(beside):
        if beside.resolve().parent != path.parent.resolve():
            raise UnreadableError(beside, "leads out of its folder: put the file itself in place of the link")
    return beside


def set_aside(path: Path, reason: str) -> Path:
    """Move all files of the cell at ``path`` to a new folder below ``.damaged``; nothing is deleted or overwritten.

    Returns the folder, such as ``<results>/.damaged/<dataset>/<protocol>/<algorithm>/<key>.1``; one line of standard
    error names it with the ``reason``. For who has the cell to itself.
    """
    results = path.parents[3]
    place = results / DAMAGED / path.parent.relative_to(results)
    place.mkdir(parents=True, exist_ok=True)
    for number in range(1, sys.maxsize):
        folder = place / f"{path.stem}.{number}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    for file in sorted(_files_of_cell(path), key=lambda file: file == path):
        os.rename(file, folder / file.name)  # the record last: until then the next run finds what is left, and moves it
    print(f"recgauge: {one_line(reason)}: set aside in {one_line(str(folder))}", file=sys.stderr)
    return folder


def set_aside_damaged(path: Path) -> None:
    """``set_aside`` what is at ``path`` if it is damaged: to be called before it is measured again.

    Raises:
        UserError: it may be sound, but not be read here and now; it stays, so the cell cannot be measured.
    """
    damage = damage_at(path)
    if isinstance(damage, UnreadableError):
        raise _not_replaced(damage)
    if damage is not None:
        set_aside(path, str(damage))


def _not_replaced(error: UnreadableError) -> UserError:
    return UserError(f"{error}, or give another --results")


def _files_of_cell(path: Path) -> Iterator[Path]:
    """The record at ``path``, and every side file, model and log of its cell, named by it or not."""
    mine = re.compile(rf"{re.escape(path.stem)}(\.json|(\.[0-9a-f]{{8}})?\.(npz|model)|\.log)")
    return (file for file in path.parent.iterdir() if mine.fullmatch(file.name))


# --- writing ---------------------------------------------------------------------------------------------------------


def write(path: Path, data: dict[str, Any], side: Path | None, log: Path | None, model: Path | None = None) -> Record:
    """Put a record in place: model, side file, log, then the JSON, each by a rename; then the older ones go.

    ``created`` becomes later than that of every older record of the cell, whatever the clocks say.

    Raises:
        ValueError: ``data`` is no record; nothing was replaced.
        UserError: a record of a newer RecGauge, or one that cannot be read, is in its place.
    """
    _refuse_to_replace(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {**data, "side": None, "model": None}
    data["memory"] = {**dict.fromkeys(record_format.MEMORY), **data["memory"]}
    if model is not None:
        files = sorted(file for file in model.iterdir() if file.is_file())
        sums = {file.name: file_digest(file) for file in files}
        data["model"] = {"folder": f"{path.stem}.{digest(sums)[:8]}.model", "sha256": sums}
    if side is not None:
        sha256 = file_digest(side)
        data["side"] = {"file": f"{path.stem}.{sha256[:8]}.npz", "sha256": sha256}
    data["created"] = _after_older(path, data)
    text = json.dumps(record_format.sealed(data), indent=1, allow_nan=False) + "\n"
    try:
        record = Record(path, record_format.parse(path, text.encode()))
    except DamagedError as error:
        raise ValueError(f"a record that no one could read: {error.reason}") from error
    if model is not None:
        _put_folder(model, path.with_name(data["model"]["folder"]))
    if side is not None:
        _put(side, side_file(record))
    if log is not None:
        _put(log, path.with_suffix(".log"))
    _put_text(path, text)
    _remove_unnamed(record, keep_log=log is not None)
    return record


def _refuse_to_replace(path: Path) -> None:
    """A record that may be sound but cannot be judged is not replaced, not even by one of a skipped cell."""
    if os.path.lexists(path):
        try:
            load(path)
        except UnreadableError as error:
            raise _not_replaced(error) from None
        except DamagedError:
            pass


def _after_older(path: Path, data: dict[str, Any]) -> str:
    """``created``, or the millisecond after the newest record of the same cell, if a clock was ahead."""
    created, identity = data["created"], Record(path, data).cell_identity
    for other in path.parent.glob("*.json"):
        with contextlib.suppress(DamagedError):
            text = _content(other)
            found = _CREATED.search(text)
            if found is None or found[1].decode(errors="replace") < created:
                continue
            older = Record(other, record_format.parse(other, text))
            if older.cell_identity == identity and older.data["created"] >= created:
                moment = min(datetime.fromisoformat(older.data["created"]) + timedelta(milliseconds=1), _LAST_MOMENT)
                created = moment.isoformat(timespec="milliseconds")
    return str(created)


def _put(file: Path, target: Path) -> None:
    """Rename a file into place, so that a power cut leaves the old or the new one, whole."""
    _sync(file)
    os.replace(file, target)
    _sync(target.parent)


def _put_text(path: Path, text: str) -> None:
    """The same for a text; where it cannot be written, as on a full disk, nothing of it stays."""
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        _put(temporary, path)
    finally:
        _remove(temporary)


def _put_folder(folder: Path, target: Path) -> None:
    """The same for a folder of files, whose name says what is in it: where that is there already, it stays."""
    if _same_files(folder, target):
        _remove(folder)
        return
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)
    older = folder.with_name(f"{folder.name}.older")
    if os.path.lexists(target):  # not what its name says, and no folder replaces another in one step
        os.rename(target, older)
    os.replace(folder, target)
    _sync(target.parent)
    _remove(older)


def _same_files(folder: Path, target: Path) -> bool:
    if target.is_symlink() or not target.is_dir():
        return False
    names = {file.name for file in folder.iterdir()}
    if names != {file.name for file in target.iterdir()}:
        return False
    return all(_is_copy(folder / name, target / name) for name in names)


def _is_copy(file: Path, other: Path) -> bool:
    return other.is_file() and not other.is_symlink() and file_digest(file) == file_digest(other)


_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network and FUSE file systems have no fsync of a folder; of a file all have it
        if error.errno not in _NO_FSYNC or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def _remove_unnamed(record: Record, keep_log: bool) -> None:
    """Remove side files, models and logs of this cell that its record does not name."""
    named = {record.path.name, record.path.with_suffix(".log").name if keep_log else None}
    named |= {part[name] for part, name in ((record.data["side"], "file"), (record.data["model"], "folder")) if part}
    for file in list(_files_of_cell(record.path)):
        if file.name not in named:
            _remove(file)


def _remove(path: Path) -> None:
    """Remove what no one needs, if that can be done: in a folder that is read-only it stays."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


# --- reading a folder ------------------------------------------------------------------------------------------------


def read_all(folder: Path) -> tuple[list[Record], list[DamagedError]]:
    """The newest record of each cell below ``folder``, and what is wrong with the files that are no records."""
    newest: dict[str, Record] = {}
    damages = []
    for path in sorted(folder.glob("[!.]*/*/*/*.json")):
        try:
            record = load(path)
        except DamagedError as error:
            if os.path.lexists(path):  # or another harness has just set it aside
                damages.append(error)
            continue
        known = newest.get(record.cell_identity)
        if known is None or record.data["created"] > known.data["created"]:
            newest[record.cell_identity] = record
    return list(newest.values()), damages


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns an OSError in the block, such as a full disk, into a NotWritableError that names ``folder``."""
    try:
        yield
    except OSError as error:
        raise NotWritableError(folder, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, by a rename; its folder is made.

    Raises:
        NotWritableError: the folder cannot be written, or the disk is full.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        _put_text(path, text)


@contextlib.contextmanager
def scratch_folder(results: Path, name: str) -> Iterator[Path]:
    """A cell's working folder on the results' own file system, gone afterwards."""
    folder = results / ".scratch" / f"{os.getpid()}-{name}"
    with writing(results):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def sweep_results(results: Path) -> None:
    """Remove what a killed harness left behind in a results folder: scratch folders and half-written records of
    processes that are gone, and side files and models that no record has named for a day.

    Nothing is touched whose name is not one of ours, nor the files of a cell that another harness is at.
    """
    _sweep(results.glob(".scratch/*"), _SCRATCH)
    for path in results.glob("[!.]*/*/*/*"):
        found = _HALF_WRITTEN.fullmatch(path.name)
        if (found and not _alive(int(found["pid"]))) or (_UNNAMED.fullmatch(path.name) and _is_orphan(path)):
            _remove_of_cell(results, path)


def sweep_cache(cache: Path) -> None:
    """Remove the scratch folders that a killed harness left in a cache, beside its splits, archives, data sets."""
    _sweep(cache.glob(".scratch/*"), _SCRATCH)
    for pattern in ("splits/.*", "data/.*", "datasets/*/.*"):
        _sweep(cache.glob(pattern), _BESIDE)


_SCRATCH = re.compile(r"(?P<pid>[0-9]+)-[a-z0-9_-]+")
"""As ``scratch_folder`` names them."""
_BESIDE = re.compile(r"\..+\.tmp-(?P<pid>[0-9]+)-[a-z0-9_]{8}")
"""As ``datasets.cache.scratch_beside`` names them."""
_HALF_WRITTEN = re.compile(r"[0-9a-f]{32}(-tuned)?\.json\.tmp-(?P<pid>[0-9]+)")
_UNNAMED = re.compile(r"[0-9a-f]{32}(-tuned)?\.[0-9a-f]{8}\.(npz|model)")


def _sweep(paths: Iterable[Path], names: re.Pattern[str]) -> None:
    for path in paths:
        found = names.fullmatch(path.name)
        if found and not _alive(int(found["pid"])):
            _remove(path)


def _remove_of_cell(results: Path, path: Path) -> None:
    """Remove a leftover if no one has its cell; where the folder has no locks it stays."""
    from benchmarks import locks  # which needs this module

    with contextlib.suppress(UserError), locks.held(results, path.name[:32]) as ours:
        if ours and (_HALF_WRITTEN.fullmatch(path.name) or _is_orphan(path)):
            _remove(path)


def _is_orphan(path: Path) -> bool:
    """Whether a side file or model, in place for a day, is not named by the record of its cell. A damaged record keeps
    what lies beside it."""
    try:
        if time.time() - path.lstat().st_ctime < ORPHAN_S:  # set by a rename or a copy, unlike the time of writing
            return False
    except FileNotFoundError:
        return False
    record = path.with_name(f"{path.name.partition('.')[0]}.json")
    if not os.path.lexists(record):
        return True
    try:
        text = _content(record)
        named = path.name.encode() in text  # as nearly always: then there is no need to take it apart
        return not named and bool(record_format.parse(record, text))
    except DamagedError:
        return False


def _alive(pid: int) -> bool:
    if sys.platform == "win32":
        raise OSError("Windows is supported through WSL2 only")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
