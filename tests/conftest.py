"""Fixtures that every kind of test uses: real data where it is at hand, and the real command line."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from algorithms.registry import ALGORITHMS

ROOT = Path(__file__).resolve().parent.parent
MISBEHAVING = ROOT / "tests" / "plugins" / "misbehaving.py"
NETWORKS = [name for name, spec in ALGORITHMS.items() if spec.extra in ("torch", "tensorflow")]


@pytest.fixture(scope="session", autouse=True)
def frameworks_never_meet() -> Iterator[None]:
    """No test may bring TensorFlow and PyTorch into one process: the order of imports would decide what works."""
    yield
    assert not {"tensorflow", "torch"} <= sys.modules.keys()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tests never touch the user's cache, but share one among themselves."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("RECGAUGE_CACHE")
    os.environ["RECGAUGE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["RECGAUGE_CACHE"]
    else:
        os.environ["RECGAUGE_CACHE"] = before


@pytest.fixture(scope="session")
def movielens() -> Path:
    """The folder of the real MovieLens small files."""
    folder = Path(os.environ.get("RECGAUGE_DATA", "")) / "ml-latest-small"
    if "RECGAUGE_DATA" not in os.environ or not (folder / "ratings.csv").is_file():
        pytest.skip("MovieLens small is not here: set RECGAUGE_DATA to the folder that holds ml-latest-small/")
    return folder


def _listen_to_interrupts() -> None:
    """Where the tests themselves run in the background, their shell has SIGINT ignored, also for what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def cpu_seconds_of_commands() -> float:
    """CPU seconds of all command lines that have ended: steady, however busy the machine is."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Finished:
    """A command line that has ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """``python -m benchmarks`` as a user runs it, with its results in the test's own folder."""

    results: Path
    root: Path = ROOT

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the command in a session of its own, so that signals to it reach nobody else."""
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks", *arguments],
            cwd=self.root,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            preexec_fn=_listen_to_interrupts,
        )

    def __call__(self, *arguments: str, timeout: float = 120, **variables: str) -> Finished:
        process = self.start(*arguments, **variables)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Finished(process.returncode, out, err)

    def run(self, *arguments: str, timeout: float = 120, **variables: str) -> Finished:
        """``run`` leave-one-out on the synthetic data unless the arguments say otherwise."""
        data = () if "--dataset" in arguments else ("--dataset", "synthetic-genres")
        protocol = () if "--protocol" in arguments else ("--protocol", "leave-one-out")
        return self("run", "--results", str(self.results), *data, *protocol, *arguments, timeout=timeout, **variables)


@pytest.fixture
def benchmarks(tmp_path: Path) -> CommandLine:
    """The command line with results in this test's folder."""
    return CommandLine(tmp_path / "results")


@pytest.fixture
def in_copy(tmp_path: Path) -> Callable[[], CommandLine]:
    """The command line of a copy of the sources, which a test may edit."""
    import shutil

    def copy() -> CommandLine:
        target = tmp_path / "checkout"
        for folder in ("algorithms", "benchmarks", "datasets", "protocols"):
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__"))
        (target / "results").mkdir()
        shutil.copy(ROOT / "results" / "record.schema.json", target / "results")
        return CommandLine(tmp_path / "results", target)

    return copy


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of 1 MiB as the cache; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here")
    monkeypatch.setenv("RECGAUGE_CACHE", str(disk))
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
