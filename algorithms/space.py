"""Search spaces of hyper-parameters, as plain values: the tuner translates them, so no adapter imports one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Uniform:
    """A float between ``low`` and ``high``, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class LogUniform(Uniform):
    """A float whose logarithm is uniform; ``low`` > 0."""


@dataclass(frozen=True)
class IntUniform:
    """An integer between ``low`` and ``high``, both included; ``log`` spreads it evenly over magnitudes."""

    low: int
    high: int
    log: bool = False

    def __contains__(self, value: int) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[object, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values


Space = Uniform | LogUniform | IntUniform | Choice
