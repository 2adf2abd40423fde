"""Canaries: scoring rules whose figures are known beforehand, on a toy data set made for them.

The harness runs them through its real worker before it measures anybody. A figure that is not as expected means that
the harness, not an algorithm, is wrong: negatives that were seen, ties or NaN counted as hits, users left out of the
denominator, seen items not masked, a test row in the training data, the positive in a fixed place.

The toy set has 60 users and 150 items. Every user's last row is the test item, one second after the validation item:

=========  ====================  ==========================================================================
users      test item             why
=========  ====================  ==========================================================================
even (30)  70                    rated by every odd user, so by far the most popular item
6 odd      0 … 5                 cold, at the low end: first among sorted candidates
6 odd      144 … 149             cold, at the high end
18 odd     75                    cold, in the middle
=========  ====================  ==========================================================================

The other 136 items are fillers: three consecutive ones a user, each rated once or twice, the last of them being the
validation item. An even user has 3 training rows (train ∪ valid), an odd user 4. All have 99 free items or more, so
candidates are 100. Ratings are 1 or 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from datasets.types import Dataset, FloatArray, IntArray, Interactions

N_USERS = 60
N_ITEMS = 150
RATING_SCALE = (1.0, 5.0)

_POPULAR = 70
_COLD = (*range(6), *range(144, 150), 75)
_START = 1_500_000_000
"""Seconds at which float32 is 128 s coarse: times that lost precision anywhere would mix test and validation items."""

Rule = Callable[[Interactions, IntArray], FloatArray]
"""(training rows, (b,) users) -> (b, n_items) scores."""


@dataclass(frozen=True)
class Expected:
    """A figure must lie within ``tolerance`` of ``value``."""

    value: float
    tolerance: float = 1e-9

    def holds(self, figure: float) -> bool:
        """NaN never holds."""
        return abs(figure - self.value) <= self.tolerance


@dataclass(frozen=True, eq=False)
class Canary:
    """A scoring rule and what must come of it.

    Attributes:
        protocol: the protocol, with its default options, under which it runs.
        why: what a wrong figure would mean.
        expected: metric -> figure; metrics that are not named are free.
        failure: instead of figures, words that the cell's error must contain.
        by_position: pairs are scored by their place in the request, the first one best (1) or worst (-1); 0: by rule.
    """

    protocol: str
    why: str
    rule: Rule
    expected: dict[str, Expected] = field(default_factory=dict)
    failure: str | None = None
    by_position: int = 0

    def score(self, users: IntArray, train: Interactions | None = None) -> FloatArray:
        """(b,) users -> (b, n_items) float64. ``train``: what the model was fitted on, by default what it should be."""
        return self.rule(training_rows() if train is None else train, users)

    def score_pairs(self, users: IntArray, items: IntArray, train: Interactions | None = None) -> FloatArray:
        """(p,) users and items, in the order of the request -> (p,) float64."""
        if self.by_position:
            return -self.by_position * np.arange(len(users), dtype=np.float64)
        return self.score(users, train)[np.arange(len(users)), items]

    def mistakes(self, figures: dict[str, float]) -> list[str]:
        """One line for each figure that is missing or wrong; empty when all is well."""
        return [
            f"{name} is {figures.get(name, float('nan')):.6g}, must be {wanted.value:.6g} ± {wanted.tolerance:.2g}"
            for name, wanted in self.expected.items()
            if not wanted.holds(figures.get(name, float("nan")))
        ]


# --- the toy data set ------------------------------------------------------------------------------------------------


@cache
def toy() -> Dataset:
    """The data set of the module's docstring, the same on every call."""
    rows = [(user, item, time) for user in range(N_USERS) for time, item in enumerate(_history(user), _START)]
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    interactions = Interactions(
        users.astype(np.int32), items.astype(np.int32), _ratings(users, items), times.astype(np.int64), N_USERS, N_ITEMS
    )
    return Dataset(
        name="toy",
        interactions=interactions,
        user_ids=np.arange(N_USERS),
        item_ids=np.arange(N_ITEMS),
        rating_scale=RATING_SCALE,
        licence="none: made by rule",
        citation="none: made by rule",
        fingerprint=hashlib.sha256(np.column_stack((users, items, times)).astype("<i8").tobytes()).hexdigest(),
    )


@cache
def training_rows() -> Interactions:
    """Train ∪ valid of leave-one-out: all but each user's last row."""
    rows = toy().interactions
    return rows.select(np.append(rows.users[1:] == rows.users[:-1], False))


def _history(user: int) -> list[int]:
    """Items of ``user`` by time."""
    fillers = [item for item in range(N_ITEMS) if item != _POPULAR and item not in _COLD]
    own = [fillers[(3 * user + place) % len(fillers)] for place in range(3)]
    return [*own, _POPULAR] if user % 2 == 0 else [_POPULAR, *own, _odd_test_item(user)]


def _odd_test_item(user: int) -> int:
    order = user // 2
    return _COLD[order] if order < 12 else _COLD[12]


def _ratings(users: IntArray, items: IntArray) -> npt.NDArray[np.float32]:
    """1 and 5 in turn: any constant is at least 2 away from half of them, 3 is 2 away from all."""
    return np.where((users + items) % 2 == 0, 5.0, 1.0).astype(np.float32)


# --- rules -----------------------------------------------------------------------------------------------------------


def _constant(value: float) -> Rule:
    return lambda train, users: np.full((len(users), N_ITEMS), value)


def _oracle(train: Interactions, users: IntArray) -> FloatArray:
    """1 for the user's test item, as built, not as split."""
    scores = np.zeros((len(users), N_ITEMS))
    scores[np.arange(len(users)), [_history(int(user))[-1] for user in users]] = 1.0
    return scores


def _random(train: Interactions, users: IntArray) -> FloatArray:
    return np.random.default_rng(0).random((N_USERS, N_ITEMS))[users]


def _popularity(train: Interactions, users: IntArray) -> FloatArray:
    counts = np.bincount(train.items, minlength=N_ITEMS).astype(np.float64)
    return np.tile(counts, (len(users), 1))


def _memoriser(train: Interactions, users: IntArray) -> FloatArray:
    """1 for each pair that the model was given, and nothing learned."""
    return (train.matrix()[users].toarray() != 0).astype(np.float64)


def _low_items_first(train: Interactions, users: IntArray) -> FloatArray:
    return np.tile(-np.arange(N_ITEMS, dtype=np.float64), (len(users), 1))


def _high_items_first(train: Interactions, users: IntArray) -> FloatArray:
    return -_low_items_first(train, users)


def _nan_for_one_user(train: Interactions, users: IntArray) -> FloatArray:
    return np.where((users == N_USERS // 2)[:, None], np.nan, np.zeros((len(users), N_ITEMS)))


def _true_ratings(train: Interactions, users: IntArray) -> FloatArray:
    return _ratings(users[:, None], np.arange(N_ITEMS)).astype(np.float64)


def _far_off_scale(train: Interactions, users: IntArray) -> FloatArray:
    """The true ratings, stretched to -20 and 20: right once clipped to the scale."""
    return 10.0 * (_true_ratings(train, users) - 3.0)


def _remembered_ratings(train: Interactions, users: IntArray) -> FloatArray:
    """The rating of each pair that the model was given, 3 for the rest."""
    given = train.matrix()[users].toarray().astype(np.float64)
    return np.where(given > 0, given, 3.0)


def _inverse_ratings(train: Interactions, users: IntArray) -> FloatArray:
    return 6.0 - _true_ratings(train, users)


# --- what must come of them ------------------------------------------------------------------------------------------

_CHANCE = 10 / 100
_CHANCE_FULL = (10 / (N_ITEMS - 3) + 10 / (N_ITEMS - 4)) / 2
"""HR@10 of ties on the full catalogue: even users have 3 items masked, odd users 4."""
_FOUR_STANDARD_ERRORS = 4 * float(np.sqrt(_CHANCE * (1 - _CHANCE) / N_USERS))

CANARIES: dict[str, Canary] = {
    # The positive alone is best: rank 1 for all.
    "oracle": Canary(
        "leave-one-out",
        "the test item is not the user's latest, or a user is missing",
        _oracle,
        {name: Expected(1.0) for name in ("hr@10", "ndcg@10", "mrr", "hr@10/full", "ndcg@10/full", "mrr/full")},
    ),
    # All 100 candidates tie: a hit with a chance of 10/100.
    "constant": Canary(
        "leave-one-out",
        "ties count as hits, a user has too few candidates, or seen items are not masked",
        _constant(0.5),
        {"hr@10": Expected(_CHANCE), "hr@10/full": Expected(_CHANCE_FULL)},
    ),
    "random": Canary(
        "leave-one-out",
        "candidates are not comparable",
        _random,
        {
            "hr@10": Expected(_CHANCE, _FOUR_STANDARD_ERRORS),
            "hr@10/full": Expected(_CHANCE_FULL, _FOUR_STANDARD_ERRORS),
        },
    ),
    # Even users' positive has 30 training rows, every other item 2 at most: rank 1. Odd users' positive is one of 13
    # cold items; at least 99 - 12 negatives have a training row: behind rank 87, and further down in the catalogue.
    "popularity": Canary(
        "leave-one-out",
        "users whose item is missed or cold are left out, or the model was given test rows",
        _popularity,
        {
            "hr@10": Expected(0.5),
            "ndcg@10": Expected(0.5),
            "mrr": Expected(0.5, 0.5 / 87),
            "hr@10/full": Expected(0.5),
            "ndcg@10/full": Expected(0.5),
        },
    ),
    "nan": Canary(
        "leave-one-out",
        "scores that are not finite are ranked",
        _nan_for_one_user,
        failure="finite",
    ),
    # No candidate was given to the model, so all tie, as with the constant; in the catalogue the given ones are masked.
    "train-memoriser": Canary(
        "leave-one-out",
        "the model was given test rows, negatives were seen, or seen items are not masked",
        _memoriser,
        {"hr@10": Expected(_CHANCE), "hr@10/full": Expected(_CHANCE_FULL)},
    ),
    # Candidates sorted by item: positives 0 … 5 have at most 5 items below them (6 users of 60 hit). Of the others, the
    # lowest is 70: of the 70 items below it, 3 are seen and at most 146 - 99 = 47 free ones are not drawn, so that at
    # least 20 are negatives. In the catalogue more are.
    "first-position": Canary(
        "leave-one-out",
        "the positive's place in the request gives it away",
        _low_items_first,
        {"hr@10": Expected(_CHANCE), "hr@10/full": Expected(_CHANCE)},
        by_position=1,
    ),
    # The same from above: positives 144 … 149 hit; 75, the highest of the others, has 74 items above it, at most 4 of
    # them seen and 145 - 99 = 46 not drawn: at least 24 are negatives.
    "last-position": Canary(
        "leave-one-out",
        "the positive's place in the request gives it away",
        _high_items_first,
        {"hr@10": Expected(_CHANCE), "hr@10/full": Expected(_CHANCE)},
        by_position=-1,
    ),
    "rating-oracle": Canary(
        "holdout",
        "labels do not belong to their pairs",
        _true_ratings,
        {"rmse": Expected(0.0), "mae": Expected(0.0), "r2": Expected(1.0)},
    ),
    # Ratings are 1 or 5, so 3 is wrong by 2 on each row. A constant's R² is -(c - mean)² / variance, never above 0; it
    # is above -.5 as long as the 54 test rows hold between 22 % and 78 % fives.
    "rating-constant": Canary(
        "holdout",
        "errors are not those of the test rows",
        _constant(3.0),
        {"rmse": Expected(2.0), "mae": Expected(2.0), "r2": Expected(-0.25, 0.25)},
    ),
    "rating-out-of-scale": Canary(
        "holdout",
        "predictions are not clipped to the rating scale",
        _far_off_scale,
        {"rmse": Expected(0.0), "mae": Expected(0.0), "r2": Expected(1.0)},
    ),
    # No test row was given to the model: 3 everywhere.
    "rating-memoriser": Canary(
        "holdout",
        "the model was given test rows",
        _remembered_ratings,
        {"rmse": Expected(2.0), "mae": Expected(2.0)},
    ),
    # Wrong by 4 on each row: SSE = 16 n, and SST is at most 4 n, so that R² is at most -3.
    "rating-inverse": Canary(
        "holdout",
        "R² cannot be negative, or signs are lost",
        _inverse_ratings,
        {"rmse": Expected(4.0), "mae": Expected(4.0), "r2": Expected(-4.5, 1.5)},
    ),
    "rating-nan": Canary(
        "holdout",
        "predictions that are not finite are counted",
        _constant(float("nan")),
        failure="finite",
    ),
}
