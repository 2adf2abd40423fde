"""MovieLens data sets of GroupLens. None is redistributed: files are found on the user's machine or fetched to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from datasets.download import Archive, find_archive, locate
from datasets.formats import Field, Format
from datasets.loader import Loader, Progress

if TYPE_CHECKING:
    from datasets.canonical import Metadata
    from datasets.types import Dataset

LICENCE = (
    "GroupLens terms (README.txt of the data set): research use with acknowledgement, no endorsement implied, no "
    "commercial use without permission, redistribution under the same terms"
)
LICENCE_BEFORE_2015 = (
    "GroupLens terms (README of the data set): research use with acknowledgement, no endorsement implied, no "
    "commercial use and no redistribution without permission"
)
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History and Context. ACM TiiS 5, 4: "
    "19:1-19:19. https://doi.org/10.1145/2827872"
)
_SITE = "https://files.grouplens.org/datasets/movielens"
_NO_GENRES = "(no genres listed)"
_YEAR = re.compile(r"\((\d{4})\)\s*$")

_RATINGS = ("userId", "movieId", "rating", "timestamp")
_MOVIES = ("movieId", "title", "genres")
_GENRES_100K = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


class MovieLens(Loader):
    """Ratings with times, movies with genres and the year that ends a title, and users where they are described.

    A subclass is one format, its subclass one data set. Every format has the column names of the CSV files.
    """

    archive: ClassVar[Archive]
    files: ClassVar[tuple[str, ...]] = ("ratings.csv", "movies.csv")
    ratings_format: ClassVar[Format] = Format()
    movies_format: ClassVar[Format] = Format()
    users_format: ClassVar[Format | None] = None
    scale: ClassVar[tuple[float, float]] = (0.5, 5.0)
    licence: ClassVar[str] = LICENCE

    def locate(self, progress: Progress | None = None) -> list[Path]:
        return locate(self.archive, self.files, progress)

    def at_hand(self) -> bool:
        return bool(find_archive(self.archive, self.files))

    def load(self, sources: list[Path]) -> Dataset:
        from datasets.canonical import build_dataset
        from datasets.readers import read_table

        user, movie, rating, timestamp = _RATINGS
        fields = [
            Field(user, "id"), Field(movie, "id"), Field(rating, "number", *self.scale), Field(timestamp, "seconds")
        ]  # fmt: skip
        ratings = read_table(sources[0], fields, self.ratings_format)
        return build_dataset(
            name=self.archive.name,
            users=ratings[user],
            items=ratings[movie],
            values=ratings[rating],
            times=ratings[timestamp],
            rating_scale=self.scale,
            licence=self.licence,
            citation=CITATION,
            item_metadata=self._movies(sources[1]),
            user_metadata=self._users(sources[2], self.users_format) if self.users_format else None,
        )

    def _movies(self, path: Path) -> Metadata:
        import numpy as np

        from datasets.canonical import Metadata
        from datasets.readers import read_table
        from datasets.types import Column

        movie, title, _ = _MOVIES
        fields = [Field(movie, "id", unique=True), Field(title, "text"), *self._genre_fields()]
        movies = read_table(path, fields, self.movies_format)
        genres = self._genres(movies)
        columns = {
            "genres": Column("categories", np.where(genres == _NO_GENRES, "", genres)),
            "year": Column("number", np.array([year_of(text) for text in movies[title].tolist()])),
        }
        return Metadata(movies[movie], columns, movies[title])

    def _genre_fields(self) -> list[Field]:
        return [Field("genres", "text")]

    def _genres(self, movies: dict[str, Any]) -> Any:
        return movies["genres"]

    def _users(self, path: Path, format: Format) -> Metadata:
        from datasets.canonical import Metadata
        from datasets.readers import read_table
        from datasets.types import Column

        fields = [Field("userId", "id", unique=True), Field("age", "number")]
        users = read_table(path, [*fields, Field("gender", "text"), Field("occupation", "text")], format)
        columns = {
            "age": Column("number", users["age"].astype("float64")),
            "gender": Column("category", users["gender"]),
            "occupation": Column("category", users["occupation"]),
        }
        return Metadata(users["userId"], columns)


class MovieLensCsv(MovieLens):
    """The CSV family, from 2015 on: ``ratings.csv`` and ``movies.csv`` with header lines."""


class MovieLensDat(MovieLens):
    """The ``::`` family of 2003 and 2009: no header lines, no quotes."""

    files: ClassVar[tuple[str, ...]] = ("ratings.dat", "movies.dat")
    ratings_format = Format("::", quoted=False, names=_RATINGS)
    movies_format = Format("::", quoted=False, names=_MOVIES)
    licence = LICENCE_BEFORE_2015


class MovieLens100K(MovieLens):
    """ml-100k of 1998: ``u.data`` with tabs, ``u.item`` with ``|`` and a flag for each genre, latin-1."""

    archive = Archive(
        name="ml-100k",
        url=f"{_SITE}/ml-100k.zip",
        size=4_924_029,
        digest="md5:0e33842e24a9c977be4e0107933c0723",
        unpacked_limit=64 << 20,
    )
    files = ("u.data", "u.item", "u.user")
    ratings_format = Format("\t", quoted=False, names=_RATINGS)
    movies_format = Format(
        "|",
        quoted=False,
        encoding="latin-1",
        names=("movieId", "title", "released", "video_released", "url", "unknown", *_GENRES_100K),
    )
    users_format = Format(
        "|", quoted=False, encoding="latin-1", names=("userId", "age", "gender", "occupation", "zip_code")
    )
    scale = (1.0, 5.0)
    licence = LICENCE_BEFORE_2015

    def _genre_fields(self) -> list[Field]:
        return [Field(genre, "number", 0, 1) for genre in _GENRES_100K]

    def _genres(self, movies: dict[str, Any]) -> Any:
        import numpy as np

        flags = np.column_stack([movies[genre] for genre in _GENRES_100K]).astype(bool)
        return np.array(["|".join(np.array(_GENRES_100K)[row]) for row in flags], dtype=np.str_)


class MovieLens1M(MovieLensDat):
    """ml-1m of 2003, latin-1, with users: age (lower end of a range), gender, occupation (a code)."""

    archive = Archive(
        name="ml-1m",
        url=f"{_SITE}/ml-1m.zip",
        size=5_917_549,
        digest="md5:c4d9eecfca2ab87c1945afe126590906",
        unpacked_limit=128 << 20,
    )
    files = ("ratings.dat", "movies.dat", "users.dat")
    movies_format = Format("::", quoted=False, encoding="latin-1", names=_MOVIES)
    users_format = Format(
        "::", quoted=False, encoding="latin-1", names=("userId", "gender", "age", "occupation", "zip_code")
    )
    scale = (1.0, 5.0)


class MovieLens10M(MovieLensDat):
    """ml-10m of 2009."""

    archive = Archive(
        name="ml-10m",
        url=f"{_SITE}/ml-10m.zip",
        size=65_566_137,
        digest="md5:ce571fd55effeba0271552578f2648bd",
        unpacked_limit=1 << 30,
        folder="ml-10M100K",
    )


class MovieLens20M(MovieLensCsv):
    """ml-20m of 2015 (updated in 2016)."""

    archive = Archive(
        name="ml-20m",
        url=f"{_SITE}/ml-20m.zip",
        size=198_702_078,
        digest="md5:cd245b17a1ae2cc31bb14903e1204af3",
        unpacked_limit=2 << 30,
    )


class MovieLens25M(MovieLensCsv):
    """ml-25m of 2019."""

    archive = Archive(
        name="ml-25m",
        url=f"{_SITE}/ml-25m.zip",
        size=261_978_986,
        digest="md5:6b51fb2759a8657d3bfcbfc42b592ada",
        unpacked_limit=3 << 30,
    )


class MovieLens32M(MovieLensCsv):
    """ml-32m of 2024."""

    archive = Archive(
        name="ml-32m",
        url=f"{_SITE}/ml-32m.zip",
        size=238_950_008,
        digest="md5:d472be332d4daa821edc399621853b57",
        unpacked_limit=3 << 30,
    )


class MovieLensSmall(MovieLensCsv):
    """ml-latest-small of September 2018: 100,836 ratings, 610 users, 9,724 rated of 9,742 movies."""

    archive = Archive(
        name="ml-latest-small",
        url=f"{_SITE}/ml-latest-small.zip",
        size=978_202,
        digest="sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        unpacked_limit=16 << 20,
    )


def year_of(title: str) -> float:
    """The year that ends a title, as in ``Toy Story (1995)``; NaN where there is none."""
    match = _YEAR.search(title)
    return float(match[1]) if match else float("nan")
