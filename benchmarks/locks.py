"""Locks by which harnesses on one host share a results folder or a cache; the kernel frees those of the dead."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from benchmarks.records import writing
from datasets.errors import UserError

if TYPE_CHECKING:
    from benchmarks.progress import Display

FOLDER = ".locks"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
LOOK_AGAIN_S = 0.2
"""How often to look whether another process is done."""


class NoLocksError(UserError):
    """A file system on which two harnesses cannot see each other."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder}: this file system has no locks: name another folder (the cache by RECGAUGE_CACHE, results by "
            "--results)"
        )


@contextmanager
def held(folder: Path, name: str) -> Iterator[bool]:
    """``with held(results, key) as ours:`` nobody else holds ``name`` in ``folder``; if not ``ours``, another does.

    Raises:
        NotWritableError: the folder cannot be written.
        NoLocksError: its file system has no locks.
    """
    path = folder / FOLDER / f"{name}.lock"
    with writing(folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file system without flock is an error: what filelock would do there is not freed by a kill.
        lock = FileLock(path, timeout=0, fallback_to_soft=False)
        try:
            lock.acquire()
        except Timeout:
            ours = False
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise NoLocksError(folder) from error
            raise
        else:
            ours = True
    try:
        yield ours
    finally:
        if ours:
            with suppress(OSError):  # a file that stays is no lock
                path.unlink()  # while it is ours: who has just opened it sees that it is gone
            lock.release()


@contextmanager
def waited_for(folder: Path, name: str) -> Iterator[None]:
    """``held``, however long that takes: for what takes no longer than a moment.

    Raises:
        NotWritableError, NoLocksError: as ``held``.
    """
    while True:
        with held(folder, name) as ours:
            if ours:
                yield
                return
        time.sleep(LOOK_AGAIN_S)


def wait_for_another(display: Display, name: str) -> None:
    """Say that another harness has ``name``, and wait before looking again."""
    display.running(f"waiting for another harness: {name}")
    time.sleep(LOOK_AGAIN_S)
