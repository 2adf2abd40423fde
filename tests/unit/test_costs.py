"""What a row cost, by hand from the counts and seconds of its records; and why a figure is null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_records
import pytest

from benchmarks import costs, records
from benchmarks.record_format import MEMORY
from benchmarks.records import Record

THROUGHPUT = {
    "pairs": {"n": 1_000_000, "s": 4.0},
    "users": [{"batch": 32, "n": 320, "s": 1.0}, {"batch": 1024, "n": 20_480, "s": 2.0}],
    "single": {"n": 1000, "p50_ms": 1.5, "p99_ms": 9.0},
}


def record(**timings: Any) -> Record:
    memory = timings.pop("memory", {})
    data = {
        "timings": made_records.timings(**{"fit_s": [2.0], **timings}),
        "memory": {**dict.fromkeys(MEMORY), "peak_rss_fit_bytes": 10, "peak_rss_score_bytes": 20, **memory},
    }
    return Record(Path("record.json"), data)


def test_rows_and_samples_a_second_count_every_epoch() -> None:
    cost = costs.of_records([record(epochs=3, samples_per_epoch=500, fit_s=[2.0, 1.0, 4.0])])
    assert cost["fit_s"] == {"median": 2.0, "low": 1.0, "high": 4.0}
    assert cost["train_per_s"] == 150 and cost["samples_per_s"] == 750


def test_a_cell_that_shared_its_machine_has_memory_and_reasons() -> None:
    untimed = record(**records.without_seconds(record().data["timings"], "shared"))
    cost = costs.of_records([untimed])
    assert cost["peak_rss_bytes"] == 20 and cost["fit_s"] is None and cost["users_per_s"] is None
    reasons = costs.not_measured(cost, "cpu", untimed=untimed.untimed)
    assert reasons["fit_s"] == reasons["p99_ms"] == "shared" and reasons["peak_gpu_bytes"] == "no GPU used"
    assert costs.of_records([untimed, record(fit_s=[3.0])])["fit_s"]["median"] == 3.0


def test_each_fit_counts_by_its_own_epochs() -> None:
    """Early stopping may find another number of epochs for another model seed."""
    cost = costs.of_records([record(epochs=10, fit_s=[1.0]), record(epochs=20, fit_s=[2.0])])
    assert cost["train_per_s"] == 1000


def test_users_a_second_are_those_of_large_batches_where_there_are_any() -> None:
    quick, clock = costs.of_records([record()]), costs.of_records([record(throughput=THROUGHPUT)])
    assert quick["users_per_s"] == 100 and clock["users_per_s"] == 10_240
    assert quick["pairs_per_s"] is None and clock["pairs_per_s"] == 250_000
    assert (clock["p50_ms"], clock["p99_ms"]) == (1.5, 9.0)


def test_memory_is_the_highest_of_all_records() -> None:
    gpu = {"peak_gpu_bytes": 5, "gpu_process_bytes": 7, "model_bytes": 3}
    cost = costs.of_records([record(memory=gpu), record(memory={**gpu, "peak_gpu_bytes": 6, "peak_rss_fit_bytes": 30})])
    assert [cost[name] for name in ("peak_rss_bytes", *gpu)] == [30, 6, 7, 3]


def test_nothing_measured_is_null_throughout() -> None:
    cost = costs.of_records([])
    assert set(cost.values()) == {None}
    assert costs.not_measured(cost, "cpu") == dict.fromkeys(cost, "nothing was measured")


@pytest.mark.parametrize(
    ("timings", "device", "figure", "reason"),
    [
        ({}, "cpu", "p99_ms", "the suite clock measures it"),
        ({"throughput": {**THROUGHPUT, "single": None, "users": None}}, "cpu", "p99_ms", "the protocol ranks nothing"),
        ({"ranked_users": 0}, "cpu", "users_per_s", "the protocol ranks nothing"),
        ({}, "cpu", "peak_gpu_bytes", "no GPU used"),
        ({}, "cuda", "peak_gpu_bytes", "neither the framework nor the driver tells"),
        ({}, "cpu", "model_bytes", "the model cannot be saved, or the record is an older one"),
        ({}, "cpu", "samples_per_s", "no samples are drawn, or the record does not say how many"),
    ],
)
def test_a_null_has_its_reason(timings: dict[str, Any], device: str, figure: str, reason: str) -> None:
    assert costs.not_measured(costs.of_records([record(**timings)]), device)[figure] == reason


def test_what_was_measured_needs_no_reason() -> None:
    memory = {"peak_gpu_bytes": 5, "gpu_process_bytes": 7, "model_bytes": 3}
    full = record(throughput=THROUGHPUT, samples_per_epoch=500, memory=memory)
    assert costs.not_measured(costs.of_records([full]), "cuda") == {}
