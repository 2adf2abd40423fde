"""``predict``: fit one algorithm on every rating of a data set and write what the source wants predicted."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from algorithms.registry import TUNED
from benchmarks import plan, records
from benchmarks.cli import NOTHING_MEASURED, OK, SOME_FAILED
from benchmarks.environment import require_our_datasets_package
from benchmarks.plugins import load_plugin
from benchmarks.progress import Display
from benchmarks.run import NothingMeasured, RunRequest, answer
from benchmarks.worker import RAW
from datasets import registry
from datasets.cache import cache_root
from datasets.errors import DataError, UserError
from datasets.store import load_cached
from datasets.types import Dataset, Interactions, Questions
from protocols.holdout import Holdout
from protocols.registry import ProtocolSpec
from protocols.splits import VALID_SHARE, Stream, fingerprint, generator
from protocols.types import Split

BUDGET = "large"

SUBMISSION = ProtocolSpec(
    name="submission",
    target="benchmarks.predict:Submission",
    summary="predict the rows whose ratings only the source knows",
    task="rating",
    primary="rmse",
)
"""Not in the registry: its figures mean nothing, since there is no label to compare with."""


class Submission(Holdout):
    """A holdout whose test rows are the data set's questions. Their values are zeros that nothing reads.

    Validation rows for early stopping and calibration are the first round(.1 n) ratings of the drawn order; the final
    fit has every rating.
    """

    def split(self, dataset: Dataset, split_seed: int) -> Split:
        rated, asked = dataset.interactions, _questions(dataset)
        order = np.argsort(generator(split_seed, Stream.HOLDOUT).random(len(rated)), kind="stable")
        held = np.zeros(len(rated), dtype=bool)
        held[order[: round(VALID_SHARE * len(rated))]] = True
        if not held.any():
            raise DataError(f"predict: '{dataset.name}' has {len(rated)} ratings, too few to hold some back: add more")
        train, valid = rated.select(~held), rated.select(held)
        nothing = np.zeros(len(asked.ids), dtype=np.float32)
        test = Interactions(asked.users, asked.items, nothing, None, rated.n_users, rated.n_items)
        identity = fingerprint(train, valid, test, None, None, dataset.user_ids, dataset.item_ids)
        return Split(train, valid, test, None, identity, None, dataset.rating_scale)


def predict(options: argparse.Namespace) -> int:
    """Write ``ID,Rating`` for every row that the data set wants predicted, in its order, clipped to its scale."""
    require_our_datasets_package()
    _require_writable(options.out)
    request = _request(options)
    (choice,), (preparation,) = request.choices, request.preparations
    with records.scratch_folder(cache_root(), "predict") as scratch:
        side = scratch / "outcomes.npz"
        try:
            ending = answer(request, side, Display())
        except NothingMeasured as error:
            print(f"recgauge: {error}", file=sys.stderr)
            return NOTHING_MEASURED
        if ending.status != "ok":
            print(ending.event.get("traceback") or "", end="", file=sys.stderr)
            print(f"recgauge: {choice.spec.name}: {ending.status}: {ending.reason}", file=sys.stderr)
            return SOME_FAILED
        with np.load(side, allow_pickle=False) as outcomes:
            scores = outcomes[RAW]
    dataset = load_cached(
        registry.make_loader(preparation.dataset.target, preparation.dataset.options), list(preparation.sources)
    )
    asked = _questions(dataset)
    ratings = _in_file_order(scores, asked)
    if dataset.rating_scale is not None:
        ratings = np.clip(ratings, *dataset.rating_scale)
    _write(options.out, asked, ratings)
    print(f"{options.out}: {len(ratings):,} ratings by {choice.spec.name}, mean {ratings.mean():.3f}")
    return OK


def _request(options: argparse.Namespace) -> RunRequest:
    for path in options.plugin:
        load_plugin(path)
    asked = plan.parse_assignments(options.set)
    choices = plan.choose_algorithms([options.algorithm], asked)
    if len(choices) != 1:
        raise UserError(f"--algorithm {options.algorithm}: predict takes one algorithm")
    if choices[0].label == TUNED:
        raise UserError(f"--algorithm {options.algorithm}: tuned for one split, and predict has none: use --set")
    plan.require_all_used(asked, [choices[0].spec.name])
    budget = options.budget or BUDGET
    limits = plan.load_limits(budget, options.time_limit, options.memory_limit)
    (spec,) = plan.choose_datasets([options.dataset], plan.OwnFileFlags())
    if not registry.has_option(spec, "contest"):
        having = [name for name, each in registry.DATASETS.items() if registry.has_option(each, "contest")]
        raise UserError(f"predict: '{spec.name}' has no rows to predict; those that have some: {', '.join(having)}")
    ((found, sources),), _ = plan.find_datasets([registry.with_options(spec, {"contest": True})], named_by_user=True)
    preparation = plan.Preparation(
        found, sources, SUBMISSION, dataclasses.asdict(Submission.Config()), plan.FIRST_SPLIT_SEED
    )
    return RunRequest(
        preparations=[preparation],
        choices=choices,
        seeds=[options.seed],
        threads=options.threads,
        devices=[options.device],
        limits=limits,
        budget=budget,
        repeats=1,
        results=cache_root(),  # nothing is recorded; the worker's scratch folder lies there
        compact=False,
        plugins=options.plugin,
        not_measured={},
    )


def _require_writable(path: Path) -> None:
    """Before minutes of training, not after."""
    if path.is_dir() or not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise UserError(f"--out {path}: cannot be written: name a file in a folder that exists")


def _questions(dataset: Dataset) -> Questions:
    if dataset.questions is None:
        raise UserError(f"predict: '{dataset.name}' has no rows to predict")
    return dataset.questions


def _in_file_order(scores: npt.NDArray[np.floating], asked: Questions) -> npt.NDArray[np.float64]:
    """(q,) scores, which come in the order of (user, item), in the order of the source's rows."""
    ratings = np.empty(len(scores))
    ratings[np.lexsort((asked.items, asked.users))] = scores
    return ratings


def _write(path: Path, asked: Questions, ratings: npt.NDArray[np.float64]) -> None:
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with records.writing(path.absolute().parent):
        try:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["ID", "Rating"])
                writer.writerows(
                    (row, f"{rating:.6f}") for row, rating in zip(asked.ids.tolist(), ratings.tolist(), strict=True)
                )
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
