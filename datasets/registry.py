"""The data sets that exist. Standard library only: listing and planning load neither NumPy nor a loader."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets.errors import UserError, unknown_name

if TYPE_CHECKING:
    from datasets.loader import Loader


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
        name: what the user types, in kebab-case.
        target: ``"module:Class"`` of its ``datasets.loader.Loader``, imported only when it is needed.
        summary: one line for ``list``.
        licence: one line on what its terms allow.
        fetchable: whether ``locate`` may fetch it over the network; False for files of the user and for generators.
    """

    name: str
    target: str
    summary: str
    licence: str
    fetchable: bool


DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="ml-latest-small",
            target="datasets.movielens:MovieLensSmall",
            summary="MovieLens: 100,836 ratings of 9,724 movies by 610 users, 1996-2018, with genres and years",
            licence="GroupLens terms: research, no commercial use without permission",
            fetchable=True,
        ),
        DatasetSpec(
            name="synthetic-genres",
            target="datasets.synthetic_genres:SyntheticGenres",
            summary="generated: 34,953 ratings 1-9 of 1,000 items by 10,000 users, pure noise: a free leak test",
            licence="generated, free of terms",
            fetchable=False,
        ),
    )
}


def register(spec: DatasetSpec) -> None:
    """Add a plug-in's data set. Raises UserError where the name already means something else."""
    if DATASETS.setdefault(spec.name, spec) != spec:
        raise UserError(
            f"data set '{spec.name}' is already registered ({DATASETS[spec.name].target}): choose another name"
        )


def spec(name: str) -> DatasetSpec:
    """The spec of ``name``. Raises UserError with the nearest valid name."""
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def load_class(spec: DatasetSpec) -> type[Loader]:
    """Import the loader class of ``spec``; a plug-in's module is found in ``sys.modules``."""
    module, _, class_name = spec.target.partition(":")
    loader: type[Loader] = getattr(importlib.import_module(module), class_name)
    return loader
