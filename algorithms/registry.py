"""The table of algorithms. Standard library only: planning, ``list`` and cell keys never load an adapter.

One entry is enough to be listed, run, tuned, timed and tested.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from datasets.errors import UserError, unknown_name

if TYPE_CHECKING:
    from algorithms.base import Recommender

NATIVE = "native"
"""The model is made for the task."""
CALIBRATED = "calibrated"
"""Scores become ratings by a map fitted on validation rows (†)."""
BY_RATING = "by-rating"
"""A rating model that ranks by predicted rating (‡)."""

RANKER = {"ranking": NATIVE, "rating": CALIBRATED}
RATER = {"ranking": BY_RATING, "rating": NATIVE}


@dataclass(frozen=True)
class AlgorithmSpec:
    """One algorithm.

    Attributes:
        name: kebab-case.
        target: ``"module:Class"`` of its adapter, a ``Recommender``.
        summary: one line.
        packages: distributions whose versions are part of a cell's key.
        support: task -> ``native``, ``calibrated`` or ``by-rating``; a task that is missing is not supported.
        extra: the optional dependency group that it needs, or None.
        devices: where it can run.
        siblings: names of private modules beside the adapter's that decide its result too.
        presets: preset -> options that differ from the ``Config`` defaults. ``default`` is good on ml-latest-small;
            ``report``, where there is one, is what the report that named the algorithm used.
        control: a baseline that cannot learn which user likes what; the contract suite then expects no such thing.
    """

    name: str
    target: str
    summary: str
    packages: tuple[str, ...]
    support: Mapping[str, str]
    extra: str | None = None
    devices: tuple[str, ...] = ("cpu",)
    siblings: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=lambda: {"default": {}})
    control: bool = False


ALGORITHMS: dict[str, AlgorithmSpec] = {
    entry.name: entry
    for entry in (
        AlgorithmSpec(
            name="popularity",
            target="algorithms.popularity:Popularity",
            summary="the same order for everybody: how many rated an item, or how well",
            packages=("numpy",),
            support=RANKER,
            presets={"default": {}, "report": {"by": "damped-mean"}},
            control=True,
        ),
        AlgorithmSpec(
            name="random",
            target="algorithms.random:Random",
            summary="seeded uniform scores: the floor that every figure is read against",
            packages=("numpy",),
            support=RANKER,
            control=True,
        ),
        AlgorithmSpec(
            name="als",
            target="algorithms.als:ALS",
            summary="implicit-feedback matrix factorisation by alternating least squares (implicit)",
            packages=("implicit", "numpy", "scipy"),
            support=RANKER,
            presets={"default": {}, "report": {"factors": 50, "reg": 0.01, "alpha": 1.0, "epochs": 15}},
        ),
        AlgorithmSpec(
            name="lightfm",
            target="algorithms.lightfm:LightFM",
            summary="matrix factorisation with the WARP ranking loss (LightFM)",
            packages=("rectools-lightfm", "numpy", "scipy"),
            support=RANKER,
            extra="lightfm",
            siblings=("_metadata",),
            presets={"default": {}, "report": {"factors": 30, "epochs": 30}},
        ),
        AlgorithmSpec(
            name="lightfm-hybrid",
            target="algorithms.lightfm:LightFM",
            summary="LightFM whose items are sums of their own and their metadata's embeddings",
            packages=("rectools-lightfm", "numpy", "scipy"),
            support=RANKER,
            extra="lightfm",
            siblings=("_metadata",),
            presets={
                "default": {"item_features": True},
                "report": {"item_features": True, "factors": 30, "epochs": 30},
            },
        ),
        AlgorithmSpec(
            name="ease",
            target="algorithms.ease:EASE",
            summary="closed-form item weights, a linear autoencoder without self-weights",
            packages=("numpy", "scipy"),
            support=RANKER,
        ),
        AlgorithmSpec(
            name="content-cosine",
            target="algorithms.content_cosine:ContentCosine",
            summary="cosine of an item's metadata and the metadata of what the user rated",
            packages=("numpy", "scipy"),
            support=RANKER,
            siblings=("_metadata",),
            presets={"default": {}, "report": {"numbers": True}},
        ),
        AlgorithmSpec(
            name="bias",
            target="algorithms.bias:Bias",
            summary="global mean plus damped item and user means: what a rating model must beat",
            packages=("numpy",),
            support=RATER,
            control=True,
        ),
        AlgorithmSpec(
            name="item-knn",
            target="algorithms.item_knn:ItemKNN",
            summary="sum of cosine similarities to what the user rated (implicit)",
            packages=("implicit", "numpy", "scipy"),
            support=RANKER,
        ),
        AlgorithmSpec(
            name="biased-als",
            target="algorithms.biased_als:BiasedALS",
            summary="explicit matrix factorisation with biases by alternating ridge regressions",
            packages=("numpy",),
            support=RATER,
        ),
    )
}


def spec(name: str) -> AlgorithmSpec:
    """The entry called ``name``; a UserError lists the valid names."""
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]


def register(entry: AlgorithmSpec) -> None:
    """Add a plug-in's entry; a UserError when the name is taken."""
    if entry.name in ALGORITHMS:
        raise UserError(f"algorithm '{entry.name}' is already registered: give the plug-in's entry another name")
    ALGORITHMS[entry.name] = entry


def load_class(entry: AlgorithmSpec) -> type[Recommender]:
    """Import the adapter's module and return its class; frameworks are loaded later, by its ``_fit``."""
    module, _, class_name = entry.target.partition(":")
    loaded: type[Recommender] = getattr(importlib.import_module(module), class_name)
    return loaded
