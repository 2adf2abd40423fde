"""In the worker: what a loaded model says of a user or an item. A question and its answer are JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms.base import Recommender
from datasets.top_k import PADDING

Question = dict[str, Any]
"""``ask`` (``recommend``, ``similar`` or ``audience``), ``k``, and by inner index: ``user`` or ``item``; ``without``,
the items or users that are not to be listed; ``trained``, whether the item has a training row."""

Answer = dict[str, Any]
"""``indices`` of items or users, best first, and their ``values``; or ``reason``, in words, why there are none."""


def answer(model: Recommender, question: Question) -> Answer:
    """The list that ``question`` asks for, of at most ``k``."""
    return _ASK[question["ask"]](model, question)


def _recommend(model: Recommender, question: Question) -> Answer:
    user, without = question["user"], question["without"]
    if _all_equal(model.score(np.array([user]))[0]):
        return _none("gives every item the same score for this user")
    rated = sparse.csr_matrix(
        (np.ones(len(without), np.float32), (np.full(len(without), user), without)),
        shape=(model.n_users, model.n_items),
    )
    listed = _without_padding(model.recommend(np.array([user]), question["k"], rated)[0])
    return _list(listed, model.score_pairs(np.full(len(listed), user), listed))


def _similar(model: Recommender, question: Question) -> Answer:
    item = question["item"]
    if not model.similar_by:
        return _none("compares no items")
    if reason := _unknown_item(model, question):
        return _none(reason)
    among = np.ones(model.n_items, dtype=np.bool_)
    if not model.uses_item_metadata:
        among[question["without"]] = False
    similarities = model.similarities(item)
    others = np.delete(np.where(among, similarities, -np.inf), item)
    if _all_equal(others[np.isfinite(others)]):
        return _none("finds every item as similar as any other")
    listed = _without_padding(model.similar(item, question["k"], among))
    if not len(listed):
        return _none("finds no item similar to this one")
    return {**_list(listed, similarities[listed]), "by": model.similar_by}


def _audience(model: Recommender, question: Question) -> Answer:
    item = question["item"]
    if reason := _unknown_item(model, question):
        return _none(reason)
    users = np.arange(model.n_users)
    if _all_equal(model.score_pairs(users, np.full(model.n_users, item))):
        return _none("gives every user the same score for this item")
    listed = _without_padding(model.audience(item, question["k"], np.array(question["without"], dtype=np.intp)))
    return _list(listed, model.score_pairs(listed, np.full(len(listed), item)))


_ASK: dict[str, Callable[[Recommender, Question], Answer]] = {
    "recommend": _recommend,
    "similar": _similar,
    "audience": _audience,
}


def _unknown_item(model: Recommender, question: Question) -> str | None:
    if question["trained"] or model.uses_item_metadata:
        return None
    return "was fitted on no row of this item, and uses no metadata of items"


def _all_equal(values: npt.NDArray[Any]) -> bool:
    return len(values) > 1 and bool((values == values[0]).all())


def _without_padding(listed: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return listed[listed != PADDING]


def _list(indices: npt.NDArray[np.int32], values: npt.NDArray[Any]) -> Answer:
    return {"indices": indices.tolist(), "values": values.astype(float).tolist(), "reason": None}


def _none(reason: str) -> Answer:
    return {"indices": [], "values": [], "reason": reason}
