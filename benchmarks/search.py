"""The fits before the final one: how many steps to train, and how scores become ratings. Validation rows only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from algorithms.base import Recommender
from algorithms.types import FitContext
from benchmarks.objective import objective
from benchmarks.scorers import SealedScorer
from benchmarks.seal import Seal
from benchmarks.split_store import Part
from protocols.calibration import Calibration, fit_calibration
from protocols.types import EvaluationProtocol


@dataclass(frozen=True, eq=False)
class Found:
    """What the final fit takes over: its number of steps, None for the configured one, and the map to ratings (†)."""

    steps: int | None = None
    calibration: Calibration | None = None


class EarlyStopping:
    """Stop once ``patience`` figures in a row were no better than the best (Prechelt 1998).

    Attributes:
        best_step, best: the step with the best figure, the earlier of equal ones, and that figure; None before the
            first.
    """

    def __init__(self, patience: int, higher_is_better: bool) -> None:
        self._patience = patience
        self._sign = 1.0 if higher_is_better else -1.0
        self._since_best = 0
        self.best_step: int | None = None
        self.best: float | None = None

    def __call__(self, step: int, figure: float) -> bool:
        if self.best is None or self._sign * figure > self._sign * self.best:
            self.best, self.best_step, self._since_best = figure, step, 0
        else:
            self._since_best += 1
        return self._since_best >= self._patience


def search(
    make: Callable[[], Recommender],
    part: Part,
    run: FitContext,
    protocol: EvaluationProtocol,
    seal: Seal,
    calibrate: bool,
) -> Found:
    """Fit on train alone with early stopping, if the config has a ``patience``; then calibrate, if asked to.

    Early stopping watches the protocol's ``objective`` on the validation rows. Calibration wants the model of the best
    step, so where there were steps to find it fits a second time.
    """
    steps = _search_steps(make(), part, run, protocol, seal, calibrate)
    calibration = _calibrate(make(), part, replace(run, fixed_steps=steps), seal) if calibrate else None
    return Found(steps, calibration)


def _search_steps(
    model: Recommender, part: Part, run: FitContext, protocol: EvaluationProtocol, seal: Seal, calibrate: bool
) -> int | None:
    """The step with the best validation figure; None without a ``patience``, and nothing is fitted then."""
    if not model.patience:
        return None
    stopping = EarlyStopping(model.patience, protocol.higher_is_better)

    def validate(step: int) -> bool:
        return stopping(step, objective(model, part, protocol, seal, calibrate))

    with seal.adapter():
        model.fit(part.train, replace(run, validate=validate))
    return stopping.best_step


def _calibrate(model: Recommender, part: Part, run: FitContext, seal: Seal) -> Calibration:
    """The map from scores to ratings, learned from validation rows that a fit on train alone has scored.

    Rows that are cold in train are left out: such pairs are never rated through the map.
    """
    with seal.adapter():
        model.fit(part.train, run)
    question = part.question
    warm = ~model.cold_pairs(question.pair_users, question.pair_items)
    scores = SealedScorer(model, seal).score_pairs(question.pair_users[warm], question.pair_items[warm])
    return fit_calibration(scores, part.labels["values"][warm].astype(np.float64))
