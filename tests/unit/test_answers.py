"""Answers from files: read exactly or refused by line, and counted as a model's that gives the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse

from benchmarks.answers import open_answers, read_lists, read_scores
from benchmarks.external import Answers
from benchmarks.one_split import Asked
from datasets.errors import DataError
from datasets.top_k import PADDING
from protocols.leave_one_out import LeaveOneOut
from protocols.types import Arrays, Question

USERS, ITEMS = np.array([7, 8, 10]), np.array([1, 2, 3, 4, 50])
SEEN = sparse.csr_matrix(np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]))
SEEN.data[:] = 0.0  # a rating of 0 is a training row too
PAIRS = [(7, 1), (7, 3), (7, 4), (8, 2), (8, 4)]
SCORES = "user,item,score\n8,4,0.25\n7,3,-1\n7,1,2.5\n7,4,0\n8,2,1e-3\n"
IN_ORDER = [2.5, -1, 0, 1e-3, 0.25]
LISTS = "user,item,rank\n8,50,2\n7,3,1\n8,3,1\n7,50,2\n"


@pytest.fixture
def asked() -> Asked:
    """Two of three users are asked: pairs in ``PAIRS``, and their catalogue of five items."""
    users, items = (np.array(column) for column in zip(*PAIRS, strict=True))
    inner = np.searchsorted(USERS, users).astype(np.int32), np.searchsorted(ITEMS, items).astype(np.int32)
    listeners = np.array([0, 1], np.int32)
    return Asked(Question(*inner, listeners, listeners), USERS, ITEMS, SEEN)


def write(folder: Path, text: str) -> Path:
    path = folder / "answers.txt"
    path.write_text(text)
    return path


def trec(text: str) -> str:
    """CSV of scores as lines of TREC."""
    rows = [line.split(",") for line in text.splitlines()[1:]]
    return "".join(f"{user} Q0 {item} {rank} {score} run\n" for rank, (user, item, score) in enumerate(rows, start=1))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (SCORES, "csv"),
        (SCORES.replace(",", "\t"), "tsv"),
        ("\ufeff" + SCORES.replace("\n", "\r\n"), "csv"),
        (SCORES.replace("\n", "\n\n"), "csv"),
        (trec(SCORES), "trec"),
        (trec(SCORES).replace(" ", "\t"), "trec"),
    ],
)
def test_scores_are_put_into_the_order_of_the_question(tmp_path: Path, asked: Asked, text: str, kind: str) -> None:
    file = open_answers(write(tmp_path, text))
    assert file.kind == kind and file.has_scores
    assert read_scores(file, asked).tolist() == IN_ORDER


@pytest.mark.parametrize("number", [np.float64, np.float32])
def test_parquet_holds_the_same(tmp_path: Path, asked: Asked, number: type) -> None:
    path = tmp_path / "scores.parquet"
    users, items = zip(*PAIRS, strict=True)
    pq.write_table(pa.table({"user": users, "item": items, "score": np.array(IN_ORDER, number)}), path)
    scores = read_scores(open_answers(path), asked)
    assert scores.dtype == np.float64 and scores.tolist() == np.array(IN_ORDER, number).tolist()


BAD_SCORES = {
    "missing": (SCORES.replace("7,4,0\n", ""), 5, "ends here without a score for 1 of 5 asked pairs, the first of use"),
    "missing behind a blank line": (SCORES.replace("7,4,0\n", "\n"), 6, "first of user '7' and item '4'"),
    "nan": (SCORES.replace("-1", "nan"), 3, "column 'score' is 'nan'; a finite number"),
    "infinite": (SCORES.replace("1e-3", "1e999"), 6, "a finite number"),
    "empty": (SCORES.replace("2.5", ""), 4, "column 'score' is ''; a finite number"),
    "unknown user": (SCORES + "9,1,0\n", 7, "user '9' is not in this data set"),
    "unknown item": (SCORES.replace("7,3", "7,5"), 3, "item '5' is not in this data set"),
    "another way to write an id": (SCORES.replace("7,3", "07,3"), 3, "user '07' is not in this data set"),
    "a float as an id": (SCORES.replace("7,3", "7.0,3"), 3, "user '7.0' is not in this data set"),
    "twice": (SCORES + "7,3,-1\n", 7, "the pair of user '7' and item '3' was there before"),
    "never asked": (SCORES + "7,50,1\n", 7, "the pair of user '7' and item '50' was never asked"),
    "a user without a question": (SCORES + "10,1,1\n", 7, "the pair of user '10' and item '1' was never asked"),
    "the first of two": (SCORES.replace("7,3,-1", "7,3,nan") + "9,1,0\n", 3, "a finite number"),
    "a field too many": (SCORES.replace("2.5", "2.5,x"), 4, "4 fields came; the header has 3"),
    "no header": (SCORES.replace("user,item,score\n", ""), 1, "'8,4,0.25' is no header of answers; required is"),
    "nothing": ("", 1, "'' is no header of answers"),
    "a header alone": ("user,item,score\n", 2, "no row below the header"),
    "trec with a gap": (trec(SCORES).replace("Q0 3 2", "Q0 3"), 2, "5 fields came; required are 6"),
    "trec, never asked": (trec(SCORES) + "7 Q0 50 6 1 run\n", 6, "was never asked"),
}


@pytest.mark.parametrize("case", BAD_SCORES)
def test_scores_that_are_wrong_are_refused_by_line(tmp_path: Path, asked: Asked, case: str) -> None:
    text, line, reason = BAD_SCORES[case]
    path = write(tmp_path, text)
    with pytest.raises(DataError) as refused:
        read_scores(open_answers(path), asked)
    assert str(refused.value).startswith(f"{path}:{line}: ") and reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("score", float("nan"), "row 2: column 'score' is 'nan'; finite numbers"),
        ("score", None, "row 2: column 'score' is missing; finite numbers"),
        ("user", 9, "row 2: user '9' is not in this data set"),
        ("item", 1, "row 2: the pair of user '7' and item '1' was there before"),
    ],
)
def test_parquet_is_refused_by_row(tmp_path: Path, asked: Asked, column: str, value: object, reason: str) -> None:
    path = tmp_path / "scores.parquet"
    users, items = (list(each) for each in zip(*PAIRS, strict=True))
    columns: dict[str, list[object]] = {"user": users, "item": items, "score": list(IN_ORDER)}
    columns[column][1] = value
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError) as refused:
        read_scores(open_answers(path), asked)
    assert str(refused.value).startswith(f"{path}: {reason}")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.csv", "No such file"), (tmp_path, "directory")):
        with pytest.raises(DataError, match=reason):
            open_answers(path)
    pq.write_table(pa.table({"user": [1], "item": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet: column 'rank' is missing; required is user,item,score"):
        read_lists(open_answers(tmp_path / "a.parquet"), Asked(*[None] * 4), 2)  # type: ignore[arg-type]


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [LISTS, LISTS.replace(",", "\t"), "7 Q0 3 1 9 r\n7 Q0 50 2 9 r\n8 Q0 3 1 2 r\n8 Q0 50 2 1 r\n"]
)
def test_lists_come_by_rank_whatever_the_order_of_lines(tmp_path: Path, asked: Asked, text: str) -> None:
    assert read_lists(open_answers(write(tmp_path, text)), asked, 2).tolist() == [[2, 4], [2, 4]]


def test_lists_of_different_lengths(tmp_path: Path, asked: Asked) -> None:
    lists = read_lists(open_answers(write(tmp_path, LISTS + "7,1,3\n")), asked, 2)
    assert lists.tolist() == [[2, 4, 0], [2, 4, PADDING]]


def test_a_list_may_be_shorter_where_no_item_is_left(tmp_path: Path, asked: Asked) -> None:
    """Four of five items are unseen: a list of all four is whole though ten are required."""
    text = "user,item,rank\n" + "".join(
        f"{user},{item},{rank}\n" for user, items in ((7, (1, 3, 4, 50)), (8, (2, 3, 4, 50))) for rank, item in
        enumerate(items, start=1)
    )  # fmt: skip
    lists = read_lists(open_answers(write(tmp_path, text)), asked, 10)
    assert lists.shape == (2, 10) and (lists[:, 4:] == PADDING).all()


BAD_LISTS = {
    "missing": (
        "user,item,rank\n7,3,1\n7,50,2\n",
        3,
        "ends here without a list for 1 of 2 users, the first of user '8'",
    ),
    "short": (LISTS.replace("8,50,2\n", ""), 3, "the list of user '8' ends here with 1 items, 2 are required"),
    "seen": (
        LISTS.replace("7,50,2", "7,2,2"),
        5,
        "item '2' is in the training rows of user '7': lists leave those out",
    ),
    "twice": (LISTS.replace("7,50,2", "7,3,2"), 5, "item '3' was in the list of user '7' before"),
    "unknown": (LISTS.replace("7,50,2", "7,51,2"), 5, "item '51' is not in this data set"),
    "never asked": (LISTS + "10,1,1\n", 6, "user '10' was never asked"),
    "from 0": (LISTS.replace(",1\n", ",0\n").replace(",2\n", ",1\n"), 2, "ranks are 1, 2, 3, …, and this is 2"),
    "a gap": (LISTS.replace("7,50,2", "7,50,3"), 5, "rank 3 of user '7'; ranks are 1, 2, 3, …, and this is 2"),
    "a rank twice": (LISTS.replace("7,50,2", "7,50,1"), 5, "rank 1 of user '7'; ranks are 1, 2, 3, …, and this is 2"),
    "a fraction": (LISTS.replace("7,50,2", "7,50,1.5"), 5, "column 'rank' is '1.5'; a whole number is required"),
    "scores say otherwise": ("7 Q0 3 1 1 r\n7 Q0 50 2 9 r\n8 Q0 3 1 2 r\n8 Q0 50 2 1 r\n", 2, "item '50' has a higher"),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_lists_that_are_wrong_are_refused_by_line(tmp_path: Path, asked: Asked, case: str) -> None:
    text, line, reason = BAD_LISTS[case]
    path = write(tmp_path, text)
    with pytest.raises(DataError) as refused:
        read_lists(open_answers(path), asked, 2)
    assert str(refused.value).startswith(f"{path}:{line}: ") and reason in str(refused.value)


# --- counted ---------------------------------------------------------------------------------------------------------


LABELS: Arrays = {
    "users": np.array([0, 1], np.int32),
    "positive_items": np.array([3, 1], np.int32),
    "positive_index": np.array([2, 3]),
}


def test_scores_and_lists_are_counted_by_hand(asked: Asked) -> None:
    """User 7's positive is item 4: second of three candidates, and in no list; user 8's is item 2, second of two."""
    answers = Answers(asked, np.array(IN_ORDER), np.array([[2, 4], [1, 4]], np.int32))
    outcomes = answers.outcomes(LeaveOneOut(), LABELS)
    assert outcomes["n_better"].tolist() == [1, 1] and outcomes["n_tied"].tolist() == [0, 0]
    assert outcomes["positive_score"].tolist() == [0.0, 0.001]
    assert outcomes["n_better_full"].tolist() == [2, 0]
    assert outcomes["n_tied_full"].tolist() == [1, 0]  # item 1 is as little in the list as item 4
    assert answers.not_answered().keys() == {"mrr/full"}


def test_what_is_not_answered_has_its_reason(asked: Asked) -> None:
    protocol = LeaveOneOut()
    scores = Answers(asked, np.array(IN_ORDER), None)
    lists = Answers(asked, None, np.full((2, 10), PADDING, np.int32) + np.array([3] + [0] * 9, np.int32))
    of_scores, of_lists = (set(protocol.metrics(each.outcomes(protocol, LABELS))) for each in (scores, lists))
    assert "hr@10" in of_scores and not of_scores & scores.not_answered().keys()
    assert "hr@10/full" in of_lists and of_lists & lists.not_answered().keys() == {"mrr/full"}
    assert {"hr@10/full", "coverage@10"} <= scores.not_answered().keys()
    assert {"hr@10", "ndcg@10", "mrr"} <= lists.not_answered().keys()
