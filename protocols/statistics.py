"""How sure a figure is: intervals over users, paired tests, rank groups.

Everything works on ``UserStatistic``: users are the independent units, and for RMSE and R² a user's rows are a cluster.
Paired tests and effect sizes look at column 0 of its sums, on the users that both rows have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from datasets.errors import UserError
from protocols.types import UserStatistic

Values = npt.NDArray[np.float64]
Pair = tuple[str, str]
Name = TypeVar("Name", bound=Hashable)

DRAWS = 2_000
LEVEL = 95.0
ALPHA = 0.05
_TILE = 2_000_000
"""Weights or signs (draws × users) held at a time: 16 MB of float64."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval. ``mean`` is the figure of the users as they are, not of the resamples."""

    mean: float
    low: float
    high: float

    def edges(self) -> dict[str, float | None]:
        """The three by name; None, which JSON has, for what is undefined."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


# --- several records of one row --------------------------------------------------------------------------------------


def average(statistics: Sequence[UserStatistic]) -> UserStatistic:
    """One statistic a user from records of several seeds or splits.

    Users are the union; a user's sums are the mean over the records in which the user occurs, so that users weigh the
    same however often they were asked.
    """
    total = pool(statistics)
    times = sum(np.isin(total.users, statistic.users).astype(np.float64) for statistic in statistics)
    return replace(total, sums=total.sums / np.asarray(times)[:, None])


def pool(statistics: Sequence[UserStatistic]) -> UserStatistic:
    """One statistic from disjoint parts of the data, such as the folds of k-fold: per-user sums are added."""
    users = reduce(np.union1d, [statistic.users for statistic in statistics])
    sums = np.zeros((len(users), statistics[0].sums.shape[1]))
    for statistic in statistics:
        sums[np.searchsorted(users, statistic.users)] += statistic.sums
    return UserStatistic(users.astype(np.int32), sums, statistics[0].combine)


def on_common_users(statistics: Sequence[UserStatistic]) -> list[UserStatistic]:
    """The same statistics on the users that all of them have; a ``UserError`` where there is none."""
    if all(np.array_equal(statistic.users, statistics[0].users) for statistic in statistics):
        return list(statistics)
    users = reduce(np.intersect1d, [statistic.users for statistic in statistics]).astype(np.int32)
    if not len(users):
        raise UserError("these rows have no user in common: compare rows of one split")
    return [
        replace(statistic, users=users, sums=statistic.sums[np.searchsorted(statistic.users, users)])
        for statistic in statistics
    ]


def spread(values: Sequence[float]) -> float:
    """Standard deviation of a row's figures over seeds (n - 1); NaN for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


# --- bootstrap over users --------------------------------------------------------------------------------------------


def bootstrap_interval(statistic: UserStatistic, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Percentile 95 % interval over ``draws`` multinomial resamples of users (Efron & Tibshirani 1993, ch. 13)."""
    return bootstrap_intervals([statistic], draws, seed)[0]


def bootstrap_intervals(statistics: Sequence[UserStatistic], draws: int = DRAWS, seed: int = 0) -> list[Interval]:
    """``bootstrap_interval`` of many statistics; those with the same users share one set of weights and one pass."""
    groups: dict[bytes, list[int]] = {}
    for index, statistic in enumerate(statistics):
        groups.setdefault(statistic.users.tobytes(), []).append(index)
    intervals: dict[int, Interval] = {}
    for members in groups.values():
        values = bootstrap_values([statistics[index] for index in members], draws, seed)
        for index, column in zip(members, values.T, strict=True):
            intervals[index] = _interval(_figure(statistics[index]), column)
    return [intervals[index] for index in range(len(statistics))]


def bootstrap_values(statistics: Sequence[UserStatistic], draws: int = DRAWS, seed: int = 0) -> Values:
    """(draws, len(statistics)) resampled figures of statistics with the same users; a draw has one set of weights."""
    sums = np.hstack([statistic.sums for statistic in statistics])
    totals = np.concatenate([weights @ sums for weights in _user_weights(len(sums), draws, seed)])
    ends = np.cumsum([statistic.sums.shape[1] for statistic in statistics])
    parts = np.split(totals, ends[:-1], axis=1)
    return np.column_stack([statistic.combine(part) for statistic, part in zip(statistics, parts, strict=True)])


def difference_interval(a: UserStatistic, b: UserStatistic, draws: int = DRAWS, seed: int = 0) -> Interval:
    """Interval of figure(a) - figure(b) on their common users, both resampled with the same weights."""
    a, b = on_common_users([a, b])
    values = bootstrap_values([a, b], draws, seed)
    return _interval(_figure(a) - _figure(b), values[:, 0] - values[:, 1])


def way_between(row: UserStatistic, start: UserStatistic, end: UserStatistic) -> UserStatistic:
    """How far a row goes from ``start`` (0) to ``end`` (1) in their metric: (row - start) / (end - start).

    On the users that all three have, and one statistic, so that a resample gives all three the same weights. Its sums
    are those of all three, so it is for the bootstrap alone. Undefined (NaN) where start and end are equal.
    """

    def share(figures: Values) -> Values:
        own, low, high = figures
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(high == low, np.nan, (own - low) / (high - low))

    return joined([row, start, end], share)


def joined(statistics: Sequence[UserStatistic], combine: Callable[[Values], Values]) -> UserStatistic:
    """One statistic of several on their common users: ``combine`` makes its figure of their (len, ...) figures."""
    alike = on_common_users(statistics)
    bounds = np.cumsum([statistic.sums.shape[1] for statistic in alike])[:-1]

    def figure(totals: Values) -> Values:
        parts = np.split(totals, bounds, axis=-1)
        return combine(np.array([each.combine(part) for each, part in zip(alike, parts, strict=True)]))

    return UserStatistic(alike[0].users, np.hstack([statistic.sums for statistic in alike]), figure)


def _user_weights(n_users: int, draws: int, seed: int) -> Iterator[Values]:
    """Tiles (·, n_users) of multinomial counts; the draws do not depend on the size of a tile."""
    rng = np.random.default_rng(seed)
    tile = max(1, _TILE // max(1, n_users))
    for start in range(0, draws, tile):
        rows = min(tile, draws - start)
        drawn = rng.integers(n_users, size=(rows, n_users)) + n_users * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n_users).reshape(rows, n_users).astype(np.float64)


def _figure(statistic: UserStatistic) -> float:
    return float(statistic.combine(statistic.sums.sum(axis=0)))


def _interval(figure: float, values: Values) -> Interval:
    """A resample in which the figure is undefined (no cold row was drawn) is left out; none left: NaN."""
    defined = values[np.isfinite(values)]
    if not len(defined):
        return Interval(figure, float("nan"), float("nan"))
    low, high = np.percentile(defined, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Interval(figure, float(low), float(high))


# --- differences between rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Row a against row b on their common users.

    Attributes:
        difference: figure(a) - figure(b).
        effect_size: mean / sd of per-user differences, positive where a is better.
        p: of the sign-flip permutation test, for this one pair (not corrected).
        wins, ties, losses: users on whom a is better, equal, worse.
    """

    n_users: int
    difference: Interval
    effect_size: float
    p: float
    wins: int
    ties: int
    losses: int


def compare(a: UserStatistic, b: UserStatistic, higher_is_better: bool) -> Comparison:
    """Everything about one pair. ``higher_is_better`` speaks of column 0 of the sums (False for squared errors)."""
    a, b = on_common_users([a, b])
    gain = (a.sums[:, 0] - b.sums[:, 0]) * (1 if higher_is_better else -1)
    tied = np.isclose(a.sums[:, 0], b.sums[:, 0], rtol=1e-9, atol=1e-12)
    return Comparison(
        n_users=len(gain),
        difference=difference_interval(a, b),
        effect_size=effect_size(gain),
        p=permutation_p_values({"a": a, "b": b})["a", "b"],
        wins=int(np.count_nonzero((gain > 0) & ~tied)),
        ties=int(np.count_nonzero(tied)),
        losses=int(np.count_nonzero((gain < 0) & ~tied)),
    )


def effect_size(differences: Values) -> float:
    """Mean / standard deviation (n - 1) of (u,) per-user differences; 0 where all are 0, NaN below two users."""
    if len(differences) < 2:
        return float("nan")
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if deviation == 0:
        return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))
    return mean / deviation


def permutation_p_values(rows: Mapping[str, UserStatistic], seed: int = 0) -> dict[Pair, float]:
    """Two-sided sign-flip permutation test of every pair of rows.

    Under the null a user's difference is as likely as its opposite. The statistic is the sum over users of differences
    in column 0; p = (1 + #{|T*| >= |T|}) / (1 + draws) with max(10,000, 200 × pairs) draws (Ernst 2004), so that Holm's
    correction over all pairs can still reach .005. One matrix of signs serves all rows.

    Returns:
        p by (earlier, later) row name, in the order of ``rows``.
    """
    return _sign_flip_p(rows, list(combinations(rows, 2)), np.abs, seed)


def better_than_p_values(
    rows: Mapping[str, UserStatistic], reference: str, higher_is_better: bool, seed: int = 0
) -> dict[str, float]:
    """One-sided sign-flip permutation test of every other row against ``rows[reference]``: is the row better?

    As ``permutation_p_values``, but only differences in favour of the row are extreme: p is small where the row is
    better, near 1 where it is worse, and not corrected. ``higher_is_better`` speaks of column 0 of the sums.

    Returns:
        p by row name, in the order of ``rows`` without the reference.
    """
    pairs = [(name, reference) for name in rows if name != reference]
    found = _sign_flip_p(rows, pairs, np.positive if higher_is_better else np.negative, seed)
    return {name: p for (name, _), p in found.items()}


def _sign_flip_p(
    rows: Mapping[str, UserStatistic], pairs: Sequence[Pair], extremity: Callable[[Values], Values], seed: int
) -> dict[Pair, float]:
    """p of each pair: how often ``extremity`` of the difference first - second is reached when users' signs flip."""
    if not pairs:
        return {}
    columns, left, right = _difference_columns(rows, pairs)
    draws = max(10_000, 200 * len(pairs))
    totals = columns.sum(axis=0)
    observed = extremity(totals[left] - totals[right])
    sizes = np.abs(columns).sum(axis=0)
    reached = observed - 1e-10 * (sizes[left] + sizes[right])  # sums that are equal but for rounding count as reached
    extreme = np.zeros(len(pairs), dtype=np.int64)
    for flips in _flips(len(columns), draws, seed):
        flipped = totals - 2.0 * (flips @ columns)
        extreme += np.count_nonzero(extremity(flipped[:, left] - flipped[:, right]) >= reached, axis=0)
    return dict(zip(pairs, ((1 + extreme) / (1 + draws)).tolist(), strict=True))


def _difference_columns(
    rows: Mapping[str, UserStatistic], pairs: Sequence[Pair]
) -> tuple[Values, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Columns over the union of users, and for each pair the two columns whose difference is the pair's.

    Rows with the same users need one column each. A pair with different users gets a column of its own: the difference
    on common users, 0 elsewhere, against a column of zeros.
    """
    users = reduce(np.union1d, [row.users for row in rows.values()])
    names = list(rows)
    columns = [np.zeros(len(users))]
    for row in rows.values():
        column = np.zeros(len(users))
        column[np.searchsorted(users, row.users)] = row.sums[:, 0]
        columns.append(column)
    left, right = [], []
    for first, second in pairs:
        a, b = rows[first], rows[second]
        if np.array_equal(a.users, b.users):
            left.append(1 + names.index(first))
            right.append(1 + names.index(second))
            continue
        a, b = on_common_users([a, b])
        column = np.zeros(len(users))
        column[np.searchsorted(users, a.users)] = a.sums[:, 0] - b.sums[:, 0]
        left.append(len(columns))
        right.append(0)
        columns.append(column)
    return np.column_stack(columns), np.array(left), np.array(right)


def _flips(n_users: int, draws: int, seed: int) -> Iterator[Values]:
    """Tiles (·, n_users) of fair 0/1 draws: 1 turns a user's sign."""
    rng = np.random.default_rng(seed)
    tile = max(1, _TILE // max(1, n_users))
    for start in range(0, draws, tile):
        octets = rng.integers(256, size=(min(tile, draws - start), (n_users + 7) // 8), dtype=np.uint8)
        yield np.unpackbits(octets, axis=1, count=n_users).astype(np.float64)


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """p values adjusted for all of ``p_values`` (Holm 1979): step down, monotone, at most 1."""
    adjusted: dict[Name, float] = {}
    highest = 0.0
    for step, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - step) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}


def rank_groups(
    figures: Mapping[str, float], adjusted: Mapping[Pair, float], higher_is_better: bool, alpha: float = ALPHA
) -> dict[str, int]:
    """Group 1 is the best row and every row not distinguishable from it; then the same with the rest.

    Args:
        figures: the primary metric by row name.
        adjusted: Holm's p of each pair of rows, in either order of names; distinguishable means p < ``alpha``.
    """
    left = sorted(figures, key=lambda name: figures[name], reverse=higher_is_better)
    groups: dict[str, int] = {}
    group = 0
    while left:
        group += 1
        best = left[0]
        members = [name for name in left if name == best or _p_of(adjusted, best, name) >= alpha]
        groups.update(dict.fromkeys(members, group))
        left = [name for name in left if name not in groups]
    return groups


def _p_of(p_values: Mapping[Pair, float], a: str, b: str) -> float:
    return p_values[a, b] if (a, b) in p_values else p_values[b, a]


def standard_error(a: UserStatistic, b: UserStatistic) -> float:
    """Standard error of figure(a) - figure(b) on common users, by the delta method.

    For means this is sd / √n of per-user differences. For RMSE and R² each user enters by the influence of the user's
    sums on the figure. NaN below two common users.
    """
    a, b = on_common_users([a, b])
    n = len(a.users)
    if n < 2:
        return float("nan")
    influence = a.sums @ _gradient(a) - b.sums @ _gradient(b)
    return float(np.sqrt(n) * influence.std(ddof=1))


def _gradient(statistic: UserStatistic) -> Values:
    """(s,) derivative of the figure in each total, by central differences."""
    totals = statistic.sums.sum(axis=0)
    steps = np.diag(1e-6 * np.where(totals == 0, 1.0, np.abs(totals)))
    return (statistic.combine(totals + steps) - statistic.combine(totals - steps)) / (2 * steps.diagonal())


def minimum_detectable_difference(rows: Iterable[UserStatistic]) -> float:
    """2.80 × the median standard error of all paired differences: found with 80 % power at 5 %. NaN below two rows."""
    errors = [standard_error(a, b) for a, b in combinations(rows, 2)]
    return 2.80 * float(np.median(errors)) if errors else float("nan")


# --- agreement of two orders -----------------------------------------------------------------------------------------


def kendall_tau_b(x: Values, y: Values) -> Values:
    """Kendall's tau-b of (..., r) figures of r rows by two metrics (Kendall 1945); NaN where one ties all rows."""
    i, j = np.triu_indices(np.shape(x)[-1], k=1)
    x_sign, y_sign = np.sign(x[..., i] - x[..., j]), np.sign(y[..., i] - y[..., j])
    with np.errstate(invalid="ignore", divide="ignore"):
        untied = np.abs(x_sign).sum(axis=-1) * np.abs(y_sign).sum(axis=-1)
        return (x_sign * y_sign).sum(axis=-1) / np.sqrt(untied)


def rank_agreement(
    first: Sequence[UserStatistic], second: Sequence[UserStatistic], draws: int = DRAWS, seed: int = 0
) -> Interval:
    """tau-b between the orders of the same rows by two metrics (sampled and full), with an interval over common users.

    NaN below two rows.
    """
    common = on_common_users([*first, *second])
    figures = np.array([_figure(statistic) for statistic in common])
    values = bootstrap_values(common, draws, seed)
    n_rows = len(first)
    tau = kendall_tau_b(figures[:n_rows], figures[n_rows:])
    return _interval(float(tau), kendall_tau_b(values[:, :n_rows], values[:, n_rows:]))
