"""Holdout: predict the ratings of held-out rows, at random, in k folds, or the latest by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from datasets.errors import DataError, NotApplicableError, UserError
from datasets.types import Dataset, Interactions
from protocols import metrics
from protocols.outcomes import LARGEST, REAL, Expected, check, check_users
from protocols.splits import Division, fingerprint, keep_latest, known, random_holdout, time_holdout
from protocols.types import (
    MAX_HISTORY,
    Arrays,
    EvaluationProtocol,
    Question,
    Scorer,
    Split,
    Stopwatch,
    UserStatistic,
    check_max_history,
    explain_max_history,
    no_stopwatch,
)

Values = npt.NDArray[np.float64]

ROUNDING = 1e-9
MOST_ROWS = 2**40
_SUMS = ("n", "sse", "sae", "sum_y", "sum_y2")
_COLD_ONE_WAY = {"/cold-user": "cold_user_", "/cold-item": "cold_item_"}
"""Suffix of a metric -> prefix of its sums, which side files did not always hold."""


class Holdout(EvaluationProtocol):
    """RMSE, R² and MAE over pooled test rows, and apart for warm and cold rows.

    Predictions are clipped to the rating scale. A row is cold when its user or its item has no training row
    (train ∪ valid); a row with neither is a cold user's and a cold item's. R² is measured against the mean of the test
    rows themselves.
    """

    task = "rating"
    primary = objective = "rmse"
    higher_is_better = False
    columns = {"RMSE": "rmse", "R²": "r2", "MAE": "mae"}
    baseline = "bias"
    slices = {"warm": "/warm", "cold user": "/cold-user", "cold item": "/cold-item"}
    slice_columns = {"RMSE": "rmse", "R²": "r2"}
    slices_note = (
        "Warm: test rows whose user and item both have training rows; cold user, cold item: the user or the item has "
        "none (neither has: counted in both). An algorithm that cannot rate a cold row itself answers with the "
        "damped-bias rating."
    )

    @dataclass(frozen=True)
    class Config:
        folds: Annotated[int, "k of k-fold; 0 for one 80/20 split"] = 0
        fold: Annotated[int, "which of the folds is the test part, from 0"] = 0
        by: Annotated[Literal["random", "time"], "hold out random rows, or the latest fifth of all times"] = "random"
        max_history: Annotated[int | None, MAX_HISTORY] = None

        def __post_init__(self) -> None:
            check_max_history("holdout", self.max_history)
            if self.by not in ("random", "time"):
                raise UserError(f"holdout: by must be 'random' or 'time', got '{self.by}'")
            if self.folds < 0 or self.folds == 1:
                raise UserError(f"holdout: folds must be 0 (no folds) or at least 2, got {self.folds}")
            if not 0 <= self.fold < max(1, self.folds):
                raise UserError(f"holdout: fold must lie in 0..{max(1, self.folds) - 1}, got {self.fold}")
            if self.folds and self.by == "time":
                raise UserError("holdout: folds are random; leave out either --folds or --by time")

    def explain(self) -> str:
        rows = "a random fifth of the rows"
        if self.config.folds:
            rows = f"each of {self.config.folds} random folds in turn"
        elif self.config.by == "time":
            rows = "the rows of the latest fifth of all times"
        return (
            f"RMSE, MAE, R²: errors of predicted ratings over {rows}, clipped to the rating scale. R² = 1 − SSE/SST "
            "against the mean of these rows; below 0 is worse than that mean."
            f"{explain_max_history(self.config.max_history)}"
        )

    def parts(self) -> list[Holdout]:
        """The k folds of k-fold, each a split of its own."""
        if not self.config.folds:
            return [self]
        return [Holdout(replace(self.config, fold=fold)) for fold in range(self.config.folds)]

    def split(self, dataset: Dataset, split_seed: int) -> Split:
        """Divide ``dataset``.

        Raises:
            NotApplicableError: all values are the same, or ``by`` is time and the data set has no times.
            DataError: a part would be empty.
        """
        rated = dataset.interactions
        if len(rated) and rated.values.min() == rated.values.max():
            raise NotApplicableError(
                f"holdout: all values of '{dataset.name}' are {rated.values[0]:g}, so there is no rating to predict: "
                "use --protocol leave-one-out"
            )
        division = self._divide(dataset, split_seed)
        train, valid, test = (rated.select(mask) for mask in (division.train, division.valid, division.test))
        for name, part in (("training", train), ("validation", valid), ("test", test)):
            if not len(part):
                raise DataError(f"holdout: '{dataset.name}' with {len(rated)} rows leaves no {name} row: use more data")
        if self.config.max_history is not None:
            train = keep_latest(train, self.config.max_history)
        notes = {"cold_test_rows": _count_cold(test, train, valid)}
        identity = fingerprint(train, valid, test, None, None, dataset.user_ids, dataset.item_ids)
        return Split(train, valid, test, None, identity, None, dataset.rating_scale, notes)

    def question(self, split: Split) -> Question:
        """The test pairs sorted by (user, item); nothing is ranked."""
        order = _pair_order(split.test)
        users, items = (column[order].astype(np.int32, copy=False) for column in (split.test.users, split.test.items))
        nobody = np.empty(0, dtype=np.int32)
        return Question(users, items, nobody, nobody)

    def labels(self, split: Split) -> Arrays:
        """``values`` (p,) float32 in the question's order and, where there is one, ``rating_scale`` (2,) float64."""
        labels: Arrays = {"values": split.test.values[_pair_order(split.test)]}
        if split.rating_scale is not None:
            labels["rating_scale"] = np.array(split.rating_scale, dtype=np.float64)
        return labels

    def evaluate(
        self,
        scorer: Scorer,
        question: Question,
        labels: Arrays,
        seen: sparse.csr_matrix,
        stopwatch: Stopwatch = no_stopwatch,
    ) -> Arrays:
        """Per-user sums.

        Returns:
            ``users`` (m,) int32 with a test row; float64 (m,) ``n``, ``sse``, ``sae``, ``sum_y``, ``sum_y2`` over the
            user's rows, and the same with ``cold_``, ``cold_user_`` and ``cold_item_`` before the name over the rows
            that are cold, have a cold user or a cold item; ``pair_scores`` (p,) as predicted, before clipping.

        Raises:
            ValueError: a prediction is not finite.
        """
        scores = metrics.score_pairs(scorer, question.pair_users, question.pair_items, stopwatch)
        predicted = scores.astype(np.float64)
        if "rating_scale" in labels:
            predicted = np.clip(predicted, *labels["rating_scale"].astype(np.float64))
        true = labels["values"].astype(np.float64)
        error = predicted - true
        known_users, known_items = known(seen)
        cold_user, cold_item = ~known_users[question.pair_users], ~known_items[question.pair_items]
        slices = {"cold_": cold_user | cold_item, "cold_user_": cold_user, "cold_item_": cold_item}

        starts = metrics.group_starts(question.pair_users)
        columns = dict(zip(_SUMS, (np.ones_like(true), error**2, np.abs(error), true, true**2), strict=True))
        outcomes: Arrays = {"users": question.pair_users[starts], "pair_scores": scores}
        for name, column in columns.items():
            outcomes[name] = np.add.reduceat(column, starts)
            for prefix, rows in slices.items():
                outcomes[f"{prefix}{name}"] = np.add.reduceat(np.where(rows, column, 0.0), starts)
        return outcomes

    def check_outcomes(self, outcomes: Arrays, n_users: int, n_items: int) -> None:
        """Finite sums, each user with a row, and no slice with more of them than all rows: see ``evaluate``."""
        users = check_users("users", outcomes, n_users)
        if not users:
            raise ValueError("no test user")
        _check_sums(outcomes, users, "", fewest=1)
        _check_sums(outcomes, users, "cold_", fewest=0)
        for prefix in _COLD_ONE_WAY.values():
            if f"{prefix}n" in outcomes:
                _check_sums(outcomes, users, prefix, fewest=0)

    def metrics(self, outcomes: Arrays) -> dict[str, float]:
        """``rmse``, ``r2``, ``mae`` over all rows, and with ``/warm``, ``/cold``, ``/cold-user``, ``/cold-item`` and
        ``/cold-both``.

        A figure without a row is left out.
        """
        figures = {
            name: float(statistic.combine(statistic.sums.sum(axis=0)))
            for name, statistic in self.per_user(outcomes).items()
        }
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def per_user(self, outcomes: Arrays) -> dict[str, UserStatistic]:
        """For the same names, each user's sums; column 0 is what paired tests compare (squared or absolute errors)."""
        users = outcomes["users"].astype(np.int32)
        every, cold = _sums(outcomes, ""), _sums(outcomes, "cold_")
        slices = {"": every, "/warm": {name: every[name] - cold[name] for name in _SUMS}, "/cold": cold}
        for suffix, prefix in _COLD_ONE_WAY.items():
            if f"{prefix}n" in outcomes:
                slices[suffix] = _sums(outcomes, prefix)
        if _COLD_ONE_WAY.keys() <= slices.keys():
            user, item = (slices[suffix] for suffix in _COLD_ONE_WAY)
            slices["/cold-both"] = {name: user[name] + item[name] - cold[name] for name in _SUMS}
        statistics = {}
        for suffix, sums in slices.items():
            some = sums["n"] > 0
            if not some.any():
                continue
            for name, columns, combine in _FIGURES:
                statistics[f"{name}{suffix}"] = UserStatistic(
                    users[some], np.column_stack([sums[column][some] for column in columns]), combine
                )
        return statistics

    def _divide(self, dataset: Dataset, split_seed: int) -> Division:
        rated = dataset.interactions
        if self.config.by == "random":
            return random_holdout(len(rated), split_seed, self.config.folds, self.config.fold)
        if rated.times is None:
            raise NotApplicableError(f"holdout by time: '{dataset.name}' has no times: use --by random")
        return time_holdout(rated.times)


def _check_sums(outcomes: Arrays, users: int, prefix: str, fewest: int) -> None:
    expected = {name: Expected(REAL, 0, LARGEST) for name in _SUMS}
    expected |= {"n": Expected(REAL, fewest, MOST_ROWS), "sum_y": Expected(REAL, -LARGEST, LARGEST)}
    check(outcomes, users, {f"{prefix}{name}": wanted for name, wanted in expected.items()})
    for name in ("n", "sse", "sae", "sum_y2"):
        every, some = outcomes[name].astype(np.float64), outcomes[f"{prefix}{name}"].astype(np.float64)
        if (some > every * (1 + ROUNDING)).any():
            raise ValueError(f"array {prefix}{name} is more than {name}, of which it is a part")


def _sums(outcomes: Arrays, prefix: str) -> dict[str, Values]:
    return {name: outcomes[f"{prefix}{name}"].astype(np.float64) for name in _SUMS}


def _rmse(totals: Values) -> Values:
    return metrics.rmse(totals[..., 1], totals[..., 0])


def _mae(totals: Values) -> Values:
    return metrics.mae(totals[..., 1], totals[..., 0])


def _r2(totals: Values) -> Values:
    return metrics.r2(totals[..., 1], totals[..., 0], totals[..., 2], totals[..., 3])


_FIGURES: tuple[tuple[str, tuple[str, ...], Callable[[Values], Values]], ...] = (
    ("rmse", ("sse", "n"), _rmse),
    ("r2", ("sse", "n", "sum_y", "sum_y2"), _r2),
    ("mae", ("sae", "n"), _mae),
)
"""Metric, its per-user sums, and how totals become the figure."""


def _pair_order(rows: Interactions) -> npt.NDArray[np.int64]:
    return np.lexsort((rows.items, rows.users))


def _count_cold(test: Interactions, *training: Interactions) -> int:
    """Test rows whose user or item has no training row."""
    users, items = np.zeros(test.n_users, dtype=bool), np.zeros(test.n_items, dtype=bool)
    for part in training:
        users[part.users] = True
        items[part.items] = True
    return int(np.count_nonzero(~(users[test.users] & items[test.items])))
