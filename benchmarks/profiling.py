"""``run --profile``: where each cell's seconds went, from its record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from benchmarks.records import Record

STAGES = ("start", "import", "load", "warm-up", "search", "fit", "score", "metrics", "throughput", "write")
"""In the order in which a worker comes by them. ``start``: the process until it reads its request; ``import``: of
frameworks; ``warm-up``: a tiny fit that initialises them; ``search``: early stopping and calibration; ``fit``: all
timed fits; ``metrics``: counting what was scored."""

_OTHER, _TOTAL = "other", "total"


def profile(records: Iterable[Record]) -> str:
    """One block for each data set, protocol and split, one line for each cell; stages that no cell has are left out."""
    measured = [record for record in records if (record.data["timings"] or {}).get("stages")]
    return "\n\n".join(_block(place, list(cells)) for place, cells in groupby(measured, _place))


def _place(record: Record) -> str:
    data = record.data
    return f"{data['dataset']['name']} · {data['protocol']['name']} · split {data['split']['seed']}"


def _block(place: str, cells: Sequence[Record]) -> str:
    seconds = [_seconds(record) for record in cells]
    columns = [name for name in (*STAGES, _OTHER, _TOTAL) if any(name in each for each in seconds)]
    lines = [["cell", *columns]]
    lines += [[_name(record), *map(_text, map(each.get, columns))] for record, each in zip(cells, seconds, strict=True)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [" ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    return "\n".join([f"seconds of each cell: {place}", rows[0], "─" * len(rows[0]), *rows[1:]])


def _seconds(record: Record) -> dict[str, float]:
    """Stages, what is none of them (the end of the process, and the parent's part), and the sum."""
    stages: dict[str, float] = record.data["timings"]["stages"]
    total: float = record.data["wall_s"]
    return {**stages, _OTHER: max(0.0, total - sum(stages.values())), _TOTAL: total}


def _name(record: Record) -> str:
    data = record.data
    unusual = [data["algorithm"]["label"]] if data["algorithm"]["label"] != "default" else []
    unusual += [data["device"]] if data["device"] != "cpu" else []
    unusual += [f"seed {data['seed']}"] if data["seed"] else []
    return f"{data['algorithm']['name']} ({', '.join(unusual)})" if unusual else str(data["algorithm"]["name"])


def _text(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.2f}" if seconds < 10 else f"{seconds:.1f}" if seconds < 100 else f"{seconds:.0f}"
