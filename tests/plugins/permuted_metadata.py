"""A control for what metadata buys: news-articles-synthetic whose metadata belong to other users and articles.

    python -m benchmarks run --suite metadata --dataset news-articles-permuted \\
        --plugin tests/plugins/permuted_metadata.py

Whoever gains from metadata there gains from something else.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.canonical import fingerprint
from datasets.news_articles_synthetic import NewsArticlesSynthetic
from datasets.registry import DatasetSpec
from datasets.types import Column, Dataset

NAME = "news-articles-permuted"


@dataclass(frozen=True)
class Permuted(NewsArticlesSynthetic):
    def load(self, sources: list[Path]) -> Dataset:
        dataset, rng = super().load(sources), np.random.default_rng(0)
        users = _permuted(dataset.user_columns, rng.permutation(len(dataset.user_ids)))
        items = _permuted(dataset.item_columns, rng.permutation(len(dataset.item_ids)))
        identity = fingerprint(
            dataset.interactions, dataset.user_ids, dataset.item_ids, dataset.rating_scale, items, users
        )
        return dataclasses.replace(dataset, name=NAME, user_columns=users, item_columns=items, fingerprint=identity)


def _permuted(columns: dict[str, Column], order: np.ndarray) -> dict[str, Column]:
    """All columns in the same new order, so that each row stays a possible one."""
    return {name: Column(column.kind, column.values[order]) for name, column in columns.items()}


DATASETS = (
    DatasetSpec(
        name=NAME,
        target="permuted_metadata:Permuted",
        summary="news-articles-synthetic with permuted metadata",
        licence=Permuted.licence,
        fetchable=False,
    ),
)
