"""``recommend``, ``similar``, ``audience``: what kept models say of one user or item, side by side."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from benchmarks import kept, plan, split_store
from benchmarks.cli import OK, SOME_FAILED
from benchmarks.commands import chosen, split_names
from benchmarks.environment import require_our_datasets_package
from benchmarks.look_render import render
from benchmarks.looking import Question
from benchmarks.progress import Display
from benchmarks.run import PrepareRequest, RunRequest
from benchmarks.run import prepare as prepare_splits
from benchmarks.titles import CLOSE, FOUND, Match, Titles, printable
from datasets import registry
from datasets.errors import UserError
from datasets.store import load_cached
from datasets.types import Dataset

DATASET, PROTOCOL = "ml-latest-small", "leave-one-out"
BUDGET = "large"
LIKED_SHARE = 0.8
"""Ratings from this share of the highest one on are likes: 4 of 5 stars."""
OFFERED = 3
"""Other titles or ids that are named."""

Report = dict[str, Any]
"""What is printed, as JSON: ``results/README.md`` has its fields."""


@dataclass(frozen=True)
class Scene:
    """What a command looks at: a data set, the rows that its models were fitted on, and the models."""

    options: argparse.Namespace
    request: RunRequest
    preparation: plan.Preparation
    dataset: Dataset
    trained: sparse.csr_matrix
    models: list[kept.Kept]

    @property
    def trained_items(self) -> npt.NDArray[np.bool_]:
        """(n_items,) whether an item has a row that the models were fitted on."""
        return np.bincount(self.trained.indices, minlength=self.dataset.interactions.n_items) > 0


def recommend(options: argparse.Namespace) -> int:
    """What a user likes, what the user rated lowest, and each model's list."""

    def look(scene: Scene) -> tuple[Report, Question]:
        user = _find_user(scene.dataset, options.user)
        rated = scene.dataset.interactions.matrix()[user].indices.tolist()
        about = {
            "user": _user(scene.dataset, user),
            **_taste(scene.dataset, user, options),
            "trained": int(scene.trained[user].nnz),
        }
        return about, {"ask": "recommend", "user": user, "without": rated}

    return _look(options, look)


def similar(options: argparse.Namespace) -> int:
    """The items most like one, by what each model knows of items."""

    def look(scene: Scene) -> tuple[Report, Question]:
        item, about = _item_report(scene)
        without = np.flatnonzero(~scene.trained_items).tolist()
        return about, {"ask": "similar", "item": item, "without": without}

    return _look(options, look)


def audience(options: argparse.Namespace) -> int:
    """The users with the highest scores for an item that they have not rated."""

    def look(scene: Scene) -> tuple[Report, Question]:
        item, about = _item_report(scene)
        rows = scene.dataset.interactions
        return about, {"ask": "audience", "item": item, "without": rows.users[rows.items == item].tolist()}

    return _look(options, look)


def _look(options: argparse.Namespace, look: Callable[[Scene], tuple[Report, Question]]) -> int:
    require_our_datasets_package()
    scene = _scene(options)
    about, question = look(scene)
    rows = scene.dataset.interactions
    longest = rows.n_users if question["ask"] == "audience" else rows.n_items
    question |= {"k": min(options.n, longest), "trained": about["trained"] > 0}
    try:
        answers = kept.ask(scene.models, question, scene.request, scene.preparation, Display())
    except kept.WorkerFailed as failure:
        print(failure, file=sys.stderr)
        return SOME_FAILED
    entry = _user if question["ask"] == "audience" else _item
    report: Report = {
        "ask": question["ask"],
        "dataset": scene.dataset.name,
        "split": scene.preparation.name,
        "seed": options.seed,
        **about,
        "models": [
            {
                "algorithm": model.cell.choice.spec.name,
                "label": model.cell.choice.label,
                "name": model.name,
                "record": str(model.record.relative_to(scene.request.results)),
                "by": answer.get("by"),
                "reason": answer["reason"],
                "list": [
                    {**entry(scene.dataset, index), "value": value}
                    for index, value in zip(answer["indices"], answer["values"], strict=True)
                ],
            }
            for model, answer in zip(scene.models, answers, strict=True)
        ],
    }
    print(json.dumps(report, indent=1, allow_nan=False) if options.format == "json" else render(report))
    return OK


# -- the scene --------------------------------------------------------------------------------------------------------


def _scene(options: argparse.Namespace) -> Scene:
    """Data, split and models that the options name; nothing is fitted."""
    options.dataset = options.dataset or [DATASET]
    options.protocol = options.protocol or [PROTOCOL]
    algorithms = split_names(options.algorithm)
    _, choices, preparations, _ = chosen(argparse.Namespace(**{**vars(options), "algorithm": algorithms or ["all"]}))
    if len(preparations) != 1:
        raise UserError(f"{len(preparations)} splits asked for: name one data set and one protocol, without --folds")
    (preparation,) = preparations
    request = RunRequest(
        preparations=preparations,
        choices=choices,
        seeds=[options.seed],
        threads=options.threads,
        devices=[options.device],
        limits=plan.load_limits(BUDGET),
        budget=BUDGET,
        repeats=1,
        results=options.results.resolve(),
        compact=False,
        keep_models=True,
        tuned=options.tuned.resolve(),
        plugins=options.plugin,
        not_measured={},
    )
    prepared = prepare_splits(PrepareRequest(preparations, options.plugin, {}), Display())
    for place, reason in prepared.not_measured.items():
        raise UserError(f"{place}: {reason}")
    ((_, meta),) = prepared.splits
    models = kept.find(request, preparation, meta, options)
    loader = registry.make_loader(preparation.dataset.target, preparation.dataset.options)
    dataset = load_cached(loader, list(preparation.sources))
    return Scene(options, request, preparation, dataset, split_store.load_seen(preparation.folder / "fit"), models)


# -- users and items --------------------------------------------------------------------------------------------------


def _user(dataset: Dataset, user: int) -> Report:
    return {"user": dataset.user_ids[user].item(), "ratings": int(dataset.interactions.matrix()[user].nnz)}


def _item(dataset: Dataset, item: int) -> Report:
    title = None if dataset.item_titles is None else str(dataset.item_titles[item])
    return {"item": dataset.item_ids[item].item(), "title": title}


def _taste(dataset: Dataset, user: int, options: argparse.Namespace) -> Report:
    """What the user rated highest and lowest, the latest first among equals; at most ``-n`` of each.

    Where the values are no ratings, everything is a like and nothing is low.
    """
    rows = dataset.interactions.select(dataset.interactions.users == user)
    threshold = options.likes
    if threshold is None and dataset.rating_scale is not None:
        threshold = LIKED_SHARE * dataset.rating_scale[1]
    age = np.zeros(len(rows)) if rows.times is None else -rows.times
    liked = np.ones(len(rows), dtype=np.bool_) if threshold is None else rows.values >= threshold
    likes = np.lexsort((rows.items, age, -rows.values))
    likes = likes[liked[likes]]
    lowest = np.lexsort((rows.items, age, rows.values))
    lowest = lowest[~liked[lowest]]

    def listed(order: npt.NDArray[np.intp]) -> list[Report]:
        chosen = order[: options.n]
        return [{**_item(dataset, rows.items[row]), "rating": float(rows.values[row])} for row in chosen]

    return {
        "likes_from": threshold,
        "n_likes": len(likes),
        "likes": listed(likes),
        "lowest": listed(lowest),
    }


def _item_report(scene: Scene) -> tuple[int, Report]:
    item, others = _find_item(scene.dataset, scene.options.item)
    rows = scene.dataset.interactions
    return item, {
        "item": _item(scene.dataset, item),
        "asked": scene.options.item,
        "or": [_item(scene.dataset, other) for other in others],
        "ratings": int((rows.items == item).sum()),
        "trained": int((scene.trained.indices == item).sum()),
    }


def _find_user(dataset: Dataset, text: str) -> int:
    """The inner index of a raw id. Raises UserError with the nearest ids."""
    place = _place(dataset.user_ids, text)
    if place is None:
        raise UserError(f"--user {printable(text)}: no such user in {dataset.name}; {_nearest(dataset.user_ids, text)}")
    return place


def _find_item(dataset: Dataset, text: str) -> tuple[int, list[int]]:
    """The inner index of a raw id or a title, and other items that may be meant.

    Of titles that match about equally the one with the most ratings is taken.

    Raises:
        UserError: nothing is like it; the nearest ids or titles are named.
    """
    place = _place(dataset.item_ids, text)
    if dataset.item_titles is None:
        if place is None:
            near = _nearest(dataset.item_ids, text)
            raise UserError(f"--item {printable(text)}: no such item in {dataset.name}; {near}")
        return place, []
    matches = Titles(dataset.item_titles.tolist()).best(text, 50)
    counts = np.bincount(dataset.interactions.items, minlength=len(dataset.item_ids))
    alike = _about_equal(matches)
    if place is not None:  # what is an id is one, but may be a title too, such as "300"
        exact = [match.place for match in alike if match.likeness == 1 and match.place != place]
        return place, sorted(exact, key=lambda item: -counts[item])[:OFFERED]
    if not alike:
        titles = [f"{dataset.item_titles[match.place]} ({dataset.item_ids[match.place]})" for match in matches]
        near = f"the nearest titles: {'; '.join(titles[:OFFERED])}" if titles else _nearest(dataset.item_ids, text)
        raise UserError(f"--item {printable(text)}: no such id or title in {dataset.name}; {printable(near)}")
    taken, *others = sorted((match.place for match in alike), key=lambda item: -counts[item])
    return taken, others[:OFFERED]


def _about_equal(matches: list[Match]) -> list[Match]:
    """The best of those that count as found, and what is about as good; beside a perfect match only perfect ones."""
    if not matches or matches[0].likeness < FOUND:
        return []
    best = matches[0].likeness
    return [match for match in matches if match.likeness >= (1 if best == 1 else best - CLOSE)]


def _place(ids: npt.NDArray[Any], text: str) -> int | None:
    """The inner index of a raw id as typed; ids are sorted."""
    wanted: Any = text
    if np.issubdtype(ids.dtype, np.integer):
        if not text.strip().lstrip("-").isascii() or not text.strip().lstrip("-").isdigit():
            return None
        wanted = int(text)
        if not np.iinfo(np.int64).min <= wanted <= np.iinfo(np.int64).max:
            return None
    place = int(np.searchsorted(ids, wanted))
    return place if place < len(ids) and ids[place] == wanted else None


def _nearest(ids: npt.NDArray[Any], text: str) -> str:
    """In words: the ids that are numbers closest to this number, or those that are spelt most like it."""
    if not np.issubdtype(ids.dtype, np.integer):
        near = difflib.get_close_matches(text, ids.tolist(), n=OFFERED, cutoff=0)
        return f"the nearest ids: {', '.join(map(printable, near))}"
    try:
        wanted = float(int(text))
    except (ValueError, OverflowError):
        return f"ids are whole numbers, such as {', '.join(map(str, ids[:OFFERED]))}"
    order = np.argsort(np.abs(ids.astype(np.float64) - wanted), kind="stable")
    return f"the nearest ids: {', '.join(map(str, ids[order[:OFFERED]]))}"
