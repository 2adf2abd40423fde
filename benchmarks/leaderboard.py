"""Leaderboards: records become rows, rows become tables. ``render.py`` prints them.

Records with different split fingerprints never share a table, and records of different hardware neither, so that
times are only ever ranked beside times of the same machine. The folds of k-fold are one row. Answers that were made
elsewhere have no times: they are a row of every table of their split, whatever its machine.

On data whose best score is known a row of the algorithm ``oracle`` has it. It is no competitor: it stands first,
without rank and group, and is in none of the pairs that are corrected for.
"""

from __future__ import annotations

import math
import statistics as stdlib_statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import costs, gains, host
from benchmarks import records as stored
from benchmarks.environment import digest
from benchmarks.oracle import ORACLE as ORACLE_SPEC
from benchmarks.records import EXTERNAL, Record
from datasets.errors import UserError
from protocols import registry as protocol_registry
from protocols import statistics
from protocols.types import EvaluationProtocol, UserStatistic

Row = dict[str, Any]
Figures = dict[str, dict[str, float | None]]
"""Metric -> its ``mean``, ``low`` and ``high``, and the number ``n`` of test rows that it rests on."""

ORACLE = ORACLE_SPEC.name
"""The algorithm that knows the truth of generated data: nothing is better but by luck, or by a leak."""

_PART = "fold"
"""The protocol's option that says which part of a split a record is about, not which row of a table it belongs to."""
_WORST_FIRST = ("failed", "out_of_memory", "timeout", "skipped", "ok")


@dataclass(frozen=True)
class Evidence:
    """What tells the ok rows of a table apart, on its primary metric.

    Attributes:
        primary: each ranked row's per-user statistic, by its rank as text; seeds and splits averaged, folds pooled.
        p: sign-flip permutation p of every pair of ranks, corrected by Holm over all pairs of the table.
        minimum_detectable_difference: None below two rows.
        rank_agreement: ``tau_b`` with ``low`` and ``high`` between sampled and full order of the ``n_rows`` default
            rows; None where nothing is ranked both ways.
        oracle: the same statistic of the oracle row, None without one.
        better_than_oracle: one-sided sign-flip permutation p of "better than the oracle" for each ranked row by its
            name, corrected by Holm over them; None without an oracle row.
    """

    primary: dict[str, UserStatistic]
    p: dict[statistics.Pair, float]
    minimum_detectable_difference: float | None
    rank_agreement: dict[str, float | None] | None
    oracle: UserStatistic | None
    better_than_oracle: dict[str, float] | None


@dataclass(frozen=True)
class Table:
    """Rows that may be compared with each other: one data set, protocol, set of splits and machine."""

    dataset: str
    protocol_name: str
    protocol: EvaluationProtocol
    split_seeds: tuple[int, ...]
    n_parts: int
    sizes: dict[str, int]
    hardware: dict[str, Any]
    rows: list[Row]
    evidence: Evidence
    tuning: dict[str, Any] | None
    """Default against tuned rows, see ``gains.py``; None where no row is tuned."""


@dataclass(frozen=True)
class _Measured:
    """What the ok records of one row say: statistics over users and on how many test rows of all splits together they
    rest, figures without any, and the spread over seeds."""

    statistics: dict[str, UserStatistic]
    n: dict[str, int]
    plain: dict[str, float]
    spread: float | None


def build(records: Iterable[Record], results: Path) -> list[Table]:
    """Tables of all records, by data set and protocol; best row first, rows without a figure last.

    Raises:
        DamagedError: a record's side file is not sound; ``records.complete`` finds those that are.
    """
    by_row: dict[str, list[Record]] = defaultdict(list)
    for record in map(stored.with_outcomes, records):
        parts = ("dataset", "device", "threads", "hardware_fingerprint")
        algorithm = {name: value for name, value in record.data["algorithm"].items() if name != "tuned"}
        own = [record.is_external, algorithm, *(record.data[part] for part in parts)]
        by_row[digest([_protocol_data(record), *own])].append(record)
    by_table: dict[str, list[list[Record]]] = defaultdict(list)
    for group in sorted(by_row.values(), key=_is_external):  # last those from elsewhere, which look for their tables
        split = _split(group)
        hosts = [groups for groups in by_table.values() if _is_external(group) and _split(groups[0]) == split]
        for groups in hosts or [by_table[digest([*split, group[0].data["hardware_fingerprint"]])]]:
            groups.append(group)
    protocols = list(protocol_registry.PROTOCOLS)
    tables = [_table(groups, results) for groups in by_table.values()]
    return sorted(tables, key=lambda table: (table.dataset, protocols.index(table.protocol_name), title(table)))


def rows_of(tables: Iterable[Table], missing: dict[str, str]) -> list[Row]:
    """All rows in the stable form of ``--format json``, with one for each ``data set (· protocol)`` not measured."""
    rows = [row for table in tables for row in table.rows]
    for place, reason in missing.items():
        dataset, _, protocol = place.partition(" · ")
        empty = {**dict.fromkeys(_ROW_FIELDS), "dataset": dataset, "protocol": protocol or None}
        rows.append({**empty, "status": "skipped", "reason": reason})
    return rows


def title(table: Table) -> str:
    """``ml-latest-small · holdout (folds=5) · split 42 · 1 seed``."""
    seeds = max((len(row["seeds"]) for row in table.rows), default=1)
    splits = ", ".join(map(str, table.split_seeds))
    changed = _changed_options(table.protocol)
    options = f" ({', '.join(f'{name}={value}' for name, value in changed.items())})" if changed else ""
    return f"{table.dataset} · {table.protocol_name}{options} · split {splits} · {seeds} seed{'s' if seeds > 1 else ''}"


def row_name(row: Row) -> str:
    """``als``, or ``als (factors=64)`` for any but the default options; device and threads where they are unusual."""
    unusual = [row["label"]] if row["label"] != "default" else []
    unusual += [row["device"]] if row["device"] != "cpu" else []
    unusual += [f"{row['threads']} threads"] if row["threads"] != 1 else []
    return f"{row['algorithm']} ({', '.join(unusual)})" if unusual else str(row["algorithm"])


_ROW_FIELDS = (
    *("dataset", "protocol", "protocol_config", "algorithm", "label", "config", "tuned", "device", "threads", "seeds"),
    *(
        "split_seeds",
        "status",
        "reason",
        "rank",
        "group",
        "metrics",
        "spread",
        "to_oracle",
        "ranked_users",
        "cost",
        "busy",
        "not_measured",
        "external",
        "support",
    ),
    *("split_fingerprint", "hardware_fingerprint", "records", "table"),
)


def _changed_options(protocol: EvaluationProtocol) -> dict[str, Any]:
    default = vars(type(protocol).Config())
    return {name: value for name, value in vars(protocol.config).items() if value != default[name]}


# --- from records to a table -----------------------------------------------------------------------------------------


def _table(groups: list[list[Record]], results: Path) -> Table:
    first = groups[0][0].data
    protocol = _protocol(groups[0][0])
    measured = [_measure(group, protocol) for group in groups]
    figures = _figures(measured)
    rows = [_row(group, figures[index], measured[index].spread, results) for index, group in enumerate(groups)]

    def order(index: int) -> tuple[bool, bool, bool, float, str]:
        row = rows[index]
        value = (row["metrics"].get(protocol.primary) or {}).get("mean")
        signed = 0.0 if value is None else -value if protocol.higher_is_better else value
        return row["status"] != "ok", row["algorithm"] != ORACLE, value is None, signed, row_name(row)

    places = sorted(range(len(rows)), key=order)
    ok = [index for index in places if protocol.primary in measured[index].statistics]  # lists from elsewhere lack it
    ok = [index for index in ok if rows[index]["status"] == "ok"]
    ranked = [index for index in ok if rows[index]["algorithm"] != ORACLE]
    oracle = next((measured[index].statistics[protocol.primary] for index in ok if index not in ranked), None)
    for rank, index in enumerate(ranked, start=1):
        rows[index]["rank"] = rank
    ranked_rows = [rows[index] for index in ranked]
    evidence = _evidence(ranked_rows, [measured[index].statistics for index in ranked], oracle, protocol)
    _set_groups(ranked_rows, evidence, protocol)
    _set_ways(ranked_rows, evidence, protocol)
    tuning = gains.tuning(ranked_rows, evidence.primary, protocol)
    about = {
        "primary": protocol.primary,
        "minimum_detectable_difference": evidence.minimum_detectable_difference,
        "rank_agreement": evidence.rank_agreement,
        "tuning": tuning,
        "better_than_oracle": evidence.better_than_oracle,
    }
    return Table(
        dataset=first["dataset"]["name"],
        protocol_name=first["protocol"]["name"],
        protocol=protocol,
        split_seeds=tuple(sorted({record.data["split"]["seed"] for group in groups for record in group})),
        n_parts=len({record.data["protocol"]["config"].get(_PART) for record in groups[0]}),
        sizes={name: first["dataset"][name] for name in ("n_users", "n_items", "n_rows")},
        hardware=first["hardware"],
        rows=[{**rows[index], "table": about} for index in places],
        evidence=evidence,
        tuning=tuning,
    )


def _protocol_data(record: Record) -> dict[str, Any]:
    """A record's protocol without the number of its fold."""
    protocol = record.data["protocol"]
    return {**protocol, "config": {name: value for name, value in protocol["config"].items() if name != _PART}}


def _protocol(record: Record) -> EvaluationProtocol:
    return stored.protocol_of(record, without=_PART)


def _is_external(group: list[Record]) -> bool:
    return group[0].is_external


def _split(group: list[Record]) -> tuple[Any, ...]:
    """What rows must have in common to be compared at all."""
    return group[0].data["dataset"]["fingerprint"], _protocol_data(group[0]), _split_fingerprint(group)


def _split_fingerprint(group: list[Record]) -> str:
    """One split's own fingerprint; the hash of them all for a row over several splits or folds."""
    prints = sorted({record.split_fingerprint for record in group})
    return prints[0] if len(prints) == 1 else digest(prints)


def _measure(group: list[Record], protocol: EvaluationProtocol) -> _Measured:
    """Folds are pooled, then seeds and splits averaged per user; folds count only where all of them are ok."""
    runs: dict[tuple[int, int], list[Record]] = defaultdict(list)
    for record in group:
        runs[record.data["seed"], record.data["split"]["seed"]].append(record)
    complete = {run: folds for run, folds in runs.items() if all(record.status == "ok" for record in folds)}
    by_seed: dict[int, list[dict[str, UserStatistic]]] = defaultdict(list)
    n_by_split: dict[str, dict[int, int]] = defaultdict(dict)  # every seed is asked about the same test rows
    for (seed, split_seed), folds in complete.items():
        pooled = _merge(statistics.pool, [_per_user(record, protocol) for record in folds])
        by_seed[seed].append(pooled)
        for name, statistic in pooled.items():
            n_by_split[name][split_seed] = round(statistic.sums[:, 1].sum())
    averaged = _merge(statistics.average, [each for sets in by_seed.values() for each in sets])
    merged = [_merge(statistics.average, sets) for sets in by_seed.values()]
    primary = [_value(each[protocol.primary]) for each in merged if protocol.primary in each]
    plain: dict[str, list[float]] = defaultdict(list)
    for record in (record for folds in complete.values() for record in folds):
        for name, value in record.data["metrics"].items():
            if name not in averaged and value is not None:
                plain[name].append(value)
    means = {name: stdlib_statistics.fmean(values) for name, values in plain.items()}
    n = {name: sum(of_splits.values()) for name, of_splits in n_by_split.items()}
    return _Measured(averaged, n, means, _finite(statistics.spread(primary)))


def _per_user(record: Record, protocol: EvaluationProtocol) -> dict[str, UserStatistic]:
    """The record's statistics, without those that its answers do not have though counts can be made of them."""
    assert record.outcomes is not None
    found = protocol.per_user(record.outcomes)
    missing = _external(record).get("not_measured", {})
    return {name: statistic for name, statistic in found.items() if name not in missing}


def _external(record: Record) -> dict[str, Any]:
    """What the record says of answers that were made elsewhere; nothing for any other record."""
    return dict(record.data.get(EXTERNAL) or {})


def _merge(
    how: Callable[[Sequence[UserStatistic]], UserStatistic], sets: Sequence[dict[str, UserStatistic]]
) -> dict[str, UserStatistic]:
    """Metric by metric, one statistic from those sets that have it."""
    merged = {}
    for name in dict.fromkeys(name for each in sets for name in each):
        found = [each[name] for each in sets if name in each]
        merged[name] = how(found) if len(found) > 1 else found[0]
    return merged


def _value(statistic: UserStatistic) -> float:
    return float(statistic.combine(statistic.sums.sum(axis=0)))


def _finite(value: float) -> float | None:
    """JSON has no NaN: what is undefined is null."""
    return value if math.isfinite(value) else None


def _figures(measured: list[_Measured]) -> list[Figures]:
    """Mean, interval and ``n`` of every metric of every row, from one pass over resampled users."""
    names = [(index, name) for index, row in enumerate(measured) for name in row.statistics]
    intervals = statistics.bootstrap_intervals([measured[index].statistics[name] for index, name in names])
    figures: list[Figures] = [{} for _ in measured]
    for (index, name), interval in zip(names, intervals, strict=True):
        figures[index][name] = {**interval.edges(), "n": measured[index].n[name]}
    for index, row in enumerate(measured):
        nothing = {"low": None, "high": None, "n": None}
        figures[index] |= {name: {"mean": mean, **nothing} for name, mean in row.plain.items()}
    return figures


def _row(group: list[Record], metrics: Figures, spread: float | None, results: Path) -> Row:
    first = group[0].data
    worst = min(group, key=lambda record: _WORST_FIRST.index(record.status))
    measured = [record for record in group if record.status == "ok"]
    cost = costs.of_records(measured)
    not_measured = costs.not_measured(cost, first["device"], _is_external(group), _untimed(measured))
    if spread is None:
        not_measured["spread"] = "needs two model seeds"
    unanswered = {name: why for record in group for name, why in _external(record).get("not_measured", {}).items()}
    return {
        "dataset": first["dataset"]["name"],
        "protocol": first["protocol"]["name"],
        "protocol_config": _protocol_data(group[0])["config"],
        "algorithm": first["algorithm"]["name"],
        "label": first["algorithm"]["label"],
        "config": first["algorithm"]["config"],
        "tuned": first["algorithm"].get("tuned"),
        "device": first["device"],
        "threads": first["threads"],
        "seeds": sorted({record.data["seed"] for record in group}),
        "split_seeds": sorted({record.data["split"]["seed"] for record in group}),
        "status": worst.status,
        "reason": worst.data["reason"],
        "rank": None,
        "group": None,
        "metrics": {**metrics, **dict.fromkeys(unanswered, dict.fromkeys(("mean", "low", "high", "n")))},
        "spread": spread,
        "to_oracle": None,
        "ranked_users": max(map(_ranked_users, measured), default=None),
        "cost": cost,
        "busy": sorted({reason for record in measured for reason in _busy(record)}),
        "not_measured": {**not_measured, **unanswered},
        "external": _files(group, cost) if _is_external(group) else None,
        "support": first["algorithm"]["support"],
        "split_fingerprint": _split_fingerprint(group),
        "hardware_fingerprint": first["hardware_fingerprint"],
        "records": sorted(str(record.path.relative_to(results)) for record in group),
    }


def _files(group: list[Record], cost: dict[str, Any]) -> dict[str, Any]:
    """What was scored, and which figures of cost its maker reports."""
    return {
        "files": [file for record in group for file in _external(record)["files"]],
        "self_reported": [name for name, value in cost.items() if value is not None],
    }


def _ranked_users(record: Record) -> int:
    return int((record.data["timings"] or _external(record))["ranked_users"])


def _untimed(group: list[Record]) -> str | None:
    """Why no record of a row has seconds, or None."""
    reasons = [record.untimed for record in group]
    return None if None in reasons else next(iter(reasons), None)


def _busy(record: Record) -> list[str]:
    """``fit: waited for a core 12% of the time``; nothing where nobody looked, and for answers from elsewhere."""
    loads = (record.data["timings"] or {"host": None})["host"] or {}
    return [f"{part}: {reason}" for part, load in loads.items() for reason in host.busy(load)]


# --- how sure the order is -------------------------------------------------------------------------------------------


def _evidence(
    rows: list[Row],
    of_rows: list[dict[str, UserStatistic]],
    oracle: UserStatistic | None,
    protocol: EvaluationProtocol,
) -> Evidence:
    """``rows`` are the ranked ones in order, ``of_rows`` their statistics."""
    primary = {str(row["rank"]): each[protocol.primary] for row, each in zip(rows, of_rows, strict=True)}
    full = f"{protocol.primary}/full"
    both = [each for row, each in zip(rows, of_rows, strict=True) if row["label"] == "default" and full in each]
    return Evidence(
        primary=primary,
        p=statistics.holm(statistics.permutation_p_values(primary)),
        minimum_detectable_difference=_finite(statistics.minimum_detectable_difference(primary.values())),
        rank_agreement=_agreement([each[protocol.primary] for each in both], [each[full] for each in both]),
        oracle=oracle,
        better_than_oracle=_better_than_oracle(rows, primary, oracle, protocol),
    )


def _better_than_oracle(
    rows: list[Row], primary: dict[str, UserStatistic], oracle: UserStatistic | None, protocol: EvaluationProtocol
) -> dict[str, float] | None:
    if oracle is None:
        return None
    p = statistics.better_than_p_values({ORACLE: oracle, **primary}, ORACLE, protocol.higher_is_better)
    corrected = statistics.holm(p)
    return {row_name(row): corrected[str(row["rank"])] for row in rows}


def _agreement(sampled: list[UserStatistic], full: list[UserStatistic]) -> dict[str, float | None] | None:
    if len(sampled) < 2:
        return None
    try:
        tau = statistics.rank_agreement(sampled, full)
    except UserError:  # no user whose catalogue all of them ranked
        return None
    return {"tau_b": _finite(tau.mean), "low": _finite(tau.low), "high": _finite(tau.high), "n_rows": len(sampled)}


def _set_groups(rows: list[Row], evidence: Evidence, protocol: EvaluationProtocol) -> None:
    values = {name: _value(statistic) for name, statistic in evidence.primary.items()}
    groups = statistics.rank_groups(values, evidence.p, protocol.higher_is_better)
    for row in rows:
        row["group"] = groups[str(row["rank"])]


def _set_ways(rows: list[Row], evidence: Evidence, protocol: EvaluationProtocol) -> None:
    """How far each ranked row goes from the baseline to the oracle; nothing where one of the two is missing."""
    starts = [row for row in rows if row["algorithm"] == protocol.baseline and row["label"] == "default"]
    if evidence.oracle is None or not starts:
        return
    start = evidence.primary[str(starts[0]["rank"])]
    ways = [statistics.way_between(evidence.primary[str(row["rank"])], start, evidence.oracle) for row in rows]
    for row, interval in zip(rows, statistics.bootstrap_intervals(ways), strict=True):
        row["to_oracle"] = interval.edges()
