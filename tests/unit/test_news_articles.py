"""The contest format of ``news-articles``: its quirks, its malformed variants by file and line, its rows to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError, MissingDataError
from datasets.news_articles import NewsArticles
from datasets.store import load_cached
from datasets.types import Dataset

FILES = {
    "train.csv": "User_ID,Article_ID,Rating,ID\n1,10,6,1_10\n1,11,0,1_11\n2,10,3,2_10\n3,12,4,3_12\n3,10,5,3_10\n",
    "test.csv": "User_ID,Article_ID,ID\n4,13,4_13\n1,12,1_12\n2,11,2_11\n",
    "user.csv": "User_ID,Var1,Age\n1,A,Less tha 15\n2,NA,\n3,Other,More than 70\n4,B,15-20\n",
    "article.csv": (
        "Article_ID,VintageMonths,NumberOfArticlesBySameAuthor,NumberOfArticlesinSameCategory\n"
        "10,3,4,50\n12,30,7,60\n13,1,2,70\n"
    ),
}


def write(folder: Path, **changed: str) -> list[Path]:
    """The four files with CRLF line ends; ``train="…"`` replaces the text of ``train.csv``."""
    folder.mkdir(exist_ok=True)
    for name, text in FILES.items():
        content = changed.get(name.removesuffix(".csv"), text)
        (folder / name).write_bytes(content.replace("\n", "\r\n").encode())
    return [folder / name for name in FILES]


def load(folder: Path, drop_train_only: bool = False, contest: bool = False, **changed: str) -> Dataset:
    return NewsArticles(drop_train_only, contest).load(write(folder, **changed))


def test_ratings_are_read_through_the_windows_line_ends(tmp_path: Path) -> None:
    dataset = load(tmp_path)
    rows = dataset.interactions
    read = zip(dataset.user_ids[rows.users], dataset.item_ids[rows.items], rows.values, strict=True)
    assert set(read) == {(1, 10, 6.0), (1, 11, 0.0), (2, 10, 3.0), (3, 12, 4.0), (3, 10, 5.0)}
    assert dataset.user_ids.tolist() == [1, 2, 3] and dataset.item_ids.tolist() == [10, 11, 12]
    assert dataset.rating_scale == (0.0, 6.0) and dataset.questions is None and rows.times is None


def test_na_and_empty_ages_are_missing_and_less_tha_15_is_an_age(tmp_path: Path) -> None:
    columns = load(tmp_path).user_columns
    assert {name: (column.kind, column.values.tolist()) for name, column in columns.items()} == {
        "Var1": ("category", ["A", "", "Other"]),
        "Age": ("category", ["Less tha 15", "", "More than 70"]),
    }


def test_an_article_without_metadata_lacks_every_number(tmp_path: Path) -> None:
    dataset = load(tmp_path)
    expected = {
        "VintageMonths": [3, np.nan, 30],
        "NumberOfArticlesBySameAuthor": [4, np.nan, 7],
        "NumberOfArticlesinSameCategory": [50, np.nan, 60],
    }
    assert dataset.item_columns.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(dataset.item_columns[name].values, values)
    assert dataset.notes["items_without_metadata"] == 1


def test_a_user_in_test_only_is_no_user_of_the_benchmark(tmp_path: Path) -> None:
    dataset = load(tmp_path)
    assert 4 not in dataset.user_ids
    assert dataset.notes["users_without_ratings"] == dataset.notes["items_without_ratings"] == 1


def test_the_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    shuffled = {}
    for name, text in FILES.items():
        rows = [line.split(",")[::-1] for line in text.splitlines()]
        shuffled[name.removesuffix(".csv")] = "".join(",".join(row) + "\n" for row in rows)
    plain, other = load(tmp_path / "plain", contest=True), load(tmp_path / "other", contest=True, **shuffled)
    assert plain.fingerprint == other.fingerprint
    assert plain.questions is not None and other.questions is not None
    assert plain.questions.ids.tolist() == other.questions.ids.tolist()


# --- options -------------------------------------------------------------------------------------------------------


def test_rows_of_users_who_are_in_train_only_can_be_dropped(tmp_path: Path) -> None:
    dataset = load(tmp_path, drop_train_only=True)
    assert dataset.name == "news-articles[drop_train_only=true]"
    assert dataset.notes["rows_dropped_of_users_in_train_only"] == 2
    assert len(dataset.interactions) == 3
    assert dataset.user_ids.tolist() == [1, 2] and dataset.item_ids.tolist() == [10, 11]


def test_with_contest_the_universe_holds_what_is_to_be_predicted(tmp_path: Path) -> None:
    dataset = load(tmp_path, contest=True)
    assert dataset.user_ids.tolist() == [1, 2, 3, 4] and dataset.item_ids.tolist() == [10, 11, 12, 13]
    assert (dataset.interactions.n_users, dataset.interactions.n_items) == (4, 4)
    asked = dataset.questions
    assert asked is not None
    assert asked.ids.tolist() == ["4_13", "1_12", "2_11"]  # the order of the file
    assert asked.users.tolist() == [3, 0, 1] and asked.items.tolist() == [3, 2, 1]
    assert asked.users.dtype == asked.items.dtype == np.int32 and not asked.ids.flags.writeable
    assert dataset.user_columns["Age"].values.tolist()[3] == "15-20"
    assert dataset.item_columns["VintageMonths"].values.tolist()[3] == 1


def test_one_text_among_the_ids_to_predict_makes_all_ids_texts(tmp_path: Path) -> None:
    dataset = load(tmp_path, contest=True, test="User_ID,Article_ID,ID\nnew,10,a\n9,10,b\n")
    assert dataset.user_ids.tolist() == ["1", "2", "3", "9", "new"]
    assert dataset.questions is not None and dataset.questions.users.tolist() == [4, 3]
    assert dataset.interactions.users.tolist() == [0, 0, 1, 2, 2]


def test_the_cache_keeps_questions_and_tells_options_apart(tmp_path: Path) -> None:
    sources = write(tmp_path)
    for contest in (True, False, True):
        loader = NewsArticles(contest=contest)
        fresh, cached = load_cached(loader, sources), load_cached(loader, sources)
        assert cached.fingerprint == fresh.fingerprint
        if not contest:
            assert cached.questions is None
            continue
        assert fresh.questions is not None and cached.questions is not None
        for name, array in vars(fresh.questions).items():
            np.testing.assert_array_equal(vars(cached.questions)[name], array)


# --- files ---------------------------------------------------------------------------------------------------------


def test_files_are_found_and_never_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGAUGE_DATA", str(tmp_path))
    with pytest.raises(
        MissingDataError, match=r"proprietary .* train\.csv, test\.csv, user\.csv, article\.csv"
    ) as raised:
        NewsArticles().locate()
    assert str(tmp_path / "news-articles") in str(raised.value) and "news-articles-synthetic" in str(raised.value)
    sources = write(tmp_path / "news-articles")
    assert NewsArticles().locate() == sources
    (tmp_path / "news-articles" / "test.csv").unlink()
    with pytest.raises(MissingDataError):
        NewsArticles().locate()


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("train", "2,10,3,", "2,10,7,", r"train\.csv:4: column 'Rating' is '7'; a number from 0\.0 to 6\.0"),
        ("train", "2,10,3,", "2,10,-1,", r"train\.csv:4: column 'Rating' is '-1'; a number from 0\.0 to 6\.0"),
        ("train", "2,10,3,", "2,10,,", r"train\.csv:4: column 'Rating' is ''"),
        ("train", "2,10,3,", ",10,3,", r"train\.csv:4: column 'User_ID' is ''; an id is required"),
        ("train", "2,10,3,2_10", "2,10,3", r"train\.csv:4: 3 fields came; the header has 4"),
        ("train", "Rating", "Score", r"train\.csv:1: column 'Rating' is missing; the header is 'User_ID,Article_ID,Sc"),
        ("test", "Article_ID", "article", r"test\.csv:1: column 'Article_ID' is missing"),
        ("test", "1,12,1_12", "1,12,4_13", r"test\.csv:3: column 'ID' is '4_13'; it was there before"),
        ("test", "1,12,1_12", "1,,1_12", r"test\.csv:3: column 'Article_ID' is ''"),
        ("user", "15-20", "15-21", r"user\.csv:5: column 'Age' is '15-21'; one of '', 'Less tha 15', '15-20'"),
        ("user", "2,NA,", "1,NA,", r"user\.csv:3: column 'User_ID' is '1'; it was there before"),
        ("user", ",Age", "", r"user\.csv:1: column 'Age' is missing"),
        ("article", "30,7,60", "30,many,60", r"article\.csv:3: column 'NumberOfArticlesBySameAuthor' is 'many'"),
        ("article", "30,7,60", "30,7,NA", r"article\.csv:3: column 'NumberOfArticlesinSameCategory' is 'NA'"),
        ("article", "30,7,60", "30,-7,60", r"article\.csv:3: column 'NumberOfArticlesBySameAuthor' is '-7'"),
        ("article", "12,30", "10,30", r"article\.csv:3: column 'Article_ID' is '10'; it was there before"),
        ("article", "VintageMonths", "Vintage", r"article\.csv:1: column 'VintageMonths' is missing"),
    ],
)
def test_what_is_malformed_is_refused_by_file_and_line(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    text = FILES[f"{name}.csv"]
    assert old in text
    with pytest.raises(DataError, match=message):
        load(tmp_path, **{name: text.replace(old, new, 1)})


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("text", ["", "header only"])
def test_a_file_without_rows_is_refused(tmp_path: Path, name: str, text: str) -> None:
    header = FILES[name].splitlines()[0] + "\n" if text else ""
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        load(tmp_path, **{name.removesuffix(".csv"): header})
