"""Write an ML-20M-shaped data set in MovieLens format: ``python tests/performance/make_ml20m.py FOLDER [--rows N]``.

Seeded: the same arguments give the same bytes. Fewer rows are of fewer users and items; ids, time stamps and
ratings look like those of MovieLens, so that the file has its size (20 million rows: 0.5 GB) and as many ids.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

ROWS, USERS, ITEMS = 20_000_263, 138_493, 26_744
FIRST_TIME, LAST_TIME = 789_652_009, 1_427_784_002  # January 1995 to March 2015
GENRES = ("Action", "Comedy", "Crime", "Drama", "Horror", "Romance", "Sci-Fi", "Thriller")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write an ML-20M-shaped data set in MovieLens format.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    write(arguments.folder, arguments.rows)


def write(folder: Path, rows: int = ROWS, seed: int = 0) -> None:
    """``folder/ratings.csv`` with ``rows`` rows, sorted by user and movie, and ``folder/movies.csv``."""
    draw = np.random.default_rng(seed)
    shrink = math.sqrt(rows / ROWS)  # as dense at every size
    n_users, n_items = math.ceil(USERS * shrink), math.ceil(ITEMS * shrink)
    movie_ids = np.sort(draw.choice(5 * n_items, n_items, replace=False)) + 1
    users, items = np.divmod(_pairs(draw, rows, n_users, n_items), n_items)

    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "userId": users + 1,
        "movieId": movie_ids[items],
        # Text keeps the "4.0" of MovieLens; Arrow would write 4.
        "rating": pa.DictionaryArray.from_arrays(
            pa.array(draw.integers(0, 10, rows, dtype=np.int32)), pa.array([str(half / 2) for half in range(1, 11)])
        ).cast(pa.string()),
        "timestamp": draw.integers(FIRST_TIME, LAST_TIME, rows),
    }
    _write_csv(folder / "ratings.csv", columns)
    genres = draw.integers(0, len(GENRES), (n_items, 2)).tolist()
    years = draw.integers(1920, 2015, n_items).tolist()
    _write_csv(
        folder / "movies.csv",
        {
            "movieId": movie_ids,
            "title": [f"Movie {movie} ({year})" for movie, year in zip(movie_ids.tolist(), years, strict=True)],
            "genres": ["|".join(GENRES[genre] for genre in sorted(set(both))) for both in genres],
        },
    )


def _pairs(draw: np.random.Generator, rows: int, n_users: int, n_items: int) -> np.ndarray:
    """(rows,) distinct ``user * n_items + item``, ascending: long-tailed users and items, each user at least once."""
    activity = np.cumsum(draw.lognormal(0, 1.1, n_users))
    popularity = np.cumsum(1 / (np.arange(n_items) + 20.0))
    by_rank = draw.permutation(n_items)

    def some(count: int) -> np.ndarray:
        users = np.searchsorted(activity, draw.random(count) * activity[-1])
        ranks = np.searchsorted(popularity, draw.random(count) * popularity[-1])
        return users * n_items + by_rank[ranks]

    once = np.arange(n_users) * n_items + draw.integers(0, n_items, n_users)
    pairs = np.unique(once)
    while len(pairs) < rows:
        pairs = np.unique(np.concatenate([pairs, some(rows - len(pairs) + rows // 20)]))
    spare = np.setdiff1d(np.arange(len(pairs)), np.searchsorted(pairs, once), assume_unique=True)
    return np.delete(pairs, draw.choice(spare, len(pairs) - rows, replace=False))


def _write_csv(path: Path, columns: dict[str, object]) -> None:
    with path.open("wb") as file:
        file.write((",".join(columns) + "\n").encode())
        options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
        pa.csv.write_csv(pa.table(columns), file, options)


if __name__ == "__main__":
    main()
