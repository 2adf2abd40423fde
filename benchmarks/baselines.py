"""What the benchmarks of RecGauge itself took before, and whether they take longer now.

A baseline is a file for each kind of machine, ``results/baselines/<fingerprint>.json``: for each benchmark its ratios
to its control, with the reason why they were accepted.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from benchmarks.environment import digest, hardware
from datasets.errors import UserError

SCHEMA = 1

ALPHA = 0.001
"""Rounds of one process are alike, and processes differ by some per cent: a small p says that rounds are not to blame,
the factor and the second process that processes are not."""

FOREIGN = 1.5
"""A factor more where the baseline is of another kind of machine, on which ours and control need not age alike."""


@dataclass(frozen=True)
class Reference:
    """Ratios to compare with.

    Attributes:
        ratios: seconds of ours by seconds of the control, a round each.
        foreign: whether they were measured on another kind of machine.
    """

    ratios: Sequence[float]
    foreign: bool = False


@dataclass(frozen=True)
class Verdict:
    """One benchmark compared with what it took before.

    Attributes:
        now, before: median ratios of ours to the control.
        p: one-sided Mann-Whitney: how probable ratios as high as these would be, had nothing changed.
        allowed: by which factor ``now`` may be above ``before``.
        foreign: whether ``before`` is of another kind of machine.
    """

    now: float
    before: float
    p: float
    allowed: float
    foreign: bool

    @property
    def change(self) -> float:
        """``now`` by ``before``: 1.3 takes 30 % longer."""
        return self.now / self.before

    @property
    def slower(self) -> bool:
        """By more than allowed, and not by chance."""
        return self.change > self.allowed and self.p < ALPHA


def judge(ratios: Sequence[float], reference: Reference, factor: float) -> Verdict:
    """Compare a measurement with what was measured before; ``factor`` is the benchmark's own."""
    from scipy.stats import mannwhitneyu

    p = mannwhitneyu(ratios, reference.ratios, alternative="greater", method="asymptotic").pvalue
    allowed = factor * (FOREIGN if reference.foreign else 1)
    return Verdict(float(np.median(ratios)), float(np.median(reference.ratios)), float(p), allowed, reference.foreign)


def machine() -> dict[str, Any]:
    """What decides the ratios of work on one thread: the CPU, with what tells two of one name apart, and the system."""
    found = {}
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name in ("cpu family", "model", "stepping", "cache size", "CPU implementer", "CPU part"):
            found[name] = value
    return {"cpu": hardware()["cpu"], "os": hardware()["os"], **found}


def references(folder: Path) -> dict[str, Reference]:
    """By benchmark: the ratios of this kind of machine, else those of another, of several the highest."""
    own = _file(folder)
    known = {path: Reference(entry["ratios"]) for path, entry in read(own)["benchmarks"].items()}
    for other in sorted(set(folder.glob("*.json")) - {own}):
        for path, entry in read(other)["benchmarks"].items():
            candidate = Reference(entry["ratios"], foreign=True)
            held = known.get(path)
            if held is None or (held.foreign and np.median(candidate.ratios) > np.median(held.ratios)):
                known[path] = candidate
    return known


def accept(
    folder: Path, ratios: Mapping[str, Sequence[float]], about: Mapping[str, Any], known: Container[str]
) -> Path:
    """Write ``ratios`` into this machine's baseline; other ``known`` benchmarks stay as they are, unknown ones go.

    ``about``: reason, commit and date, kept with each benchmark.
    """
    path = _file(folder)
    kept = {name: entry for name, entry in read(path)["benchmarks"].items() if name in known}
    for name, values in ratios.items():
        kept[name] = {**about, "ratios": [float(f"{value:.4g}") for value in values]}
    entries = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept))
    head = f'"schema": {SCHEMA},\n "machine": {json.dumps(machine())}'
    records.write_text(path, f'{{{head},\n "benchmarks": {{\n{entries}\n }}}}\n')
    return path


def read(path: Path) -> dict[str, Any]:
    """A baseline file; one that is not there holds nothing.

    Raises:
        UserError: the file is damaged, or from another version.
    """
    if not path.exists():
        return {"schema": SCHEMA, "benchmarks": {}}
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: no valid JSON ({error}): restore it from git, or remove it") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or "benchmarks" not in content:
        raise UserError(f"{path}: no baseline of schema {SCHEMA}, which this version reads: accept a new one")
    entries = content["benchmarks"].items() if isinstance(content["benchmarks"], dict) else [("benchmarks", None)]
    for name, entry in entries:
        if not (isinstance(entry, dict) and _are_ratios(entry.get("ratios"))):
            raise UserError(f"{path}: {name} has no list of ratios above 0: restore it from git, or remove it")
    return content


def _are_ratios(values: object) -> bool:
    if not isinstance(values, list) or not values:
        return False
    return all(isinstance(each, int | float) and not isinstance(each, bool) and 0 < each < 1e9 for each in values)


def _file(folder: Path) -> Path:
    return folder / f"{digest(machine())[:12]}.json"
