"""``synthetic-genres``: uniform noise for ratings, so any score above chance is a leak."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.loader import Loader, Progress

if TYPE_CHECKING:
    from datasets.types import Dataset

N_USERS = 10_000
N_ITEMS = 1_000
GENRES = ("Action", "Comedy", "Drama", "Fantasy", "Horror", "Mystery", "Romance", "Thriller", "Western")


class SyntheticGenres(Loader):
    """10,000 users with 3 or 4 ratings 1 to 9 of 1,000 items, each item of 1 or 2 genres; no times."""

    def locate(self, progress: Progress | None = None) -> list[Path]:
        return []

    def load(self, sources: list[Path]) -> Dataset:
        import numpy as np

        from datasets.canonical import Metadata, build_dataset
        from datasets.types import Column

        users, items, ratings, genres = generate()
        return build_dataset(
            name="synthetic-genres",
            users=users,
            items=items,
            values=ratings,
            times=None,
            rating_scale=(1.0, 9.0),
            licence="generated, free of terms",
            citation="",
            item_metadata=Metadata(np.arange(N_ITEMS), {"genres": Column("categories", genres)}),
        )


def generate() -> tuple[Any, Any, Any, Any]:
    """Users, items and ratings (34,953,) int64 row by row as drawn, and genres (1,000,) unicode joined by ``|``.

    The draws of the report that this data set comes from (``np.random.seed(42)``), from a generator of its own so that
    NumPy's global state is left alone. The order of the draws is the data set: do not change it.
    """
    import numpy as np

    draw = np.random.RandomState(42)
    items, ratings = [], []
    for _ in range(N_USERS):
        count = draw.randint(3, 5)
        items.append(draw.choice(N_ITEMS, size=count, replace=False))
        ratings.append(draw.randint(1, 10, size=count))
    genres = ["|".join(draw.choice(GENRES, size=draw.randint(1, 3), replace=False)) for _ in range(N_ITEMS)]

    users = np.repeat(np.arange(N_USERS), [len(drawn) for drawn in items])
    return users, np.concatenate(items), np.concatenate(ratings), np.array(genres)
