"""An algorithm that obeys: what it does wrong, the soak writes into a file, and one fit does it.

``$RECGAUGE_SOAK_ORDER`` names that file; the first real fit that finds it removes it. Without it all scores are 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from algorithms.base import Recommender
from algorithms.registry import RANKER, AlgorithmSpec
from algorithms.types import FitContext, TrainSet
from datasets.types import FloatArray, IntArray

_TINY_USERS = 24  # the warm-up fit's size; orders wait for a real one


class Obedient(Recommender):
    """Scores everything 0, and does in its fit what it was ordered to do."""

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        order = Path(os.environ.get("RECGAUGE_SOAK_ORDER", os.devnull))
        if train.interactions.n_users != _TINY_USERS and order.is_file():
            what = order.read_text()
            order.unlink()
            ORDERS[what]()

    def _score(self, users: IntArray) -> FloatArray:
        return np.zeros((len(users), self.n_items), dtype=np.float32)


def _escape() -> None:
    """Leave a child in a session of its own: no kill of the worker's process group reaches it."""
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)


def _garbage() -> None:
    """Write what is no event into every pipe that the worker has, the one to the harness among them."""
    for descriptor in range(3, 32):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith("pipe:"):
                os.write(descriptor, b"\xff\x00 no JSON {\n[1, 2]\n")
        except OSError:
            continue


def _hang() -> None:
    time.sleep(600)


def _raise() -> None:
    raise ZeroDivisionError("ordered to fail")


ORDERS = {"escape": _escape, "garbage": _garbage, "hang": _hang, "raise": _raise, "exit": lambda: os._exit(3)}

ALGORITHMS = (
    AlgorithmSpec("obedient", "soak_plugin:Obedient", "fails on order, for the soak alone", ("numpy",), RANKER),
)
