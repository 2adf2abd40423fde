"""Default → tuned: every number of the block against its definition, computed in another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import gains
from protocols import statistics
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import EvaluationProtocol, UserStatistic

NAMES = ("als", "ease", "knn")
STUDY = {
    "metric": "ndcg@10",
    "budget": {"name": "small", "trials": 3, "seconds": 90.0},
    "trials": {"complete": 2, "pruned": 0, "failed": 1},
    "seconds": 12.5,
    "bound_by": "trials",
    "values": [0.25, None, 0.5],
}


def mean_of(totals: np.ndarray) -> np.ndarray:
    return totals[..., 0] / totals[..., 1]


def rmse_of(totals: np.ndarray) -> np.ndarray:
    return np.sqrt(totals[..., 0] / totals[..., 1])


def table(
    metric: str, sums: dict[tuple[str, str], np.ndarray], combine: Any
) -> tuple[list[gains.Row], dict[str, UserStatistic]]:
    """Rows and statistics of a table, from (users, 2) sums by algorithm and label."""
    rows, primary = [], {}
    for rank, ((algorithm, label), of_users) in enumerate(sums.items(), start=1):
        statistic = UserStatistic(np.arange(len(of_users), dtype=np.int32), of_users, combine)
        primary[str(rank)] = statistic
        figure = {"mean": float(combine(of_users.sum(axis=0)))}
        rows.append(
            {
                **{"algorithm": algorithm, "label": label, "rank": rank, "device": "cpu", "threads": 1},
                **{"metrics": {metric: figure}, "tuned": STUDY if label == "tuned" else None},
            }
        )
    return rows, primary


def hits(metric: str = "hr@10") -> tuple[list[gains.Row], dict[str, UserStatistic], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    values = {(name, "default"): (rng.random(80) < 0.5).astype(float) for name in NAMES}
    values |= {("als", "tuned"): np.maximum(values["als", "default"], rng.random(80) < 0.4)}
    values |= {(name, "tuned"): (rng.random(80) < 0.5).astype(float) for name in NAMES[1:]}
    differences = {name: values[name, "tuned"] - values[name, "default"] for name in NAMES}
    sums = {key: np.column_stack((column, np.ones(80))) for key, column in values.items()}
    return *table(metric, sums, mean_of), differences


def build(rows: list[gains.Row], primary: dict[str, UserStatistic], protocol: EvaluationProtocol) -> dict[str, Any]:
    tuning = gains.tuning(rows, primary, protocol)
    assert tuning is not None
    return tuning


def test_each_difference_has_its_paired_interval_and_corrected_p() -> None:
    rows, primary, differences = hits()
    found = build(rows, primary, LeaveOneOut())["rows"]
    assert [each["algorithm"] for each in found] == list(NAMES)
    ranks = {(row["algorithm"], row["label"]): str(row["rank"]) for row in rows}
    single = {}
    for each in found:
        name = each["algorithm"]
        tuned, default = primary[ranks[name, "tuned"]], primary[ranks[name, "default"]]
        compared = statistics.compare(tuned, default, higher_is_better=True)
        assert each["difference"]["mean"] == pytest.approx(differences[name].mean())
        assert each["difference"]["low"] == compared.difference.low
        assert each["difference"]["high"] == compared.difference.high
        assert each["tuned"] - each["default"] == pytest.approx(differences[name].mean())
        single[name] = compared.p
        assert each["budget"]["trials"] == 3 and each["seconds"] == 12.5
    smallest = min(single, key=lambda name: single[name])
    assert smallest == "als", "the one that gained"
    corrected = {each["algorithm"]: each["p"] for each in found}
    assert corrected["als"] == pytest.approx(min(1, 3 * single["als"]))
    assert all(corrected[name] >= single[name] for name in NAMES)


def test_the_mean_difference_of_hits_is_the_bootstrap_of_the_mean_user() -> None:
    rows, primary, differences = hits()
    user = np.mean(list(differences.values()), axis=0)
    expected = statistics.bootstrap_interval(
        UserStatistic(np.arange(80, dtype=np.int32), np.column_stack((user, np.ones(80))), mean_of)
    )
    found = build(rows, primary, LeaveOneOut())["mean_difference"]
    assert found == pytest.approx({"mean": user.mean(), "low": expected.low, "high": expected.high})


def test_the_mean_difference_of_errors_is_the_mean_of_rmse_differences() -> None:
    rng = np.random.default_rng(0)
    n = rng.integers(1, 9, 50).astype(float)
    labels = [(name, label) for name in NAMES for label in ("default", "tuned")]
    sums = {key: np.column_stack((n * rng.random(50), n)) for key in labels}
    rows, primary = table("rmse", sums, rmse_of)
    tuning = build(rows, primary, Holdout())
    by_hand = [rmse_of(sums[name, "tuned"].sum(0)) - rmse_of(sums[name, "default"].sum(0)) for name in NAMES]
    assert [each["difference"]["mean"] for each in tuning["rows"]] == pytest.approx(by_hand)
    mean = tuning["mean_difference"]
    assert mean["mean"] == pytest.approx(np.mean(by_hand)) and mean["low"] < mean["mean"] < mean["high"]


def test_only_rows_of_the_same_device_are_paired_and_a_lone_tuned_row_has_no_gain() -> None:
    rows, primary, _ = hits()
    for row in rows:
        if row["label"] == "tuned" and row["algorithm"] != "als":
            row["threads"] = 2
    tuning = build(rows, primary, LeaveOneOut())
    assert [each["algorithm"] for each in tuning["rows"]] == ["als"]
    alone = [row for row in rows if row["label"] == "tuned"]
    tuning = build(alone, primary, LeaveOneOut())
    assert (tuning["rows"], tuning["mean_difference"]) == ([], None) and set(tuning["expected_best"]) == set(NAMES)
    assert gains.tuning([row for row in rows if row["label"] == "default"], primary, LeaveOneOut()) is None
