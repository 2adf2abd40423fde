"""Algorithms with something to tune, for the tests of ``tune`` alone: quick, and misbehaving where a preset says so."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from algorithms.base import Recommender
from algorithms.registry import RANKER, AlgorithmSpec
from algorithms.space import Uniform
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray

_TINY_USERS = 24  # the warm-up fit's size
TRACE = "TUNABLE_TRACE"
"""Environment variable: the file to which every fit is written, and every file of splits and studies that is opened."""


def _write(line: str) -> None:
    os.write(_trace, f"{os.getpid()} {line}\n".encode())


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if "/splits/" in path or "/studies/" in path:
            _write(f"open {path}")


if TRACE in os.environ:
    _trace = os.open(os.environ[TRACE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    sys.addaudithook(_note_opened)


class Knob(Recommender):
    """Popularity turned upside down as ``x`` falls below 0.5: the more, the better."""

    @dataclass(frozen=True)
    class Config:
        x: Annotated[float, "popularity's weight"] = 0.6
        seconds: Annotated[float, "how long a fit takes"] = 0.0
        mode: Annotated[str, "what goes wrong in a real fit"] = ""

    SPACE = {"x": Uniform(0, 1)}

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        rows = train.interactions
        real = rows.n_users != _TINY_USERS
        self.counts = np.bincount(rows.items, minlength=rows.n_items) * (self.config.x - 0.5)
        if real:
            if TRACE in os.environ:
                _write(f"fit {self.config.x}")
            getattr(self, f"_{self.config.mode or 'behave'}")(train)
            time.sleep(self.config.seconds)
        for step in range(8):
            if self._step_done(run, step + 1, 8):
                return

    def _behave(self, train: TrainSet) -> None:
        pass

    def _dies(self, train: TrainSet) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _raises(self, train: TrainSet) -> None:
        raise ZeroDivisionError("a bug in an adapter")

    def _hangs(self, train: TrainSet) -> None:
        time.sleep(600)

    def _eats(self, train: TrainSet) -> None:
        eaten = []
        while True:
            eaten.append(np.ones(20 * 2**20, dtype=np.uint8))
            time.sleep(0.005)

    def _reads_test_labels(self, train: TrainSet) -> None:
        validation = Path(train.interactions.users.filename).parent.parent
        list((validation.parent / "labels").iterdir())

    def _reads_validation_labels(self, train: TrainSet) -> None:
        list((Path(train.interactions.users.filename).parent.parent / "labels").iterdir())

    def _score(self, users: IntArray) -> FloatArray:
        return np.tile(self.counts.astype(np.float64), (len(users), 1))


MODES = ("dies", "raises", "hangs", "eats", "reads_test_labels", "reads_validation_labels")

ALGORITHMS = (
    AlgorithmSpec("knob", "tunable:Knob", "one option", ("numpy",), RANKER),
    *(
        AlgorithmSpec(
            f"knob-{mode.replace('_', '-')}",
            "tunable:Knob",
            f"its preset report {mode}",
            ("numpy",),
            RANKER,
            presets={"default": {}, "report": {"mode": mode}},
        )
        for mode in MODES
    ),
)
