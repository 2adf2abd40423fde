"""``check``, ``doctor``, ``prepare`` and the data cards, as a user runs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MISBEHAVING, ROOT, CommandLine

FRAMEWORKS = ("implicit", "lightfm", "torch", "tensorflow", "keras")
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9"}

PLUGIN = """
import numpy as np
from algorithms.base import Recommender
from algorithms.registry import AlgorithmSpec

class Hashed(Recommender):
    def _fit(self, train, run):
        self.sums = np.bincount(train.interactions.items, minlength=self.n_items) + hash("text") % 100_003
    def _score(self, users):
        return np.tile(self.sums, (len(users), 1)).astype(np.float64)
    def _state(self):
        return {"sums": self.sums}
    def _restore(self, state):
        self.sums = state["sums"]

ALGORITHMS = [
    AlgorithmSpec("hashed", "mine:Hashed", "", ("numpy",), {"ranking": "native"}, control=True),
    AlgorithmSpec("misspelt", "mine:Hashd", "", ("numpy",), {"ranking": "native"}),
    AlgorithmSpec("elsewhere", "mine:Hashed", "", ("no-such-package",), {"ranking": "native"}),
]
"""


@pytest.fixture
def plugin(tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    return "--plugin", str(path)


def frameworks_after(*arguments: str) -> str:
    """Which frameworks the harness process itself holds after a command."""
    code = f"from benchmarks.cli import main; import sys; main({list(arguments)!r})\n"
    code += f"print([name for name in {FRAMEWORKS!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def break_ties(root: Path) -> None:
    """Plant a defect: a tie is a hit."""
    path = root / "protocols" / "metrics.py"
    text = path.read_text()
    assert text.count("(k - better) / (tied + 1)") == 1
    path.write_text(text.replace("(k - better) / (tied + 1)", "k - better"))


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_passes_what_keeps_the_contract(benchmarks: CommandLine) -> None:
    ended = benchmarks("check", "popularity", "ease")
    assert ended.code == 0, ended.out
    assert [line.split() for line in ended.out.splitlines()] == [
        ["canaries", "ok"],
        ["popularity", "ok"],
        ["ease", "ok"],
    ]


@pytest.mark.slow  # tests/contract does the same but for the command line
def test_check_without_a_name_takes_all(benchmarks: CommandLine) -> None:
    from algorithms.registry import ALGORITHMS

    ended = benchmarks("check")
    assert ended.code == 0, ended.out
    assert {line.split()[0] for line in ended.out.splitlines()} == {"canaries", *ALGORITHMS}


def test_check_loads_no_framework_itself() -> None:
    assert frameworks_after("check", "als") == "[]"


def test_check_names_each_failed_rule_and_survives_a_death(benchmarks: CommandLine) -> None:
    ended = benchmarks("check", "dies", "not-finite", "popularity", "--plugin", str(MISBEHAVING))
    assert ended.code == 2
    assert "failed: the worker was killed by SIGKILL" in ended.out
    assert "scores are finite: NonFiniteScores" in ended.out
    assert re.search(r"^popularity +ok$", ended.out, re.MULTILINE)


def test_check_of_a_plug_in(benchmarks: CommandLine, plugin: tuple[str, str]) -> None:
    ended = benchmarks("check", "hashed", "misspelt", "elsewhere", *plugin)
    assert ended.code == 2
    lines = ended.out.splitlines()
    assert lines[1:3] == [
        "misspelt   failed",
        "  cannot be loaded: AttributeError: module 'mine' has no attribute 'Hashd'",
    ]
    assert lines[3] == "hashed     failed"
    assert lines[4] == "  another process: in another process the same seed gave other scores"
    assert lines[5] == "elsewhere  not checked: no-such-package is not installed: pip install no-such-package"
    assert len(lines) == 6


def test_check_passes_over_a_missing_framework_with_its_install_line(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    registry = benchmarks.root / "algorithms" / "registry.py"
    registry.write_text(registry.read_text().replace('"rectools-lightfm"', '"rectools-lightfm-missing"'))
    ended = benchmarks("check", "lightfm", "popularity")
    assert ended.code == 0
    assert "rectools-lightfm-missing is not installed: pip install -c constraints.txt '.[lightfm]'" in ended.out


def test_check_finds_a_defect_of_the_harness(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    break_ties(benchmarks.root)
    ended = benchmarks("check", "popularity")
    assert ended.code == 2
    assert re.search(r"^canaries +failed\n  canary constant", ended.out, re.MULTILINE)


def test_check_of_an_unknown_name_is_one_line(benchmarks: CommandLine) -> None:
    ended = benchmarks("check", "popularty")
    assert ended.code == 1 and not ended.out
    assert len(ended.err.splitlines()) == 1 and "did you mean 'popularity'" in ended.err


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_tells_what_is_here(benchmarks: CommandLine, movielens: Path) -> None:
    ended = benchmarks("doctor")
    assert ended.code == 0, ended.out
    for label in ("python", "cpu", "gpu", "memory", "core packages", "cache", "self test"):
        assert re.search(rf"^{label} ", ended.out, re.MULTILINE)
    assert f"ml-latest-small   {movielens}" in ended.out and "synthetic-genres  generated" in ended.out
    assert re.search(r"^self test +ok", ended.out, re.MULTILINE)


def test_doctor_fits_eighty_columns(benchmarks: CommandLine) -> None:
    lines = benchmarks("doctor").out.splitlines()
    assert max(len(line) for line in lines if os.sep not in line) <= 80  # a path is as long as it is


def test_doctor_fetches_nothing(benchmarks: CommandLine, tmp_path: Path) -> None:
    empty = {"RECGAUGE_DATA": str(tmp_path / "data"), "RECGAUGE_CACHE": str(tmp_path / "cache"), **NO_NETWORK}
    ended = benchmarks("doctor", **empty)
    assert ended.code == 0
    assert "ml-latest-small   not here: a run that needs it fetches it" in ended.out


def test_doctor_generates_nothing(benchmarks: CommandLine, tmp_path: Path) -> None:
    ended = benchmarks("doctor", RECGAUGE_DATA=str(tmp_path), RECGAUGE_CACHE=str(tmp_path / "cache"))
    line = next(line for line in ended.out.splitlines() if line.startswith("  news-articles-synthetic"))
    assert line.endswith(" generated on first use")
    assert not (tmp_path / "cache" / "data").exists()


def test_doctor_finds_a_folder_named_as_in_its_archive(benchmarks: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "ml-10M100K").mkdir()
    (tmp_path / "ml-1m").mkdir()
    ended = benchmarks("doctor", RECGAUGE_DATA=str(tmp_path), **NO_NETWORK)
    places = dict(re.findall(r"^  (ml-\S+)\s+(.+)$", ended.out, re.MULTILINE))
    assert Path(places["ml-10m"]) == tmp_path / "ml-10M100K" and Path(places["ml-1m"]) == tmp_path / "ml-1m"


def test_doctor_gives_the_install_line_of_what_is_missing(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    project = (ROOT / "pyproject.toml").read_text()
    (benchmarks.root / "pyproject.toml").write_text(project.replace('"ray>=', '"ray-of-no-light>='))
    ended = benchmarks("doctor")
    assert ended.code == 0, ended.out
    assert re.search(r"ray +not here: ray-of-no-light\n +pip install -c constraints.txt '\.\[ray\]'", ended.out)


def test_doctor_speaks_where_nothing_is_installed() -> None:
    command = [sys.executable, "-S", "-m", "benchmarks", "doctor"]  # -S: without site-packages
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stderr
    assert re.search(r"^broken +numpy, scipy", done.stdout, re.MULTILINE)
    assert "make run" in " ".join(done.stdout.split()), "the line may be wrapped anywhere"


def test_doctor_finds_a_defect_of_the_harness(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    shutil.copy(ROOT / "pyproject.toml", benchmarks.root)
    break_ties(benchmarks.root)
    ended = benchmarks("doctor")
    assert ended.code == 1
    assert re.search(r"^broken +canary constant", ended.out, re.MULTILINE)


def test_doctor_finds_another_datasets_package(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "datasets", tmp_path / "datasets")
    paths = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "benchmarks", "doctor"]
    done = subprocess.run(command, env={**os.environ, **paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"^broken +'import datasets' finds", done.stdout, re.MULTILINE)


def test_doctor_finds_a_cache_that_cannot_be_written(benchmarks: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = benchmarks("doctor", RECGAUGE_CACHE=str(tmp_path / "file" / "cache"))
    assert ended.code == 1
    assert "RECGAUGE_CACHE" in ended.out and not ended.err


# --- prepare ---------------------------------------------------------------------------------------------------------


def test_prepare_writes_splits_that_run_then_finds(benchmarks: CommandLine, tmp_path: Path) -> None:
    cache = {"RECGAUGE_CACHE": str(tmp_path / "cache")}
    synthetic = ("--dataset", "synthetic-genres", "--protocol", "leave-one-out")
    first = benchmarks("prepare", *synthetic, "--splits", "2", **cache)
    assert first.code == 0
    assert first.out.count("34,953 rows, 10,000 users, 1,000 items") == 2
    assert first.out.count("14,953 train, 10,000 valid, 10,000 test") == 2
    assert first.out.count("written now") == 2
    fingerprints = re.findall(r"fingerprint +([0-9a-f]{64})$", first.out, re.MULTILINE)
    assert len(fingerprints) == 4 and len(set(fingerprints)) == 3  # one data set, two splits

    again = benchmarks("prepare", *synthetic, "--splits", "2", **cache)
    assert again.out == first.out.replace("written now", "was there")
    ran = benchmarks.run("--protocol", "leave-one-out", "--algorithm", "popularity", "--splits", "2", **cache)
    assert ran.code == 0 and "prepare" not in ran.err


def test_options_of_a_protocol_make_another_split(benchmarks: CommandLine) -> None:
    synthetic = ("--dataset", "synthetic-genres", "--protocol", "leave-one-out")
    outputs = [benchmarks("prepare", *synthetic, *more).out for more in ((), ("--set", "leave-one-out.negatives=9"))]
    plain, other = (re.findall(r"fingerprint +(\w+)", output) for output in outputs)
    assert plain[0] == other[0] and plain[1] != other[1]


def test_prepare_names_what_cannot_be_split(benchmarks: CommandLine) -> None:
    ended = benchmarks("prepare", "--dataset", "synthetic-genres", "--protocol", "holdout", "--by", "time")
    assert ended.code == 0
    assert "synthetic-genres · holdout: not prepared" in ended.out and "no times" in ended.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "als.factors=3"], "als"),
        (["--set", "leave-one-out.negative=3"], "did you mean 'negatives'"),
        (["--dataset", "ml-latest-smal"], "did you mean 'ml-latest-small'"),
    ],
)
def test_mistakes_in_prepare_are_one_line(benchmarks: CommandLine, arguments: list[str], expected: str) -> None:
    ended = benchmarks("prepare", "--protocol", "leave-one-out", *arguments)
    assert ended.code == 1 and not ended.out
    assert len(ended.err.splitlines()) == 1 and expected in ended.err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run --seconds 5", "unknown option '--seconds' of run: tune has it (see: python -m benchmarks run --help)"),
        ("doctor --base=HEAD", "unknown option '--base' of doctor: regress has it"),
        ("--seconds=5 run", "unknown option '--seconds' before the command: tune has it"),
        ("run --algoritm als", "unknown option '--algoritm': did you mean '--algorithm'?"),
        ("doctor --algoritm als", "unrecognized arguments: --algoritm als (see: python -m benchmarks doctor --help)"),
        ("tune --second 5", "unknown option '--second': did you mean '--seconds'?"),
        ("--hepl run", "unknown option '--hepl': did you mean '--help'?"),
        ("run nonsense", "unrecognized arguments: nonsense"),
    ],
)
def test_an_unknown_option_is_compared_with_those_of_its_command(
    benchmarks: CommandLine, line: str, expected: str
) -> None:
    ended = benchmarks(*line.split())
    assert ended.code == 1 and ended.err.startswith(f"recgauge: {expected}") and len(ended.err.splitlines()) == 1


# --- data cards ------------------------------------------------------------------------------------------------------


def test_card_of_movielens(benchmarks: CommandLine, movielens: Path) -> None:
    ended = benchmarks("list", "ml-latest-small")
    assert ended.code == 0
    for fact in ("GroupLens terms", "doi.org/10.1145/2827872", "100,836 rows", "94 of 610", "23 of 610", "one sitting"):
        assert fact in " ".join(ended.out.split())
    assert max(map(len, ended.out.splitlines())) <= 80


def test_card_of_data_without_times(benchmarks: CommandLine) -> None:
    ended = benchmarks("list", "synthetic-genres")
    assert ended.code == 0 and "no times" in ended.out and "34,953 rows" in ended.out


def test_card_of_data_that_is_not_here_tells_its_terms_and_where_to_get_it(
    benchmarks: CommandLine, tmp_path: Path
) -> None:
    nowhere = {"RECGAUGE_DATA": str(tmp_path), "RECGAUGE_CACHE": str(tmp_path / "cache"), **NO_NETWORK}
    ended = benchmarks("list", "ml-latest-small", **nowhere)
    assert ended.code == 0
    for fact in ("GroupLens terms", "doi.org/10.1145/2827872", "ml-latest-small.zip", "curl -fL", "not audited"):
        assert fact in ended.out


def test_cards_load_no_framework() -> None:
    assert frameworks_after("list", "synthetic-genres") == "[]"
