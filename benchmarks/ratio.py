"""How our path compares with a control on a noisy machine: both in turn, in one process, pair by pair."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MIN_PAIRS = 15


@dataclass(frozen=True)
class Ratio:
    """Seconds of ours divided by seconds of the control.

    Attributes:
        median: of the ratios of all pairs.
        low, high: an interval that covers the true median with 95 % or more, whatever the noise looks like.
        ours_s, control_s: median seconds of each.
        pairs: how many.
    """

    median: float
    low: float
    high: float
    ours_s: float
    control_s: float
    pairs: int

    def __str__(self) -> str:
        return (
            f"{self.median:.3f} (95 % {self.low:.3f}–{self.high:.3f}, {self.pairs} pairs; "
            f"{self.ours_s:.4f} s against {self.control_s:.4f} s)"
        )


def interleaved_ratio(
    ours: Callable[[], object],
    control: Callable[[], object],
    pairs: int = MIN_PAIRS,
    clock: Callable[[], float] = time.perf_counter,
) -> Ratio:
    """Run both in turn and compare within each pair, so that what slows the machine for a while slows both.

    Each runs once before, untimed; which of a pair goes first alternates; garbage collection is off while timing.
    ``clock``: ``time.process_time`` for work in one thread, whose wall seconds on a busy machine are mostly waiting.

    Raises:
        ValueError: fewer than 15 pairs, too few for an honest bound.
    """
    if pairs < MIN_PAIRS:
        raise ValueError(f"at least {MIN_PAIRS} pairs are needed, got {pairs}")
    ours(), control()
    seconds = np.empty((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            seconds[pair, which] = _seconds(control if which else ours, clock)
    ratios = np.sort(seconds[:, 0] / seconds[:, 1])
    place = bound_place(pairs)
    ours_s, control_s = np.median(seconds, axis=0)
    return Ratio(
        float(np.median(ratios)),
        float(ratios[place]),
        float(ratios[-1 - place]),
        float(ours_s),
        float(control_s),
        pairs,
    )


def bound_place(n: int) -> int:
    """The largest k for which the k-th smallest and k-th largest of n values (from 0) enclose the median with 95 %.

    The number of values below the median is binomial(n, 1/2): no assumption on how they are distributed (David and
    Nagaraja 2003, section 7.1). For n = 15 it is 3, coverage 96.5 %.
    """
    from scipy.stats import binom

    return int(binom.ppf(0.025, n, 0.5)) - 1


def _seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = clock()
        run()
        return clock() - start
    finally:
        gc.enable()
