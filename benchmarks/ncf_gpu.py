"""How fast NeuMF trains and scores on a GPU: ``python -m benchmarks.ncf_gpu --out results/reference/gpu/NAME.json``.

Network and shape are those of NVIDIA's NCF benchmark (DeepLearningExamples, PyTorch/Recommendation/NCF): embeddings of
64 that are multiplied, a tower 256-256-128-64, 4 negatives for each row, the size of ML-20M. The rows are generated, so
that the machine needs no data; it needs NumPy, SciPy, PyTorch and Lightning. Training and scoring go through the
adapter that ``run --device cuda`` uses. How good a model of random rows is says nothing.

Seconds are wall seconds between two points at which the device has finished; what runs first is not counted. Each rate
is a count divided by seconds, and both are written to the file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from algorithms.ncf import NeuMF
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.environment import commit, hardware, package_versions
from datasets.errors import UserError
from datasets.types import Interactions

PUBLISHED = {
    "training": 34.1e6,
    "scoring_on_host": 82.7e6,
    "scoring_on_device": 82.7e6,
    "source": "NVIDIA DeepLearningExamples, NCF for PyTorch: one A100, mixed precision, batches of 2^20",
}
"""Samples and candidates a second. Whether the published scoring brings its scores to the host is not said."""

LIST_LENGTH = 100
"""Candidates of a user, the first of which is the one whose rank is counted."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    config = NeuMF.Config(
        factors=128,
        layers=(256, 128, 64),
        gmf_factors=64,
        negatives=4,
        epochs=1 + options.epochs,
        patience=0,
        learning_rate=options.learning_rate,
        batch_size=options.batch_size,
        reg=0.0,
        precision=options.precision or ("bf16-mixed" if options.device == "cuda" else "32"),
    )
    os.environ.update(NeuMF.environment(config))  # as the harness does, before PyTorch is loaded
    start = time.perf_counter()
    rows = generate(options.users, options.items, options.rows)
    print(f"{len(rows):,} rows, {rows.n_users:,} users, {rows.n_items:,} items in {time.perf_counter() - start:.1f} s")

    model = NeuMF(config)
    lists = max(1, options.score_batch // LIST_LENGTH)  # whole lists: a batch of 2^20 ends amid one
    score_batch = lists * LIST_LENGTH
    result = {
        "shape": {"users": rows.n_users, "items": rows.n_items, "rows": len(rows)},
        "config": asdict(config),
        "device": options.device,
        "training": measure_training(model, rows, options.device, options.threads),
        "scoring_on_host": measure_scoring_on_host(model, score_batch, options.batches, options.repeats),
        "scoring_on_device": measure_scoring_on_device(model, score_batch, options.batches, options.repeats),
        "peak_gpu_bytes": model.peak_gpu_bytes(),
        "hardware": hardware(),
        "packages": package_versions(["torch", "pytorch-lightning", "numpy"]),
        "commit": options.commit or commit(),
        "published": PUBLISHED,
    }
    _show(result)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def generate(n_users: int, n_items: int, n_rows: int, seed: int = 0) -> Interactions:
    """``n_rows`` distinct pairs, sorted; long-tailed users (log-normal) and items (1 / (rank + 20)), all values 1.

    Raises:
        UserError: for fewer rows than users, or more than half of all pairs.
    """
    if not n_users <= n_rows <= n_users * n_items // 2:
        raise UserError(f"--rows must lie between {n_users:,} (users) and {n_users * n_items // 2:,}, got {n_rows:,}")
    draw = np.random.default_rng(seed)
    activity = draw.lognormal(0, 1.1, n_users)
    by_rank = draw.permutation(n_items)
    pairs = once = np.arange(n_users) * n_items + draw.integers(0, n_items, n_users)  # everybody has a row
    while len(pairs) < n_rows:
        wanted = (n_rows - len(pairs)) * 5 // 4  # a good part of the draws are there already
        users = np.repeat(np.arange(n_users), draw.multinomial(wanted, activity / activity.sum()))
        # The inverse of the distribution function of 1 / (rank + 20), taken as continuous.
        ranks = 20 * np.exp(draw.random(wanted, dtype=np.float32) * np.float32(np.log(n_items / 20 + 1))) - 20
        drawn = users * n_items + by_rank[np.clip(ranks.astype(np.int32), 0, n_items - 1)]
        pairs = np.sort(np.concatenate([pairs, drawn]))  # several times as fast as np.unique
        pairs = pairs[np.append(True, pairs[1:] != pairs[:-1])]
    spare = np.delete(np.arange(len(pairs)), np.searchsorted(pairs, once))
    pairs = np.delete(pairs, draw.choice(spare, len(pairs) - n_rows, replace=False, shuffle=False))
    users, items = np.divmod(pairs, n_items)
    values = np.ones(n_rows, dtype=np.float32)
    return Interactions(users.astype(np.int32), items.astype(np.int32), values, None, n_users, n_items)


def measure_training(model: NeuMF, rows: Interactions, device: str, threads: int = 1) -> dict[str, Any]:
    """Fit ``model``; positives and negatives of an epoch by its seconds, drawing included, without the first epoch."""
    ends = []

    def after_epoch(step: int, total: int) -> None:
        model.synchronize()
        ends.append(time.perf_counter())

    start = time.perf_counter()
    model.n_users, model.n_items = rows.n_users, rows.n_items
    # Not ``fit``: its limit on threads of the CPU needs threadpoolctl, which a machine for GPU work may not have.
    model._fit(TrainSet(rows, Task.RANKING), FitContext(device=device, threads=threads, progress=after_epoch))
    model.synchronize()
    samples = len(rows) * (1 + model.config.negatives)
    return {**_rate(samples, np.diff(ends).tolist()), "fit_s": time.perf_counter() - start}


def measure_scoring_on_host(model: NeuMF, batch: int, batches: int, repeats: int) -> dict[str, Any]:
    """``score_pairs`` of NumPy indices: candidates by seconds until their scores are in the host's memory."""
    users, items = _candidates(model, batch, batches)

    def score() -> None:
        for start in range(0, len(users), batch):
            model.score_pairs(users[start : start + batch], items[start : start + batch])

    return _rate(len(users), [_seconds(score, model) for _ in range(1 + repeats)][1:])


def measure_scoring_on_device(model: NeuMF, batch: int, batches: int, repeats: int) -> dict[str, Any]:
    """Candidates that lie on the device, counted there: how many of a user's beat the first one."""
    scorer = model._scorer
    users, items = (scorer.indices(each) for each in _candidates(model, batch, batches))

    def count() -> None:
        for some, candidates in zip(users.split(batch), items.split(batch), strict=True):
            scores = scorer.pairs_on_device(some, candidates).view(-1, LIST_LENGTH)
            (scores[:, 1:] > scores[:, :1]).sum(dim=1)

    return _rate(len(users), [_seconds(count, model) for _ in range(1 + repeats)][1:])


def _candidates(model: NeuMF, batch: int, batches: int) -> tuple[np.ndarray, np.ndarray]:
    """``batches`` times ``batch`` users and items, ``LIST_LENGTH`` in a row of one user."""
    draw = np.random.default_rng(1)
    lists = batches * batch // LIST_LENGTH
    users = np.repeat(draw.integers(0, model.n_users, lists, dtype=np.int32), LIST_LENGTH)
    return users, draw.integers(0, model.n_items, len(users), dtype=np.int32)


def _seconds(run: Callable[[], None], model: NeuMF) -> float:
    model.synchronize()
    start = time.perf_counter()
    run()
    model.synchronize()
    return time.perf_counter() - start


def _rate(count: int, seconds: list[float]) -> dict[str, Any]:
    """``count`` by each of ``seconds``: the median, and the slowest and the fastest."""
    rates = [count / each for each in seconds]
    return {
        "count": count,
        "seconds": seconds,
        "per_s": {"median": statistics.median(rates), "low": min(rates), "high": max(rates)},
    }


def _show(result: dict[str, Any]) -> None:
    print(f"{', '.join(result['hardware']['gpus']) or result['hardware']['cpu']}, device {result['device']}")
    print(f"torch {result['packages']['torch']}, commit {result['commit']}, {result['config']['precision']}")
    for name in ("training", "scoring_on_host", "scoring_on_device"):
        per_s, repeats = result[name]["per_s"], len(result[name]["seconds"])
        spread = f"{per_s['low'] / 1e6:.2f} to {per_s['high'] / 1e6:.2f} in {repeats} repeats"
        published = f"published {PUBLISHED[name] / 1e6:.1f}"  # type: ignore[operator]
        print(f"{name:18} {per_s['median'] / 1e6:8.2f} M/s ({spread}; {published})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ncf_gpu",
        description="Training samples and scored candidates a second of NeuMF at the size of NVIDIA's NCF benchmark, "
        "on generated rows of ML-20M's shape. A sample is a row or one of its 4 drawn negatives.",
        epilog="On a GPU: python -m benchmarks.ncf_gpu --out results/reference/gpu/h200.json. A try on a CPU, in "
        "seconds: python -m benchmarks.ncf_gpu --device cpu --users 500 --items 400 --rows 20000 --batch-size 4096 "
        "--score-batch 10000 --batches 2.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--users", type=int, default=138_493, help="users of the generated rows")
    parser.add_argument("--items", type=int, default=26_744, help="items of the generated rows")
    parser.add_argument("--rows", type=int, default=20_000_000, help="rows: from one a user to half of all pairs")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="where to train and score")
    parser.add_argument("--threads", type=int, default=1, help="threads of the CPU")
    parser.add_argument("--batch-size", type=int, default=1 << 20, help="samples of a training step")
    parser.add_argument("--learning-rate", type=float, default=0.0045, help="step of Adam")
    parser.add_argument("--epochs", type=int, default=5, help="timed epochs; one more comes first as the warm-up")
    parser.add_argument("--precision", choices=["32", "bf16-mixed"], help="bf16-mixed on cuda, 32 on cpu unless given")
    parser.add_argument(
        "--score-batch", type=int, default=1 << 20, help="candidates of one call, cut to whole lists of 100"
    )
    parser.add_argument("--batches", type=int, default=20, help="such calls in each repeat")
    parser.add_argument("--repeats", type=int, default=7, help="timed repeats of scoring; one more comes first")
    parser.add_argument("--commit", help="the code's commit, where this is no git checkout")
    parser.add_argument("--out", type=Path, help="JSON file to write; those that are kept: results/reference/gpu/")
    return parser


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
