"""What an algorithm sees: ``TrainSet``, ``Task`` and ``FitContext``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from datasets.types import Features, Interactions


class Task(StrEnum):
    """What the model is asked for: an order of items, or the value of a pair."""

    RANKING = "ranking"
    RATING = "rating"


@dataclass(frozen=True, eq=False)
class TrainSet:
    """All that an algorithm sees.

    Attributes:
        interactions: the training rows (train ∪ valid for test figures).
        task: what the fitted model will be asked for.
        item_features, user_features: encoders fitted on items and users that have a training row; None without
        metadata. rating_scale: (lowest, highest) or None.
    """

    interactions: Interactions
    task: Task
    item_features: Features | None = None
    user_features: Features | None = None
    rating_scale: tuple[float, float] | None = None


def _no_progress(step: int, total: int) -> None:
    """Progress that nobody watches."""


def _never_stop(step: int) -> bool:
    return False


@dataclass
class FitContext:
    """How to fit.

    Attributes:
        seed: drives the model only; the split has its own.
        threads: at most so many threads of work.
        device: ``cpu`` or ``cuda``, already resolved.
        deadline: ``time.monotonic()`` seconds after which the process is killed, or None.
        progress: ``progress(step, total)``, cheap, called once an epoch or sweep.
        validate: ``validate(step) -> stop``: the harness scores hidden validation rows through the adapter.
        fixed_steps: on a refit, the number of steps that early stopping found.
    """

    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    deadline: float | None = None
    progress: Callable[[int, int], None] = field(default=_no_progress, repr=False)
    validate: Callable[[int], bool] = field(default=_never_stop, repr=False)
    fixed_steps: int | None = None

    @property
    def validates(self) -> bool:
        """Whether anybody looks at the model before its last step: where not, it need not be able to score by then."""
        return self.validate is not _never_stop

    def seconds_left(self) -> float:
        """Seconds until the deadline, infinite without one."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()
