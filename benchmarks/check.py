"""``check``: is the harness right, and does an algorithm keep the contract? All adapter code runs in workers.

With ``--results`` it looks at records instead, see ``record_check.py``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from algorithms import registry
from algorithms.registry import AlgorithmSpec
from benchmarks import plan, records
from benchmarks.cli import OK, SOME_FAILED
from benchmarks.environment import require_our_datasets_package, worker_variables
from benchmarks.executors.local import Ending, Event, Limits, LocalExecutor, Respond
from benchmarks.plugins import load_plugin
from benchmarks.record_check import check_results
from benchmarks.run import wrong_canaries
from datasets.cache import cache_root
from datasets.errors import UserError

SECONDS_PER_ALGORITHM = 60.0
MEMORY_BYTES = 8 * 2**30

Tell = Callable[[str, Sequence[str]], None]
"""Receives a name and one line for each check that it failed."""

Environment = tuple[str | None, tuple[tuple[str, str], ...]]
"""Extra, environment variables."""


def check(options: argparse.Namespace) -> int:
    """Canaries, then the contract suite on the named algorithms or on all; prints each as it is known."""
    require_our_datasets_package()
    for path in options.plugin:
        load_plugin(path)
    if options.results is not None:
        if options.name:
            raise UserError(f"check: algorithms or --results {options.results}: leave out one of them")
        return check_results(options.results)
    specs = [registry.spec(name) for name in dict.fromkeys(options.name)] or list(registry.ALGORITHMS.values())
    plugins = [str(path.resolve()) for path in options.plugin]
    width = max(len(name) for name in ("canaries", *(spec.name for spec in specs)))
    failed = False

    def tell(name: str, failures: Sequence[str]) -> None:
        nonlocal failed
        failed |= bool(failures)
        print(f"{name:<{width}}  {'failed' if failures else 'ok'}", flush=True)
        for failure in failures:
            print(f"  {failure}", flush=True)

    with LocalExecutor() as executor:
        tell("canaries", wrong_canaries(executor))
        check_algorithms(executor, specs, plugins, tell)
    for spec in specs:
        if lacking := plan.not_installed(spec):
            print(f"{spec.name:<{width}}  not checked: {lacking}")
    return SOME_FAILED if failed else OK


def check_algorithms(executor: LocalExecutor, specs: Sequence[AlgorithmSpec], plugins: list[str], tell: Tell) -> None:
    """The contract suite on each installed algorithm, in one worker for each extra and environment."""
    for (_, variables), names in by_environment(specs, tell).items():
        _check_in_worker(executor, names, dict(variables), plugins, tell)


def by_environment(specs: Sequence[AlgorithmSpec], tell: Tell) -> dict[Environment, list[str]]:
    """Names of installed algorithms by what they share; frameworks of two extras never meet."""
    groups: dict[Environment, list[str]] = {}
    for spec in specs:
        if plan.not_installed(spec):
            continue
        try:
            (choice,) = plan.choose_algorithms([spec.name], {})
            variables = tuple(sorted(choice.variables.items()))
        except Exception as problem:  # whatever is wrong with an adapter's module is that adapter's failure
            tell(spec.name, [f"cannot be loaded: {type(problem).__name__}: {problem}"])
        else:
            groups.setdefault((spec.extra, variables), []).append(spec.name)
    return groups


def _check_in_worker(
    executor: LocalExecutor, names: Sequence[str], variables: dict[str, str], plugins: list[str], tell: Tell
) -> None:
    """One worker for all ``names``; when it dies, the algorithm it was at has failed and a new one takes the rest."""
    left = list(names)

    def respond(event: Event) -> None:
        if event["event"] == "checked":
            left.remove(event["name"])
            tell(event["name"], event["failures"])

    # Cells run with one fixed hash seed; here scores that depend on it shall be found.
    variables = {**worker_variables(1, variables), "PYTHONHASHSEED": "random"}
    while left:
        limits = Limits(SECONDS_PER_ALGORITHM * len(left), MEMORY_BYTES)
        request = {"kind": "check", "plugins": plugins, "names": list(left)}
        ending = _run(executor, request, limits, variables, respond)
        if left:
            tell(left.pop(0), [f"{ending.status}: {ending.reason}"])


def _run(
    executor: LocalExecutor, request: Event, limits: Limits, variables: dict[str, str], respond: Respond
) -> Ending:
    with records.scratch_folder(cache_root(), str(request["kind"])) as scratch:
        return executor.run(request, limits, variables, scratch, respond)
