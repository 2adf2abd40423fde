"""The text of a record: version, digest, schema. What is not as it must be is refused with its reason, in one line.

A record may come from a machine whose disk or power failed, from an older RecGauge, or from somebody else. Whoever gets
data from ``parse`` need not ask again: it has the shape of the newest version, its figures are finite and bounded, and
no text in it can control a terminal.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.environment import ROOT, digest
from datasets.errors import UserError, one_line

if TYPE_CHECKING:
    from jsonschema_rs import Draft202012Validator

SCHEMA = "recgauge.record/2"
SCHEMA_FILE = ROOT / "results" / "record.schema.json"
MAX_BYTES = 32 * 2**20
"""Of one record; the largest that a study of thousands of trials makes is far below."""
MAX_DEPTH = 32
MAX_INTEGER = 2**63
REASON_LENGTH = 200

_VERSION = re.compile(r"recgauge\.record/([1-9][0-9]{0,8})")


class DamagedError(UserError):
    """A record, or a file that belongs to it, that must not be used; ``reason`` says why."""

    def __init__(self, path: object, reason: str) -> None:
        reason = one_line(reason)
        self.reason = reason if len(reason) <= REASON_LENGTH else f"{reason[:REASON_LENGTH]}…"
        super().__init__(f"{one_line(str(path))}: {self.reason}")


class UnreadableError(DamagedError):
    """Nothing is known to be wrong with it, but it cannot be used here and now: it is left out, and left alone."""


@contextlib.contextmanager
def readable(path: object) -> Iterator[None]:
    """Turns what the system says in the block, such as a missing permission, into an UnreadableError of ``path``."""
    try:
        yield
    except OSError as error:
        raise UnreadableError(path, f"cannot be read ({error.strerror or error}): make it readable") from None
    except MemoryError:
        raise UnreadableError(path, "cannot be read (not enough memory): make room") from None


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` with the schema's name and the ``sha256`` of everything else in it."""
    data = {"schema": SCHEMA, **{name: value for name, value in data.items() if name not in ("schema", "sha256")}}
    return {**data, "sha256": digest(data)}


def parse(path: object, text: bytes) -> dict[str, Any]:
    """The data of a record of any version, in the shape of the newest one.

    Raises:
        DamagedError: it is no record, or not as it was written.
        UnreadableError: it is of a version that is not known yet.
    """
    try:
        data = json.loads(text.decode(), parse_constant=_refuse, parse_float=_float, parse_int=_integer)
    except RecursionError:
        raise DamagedError(path, "nested too deeply") from None
    except ValueError as problem:
        raise DamagedError(path, f"no JSON of ours ({problem})") from None
    try:
        data = _migrated(data)
    except _NewerError as newer:
        raise UnreadableError(path, str(newer)) from None
    except ValueError as problem:
        raise DamagedError(path, str(problem)) from None
    _validate(path, data)
    return data


def _migrated(written: Any) -> dict[str, Any]:
    """The newest version of what was written, if it still is what was written.

    Raises:
        ValueError: no record, or not as it was written, or of a version that is not known.
    """
    if not isinstance(written, dict):
        raise ValueError("no record: a JSON object is required")
    data: dict[str, Any] = _plain(written, MAX_DEPTH)  # first, since it ends where the nesting is too deep
    version = _version(data)
    if version == SCHEMA and written.get("sha256") != digest({k: v for k, v in written.items() if k != "sha256"}):
        raise ValueError("not as it was written (its own sha256 differs)")
    while version in _MIGRATIONS:
        data = _MIGRATIONS[version](data)
        version = data["schema"]
    return data


class _NewerError(ValueError):
    """A version that is not known yet."""


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) > MAX_INTEGER:
        raise ValueError(f"{text[:20]} is too large")
    return value


def _plain(value: Any, depth: int) -> Any:
    """``value`` with texts, names too, that hold nothing but what is seen."""
    if isinstance(value, str):
        return one_line(value)
    if not isinstance(value, dict | list):
        return value
    if not depth:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return [_plain(each, depth - 1) for each in value]
    return {_plain(name, depth): _plain(each, depth - 1) for name, each in value.items()}


def _version(data: dict[str, Any]) -> str:
    """The version as it stands in the record, where it is one that is known.

    Raises:
        ValueError: it is not.
    """
    schema = data.get("schema")
    known = (SCHEMA, *_MIGRATIONS)
    if schema in known:
        return str(schema)
    found = _VERSION.fullmatch(schema) if isinstance(schema, str) else None
    if found is None:
        raise ValueError(f"no record: schema must be '{SCHEMA}' or older")
    raise _NewerError(f"made by a newer RecGauge ({schema}): update")


def _validate(path: object, data: dict[str, Any]) -> None:
    from jsonschema_rs import ValidationError

    try:
        _validator().validate(data)
    except ValidationError as error:
        place = ".".join(map(str, error.instance_path)) or "the record"
        raise DamagedError(path, f"{place}: {error.message}") from None


@functools.cache
def _validator() -> Draft202012Validator:
    """Compiled once: every record of a folder is held against it."""
    from jsonschema_rs import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


# --- older versions --------------------------------------------------------------------------------------------------


def _from_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had no digest of its own; fields that came with time are null where a record is older than they are."""
    data = {"model": None, **data}
    timings, memory, algorithm = (data.get(name) for name in ("timings", "memory", "algorithm"))
    if isinstance(timings, dict):
        config = algorithm.get("config") if isinstance(algorithm, dict) else None
        epochs = timings.get("steps") or (config.get("epochs") if isinstance(config, dict) else None) or 1
        later = dict.fromkeys(("steps", "samples_per_epoch", "throughput", "host", "stages"))
        data["timings"] = {**later, "epochs": epochs, **timings}
    if isinstance(memory, dict):
        data["memory"] = {**dict.fromkeys(MEMORY), **memory}
    return sealed(data)


MEMORY = (
    *("peak_rss_fit_bytes", "peak_rss_score_bytes", "peak_gpu_bytes", "gpu_process_bytes", "model_bytes"),
    "peak_group_rss_bytes",
)
"""What a record says of memory, null where there is nothing to say."""

_MIGRATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"recgauge.record/1": _from_1}
"""Version -> the function that makes the next one of it. Whatever it is given, the schema judges what comes out."""
