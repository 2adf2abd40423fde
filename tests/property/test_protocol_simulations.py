"""Do the error bars mean what they say? Simulated leaderboards with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from protocols import statistics
from protocols.types import UserStatistic

N_USERS = 610
USERS = np.arange(N_USERS, dtype=np.int32)

_LEVELS = np.concatenate((np.linspace(0, 0.95, 20), [0.98, 0.99, 1.0]))
_COUNTS = (20, 22, 24, 27, 32, 35, 40, 46, 54, 60, 70, 85, 101, 119, 140, 168, 216, 278, 400, 611, 977, 1_256, 2_698)
"""Ratings a user on ml-latest-small at these quantiles: nearly half of all rows belong to a tenth of the users."""


def rows_per_user(rng: np.random.Generator) -> np.ndarray:
    """Test rows, a fifth of the ratings, of users drawn like those of ml-latest-small."""
    return np.maximum(1, np.round(0.2 * np.interp(rng.random(N_USERS), _LEVELS, _COUNTS)))


def mean_of(totals: np.ndarray) -> np.ndarray:
    return totals[..., 0] / totals[..., 1]


def rmse_of(totals: np.ndarray) -> np.ndarray:
    return np.sqrt(totals[..., 0] / totals[..., 1])


def hit_rows(rng: np.random.Generator, n_rows: int, best: float = 0.0) -> dict[str, UserStatistic]:
    """Rows that hit user u with one chance p_u, so that easy users are easy for all; the first ``best`` more often."""
    chance = rng.beta(3, 2, N_USERS)
    rows = {}
    for row in range(n_rows):
        raised = chance + (1 - chance) * best / 0.4 if row == 0 else chance  # the mean chance of a miss is .4
        hits = (rng.random(N_USERS) < raised).astype(np.float64)
        rows[f"row {row}"] = UserStatistic(USERS, np.column_stack((hits, np.ones(N_USERS))), mean_of)
    return rows


def error_rows(rng: np.random.Generator, n_rows: int, best: float = 0.0) -> dict[str, UserStatistic]:
    """Squared errors with one variance a user, lognormal(.35); the first row's are smaller by the share ``best``."""
    n, variance = rows_per_user(rng), rng.lognormal(0, 0.35, N_USERS)
    rows = {}
    for row in range(n_rows):
        squares = variance * rng.chisquare(n) * (1 - best if row == 0 else 1.0)
        rows[f"row {row}"] = UserStatistic(USERS, np.column_stack((squares, n)), rmse_of)
    return rows


def coverage(statistics_drawn: list[UserStatistic], truth: float) -> float:
    """Share of intervals that hold the truth. All share one set of resamples, which the draws of data do not."""
    intervals = statistics.bootstrap_intervals(statistics_drawn)
    return float(np.mean([interval.low <= truth <= interval.high for interval in intervals]))


def test_hit_rate_intervals_cover() -> None:
    rng = np.random.default_rng(1)
    drawn = [hit_rows(rng, 1)["row 0"] for _ in range(2_000)]
    assert 0.93 <= coverage(drawn, 0.6) <= 0.97


def test_rmse_intervals_cover() -> None:
    rng = np.random.default_rng(2)
    drawn = [error_rows(rng, 1)["row 0"] for _ in range(2_000)]
    assert 0.92 <= coverage(drawn, float(np.sqrt(np.exp(0.35**2 / 2)))) <= 0.97


def test_intervals_that_take_rows_for_units_would_not_cover() -> None:
    """The simulation can fail: with rows instead of users as units, RMSE intervals are far too narrow."""
    rng = np.random.default_rng(3)
    truth, held = float(np.sqrt(np.exp(0.35**2 / 2))), 0
    for _ in range(300):
        squares, n = error_rows(rng, 1)["row 0"].sums.sum(axis=0)
        error = np.sqrt(squares / n) / np.sqrt(2 * n)
        held += abs(np.sqrt(squares / n) - truth) <= 1.96 * error
    assert held / 300 < 0.85


def in_one_group(rows: dict[str, UserStatistic], higher_is_better: bool) -> bool:
    return max(groups_of(rows, higher_is_better).values()) == 1


def groups_of(rows: dict[str, UserStatistic], higher_is_better: bool) -> dict[str, int]:
    figures = {name: float(row.combine(row.sums.sum(axis=0))) for name, row in rows.items()}
    adjusted = statistics.holm(statistics.permutation_p_values(rows))
    return statistics.rank_groups(figures, adjusted, higher_is_better)


def share_in_one_group(n_leaderboards: int, seed: int) -> float:
    """Leaderboards of six equal rows, hit rates and errors in turn, that show no difference."""
    rng = np.random.default_rng(seed)
    shown = []
    for index in range(n_leaderboards):
        hits = index % 2 == 0
        shown.append(in_one_group((hit_rows if hits else error_rows)(rng, 6), hits))
    return float(np.mean(shown))


def test_equal_rows_are_one_group() -> None:
    assert share_in_one_group(60, seed=4) >= 0.88  # 95 % less 2.5 standard errors


@pytest.mark.slow
def test_equal_rows_are_one_group_in_400_leaderboards() -> None:
    assert share_in_one_group(400, seed=5) >= 0.92


@pytest.mark.parametrize(
    ("make", "best", "higher_is_better"), [(hit_rows, 0.15, True), (error_rows, 0.10, False)], ids=["hits", "errors"]
)
def test_a_planted_difference_is_found(make: object, best: float, higher_is_better: bool) -> None:
    rng = np.random.default_rng(6)
    for _ in range(10):
        groups = groups_of(make(rng, 6, best), higher_is_better)  # type: ignore[operator]
        assert groups["row 0"] == 1 and list(groups.values()).count(1) == 1


def power_at_the_minimum_detectable_difference(n_pairs: int, seed: int) -> float:
    """How often a planted difference of exactly that size has p < .05; 80 % by definition."""
    rng = np.random.default_rng(seed)
    size = statistics.minimum_detectable_difference(hit_rows(rng, 8).values())
    found = [statistics.permutation_p_values(hit_rows(rng, 2, size))["row 0", "row 1"] < 0.05 for _ in range(n_pairs)]
    return float(np.mean(found))


def test_the_minimum_detectable_difference_is_found_four_times_in_five() -> None:
    assert 0.70 <= power_at_the_minimum_detectable_difference(100, seed=7) <= 0.91


@pytest.mark.slow
def test_the_minimum_detectable_difference_is_found_four_times_in_five_of_1000() -> None:
    assert 0.76 <= power_at_the_minimum_detectable_difference(1_000, seed=8) <= 0.85
