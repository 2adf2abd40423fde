"""The seal on a cell: while adapter code runs, data, cache and results that the cell was not given cannot be opened.

An audit hook (PEP 578) sees every ``open``, folder listing and started process of Python code. It guards against
mistakes, such as an adapter that reads the ratings file; it is no sandbox: native code that opens files by itself is
not seen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Event -> how many of its first arguments are paths (https://docs.python.org/3/library/audit_events.html).
_FILE_EVENTS = {"open": 1, "os.listdir": 1, "os.scandir": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2}
_PROCESS_EVENTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}


class SealBroken(PermissionError):
    """Adapter code reached for a file that its cell was not given."""


class Seal:
    """Refuses ``forbidden`` folders but for the ``allowed`` ones inside ``with seal.adapter():``.

    A refused attempt also stays in ``attempts``, so that an adapter that swallows the error fails all the same.
    """

    def __init__(self, forbidden: Iterable[str | Path] = (), allowed: Iterable[str | Path] = ()) -> None:
        self._forbidden = tuple(os.path.realpath(path) for path in forbidden)
        self._allowed = tuple(os.path.realpath(path) for path in allowed)
        self._closed = 0
        self.attempts: list[str] = []

    def install(self) -> None:
        """Start listening; an audit hook cannot be taken away again."""
        sys.addaudithook(self._audit)

    @contextmanager
    def adapter(self) -> Iterator[None]:
        """The time in which adapter code runs."""
        self._closed += 1
        try:
            yield
        finally:
            self._closed -= 1

    def check(self) -> None:
        """Raise when anything was refused so far."""
        if self.attempts:
            raise SealBroken(f"the algorithm tried to open what its cell was not given: {self.attempts[0]}")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._closed:
            return
        if event in _FILE_EVENTS:
            for argument in arguments[: _FILE_EVENTS[event]]:
                if isinstance(argument, (str, bytes, os.PathLike)):
                    self._refuse_if_forbidden(os.path.realpath(os.fsdecode(argument)))
        elif event in _PROCESS_EVENTS:
            text = repr(arguments)
            for folder in self._forbidden:
                if folder in text:
                    self._refuse(f"a process on {Path(folder).name}/")

    def _refuse_if_forbidden(self, path: str) -> None:
        if _inside(path, self._forbidden) and not _inside(path, self._allowed):
            self._refuse(Path(path).name)

    def _refuse(self, what: str) -> None:
        self.attempts.append(what)
        raise SealBroken(f"the algorithm tried to open what its cell was not given: {what}")


def _inside(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)
