"""``check --results``: is every record of a folder as it was written, and do its figures follow from its counts?"""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks import records
from benchmarks.cli import OK, SOME_FAILED
from benchmarks.record_format import DamagedError, UnreadableError
from benchmarks.records import EXTERNAL
from datasets.errors import UserError

TOLERANCE = 1e-9
"""Of a metric that is computed again: sums in another order differ by far less."""

_RECORD = re.compile(r"[0-9a-f]{32}(-tuned)?\.json")


def check_results(folder: Path) -> int:
    """Verify every record below ``folder``; a line for each damaged file, and for what cannot be computed again.

    Raises:
        UserError: there is no record.
    """
    paths = _records_below(folder)
    if not paths:
        raise UserError(f"{folder}: no records here: 'python -m benchmarks run' makes some")
    console = Console(stderr=True)
    n_damaged, n_unreadable, n_computed, reasons = 0, 0, 0, Counter[str]()
    for path in track(paths, "records", console=console, transient=True, disable=not console.is_terminal):
        try:
            n_figures, not_computed = verify(path)
        except DamagedError as error:
            n_unreadable += isinstance(error, UnreadableError)
            n_damaged += not isinstance(error, UnreadableError)
            print(error, flush=True)
        else:
            n_computed += n_figures
            reasons.update(not_computed)
    for reason, count in reasons.most_common():
        print(f"not computed again: {reason}: {count:,} figure{'s' if count > 1 else ''}")
    n_sound = len(paths) - n_damaged - n_unreadable
    unread = f", {n_unreadable:,} not to be read here" if n_unreadable else ""
    print(f"{len(paths):,} records: {n_sound:,} sound, {n_damaged:,} damaged{unread}; "
          f"{n_computed:,} figures computed again")  # fmt: skip
    if n_damaged:
        print("what is damaged is in no table: 'python -m benchmarks run' measures it again and keeps the old files in "
              f"{folder / records.DAMAGED}")  # fmt: skip
    return SOME_FAILED if n_damaged or n_unreadable else OK


def _records_below(folder: Path) -> list[Path]:
    """Files with the name of a record at any depth; what was set aside, scratch and models are not looked into."""
    return sorted(
        path
        for path in folder.rglob("*.json")
        if _RECORD.fullmatch(path.name)
        and not any(part.startswith(".") or part.endswith(".model") for part in path.relative_to(folder).parts)
    )


def verify(path: Path) -> tuple[int, list[str]]:
    """How many figures of a record were computed again and are as it says, and why the others could not be.

    Raises:
        DamagedError: the record, its side file or its model is not as it was written, or a figure does not follow.
    """
    record = records.with_outcomes(records.load(path))
    if record.data["model"] is not None:
        records.checked_model(record)
    if record.status != "ok":
        return 0, []
    assert record.outcomes is not None
    recorded = record.data["metrics"]
    computed = records.protocol_of(record).metrics(record.outcomes)
    not_measured = (record.data.get(EXTERNAL) or {}).get("not_measured", {})
    not_computed = []
    for name, value in recorded.items():
        if name in not_measured:
            continue
        if name not in computed:
            if value is not None:
                not_computed.append(f"{name}: the side file lacks what it is made of")
        elif not _equal(value, computed[name]):
            told = "nothing" if value is None else repr(value)
            raise DamagedError(path, f"{name} is {told}, its side file makes it {computed[name]!r}")
    return len(recorded.keys() & computed.keys() - not_measured.keys()), not_computed


def _equal(recorded: float | None, computed: float) -> bool:
    """Null is what is undefined."""
    if recorded is None or not math.isfinite(computed):
        return recorded is None and not math.isfinite(computed)
    return math.isclose(recorded, computed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
