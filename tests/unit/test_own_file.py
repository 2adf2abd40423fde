"""The user's own file: what is guessed, what can be said, and what is refused in one line."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets.errors import DataError, MissingDataError, UserError
from datasets.own_file import OwnFile, parse_columns, parse_scale
from datasets.types import Dataset

ROWS = "1,10,4.0,5\n2,20,0.5,6\n2,10,3.0,7\n"


def write(folder: Path, content: str | bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(folder: Path, name: str = "ratings.parquet", **columns: Any) -> Path:
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def load(path: Path, **options: Any) -> Dataset:
    loader = OwnFile(path, **options)
    return loader.load(loader.locate())


def refusal(path: Path, **options: Any) -> str:
    """The one line with which ``path`` is refused, without the folder's name."""
    with pytest.raises(UserError) as caught:
        load(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def rows_of(dataset: Dataset) -> list[tuple[Any, Any, float]]:
    rows = dataset.interactions
    users, items = dataset.user_ids[rows.users].tolist(), dataset.item_ids[rows.items].tolist()
    return list(zip(users, items, rows.values.tolist(), strict=True))


@pytest.mark.parametrize(
    "header",
    [
        "user,item,rating,time",
        "userId,movieId,rating,timestamp",
        "user_id,item_id,score,ts",
        "uid,Article ID,value,Time",
    ],
)
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", "::"])
def test_names_and_delimiters_are_guessed(tmp_path: Path, header: str, delimiter: str) -> None:
    path = write(tmp_path, f"{header}\n{ROWS}".replace(",", delimiter), "My Ratings.txt")
    dataset = load(path)
    assert rows_of(dataset) == [(1, 10, 4.0), (2, 20, 0.5), (2, 10, 3.0)]
    assert dataset.interactions.times is not None and dataset.interactions.times.tolist() == [5, 6, 7]
    assert dataset.rating_scale == (0.5, 4.0)
    assert dataset.name == "my-ratings"
    assert dataset.notes["duplicate_rows"] == 0


def test_columns_that_are_given_come_before_guesses(tmp_path: Path) -> None:
    path = write(tmp_path, "user,reader,item,when,rating\nx,1,10,5,4\nx,2,20,6,3\n")
    dataset = load(path, columns=parse_columns("user=reader,time=when"))
    assert dataset.user_ids.tolist() == [1, 2]
    assert dataset.interactions.times is not None and dataset.interactions.times.tolist() == [5, 6]


def test_without_ratings_every_row_is_a_one(tmp_path: Path) -> None:
    dataset = load(write(tmp_path, "user,item\nann,x\nbob,y\nbob,y\n"))
    assert rows_of(dataset) == [("ann", "x", 1.0), ("bob", "y", 1.0)]
    assert dataset.rating_scale is None and dataset.interactions.times is None
    assert dataset.notes["duplicate_rows"] == 1  # counted, not refused


def test_the_scale_is_declared_observed_or_none(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,rating\n1,10,2\n2,20,4\n")
    assert load(path).rating_scale == (2.0, 4.0)
    assert load(path, scale=(1.0, 5.0)).rating_scale == (1.0, 5.0)
    message = refusal(path, scale=(1.0, 3.0))
    assert message == "ratings.csv:3: column 'rating' is '4'; a number from 1.0 to 3.0 is required"
    assert load(write(tmp_path, "user,item,rating\n1,10,1\n2,20,1\n")).rating_scale is None


def test_metadata_of_items_and_users(tmp_path: Path) -> None:
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    prose = "long " * 50
    items = write(
        tmp_path,
        f"item_id;title;genres;year;price;plot\n20;B;Drama|War;;1.5;\n10;A;Drama;1995;2;{prose}\n30;C;;1;1;\n",
        "items.csv",
    )
    users = write(tmp_path, "uid\tcity\tage\n1\tRome\t30\n", "users.tsv")
    dataset = load(ratings, items=items, users=users)
    assert dataset.item_titles is not None and dataset.item_titles.tolist() == ["A", "B"]
    kinds = {name: column.kind for name, column in dataset.item_columns.items()}
    assert kinds == {"genres": "categories", "year": "number", "price": "number"}
    assert dataset.item_columns["genres"].values.tolist() == ["Drama", "Drama|War"]
    np.testing.assert_array_equal(dataset.item_columns["year"].values, [1995.0, np.nan])
    assert dataset.user_columns["city"].kind == "category"
    assert dataset.user_columns["city"].values.tolist() == ["Rome", ""]
    np.testing.assert_array_equal(dataset.user_columns["age"].values, [30.0, np.nan])
    assert dataset.notes["items_without_ratings"] == 1 and dataset.notes["users_without_metadata"] == 1
    assert dataset.notes["items_columns_left_out"] == 1  # the plot


def test_a_title_that_is_too_long_is_cut_and_counted(tmp_path: Path) -> None:
    """It refuses no file, and no array is as wide as it: four bytes a character in every row."""
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    titles = ["é" * 1_000, "é" * 100_000]
    text = write(tmp_path, f"item,title\n10,{titles[0]}\n20,{titles[1]}\n", "items.csv")
    for items in (text, parquet(tmp_path, "items.parquet", item=[10, 20], title=titles)):
        dataset = load(ratings, items=items)
        assert dataset.item_titles is not None
        assert dataset.item_titles.tolist() == ["é" * 1_000, "é" * 1_000 + "…"]
        assert dataset.item_titles.dtype == "<U1001" and dataset.notes["items_titles_cut"] == 1
    text.write_text("item,title\n10,A\n20,B\n")
    assert "items_titles_cut" not in load(ratings, items=text).notes


def test_an_item_id_that_is_too_long_is_refused(tmp_path: Path) -> None:
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    items = write(tmp_path, f"item,title\n{'x' * 1_001},A\n", "items.csv")
    assert "1,001 characters are too many, 1,000 are possible" in refusal(ratings, items=items)


def test_a_wrong_line_below_a_long_title_is_named(tmp_path: Path) -> None:
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    items = write(tmp_path, f"item,title\n10,{'x' * 1_001}\n20,A,B\n", "items.csv")
    assert refusal(ratings, items=items).startswith("items.csv:3: 3 fields came")


def test_metadata_may_have_columns_that_look_like_ratings(tmp_path: Path) -> None:
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    items = write(tmp_path, "item,score,value,time\n10,1,2,3\n20,4,5,6\n", "items.csv")
    assert list(load(ratings, items=items).item_columns) == ["score", "value", "time"]


def test_users_without_items(tmp_path: Path) -> None:
    """Sources are told apart by position: users alone must not be read as items."""
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    dataset = load(ratings, users=write(tmp_path, "user,age\n1,30\n2,40\n", "users.csv"))
    assert dataset.user_columns["age"].values.tolist() == [30.0, 40.0] and dataset.item_columns == {}


# --- Parquet -------------------------------------------------------------------------------------------------------


def test_parquet_types_give_what_text_gives(tmp_path: Path) -> None:
    text = load(write(tmp_path, f"user,item,rating,time\n{ROWS}"))
    milliseconds = pa.array([5_999, 6_000, 7_001], pa.timestamp("ms"))
    tables = [
        {"user": [1, 2, 2], "item": ["10", "20", "10"], "rating": [4.0, 0.5, 3.0], "time": [5, 6, 7]},
        {
            "user": pa.array([1, 2, 2], pa.uint8()),
            "item": pa.array(["10", "20", "10"]).dictionary_encode(),
            "rating": pa.array([4.0, 0.5, 3.0], pa.float32()),
            "time": milliseconds,
        },
    ]
    for table in tables:
        assert load(parquet(tmp_path, **table)).fingerprint == text.fingerprint


def test_times_before_1970_are_rounded_down(tmp_path: Path) -> None:
    stamps = pa.array([-1_500, 1_500], pa.timestamp("ms"))
    times = load(parquet(tmp_path, user=[1, 2], item=[1, 2], time=stamps)).interactions.times
    assert times is not None and times.tolist() == [-2, 1]


WRONG_PARQUET: dict[str, tuple[dict[str, Any], str]] = {
    "missing id": ({"user": [1, None], "item": [1, 2]}, "row 2: column 'user' is missing"),
    "empty id": ({"user": ["a", ""], "item": [1, 2]}, "row 2: column 'user' is ''"),
    "ids with fractions": (
        {"user": [1.0, 2.0], "item": [1, 2]},
        "column 'user' is of type double; an integer or a text",
    ),
    "rating NaN": ({"user": [1, 2], "item": [1, 2], "rating": [1.0, float("nan")]}, "row 2: column 'rating' is 'nan'"),
    "rating missing": ({"user": [1, 2], "item": [1, 2], "rating": [1.0, None]}, "row 2: column 'rating' is missing"),
    "time with a fraction": ({"user": [1, 2], "item": [1, 2], "time": [1.0, 2.5]}, "column 'time' is of type double"),
    "over 64 bits": (
        {"user": pa.array([1, 2**63], pa.uint64()), "item": [1, 2]},
        f"column 'user' holds '{2**63}'; integer ids must fit 64 bits",
    ),
    "no row": ({"user": pa.array([], pa.int64()), "item": pa.array([], pa.int64())}, "no row"),
    "one user": ({"user": [1, 1], "item": [1, 2]}, "all 2 rows are of one user"),
    "ids of bytes": (
        {"user": [b"a", b"\xff"], "item": [1, 2]},
        "column 'user' is of type binary; an integer or a text",
    ),
    "ids in lists": ({"user": [[1], [2]], "item": [1, 2]}, "column 'user' is of type list<"),
    "empty id of a dictionary": (
        {"user": pa.array(["a", ""]).dictionary_encode(), "item": [1, 2]},
        "row 2: column 'user' is ''",
    ),
    "no item column": ({"user": [1, 2], "thing": [1, 2]}, "no column for item in the header ['user', 'thing']"),
}


@pytest.mark.parametrize("case", WRONG_PARQUET)
def test_bad_parquet_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    columns, reason = WRONG_PARQUET[case]
    message = refusal(parquet(tmp_path, **columns))
    assert message.startswith("ratings.parquet: ") and reason in message


def test_a_parquet_item_described_twice_is_named_by_row(tmp_path: Path) -> None:
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    items = parquet(tmp_path, "items.parquet", item=[10, 20, 10], year=[1, 2, 3])
    assert refusal(ratings, items=items).startswith("items.parquet: row 3: column 'item' is '10'; an integer or")


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path, user=[1, 2], item=[1, 2])
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(path).startswith("ratings.parquet: no readable Parquet file")


# --- refusals ------------------------------------------------------------------------------------------------------

WRONG_TEXT = {
    "no header": ("1,10,4.0,5\n2,20,3,6\n", ":1: no header line but '1,10,4.0,5'; add one, such as user"),
    "spaces": ("user item rating\n1 10 4\n", ":1: no column for user in the header 'user item rating'; name"),
    "rows of another delimiter": ("user,item\n1;10\n2;20\n", ":2: 1 fields came; the header has 2"),
    "no item": ("user,thing\n1,2\n", ":1: no column for item in the header 'user,thing'; name them: --columns"),
    "two users": ("user,uid,item\n1,1,2\n", ":1: 'user' and 'uid' may both be the user; name them: --columns"),
    "empty": ("", ":1: the file is empty"),
    "no rows": ("user,item\n\n", ":2: no row below the header"),
    "one user": ("user,item\n7,1\n7,2\n", ": all 2 rows are of one user; at least two users are required"),
    "over 64 bits": (f"user,item\n1,1\n{2**63},2\n", f":3: column 'user' is '{2**63}'; integer ids must fit"),
    "not UTF-8": ("user,item\né,1\n".encode("latin-1"), ":2: not UTF-8; save the file as UTF-8"),
    "header not UTF-8": ("user,item,é\n1,1,1\n".encode("latin-1"), ":1: not UTF-8; save the file as UTF-8"),
    "binary": (b"PK\3\4\0\0\0user,item\n", ":1: 'PK\\x03\\x04\\x00\\x00\\x00user,item' is no text"),
    "rating": ("user,item,rating\n1,1,good\n", ":2: column 'rating' is 'good'; a finite number is required"),
    "date": ("user,item,time\n1,1,2020-01-01\n", ":2: column 'time' is '2020-01-01'; a whole number"),
}


@pytest.mark.parametrize("case", WRONG_TEXT)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    content, reason = WRONG_TEXT[case]
    assert refusal(write(tmp_path, content)).startswith(f"ratings.csv{reason}")


def test_a_bad_metadata_file_is_refused_by_its_own_name(tmp_path: Path) -> None:
    ratings = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    twice = write(tmp_path, "item,year\n10,1\n10,2\n", "items.csv")
    assert refusal(ratings, items=twice).startswith("items.csv:3: column 'item' is '10'; it was there before")
    message = "items.csv:1: no column for user in the header 'item,year'; call the column of its ids user"
    assert refusal(ratings, users=twice) == message


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, f"user,item,rating,time\n{ROWS}")
    reason = "ratings.csv:1: no column 'reader' for user; the header is 'user,item,rating,time'"
    assert refusal(path, columns={"user": "reader"}) == reason


def test_a_directory_or_nothing_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a directory; name the file in it"):
        OwnFile(tmp_path).locate()
    with pytest.raises(MissingDataError, match=r"none\.csv: no such file"):
        OwnFile(tmp_path / "none.csv").locate()


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, f"user,item,rating,time\n{ROWS}")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read whatever its mode
    assert refusal(path) == "ratings.csv: Permission denied"


def test_one_column_is_not_two_things() -> None:
    with pytest.raises(UserError, match=r"--columns user=a,item=a: 'a' stands for two things"):
        parse_columns("user=a,item=a")


@pytest.mark.parametrize("text", ["1", "5,1", "1,1", "a,b", "nan,5", "0,inf", "1,2,3", ""])
def test_scales_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=rf"^--scale {text}: expected LOWEST,HIGHEST rating, such as 1,5$"):
        parse_scale(text)


def test_a_scale_may_be_negative() -> None:
    assert parse_scale("-10,10") == (-10.0, 10.0)


@pytest.mark.parametrize("text", ["", "user", "user=", "reader=x", "user=a,user=b", "user=a,,item=b"])
def test_columns_in_another_form_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--columns .* may stand once, as in user=NAME"):
        parse_columns(text)


def test_a_long_or_coloured_header_is_shown_cut_and_escaped(tmp_path: Path) -> None:
    message = refusal(write(tmp_path, "\x1b[31mred," + "x" * 5_000 + "\n1,2\n"))
    assert message.startswith(r"ratings.csv:1: no column for user in the header '\x1b[31mred,xxx")
    assert message.isprintable() and len(message) < 600


def test_an_endless_header_is_refused(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, "é" * 100_000)).startswith(
        "ratings.csv:1: the header line is longer than 65,536 bytes"
    )


def test_old_line_ends_are_read(tmp_path: Path) -> None:
    assert len(load(write(tmp_path, ("user,item,rating,time\n" + ROWS).replace("\n", "\r"))).interactions) == 3


def not_utf8(n: int) -> pa.Array:
    return pa.array([b"a\xff"] * n, pa.binary()).view(pa.string())


def test_parquet_texts_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    """Arrow takes a file's word that they are."""
    path = parquet(tmp_path, user=not_utf8(2), item=["a", "b"])
    assert refusal(path).startswith("ratings.parquet: column 'user' is damaged: ")
    write(tmp_path, "user,item\n1,a\n2,b\n")
    items = parquet(tmp_path, "items.parquet", item=["a", "b"], title=not_utf8(2))
    with pytest.raises(DataError, match=r"items\.parquet: column 'title' is damaged"):
        load(tmp_path / "ratings.csv", items=items)


def test_parquet_columns_of_an_odd_name_are_shown_escaped(tmp_path: Path) -> None:
    message = refusal(parquet(tmp_path, **{"\x1b[31mred": [1, 2], "item": [1, 2]}))
    assert r"['\x1b[31mred', 'item']" in message


def test_a_parquet_file_that_would_unpack_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    row = pa.table({"user": pa.array([1]).take(np.zeros(3_000_000, int)), "item": [1] * 3_000_000})
    pq.write_table(row, path, compression="zstd", row_group_size=3_000_000)
    assert "3,000,000 rows in" in refusal(path)
