"""How a table of ratings is written down: delimiter, quotes, encoding, names. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Format:
    """A delimited text file.

    Attributes:
        delimiter: one character, or ``::``.
        quoted: whether ``"`` encloses fields that hold the delimiter.
        encoding: ``utf-8`` or ``latin-1``.
        names: the columns of a file without a header line; None takes them from line 1.
    """

    delimiter: str = ","
    quoted: bool = True
    encoding: Literal["utf-8", "latin-1"] = "utf-8"
    names: tuple[str, ...] | None = None


LONGEST = 1_000
"""Characters of an id, of a text and of what is kept of a title: an array of texts takes four bytes for each character
of the longest in every row, so that one endless title would fill the memory."""


@dataclass(frozen=True)
class Field:
    """One column to read; other columns of the file are ignored.

    Attributes:
        name: as the header has it.
        kind: ``id`` (any text but the empty one; integers of 64 bits), ``number`` (finite in float32), ``real`` (finite
            in float64), ``seconds`` (int64), ``whole`` (int64), ``text`` or ``title``: a text that nothing is computed
            from, of which ``LONGEST`` characters and "…" are kept where it has more.
        low, high: bounds of a ``number``, inclusive; None is no bound.
        unique: whether an ``id`` may occur once only.
        longest: characters of a ``text``; a column with a longer one is read as None. None: one of more than
            ``LONGEST`` is refused, as such an ``id`` is.
        one_of: the values that a ``text`` may have; None is any.
    """

    name: str
    kind: Literal["id", "number", "real", "seconds", "whole", "text", "title"]
    low: float | None = None
    high: float | None = None
    unique: bool = False
    longest: int | None = None
    one_of: tuple[str, ...] | None = None
