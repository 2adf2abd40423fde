"""``Loader``: what a data set implements. Finding its files needs no NumPy, so planning stays cheap."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets.types import Dataset

Progress = Callable[[int, int], None]
"""``progress(bytes_done, bytes_total)``, called as a download proceeds."""


class Loader(ABC):
    """One source of ratings.

    A loader's module imports the standard library only at its top; ``load`` imports NumPy and the readers.
    """

    @abstractmethod
    def locate(self, progress: Progress | None = None) -> list[Path]:
        """The source files, found on this machine or fetched; empty for a generator.

        Path, size and mtime of these files identify the source. Raises MissingDataError with what to do.
        """

    @abstractmethod
    def load(self, sources: list[Path]) -> Dataset:
        """Read ``sources`` (from ``locate``). Raises DataError with file, line and reason."""

    def at_hand(self) -> bool:
        """Whether ``locate`` is known to answer without fetching anything; asked of loaders that may fetch."""
        return False

    def generated(self) -> Path | None:
        """The folder that ``locate`` fills on first use, for loaders that generate their files."""
        return None

    def options(self) -> dict[str, Any]:
        """What besides its sources decides the data set, as JSON values: part of the key of a cached one."""
        return {}


def changed_options(loader: Any) -> dict[str, Any]:
    """The options of a loader that is a dataclass which differ from their defaults, in the order of declaration."""
    values = {field.name: (getattr(loader, field.name), field.default) for field in dataclasses.fields(loader)}
    return {name: value for name, (value, default) in values.items() if value != default}


def name_with_options(name: str, loader: Any) -> str:
    """``planted-genres[n_users=100,noise=0.5]``: a data set's name and what differs from the defaults."""
    changed = changed_options(loader)
    texts = {option: str(value).lower() if isinstance(value, bool) else value for option, value in changed.items()}
    return f"{name}[{','.join(f'{option}={value}' for option, value in texts.items())}]" if changed else name
