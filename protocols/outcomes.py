"""What arrays of outcomes must be like before a figure is made of them; they may come from a file that others wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from protocols.types import Arrays

INTEGER, REAL, FLAG = "iu", "f", "biu"
"""Kinds of NumPy types that an array may have."""
LARGEST = 1e100
"""Of any sum: its square and the sum over all users are still finite."""


@dataclass(frozen=True)
class Expected:
    """What one array must be like.

    Attributes:
        kinds: of its type, see above.
        low, high: bounds of every entry.
        nan: whether NaN stands for an entry that is undefined.
        columns: of a matrix; None for a vector.
    """

    kinds: str
    low: float = -np.inf
    high: float = np.inf
    nan: bool = False
    columns: int | None = None


def check(outcomes: Arrays, length: int, expected: Mapping[str, Expected], optional: Iterable[str] = ()) -> None:
    """Hold the arrays that ``expected`` names against it; each has an entry (a row) for each of ``length`` users.

    Raises:
        ValueError: one is missing or not as expected; the message names it.
    """
    for name, wanted in expected.items():
        if name not in outcomes:
            if name in optional:
                continue
            raise ValueError(f"array {name} is missing")
        array = outcomes[name]
        shape = (length,) if wanted.columns is None else (length, wanted.columns)
        if array.dtype.kind not in wanted.kinds or array.shape != shape:
            raise ValueError(f"array {name} is {array.dtype} {array.shape}, {shape} of another kind is required")
        _check_range(name, array, wanted)


def check_users(name: str, outcomes: Arrays, n_users: int) -> int:
    """How many users the array ``name`` has: int, ascending, each once, below ``n_users``.

    Raises:
        ValueError: it is missing or not so.
    """
    users: npt.NDArray[Any] | None = outcomes.get(name)
    if users is None:
        raise ValueError(f"array {name} is missing")
    if users.ndim != 1 or users.dtype.kind not in INTEGER:
        raise ValueError(f"array {name} is {users.dtype} {users.shape}, a vector of integers is required")
    if len(users) and (users[0] < 0 or users[-1] >= min(n_users, 2**31) or (users[1:] <= users[:-1]).any()):
        raise ValueError(f"array {name} must name users below {n_users} in ascending order, each once")
    return len(users)


def _check_range(name: str, array: npt.NDArray[np.generic], wanted: Expected) -> None:
    values: npt.NDArray[Any] = array
    if wanted.nan and array.dtype.kind == "f":
        values = values[~np.isnan(values)]
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    if not wanted.low <= low <= high <= wanted.high:  # NaN is in no range
        raise ValueError(f"array {name} holds {low:g} to {high:g}, {wanted.low:g} to {wanted.high:g} is required")
