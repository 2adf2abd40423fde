"""What is wrong in a file is named by line; what is right is read exactly."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.canonical import inner_ids
from datasets.errors import DataError
from datasets.formats import Field, Format
from datasets.readers import _BLOCK_BYTES, line_of_row, read_table

FIELDS = [Field("user", "id"), Field("item", "id"), Field("rating", "number", 0.5, 5.0), Field("time", "seconds")]
HEADER = "user,item,rating,time\n"
GOOD = "1,10,4.0,964982703\n2,20,0.5,964982704\n"


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "ratings.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_columns_come_with_their_types(tmp_path: Path) -> None:
    path = write(tmp_path, 'time,rating,other,item,user\n964982703,4.5,x,a,007\n-5,1e0,y,"b,c",8\n')
    columns = read_table(path, FIELDS)
    assert columns["user"].to_pylist() == ["007", "8"]  # the text of an id is kept
    assert columns["item"].to_pylist() == ["a", "b,c"]
    assert columns["rating"].tolist() == [4.5, 1.0] and columns["rating"].dtype == np.float32
    assert columns["time"].tolist() == [964982703, -5] and columns["time"].dtype == np.int64


def test_times_keep_every_second(tmp_path: Path) -> None:
    """float32 holds 24 bits: these two would be one."""
    path = write(tmp_path, HEADER + "1,10,4.0,1537109082\n1,20,4.0,1537109083\n")
    assert read_table(path, FIELDS)["time"].tolist() == [1537109082, 1537109083]


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_endings_blank_lines_and_byte_order_marks_do_not_matter(tmp_path: Path, ending: str, bom: str) -> None:
    newline = ending or "\n"
    path = write(tmp_path, (bom + HEADER + "1,10,4.0,5\n\n2,20,3.0,6").replace("\n", newline) + ending)
    assert read_table(path, FIELDS)["rating"].tolist() == [4.0, 3.0]


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_other_delimiters(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path, (HEADER + GOOD).replace(",", delimiter))
    assert read_table(path, FIELDS, Format(delimiter))["item"].to_pylist() == ["10", "20"]


def test_texts_may_be_empty_and_na_is_a_text(tmp_path: Path) -> None:
    path = write(tmp_path, 'movie,title\n1,\n2,NA\n3,"Misérables, Les"\n')
    columns = read_table(path, [Field("movie", "id"), Field("title", "text")])
    assert columns["title"].tolist() == ["", "NA", "Misérables, Les"]


BAD = {
    "empty file": ("", 1, "the file is empty"),
    "header only": (HEADER, 2, "no row below the header"),
    "header without line end": (HEADER.strip(), 2, "no row below the header"),
    "missing column": ("user,item,time\n1,2,3\n", 1, "column 'rating' is missing; the header is 'user,item,time'"),
    "wrong delimiter": (HEADER.replace(",", "\t") + GOOD.replace(",", "\t"), 1, "column 'user' is missing"),
    "column named twice": ("user,item,rating,rating,time\n1,2,3,4,5\n", 1, "column 'rating' is there more than once"),
    "rating not a number": (HEADER + GOOD + "3,30,good,5\n", 4, "column 'rating' is 'good'; a finite number"),
    "rating with a comma": (HEADER + GOOD + '3,30,"4,5",5\n', 4, "column 'rating' is '4,5'; a finite number"),
    "rating missing": (HEADER + GOOD + "3,30,,5\n", 4, "column 'rating' is ''; a finite number"),
    "rating NA": (HEADER + GOOD + "3,30,NA,5\n", 4, "column 'rating' is 'NA'; a finite number"),
    "rating NaN": (HEADER + "3,30,NaN,5\n" + GOOD, 2, "column 'rating' is 'NaN'; a finite number"),
    "rating infinite": (HEADER + GOOD + "3,30,-inf,5\n", 4, "column 'rating' is '-inf'; a finite number"),
    "rating beyond float32": (HEADER + GOOD + "3,30,1e39,5\n", 4, "column 'rating' is '1e39'; a finite number"),
    "rating too high": (HEADER + GOOD + "3,30,5.5,5\n", 4, "'5.5'; a number from 0.5 to 5.0 is required"),
    "rating too low": (HEADER + GOOD + "3,30,0,5\n", 4, "'0'; a number from 0.5 to 5.0 is required"),
    "time with a fraction": (HEADER + GOOD + "3,30,4,5.5\n", 4, "column 'time' is '5.5'; a whole number of seconds"),
    "time over 64 bits": (HEADER + GOOD + f"3,30,4,{2**63}\n", 4, "a whole number of seconds"),
    "last line cut": (HEADER + GOOD + "3,30", 4, "2 fields came; the header has 4"),
    "one field too many": (HEADER + "3,30,4,5,6\n" + GOOD, 2, "5 fields came; the header has 4"),
    "empty id": (HEADER + GOOD + ",30,4,5\n", 4, "column 'user' is ''; an id is required"),
    "NUL in an id": (HEADER + GOOD + "3,3\0,4,5\n", 4, "NUL"),
    "open quote": (HEADER + GOOD + '3,"30,4,5\n4,40,4,5\n', 4, "fields came"),
    "line break in an id": (HEADER + GOOD + '3,4,4,5\n"x\ny",30,4,5\n', 5, "fields came"),
    "not UTF-8": (HEADER.encode() + GOOD.encode() + "é,30,4,5\n".encode("latin-1"), 4, "not UTF-8"),
    "not UTF-8 in the header": ("usér\n1\n".encode("latin-1"), 1, "not UTF-8"),
    "first of two": (HEADER + "3,30,x,5\n3,30\n", 2, "column 'rating' is 'x'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_file_line_and_reason(tmp_path: Path, case: str) -> None:
    content, line, reason = BAD[case]
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_table(path, FIELDS)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert reason in message
    assert "\n" not in message


def test_an_id_that_must_be_unique_is(tmp_path: Path) -> None:
    path = write(tmp_path, "movie\n1\n2\n1\n")
    with pytest.raises(DataError, match=r":4: column 'movie' is '1'; it was there before"):
        read_table(path, [Field("movie", "id", unique=True)])
    assert len(read_table(path, [Field("movie", "id")])["movie"]) == 3


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e39", "1e400"])
def test_a_number_without_bounds_is_still_finite(tmp_path: Path, value: str) -> None:
    path = write(tmp_path, f"rating\n1\n{value}\n")
    with pytest.raises(DataError, match=r":3: column 'rating' is .*; a finite number is required"):
        read_table(path, [Field("rating", "number")])


def test_a_real_keeps_its_64_bits_and_a_whole_number_is_one(tmp_path: Path) -> None:
    """In float32 the first two scores would be one."""
    fields = [Field("score", "real"), Field("rank", "whole")]
    path = write(tmp_path, "score,rank\n1.00000001,1\n1.00000002,-2\n1e300,3\n")
    columns = read_table(path, fields)
    assert columns["score"].tolist() == [1.00000001, 1.00000002, 1e300] and columns["score"].dtype == np.float64
    assert columns["rank"].tolist() == [1, -2, 3] and columns["rank"].dtype == np.int64
    for line, reason in {"nan,1": "a finite", "1e400,1": "a finite", ",1": "a finite", "1,1.5": "a whole"}.items():
        with pytest.raises(DataError, match=rf":3: column .*; {reason} number is required$"):
            read_table(write(tmp_path, f"score,rank\n1,1\n{line}\n"), fields)


@pytest.mark.parametrize("names", [None, ("user",)])
def test_a_row_knows_its_line(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    """Blank lines are no rows."""
    path = write(tmp_path, "\n".join([*(["user"] if names is None else []), "a", "", "", "b", "c", ""]))
    format = Format(names=names)
    assert len(read_table(path, [Field("user", "id")], format)["user"]) == 3
    header = int(names is None)
    assert [line_of_row(path, row, format) - header for row in range(3)] == [1, 4, 5]


def test_a_file_of_many_blocks(tmp_path: Path) -> None:
    """Arrow reads in blocks of some megabytes, each with a dictionary of its own."""
    n_rows = 400_000
    content = HEADER + "".join(f"user-{row},{row},4.0,{row}\n" for row in range(n_rows))
    columns = read_table(write(tmp_path, content), FIELDS)
    assert columns["user"].num_chunks > 1
    codes, distinct = inner_ids(columns["user"])
    assert distinct[codes].tolist() == [f"user-{row}" for row in range(n_rows)]

    path = write(tmp_path, content + ",5,4.0,5\n")
    with pytest.raises(DataError, match=rf":{n_rows + 2}: column 'user' is ''; an id is required"):
        read_table(path, FIELDS)


def test_a_folder_or_nothing_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="directory"):
        read_table(tmp_path, FIELDS)
    with pytest.raises(DataError, match="No such file"):
        read_table(tmp_path / "none.csv", FIELDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


@given(n_rows=st.integers(1, 40), data=st.data())
def test_the_one_wrong_line_is_the_one_named(folder: Path, n_rows: int, data: st.DataObject) -> None:
    wrong = data.draw(st.integers(0, n_rows - 1))
    bad = data.draw(st.sampled_from(["1,2,nan,4", "1,2,3", "1,2,3,4,5", "1,,3,4", "1,2,3,4.0", "1,2,6,4", "1,2,3_0,4"]))
    lines = [bad if row == wrong else f"{row},{row},3.5,{row}" for row in range(n_rows)]
    path = write(folder, HEADER + "\n".join(lines))
    with pytest.raises(DataError) as caught:
        read_table(path, FIELDS)
    assert str(caught.value).startswith(f"{path}:{wrong + 2}: ")


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([b"1", b"2.5", b",", b"\n", b"\r", b'"', b"x", b"\xff", b"\0", b"-", b" "]), max_size=30)
)
def test_whatever_comes_is_read_or_refused_in_one_line(folder: Path, pieces: list[bytes]) -> None:
    path = write(folder, b"user,rating\n" + b"".join(pieces))
    try:
        columns = read_table(path, [Field("user", "id"), Field("rating", "number")])
    except DataError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(f"{path}:"), "a file name first"
    else:
        assert len(columns["user"]) == len(columns["rating"]) > 0
        assert np.isfinite(columns["rating"]).all()
        assert all(columns["user"].to_pylist())


# --- other formats -------------------------------------------------------------------------------------------------

COLONS = Format("::", quoted=False)


def test_double_colons_leave_single_ones_alone(tmp_path: Path) -> None:
    path = write(tmp_path, 'user::title\n1::Alien: "Director\'s cut"\na:b::x:y\n')
    columns = read_table(path, [Field("user", "id"), Field("title", "text")], COLONS)
    assert columns["user"].to_pylist() == ["1", "a:b"]
    assert columns["title"].tolist() == ['Alien: "Director\'s cut"', "x:y"]


def test_double_colons_may_lie_across_two_reads(tmp_path: Path) -> None:
    """The reader takes megabytes at a time: whatever byte a block ends with, the columns are the same."""
    for shift in range(4):
        ignored = "x" * (_BLOCK_BYTES - len("note::user::rating\n") - 3 + shift)
        path = write(tmp_path, f"note::user::rating\n{ignored}::a::1\n::b::2\n")
        columns = read_table(path, [Field("user", "id"), Field("rating", "number")], COLONS)
        assert columns["user"].to_pylist() == ["a", "b"] and columns["rating"].tolist() == [1.0, 2.0]


def test_latin_1_and_files_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, '1|"É"\n\n2|b\n'.encode("latin-1"))
    layout = Format("|", quoted=False, encoding="latin-1", names=("movie", "title"))
    columns = read_table(path, [Field("movie", "id"), Field("title", "text")], layout)
    assert columns["title"].tolist() == ['"É"', "b"]
    write(tmp_path, "1|a\n2\n")
    with pytest.raises(DataError, match=r":2: 1 fields came; required are 2"):
        read_table(path, [Field("movie", "id"), Field("title", "text")], layout)
    write(tmp_path, "")
    with pytest.raises(DataError, match=r":1: no row at all"):
        read_table(path, [Field("movie", "id"), Field("title", "text")], layout)


@pytest.mark.parametrize("big", [str(2**63), str(-(2**63) - 1), "9" * 30])
def test_an_integer_id_over_64_bits_is_refused_by_line(tmp_path: Path, big: str) -> None:
    path = write(tmp_path, HEADER + f"1,10,4.0,5\n\n2,{big},4.0,6\n")
    with pytest.raises(DataError, match=rf":4: column 'item' is '{big}'; integer ids must fit 64 bits"):
        read_table(path, FIELDS)
    write(tmp_path, HEADER + f"1,a,4.0,5\n2,{big},4.0,6\n")  # among texts, digits are a text like any other
    assert read_table(path, FIELDS)["item"].to_pylist() == ["a", big]


def test_a_text_that_is_too_long_leaves_its_column_out(tmp_path: Path) -> None:
    path = write(tmp_path, "movie,plot\n1,short\n2,ééééé\n")
    assert read_table(path, [Field("movie", "id"), Field("plot", "text", longest=5)])["plot"] is not None
    assert read_table(path, [Field("movie", "id"), Field("plot", "text", longest=4)])["plot"] is None


def test_a_wrong_line_behind_many_good_ones_is_found_at_once(tmp_path: Path) -> None:
    """Blocks that are right are skipped by the fast path; only the wrong one is read line by line."""
    rows = b"".join(b"%d,%d,3.5,%d\r\n" % (n, n, n) for n in range(20_000)) * 100
    path = write(tmp_path, HEADER.encode() + rows + b"1,2,x,4\n" + rows)
    start = time.process_time()  # CPU seconds: other work on the machine does not count
    with pytest.raises(DataError, match=r":2000002: column 'rating' is 'x'"):
        read_table(path, FIELDS)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1,10,4.0," + "9" * 5_000, "column 'time' is '999"),  # Python reads no integer of so many digits
        ("1,10,4.0,-" + "9" * 5_000, "a whole number of seconds is required"),
        ("x" * 1_001 + ",10,4.0,5", "1,001 characters are too many, 1,000 are possible"),
        ("\x1b[31mred,10,x,5", "column 'rating' is 'x'"),
        ("1,10,\x1b[31mred,5", r"column 'rating' is '\x1b[31mred'"),
        ("1,10,4.0," + "y" * 5_000, "..."),
    ],
)
def test_a_hostile_value_is_named_and_cut(tmp_path: Path, row: str, reason: str) -> None:
    path = write(tmp_path, HEADER + GOOD + row + "\n")
    with pytest.raises(DataError) as caught:
        read_table(path, FIELDS)
    message = str(caught.value)
    assert message.startswith(f"{path}:4: ") and reason in message
    assert message.isprintable() and len(message) < 400


def test_leading_zeros_do_not_make_an_integer_too_long(tmp_path: Path) -> None:
    ids = ["0" * 900 + "7", "8"]
    path = write(tmp_path, "user\n" + "\n".join(ids) + "\n")
    assert read_table(path, [Field("user", "id")])["user"].to_pylist() == ids


def test_an_endless_id_does_not_fill_the_memory(tmp_path: Path) -> None:
    """An array of texts has four bytes for each character of the longest, in every row."""
    path = write(tmp_path, "user\n" + "x" * 100_000 + "\n" + "a\n" * 1_000)
    with pytest.raises(DataError, match=r":2: .*100,000 characters are too many"):
        read_table(path, [Field("user", "id")])


def test_a_line_without_an_end_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "user::rating\n1::2\n" + "x" * (3 * _BLOCK_BYTES))
    with pytest.raises(DataError, match=r":3: the line is longer than .* are line ends missing"):
        read_table(path, [Field("user", "id"), Field("rating", "number")], Format("::", quoted=False))
