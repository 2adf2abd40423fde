"""``news-articles-synthetic``: exact counts, long tails, the contest's quirks, and the variance that was planted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from datasets.news_articles_generator import MEAN, SD, SHARES, Generated, Sizes, generate, write
from datasets.news_articles_synthetic import NewsArticlesSynthetic

SMALL = Sizes(
    shared_users=300,
    train_only_users=436,
    test_only_users=160,
    shared_rows=6_184,
    train_only_rows=606,
    test_rows=2_910,
    articles=2_539,
)


@pytest.fixture(scope="module")
def small() -> Generated:
    return generate(SMALL)


@pytest.fixture(scope="module")
def full() -> Generated:
    return generate()


def assert_counts(data: Generated, sizes: Sizes) -> None:
    """Users of each group, rows and articles as asked for, no pair twice."""
    n_train = sizes.train_rows
    train, test = data.users[:n_train], data.users[n_train:]
    assert (len(data.ratings), len(test)) == (n_train, sizes.test_rows)
    shared = np.intersect1d(train, test)
    only = np.setdiff1d(train, test)
    assert (len(shared), len(only)) == (sizes.shared_users, sizes.train_only_users)
    assert len(np.setdiff1d(test, train)) == sizes.test_only_users
    assert int(np.isin(train, only).sum()) == sizes.train_only_rows
    assert len(np.unique(data.articles)) == sizes.articles
    assert len(np.unique(data.users * sizes.articles + data.articles)) == len(data.users)
    assert len(np.unique(data.user_ids)) == sizes.users and len(np.unique(data.article_ids)) == sizes.articles


def test_every_count_is_the_one_asked_for(small: Generated) -> None:
    assert_counts(small, SMALL)
    assert np.median(np.bincount(small.articles)) == 1
    assert set(np.unique(small.ratings)) == set(range(7))


def test_each_part_has_mean_0_and_its_planted_variance_and_the_shares_are_all(small: Generated) -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert small.parts.keys() == SHARES.keys()
    for part in small.parts.values():
        assert len(part) == len(small.users)
        assert part.mean() == pytest.approx(0, abs=1e-12) and part.var() == pytest.approx(1)


def test_ratings_are_the_rounded_latent(small: Generated) -> None:
    latent = MEAN + SD * sum(np.sqrt(share) * small.parts[name] for name, share in SHARES.items())
    expected = np.minimum(np.maximum(np.round(latent[: SMALL.train_rows]), 0), 6)
    np.testing.assert_array_equal(small.ratings, expected)


def test_metadata_is_a_function_of_what_the_files_say(small: Generated) -> None:
    """Rows whose user and article look alike have the same metadata part."""
    numbers = np.stack([np.where(small.described, column, -1) for column in small.numbers.values()])
    looks = [*zip(small.ages[small.users], small.var1[small.users], *numbers[:, small.articles], strict=True)]
    parts: dict[tuple[object, ...], set[float]] = {}
    for look, part in zip(looks, small.parts["metadata"].round(9).tolist(), strict=True):
        parts.setdefault(look, set()).add(part)
    assert all(len(found) == 1 for found in parts.values())
    assert len(parts) > 1_000


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path, small: Generated) -> None:
    texts = []
    for name, data in (("a", small), ("b", generate(SMALL)), ("c", generate(SMALL, seed=1))):
        (tmp_path / name).mkdir()
        write(tmp_path / name, data)
        texts.append([path.read_bytes() for path in sorted((tmp_path / name).iterdir())])
    assert texts[0] == texts[1]
    assert all(ours != other for ours, other in zip(texts[0], texts[2], strict=True))


def test_the_files_have_the_quirks_of_the_contest_and_are_read_back(tmp_path: Path, small: Generated) -> None:
    write(tmp_path, small)
    for name in NewsArticlesSynthetic.files:
        content = (tmp_path / name).read_bytes()
        assert content.count(b"\r\n") == content.count(b"\n") > 100
    people = (tmp_path / "user.csv").read_text()
    assert ",Less tha 15\n" in people and ",NA," in people and ",Other," in people

    sources = [tmp_path / name for name in NewsArticlesSynthetic.files]
    dataset = NewsArticlesSynthetic(contest=True).load(sources)
    rows, asked = dataset.interactions, dataset.questions
    assert dataset.name == "news-articles-synthetic[contest=true]"
    assert (len(rows), rows.n_users, rows.n_items) == (SMALL.train_rows, SMALL.users, SMALL.articles)
    assert dataset.notes["duplicate_rows"] == 0
    assert dataset.notes["items_without_metadata"] == (~small.described).sum() > 0
    ages = dataset.user_columns["Age"].values
    assert float((ages == "").mean()) == pytest.approx(0.42, abs=0.06)
    assert asked is not None
    n_train = SMALL.train_rows
    np.testing.assert_array_equal(dataset.user_ids[asked.users], small.user_ids[small.users[n_train:]])
    np.testing.assert_array_equal(dataset.item_ids[asked.items], small.article_ids[small.articles[n_train:]])
    read = dict(zip(zip(rows.users.tolist(), rows.items.tolist(), strict=True), rows.values.tolist(), strict=True))
    places = zip(small.user_ids[small.users] - 1, small.article_ids[small.articles] - 1, strict=True)
    assert [read[place] for place, _ in zip(places, range(n_train), strict=False)] == small.ratings.tolist()

    dropped = NewsArticlesSynthetic(drop_train_only=True).load(sources)
    assert len(dropped.interactions) == SMALL.shared_rows
    assert dropped.notes["rows_dropped_of_users_in_train_only"] == SMALL.train_only_rows


def test_files_of_a_data_root_come_before_generated_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGAUGE_DATA", str(tmp_path))
    folder = tmp_path / "news-articles-synthetic"
    folder.mkdir()
    for name in NewsArticlesSynthetic.files:
        (folder / name).touch()
    assert {path.parent for path in NewsArticlesSynthetic().locate()} == {folder}


# --- full size -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_full_size_is_that_of_the_contest(full: Generated) -> None:
    sizes = Sizes()
    assert (sizes.users, sizes.train_rows, sizes.test_rows, sizes.articles) == (89_502, 679_051, 291_023, 253_933)
    assert sizes.shared_users + sizes.train_only_users == 73_489
    assert sizes.shared_users + sizes.test_only_users == 45_939
    assert sizes.train_rows - sizes.train_only_rows == 618_437
    assert_counts(full, sizes)
    per_user = np.bincount(full.users[: sizes.train_rows])
    per_user = per_user[per_user > 0]
    per_article = np.bincount(full.articles)
    assert np.median(per_user) == 1 and 800 < per_user.max() < 1_200
    assert np.median(per_article) == 1 and 100 < per_article.max() < 150
    assert float((full.ages == "").mean()) == pytest.approx(0.42, abs=0.005)
    assert float((~full.described).mean()) == pytest.approx(0.03, abs=0.002)


@pytest.mark.slow
def test_the_planted_variance_is_in_the_ratings(full: Generated) -> None:
    n_train = len(full.ratings)
    latent = SD * sum(np.sqrt(share) * full.parts[name] for name, share in SHARES.items())
    assert latent.std() == pytest.approx(SD, rel=0.01)
    assert full.ratings.mean() == pytest.approx(3.2, abs=0.03) and full.ratings.std() == pytest.approx(1.54, abs=0.02)
    explained = {name: np.corrcoef(part[:n_train], full.ratings)[0, 1] ** 2 for name, part in full.parts.items()}
    for name, share in SHARES.items():
        assert explained[name] == pytest.approx(0.955 * share, rel=0.05), name


@pytest.mark.slow
def test_newer_articles_and_busy_categories_are_read_more(full: Generated) -> None:
    rows = np.bincount(full.articles)
    for name, sign in (("VintageMonths", -1), ("NumberOfArticlesinSameCategory", 1)):
        ranks = [np.argsort(np.argsort(values)) for values in (full.numbers[name], rows)]
        assert sign * np.corrcoef(*ranks)[0, 1] > 0.2, name


@pytest.mark.slow
def test_generating_takes_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path))
    monkeypatch.delenv("RECGAUGE_DATA", raising=False)
    start = time.monotonic()
    sources = NewsArticlesSynthetic().locate()
    assert time.monotonic() - start < 20
    assert NewsArticlesSynthetic().locate() == sources and all(path.is_file() for path in sources)
    dataset = NewsArticlesSynthetic(drop_train_only=True).load(sources)
    assert len(dataset.interactions) == 618_437
