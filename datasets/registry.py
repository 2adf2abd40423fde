"""The data sets that exist. Standard library only: listing and planning load neither NumPy nor a loader."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from datasets.errors import UserError, unknown_name
from datasets.loader import Loader, changed_options, name_with_options


@dataclass(frozen=True)
class DatasetSpec:
    """One data set.

    Attributes:
        name: what the user types, in kebab-case.
        target: ``"module:Class"`` of its ``datasets.loader.Loader``, imported only when it is needed.
        summary: one line for ``list``.
        licence: one line on what its terms allow.
        fetchable: whether ``locate`` may fetch it over the network; False for files of the user and for generators.
        options: keyword arguments of the loader, as JSON values, so that a worker can make the same one.
        truth: whether its best possible score is known (``Dataset.truth``).
    """

    name: str
    target: str
    summary: str
    licence: str
    fetchable: bool
    options: Mapping[str, Any] = field(default_factory=dict)
    truth: bool = False


_GROUPLENS = "GroupLens terms: research, no commercial use without permission"
_GROUPLENS_BEFORE_2015 = "GroupLens terms: research, no commercial use and no redistribution without permission"

DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="ml-latest-small",
            target="datasets.movielens:MovieLensSmall",
            summary="MovieLens: 100,836 ratings of 9,724 movies by 610 users, 1996-2018, with genres and years",
            licence=_GROUPLENS,
            fetchable=True,
        ),
        DatasetSpec(
            name="ml-100k",
            target="datasets.movielens:MovieLens100K",
            summary="MovieLens: 100,000 ratings 1-5 of 1,682 movies by 943 users, 1997-1998, genres, years, users",
            licence=_GROUPLENS_BEFORE_2015,
            fetchable=True,
        ),
        DatasetSpec(
            name="ml-1m",
            target="datasets.movielens:MovieLens1M",
            summary="MovieLens: 1,000,209 ratings 1-5 of 3,706 movies by 6,040 users, 2000-2003, genres, years, users",
            licence=_GROUPLENS_BEFORE_2015,
            fetchable=True,
        ),
        DatasetSpec(
            name="ml-10m",
            target="datasets.movielens:MovieLens10M",
            summary="MovieLens: 10,000,054 ratings of 10,677 movies by 69,878 users, 1995-2009, with genres and years",
            licence=_GROUPLENS_BEFORE_2015,
            fetchable=True,
        ),
        DatasetSpec(
            name="ml-20m",
            target="datasets.movielens:MovieLens20M",
            summary="MovieLens: 20,000,263 ratings of 26,744 movies by 138,493 users, 1995-2015, with genres and years",
            licence=_GROUPLENS,
            fetchable=True,
        ),
        DatasetSpec(
            name="ml-25m",
            target="datasets.movielens:MovieLens25M",
            summary="MovieLens: 25,000,095 ratings of 59,047 movies by 162,541 users, 1995-2019, with genres and years",
            licence=_GROUPLENS,
            fetchable=True,
        ),
        DatasetSpec(
            name="ml-32m",
            target="datasets.movielens:MovieLens32M",
            summary="MovieLens: 32,000,204 ratings of 84,432 movies by 200,948 users, 1995-2023, with genres and years",
            licence=_GROUPLENS,
            fetchable=True,
        ),
        DatasetSpec(
            name="news-articles",
            target="datasets.news_articles:NewsArticles",
            summary="contest: 679,051 ratings 0-6 of news articles by 73,489 users, metadata of both, rows to predict",
            licence="the contest's terms; proprietary, bring your own files",
            fetchable=False,
        ),
        DatasetSpec(
            name="news-articles-synthetic",
            target="datasets.news_articles_synthetic:NewsArticlesSynthetic",
            summary="generated: news-articles in format and size, with ratings whose explainable variance is known",
            licence="generated, free of terms",
            fetchable=False,
        ),
        DatasetSpec(
            name="synthetic-genres",
            target="datasets.synthetic_genres:SyntheticGenres",
            summary="generated: 34,953 ratings 1-9 of 1,000 items by 10,000 users, pure noise: a free leak test",
            licence="generated, free of terms",
            fetchable=False,
        ),
        DatasetSpec(
            name="planted-genres",
            target="datasets.planted_genres:PlantedGenres",
            summary="generated: tastes for genres are planted, so the best possible score is known; of any size",
            licence="generated, free of terms",
            fetchable=False,
            truth=True,
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


def is_path(name: str) -> bool:
    """Whether what the user typed is a file of ratings: it holds a ``.`` or a ``/``.

    In the brackets of ``name[option=value]`` a value may hold a decimal point.
    """
    outside = name.partition("[")[0]
    if not name.endswith("]") and outside not in DATASETS:
        outside = name
    return "." in outside or "/" in outside


def make_loader(target: str, options: Mapping[str, Any]) -> Loader:
    """The loader of a spec's ``target`` and ``options``."""
    return loader_class(target)(**options)


def loader_class(target: str) -> type[Loader]:
    """The class that a spec's ``target`` names; a plug-in's module is found in ``sys.modules``."""
    module, _, class_name = target.partition(":")
    found: type[Loader] = getattr(importlib.import_module(module), class_name)
    return found


def has_option(spec: DatasetSpec, option: str) -> bool:
    """Whether the loader is a dataclass with a field of that name."""
    return option in getattr(loader_class(spec.target), "__dataclass_fields__", {})


def with_options(spec: DatasetSpec, changed: Mapping[str, Any]) -> DatasetSpec:
    """The same data set with these options on top; its name shows those that are not the default."""
    loader = loader_class(spec.target)(**{**spec.options, **changed})
    name = name_with_options(spec.name.partition("[")[0], loader)
    return replace(spec, name=name, options=changed_options(loader))
