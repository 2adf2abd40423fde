"""MovieLens data sets of GroupLens. None is redistributed: files are found on the user's machine or fetched to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from datasets import download
from datasets.loader import Loader, Progress

if TYPE_CHECKING:
    from datasets.types import Dataset

LICENCE = (
    "GroupLens terms (README.txt of the data set): research use with acknowledgement, no endorsement implied, no "
    "commercial use without permission, redistribution under the same terms"
)
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM TiiS 5, 4: "
    "19:1-19:19. https://doi.org/10.1145/2827872"
)
_NO_GENRES = "(no genres listed)"
_YEAR = re.compile(r"\((\d{4})\)\s*$")


class MovieLensCsv(Loader):
    """The CSV family: ``ratings.csv`` (userId, movieId, rating, timestamp) and ``movies.csv`` (movieId, title, genres).

    Ratings 0.5 to 5; genres and the year that ends a title are item columns.
    """

    archive: ClassVar[download.Archive]

    def locate(self, progress: Progress | None = None) -> list[Path]:
        return download.locate(self.archive, ("ratings.csv", "movies.csv"), progress)

    def load(self, sources: list[Path]) -> Dataset:
        import numpy as np

        from datasets.canonical import Metadata, build_dataset
        from datasets.readers import Field, read_table
        from datasets.types import Column

        ratings_path, movies_path = sources
        scale = (0.5, 5.0)
        rating = Field("rating", "number", *scale)
        ratings = read_table(
            ratings_path, [Field("userId", "id"), Field("movieId", "id"), rating, Field("timestamp", "seconds")]
        )
        movies = read_table(
            movies_path, [Field("movieId", "id", unique=True), Field("title", "text"), Field("genres", "text")]
        )
        titles, genres = movies["title"], movies["genres"]
        columns = {
            "genres": Column("categories", np.where(genres == _NO_GENRES, "", genres)),
            "year": Column("number", np.array([year_of(title) for title in titles.tolist()])),
        }
        return build_dataset(
            name=self.archive.name,
            users=ratings["userId"],
            items=ratings["movieId"],
            values=ratings["rating"],
            times=ratings["timestamp"],
            rating_scale=scale,
            licence=LICENCE,
            citation=CITATION,
            item_metadata=Metadata(movies["movieId"], columns, titles),
        )


class MovieLensSmall(MovieLensCsv):
    """ml-latest-small of September 2018: 100,836 ratings, 610 users, 9,724 rated of 9,742 movies."""

    archive = download.Archive(
        name="ml-latest-small",
        url="https://files.grouplens.org/datasets/movielens/ml-latest-small.zip",
        size=978_202,
        digest="sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        unpacked_limit=16 << 20,
    )


def year_of(title: str) -> float:
    """The year that ends a title, as in ``Toy Story (1995)``; NaN where there is none."""
    match = _YEAR.search(title)
    return float(match[1]) if match else float("nan")
