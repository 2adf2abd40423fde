"""Canaries through the real worker function: before anything is measured, scorers with known figures must get them."""

from __future__ import annotations

from typing import Any

from scipy import sparse

from algorithms.base import Recommender
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.seal import Seal
from benchmarks.split_store import union
from benchmarks.worker import measure
from datasets.types import FloatArray, IntArray
from protocols import registry
from protocols.conformance import CANARIES, Canary, toy
from protocols.types import Arrays, EvaluationProtocol, Question, Split

SPLIT_SEED = 42


def wrong_figures() -> list[str]:
    """One line for each canary whose figures are not as expected; empty when the harness measures right."""
    splits: dict[str, tuple[EvaluationProtocol, Split]] = {}
    wrong = []
    for name, canary in CANARIES.items():
        if canary.protocol not in splits:
            protocol = registry.load_class(registry.spec(canary.protocol))()
            splits[canary.protocol] = protocol, protocol.split(toy(), SPLIT_SEED)
        wrong += [f"canary {name}: {mistake} ({canary.why})" for mistake in _mistakes(canary, *splits[canary.protocol])]
    return wrong


def _mistakes(canary: Canary, protocol: EvaluationProtocol, split: Split) -> list[str]:
    rows = union(split.train, split.valid)
    train = TrainSet(rows, Task(protocol.task), rating_scale=split.rating_scale)

    def ask() -> tuple[Question, Arrays, sparse.csr_matrix]:
        return protocol.question(split), protocol.labels(split), rows.matrix()

    try:
        measured = measure(lambda: _CanaryModel(canary), train, FitContext(), protocol, ask, Seal())
    except ValueError as error:
        if canary.failure is not None and canary.failure in str(error):
            return []
        return [f"failed: {error}"]
    if canary.failure is not None:
        return ["its scores were accepted"]
    return canary.mistakes(measured.metrics)


class _CanaryModel(Recommender):
    """A scoring rule as an adapter."""

    predicts_ratings = True
    scores_cold = True

    def __init__(self, canary: Canary) -> None:
        super().__init__()
        self._canary = canary

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        self._rows: Any = train.interactions

    def _score(self, users: IntArray) -> FloatArray:
        return self._canary.score(users, self._rows)

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        return self._canary.score_pairs(users, items, self._rows)
