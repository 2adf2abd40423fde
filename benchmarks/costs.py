"""What a row of a leaderboard cost: times, throughput and memory, from the counts and seconds of its records."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.records import EXTERNAL, Record

_TIMES = ("fit_s", "search_s", "train_per_s", "samples_per_s", "users_per_s", "pairs_per_s", "p50_ms", "p99_ms")
_NAMES = (
    *_TIMES,
    *("peak_rss_bytes", "peak_gpu_bytes", "gpu_process_bytes", "model_bytes"),
)


def of_records(group: list[Record]) -> dict[str, Any]:
    """Times and memory over a row's records, from their counts and seconds; null what was not measured.

    Of answers that were made elsewhere there is nothing but the seconds that their maker reports.
    """
    cost: dict[str, Any] = dict.fromkeys(_NAMES)
    if not group:
        return cost
    if any(record.is_external for record in group):
        reported = [seconds for record in group if (seconds := record.data[EXTERNAL]["fit_s"]) is not None]
        cost["fit_s"] = _range(reported) if reported else None
        return cost
    memory = [record.data["memory"] for record in group]
    cost["peak_rss_bytes"] = _highest(memory, "peak_rss_fit_bytes", "peak_rss_score_bytes")
    for name in ("peak_gpu_bytes", "gpu_process_bytes", "model_bytes"):
        cost[name] = _highest(memory, name)
    timed = [record for record in group if record.untimed is None]
    return cost | _times(timed) if timed else cost


def _times(group: list[Record]) -> dict[str, Any]:
    """Seconds of fits, and rates."""
    cost: dict[str, Any] = {}
    timings = [record.data["timings"] for record in group]
    fits = [seconds for timing in timings for seconds in timing["fit_s"]]
    cost["fit_s"] = _range(fits)
    cost["search_s"] = _median([timing["search_s"] for timing in timings])
    cost["train_per_s"] = _median(
        [timing["train_rows"] * timing["epochs"] / seconds for timing, seconds in _fits(timings)]
    )
    cost["samples_per_s"] = _median(
        [
            timing["samples_per_epoch"] * timing["epochs"] / seconds
            for timing, seconds in _fits(timings)
            if timing["samples_per_epoch"]
        ]
    )
    return cost | _inference(timings)


def not_measured(
    cost: dict[str, Any], device: str, external: bool = False, untimed: str | None = None
) -> dict[str, str]:
    """Why a figure is null, for each that is. ``untimed``: why the records have no seconds, if so."""
    null = [name for name, value in cost.items() if value is None]
    if external:
        return dict.fromkeys(null, "the answers were made elsewhere, what they cost was not measured")
    if cost["fit_s"] is None and untimed is None:
        return dict.fromkeys(null, "nothing was measured")
    ranks_nothing = "the protocol ranks nothing"
    single = "the suite clock measures it" if cost["pairs_per_s"] is None else ranks_nothing
    gpu = "no GPU used" if device == "cpu" else "neither the framework nor the driver tells"
    reasons = {
        "samples_per_s": "no samples are drawn, or the record does not say how many",
        "users_per_s": ranks_nothing,
        "pairs_per_s": "the suite clock measures it",
        "p50_ms": single,
        "p99_ms": single,
        "peak_rss_bytes": "the system does not tell",
        "peak_gpu_bytes": gpu,
        "gpu_process_bytes": gpu,
        "model_bytes": "the model cannot be saved, or the record is an older one",
    }
    if untimed is not None and cost["fit_s"] is None:
        reasons |= dict.fromkeys(_TIMES, untimed)
    return {name: reasons[name] for name in null}


def _fits(timings: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float]]:
    """Every timed fit of every record, with the record's timings."""
    for timing in timings:
        yield from ((timing, seconds) for seconds in timing["fit_s"])


def _inference(timings: list[dict[str, Any]]) -> dict[str, float | None]:
    """How fast the models answered: users/s of large batches where they were measured, else of the metrics' ranking."""
    throughputs = [timing["throughput"] for timing in timings if timing["throughput"]]
    large = [throughput["users"][-1] for throughput in throughputs if throughput["users"]]
    ranked = [
        {"n": timing["ranked_users"], "s": timing["rank_s"]}
        for timing in timings
        if timing["ranked_users"] and timing["rank_s"]
    ]
    single = [throughput["single"] for throughput in throughputs if throughput["single"]]
    return {
        "users_per_s": _median([each["n"] / each["s"] for each in large or ranked]),
        "pairs_per_s": _median([each["pairs"]["n"] / each["pairs"]["s"] for each in throughputs]),
        "p50_ms": _median([each["p50_ms"] for each in single]),
        "p99_ms": _median([each["p99_ms"] for each in single]),
    }


def _range(seconds: Sequence[float]) -> dict[str, float | None]:
    return {"median": _median(seconds), "low": min(seconds), "high": max(seconds)}


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _highest(memory: list[dict[str, int | None]], *names: str) -> int | None:
    return max((peak for each in memory for name in names if (peak := each[name])), default=None)
