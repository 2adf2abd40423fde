"""The interleaved ratio: its order, its bound, and that it finds a slowdown on this machine."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.ratio import bound_place, interleaved_ratio


def spin(seconds: float) -> None:
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        pass


@pytest.mark.parametrize(("n", "place"), [(15, 3), (20, 5), (51, 18)])
def test_the_bound_covers_the_median_as_tables_say(n: int, place: int) -> None:
    """David and Nagaraja's intervals: order statistics 4 and 12 of 15, 6 and 15 of 20, 19 and 33 of 51."""
    assert bound_place(n) == place


def test_the_bound_covers_the_true_median_of_a_skewed_distribution() -> None:
    draws = np.sort(np.random.default_rng(0).lognormal(size=(4_000, 15)), axis=1)
    covered = (draws[:, 3] <= 1.0) & (draws[:, 11] >= 1.0)
    assert 0.955 <= covered.mean() <= 0.975


def test_each_goes_first_in_every_other_pair() -> None:
    order: list[str] = []
    interleaved_ratio(lambda: order.append("ours"), lambda: order.append("control"), pairs=16)
    assert order[:6] == ["ours", "control", "ours", "control", "control", "ours"]
    assert order.count("ours") == order.count("control") == 17  # one warm-up each


def test_twice_the_work_is_twice_the_time() -> None:
    """Spins are long beside the milliseconds that a busy machine may take away from either."""
    ratio = interleaved_ratio(lambda: spin(0.04), lambda: spin(0.02), pairs=20)
    assert ratio.low <= 2.05 and ratio.high >= 1.95
    assert ratio.low > 1.2 and ratio.pairs == 20


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 15"):
        interleaved_ratio(lambda: None, lambda: None, pairs=14)
