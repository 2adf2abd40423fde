"""Fixtures of the performance tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.ratio import Ratio, interleaved_ratio


@pytest.fixture
def ratio_to_control() -> Callable[..., Ratio]:
    """``ratio_to_control(ours, control, pairs=15)``: both in turn; prints and returns median ratio and bound."""

    def measure(ours: Callable[[], object], control: Callable[[], object], pairs: int = 15) -> Ratio:
        ratio = interleaved_ratio(ours, control, pairs)
        print(f"ours / control: {ratio}")
        return ratio

    return measure
