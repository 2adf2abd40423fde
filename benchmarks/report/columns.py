"""The columns of a leaderboard in the report: of its page and of its LaTeX tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import render
from benchmarks.leaderboard import Row, Table

_BEYOND = {"MRR": "mrr", "diversity": "diversity@10", "novelty": "novelty@10", "coverage": "coverage@10"}
"""Figures that the protocol's own columns leave out."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        header: short; ``meaning`` says it in words.
        name: the figure's name in JSON.
        value: the figure of a row in full precision, None where it has none.
        text: a figure as people read it.
        interval: its 95 % interval as text, empty where there is none.
        kind: ``number`` or ``text``.
    """

    header: str
    meaning: str
    name: str
    value: Callable[[Row], Any]
    text: Callable[[Any], str]
    interval: Callable[[Row], str] = lambda row: ""
    kind: str = "number"


def of_table(table: Table) -> list[Column]:
    """Group and name, the protocol's figures with their intervals, then every cost that a row has."""
    return [column for column in _all(table) if any(_shown(column, row) for row in table.rows)]


def _shown(column: Column, row: Row) -> bool:
    return column.value(row) not in (None, "")


def _all(table: Table) -> list[Column]:
    return [
        Column("grp", "rank group", "group", lambda row: row["group"], str),
        Column("algorithm", "name", "algorithm", render.marked_name, str, kind="text"),
        *(_metric(header, name) for header, name in table.protocol.columns.items()),
        Column("sd", "spread over model seeds", "spread", lambda row: row["spread"], render.fraction),
        Column("way", "way from the baseline to the oracle", "to_oracle", _way, render.fraction),
        *(
            _metric(f"{header} {part}", f"{name}{suffix}")
            for part, (suffix, _) in render.slices_of(table).items()
            for header, name in table.protocol.slice_columns.items()
        ),
        *(_metric(header, name) for header, name in _BEYOND.items()),
        _cost("fit s", "seconds of a fit", "fit_s", render.seconds_text, _fit_range),
        _cost("search s", "seconds of the fits before it", "search_s", render.seconds_text),
        _cost("rows/s", "training rows a second", "train_per_s", render.count_text),
        _cost("samples/s", "training rows and drawn negatives a second", "samples_per_s", render.count_text),
        _cost("pairs/s", "scored pairs a second", "pairs_per_s", render.count_text),
        _cost("users/s", "lists a second", "users_per_s", render.count_text),
        _cost("p50 ms", "milliseconds for one user, median", "p50_ms", render.milliseconds_text),
        _cost("p99 ms", "milliseconds for one user, 99 %", "p99_ms", render.milliseconds_text),
        _cost("MiB", "peak memory", "peak_rss_bytes", render.mebibytes_text),
        _cost("GPU MiB", "peak GPU memory", "peak_gpu_bytes", render.mebibytes_text),
        _cost(
            "GPU process MiB", "what the driver says that the process held", "gpu_process_bytes", render.mebibytes_text
        ),
        _cost("model MiB", "size of the model", "model_bytes", render.model_size_text),
        Column("status", "status", "status", _not_ok, str, kind="text"),
    ]


def _not_ok(row: Row) -> str | None:
    return None if row["status"] == "ok" else str(row["status"]).replace("_", " ")


def _metric(header: str, name: str) -> Column:
    def interval(row: Row) -> str:
        figure = row["metrics"].get(name) or {}
        return (
            "" if figure.get("low") is None else f"{render.fraction(figure['low'])}–{render.fraction(figure['high'])}"
        )

    def mean(row: Row) -> float | None:
        return (row["metrics"].get(name) or {}).get("mean")

    return Column(header, name, name, mean, render.fraction, interval)


def _way(row: Row) -> float | None:
    return None if row["to_oracle"] is None else row["to_oracle"]["mean"]


def _fit_range(row: Row) -> str:
    """The shortest and the longest of several timed fits; of a model from elsewhere, that its maker says so."""
    found = row["cost"]["fit_s"]
    if "fit_s" in (row["external"] or {}).get("self_reported", ()):
        return "self-reported"
    if not found or found["low"] == found["high"]:
        return ""
    return f"{render.seconds_text(found['low'])}–{render.seconds_text(found['high'])}"


def _cost(
    header: str, meaning: str, name: str, text: Callable[[Any], str], interval: Callable[[Row], str] = lambda row: ""
) -> Column:
    def value(row: Row) -> Any:
        found = row["cost"][name]
        figure = found["median"] if isinstance(found, dict) else found
        return None if name == "search_s" and not figure else figure  # a row without a search took no time for it

    return Column(header, meaning, name, value, text, interval)
