"""Kept models: found by their records, checked against them, and asked in workers of their own environments."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import plan, records
from benchmarks.cli import PROTOCOL_FLAGS
from benchmarks.executors.local import Event, Limits, LocalExecutor
from benchmarks.looking import Answer, Question
from benchmarks.oracle import ORACLE
from benchmarks.progress import Display
from benchmarks.run import Planned, RunRequest, plan_cells, sealed_paths
from datasets.cache import cache_root
from datasets.errors import UserError

LIMITS = Limits(seconds=600, memory_bytes=8 * 2**30)


class WorkerFailed(Exception):
    """A worker ended before its models had answered: a defect of an adapter, with what the worker said of it."""


@dataclass(frozen=True)
class Kept:
    """A fitted model on disk."""

    cell: plan.Cell
    record: Path
    folder: Path

    @property
    def name(self) -> str:
        """``als``, ``als (report)``."""
        return _name(self.cell)


def _name(cell: plan.Cell) -> str:
    return cell.name.partition(" · ")[0]


def find(
    request: RunRequest, preparation: plan.Preparation, meta: dict[str, Any], options: argparse.Namespace
) -> list[Kept]:
    """The kept models of one split: of every algorithm named, or of all that there are where none is.

    Raises:
        UserError: no model is there, with the command that makes it; or a file of one is not as it was saved.
    """
    planned = [each for each in plan_cells(request, [(preparation, meta)]) if each.cell.choice.spec is not ORACLE]
    there = [each for each in planned if each.known is not None and each.known.data["model"] is not None]
    absent = [each for each in planned if each not in there]
    damages = [damage for each in absent if (damage := records.damage_at(each.path)) is not None]
    if damages and (options.algorithm or not there):
        raise UserError(f"{damages[0]}: 'run --keep-models' makes it again")
    if not there or (options.algorithm and absent):
        raise _no_model(absent, request, options)
    records.tell(damages)
    return [_checked(each) for each in there]


def _checked(planned: Planned) -> Kept:
    assert planned.known is not None
    return Kept(planned.cell, planned.known.path, records.checked_model(planned.known))


def ask(
    kept: Sequence[Kept], question: Question, request: RunRequest, preparation: plan.Preparation, display: Display
) -> list[Answer]:
    """The answer of each model, in one worker for each extra and environment: frameworks never meet.

    Raises:
        UserError: a model's files cannot be read.
        WorkerFailed: a model raised an error, or its worker died or broke a limit.
    """
    answers: dict[int, Answer] = {}
    with LocalExecutor() as executor, display:
        display.start(len(kept), 0)
        for group in _by_environment(kept):
            models = [kept[place] for place in group]
            display.running(f"load {', '.join(model.name for model in models)}")
            left = list(group)

            def respond(event: Event, left: list[int] = left, total: int = len(group)) -> None:
                if event["event"] == "looked":
                    answers[left.pop(0)] = event
                    display.step("answer", total - len(left), total)

            message = {
                "kind": "look",
                "plugins": [str(path.resolve()) for path in request.plugins],
                "algorithms": [model.cell.choice.spec.target for model in models],
                "folders": [str(model.folder) for model in models],
                "forbidden": [str(path) for path in (*sealed_paths(request.results, preparation), request.tuned)],
                "question": question,
            }
            variables = models[0].cell.variables
            with records.scratch_folder(cache_root(), "look") as scratch:
                ending = executor.run(message, LIMITS, variables, scratch, respond)
            if ending.status != "ok":
                trace = ending.event.get("traceback") or ""
                name = kept[left[0]].name if left else models[-1].name
                raise WorkerFailed(f"{trace}recgauge: {name}: {ending.status}: {ending.reason}")
    return [answers[place] for place in range(len(kept))]


def _by_environment(kept: Sequence[Kept]) -> list[list[int]]:
    """Places in ``kept``, those of one environment together."""
    groups: dict[object, list[int]] = {}
    for place, model in enumerate(kept):
        groups.setdefault(model.cell.environment, []).append(place)
    return list(groups.values())


def _no_model(absent: Sequence[Planned], request: RunRequest, options: argparse.Namespace) -> UserError:
    """Why the algorithms asked for have no model, and the command that makes those that can have one."""
    if options.algorithm:
        for each in absent:
            if reason := each.cell.cannot_run(request.limits):
                return UserError(f"no model of {each.cell.name}: {reason}")
            if each.known is not None:
                return UserError(f"no model of {each.cell.name}: this algorithm cannot be saved: leave it out")
    names = [_name(each.cell) for each in absent] if options.algorithm else ["any algorithm"]
    place = absent[0].cell.name.partition(" · ")[2]
    return UserError(f"no saved model of {', '.join(names)} · {place} in {options.results}: {_command(options)}")


def _command(options: argparse.Namespace) -> str:
    """``run`` with what this command was given, so that it fits the models that are asked for and saves them."""
    words = ["python", "-m", "benchmarks", "run", "--keep-models"]
    for flag in ("dataset", "protocol", "algorithm", "set", "plugin"):
        for value in getattr(options, flag) or ():
            words += [f"--{flag}", str(value)]
    for flag in ("columns", "items", "users", "scale", *PROTOCOL_FLAGS):
        if (value := getattr(options, flag)) is not None:
            words += [f"--{flag.replace('_', '-')}", str(value)]
    if options.drop_train_only:
        words.append("--drop-train-only")
    if options.seed:
        words += ["--seeds", str(options.seed + 1)]
    if options.split_seed != plan.FIRST_SPLIT_SEED:
        words += ["--splits", str(options.split_seed - plan.FIRST_SPLIT_SEED + 1)]
    for flag, default in (("threads", 1), ("device", "cpu"), ("results", Path("results/runs"))):
        if (value := getattr(options, flag)) != default:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)
