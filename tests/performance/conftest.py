"""Fixtures of the performance tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.ratio import Ratio, interleaved_ratio


@pytest.fixture(scope="session")
def ml20m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with an ML-20M-shaped ``ml-20m``."""
    from performance.make_ml20m import write

    root = tmp_path_factory.mktemp("data")
    write(root / "ml-20m")
    return root


@pytest.fixture
def ratio_to_control() -> Callable[..., Ratio]:
    """``ratio_to_control(ours, control, pairs=15)``: both in turn; prints and returns median ratio and bound."""

    def measure(ours: Callable[[], object], control: Callable[[], object], pairs: int = 15) -> Ratio:
        ratio = interleaved_ratio(ours, control, pairs)
        print(f"ours / control: {ratio}")
        return ratio

    return measure
