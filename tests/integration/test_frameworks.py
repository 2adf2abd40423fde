"""Keras, TensorFlow Recommenders and Lightning as a user meets them: quiet, sealed from each other, and optional."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec

import pytest
from conftest import NETWORKS, CommandLine

if find_spec("pytorch_lightning") is None or find_spec("tensorflow_recommenders") is None:
    pytest.skip("the extras torch and tensorflow are not installed", allow_module_level=True)

ONE_OF_EACH_FRAMEWORK = ["keras-mf", "tfrs-gmf", "ncf"]


@pytest.mark.parametrize(
    "networks",
    [
        ONE_OF_EACH_FRAMEWORK,
        pytest.param([name for name in NETWORKS if name not in ONE_OF_EACH_FRAMEWORK], marks=pytest.mark.slow),
    ],
    ids=["one of each framework", "the others"],
)
def test_networks_say_nothing_and_leave_nothing(benchmarks: CommandLine, networks: list[str]) -> None:
    before = set(benchmarks.root.iterdir())
    short = [argument for name in networks for argument in ("--set", f"{name}.epochs=1")]
    ended = benchmarks.run("--algorithm", ",".join(networks), *short, timeout=300)
    assert ended.code == 0, ended.err
    lines = [line for line in ended.err.splitlines() if not line.startswith(("✓", "prepare "))]
    assert lines == [], "only the progress of cells belongs on stderr"
    assert ended.out.startswith("synthetic-genres · leave-one-out") and "arning" not in ended.out
    assert set(benchmarks.root.iterdir()) <= before | {benchmarks.root / "results"}
    left = {path.suffix for path in benchmarks.results.rglob("*") if path.is_file()}
    assert left == {".json", ".npz"}
    records = [json.loads(path.read_text()) for path in benchmarks.results.glob("*/*/*/*.json")]
    assert {record["timings"]["steps"] for record in records} == {1}
    assert len(records) == len(networks)


def test_a_real_error_of_a_framework_reaches_the_user(benchmarks: CommandLine) -> None:
    """A learning rate that makes every weight infinite."""
    ended = benchmarks.run("--algorithm", "ncf[epochs=2,learning_rate=1e38]", timeout=120)
    assert ended.code == 2
    assert "failed: " in ended.err and "finite" in ended.err
    (log,) = benchmarks.results.glob("*/*/*/*.log")
    assert "Traceback" in log.read_text()


def test_a_missing_framework_is_a_skipped_row_with_the_install_line(in_copy: Callable[[], CommandLine]) -> None:
    copy = in_copy()
    registry = copy.root / "algorithms" / "registry.py"
    registry.write_text(registry.read_text().replace('"pytorch-lightning"', '"pytorch-lightning-of-another-planet"'))
    ended = copy.run("--algorithm", "ncf,popularity")
    assert ended.code == 0
    assert "skipped: pytorch-lightning-of-another-planet is not installed" in ended.err
    assert "pip install -c constraints.txt '.[torch]'" in ended.err
