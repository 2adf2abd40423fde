"""Every registered algorithm through one suite: an entry in the registry is enough to be tested."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest

from algorithms import registry
from algorithms.base import Recommender
from algorithms.registry import ALGORITHMS, AlgorithmSpec
from benchmarks import contract
from benchmarks.check import check_algorithms
from benchmarks.executors.local import LocalExecutor
from benchmarks.plugins import load_plugin


def _installed(spec: AlgorithmSpec) -> bool:
    try:
        return all(version(package) for package in spec.packages)
    except PackageNotFoundError:
        return False


PARAMETERS = [
    pytest.param(
        spec,
        id=spec.name,
        marks=pytest.mark.skipif(
            not _installed(spec), reason=f"{spec.name} is not installed: pip install 'recgauge[{spec.extra}]'"
        ),
    )
    for spec in ALGORITHMS.values()
]


@pytest.fixture(scope="module")
def failures() -> dict[str, list[str]]:
    """What ``check`` finds: in workers, so that frameworks that cannot share a process never meet."""
    found: dict[str, list[str]] = {}
    with LocalExecutor() as executor:
        check_algorithms(
            executor, list(ALGORITHMS.values()), [], lambda name, failed: found.update({name: list(failed)})
        )
    return found


@pytest.mark.parametrize("spec", PARAMETERS)
def test_contract(spec: AlgorithmSpec, failures: dict[str, list[str]]) -> None:
    assert failures[spec.name] == []


def test_importing_adapters_loads_no_framework() -> None:
    assert contract.frameworks_loaded_by_import(ALGORITHMS) == []


def test_seeds_matter() -> None:
    """Else "the same seed gives the same scores" would prove nothing."""
    spec, toy = ALGORITHMS["als"], contract.toy_train_set(contract.Task.RANKING)
    other = contract._fit(spec, toy, contract.FitContext(seed=contract.SEED + 1))
    users = np.arange(contract.N_USERS)
    assert not np.array_equal(other.score(users), contract.fitted("als").score(users))


class _Constant(Recommender):
    """Breaks three rules: learns nothing, changes its input, and draws without a seed."""

    def _fit(self, train, run):
        train.interactions.values[:] = 1
        self.level = np.random.default_rng().random()

    def _score(self, users):
        return np.full((len(users), self.n_items), self.level)


def test_the_suite_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = AlgorithmSpec("broken", f"{__name__}:_Constant", "", ("numpy",), {"ranking": "native"})
    monkeypatch.setitem(ALGORITHMS, "broken", spec)
    contract.toy_train_set.cache_clear()  # it will be written into
    contract.fitted.cache_clear()
    broken = {rule.__name__ for rule in contract.CHECKS if _violates(rule, spec)}
    contract.toy_train_set.cache_clear()
    contract.fitted.cache_clear()
    assert broken >= {"check_learns", "check_same_seed_same_scores", "check_leaves_training_arrays_alone"}


PLUGIN = """
import numpy as np
from algorithms.base import Recommender
from algorithms.registry import AlgorithmSpec

class Sums(Recommender):
    def _fit(self, train, run):
        self.sums = np.bincount(train.interactions.items, train.interactions.values, self.n_items)
    def _score(self, users):
        return np.tile(self.sums, (len(users), 1)) {extra}

ALGORITHMS = [AlgorithmSpec("sums", "sums_plugin:Sums", "", ("numpy",), {{"ranking": "native"}}, control=True)]
"""


@pytest.mark.parametrize(
    ("extra", "failures"),
    [
        ("", ["save and load: NotImplementedError: Sums cannot be saved: it has no _state"]),
        (
            "+ hash('text') % 100_003",
            ["save and load", "another process: in another process the same seed"],
        ),
    ],
)
def test_check_runs_the_suite_on_a_plug_in(
    extra: str, failures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ALGORITHMS", dict(ALGORITHMS))
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    path = tmp_path / "sums_plugin.py"
    path.write_text(PLUGIN.format(extra=extra))
    load_plugin(path)
    try:
        found = contract.check(registry.spec("sums"), [path])
    finally:
        del sys.modules["sums_plugin"]
        contract.fitted.cache_clear()
    assert len(found) == len(failures)
    assert all(line.startswith(expected) for line, expected in zip(found, failures, strict=True))


def _violates(rule: Callable[[AlgorithmSpec], None], spec: AlgorithmSpec) -> bool:
    try:
        rule(spec)
    except (contract.ContractViolation, NotImplementedError):
        return True
    return False
