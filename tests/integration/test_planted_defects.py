"""Classic defects of benchmark harnesses, planted into a copy of the sources: a canary or a named test catches each."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT

CANARIES = "canaries"
SOURCES = ("algorithms", "benchmarks", "datasets", "protocols", "tests")
SING = """
import sys
from benchmarks.canaries import wrong_figures

wrong = wrong_figures()
print(*wrong, sep="\\n")
sys.exit(1 if wrong else 0)
"""


@dataclass(frozen=True)
class Patch:
    """``old`` occurs once in ``file`` and becomes ``new``."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Defect:
    """A defect, who catches it (``CANARIES`` or a pytest node), and how the wrong figure or failed assertion begins."""

    patches: tuple[Patch, ...]
    caught_by: str
    reason: str


DEFECTS = {
    "negatives with duplicates": Defect(
        (Patch("protocols/negatives.py", "rejected[:, 1:] |= rows[:, 1:] == rows[:, :-1]", "pass"),),
        "tests/unit/test_negatives.py::test_every_subset_is_as_likely[by rejection]",
        "assert np.count_nonzero(subsets) == 10",
    ),
    "negatives with the positive": Defect(
        (
            Patch(
                "protocols/leave_one_out.py",
                "(test, (rated,), split_seed, Stream.TEST_NEGATIVES)",
                "(test, (train, valid), split_seed, Stream.TEST_NEGATIVES)",
            ),
        ),
        CANARIES,
        "canary oracle: ndcg@10 is 0.",
    ),
    "negatives from low item ids only, few free items": Defect(
        (
            Patch(
                "protocols/negatives.py",
                "draws = rng.random((len(block), n_items))",
                "draws = np.sort(rng.random((len(block), n_items)), axis=1)",
            ),
        ),
        "tests/unit/test_negatives.py::test_negatives_are_uniform_over_free_items[by ranking]",
        "assert stats.chisquare(seen[n_excluded:]).pvalue > 1e-3",
    ),
    "negatives from low item ids only, many free items": Defect(
        (
            Patch(
                "protocols/negatives.py",
                "drawn = rng.integers(n_items, size",
                "drawn = rng.integers(n_items // 2, size",
            ),
        ),
        "tests/unit/test_negatives.py::test_negatives_are_uniform_over_free_items[by rejection]",
        "assert stats.chisquare(seen[n_excluded:]).pvalue > 1e-3",
    ),
    "ties as hits": Defect(
        (
            Patch(
                "protocols/metrics.py",
                "return np.clip((k - better) / (tied + 1), 0.0, 1.0)",
                "return np.where(better < k, 1.0, 0.0)",
            ),
        ),
        CANARIES,
        "canary constant: hr@10 is 1,",
    ),
    "NaN as a hit": Defect(
        (
            Patch("protocols/metrics.py", "    if n_bad:\n", "    if False:\n"),
            Patch("algorithms/base.py", "    if bad.any():\n        first", "    if False:\n        first"),
        ),
        CANARIES,
        "canary nan: its scores were accepted",
    ),
    "users whose item is cold dropped from the denominator": Defect(
        (
            Patch(
                "protocols/leave_one_out.py",
                "        if not len(test):\n",
                "        test = test.select(np.isin(test.items, train.items))\n        if not len(test):\n",
            ),
        ),
        CANARIES,
        "canary popularity: hr@10 is 1,",
    ),
    "seen items not masked": Defect(
        (
            Patch(
                "protocols/metrics.py",
                "not_counted = _without_positives(seen, users, positives)",
                "not_counted = sparse.csr_matrix(seen.shape)",
            ),
        ),
        CANARIES,
        "canary constant: hr@10/full is 0.0666667,",
    ),
    "seen items not masked in lists": Defect(
        (Patch("datasets/top_k.py", "seen.indices] = -np.inf", "seen.indices] += 0"),),
        "tests/unit/test_base.py::test_recommend_masks_pads_and_breaks_ties_by_index",
        "assert lists.tolist() == [[2, 0, 3], [0, 1, 2], [3, PADDING, PADDING]]",
    ),
    "calibration fitted on test rows": Defect(
        (
            Patch(
                "benchmarks/split_store.py",
                "load_question(folder), load_labels(folder)",
                "load_question(target), load_labels(target)",
            ),
        ),
        "tests/unit/test_calibration.py::test_a_cell_is_calibrated_on_validation_rows_of_a_train_only_fit",
        'assert measured.metrics["rmse"] == pytest.approx(3)',
    ),
    "selection on test rows": Defect(
        (Patch("benchmarks/split_store.py", "/ VALIDATION, split.for_validation(),", "/ VALIDATION, split,"),),
        "tests/unit/test_split_store.py::test_validation_fits_on_train_and_asks_about_valid_rows",
        "assert held_out(part) == [(user, item) for user, item, _ in rated(split.valid)]",
    ),
    "float32 times in the reader": Defect(
        (
            Patch(
                "datasets/readers.py",
                '"seconds": _convert_integers,',
                '"seconds": lambda *column: _convert_integers(*column).astype(np.float32).astype(np.int64),',
            ),
        ),
        "tests/unit/test_readers.py::test_times_keep_every_second",
        'assert read_table(path, FIELDS)["time"].tolist() == [1537109082, 1537109083]',
    ),
    "float32 times in canonical order": Defect(
        (
            Patch(
                "datasets/canonical.py",
                "np.asarray(times, dtype=np.int64)",
                "np.asarray(times, dtype=np.float32).astype(np.int64)",
            ),
        ),
        "tests/property/test_canonical.py::test_a_second_decides_the_order",
        "assert rows_of(build(table)) == [(1, 1_500_000_000, 20, 4.0), (1, 1_500_000_001, 10, 3.0)]",
    ),
    "encoder fitted on test rows": Defect(
        (
            Patch(
                "benchmarks/split_store.py",
                "np.bincount(trained, minlength=size) > 0",
                "np.ones(size, dtype=bool)",
            ),
        ),
        "tests/unit/test_split_store.py::test_encoders_know_items_with_a_training_row_only",
        "assert set(train.item_features.names) == expected",
    ),
    "split identity by counts": Defect(
        (
            Patch(
                "protocols/splits.py",
                '    digest.update(np.ascontiguousarray(array, dtype="<i4").data)',
                "",
            ),
        ),
        "tests/unit/test_splits.py::test_fingerprint_is_not_made_of_counts",
        "assert identity(test=other_pairs) != identity()",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources as they are, which passes every check that is to catch a defect."""
    folder = tmp_path_factory.mktemp("sound")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    nodes = {defect.caught_by for defect in DEFECTS.values()} - {CANARIES}
    for ended in (run_canaries(folder), run_pytest(folder, *sorted(nodes))):
        assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_caught(name: str, sound: Path, tmp_path: Path) -> None:
    defect = DEFECTS[name]
    defective = tmp_path / "defective"
    shutil.copytree(sound, defective)
    for patch in defect.patches:
        plant(defective, patch)
    ended = run_canaries(defective) if defect.caught_by == CANARIES else run_pytest(defective, defect.caught_by)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    reasons = ended.stdout.splitlines() if defect.caught_by == CANARIES else failed_assertions(ended)
    assert any(reason.startswith(defect.reason) for reason in reasons), ended.stdout + ended.stderr


def plant(checkout: Path, patch: Patch) -> None:
    path = checkout / patch.file
    text = path.read_text()
    assert text.count(patch.old) == 1, f"{patch.file} has changed: plant the defect where it belongs now"
    path.write_text(text.replace(patch.old, patch.new))


def run_canaries(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Exit status 1 and a line for each wrong figure."""
    return run_python(checkout, "-c", SING)


def run_pytest(checkout: Path, *nodes: str) -> subprocess.CompletedProcess[str]:
    """Exit status 1 is a test that fails; one that cannot be collected, as after a syntax error, gives another."""
    return run_python(checkout, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *nodes)


def run_python(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Plug-ins of pytest take longer to load than these tests to run.
    variables = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=checkout, env=variables, capture_output=True, text=True, timeout=60
    )


def failed_assertions(ended: subprocess.CompletedProcess[str]) -> list[str]:
    """The source lines at which an assertion failed; a line that raised anything else is not among them."""
    pattern = r"^ +(assert .*)\n(?: +[~^]+\n)?E +(?:AssertionError: )?assert "
    return re.findall(pattern, ended.stdout, re.MULTILINE)
