"""``news-articles``: a contest's ratings of news articles, with metadata of users and articles and rows to predict."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from datasets.download import data_roots, find
from datasets.errors import DataError, MissingDataError
from datasets.formats import Field
from datasets.loader import Loader, Progress, name_with_options

if TYPE_CHECKING:
    from datasets.canonical import Metadata
    from datasets.types import Dataset

LICENCE = "the contest's terms: proprietary, not redistributed; bring your own files"

AGES = ("Less tha 15", "15-20", "20-30", "30-40", "40-50", "50-60", "60-70", "More than 70")
"""As the contest writes them; the first one is spelt so."""

_USER, _ARTICLE = "User_ID", "Article_ID"
_ARTICLE_NUMBERS = ("VintageMonths", "NumberOfArticlesBySameAuthor", "NumberOfArticlesinSameCategory")
_NOT_KNOWN = "NA"


@dataclass(frozen=True)
class NewsArticles(Loader):
    """``train.csv`` with ratings 0 to 6, ``test.csv`` without, ``user.csv`` and ``article.csv``; the user brings them.

    Users have the categories ``Var1`` (NA is missing) and ``Age``. Ages are no numbers too: each of the eight ranges is
    common enough for an effect of its own, which need not rise or fall with age, and a number would only repeat them.
    Articles have three numbers; an article without a row in ``article.csv`` lacks all of them.

    Attributes:
        drop_train_only: leaves out the ratings of users who do not occur in ``test.csv``; ``notes`` count them.
        contest: the universe also has the users and articles of ``test.csv``, whose rows are ``Dataset.questions``.
    """

    drop_train_only: Annotated[bool, "drop the ratings of users who are not in test.csv"] = False
    contest: Annotated[bool, "add the users, articles and rows of test.csv, to be predicted"] = False

    base_name: ClassVar[str] = "news-articles"
    licence: ClassVar[str] = LICENCE
    files: ClassVar[tuple[str, ...]] = ("train.csv", "test.csv", "user.csv", "article.csv")
    scale: ClassVar[tuple[float, float]] = (0.0, 6.0)

    @property
    def name(self) -> str:
        """With the options that are not the default, such as ``news-articles[drop_train_only=true]``."""
        return name_with_options(self.base_name, self)

    def options(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def locate(self, progress: Progress | None = None) -> list[Path]:
        """The four files in the first data root that has them; nothing is ever fetched."""
        folders = [root / self.base_name for root in data_roots()]
        if found := find(folders, self.files):
            return found
        raise MissingDataError(
            f"{self.base_name}: the contest's data are proprietary and never fetched: put {', '.join(self.files)} into "
            f"{' or '.join(map(str, folders))} (or set RECGAUGE_DATA to the folder that holds {self.base_name}/); "
            "news-articles-synthetic has the same format and needs no file"
        )

    def load(self, sources: list[Path]) -> Dataset:
        import pyarrow.compute as pc

        from datasets.canonical import RawQuestions, build_dataset
        from datasets.readers import read_table

        train_path, test_path, user_path, article_path = sources
        pair = [Field(_USER, "id"), Field(_ARTICLE, "id")]
        train = read_table(train_path, [*pair, Field("Rating", "number", *self.scale), Field("ID", "id")])
        test = read_table(test_path, [*pair, Field("ID", "id", unique=True)])
        users, articles, ratings = (train[name] for name in (_USER, _ARTICLE, "Rating"))
        notes = {}
        if self.drop_train_only:
            users, articles = (ids.cast("string") for ids in (users, articles))
            kept = pc.is_in(users, value_set=test[_USER].cast("string").unique())
            users, articles, ratings = users.filter(kept), articles.filter(kept), ratings[kept.to_numpy()]
            if len(users) == 0:
                raise DataError(f"{train_path}: no rating is of a user in {test_path.name}: leave out drop_train_only")
            notes["rows_dropped_of_users_in_train_only"] = len(kept) - len(users)
        asked = RawQuestions(_texts(test["ID"]), test[_USER], test[_ARTICLE]) if self.contest else None
        dataset = build_dataset(
            name=self.name,
            users=users,
            items=articles,
            values=ratings,
            times=None,
            rating_scale=self.scale,
            licence=self.licence,
            citation="",
            item_metadata=_articles(article_path),
            user_metadata=_users(user_path),
            questions=asked,
        )
        return dataclasses.replace(dataset, notes={**dataset.notes, **notes})


def _users(path: Path) -> Metadata:
    import numpy as np

    from datasets.canonical import Metadata
    from datasets.readers import read_table
    from datasets.types import Column

    fields = [Field(_USER, "id", unique=True), Field("Var1", "text"), Field("Age", "text", one_of=("", *AGES))]
    users = read_table(path, fields)
    var1 = np.where(users["Var1"] == _NOT_KNOWN, "", users["Var1"])
    return Metadata(users[_USER], {"Var1": Column("category", var1), "Age": Column("category", users["Age"])})


def _articles(path: Path) -> Metadata:
    from datasets.canonical import Metadata
    from datasets.readers import read_table
    from datasets.types import Column

    numbers = [Field(name, "number", low=0) for name in _ARTICLE_NUMBERS]
    articles = read_table(path, [Field(_ARTICLE, "id", unique=True), *numbers])
    columns = {name: Column("number", articles[name].astype("float64")) for name in _ARTICLE_NUMBERS}
    return Metadata(articles[_ARTICLE], columns)


def _texts(ids: Any) -> Any:
    import numpy as np

    return np.array(ids.to_pylist(), dtype=np.str_)
