"""The commands that measure or read records, behind ``cli.py``."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from algorithms.registry import ALGORITHMS, TUNED
from benchmarks import compare as comparison
from benchmarks import leaderboard as boards
from benchmarks import plan, records
from benchmarks.cli import NOTHING_MEASURED, OK, PROTOCOL_FLAGS, SOME_FAILED
from benchmarks.environment import package_version, require_our_datasets_package
from benchmarks.executors.ray_variables import set_variables
from benchmarks.plugins import load_plugin
from benchmarks.profiling import profile
from benchmarks.progress import Display, TuningDisplay
from benchmarks.render import render
from benchmarks.run import NothingMeasured, PrepareRequest, RunRequest, execute, plan_cells
from benchmarks.run import prepare as prepare_splits
from benchmarks.split_store import read_meta
from datasets.errors import UserError

if TYPE_CHECKING:
    from benchmarks.tuning import TuneRequest


def run(options: argparse.Namespace) -> int:
    """Measure what is not known yet, print the tables of this run's cells."""
    require_our_datasets_package()
    _require_executor(options)
    request = _request(options)
    if options.dry_run:
        return _dry_run(request)
    try:
        on_ray = options.executor == "ray"
        result = _cluster(options.address).run(request, options.address) if on_ray else execute(request, Display())
    except NothingMeasured as error:
        print(f"recgauge: {error}", file=sys.stderr)
        return NOTHING_MEASURED
    found, damages = records.complete(result.records)
    records.tell(damages)
    tables = boards.build(found, request.results)
    print(render(tables, result.not_measured, options.format))
    if options.profile:
        print(f"\n{profile(result.records)}", file=sys.stderr)
    return SOME_FAILED if result.failed else OK


def tune(options: argparse.Namespace) -> int:
    """Search every algorithm's options on validation rows, print what was found and spent."""
    require_our_datasets_package()
    _require_executor(options)
    request = _tune_request(options)
    from benchmarks import tuning

    if options.dry_run:
        return _dry_tune(request)
    try:
        if options.executor == "ray":
            result = _cluster(options.address).tune(request, options.address)
        else:
            result = tuning.execute(request, TuningDisplay())
    except NothingMeasured as error:
        print(f"recgauge: {error}", file=sys.stderr)
        return NOTHING_MEASURED
    print(tuning.table(result))
    return SOME_FAILED if result.failed else OK


def _require_executor(options: argparse.Namespace) -> None:
    """Raises UserError where the executor asked for is not here."""
    if options.executor != "ray" and options.address is not None:
        raise UserError(f"--address {options.address}: of a Ray cluster: add --executor ray")
    if options.executor == "ray" and package_version("ray") is None:
        raise UserError(f"--executor ray: ray is not installed: {plan.install_command('ray')}")


def _cluster(address: str | None) -> ModuleType:
    set_variables(own_cluster=address is None)
    from benchmarks import cluster  # loads Ray, which nothing else needs

    return cluster


def prepare(options: argparse.Namespace) -> int:
    """Prepare the splits that are not prepared yet, print what each of them is."""
    require_our_datasets_package()
    suite, protocols, asked, overrides = _suite_and_flags(options)
    for name in asked.keys() & ALGORITHMS.keys():
        raise UserError(f"--set {name}.…: no option of an algorithm changes a split: leave it out")
    plan.require_all_used(asked, protocols)
    preparations, missing = _preparations(options, suite, protocols, overrides)
    known = {each.folder for each in preparations if read_meta(each.folder) is not None}
    prepared = prepare_splits(PrepareRequest(preparations, options.plugin, missing), Display())
    for preparation, meta in prepared.splits:
        _show_split(preparation, meta, was_known=preparation.folder in known)
    for name, reason in prepared.not_measured.items():
        print(f"{name}: not prepared: {reason}")
    return SOME_FAILED if prepared.failed else OK


def leaderboard(options: argparse.Namespace) -> int:
    """Print the tables of everything recorded in a folder."""
    print(render(_recorded_tables(options), {}, options.format, split_names(options.metrics)))
    return OK


def compare(options: argparse.Namespace) -> int:
    """Print how far apart two rows are, in every recorded table that holds both."""
    print(comparison.describe(_recorded_tables(options), options.a, options.b))
    return OK


def _recorded_tables(options: argparse.Namespace) -> list[boards.Table]:
    return boards.build(recorded(options, options.results), options.results)


def recorded(options: argparse.Namespace, folder: Path) -> list[records.Record]:
    """The records in ``folder``, of the data sets, protocols and presets asked for; names those that are damaged."""
    for path in options.plugin:
        load_plugin(path)
    found, damages = records.read_all(folder)
    datasets = [plan.dataset_spec(name).name if "[" in name else name for name in split_names(options.dataset)]
    for field, names in (("dataset", datasets), ("protocol", split_names(options.protocol))):
        if names:
            found = [record for record in found if record.data[field]["name"] in names]
    if presets := split_names(options.config):
        found = [record for record in found if record.data["algorithm"]["label"] in presets]
    sound, of_files = records.complete(found)
    records.tell([*damages, *of_files])
    if not sound:
        raise UserError(f"{folder}: no such records here: 'python -m benchmarks run' makes some")
    return sound


def _request(options: argparse.Namespace) -> RunRequest:
    suite, choices, preparations, missing = chosen(options, split_names(options.config))
    budget = options.budget or suite.budget
    return RunRequest(
        preparations=preparations,
        choices=choices,
        seeds=list(range(options.seeds or suite.seeds)),
        threads=options.threads,
        devices=options.device,
        limits=plan.load_limits(budget, options.time_limit, options.memory_limit),
        budget=budget,
        repeats=suite.repeats,
        results=options.results.resolve(),
        compact=options.compact,
        throughput=suite.throughput,
        keep_models=options.keep_models,
        tuned=options.tuned.resolve(),
        plugins=options.plugin,
        not_measured=missing,
    )


def _tune_request(options: argparse.Namespace) -> TuneRequest:
    from benchmarks.tuning import TuneRequest  # loads Optuna, which no other command needs

    _, choices, preparations, missing = chosen(options)
    if any(choice.label == TUNED for choice in choices):
        raise UserError(f"tune: '{TUNED}' is what tuning finds: name algorithms without it")
    if twice := _repeated([choice.spec.name for choice in choices]):
        raise UserError(f"tune: {twice} is named twice: one study for each algorithm, leave out all but one")
    if twice := _repeated([f"{each.dataset.name} · {each.protocol.name}" for each in preparations]):
        raise UserError(f"tune: {twice} has several splits: tuning takes one, leave out --folds")
    return TuneRequest(
        preparations=preparations,
        choices=choices,
        budget=plan.load_tuning_budget(
            options.budget or plan.TUNING_BUDGET,
            options.trials,
            options.seconds,
            options.time_limit,
            options.memory_limit,
        ),
        seed=options.seed,
        threads=options.threads,
        device=options.device,
        sampler=options.sampler,
        pruner=options.pruner,
        storage=options.storage,
        workers=options.workers,
        results=options.results.resolve(),
        tuned=options.tuned.resolve(),
        plugins=options.plugin,
        not_measured=missing,
    )


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


def chosen(
    options: argparse.Namespace, presets: Sequence[str] = ()
) -> tuple[plan.Suite, list[plan.AlgorithmChoice], list[plan.Preparation], dict[str, str]]:
    """The suite, and its algorithms and splits with what flags replace; last, why data sets are missing."""
    suite, protocols, asked, overrides = _suite_and_flags(options)
    choices = plan.choose_algorithms(split_names(options.algorithm) or suite.algorithms, overrides, presets)
    plan.require_all_used(asked, [*(choice.spec.name for choice in choices), *protocols])
    for choice in choices:
        if choice.label == TUNED and choice.spec.name in asked:
            raise plan.no_longer_tuned(choice.spec.name, next(iter(asked[choice.spec.name])))
    preparations, missing = _preparations(options, suite, protocols, overrides)
    return suite, choices, preparations, missing


def _suite_and_flags(
    options: argparse.Namespace,
) -> tuple[plan.Suite, Sequence[str], plan.Overrides, plan.Overrides]:
    """Suite, protocols, the options that flags ask for, and these on top of the suite's; plug-ins are loaded first."""
    for path in options.plugin:
        load_plugin(path)
    suite = plan.load_suite(options.suite)
    protocols = split_names(options.protocol) or suite.protocols
    asked = plan.parse_assignments([*options.set, *_protocol_assignments(options, protocols)])
    return suite, protocols, asked, plan.merge_overrides(plan.parse_assignments(suite.set), asked)


def _preparations(
    options: argparse.Namespace, suite: plan.Suite, protocols: Sequence[str], overrides: plan.Overrides
) -> tuple[list[plan.Preparation], dict[str, str]]:
    """The splits asked for, and the data sets that are not here with their reasons."""
    own = plan.OwnFileFlags(options.columns, options.items, options.users, options.scale)
    specs = plan.choose_datasets(split_names(options.dataset) or suite.datasets, own)
    if options.drop_train_only:
        specs = plan.drop_train_only(specs)
    datasets, missing = plan.find_datasets(specs, bool(options.dataset))
    return plan.preparations(datasets, protocols, _split_seeds(options, suite), overrides), missing


def _split_seeds(options: argparse.Namespace, suite: plan.Suite) -> range:
    """The one that ``--split-seed`` names, where the command has it; else as many as asked for."""
    if "split_seed" in options:
        return range(options.split_seed, options.split_seed + 1)
    return range(plan.FIRST_SPLIT_SEED, plan.FIRST_SPLIT_SEED + (options.splits or suite.splits))


def _show_split(preparation: plan.Preparation, meta: dict[str, Any], was_known: bool) -> None:
    dataset, split = meta["dataset"], meta["split"]
    size = sum(path.stat().st_size for path in preparation.folder.rglob("*.npy"))
    print(preparation.name)
    print(f"  data set     {dataset['n_rows']:,} rows, {dataset['n_users']:,} users, {dataset['n_items']:,} items")
    print(f"  fingerprint  {dataset['fingerprint']}")
    _show_notes(dataset["notes"])
    print(f"  split        {split['n_train']:,} train, {split['n_valid']:,} valid, {split['n_test']:,} test")
    print(f"  fingerprint  {split['fingerprint']}")
    _show_notes(split["notes"])
    print(f"  cache        {'was there' if was_known else 'written now'}, {size / 2**20:.1f} MiB")
    print(f"               {preparation.folder}\n")


def _show_notes(notes: dict[str, int]) -> None:
    for name, count in notes.items():
        print(f"               {name.replace('_', ' ')}: {count:,}")


def _dry_run(request: RunRequest) -> int:
    """Show the plan; a split that is not prepared yet has no key yet, so its cells count as new."""
    for preparation in request.preparations:
        meta = read_meta(preparation.folder)
        place = preparation.name
        if meta is None:
            for choice in plan.with_oracle(request.choices, preparation):
                _dry_run_unprepared(request, choice, place)
            continue
        for planned in plan_cells(request, [(preparation, meta)]):
            reason = planned.cell.cannot_run(request.limits)
            state = "known" if planned.known else "skip" if reason else "new"
            print(f"{state:8} {planned.cell.name}" + (f": {reason}" if reason else ""))
    for dataset, reason in request.not_measured.items():
        print(f"missing  {dataset}: {reason}")
    return OK


def _dry_run_unprepared(request: RunRequest, choice: plan.AlgorithmChoice, place: str) -> None:
    for device in choice.devices(request.devices):
        reason = choice.cannot_use(device)
        name = f"{choice.spec.name} ({choice.label}) · {place} · {len(request.seeds)} seed(s)"
        name += "" if device == "cpu" else f" · {device}"
        print(f"skip     {name}: {reason}" if reason else f"new      {name}")


def _dry_tune(request: TuneRequest) -> int:
    """Show the studies; whether one can run is known once its split is prepared."""
    from benchmarks.tuning import plan_studies

    budget = request.budget
    print(f"budget {budget.name}: {budget.trials} trials or {budget.seconds:g} s of fit and scoring a study")
    for preparation in request.preparations:
        meta = read_meta(preparation.folder)
        if meta is None:
            for choice in request.choices:
                print(f"study    {choice.spec.name} · {preparation.name}")
            continue
        for study in plan_studies(request, [(preparation, meta)]):
            options = ", ".join(study.search.space) or "nothing to tune"
            print(f"skip     {study.title}: {study.reason}" if study.reason else f"study    {study.title}: {options}")
    for dataset, reason in request.not_measured.items():
        print(f"missing  {dataset}: {reason}")
    return OK


def _protocol_assignments(options: argparse.Namespace, protocols: Sequence[str]) -> list[str]:
    """The protocols' own flags in the form of ``--set``; a flag of several protocols is for those of this run."""
    assignments = []
    for option, owners in PROTOCOL_FLAGS.items():
        if (value := getattr(options, option)) is not None:
            used = [protocol for protocol in owners if protocol in protocols] or owners
            assignments += [f"{protocol}.{option}={value}" for protocol in used]
    return assignments


def split_names(values: Sequence[str] | None) -> list[str]:
    """``["a,b", "c[x=1,y=2]"]`` -> ``["a", "b", "c[x=1,y=2]"]``: commas within brackets do not separate."""
    return [name for value in values or () for name in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", value)]
