"""How fast a fitted model answers: pairs, lists for many users at a time, lists for one user at a time.

What a user of the model would wait for is timed, and the answers are on the host when the clock stops. Who is asked
about is drawn with a seed of its own, so that every algorithm gets the same questions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from algorithms.base import Recommender
from benchmarks.clock import Clock
from benchmarks.seal import Seal
from datasets.types import IntArray
from protocols.metrics import TOP_K

PAIRS = 1_000_000
PAIR_TILE = 1 << 16
BATCH, BATCHES = 1_024, 20
SWEEP = (32, 256)
"""Batches of other sizes, so that a report can show what batching buys; ``BATCH`` and single users are apart."""
SWEEP_BATCHES = 10
SINGLE_WARM_UPS, SINGLES = 100, 1_000
CAP_S = 30.0
"""No figure takes longer: a slow model gets fewer questions, and the record says how many."""

Throughput = dict[str, Any]
"""``pairs``: ``{n, s}``; ``users``: a list of ``{batch, n, s}``, the last for batches of ``BATCH``; ``single``:
``{n, p50_ms, p99_ms}``. ``users`` and ``single`` are null where the protocol ranks nothing."""


def measure_throughput(
    model: Recommender,
    seen: sparse.csr_matrix,
    ranks: bool,
    seal: Seal,
    clock: Clock,
    progress: Callable[[str, int, int], None] = lambda phase, step, total: None,
) -> Throughput:
    """Ask ``model`` a million pairs and, if it ``ranks``, for top-10 lists without what ``seen`` marks.

    Args:
        clock: its blocks ``pairs``, ``users 32``, … and ``single`` get the seconds.
    """
    rng = np.random.default_rng(0)
    asked = _Asked(clock, seal, progress)
    pairs = _pairs(model, rng)
    n_pairs = asked("throughput: pairs", pairs, lambda pair: model.score_pairs(*pair))
    users = single = None
    if ranks:

        def lists(batch: IntArray) -> object:
            return model.recommend(batch, TOP_K, seen)

        with seal.adapter():  # what the first lists prepare is not what a list costs
            lists(_batches(model.n_users, BATCH, 1, rng)[0])
        users = []
        for size, count in (*((size, SWEEP_BATCHES) for size in SWEEP), (BATCH, BATCHES)):
            name = f"throughput: batches of {size} users"
            n = asked(name, _batches(model.n_users, size, count, rng), lists)
            users.append({"batch": size, "n": n * size, "s": clock.total(name)})
        single = _single(asked, clock, _batches(model.n_users, 1, SINGLE_WARM_UPS + SINGLES, rng), lists)
    n = sum(len(part[0]) for part in pairs[:n_pairs])
    return {"pairs": {"n": n, "s": clock.total("throughput: pairs")}, "users": users, "single": single}


class _Asked:
    """Asks questions one by one, each timed as a block of its own, until all are answered or ``CAP_S`` is spent."""

    def __init__(self, clock: Clock, seal: Seal, progress: Callable[[str, int, int], None]) -> None:
        self._clock, self._seal, self._progress = clock, seal, progress

    def __call__(self, name: str, questions: list[Any], ask: Callable[[Any], object]) -> int:
        """How many were answered; the blocks called ``name`` are their seconds."""
        answered = 0
        for question in questions:
            with self._seal.adapter(), self._clock(name):
                ask(question)
            answered += 1
            self._progress(name, answered, len(questions))
            if self._clock.total(name) > CAP_S:
                break
        return answered


def _single(
    asked: _Asked, clock: Clock, users: list[IntArray], lists: Callable[[IntArray], object]
) -> dict[str, float | int]:
    asked("throughput: warm-up", users[:SINGLE_WARM_UPS], lists)
    n = asked("throughput: single users", users[SINGLE_WARM_UPS:], lists)
    p50, p99 = np.percentile(clock.blocks["throughput: single users"], (50, 99)) * 1000
    return {"n": n, "p50_ms": float(p50), "p99_ms": float(p99)}


def _pairs(model: Recommender, rng: np.random.Generator) -> list[tuple[IntArray, IntArray]]:
    """``PAIRS`` pairs drawn with replacement, sorted by (user, item) as every question here is, in tiles."""
    keys = np.sort(rng.integers(model.n_users * model.n_items, size=PAIRS))
    users, items = (part.astype(np.int32) for part in np.divmod(keys, model.n_items))
    return [(users[at : at + PAIR_TILE], items[at : at + PAIR_TILE]) for at in range(0, PAIRS, PAIR_TILE)]


def _batches(n_users: int, size: int, count: int, rng: np.random.Generator) -> list[IntArray]:
    """Batches of different users, with replacement where there are fewer than ``size``."""
    repeat = n_users < size
    return [np.sort(rng.choice(n_users, size, replace=repeat)).astype(np.int32) for _ in range(count)]
