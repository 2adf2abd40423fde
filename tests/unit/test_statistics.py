"""Statistics by hand and against SciPy."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats

from datasets.errors import UserError
from protocols import statistics
from protocols.types import UserStatistic


def mean_of(totals: np.ndarray) -> np.ndarray:
    return totals[..., 0] / totals[..., 1]


def rmse_of(totals: np.ndarray) -> np.ndarray:
    return np.sqrt(totals[..., 0] / totals[..., 1])


def means(values: object, users: object = None) -> UserStatistic:
    """A mean over users of one value each."""
    column = np.asarray(values, dtype=np.float64)
    own = np.arange(len(column)) if users is None else np.asarray(users)
    return UserStatistic(own.astype(np.int32), np.column_stack((column, np.ones(len(column)))), mean_of)


def hits(share: float, n: int, seed: int) -> UserStatistic:
    return means(np.random.default_rng(seed).random(n) < share)


# --- several records -------------------------------------------------------------------------------------------------


def test_average_weighs_users_the_same_however_often_they_occur() -> None:
    averaged = statistics.average([means([1, 0], [1, 4]), means([0, 1], [4, 7])])
    assert averaged.users.tolist() == [1, 4, 7] and averaged.users.dtype == np.int32
    assert averaged.sums.tolist() == [[1, 1], [0, 1], [1, 1]]
    seeds = statistics.average([means([1, 0]), means([0, 0]), means([1, 0])])
    assert seeds.sums[:, 0] == pytest.approx([2 / 3, 0])


def test_pool_adds_the_rows_of_folds() -> None:
    first = UserStatistic(np.array([0, 1], np.int32), np.array([[4.0, 2], [1, 1]]), rmse_of)
    second = UserStatistic(np.array([1, 3], np.int32), np.array([[3.0, 3], [2, 1]]), rmse_of)
    pooled = statistics.pool([first, second])
    assert pooled.users.tolist() == [0, 1, 3]
    assert pooled.sums.tolist() == [[4, 2], [4, 4], [2, 1]]


def test_spread_over_seeds() -> None:
    assert statistics.spread([0.5, 0.7]) == pytest.approx(np.sqrt(0.02))
    assert np.isnan(statistics.spread([0.5]))


# --- bootstrap -------------------------------------------------------------------------------------------------------


def test_interval_of_a_mean_is_near_the_normal_one() -> None:
    statistic = hits(0.6, 610, 1)
    interval = statistics.bootstrap_interval(statistic)
    error = statistic.sums[:, 0].std() / np.sqrt(610)
    assert interval.mean == statistic.sums[:, 0].mean()
    assert interval.low == pytest.approx(interval.mean - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(interval.mean + 1.96 * error, abs=0.15 * error)


def test_without_variance_the_interval_is_the_figure() -> None:
    assert statistics.bootstrap_interval(means(np.full(20, 0.25))) == statistics.Interval(0.25, 0.25, 0.25)


def test_resamples_are_percentiles_of_multinomial_draws() -> None:
    statistic = means([0.0, 1.0, 5.0])
    drawn = np.random.default_rng(9).integers(3, size=(400, 3))
    resampled = statistic.sums[:, 0][drawn].mean(axis=1)
    interval = statistics.bootstrap_interval(statistic, draws=400, seed=9)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(resampled, [2.5, 97.5])))


def test_draws_do_not_depend_on_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    statistic = hits(0.3, 50, 2)
    whole = statistics.bootstrap_interval(statistic, draws=200)
    monkeypatch.setattr(statistics, "_TILE", 7 * 50)
    assert statistics.bootstrap_interval(statistic, draws=200) == whole


def test_many_rows_give_the_intervals_of_each() -> None:
    rows = [hits(0.2, 80, 1), means([1, 0, 1], [3, 5, 9]), hits(0.7, 80, 2)]
    together = statistics.bootstrap_intervals(rows)
    for row, interval in zip(rows, together, strict=True):
        alone = statistics.bootstrap_interval(row)
        assert (interval.mean, interval.low, interval.high) == pytest.approx((alone.mean, alone.low, alone.high))


def test_undefined_resamples_are_left_out() -> None:
    def ratio(totals: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return totals[..., 0] / totals[..., 1]

    rarely = UserStatistic(np.arange(4, dtype=np.int32), np.array([[2.0, 1], [0, 0], [0, 0], [0, 0]]), ratio)
    assert statistics.bootstrap_interval(rarely) == statistics.Interval(2.0, 2.0, 2.0)


def test_an_interval_of_610_users_takes_a_tenth_of_a_second() -> None:
    statistic = hits(0.6, 610, 1)
    best = min(_seconds(lambda: statistics.bootstrap_interval(statistic)) for _ in range(3))
    assert best < 0.1


def _seconds(call: object) -> float:
    started = time.process_time()
    call()  # type: ignore[operator]
    return time.process_time() - started


def test_difference_uses_the_same_resamples_for_both() -> None:
    base = np.random.default_rng(3).random(200)
    interval = statistics.difference_interval(means(base + 0.1), means(base))
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.1))


def test_difference_is_over_common_users() -> None:
    interval = statistics.difference_interval(means([1, 1, 1], [0, 1, 2]), means([0, 0, 9], [1, 2, 3]))
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)
    with pytest.raises(UserError, match="no user in common"):
        statistics.difference_interval(means([1], [0]), means([1], [1]))


# --- paired tests ----------------------------------------------------------------------------------------------------


def test_permutation_against_all_sign_flips() -> None:
    differences = np.array([0.5, 0.1, -0.2, 0.7, 0.3, 0.4, -0.1, 0.2])
    flips = 1 - 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    exact = np.mean(np.abs(flips @ differences) >= abs(differences.sum()) - 1e-12)
    p = statistics.permutation_p_values({"a": means(differences), "b": means(np.zeros(8))})["a", "b"]
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact / 10_000))


def test_hits_and_misses_tie_exactly() -> None:
    """One user of three differs: every flip is as extreme, so p is 1, rounding or not."""
    assert statistics.permutation_p_values({"a": means([0.1, 0.3, 0.7]), "b": means([0.1, 0.3, 0.6])})["a", "b"] == 1.0


def test_equal_rows_have_p_one_and_far_rows_the_smallest_possible() -> None:
    rows = {"a": hits(0.5, 300, 1), "b": hits(0.5, 300, 1), "c": means(np.ones(300)), "d": means(np.zeros(300))}
    p = statistics.permutation_p_values(rows)
    assert list(p) == [("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d")]
    assert p["a", "b"] == 1.0
    assert p["c", "d"] == pytest.approx(1 / 10_001)
    assert statistics.permutation_p_values({"a": hits(0.5, 10, 1)}) == {}


def test_many_pairs_get_more_draws() -> None:
    rows = {str(index): means(np.full(40, float(index))) for index in range(12)}  # 66 pairs
    p = statistics.permutation_p_values(rows)
    assert min(p.values()) == pytest.approx(1 / 13_201)
    assert max(statistics.holm(p).values()) <= 0.005


def test_a_row_with_fewer_users_is_tested_on_the_common_ones() -> None:
    few = np.arange(0, 200, 4)
    a, b = hits(0.7, 200, 1), hits(0.4, 200, 2)
    part = means(a.sums[few, 0], few)
    with_others = statistics.permutation_p_values({"part": part, "b": b, "a": a})
    alone = statistics.permutation_p_values({"x": part, "y": means(b.sums[few, 0], few)})
    assert with_others["part", "a"] == 1.0  # the same values
    assert with_others["part", "b"] == pytest.approx(alone["x", "y"], abs=0.01)
    assert with_others["b", "a"] == statistics.permutation_p_values({"p": part, "b": b, "a": a})["b", "a"]


# --- better than a reference -----------------------------------------------------------------------------------------


def test_one_sided_p_against_all_sign_flips() -> None:
    """Of the 8 sums of ±1 ±2 ±4, 7 and 5 reach 5, and all but -7 reach -5."""
    rows = {"reference": means([0, 0, 0]), "up": means([-1, 2, 4]), "down": means([1, -2, -4])}
    p = statistics.better_than_p_values(rows, "reference", higher_is_better=True)
    assert list(p) == ["up", "down"]
    assert p["up"] == pytest.approx(2 / 8, abs=0.02) and p["down"] == pytest.approx(7 / 8, abs=0.02)
    turned = statistics.better_than_p_values(rows, "reference", higher_is_better=False)
    assert turned == {"up": p["down"], "down": p["up"]}


def test_a_row_equal_to_the_reference_is_not_better() -> None:
    rows = {"reference": hits(0.5, 100, 1), "same": hits(0.5, 100, 1)}
    assert statistics.better_than_p_values(rows, "reference", True) == {"same": 1.0}
    assert statistics.better_than_p_values({"reference": rows["reference"]}, "reference", True) == {}


def test_one_sided_p_of_noise_is_uniform() -> None:
    rng = np.random.default_rng(3)
    rows = {"reference": means(np.zeros(60))}
    rows |= {f"row {row}": means(rng.normal(size=60)) for row in range(200)}
    p = list(statistics.better_than_p_values(rows, "reference", True).values())
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 3 <= sum(value < 0.05 for value in p) <= 18


def test_a_planted_leak_is_better_than_the_best_possible() -> None:
    """The oracle's chances of a hit and a peek at one answer in ten, among 8 rows whose chances are as good at most."""
    rng = np.random.default_rng(4)
    chance = rng.beta(3, 2, 600)
    best = rng.random(600) < chance
    rows = {"oracle": means(best)}
    rows |= {f"row {row}": means(rng.random(600) < chance * (1 - 0.02 * row)) for row in range(8)}
    rows["leak"] = means(best | (rng.random(600) < 0.1))
    corrected = statistics.holm(statistics.better_than_p_values(rows, "oracle", True))
    assert corrected.pop("leak") < 0.001
    assert min(corrected.values()) > 0.05


def test_better_is_tested_on_common_users() -> None:
    rows = {"reference": means([0] * 12, range(12)), "few": means([1] * 10, range(2, 12))}
    p = statistics.better_than_p_values(rows, "reference", True)["few"]
    assert p == pytest.approx(1 / 2**10, abs=0.001)


# --- the way from one row to another ---------------------------------------------------------------------------------


def test_the_way_is_in_the_metric_not_in_its_sums() -> None:
    """RMSE 1, 1.5 and 2 for every user, so in every resample."""
    end, row, start = (
        UserStatistic(np.arange(9, dtype=np.int32), np.tile([n * 1.0, n], (9, 1)) * [[square, 1]], rmse_of)
        for square, n in ((1, 2), (2.25, 2), (4, 2))
    )
    way = statistics.bootstrap_interval(statistics.way_between(row, start, end))
    assert (way.mean, way.low, way.high) == pytest.approx((0.5, 0.5, 0.5))
    assert statistics.bootstrap_interval(statistics.way_between(start, start, end)).mean == 0
    assert statistics.bootstrap_interval(statistics.way_between(end, start, end)).mean == 1


def test_the_way_resamples_all_three_alike() -> None:
    row, start, end = hits(0.5, 200, 1), hits(0.2, 200, 2), hits(0.8, 200, 3)
    values = statistics.bootstrap_values([row, start, end])
    expected = (values[:, 0] - values[:, 1]) / (values[:, 2] - values[:, 1])
    way = statistics.bootstrap_interval(statistics.way_between(row, start, end))
    assert (way.low, way.high) == pytest.approx(tuple(np.percentile(expected, [2.5, 97.5])))


def test_there_is_no_way_between_equals() -> None:
    way = statistics.bootstrap_interval(statistics.way_between(means([1, 0]), means([0, 1]), means([0, 1])))
    assert np.isnan([way.mean, way.low, way.high]).all()


def test_the_way_is_over_common_users() -> None:
    way = statistics.way_between(means([9, 1, 3], [0, 1, 2]), means([0, 0, 9], [1, 2, 3]), means([4, 4], [1, 2]))
    assert way.users.tolist() == [1, 2] and statistics.bootstrap_interval(way).mean == 0.5


# --- corrections and groups ------------------------------------------------------------------------------------------


def test_holm_by_hand() -> None:
    p = {("a", "b"): 0.01, ("a", "c"): 0.04, ("b", "c"): 0.03}
    assert statistics.holm(p) == pytest.approx({("a", "b"): 0.03, ("a", "c"): 0.06, ("b", "c"): 0.06})
    assert list(statistics.holm(p)) == list(p)
    assert statistics.holm({("a", "b"): 0.9, ("a", "c"): 0.8}) == {("a", "b"): 1.0, ("a", "c"): 1.0}


def test_rank_groups_start_with_the_best_row() -> None:
    figures = {"low": 0.1, "best": 0.9, "near": 0.85, "middle": 0.5, "far": 0.45}
    apart = {("low", name): 0.001 for name in figures if name != "low"}
    p = {
        **apart,
        ("best", "near"): 0.4,
        ("best", "middle"): 0.01,
        ("best", "far"): 0.01,
        ("near", "middle"): 0.2,
        ("near", "far"): 0.01,
        ("far", "middle"): 0.7,
    }
    assert statistics.rank_groups(figures, p, True) == {"best": 1, "near": 1, "middle": 2, "far": 2, "low": 3}
    assert statistics.rank_groups({"x": 0.9, "y": 0.8}, {("x", "y"): 0.01}, False) == {"y": 1, "x": 2}


def test_effect_size() -> None:
    assert statistics.effect_size(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert statistics.effect_size(np.zeros(5)) == 0.0
    assert statistics.effect_size(np.full(5, -0.5)) == -np.inf
    assert np.isnan(statistics.effect_size(np.array([1.0])))


# --- standard errors -------------------------------------------------------------------------------------------------


def test_standard_error_of_means_is_that_of_paired_differences() -> None:
    a, b = hits(0.6, 400, 1), hits(0.5, 400, 2)
    wanted = (a.sums[:, 0] - b.sums[:, 0]).std(ddof=1) / 20
    assert statistics.standard_error(a, b) == pytest.approx(wanted, rel=1e-6)


def test_standard_error_of_rmse_agrees_with_the_bootstrap() -> None:
    rng = np.random.default_rng(4)
    n = rng.integers(5, 60, size=500).astype(np.float64)
    a, b = (
        UserStatistic(np.arange(500, dtype=np.int32), np.column_stack((n * rng.lognormal(0, 0.5, 500), n)), rmse_of)
        for _ in range(2)
    )
    values = statistics.bootstrap_values([a, b])
    assert statistics.standard_error(a, b) == pytest.approx((values[:, 0] - values[:, 1]).std(), rel=0.08)


def test_minimum_detectable_difference_is_of_the_median_pair() -> None:
    rows = [hits(share, 400, seed) for seed, share in enumerate((0.1, 0.5, 0.9))]
    errors = [statistics.standard_error(rows[i], rows[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert statistics.minimum_detectable_difference(rows) == pytest.approx(2.80 * sorted(errors)[1])
    assert np.isnan(statistics.minimum_detectable_difference(rows[:1]))


# --- compare and agreement -------------------------------------------------------------------------------------------


def test_compare_counts_users_and_looks_at_the_right_direction() -> None:
    a, b = means([1, 1, 0.5, 0, 1]), means([0, 0, 0.5, 1, 0])
    up, down = statistics.compare(a, b, higher_is_better=True), statistics.compare(a, b, higher_is_better=False)
    assert (up.n_users, up.wins, up.ties, up.losses) == (5, 3, 1, 1)
    assert (down.wins, down.ties, down.losses) == (1, 1, 3)
    assert up.difference.mean == down.difference.mean == pytest.approx(0.4)
    assert up.effect_size == -down.effect_size > 0
    assert up.p == down.p


@pytest.mark.parametrize("seed", range(5))
def test_tau_b_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4, 8).astype(float), rng.integers(0, 4, 8).astype(float)
    assert statistics.kendall_tau_b(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_rank_agreement_has_an_interval() -> None:
    first = [hits(share, 400, seed) for seed, share in enumerate((0.2, 0.5, 0.52, 0.9))]
    same = statistics.rank_agreement(first, first)
    assert (same.mean, same.low, same.high) == (1, 1, 1)
    second = [first[0], first[2], first[1], first[3]]  # the two in the middle, which are hard to tell, change places
    swapped = statistics.rank_agreement(first, second)
    assert swapped.mean == pytest.approx(4 / 6)
    assert swapped.low <= swapped.mean <= swapped.high
    alone = statistics.rank_agreement(first[:1], first[:1])
    assert np.isnan(alone.mean) and np.isnan(alone.low)
