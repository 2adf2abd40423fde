"""Errors that are the user's to mend: shown as one line, never as a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

LONGEST_MESSAGE = 2_000


class UserError(Exception):
    """Something the user can mend. The message says what is wrong, where, and what to do, in one line.

    What it quotes may come from a hostile file: characters that would move a cursor, colour a terminal or turn the
    line around are written as escapes, and a line that is far too long is cut.
    """

    def __init__(self, message: object) -> None:
        super().__init__(one_line(str(message), LONGEST_MESSAGE))


def one_line(text: str, limit: int | None = None) -> str:
    r"""``text`` in printable characters, at most ``limit`` of them: ``\x1b`` instead of the escape character."""
    if limit is not None:
        text = text[: limit + 1]  # what is escaped does not become shorter
    if not text.isprintable():
        text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"


class DataError(UserError):
    """A data file that cannot be read as it stands."""

    @classmethod
    def at(cls, path: object, line: int, reason: str) -> DataError:
        """``path:line: reason``, the form that editors and people can jump to."""
        return cls(f"{path}:{line}: {reason}")


class NotApplicableError(DataError):
    """A protocol that this data set cannot serve, such as a split by time without times: skipped, not wrong."""


class MissingDataError(UserError):
    """A data set that is neither on this machine nor to be fetched."""


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> UserError:
    """An error for an unknown name that offers the nearest valid one and lists the rest."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return UserError(f"unknown {kind} '{name}': {hint}valid: {', '.join(names)}")


class NotWritableError(UserError):
    """A folder of ours that cannot be written, or a full disk; what it holds stays as it is."""

    def __init__(self, folder: Path, error: OSError) -> None:
        reason = error.strerror or f"is the disk full? {error}"  # NumPy names what it wrote, not why it stopped
        super().__init__(
            f"{folder}: cannot be written ({reason}): make room, or name another folder (the cache by RECGAUGE_CACHE, "
            "results by --results)"
        )
