"""What ``news-articles-synthetic`` consists of: rows with long tails, metadata, and ratings whose variance is planted.

Users, articles and rows are as many as in the contest's files, and so are those of each group of users. What rows are
about is drawn: every user and article gets a number of rows from a long tail, and who meets what is a random pairing
without repeats. Newer articles and those of busy categories tend to get the larger numbers, so that metadata tell
something about articles that nobody has read yet.

A rating is a latent, rounded and clipped to 0..6. The latent is MEAN + SD · Σ sqrt(share) · part over four parts, each
of mean 0 and variance 1 over all rows: one effect a user, one an article, the metadata (main effects in equal parts of
age, Var1, vintage and the two counts; a missing age or Var1 has an effect of its own, an article without metadata has
none) and noise. Rounding adds 1/12 to a variance of 2.56, and clipping cuts the tails, so that of the variance of the
ratings (mean 3.19, sd 1.54) the parts explain about .95 of their shares: user .147, article .141, metadata .099 (the
three together .38), and .62 stays for ever unexplained, an RMSE of 1.21.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.news_articles import AGES

SHARES = {"user": 0.15, "article": 0.15, "metadata": 0.10, "noise": 0.60}
"""Of the latent's variance."""
MEAN, SD = 3.2, 1.6
EMPTY_AGES = 0.42
ARTICLES_WITHOUT_METADATA = 0.03

_AGE_WEIGHTS = (0.01, 0.06, 0.34, 0.26, 0.15, 0.10, 0.05, 0.03)
_VAR1_WEIGHTS = {"A": 30, "B": 18, "C": 12, "D": 9, "E": 7, "F": 5, "G": 4, "H": 3, "Other": 4, "NA": 8}

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Sizes:
    """How many there are; the defaults are those of the contest's files, as a participant's report counts them.

    Attributes:
        shared_users, train_only_users, test_only_users: users in both files, in one only.
        shared_rows, train_only_rows: training rows of users in both files, of those in ``train.csv`` only.
        test_rows: rows of ``test.csv``.
        articles: distinct ones in both files together.
    """

    shared_users: int = 29_926
    train_only_users: int = 43_563
    test_only_users: int = 16_013
    shared_rows: int = 618_437
    train_only_rows: int = 60_614
    test_rows: int = 291_023
    articles: int = 253_933

    @property
    def users(self) -> int:
        return self.shared_users + self.train_only_users + self.test_only_users

    @property
    def train_rows(self) -> int:
        return self.shared_rows + self.train_only_rows


@dataclass(frozen=True, eq=False)
class Generated:
    """The content of the four files, and the parts of the latent.

    Attributes:
        user_ids, ages, var1: (users,), as written to ``user.csv``.
        article_ids: (articles,); ``described`` marks those with a row in ``article.csv``.
        numbers: its three columns by name, (articles,) each.
        users, articles: (rows,) places of a row's user and article above, the training rows first.
        ratings: (train_rows,) 0 to 6.
        parts: part -> (rows,) with mean 0 and variance 1.
    """

    user_ids: Ints
    ages: Texts
    var1: Texts
    article_ids: Ints
    described: npt.NDArray[np.bool_]
    numbers: dict[str, Ints]
    users: Ints
    articles: Ints
    ratings: Ints
    parts: dict[str, Floats]


def generate(sizes: Sizes | None = None, seed: int = 0) -> Generated:
    """Draw a data set. The order of the draws is the data set: do not change it."""
    sizes = sizes or Sizes()
    draw = np.random.default_rng(seed)
    user_ids, article_ids = draw.permutation(sizes.users) + 1, draw.permutation(sizes.articles) + 1
    ages = np.where(draw.random(sizes.users) < EMPTY_AGES, "", draw.choice(AGES, sizes.users, p=np.array(_AGE_WEIGHTS)))
    var1_weights = np.array(list(_VAR1_WEIGHTS.values()), dtype=np.float64)
    var1 = draw.choice(list(_VAR1_WEIGHTS), sizes.users, p=var1_weights / var1_weights.sum())
    described = draw.random(sizes.articles) >= ARTICLES_WITHOUT_METADATA
    numbers = _article_numbers(draw, sizes.articles)
    users, articles = _rows(draw, sizes, numbers)
    parts = {
        "user": _standardised(draw.standard_normal(sizes.users)[users]),
        "article": _standardised(draw.standard_normal(sizes.articles)[articles]),
        "metadata": _metadata_part(draw, [ages, var1], numbers, described, users, articles),
        "noise": _standardised(draw.standard_normal(len(users))),
    }
    latent = MEAN + SD * np.sum([np.sqrt(share) * parts[name] for name, share in SHARES.items()], axis=0)
    ratings = np.clip(np.rint(latent[: sizes.train_rows]), 0, 6).astype(np.int64)
    return Generated(user_ids, ages, var1, article_ids, described, numbers, users, articles, ratings, parts)


def write(folder: Path, data: Generated) -> None:
    """The four files with the contest's header lines and CRLF line ends; an ID is ``USER_ARTICLE``."""
    n_train = len(data.ratings)
    users, articles = data.user_ids[data.users].tolist(), data.article_ids[data.articles].tolist()
    ids = [f"{user}_{article}" for user, article in zip(users, articles, strict=True)]
    train = [users[:n_train], articles[:n_train], data.ratings.tolist(), ids[:n_train]]
    test = [users[n_train:], articles[n_train:], ids[n_train:]]
    by_user = np.argsort(data.user_ids)
    by_article = np.argsort(data.article_ids)
    by_article = by_article[data.described[by_article]]
    people = [data.user_ids[by_user].tolist(), data.var1[by_user].tolist(), data.ages[by_user].tolist()]
    pages = [column[by_article].tolist() for column in (data.article_ids, *data.numbers.values())]
    _write_csv(folder / "train.csv", ["User_ID", "Article_ID", "Rating", "ID"], train)
    _write_csv(folder / "test.csv", ["User_ID", "Article_ID", "ID"], test)
    _write_csv(folder / "user.csv", ["User_ID", "Var1", "Age"], people)
    _write_csv(folder / "article.csv", ["Article_ID", *data.numbers], pages)


def _article_numbers(draw: np.random.Generator, n: int) -> dict[str, Ints]:
    """Months since publication, and how many of the n articles have the same author and the same category."""
    vintage = draw.exponential(24, n).astype(np.int64)
    author = (max(n // 25, 1) * draw.random(n) ** 2).astype(np.int64)
    category = (max(min(40, n // 25), 1) * draw.random(n) ** 1.5).astype(np.int64)
    return {
        "VintageMonths": vintage,
        "NumberOfArticlesBySameAuthor": np.bincount(author)[author],
        "NumberOfArticlesinSameCategory": np.bincount(category)[category],
    }


def _rows(draw: np.random.Generator, sizes: Sizes, numbers: dict[str, Ints]) -> tuple[Ints, Ints]:
    """(rows,) users and articles, training rows first, no pair twice; of every user and article at least one."""
    shared, both, n = sizes.shared_users, sizes.shared_users + sizes.train_only_users, sizes.users
    train_counts = [
        _long_tail(draw, shared, sizes.shared_rows, exponent=1.3, offset=0.008),
        _long_tail(draw, sizes.train_only_users, sizes.train_only_rows, exponent=1.5, offset=0.004),
    ]
    readers = draw.permutation(np.concatenate([np.arange(shared), np.arange(both, n)]))
    test_counts = _long_tail(draw, len(readers), sizes.test_rows, exponent=1.4, offset=0.008)
    train_users = draw.permutation(np.repeat(np.arange(both), np.concatenate(train_counts)))
    test_users = draw.permutation(np.repeat(readers, test_counts))
    users = np.concatenate([train_users, test_users])

    counts = _long_tail(draw, sizes.articles, len(users), exponent=1.8, offset=0.023)
    by_interest = np.argsort(-_interest(draw, numbers))
    articles = draw.permutation(np.repeat(by_interest, counts))
    while len(repeats := _repeated_pairs(users, articles)):
        # Articles change places among these and as many other rows: every count stays as it is.
        mixed = np.union1d(repeats, draw.integers(len(users), size=len(repeats)))
        articles[mixed] = articles[draw.permutation(mixed)]
    return users, articles


def _long_tail(draw: np.random.Generator, n: int, total: int, exponent: float, offset: float) -> Ints:
    """(n,) counts from 1 that sum to ``total``: one each, the rest by Zipf-Mandelbrot weights (r + offset·n)^-exponent.

    The first are the largest.
    """
    weights = (np.arange(1, n + 1) + offset * n) ** -exponent
    return 1 + draw.multinomial(total - n, weights / weights.sum())


def _interest(draw: np.random.Generator, numbers: dict[str, Ints]) -> Floats:
    """(articles,): the larger, the more rows. Half of its variance is metadata: new, and of a busy category."""
    newness = -_standardised(np.log1p(numbers["VintageMonths"]))
    busyness = _standardised(np.log1p(numbers["NumberOfArticlesinSameCategory"]))
    return (newness + busyness) / 2 + draw.standard_normal(len(newness)) / np.sqrt(2)


def _repeated_pairs(users: Ints, articles: Ints) -> Ints:
    """Rows whose pair an earlier row has."""
    pairs = users * (int(articles.max()) + 1) + articles
    order = np.argsort(pairs, kind="stable")
    return order[1:][pairs[order[1:]] == pairs[order[:-1]]]


def _metadata_part(
    draw: np.random.Generator,
    categories: Sequence[Texts],
    numbers: dict[str, Ints],
    described: npt.NDArray[np.bool_],
    users: Ints,
    articles: Ints,
) -> Floats:
    """(rows,) sum of five main effects of equal variance: one a category, linear in the logarithm of a number."""
    effects = []
    for texts in categories:
        labels, places = np.unique(texts, return_inverse=True)
        effects.append(draw.standard_normal(len(labels))[places][users])
    for sign, values in zip((-1, 1, 1), numbers.values(), strict=True):
        effects.append(np.where(described, sign * _standardised(np.log1p(values)), 0.0)[articles])
    return _standardised(np.sum([_standardised(effect) for effect in effects], axis=0))


def _standardised(values: Floats) -> Floats:
    """Mean 0, variance 1."""
    centred: Floats = values - values.mean()
    return centred / centred.std()


def _write_csv(path: Path, names: Sequence[str], columns: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(names)
        writer.writerows(zip(*columns, strict=True))
