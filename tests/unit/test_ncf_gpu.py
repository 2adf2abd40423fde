"""The benchmark of NeuMF on a GPU, run on the CPU at a tiny shape, without the packages that a GPU machine may lack."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ncf_gpu import generate
from datasets.errors import UserError

ROOT = Path(__file__).parents[2]
MISSING = ("threadpoolctl", "safetensors", "implicit", "tensorflow", "keras", "optuna", "pyarrow", "pandas")
TINY = {"device": "cpu", "users": 60, "items": 90, "rows": 700, "batch-size": 500, "epochs": 2}
TINY |= {"score-batch": 1024, "batches": 3, "repeats": 2}


def test_generated_rows_are_distinct_long_tailed_and_seeded() -> None:
    rows = generate(500, 400, 20_000, seed=3)
    pairs = rows.users.astype(np.int64) * 400 + rows.items
    assert len(np.unique(pairs)) == len(rows) == 20_000
    counts = np.sort(np.bincount(rows.items, minlength=400))[::-1]
    assert counts[:40].sum() > 0.25 * len(rows)  # a tenth of the items has far more than a tenth of the rows
    assert np.array_equal(rows.items, generate(500, 400, 20_000, seed=3).items)
    assert not np.array_equal(rows.items, generate(500, 400, 20_000, seed=4).items)
    assert np.bincount(generate(500, 400, 600).users, minlength=500).all()
    for rows in (9, 51):
        with pytest.raises(UserError, match=r"between 10 \(users\) and 50"):
            generate(10, 10, rows)


def test_rates_can_be_recomputed_from_counts_and_seconds(tmp_path: Path) -> None:
    if find_spec("pytorch_lightning") is None:
        pytest.skip("PyTorch Lightning is not installed: pip install 'recgauge[torch]'")
    out = tmp_path / "gpu" / "cpu.json"
    without = f"import sys; sys.modules.update(dict.fromkeys({MISSING!r})); "
    code = without + "from benchmarks.ncf_gpu import main; main(sys.argv[1:])"
    options = [f"--{name}={value}" for name, value in TINY.items()]
    command = [sys.executable, "-c", code, *options, "--out", str(out), "--commit", "abc"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr

    result = json.loads(out.read_text())
    counts = {"training": 700 * 5, "scoring_on_host": 3_000, "scoring_on_device": 3_000}
    for name, count in counts.items():
        measured = result[name]
        rates = [count / seconds for seconds in measured["seconds"]]
        assert measured["count"] == count
        assert len(rates) == 2
        assert measured["per_s"] == {"median": statistics.median(rates), "low": min(rates), "high": max(rates)}
        assert f"{measured['per_s']['median'] / 1e6:.2f} M/s" in done.stdout
    assert sum(result["training"]["seconds"]) < result["training"]["fit_s"]
    assert result["config"]["precision"] == "32"
    assert (result["commit"], result["peak_gpu_bytes"]) == ("abc", None)
