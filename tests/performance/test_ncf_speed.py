"""NCF training on a CPU: one core against a plain loop with the same tower, batch size and number of samples, two cores
against what two cores give to matrix products. Slow."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.ratio import MIN_PAIRS, Ratio, bound_place

pytestmark = pytest.mark.slow

EPOCHS = 2
PAIRS = 31
"""Of 15 pairs the bounds are the fourth value from either end: on a shared machine too far out."""
LOWEST_SPEED = 1.15
LOWEST_SHARE_OF_SPEED_UP = 0.8


@pytest.fixture
def training(movielens: Path) -> tuple[Callable[[int], Any], Callable[[], Any], int]:
    """Our training on so many threads, the plain loop, and the samples of one run of either."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("pytorch_lightning")
    from algorithms.ncf import NCF
    from algorithms.types import FitContext, Task, TrainSet
    from datasets.movielens import MovieLensSmall
    from performance import plain_ncf

    loader = MovieLensSmall()
    rows = loader.load(loader.locate()).interactions
    config = NCF.Config(
        factors=plain_ncf.FACTORS,
        layers=plain_ncf.LAYERS,
        negatives=plain_ncf.NEGATIVES,
        batch_size=plain_ncf.BATCH_SIZE,
        learning_rate=plain_ncf.LEARNING_RATE,
        epochs=EPOCHS,
        reg=0.0,
    )
    users, items = (torch.from_numpy(column.astype("int64")) for column in (rows.users, rows.items))
    return (
        lambda threads: NCF(config).fit(TrainSet(rows, Task.RANKING), FitContext(threads=threads)),
        lambda: plain_ncf.train(users, items, rows.n_users, rows.n_items, EPOCHS),
        EPOCHS * len(rows) * (1 + plain_ncf.NEGATIVES),
    )


def test_training_is_faster_than_a_plain_loop(training: Any, ratio_to_control: Callable[..., Ratio]) -> None:
    """Our speed divided by the control's; only ours checks negatives against the training rows."""
    import torch

    ours, plain, samples = training
    torch.set_num_threads(1)
    speed = ratio_to_control(plain, lambda: ours(1), PAIRS)
    print(f"ours {samples / speed.control_s:,.0f} samples/s, plain loop {samples / speed.ours_s:,.0f} samples/s")
    assert speed.low >= LOWEST_SPEED


def test_two_cores_help_training_as_they_help_matrix_products(training: Any) -> None:
    """Seconds on one core by seconds on two, divided by the same of matrix products; all four in turn, 15 times."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    ours, _, samples = training
    runs = [lambda: ours(1), lambda: ours(2), lambda: _multiply(1), lambda: _multiply(2)]
    seconds = np.array([[_seconds(run) for run in runs] for _ in range(1 + MIN_PAIRS)])[1:]
    speed_ups = seconds[:, ::2] / seconds[:, 1::2]
    shares = np.sort(speed_ups[:, 0] / speed_ups[:, 1])
    low = shares[bound_place(len(shares))]
    one, two = samples / np.median(seconds[:, :2], axis=0)
    print(f"one core {one:,.0f} samples/s, two cores {two:,.0f} samples/s")
    print("speed-up by a second core: ours {:.2f}, matrix products {:.2f}".format(*np.median(speed_ups, axis=0)))
    print(f"ours / matrix products: {np.median(shares):.3f} (at least {low:.3f} with 95 %)")
    assert np.median(shares) >= LOWEST_SHARE_OF_SPEED_UP


def _multiply(threads: int) -> None:
    """The products of a batch with the tower's layers and their gradients, for about as long as the training takes."""
    import torch

    from performance import plain_ncf

    torch.set_num_threads(threads)
    draw = torch.Generator().manual_seed(0)
    units = (2 * plain_ncf.FACTORS, *plain_ncf.LAYERS)
    layers = [
        (torch.randn(plain_ncf.BATCH_SIZE, inputs, generator=draw), torch.randn(inputs, outputs, generator=draw))
        for inputs, outputs in itertools.pairwise(units)
    ]
    for _ in range(300):
        for inputs, weights in layers:
            outputs = inputs @ weights
            inputs.T @ outputs
            outputs @ weights.T


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
