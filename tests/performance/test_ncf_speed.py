"""NCF training on one core against a plain loop with the same tower, batch size and number of samples. Slow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.ratio import Ratio

pytestmark = pytest.mark.slow

EPOCHS = 2
LOWEST_SPEED = 0.90


def test_training_is_as_fast_as_a_plain_loop(movielens: Path, ratio_to_control: Callable[..., Ratio]) -> None:
    """Our speed divided by the control's; only ours checks negatives against the training rows."""
    torch = pytest.importorskip("torch")
    from algorithms.ncf import NCF
    from algorithms.types import FitContext, Task, TrainSet
    from datasets.movielens import MovieLensSmall
    from performance import plain_ncf

    torch.set_num_threads(1)
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
    speed = ratio_to_control(
        lambda: plain_ncf.train(users, items, rows.n_users, rows.n_items, EPOCHS),
        lambda: NCF(config).fit(TrainSet(rows, Task.RANKING), FitContext()),
    )
    samples = EPOCHS * len(rows) * (1 + plain_ncf.NEGATIVES)
    print(f"ours {samples / speed.control_s:,.0f} samples/s, plain loop {samples / speed.ours_s:,.0f} samples/s")
    assert speed.low >= LOWEST_SPEED
