"""``compare A B``: two rows of a leaderboard against each other, and whether the data can tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from benchmarks.leaderboard import Evidence, Row, Table, row_name, title
from benchmarks.render import fraction, probability
from datasets.errors import UserError, unknown_name
from protocols import statistics
from protocols.types import UserStatistic


def describe(tables: Sequence[Table], a: str, b: str) -> str:
    """Row ``a`` against row ``b`` in every table that holds both.

    Raises:
        UserError: a name that no row has, one row named twice, or no table with both.
    """
    parts = []
    for table in tables:
        pairs = [(first, second) for first, second in product(_find(table, a), _find(table, b)) if first is not second]
        parts += [f"{title(table)} · {table.protocol.primary}\n{_pair(table, *pair)}" for pair in pairs]
    if not parts:
        raise _nothing_to_compare(tables, a, b)
    return "\n\n".join(parts)


def _find(table: Table, name: str) -> list[Row]:
    """Rows called so; where no row has exactly this name, all rows of the algorithm."""
    exact = [row for row in table.rows if name in _names(row)]
    return exact or [row for row in table.rows if name == row["algorithm"]]


def _names(row: Row) -> list[str]:
    """``als (factors=64)`` and ``als:factors=64``; the default options need not be named."""
    algorithm, label = row["algorithm"], row["label"]
    return [row_name(row), f"{algorithm} ({label})", f"{algorithm}:{label}", *([algorithm] * (label == "default"))]


def _nothing_to_compare(tables: Sequence[Table], a: str, b: str) -> UserError:
    valid = dict.fromkeys(row_name(row) for table in tables for row in table.rows)
    for name in (a, b):
        if not any(_find(table, name) for table in tables):
            return unknown_name("row", name, valid)
    if any(_find(table, a) and _find(table, b) for table in tables):
        return UserError(f"'{a}' and '{b}' are the same row: name two of {', '.join(sorted(valid))}")
    return UserError(f"no table holds both '{a}' and '{b}': run both with the same data sets, protocol and splits")


def _pair(table: Table, a: Row, b: Row) -> str:
    unusable = [row for row in (a, b) if row["status"] != "ok"]
    if unusable:
        return "\n".join(f"  {row_name(row)} has no figures: {row['status']}: {row['reason']}" for row in unusable)
    for row in (a, b):
        primary = table.protocol.primary
        if (row["metrics"].get(primary) or {"mean": None})["mean"] is None:
            return f"  {row_name(row)} has no {primary}: {row['not_measured'].get(primary, 'nobody was asked')}"
    evidence = table.evidence
    first, second = _statistic(evidence, a), _statistic(evidence, b)
    found = statistics.compare(first, second, table.protocol.higher_is_better)
    p, correction = _corrected_p(evidence, a, b, found.p)
    low, high = fraction(found.difference.low), fraction(found.difference.high)
    lines = [
        f"{row_name(a)} − {row_name(b)}: {fraction(found.difference.mean)} (95 % {low} to {high})",
        f"effect size {fraction(found.effect_size)}; p = {probability(p)} (sign-flip permutation, {correction})",
        f"{row_name(a)} is better for {found.wins:,} users, equal for {found.ties:,}, worse for {found.losses:,}",
        _verdict((a, b), found.effect_size, p, statistics.minimum_detectable_difference([first, second])),
    ]
    return "\n".join(f"  {line}" for line in lines)


def _statistic(evidence: Evidence, row: Row) -> UserStatistic:
    """Only the oracle has figures and no rank."""
    if row["rank"] is not None:
        return evidence.primary[str(row["rank"])]
    assert evidence.oracle is not None
    return evidence.oracle


def _corrected_p(evidence: Evidence, a: Row, b: Row, alone: float) -> tuple[float, str]:
    """p and over what it is corrected. Pairs are named by rank, the better row first; the oracle is in none."""
    if a["rank"] is None or b["rank"] is None:
        return alone, "not corrected: the oracle is in no pair of the table"
    better, worse = sorted((a["rank"], b["rank"]))
    pairs = len(evidence.p)
    correction = f"Holm-corrected over all {pairs} pairs of the table" if pairs > 1 else "the only pair of the table"
    return evidence.p[str(better), str(worse)], correction


def _verdict(rows: tuple[Row, Row], effect_size: float, p: float, detectable: float) -> str:
    a, b = rows
    limit = f"minimum detectable difference of this pair: {fraction(detectable)}"
    if p >= statistics.ALPHA:
        return f"The data cannot tell {row_name(a)} and {row_name(b)} apart ({limit})."
    better, worse = (a, b) if effect_size > 0 else (b, a)
    return f"{row_name(better)} is better than {row_name(worse)} ({limit})."
