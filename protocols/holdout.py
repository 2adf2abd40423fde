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
from protocols.splits import Division, fingerprint, keep_latest, random_holdout, time_holdout
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

_SUMS = ("n", "sse", "sae", "sum_y", "sum_y2")


class Holdout(EvaluationProtocol):
    """RMSE, R² and MAE over pooled test rows, and apart for warm and cold rows.

    Predictions are clipped to the rating scale. A row is cold when its user or its item has no training row
    (train ∪ valid). R² is measured against the mean of the test rows themselves.
    """

    task = "rating"
    primary = objective = "rmse"
    higher_is_better = False
    columns = {"RMSE": "rmse", "R²": "r2", "MAE": "mae"}

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
        notes = {"cold_test_rows": int(np.count_nonzero(_cold(test.users, test.items, *_known(train, valid))))}
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
            user's rows, and the same with ``cold_`` before the name over the cold ones; ``pair_scores`` (p,) as
            predicted, before clipping.

        Raises:
            ValueError: a prediction is not finite.
        """
        scores = metrics.score_pairs(scorer, question.pair_users, question.pair_items, stopwatch)
        predicted = scores.astype(np.float64)
        if "rating_scale" in labels:
            predicted = np.clip(predicted, *labels["rating_scale"].astype(np.float64))
        true = labels["values"].astype(np.float64)
        error = predicted - true
        cold = _cold(question.pair_users, question.pair_items, np.diff(seen.indptr) > 0, _has_row(seen))

        starts = metrics.group_starts(question.pair_users)
        columns = dict(zip(_SUMS, (np.ones_like(true), error**2, np.abs(error), true, true**2), strict=True))
        outcomes: Arrays = {"users": question.pair_users[starts], "pair_scores": scores}
        for name, column in columns.items():
            outcomes[name] = np.add.reduceat(column, starts)
            outcomes[f"cold_{name}"] = np.add.reduceat(np.where(cold, column, 0.0), starts)
        return outcomes

    def metrics(self, outcomes: Arrays) -> dict[str, float]:
        """``rmse``, ``r2``, ``mae`` over all rows, and ``/warm`` and ``/cold``; a figure without a row is left out."""
        figures = {
            name: float(statistic.combine(statistic.sums.sum(axis=0)))
            for name, statistic in self.per_user(outcomes).items()
        }
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def per_user(self, outcomes: Arrays) -> dict[str, UserStatistic]:
        """For the same names, each user's sums; column 0 is what paired tests compare (squared or absolute errors)."""
        users = outcomes["users"].astype(np.int32)
        every = {name: outcomes[name].astype(np.float64) for name in _SUMS}
        cold = {name: outcomes[f"cold_{name}"].astype(np.float64) for name in _SUMS}
        warm = {name: every[name] - cold[name] for name in _SUMS}
        statistics = {}
        for suffix, sums in (("", every), ("/warm", warm), ("/cold", cold)):
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


def _known(*parts: Interactions) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Users and items with a row in ``parts``."""
    users, items = np.zeros(parts[0].n_users, dtype=bool), np.zeros(parts[0].n_items, dtype=bool)
    for part in parts:
        users[part.users] = True
        items[part.items] = True
    return users, items


def _has_row(seen: sparse.csr_matrix) -> npt.NDArray[np.bool_]:
    """(n_items,) items with an entry in any user's row."""
    known = np.zeros(seen.shape[1], dtype=bool)
    known[seen.indices] = True
    return known


def _cold(
    users: npt.NDArray[np.integer],
    items: npt.NDArray[np.integer],
    known_users: npt.NDArray[np.bool_],
    known_items: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    return ~(known_users[users] & known_items[items])
