"""Answers that were made elsewhere, read strictly: a score for every pair that was asked, or a list for every user.

CSV or TSV with a header line, Parquet, or TREC's run format (``user Q0 item rank score tag``). What is wrong is named
by file and line, in Parquet by row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.one_split import Asked
from datasets.errors import DataError
from datasets.formats import Field, Format
from datasets.parquet import column_names, read_parquet
from datasets.readers import line_of_row, read_table, shown, split_line
from datasets.top_k import PADDING

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]

_TREC = ("user", "q0", "item", "rank", "score", "tag")
_WANTED = "user,item,score (scores), user,item,rank (lists), or lines of TREC (user Q0 item rank score tag)"


@dataclass(frozen=True)
class AnswerFile:
    """One file and how it is written.

    Attributes:
        kind: ``csv``, ``tsv``, ``parquet`` or ``trec``.
        columns: the names of its columns.
        format: of a text file; None for Parquet.
    """

    path: Path
    kind: str
    columns: tuple[str, ...]
    format: Format | None

    @property
    def has_scores(self) -> bool:
        return "score" in self.columns

    def read(self, fields: list[Field]) -> dict[str, Any]:
        """The columns ``fields`` as ``datasets.readers.read_table`` gives them."""
        for field in fields:
            if field.name not in self.columns:
                where = self.path if self.format is None else f"{self.path}:1"
                raise DataError(f"{where}: column '{field.name}' is missing; required is {_WANTED}")
        return read_parquet(self.path, fields) if self.format is None else read_table(self.path, fields, self.format)

    def at(self, row: int, reason: str) -> DataError:
        """``file:line: reason`` for a row, from 0; of a Parquet file ``file: row 1: reason``."""
        if self.format is None:
            return DataError(f"{self.path}: row {row + 1}: {reason}")
        return DataError.at(self.path, line_of_row(self.path, row, self.format), reason)


def open_answers(path: Path) -> AnswerFile:
    """Find out how ``path`` is written.

    Raises:
        DataError: no such file, or one that is written in no way known here.
    """
    try:
        with path.open("rb") as file:
            start = file.readline(1 << 16)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if start.startswith(b"PAR1"):
        return AnswerFile(path, "parquet", tuple(column_names(path)), None)
    line = start.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    words = line.split()
    if len(words) == len(_TREC) and words[1].upper() == "Q0":
        return AnswerFile(path, "trec", _TREC, Format("\t" if "\t" in line else " ", quoted=False, names=_TREC))
    format = Format("\t" if "\t" in line else ",")
    names = split_line(line, format)
    if not (isinstance(names, list) and {"user", "item"} <= set(names) and {"score", "rank"} & set(names)):
        raise DataError.at(path, 1, f"{shown(line)} is no header of answers; required is {_WANTED}")
    return AnswerFile(path, "tsv" if format.delimiter == "\t" else "csv", tuple(names), format)


# --- scores ----------------------------------------------------------------------------------------------------------


def read_scores(file: AnswerFile, asked: Asked) -> npt.NDArray[np.float64]:
    """(p,) finite scores in the order of the question's pairs.

    Raises:
        DataError: a pair that is missing, repeated or was never asked, an unknown id, a score that is not finite.
    """
    read = file.read([Field("user", "id"), Field("item", "id"), Field("score", "real")])
    users, items = _inner(read["user"], asked.user_ids), _inner(read["item"], asked.item_ids)
    question = asked.question
    wanted = _keys(question.pair_users, question.pair_items, asked)
    keys = _keys(users, items, asked)
    places = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)

    hint = "; lists go with --lists" if "rank" in file.columns else ""

    def pair(row: int) -> str:
        return f"user {shown(_text(read['user'], row))} and item {shown(_text(read['item'], row))}"

    _refuse_first(
        file,
        *_unknown(read, users, items),
        (wanted[places] != keys, lambda row: f"the pair of {pair(row)} was never asked{hint}"),
        (_repeated(keys), lambda row: f"the pair of {pair(row)} was there before; each has one score"),
    )
    scores = np.full(len(wanted), np.nan)
    scores[places] = read["score"]
    missing = np.flatnonzero(np.isnan(scores))
    if len(missing):
        first = question.pair_users[missing[0]], question.pair_items[missing[0]]
        user, item = asked.user_ids[first[0]], asked.item_ids[first[1]]
        raise file.at(
            len(keys) - 1,
            f"the file ends here without a score for {len(missing):,} of {len(wanted):,} asked pairs, the first of "
            f"user {shown(str(user))} and item {shown(str(item))}",
        )
    return scores


# --- lists -----------------------------------------------------------------------------------------------------------


def read_lists(file: AnswerFile, asked: Asked, shortest: int) -> npt.NDArray[np.int32]:
    """(m, longest) int32 items, the best first, for each of the question's ``rank_users``; ``PADDING`` at the end.

    Args:
        shortest: entries that a list needs, if the user has so many items without a training row.

    Raises:
        DataError: a list that is missing or too short, an item that is unknown, repeated or in the user's training
            rows, ranks that are not 1, 2, 3, …, or scores beside them that say otherwise.
    """
    fields = [Field("user", "id"), Field("item", "id"), Field("rank", "whole")]
    read = file.read([*fields, Field("score", "real")] if file.has_scores else fields)
    users, items = _inner(read["user"], asked.user_ids), _inner(read["item"], asked.item_ids)
    ranks: Rows = read["rank"]
    order = np.lexsort((ranks, users))
    starts = np.flatnonzero(np.diff(users[order], prepend=-2))
    sizes = np.diff(starts, append=len(order))
    due = np.empty(len(order), dtype=np.int64)
    due[order] = np.arange(len(order)) - np.repeat(starts, sizes) + 1
    keys, listeners = _keys(users, items, asked), asked.question.rank_users
    owners = np.repeat(np.arange(asked.seen.shape[0]), np.diff(asked.seen.indptr))
    in_training = np.isin(keys, _keys(owners, asked.seen.indices, asked))

    def whose(row: int) -> str:
        return f"user {shown(_text(read['user'], row))}"

    def what(row: int) -> str:
        return f"item {shown(_text(read['item'], row))}"

    _refuse_first(
        file,
        *_unknown(read, users, items),
        (~np.isin(users, listeners), lambda row: f"{whose(row)} was never asked"),
        (in_training, lambda row: f"{what(row)} is in the training rows of {whose(row)}: lists leave those out"),
        (_repeated(keys), lambda row: f"{what(row)} was in the list of {whose(row)} before"),
        (ranks != due, lambda row: f"rank {ranks[row]} of {whose(row)}; ranks are 1, 2, 3, …, and this is {due[row]}"),
        (_climbs(read, order, starts), lambda row: f"{what(row)} has a higher score than what {whose(row)} has before"),
    )
    _require_lists(file, asked, users[order][starts], sizes, order[starts + sizes - 1], shortest)
    lists = np.full((len(listeners), max(int(sizes.max()), shortest)), PADDING, dtype=np.int32)
    lists[np.searchsorted(listeners, users), ranks - 1] = items
    return lists


def _climbs(read: dict[str, Any], order: Rows, starts: Rows) -> Mask:
    """Rows with a higher score than the rank before: trec_eval would go by the scores, and rank otherwise."""
    climbs = np.zeros(len(order), dtype=bool)
    if "score" in read:
        steps = np.diff(read["score"][order], prepend=np.inf)
        steps[starts] = 0
        climbs[order] = steps > 0
    return climbs


def _require_lists(file: AnswerFile, asked: Asked, users: Rows, sizes: Rows, last_rows: Rows, shortest: int) -> None:
    """A list for every user that was asked, none too short; ``users`` ascend, each with its size and last row."""
    free = asked.seen.shape[1] - np.diff(asked.seen.indptr)[users]
    short = np.flatnonzero(sizes < np.minimum(shortest, free))
    if len(short):
        row, size, user = (int(column[short[0]]) for column in (last_rows, sizes, users))
        needed = min(shortest, int(free[short[0]]))
        whose = shown(str(asked.user_ids[user]))
        raise file.at(row, f"the list of user {whose} ends here with {size} items, {needed} are required")
    missing = np.setdiff1d(asked.question.rank_users, users)
    if len(missing):
        total, first = len(asked.question.rank_users), shown(str(asked.user_ids[missing[0]]))
        raise file.at(
            int(sizes.sum()) - 1,
            f"the file ends here without a list for {len(missing):,} of {total:,} users, the first of user {first}",
        )


# --- rows and ids ----------------------------------------------------------------------------------------------------


def _inner(column: pa.ChunkedArray, ids: npt.NDArray[np.generic]) -> Rows:
    """(n,) inner index of each raw id, -1 where it is none. Compared as texts: ``07`` is not ``7``."""
    encoded = column.combine_chunks()
    found = pc.index_in(encoded.dictionary, value_set=pa.array(ids).cast(pa.string()))
    inner: Rows = found.fill_null(-1).to_numpy().astype(np.int64)[encoded.indices.to_numpy()]
    return inner


def _keys(users: npt.NDArray[Any], items: npt.NDArray[Any], asked: Asked) -> Rows:
    """One int64 for each pair; pairs with an unknown id are refused before they are looked at."""
    return users.astype(np.int64) * len(asked.item_ids) + items


def _repeated(keys: Rows) -> Mask:
    """All but the first of equal keys."""
    repeated = np.ones(len(keys), dtype=bool)
    repeated[np.unique(keys, return_index=True)[1]] = False
    return repeated


_Problem = tuple[Mask, Callable[[int], str]]
"""The rows that have it, and what to say of one of them."""


def _unknown(read: dict[str, Any], users: Rows, items: Rows) -> list[_Problem]:
    def problem(name: str, codes: Rows) -> _Problem:
        return codes < 0, lambda row: f"{name} {shown(_text(read[name], row))} is not in this data set"

    return [problem("user", users), problem("item", items)]


def _refuse_first(file: AnswerFile, *problems: _Problem) -> None:
    """Raise for the first row that has a problem; of several of that row, for the first problem named."""
    rows = [int(np.argmax(mask)) if mask.any() else len(mask) for mask, _ in problems]
    row = min(rows)
    if row < len(problems[0][0]):
        raise file.at(row, problems[rows.index(row)][1](row))


def _text(column: pa.ChunkedArray, row: int) -> str:
    return str(column[row].as_py())
