"""What must hold, whatever is done to a run: the checks of the soak. They read files and use no code under test."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import psutil

ROOT = Path(__file__).resolve().parent.parent.parent

TIMES_IN_ROWS = ("cost", "busy")
"""Fields of a row of ``leaderboard --format json`` that differ between two runs of the same cells."""

TIMES_IN_RECORDS = ("created", "timings", "memory", "wall_s", "limits", "sha256")
"""The same of a record; ``sha256`` is its digest of itself."""

Identity = tuple[int, int, int] | None
"""Which state of a file: inode, time of change and size; None where there is none."""


@dataclass(frozen=True)
class Seen:
    """A record as it was found on disk."""

    path: Path
    digest: str
    """Of the bytes of its JSON."""
    data: dict[str, Any]
    wrong: dict[Path, str]
    """Which of its files are not as they must be, and why; empty where the record is complete."""

    @property
    def measured(self) -> Any:
        """What a second measurement of the same cell has to repeat exactly."""
        return self.data["key"], self.data["status"], self.data["metrics"], (self.data["side"] or {}).get("sha256")

    @property
    def is_shown(self) -> bool:
        """Whether tables must have it: they need no models."""
        return bool(self.data) and all(".model" in file.parent.name for file in self.wrong)

    @property
    def cell(self) -> tuple[str, str, int]:
        return self.data["algorithm"]["name"], self.data["protocol"]["name"], self.data["seed"]


def identity(path: Path) -> Identity:
    """The state of ``path`` now, of a link itself."""
    try:
        state = path.lstat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


def record_paths(results: Path) -> list[Path]:
    """All that has a record's name, folders and dangling links too; what was set aside is no record."""
    paths = results.glob("*/*/*/*.json")
    named = (path for path in paths if re.fullmatch(r"[0-9a-f]{32}(-tuned)?\.json", path.name))
    return sorted(path for path in named if not path.relative_to(results).parts[0].startswith("."))


def record_of(path: Path, results: Path) -> Path | None:
    """The JSON of the record that ``path``, a file or folder in ``results``, belongs to; None for any other file."""
    parts = path.relative_to(results).parts
    if len(parts) < 4:
        return None
    return results.joinpath(*parts[:3], parts[3].partition(".")[0] + ".json")


def see(path: Path) -> Seen:
    """Read a record and check it against its schema, its side file, its model and itself."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        return Seen(path, "", {}, {path: f"cannot be read: {type(error).__name__}"})
    digest = hashlib.sha256(raw).hexdigest()
    try:
        data = json.loads(raw)
        _validate(digest, raw)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        return Seen(path, digest, {}, {path: f"is no valid record: {str(error).splitlines()[0]}"})
    wrong = {path: "its sha256 differs from the one that it holds"} if not _agrees_with_itself(data) else {}
    if data["status"] == "ok" and data["side"] is None:
        wrong[path] = "names no side file"
    for file, sha256 in _files(path, data).items():
        try:
            if hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
                wrong[file] = "its sha256 differs from the record's"
        except OSError as error:
            wrong[file] = f"cannot be read: {type(error).__name__}"
    return Seen(path, digest, data, wrong)


def files_of(seen: Seen) -> dict[str, list[Path]]:
    """A complete record's files: of ``record``, ``side`` and ``model``."""
    side = seen.data["side"]
    named = list(_files(seen.path, seen.data))
    return {"record": [seen.path], "side": named[:1] if side else [], "model": named[1:] if side else named}


def _files(path: Path, data: dict[str, Any]) -> dict[Path, str]:
    side, model = data["side"], data.get("model")
    files = {} if side is None else {path.parent / side["file"]: side["sha256"]}
    if model is not None:
        files |= {path.parent / model["folder"] / name: sha256 for name, sha256 in model["sha256"].items()}
    return files


@cache
def _schema() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads((ROOT / "results" / "record.schema.json").read_text()))


_valid: set[str] = set()
"""Digests of JSON that was found valid: most records are looked at many times."""


def _validate(digest: str, raw: bytes) -> None:
    if digest not in _valid:
        _schema().validate(json.loads(raw))
        _valid.add(digest)


def _agrees_with_itself(data: dict[str, Any]) -> bool:
    if "sha256" not in data:  # an older schema
        return True
    rest = {name: value for name, value in data.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest() == data["sha256"]


class Ledger:
    """Which records were complete, and what the injector did to which file since.

    A complete record that nobody touched stays as it is, or gives way to a later one that measured the same.
    """

    def __init__(self, results: Path) -> None:
        self._results = results
        self.complete: dict[Path, Seen] = {}
        self.incomplete: dict[Path, Seen] = {}
        self.written = 0
        """Records that came into being."""
        self.replaced = 0
        """Records that gave way to an equal one."""
        self.checks = 0
        self._damaged: dict[Path, Identity] = {}
        self._touched: set[Path] = set()
        self._touched_folders: set[Path] = set()

    def touch(self, path: Path) -> None:
        """``path`` is about to be damaged: its record is no longer owed."""
        record = record_of(path, self._results) if path.is_relative_to(self._results) else None
        if record is not None:
            self.complete.pop(record, None)
            self._touched.add(record)
            self._touched_folders.add(record.parent)

    def note(self, path: Path) -> None:
        """``path`` was damaged just now: in this state nobody is to blame for it but us."""
        self._damaged[path] = identity(path)

    def damaged_paths(self) -> list[Path]:
        """What is still as the injector left it."""
        return [path for path, state in self._damaged.items() if state == identity(path)]

    def look(self, excuses: bool = True) -> list[str]:
        """Read every record; what is not as it must be, one line each. Without ``excuses`` damage counts too."""
        found = {path: see(path) for path in record_paths(self._results)}
        self.checks += len(found) + len(self.complete)
        wrong = [line for path, before in self.complete.items() for line in self._kept(before, found.get(path))]
        for seen in found.values():
            for file, why in seen.wrong.items():
                if not (excuses and self._excused(file)):
                    wrong.append(f"{file}: {why}, and nobody damaged it")
        complete = {path: seen for path, seen in found.items() if not seen.wrong}
        known = {path: seen.digest for path, seen in self.complete.items()}
        self.written += sum(known.get(path) != seen.digest for path, seen in complete.items())
        self.complete = complete
        self.incomplete = {path: seen for path, seen in found.items() if seen.wrong}
        self._touched -= complete.keys()
        return wrong

    def announced(self, err: str) -> list[str]:
        """Cells that a run said are finished (``✓`` lines) and that have no record. To be asked after ``look``."""
        cells = {seen.cell for seen in self.complete.values()}
        wrong = []
        for algorithm, protocol, seed in re.findall(
            r"^✓ \d+/\d+ (\S+) .*· (leave-one-out|holdout) · .*seed (\d+):", err, re.M
        ):
            self.checks += 1
            folders = [path for path in self._touched_folders if path.parts[-2:] == (protocol, algorithm)]
            if (algorithm, protocol, int(seed)) not in cells and not folders:
                wrong.append(f"{algorithm} · {protocol} · seed {seed}: announced as finished, but there is no record")
        return wrong

    def forget_touched_folders(self) -> None:
        """A new round begins."""
        self._touched_folders = {path.parent for path in self._touched}

    def _kept(self, before: Seen, now: Seen | None) -> list[str]:
        name = f"{before.path} ({' · '.join(map(str, before.cell))})"
        if now is None:
            return [f"{name}: a complete record is lost"]
        if now.digest == before.digest:
            return []  # files beside it that are wrong are found as such
        if now.wrong:
            return [f"{name}: a complete record was replaced by an incomplete one: {next(iter(now.wrong.values()))}"]
        if before.data["status"] != "ok":
            return []
        if now.measured != before.measured:
            return [f"{name}: a complete record gave way to one that is not equal (status {now.data['status']})"]
        if now.data["created"] < before.data["created"]:
            return [f"{name}: a complete record gave way to an older one"]
        self.replaced += 1
        return []

    def _excused(self, file: Path) -> bool:
        """As the injector left it, or taken away since; what is set aside takes its sound files along."""
        state = identity(file)
        if state is None and record_of(file, self._results) in self._touched:
            return True
        return file in self._damaged and state in (self._damaged[file], None)


def differences(left: Any, right: Any, left_out: tuple[str, ...], place: str = "") -> list[str]:
    """Where two JSON values differ, one line each, but for members named in ``left_out`` of the outermost objects."""
    if isinstance(left, dict) and isinstance(right, dict):
        names = sorted((left.keys() | right.keys()) - set(left_out))
        return [
            line
            for name in names
            for line in differences(left.get(name), right.get(name), (), f"{place}.{name}" if place else name)
        ]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return [line for i, pair in pairs for line in differences(*pair, left_out, f"{place}[{i}]")]
    return [] if left == right else [f"{place}: {_short(left)} != {_short(right)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 100 else f"{text[:97]}..."


def marked_processes(mark: str) -> list[psutil.Process]:
    """All living processes with ``mark`` among their environment variables' values, however they were started."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if mark in process.environ().values() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def leftovers(results: Path) -> list[str]:
    """Temporary files and working folders of processes that are gone."""
    return [
        f"{path}: left behind by a process that is gone"
        for path in [*results.glob(".scratch/*"), *results.glob("*/*/*/*.tmp-*")]
        if (owner := re.search(r"(?:tmp-|^)(\d+)(?:-|$)", path.name)) and not psutil.pid_exists(int(owner[1]))
    ]


def bad_output(out: str, err: str) -> list[str]:
    """What no command may print, whatever happens to it."""
    lines = [line for line in f"{out}\n{err}".splitlines() if "Traceback" in line or "Exception ignored" in line]
    if not lines:
        return []
    last = next((line for line in reversed(err.splitlines()) if line.strip()), "")
    return [f"a traceback: {last}"]


def unnamed(damaged: list[Path], err: str) -> list[str]:
    """Damaged records that ``leaderboard`` left out without a word; of many it names ten and says how many more."""
    missing = [path for path in damaged if path.stem not in err]
    more = re.search(r"^recgauge: and (\d+) more: ", err, re.M)
    if len(missing) == (int(more[1]) if more else 0):
        return []
    return [f"leaderboard does not name {path}" for path in missing]


def miscounted(rows: list[dict[str, Any]], complete: list[Path], results: Path) -> list[str]:
    """Complete records that are in no row of ``leaderboard --format json``, and damaged ones that are in one."""
    shown = {name for row in rows for name in row["records"]}
    owed = {os.fspath(path.relative_to(results)) for path in complete}
    return [f"leaderboard leaves out {name}, a complete record" for name in sorted(owed - shown)] + [
        f"leaderboard shows {name}, which is damaged or not there" for name in sorted(shown - owed)
    ]
