"""The commands that measure or read records, behind ``cli.py``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import leaderboard as boards
from benchmarks import plan, records
from benchmarks.cli import NOTHING_MEASURED, OK, PROTOCOL_FLAGS, SOME_FAILED
from benchmarks.environment import require_our_datasets_package
from benchmarks.plugins import load_plugin
from benchmarks.progress import Display
from benchmarks.run import NothingMeasured, RunRequest, execute, plan_cells
from benchmarks.split_store import read_meta
from datasets.errors import UserError


def run(options: argparse.Namespace) -> int:
    """Measure what is not known yet, print the tables of this run's cells."""
    require_our_datasets_package()
    request = _request(options)
    if options.dry_run:
        return _dry_run(request)
    try:
        result = execute(request, Display())
    except NothingMeasured as error:
        print(f"recgauge: {error}", file=sys.stderr)
        return NOTHING_MEASURED
    tables = boards.build(result.records, request.results)
    print(boards.render(tables, result.not_measured, options.format))
    return OK if all(record.status in ("ok", "skipped") for record in result.records) else SOME_FAILED


def leaderboard(options: argparse.Namespace) -> int:
    """Print the tables of everything recorded in a folder."""
    for path in options.plugin:
        load_plugin(path)
    found, damaged = records.read_all(options.results)
    for path in damaged:
        print(f"recgauge: {path}: not a readable record, left out", file=sys.stderr)
    names = _split_names(options.dataset)
    if names:
        found = [record for record in found if record.data["dataset"]["name"] in names]
    if not found:
        raise UserError(f"{options.results}: no records here: 'python -m benchmarks run' makes some")
    print(boards.render(boards.build(found, options.results), {}, options.format))
    return OK


def _request(options: argparse.Namespace) -> RunRequest:
    for path in options.plugin:
        load_plugin(path)
    suite = plan.load_suite(options.suite)
    overrides = plan.parse_assignments([*options.set, *_protocol_assignments(options)])
    choices = plan.choose_algorithms(_split_names(options.algorithm) or suite.algorithms, overrides)
    limits = plan.load_limits(suite.budget, options.time_limit, options.memory_limit)
    protocols = _split_names(options.protocol) or suite.protocols
    plan.require_all_used(overrides, [*(choice.spec.name for choice in choices), *protocols])
    datasets, missing = plan.find_datasets(_split_names(options.dataset) or suite.datasets, bool(options.dataset))
    first = plan.FIRST_SPLIT_SEED
    split_seeds = range(first, first + (options.splits or suite.splits))
    return RunRequest(
        preparations=plan.preparations(datasets, protocols, split_seeds, overrides),
        choices=choices,
        seeds=list(range(options.seeds or suite.seeds)),
        threads=options.threads,
        device=options.device,
        limits=limits,
        budget=suite.budget,
        repeats=suite.repeats,
        results=options.results.resolve(),
        plugins=options.plugin,
        not_measured=missing,
    )


def _dry_run(request: RunRequest) -> int:
    """Show the plan; a split that is not prepared yet has no key yet, so its cells count as new."""
    for preparation in request.preparations:
        meta = read_meta(preparation.folder)
        place = f"{preparation.dataset.name} · {preparation.protocol.name} · split {preparation.split_seed}"
        if meta is None:
            for choice in request.choices:
                print(f"new      {choice.spec.name} ({choice.label}) · {place} · {len(request.seeds)} seed(s)")
            continue
        for planned in plan_cells(request, [(preparation, meta)]):
            reason = planned.cell.cannot_run(request.limits)
            state = "known" if planned.known else "skip" if reason else "new"
            print(f"{state:8} {planned.cell.name}" + (f": {reason}" if reason else ""))
    for dataset, reason in request.not_measured.items():
        print(f"missing  {dataset}: {reason}")
    return OK


def _protocol_assignments(options: argparse.Namespace) -> list[str]:
    """The protocols' own flags in the form of ``--set``."""
    return [
        f"{protocol}.{option}={getattr(options, option)}"
        for option, protocol in PROTOCOL_FLAGS.items()
        if getattr(options, option) is not None
    ]


def _split_names(values: Sequence[str] | None) -> list[str]:
    """``["a,b", "c"]`` -> ``["a", "b", "c"]``."""
    return [name for value in values or () for name in value.split(",") if name]
