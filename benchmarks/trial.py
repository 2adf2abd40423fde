"""What one configuration is worth: fit on train alone, judge on the validation rows, stop where the tuner says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from algorithms.base import Recommender
from algorithms.types import FitContext
from benchmarks.clock import Clock
from benchmarks.objective import objective
from benchmarks.seal import Seal
from benchmarks.search import EarlyStopping
from benchmarks.split_store import Part
from protocols.types import EvaluationProtocol

FIRST_REPORT = 4

Stop = Callable[[int, float], bool]
"""``stop(step, figure)``: whether the tuner gives the trial up."""


@dataclass(frozen=True)
class Judgement:
    """What a trial gave: the protocol's ``objective`` on validation rows, None for a pruned trial.

    Attributes:
        steps: where the figure is the best of several steps, which one it was.
        seconds: of fit and scoring, the waiting for the tuner's word left out.
    """

    value: float | None
    steps: int | None
    seconds: float


def judge(
    make: Callable[[], Recommender],
    part: Part,
    run: FitContext,
    protocol: EvaluationProtocol,
    seal: Seal,
    calibrate: bool,
    stop: Stop | None,
) -> Judgement:
    """Fit on train alone and evaluate on the validation rows; with a ``patience``, the best step's figure counts.

    Args:
        calibrate: scores become ratings first, through maps that are cross-fitted over the validation rows' users.
        stop: asked at steps 4, 8, 16, …, which trials of any length share, so that they can be compared at equal steps.
    """
    model = make()
    clock = Clock(model.synchronize)

    def figure() -> float:
        return objective(model, part, protocol, seal, calibrate)

    validation = _Validation(figure, model.patience, protocol, clock, stop)
    with clock("fit"), seal.adapter():
        model.fit(part.train, replace(run, validate=validation))
    stopping = validation.stopping
    if validation.pruned:
        value = None
    elif stopping is not None and stopping.best is not None:
        value = stopping.best
    else:
        with clock("score"):
            value = figure()
    steps = None if stopping is None else stopping.best_step
    return Judgement(value, steps, clock.total("fit") + clock.total("score") - clock.total("wait"))


class _Validation:
    """``FitContext.validate`` of a trial: early stopping where there is a patience, and the tuner's word."""

    def __init__(
        self,
        figure: Callable[[], float],
        patience: int,
        protocol: EvaluationProtocol,
        clock: Clock,
        stop: Stop | None,
    ) -> None:
        self._figure = figure
        self._clock = clock
        self._stop = stop
        self.stopping = EarlyStopping(patience, protocol.higher_is_better) if patience else None
        self.pruned = False

    def __call__(self, step: int) -> bool:
        reported = self._stop is not None and _is_reported(step)
        if self.stopping is None and not reported:
            return False
        figure = self._figure()
        enough = self.stopping is not None and self.stopping(step, figure)
        if reported and self._stop is not None and not enough:
            with self._clock("wait"):
                self.pruned = self._stop(step, figure)
        return enough or self.pruned


def _is_reported(step: int) -> bool:
    """Powers of two: at most eight up to 512 steps."""
    return step >= FIRST_REPORT and step & (step - 1) == 0
