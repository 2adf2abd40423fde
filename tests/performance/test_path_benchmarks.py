"""What a run does besides fitting: load, split, draw negatives, count, make lists, start. Each against a control."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
import pytest

import benchmarks
from algorithms.base import FactorRecommender
from algorithms.types import FitContext, Task, TrainSet
from datasets import store, top_k
from datasets.movielens import MovieLens20M
from datasets.types import Dataset
from performance import make_ml20m
from protocols import metrics, negatives
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut

ROOT = Path(benchmarks.__file__).resolve().parent.parent
"""Of the checkout that is measured, which need not be the one that this file is from."""

ROWS = 200_000
FACTORS = 64
BATCH = 1_024

Against = Callable[[Callable[[], object], Callable[[], object]], None]

on_cpu_clock = pytest.mark.benchmark(timer=time.process_time, disable_gc=True)
"""CPU seconds of all threads of the process, the kernel's included: other processes' work is not in them."""
on_wall_clock = pytest.mark.benchmark(timer=time.perf_counter, disable_gc=True)
"""For what waits for other processes."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """``ratings.csv`` and ``movies.csv`` in MovieLens format."""
    folder = tmp_path_factory.mktemp("files")
    make_ml20m.write(folder, ROWS)
    return [folder / name for name in MovieLens20M.files]


@pytest.fixture(scope="module")
def dataset(sources: list[Path]) -> Dataset:
    return MovieLens20M().load(sources)


@pytest.fixture(scope="module")
def keys() -> Callable[[], object]:
    """The control of splits: draws, sorts and searches in as many keys as there are ratings."""
    draw = np.random.default_rng(0)
    sorted_keys = np.sort(draw.integers(1 << 40, size=ROWS))

    def run() -> object:
        drawn = draw.integers(1 << 40, size=(ROWS // 50, 50))
        drawn.sort(axis=1)
        return np.argsort(drawn.ravel(), kind="stable"), np.searchsorted(sorted_keys, drawn)

    return run


@on_cpu_clock
@pytest.mark.regress("load/cold")
def test_load_cold(sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, against: Against) -> None:
    """Read, check, order, fingerprint, cache; the control parses the same file and sorts its rows."""
    loader, cache = MovieLens20M(), tmp_path / "cache"
    monkeypatch.setenv("RECGAUGE_CACHE", str(cache))
    options = pyarrow.csv.ReadOptions(use_threads=False)

    def load() -> None:
        shutil.rmtree(cache, ignore_errors=True)
        store.load_cached(loader, sources)

    def parse() -> object:
        users, items, _, times = pyarrow.csv.read_csv(sources[0], read_options=options).columns
        return np.lexsort((items, times, users))

    against(load, parse)


@on_cpu_clock
@pytest.mark.regress("load/cached")
def test_load_cached(sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, against: Against) -> None:
    """The control maps arrays and reads small files of its own."""
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path))
    loader = MovieLens20M()
    store.load_cached(loader, sources)
    arrays, texts = ([tmp_path / f"{place}.{kind}" for place in range(20)] for kind in ("npy", "txt"))
    for array, text in zip(arrays, texts, strict=True):
        np.save(array, np.zeros(ROWS))
        text.write_bytes(b"." * 10_000)

    def read() -> object:
        return [np.load(path, mmap_mode="r") for path in arrays], [path.read_bytes() for path in texts]

    against(lambda: store.load_cached(loader, sources), read)


@on_cpu_clock
@pytest.mark.regress("split/leave-one-out")
def test_leave_one_out(dataset: Dataset, keys: Callable[[], object], against: Against) -> None:
    against(lambda: LeaveOneOut().split(dataset, 42), keys)


@on_cpu_clock
@pytest.mark.regress("split/holdout")
def test_holdout(dataset: Dataset, keys: Callable[[], object], against: Against) -> None:
    against(lambda: Holdout().split(dataset, 42), keys)


@on_cpu_clock
@pytest.mark.regress("split/negatives")
def test_negatives(dataset: Dataset, keys: Callable[[], object], against: Against) -> None:
    """99 a user."""
    rows = dataset.interactions
    rated, users = negatives.pair_keys(rows), np.arange(rows.n_users)
    against(lambda: negatives.draw_negatives(rated, users, rows.n_items, 99, np.random.default_rng(0)), keys)


@on_cpu_clock
@pytest.mark.regress("metrics/candidates")
def test_metrics(against: Against) -> None:
    """Ranks, HR@10 and NDCG@10 of ML-20M's 138,493 users with 100 candidates; the control only compares."""
    draw = np.random.default_rng(0)
    scores = draw.random((make_ml20m.USERS, 100), dtype=np.float32)
    starts = np.arange(0, scores.size, 100)
    positives = draw.integers(100, size=len(starts))

    def measure() -> None:
        better, tied = metrics.count_better_and_tied(scores.ravel(), starts, starts + positives)
        metrics.hit_rate(better, tied, 10).mean()
        metrics.ndcg(better, tied, 10).mean()

    def compare() -> object:
        own = np.take_along_axis(scores, positives[:, None], axis=1)
        return (scores > own).sum(axis=1), (scores == own).sum(axis=1)

    against(measure, compare)


@on_cpu_clock
@pytest.mark.regress("lists/top-k")
def test_top_k(against: Against) -> None:
    """Ordered, ties decided; the control only partitions.

    A core's own cache holds the scores: with more of them, one of the two waits for memory more than the other, and
    who else uses the memory decides the ratio.
    """
    scores = np.random.default_rng(0).standard_normal((16, 10_000), dtype=np.float32)
    against(lambda: top_k.top_k(scores, 10), lambda: np.partition(scores, -10, axis=1))


@on_cpu_clock
@pytest.mark.regress("lists/factors")
def test_lists_of_factors(dataset: Dataset, against: Against) -> None:
    """The full catalogue without the seen items; the control only scores and partitions."""
    model = Drawn().fit(TrainSet(dataset.interactions, Task.RANKING), FitContext())
    seen, users = dataset.interactions.matrix(), np.arange(BATCH)

    def partition() -> object:
        scores = model.user_factors[users] @ model.item_factors.T
        return np.partition(scores, -10, axis=1)

    against(lambda: model.recommend(users, 10, seen), partition)


class Drawn(FactorRecommender):
    """Factors that were drawn, not learned."""

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        draw = np.random.default_rng(run.seed)
        self.user_factors = draw.standard_normal((self.n_users, FACTORS), dtype=np.float32)
        self.item_factors = draw.standard_normal((self.n_items, FACTORS), dtype=np.float32)


@on_wall_clock
@pytest.mark.regress("command/help", factor=1.3)
def test_help(against: Against) -> None:
    """The control is an interpreter with what a command line needs."""
    against(lambda: _python("-m", "benchmarks", "--help"), lambda: _python("-c", "import argparse, json, subprocess"))


@on_wall_clock
@pytest.mark.regress("command/popularity-cell", factor=1.3)
def test_popularity_cell(tmp_path: Path, against: Against) -> None:
    """A run of one cell, its data cached; the control is two interpreters with NumPy and SciPy, one after the other."""
    fresh = count()
    make_ml20m.write(tmp_path, 9_000)
    data = ("--dataset", str(tmp_path / "ratings.csv"), "--columns", "user=userId,item=movieId")

    def run() -> None:
        results = tmp_path / f"results-{next(fresh)}"
        options = ("--algorithm", "popularity", "--protocol", "leave-one-out", "--results", str(results))
        _python("-m", "benchmarks", "run", *data, *options)
        (record,) = results.glob("*/*/*/*.json")
        assert json.loads(record.read_text())["status"] == "ok"

    def start() -> None:
        for _ in range(2):
            _python("-c", "import numpy, scipy.sparse")

    against(run, start)


def _python(*arguments: str) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
