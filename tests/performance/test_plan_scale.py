"""Planning and measuring at the size of ML-20M: seconds of split and metrics, peak memory of every process. Slow."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets.movielens import MovieLens20M
from datasets.store import load_cached
from protocols import metrics
from protocols.leave_one_out import LeaveOneOut

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
USERS = 138_493
SPLIT_S, METRICS_S = 8, 0.15
PLANNING_BYTES, CELL_BYTES = 4 << 30, 6 << 30


@pytest.fixture(scope="module")
def variables(ml20m: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An ML-20M-shaped ``ml-20m`` and an empty cache."""
    return {**os.environ, "RECGAUGE_DATA": str(ml20m), "RECGAUGE_CACHE": str(tmp_path_factory.mktemp("cache"))}


def run(variables: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True).stdout


def test_planning_fits_in_four_gibibytes(variables: dict[str, str]) -> None:
    """The peak of the largest process so far: load, canonical order, fingerprint, cache, split, candidates."""
    out = run(variables, "prepare", "--dataset", "ml-20m")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"planning: {peak / 2**30:.2f} GiB")
    assert "20,000,263 rows, 138,493 users" in out
    assert peak <= PLANNING_BYTES


def test_leave_one_out_with_99_negatives(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECGAUGE_DATA", "RECGAUGE_CACHE"):
        monkeypatch.setenv(name, variables[name])
    loader = MovieLens20M()
    dataset = load_cached(loader, loader.locate())
    start = time.perf_counter()
    split = LeaveOneOut().split(dataset, 42)
    seconds = time.perf_counter() - start
    print(f"split and candidates: {seconds:.1f} s")
    assert split.candidates is not None and split.candidates.shape[1] == 100
    assert seconds <= SPLIT_S


def test_ranks_and_metrics_of_a_hundred_candidates_a_user() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(USERS * 100, dtype=np.float32)
    starts = np.arange(0, len(scores), 100)
    positive = starts + rng.integers(0, 100, USERS)
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        better, tied = metrics.count_better_and_tied(scores, starts, positive)
        metrics.hit_rate(better, tied, 10).mean(), metrics.ndcg(better, tied, 10).mean()
        seconds.append(time.perf_counter() - start)
    print(f"ranks and metrics: {np.median(seconds):.3f} s")
    assert np.median(seconds) <= METRICS_S


def test_the_large_suite_fits_in_six_gibibytes_a_cell(variables: dict[str, str], tmp_path: Path) -> None:
    """Half an hour on two cores."""
    results = tmp_path / "results"
    run(variables, "run", "--suite", "large", "--threads", "2", "--results", str(results))
    records = [json.loads(path.read_text()) for path in results.glob("*/*/*/*.json")]
    status = {(record["algorithm"]["name"], record["protocol"]["name"]): record["status"] for record in records}
    peaks = {key: record["memory"]["peak_group_rss_bytes"] for key, record in zip(status, records, strict=True)}
    print({key: f"{peak / 2**30:.2f} GiB" for key, peak in peaks.items()})
    assert {key for key, value in status.items() if value == "skipped"} == {
        ("ease", "leave-one-out"),
        ("ease", "holdout"),
    }
    assert set(status.values()) == {"ok", "skipped"} and len(status) == 12
    assert max(peaks.values()) <= CELL_BYTES
