"""Algorithms that hang, eat memory, die or cheat, for the integration tests alone."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from algorithms.base import Recommender
from algorithms.registry import RANKER, AlgorithmSpec
from algorithms.types import FitContext, TrainSet
from datasets.errors import UserError
from datasets.types import FloatArray, IntArray

_TINY_USERS = 24  # the warm-up fit's size; misbehaviour waits for the real one


class Constant(Recommender):
    """Scores everything 0; what the others build on."""

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        if train.interactions.n_users != _TINY_USERS:
            self._misbehave(train, run)

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        """What this one does wrong."""

    def _score(self, users: IntArray) -> FloatArray:
        return np.zeros((len(users), self.n_items), dtype=np.float32)


class Hangs(Constant):
    """Never returns, and ignores what can be ignored."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        while True:
            time.sleep(1)


class EatsMemory(Constant):
    """Takes 20 MiB every few milliseconds."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        self.eaten = []
        while True:
            self.eaten.append(np.ones(20 * 2**20, dtype=np.uint8))
            time.sleep(0.005)


class EatsMemoryInChild(Constant):
    """The same in a process of its own."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        code = "import time\neaten = []\nwhile True:\n    eaten.append(b'x' * (20 << 20)); time.sleep(0.005)"
        subprocess.run([sys.executable, "-c", code], check=False)


class DiesBySignal(Constant):
    """As if the kernel or somebody killed it."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Sleeps(Constant):
    """Takes a while, so that a test can do something meanwhile."""

    @dataclass(frozen=True)
    class Config:
        seconds: Annotated[float, "how long a fit takes"] = 2.0

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        print("sleeping", flush=True)  # libraries print; it must not reach the harness's protocol
        for step in range(20):
            time.sleep(self.config.seconds / 20)
            run.progress(step + 1, 20)


class Tallies(Sleeps):
    """Leaves a line for every real fit in the file that the variable TALLY names."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        with open(os.environ["TALLY"], "a") as tally:
            tally.write(f"{self.config.seconds}\n")
        super()._misbehave(train, run)


class TalliesAndRaises(Tallies):
    """The same, and fails."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        super()._misbehave(train, run)
        raise ZeroDivisionError("a bug in an adapter")


class LeavesADaemon(Constant):
    """Starts a process that leaves its group, as daemons do, and outlives the fit."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        code = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)"
        subprocess.run([sys.executable, "-c", code], check=True)


class Forks(Constant):
    """A copy of the worker goes on beside it, and answers as if it were the worker."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        if os.fork():
            time.sleep(0.5)


class ForksAndDies(Constant):
    """The copy goes on, the worker itself does not."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)


class WritesToTheHarness(Constant):
    """Prints into every file that is open, the channel to the harness included."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(descriptor, b"epoch 1: loss 0.5\n")
        time.sleep(600)


class Forges(Constant):
    """Says to the harness what only the worker may say."""

    @dataclass(frozen=True)
    class Config:
        event: Annotated[str, "the line"] = "ended"

    LINES = {
        "ended": b'{"event": "ended"}',
        "weird": b'{"event": "ended", "status": "weird", "reason": "none"}',
        "progress": b'{"event": "progress"}',
        "ok": b'{"event": "ended", "status": "ok", "metrics": {}, "timings": {}, "memory": {}}',
    }

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(descriptor, self.LINES[self.config.event] + b"\n")
        time.sleep(600)


class CountsWrongly(Constant):
    """Figures that no record can hold."""

    @dataclass(frozen=True)
    class Config:
        samples: Annotated[str, "of an epoch"] = "nan"

    def samples_per_epoch(self, n_rows: int) -> int | None:
        return {"nan": float("nan"), "text": "many", "negative": -3}[self.config.samples]  # type: ignore[return-value]


class ReplacesItsLog(Constant):
    """Has its log lead elsewhere, then fails."""

    @dataclass(frozen=True)
    class Config:
        by: Annotated[str, "link or folder"] = "link"

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        print("before", file=sys.stderr, flush=True)
        os.remove("log")
        os.symlink(os.environ["TALLY"], "log") if self.config.by == "link" else os.mkdir("log")
        raise ZeroDivisionError("a bug in an adapter")


class NeverEndsItsLine(Constant):
    """Says something endless to the harness."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        while True:
            for descriptor in range(3, 16):
                with contextlib.suppress(OSError):
                    os.write(descriptor, b"x" * 65536)


class PrintsWithoutEnd(Constant):
    """Would fill the disk with its log."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        while True:
            os.write(2, b"warning: the loss is large\n" * 10_000)


class RemovesItsFolder(Constant):
    """Cleans up more than is its own, then fails."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        shutil.rmtree(os.getcwd())
        raise ZeroDivisionError("a bug in an adapter")


class RaisesUserError(Constant):
    """An adapter that takes its own trouble for the user's."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        raise UserError("this algorithm wants at least 10,000 users")


class TorchRunsOutOfGpuMemory(Constant):
    """PyTorch's own error of a full GPU."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has 1.00 GiB free.")


class TorchLosesTheGpu(Constant):
    """PyTorch's own error of a GPU that fails."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        import torch

        raise torch.AcceleratorError(
            "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"
        )


class TensorFlowRunsOutOfGpuMemory(Constant):
    """TensorFlow's own error of a full GPU."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        import tensorflow

        raise tensorflow.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[1000000,64]")


class Raises(Constant):
    """A bug in an adapter."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        raise ZeroDivisionError("a bug in an adapter")


class NotFinite(Constant):
    """Scores that are no numbers."""

    def _score(self, users: IntArray) -> FloatArray:
        return np.full((len(users), self.n_items), np.nan, dtype=np.float32)


class ReadsData(Constant):
    """Goes up from its training files to everything that lies beside them."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        split = Path(train.interactions.users.filename).parent.parent
        for path in (split / "labels").glob("*.npy"):
            setattr(self, path.stem, np.load(path))


class ReadsTruth(Constant):
    """Reads what generated data were drawn from."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        split = Path(train.interactions.users.filename).parent.parent
        np.load(split / "truth" / "truth_noise.npy")


class ReadsDataQuietly(Constant):
    """Tries the file by name and hides the refusal."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        split = Path(train.interactions.users.filename).parent.parent
        with contextlib.suppress(OSError):
            (split / "meta.json").read_text()


class ReadsDataByProcess(Constant):
    """Has another program read what it may not."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        split = Path(train.interactions.users.filename).parent.parent
        subprocess.run(["cat", str(split / "meta.json")], capture_output=True, check=True)


class PrefersFirst(Constant):
    """Bets that the held-out item is asked first."""

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        return -np.arange(len(items), dtype=np.float32)


class PrefersLast(Constant):
    """Bets that the held-out item is asked last."""

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        return np.arange(len(items), dtype=np.float32)


class PrefersEarlyRows(Constant):
    """Bets that a user's first asked candidate is the held-out one, wherever the tile begins."""

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        scores = np.zeros(len(items), dtype=np.float32)
        scores[starts] = 1
        return scores


class SearchesInputs(Constant):
    """Looks through every array alive in its process for one that could be labels: as many entries as users."""

    def _misbehave(self, train: TrainSet, run: FitContext) -> None:
        self.rows = train.interactions
        self.bonus = np.zeros((self.rows.n_users, self.rows.n_items), dtype=np.float32)
        for thing in gc.get_objects():
            if isinstance(thing, np.ndarray) and thing.shape == (self.rows.n_users,) and thing.dtype.kind == "i":
                for user, item in enumerate(thing):
                    if 0 <= item < self.rows.n_items:
                        self.bonus[user, item] += 1

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        return self.bonus[users, items]


def _spec(name: str, adapter: type[Recommender]) -> AlgorithmSpec:
    summary = (adapter.__doc__ or "").splitlines()[0]
    return AlgorithmSpec(name, f"misbehaving:{adapter.__name__}", summary, ("numpy",), RANKER)


ALGORITHMS = (
    _spec("constant", Constant),
    _spec("hangs", Hangs),
    _spec("eats-memory", EatsMemory),
    _spec("eats-memory-in-child", EatsMemoryInChild),
    _spec("dies", DiesBySignal),
    _spec("sleeps", Sleeps),
    _spec("tallies", Tallies),
    _spec("tallies-and-raises", TalliesAndRaises),
    _spec("leaves-a-daemon", LeavesADaemon),
    _spec("forks", Forks),
    _spec("forks-and-dies", ForksAndDies),
    _spec("writes-to-the-harness", WritesToTheHarness),
    _spec("forges", Forges),
    _spec("counts-wrongly", CountsWrongly),
    _spec("replaces-its-log", ReplacesItsLog),
    _spec("never-ends-its-line", NeverEndsItsLine),
    _spec("prints-without-end", PrintsWithoutEnd),
    _spec("removes-its-folder", RemovesItsFolder),
    _spec("raises-user-error", RaisesUserError),
    _spec("torch-runs-out-of-gpu-memory", TorchRunsOutOfGpuMemory),
    _spec("torch-loses-the-gpu", TorchLosesTheGpu),
    _spec("tensorflow-runs-out-of-gpu-memory", TensorFlowRunsOutOfGpuMemory),
    _spec("raises", Raises),
    _spec("not-finite", NotFinite),
    _spec("reads-data", ReadsData),
    _spec("reads-truth", ReadsTruth),
    _spec("reads-data-quietly", ReadsDataQuietly),
    _spec("reads-data-by-process", ReadsDataByProcess),
    _spec("prefers-first", PrefersFirst),
    _spec("prefers-last", PrefersLast),
    _spec("prefers-early-rows", PrefersEarlyRows),
    _spec("searches-inputs", SearchesInputs),
)
