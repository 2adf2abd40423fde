"""What tuning gained: the default and the tuned row of every algorithm of a table, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from algorithms.registry import TUNED
from benchmarks.tuned import expected_best
from protocols import statistics
from protocols.types import EvaluationProtocol, UserStatistic

Row = dict[str, Any]


def tuning(
    rows: Sequence[Row], primary: Mapping[str, UserStatistic], protocol: EvaluationProtocol
) -> dict[str, Any] | None:
    """The part ``tuning`` of a table, as ``results/README.md`` explains it; None where no row is tuned.

    Args:
        rows: the ok rows of the table.
        primary: their statistic of the primary metric, by rank as text.
    """
    tuned = [row for row in rows if row["label"] == TUNED]
    if not tuned:
        return None
    defaults = {_whose(row): row for row in rows if row["label"] == "default"}
    both = [(defaults[_whose(row)], row) for row in tuned if _whose(row) in defaults]
    statistic_pairs = [(primary[str(default["rank"])], primary[str(row["rank"])]) for default, row in both]
    return {
        "rows": _rows(both, statistic_pairs, protocol),
        "mean_difference": mean_difference(statistic_pairs).edges() if both else None,
        "expected_best": {
            row["algorithm"]: expected_best(row["tuned"]["values"], protocol.higher_is_better) for row in tuned
        },
    }


def mean_difference(pairs: Sequence[tuple[UserStatistic, UserStatistic]]) -> statistics.Interval:
    """Mean over algorithms of figure(tuned) - figure(default), with its bootstrap interval over their common users.

    ``pairs`` are (default, tuned). One resample of users serves all algorithms: for a mean over users this is the
    bootstrap of each user's mean difference, for RMSE the mean of the differences of RMSE.
    """
    return statistics.bootstrap_interval(
        statistics.joined(
            [each for pair in pairs for each in pair], lambda figures: (figures[1::2] - figures[::2]).mean(axis=0)
        )
    )


def _whose(row: Row) -> tuple[str, str, int]:
    return row["algorithm"], row["device"], row["threads"]


def _rows(
    both: Sequence[tuple[Row, Row]],
    statistic_pairs: Sequence[tuple[UserStatistic, UserStatistic]],
    protocol: EvaluationProtocol,
) -> list[Row]:
    """One entry an algorithm, in the order of the table's tuned rows; p corrected by Holm over these entries."""
    compared = [statistics.compare(tuned, default, protocol.higher_is_better) for default, tuned in statistic_pairs]
    p = statistics.holm({(str(index), TUNED): each.p for index, each in enumerate(compared)})
    return [
        {
            "algorithm": default["algorithm"],
            "default": default["metrics"][protocol.primary]["mean"],
            "tuned": tuned["metrics"][protocol.primary]["mean"],
            "difference": compared[index].difference.edges(),
            "p": p[str(index), TUNED],
            **{name: tuned["tuned"][name] for name in ("metric", "budget", "trials", "seconds", "bound_by")},
        }
        for index, (default, tuned) in enumerate(both)
    ]
