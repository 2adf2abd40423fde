"""Devices in a plan: which rows a list of them gives, what each row's worker sees, and why one cannot run."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from algorithms import gpu
from algorithms.als import ALS, WARP, initial_factors
from algorithms.registry import AlgorithmSpec
from algorithms.types import FitContext, Task, TrainSet
from benchmarks import plan
from benchmarks.environment import gpu_obstacle, hardware, worker_variables
from benchmarks.executors.local import Limits
from benchmarks.plan import Cell, OwnFileFlags
from benchmarks.run import Planned, RunRequest, plan_cells
from datasets.errors import NotApplicableError
from datasets.types import Interactions

ROOT = Path(__file__).parents[2]
LIMITS = Limits(seconds=60, memory_bytes=2**33)
META = {"dataset": {"fingerprint": "d", "n_users": 2, "n_items": 2, "n_rows": 3}, "split": {"fingerprint": "s"}}
NO_GPU = "no GPU here: nvidia-smi finds none"

without_gpu = pytest.mark.skipif(bool(hardware()["gpus"]), reason="this machine has a GPU")


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which nvidia-smi finds a GPU; the frameworks still see what is really there."""
    monkeypatch.setitem(hardware(), "gpus", ["NVIDIA of a test"])


def planned(folder: Path, names: list[str], devices: list[str], seeds: int = 1) -> list[Planned]:
    path = folder / "ratings.csv"
    path.write_text("user,item,rating,time\nann,10,4.0,5\nbob,20,0.5,6\nbob,10,3.0,7\n")
    datasets, _ = plan.find_datasets(plan.choose_datasets([str(path)], OwnFileFlags()), named_by_user=True)
    preparations = plan.preparations(datasets, ["leave-one-out"], [42], {})
    request = RunRequest(
        preparations=preparations,
        choices=plan.choose_algorithms(names, {}),
        seeds=list(range(seeds)),
        threads=1,
        devices=devices,
        limits=LIMITS,
        budget="quick",
        repeats=1,
        results=folder / "results",
        compact=False,
        plugins=[],
        not_measured={},
    )
    return plan_cells(request, [(preparation, META) for preparation in preparations])


def cells(folder: Path, names: list[str], devices: list[str]) -> list[Cell]:
    return [each.cell for each in planned(folder, names, devices)]


def rows(folder: Path, names: list[str], devices: list[str]) -> list[tuple[str, str]]:
    return [(cell.choice.spec.name, cell.device) for cell in cells(folder, names, devices)]


# --- rows ------------------------------------------------------------------------------------------------------------


def test_each_device_is_a_row_with_a_key_and_a_record_of_its_own(tmp_path: Path) -> None:
    found = planned(tmp_path, ["als"], ["cpu", "cuda"], seeds=2)
    assert [(each.cell.device, each.cell.seed) for each in found] == [("cpu", 0), ("cpu", 1), ("cuda", 0), ("cuda", 1)]
    assert len({each.cell.key for each in found}) == len({each.path for each in found}) == 4
    assert found[0].cell.name == "als · ratings · leave-one-out · split 42 · seed 0"
    assert found[2].cell.name == "als · ratings · leave-one-out · split 42 · seed 0 · cuda"


def test_an_algorithm_has_no_row_on_a_device_that_it_never_runs_on_if_it_has_another(tmp_path: Path) -> None:
    names = ["popularity", "als", "ncf"]
    assert rows(tmp_path, names, ["cuda", "cpu"]) == [
        ("popularity", "cpu"),
        *(("als", "cuda"), ("als", "cpu")),
        *(("ncf", "cuda"), ("ncf", "cpu")),
    ]
    (cell,) = cells(tmp_path, ["popularity"], ["cuda"])
    assert cell.cannot_run(LIMITS) == "popularity runs on cpu, not on cuda"


@without_gpu
def test_entries_that_mean_the_same_device_are_one_row(tmp_path: Path) -> None:
    assert rows(tmp_path, ["als", "popularity"], ["auto", "cpu", "cpu"]) == [("als", "cpu"), ("popularity", "cpu")]


@without_gpu
@pytest.mark.parametrize("name", ["als", "ncf", "keras-mf", "keras-deep-mf[backend=torch]", "tfrs-gmf"])
def test_without_a_gpu_its_rows_are_skipped_and_say_so(tmp_path: Path, name: str) -> None:
    (cell,) = cells(tmp_path, [name], ["cuda"])
    assert cell.cannot_run(LIMITS) == NO_GPU


# --- auto ------------------------------------------------------------------------------------------------------------


def test_auto_is_the_gpu_where_the_framework_can_use_it(
    tmp_path: Path, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def only_torch(framework: str) -> str | None:
        asked.append(framework)
        return None if framework == "torch" else f"{framework} cannot"

    monkeypatch.setattr(plan, "gpu_obstacle", only_torch)
    monkeypatch.setattr(plan, "package_version", lambda name: "1")
    names = ["ncf", "keras-mf", "keras-mf[backend=torch]", "als", "tfrs-gmf", "item-knn"]
    assert [device for _, device in rows(tmp_path, names, ["auto"])] == ["cuda", "cpu", "cuda", "cpu", "cpu", "cpu"]
    assert set(asked) == {"torch", "tensorflow", "implicit"}
    (cell,) = cells(tmp_path, ["keras-deep-mf"], ["cuda"])
    assert cell.cannot_run(LIMITS) == "tensorflow cannot"


@without_gpu
@pytest.mark.parametrize("framework", gpu.FRAMEWORKS)
def test_a_framework_that_finds_no_gpu_says_so_in_one_line_with_what_to_do(framework: str) -> None:
    if find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    reason = gpu_obstacle(framework)
    assert reason and len(reason.splitlines()) == 1
    assert "pip install" in reason or "driver" in reason
    assert str(Path.home()) not in reason and sys.prefix not in reason
    assert framework not in sys.modules or framework == "implicit", "it is asked in another process"


def test_a_framework_that_breaks_when_asked_is_a_reason() -> None:
    reason = gpu_obstacle("no-such-framework")
    assert reason == "no-such-framework could not say whether it can use the GPU: KeyError: 'no-such-framework'"


# --- keys and workers ------------------------------------------------------------------------------------------------


def test_the_packages_of_a_cell_are_those_of_its_configuration_and_device(tmp_path: Path) -> None:
    def of(name: str, device: str) -> set[str]:
        (cell,) = cells(tmp_path, [name], [device])
        return cell.packages.keys() - {"python", "numpy", "scipy"}

    assert of("keras-mf", "cpu") == {"keras", "tensorflow", "implicit"}, "implicit makes the lists of factor models"
    assert of("keras-mf[backend=torch]", "cpu") == {"keras", "torch", "implicit"}
    assert of("keras-deep-mf[backend=torch]", "cuda") == {"keras", "torch"}
    assert of("als", "cpu") == {"implicit"}
    assert of("als", "cuda") == {"implicit", "rmm-cu13"}


def test_another_torch_is_another_cell_of_keras_on_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> list[str]:
        return [cell.key for cell in cells(tmp_path, ["keras-mf", "keras-mf[backend=torch]"], ["cpu"])]

    def with_another_torch(names: Any) -> dict[str, str | None]:
        return {name: "0.0" if name == "torch" else version for name, version in versions(names).items()}

    before, versions = keys(), plan.package_versions
    monkeypatch.setattr(plan, "package_versions", with_another_torch)
    after = keys()
    assert before[0] == after[0] and before[1] != after[1]


def test_a_package_that_the_configuration_does_without_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "package_version", lambda name: None if name == "tensorflow" else "1")
    on_tensorflow, on_torch = plan.choose_algorithms(["keras-mf", "keras-mf[backend=torch]"], {})
    assert str(plan.not_installed(on_tensorflow.spec, on_tensorflow.packages("cpu"))).startswith("tensorflow is not")
    assert plan.not_installed(on_torch.spec, on_torch.packages("cpu")) is None


def test_a_worker_on_the_cpu_sees_no_gpu(tmp_path: Path) -> None:
    for name in ("popularity", "als", "ncf", "keras-mf", "keras-mf[backend=torch]", "tfrs-gmf"):
        (cell,) = cells(tmp_path, [name], ["cpu"])
        assert cell.variables["CUDA_VISIBLE_DEVICES"] == "-1", name
    for name in ("als", "ncf", "keras-mf", "keras-mf[backend=torch]", "tfrs-gmf"):
        (cell,) = cells(tmp_path, [name], ["cuda"])
        assert "CUDA_VISIBLE_DEVICES" not in cell.variables, "the user's own choice of a GPU counts"
    assert worker_variables(1, {})["CUDA_VISIBLE_DEVICES"] == "-1", "preparing a split, canaries, checks"


def test_a_plug_in_without_other_packages_needs_those_it_names() -> None:
    spec = AlgorithmSpec("mine", "mine:Mine", "", ("numpy",), {"ranking": "native"})
    assert spec.packages_of({"backend": "torch"}, "cuda") == ("numpy",)


# --- implicit on a GPU -----------------------------------------------------------------------------------------------


@without_gpu
def test_als_on_a_gpu_that_is_not_there_says_what_implicit_needs() -> None:
    with pytest.raises(NotApplicableError) as caught:
        ALS().fit(_train_set(), FitContext(device="cuda"))
    assert len(str(caught.value).splitlines()) == 1
    assert "implicit" in str(caught.value)
    if find_spec("rmm") is None:
        assert "pip install 'rmm-cu13>=26.2,<26.6'" in str(caught.value)


@pytest.mark.parametrize("factors", [3, 32, 50])
def test_the_gpu_starts_from_the_factors_of_the_cpu(factors: int) -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    rows = _train_set().interactions
    with threadpool_limits(1, user_api="blas"):  # else it warns
        theirs = AlternatingLeastSquares(factors=factors, iterations=0, num_threads=1, random_state=3)
    theirs.fit(rows.matrix(), show_progress=False)
    for ours, start in zip(
        initial_factors(rows, factors, seed=3), (theirs.user_factors, theirs.item_factors), strict=True
    ):
        assert ours.shape[1] % WARP == 0 and ours.flags.c_contiguous and ours.dtype == np.float32
        assert np.array_equal(ours[:, :factors], start) and not ours[:, factors:].any()


@pytest.mark.parametrize("factors", [3, 32, 50])
def test_columns_of_zeros_change_nothing(factors: int) -> None:
    """implicit's solver on the CPU, from what the GPU is given and with alpha multiplied as for it.

    After half a sweep only the last bits differ. Later sweeps amplify them, whatever they come from: a start that
    differs by 1e-7 ends up as far away. So of whole fits the scores are compared, and loosely.
    """
    from implicit.cpu.als import AlternatingLeastSquares

    train = _train_set()
    for sweeps in (1, 15):
        ours = ALS(ALS.Config(factors=factors, reg=0.5, alpha=2.0, epochs=sweeps)).fit(train, FitContext(seed=3))
        user_factors, item_factors = initial_factors(train.interactions, factors, seed=3)
        width = user_factors.shape[1]
        with threadpool_limits(1, user_api="blas"):
            padded = AlternatingLeastSquares(factors=width, regularization=0.5, iterations=sweeps, num_threads=1)
        padded.user_factors, padded.item_factors = user_factors, item_factors
        padded.fit(2.0 * train.interactions.matrix(), show_progress=False)
        assert not padded.user_factors[:, factors:].any() and not padded.item_factors[:, factors:].any()
        if sweeps == 1:
            np.testing.assert_allclose(padded.user_factors[:, :factors], ours.user_factors, rtol=1e-4, atol=1e-6)
    scores = ours.score(np.arange(40))
    np.testing.assert_allclose(padded.user_factors @ padded.item_factors.T, scores, atol=0.01)
    assert scores.std() > 0.1


def _train_set() -> TrainSet:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((40, 30)) < 0.3)
    values = rng.integers(1, 6, len(users)).astype(np.float32)
    return TrainSet(Interactions(np.int32(users), np.int32(items), values, None, 40, 30), Task.RANKING)


# --- memory on a GPU -------------------------------------------------------------------------------------------------


def test_asking_for_gpu_memory_imports_nothing() -> None:
    code = "import sys; from algorithms import gpu; gpu.reset_peak(); print(gpu.peak_bytes(), "
    code += "[name for name in gpu.FRAMEWORKS if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "None []\n"
