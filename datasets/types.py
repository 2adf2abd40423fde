"""``Interactions`` and ``Dataset``: what every loader returns and every protocol splits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

IntArray = npt.NDArray[np.integer]
FloatArray = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Interactions:
    """Rows of (user, item, value[, time]) by inner index.

    Attributes:
        users: (n,) int32, 0 <= user < n_users.
        items: (n,) int32, 0 <= item < n_items.
        values: (n,) float32, finite.
        times: (n,) int64 seconds since the epoch, or None.
        n_users, n_items: the size of the universe, not of these rows.
    """

    users: IntArray
    items: IntArray
    values: FloatArray
    times: IntArray | None
    n_users: int
    n_items: int

    def __post_init__(self) -> None:
        self._check_shapes()
        for name, column, size in (("users", self.users, self.n_users), ("items", self.items, self.n_items)):
            if len(column) and (column.min() < 0 or column.max() >= size):
                raise ValueError(f"{name} must lie in [0, {size})")
        if not np.isfinite(self.values).all():
            raise ValueError("values must be finite")

    @classmethod
    def unchanged(cls, **fields: Any) -> Interactions:
        """From fields that were checked before they were stored and have not changed since (``datasets.store``).

        Types and lengths are checked all the same; ranges would need a pass over memory-mapped columns.
        """
        rows = object.__new__(cls)
        rows.__dict__.update(fields)
        rows._check_shapes()
        return rows

    def _check_shapes(self) -> None:
        columns: dict[str, tuple[npt.NDArray[Any], Any]] = {
            "users": (self.users, np.int32),
            "items": (self.items, np.int32),
            "values": (self.values, np.float32),
        }
        if self.times is not None:
            columns["times"] = (self.times, np.int64)
        for name, (column, dtype) in columns.items():
            if column.dtype != dtype or column.ndim != 1:
                raise ValueError(f"{name} must be a vector of {np.dtype(dtype)}, got {column.ndim}-d {column.dtype}")
            if len(column) != len(self.users):
                raise ValueError(f"{name} has {len(column)} rows, users has {len(self.users)}")

    def __len__(self) -> int:
        return len(self.users)

    def select(self, rows: npt.NDArray[np.bool_] | IntArray) -> Interactions:
        """The rows that a mask or an index vector names, in the same universe."""
        times = None if self.times is None else self.times[rows]
        return Interactions(self.users[rows], self.items[rows], self.values[rows], times, self.n_users, self.n_items)

    def matrix(self) -> sparse.csr_matrix:
        """(n_users, n_items) float32 CSR of the values, column indices sorted. Cached: do not write into it."""
        return self._matrix

    @cached_property
    def _matrix(self) -> sparse.csr_matrix:
        shape = (self.n_users, self.n_items)
        matrix = sparse.coo_matrix((self.values, (self.users, self.items)), shape=shape, dtype=np.float32).tocsr()
        matrix.sort_indices()
        return matrix


@dataclass(frozen=True, eq=False)
class Column:
    """One raw metadata column, a value per user or item in inner order.

    Attributes:
        kind: ``number`` (float64, NaN is missing), ``category`` (text, "" is missing) or ``categories`` (texts joined
            by ``|``, "" is missing), such as genres.
        values: (n,) float64 or (n,) unicode.
    """

    kind: Literal["number", "category", "categories"]
    values: npt.NDArray[np.generic]


@dataclass(frozen=True, eq=False)
class Factors:
    """A score for each (user, item): ``user_factors[u] · item_factors[i] + user_bias[u] + item_bias[i]``.

    Attributes:
        user_factors, item_factors: (n_users, d) and (n_items, d) float32.
        user_bias, item_bias: (n_users,) and (n_items,) float32.
    """

    user_factors: FloatArray
    item_factors: FloatArray
    user_bias: FloatArray
    item_bias: FloatArray

    def __post_init__(self) -> None:
        d = self.user_factors.shape[-1]
        shapes = {
            "user_factors": (len(self.user_bias), d),
            "item_factors": (len(self.item_bias), d),
            "user_bias": (len(self.user_factors),),
            "item_bias": (len(self.item_factors),),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32:
                raise ValueError(f"{name} must be {shape} float32, got {array.shape} {array.dtype}")

    def select(self, users: npt.NDArray[Any], items: npt.NDArray[Any]) -> Factors:
        """Read-only copies of the rows of these users and items."""
        rows = (self.user_factors[users], self.item_factors[items], self.user_bias[users], self.item_bias[items])
        for array in rows:
            array.setflags(write=False)
        return Factors(*rows)


@dataclass(frozen=True, eq=False)
class Truth:
    """What generated a data set, in its inner indices: the best that any algorithm can do.

    For oracles and tests alone: it is part of no fingerprint, training set, question or labels.

    Attributes:
        ranking: the probability with which a user draws an item, for items that the user does not have yet up to a
            factor of that user.
        rating: the rating without its noise.
        noise: standard deviation of what no model can know of a rating.
    """

    ranking: Factors
    rating: Factors
    noise: float

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything by name, to be stored."""
        parts = {"ranking": self.ranking, "rating": self.rating}
        named = {f"truth_{part}_{name}": array for part, of in parts.items() for name, array in vars(of).items()}
        return {**named, "truth_noise": np.array(self.noise)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Truth | None:
        """What ``arrays`` gave; None where there is none among them."""
        if "truth_noise" not in arrays:
            return None
        ranking, rating = (
            Factors(**{each.name: arrays[f"truth_{part}_{each.name}"] for each in fields(Factors)})
            for part in ("ranking", "rating")
        )
        return cls(ranking, rating, float(arrays["truth_noise"]))


@dataclass(frozen=True, eq=False)
class Questions:
    """Rows whose rating the source wants predicted.

    Attributes:
        ids: (q,) unicode, the rows' own ids as the source writes them, in its order.
        users, items: (q,) int32 inner indices; they need not have a rating.
    """

    ids: npt.NDArray[np.str_]
    users: npt.NDArray[np.int32]
    items: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.users) == len(self.items):
            raise ValueError(f"{len(self.ids)} ids, {len(self.users)} users and {len(self.items)} items differ")


@dataclass(frozen=True, eq=False)
class Dataset:
    """One immutable data set in canonical order (see ``datasets.canonical``).

    Attributes:
        user_ids, item_ids: raw ids by inner index, int64 or unicode, ascending.
        item_titles: (n_items,) unicode or None.
        rating_scale: (lowest, highest) or None where the values are no ratings.
        fingerprint: sha256 over canonical arrays, ids, rating scale and metadata columns (titles excluded).
        notes: counts worth telling: rows dropped and why, tied times, items without ratings.
        truth: what generated the data, where that is known.
        questions: rows to predict, or None; their users and items are part of the universe. Not in the fingerprint.
    """

    name: str
    interactions: Interactions
    user_ids: npt.NDArray[np.generic]
    item_ids: npt.NDArray[np.generic]
    rating_scale: tuple[float, float] | None
    licence: str
    citation: str
    fingerprint: str
    item_titles: npt.NDArray[np.str_] | None = None
    item_columns: dict[str, Column] = field(default_factory=dict)
    user_columns: dict[str, Column] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    truth: Truth | None = None
    questions: Questions | None = None


@dataclass(frozen=True, eq=False)
class Features:
    """Encoded metadata: (n, d) float32 CSR and the name of each of its d columns. Rows without data are all zero."""

    matrix: sparse.csr_matrix
    names: tuple[str, ...]
