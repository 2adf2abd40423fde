"""Every reader of RecGauge as a plain function that is given something hostile: ``TARGETS``, judged by ``judge``.

A reader either takes what it is given or refuses it with a UserError of one printable line that names the file and,
where the format has lines, the line. Anything else is trouble: an AssertionError, or whatever the reader raised.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fuzz_inputs import (
    Column,
    altered,
    archives,
    hostile_texts,
    json_files,
    mutated,
    parquet,
    tables,
    toml_files,
    written,
)
from hypothesis import strategies as st
from scipy import sparse

from benchmarks import baselines, plan, records, split_store, tuned
from benchmarks.answers import open_answers, read_lists, read_scores
from benchmarks.one_split import Asked
from benchmarks.plan import OwnFileFlags
from datasets import download
from datasets.errors import UserError
from datasets.movielens import MovieLens1M, MovieLens10M, MovieLens100K, MovieLensSmall
from datasets.news_articles import NewsArticles
from datasets.own_file import OwnFile, parse_columns, parse_scale
from datasets.store import load_cached
from datasets.types import Dataset
from protocols.leave_one_out import LeaveOneOut
from protocols.types import Question

LONGEST_MESSAGE = 2_500


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        inputs: what it is given.
        read: writes it into a folder, which is empty, and reads it there.
        named: what a refusal has to match.
        most: inputs of it, where each takes long; None shares what is left with the others.
    """

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any, Path], None]
    named: str = ""
    most: int | None = None


def judge(target: Target, given: Any, folder: Path) -> bool:
    """Whether the reader took it; AssertionError where it refuses in another way than it should."""
    try:
        target.read(given, folder)
    except UserError as error:
        message = str(error)
        assert message.isprintable(), f"not one printable line: {message!r}"
        assert len(message) <= LONGEST_MESSAGE, f"{len(message)} characters: {message[:200]}"
        assert re.search(target.named, message), f"does not name {target.named}: {message}"
        return False
    return True


# --- data files ------------------------------------------------------------------------------------------------------

_IDS = tuple(str(n) for n in range(1, 9))
_RATINGS = (
    Column("user", _IDS),
    Column("item", (*_IDS, "a b", "é")),
    Column("rating", ("1", "2.5", "5", "-3", "1e2")),
    Column("time", ("0", "5", "964982703", "-7")),
)
_ITEMS = (
    Column("item", _IDS),
    Column("title", ("Toy Story (1995)", "", '"A, B"', "Misérables")),
    Column("genres", ("Drama", "Drama|War", "")),
    Column("year", ("1995", "", "2.5")),
)
_LINE = (
    r"^/.*:\d+: |all \S+ rows are of one user|no such file|no rating is of a user in test\.csv|no readable Parquet file"
)
_FILE = r"ratings|movies|users|items|train|test|article|u\.|scores|toy"


def _rows(dataset: Dataset) -> None:
    """What every accepted data set holds to."""
    rows = dataset.interactions
    assert len(rows) > 0 and np.isfinite(rows.values).all()
    assert len(dataset.user_ids) == rows.n_users and len(dataset.item_ids) == rows.n_items
    assert all((ids[1:] > ids[:-1]).all() for ids in (dataset.user_ids, dataset.item_ids))
    assert len(dataset.fingerprint) == 64
    for size, columns in ((rows.n_items, dataset.item_columns), (rows.n_users, dataset.user_columns)):
        assert all(len(column.values) == size for column in columns.values())


def _none_lost(dataset: Dataset, content: bytes) -> None:
    """A row for each line but the header: nothing is skipped without a word."""
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8", "replace", newline=None).read().removesuffix("\n")
    lines = [line for line in text.split("\n") if line]
    kept = len(dataset.interactions) + dataset.notes["duplicate_rows"]
    assert kept == len(lines) - 1, f"{kept} rows of {len(lines) - 1} lines"


def read_own_file(given: tuple[str, bytes], folder: Path) -> None:
    """Ratings of the user: any delimiter, guessed columns."""
    name, content = given
    path = folder / name
    path.write_bytes(content)
    dataset = OwnFile(path).load(OwnFile(path).locate())
    _rows(dataset)
    if not name.endswith(".parquet") and not content.startswith(b"PAR1"):
        _none_lost(dataset, content)


def read_metadata(given: tuple[str, bytes], folder: Path) -> None:
    """A file that describes items, beside good ratings."""
    name, content = given
    (folder / "ratings.csv").write_bytes(b"user,item\n1,1\n2,2\n2,3\n3,8\n")
    (folder / name).write_bytes(content)
    loader = OwnFile(folder / "ratings.csv", items=folder / name)
    _rows(loader.load(loader.locate()))


def read_folder(loader: Any, given: dict[str, bytes], folder: Path) -> None:
    """A data set of several files, one of which is hostile."""
    for name, content in given.items():
        (folder / name).write_bytes(content)
    _rows(loader.load([folder / name for name in loader.files]))


def _delimited(columns: tuple[Column, ...], name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    seeds = {mark: _table(columns, mark) for mark in (",", "\t", "::", ";", "|")}
    return st.sampled_from(sorted(seeds)).flatmap(
        lambda mark: st.tuples(st.just(name), tables(columns, mark) | mutated(seeds[mark]))
    )


def _table(columns: tuple[Column, ...], mark: str, header: bool = True, n: int = 4) -> bytes:
    """A small valid file."""
    rows = [[column.values[k % len(column.values)] for column in columns] for k in range(n)]
    lines = [[column.name for column in columns], *rows] if header else rows
    return "".join(mark.join(line) + "\n" for line in lines).encode()


def _one_hostile(files: dict[str, tuple[tuple[Column, ...], str, bool]]) -> st.SearchStrategy[dict[str, bytes]]:
    """Valid files of which one is not; by name: columns, delimiter, whether there is a header line."""
    good = {name: _table(columns, mark, header) for name, (columns, mark, header) in files.items()}

    def with_hostile(name: str) -> st.SearchStrategy[dict[str, bytes]]:
        hostile = tables(*files[name]) | mutated(good[name])
        return hostile.map(lambda content: {**good, name: content})

    return st.sampled_from(sorted(files)).flatmap(with_hostile)


def _as(columns: tuple[Column, ...], *names: str) -> tuple[Column, ...]:
    return tuple(Column(name, column.values) for name, column in zip(names, columns, strict=False))


_MOVIELENS = (
    *(Column("userId", _IDS), Column("movieId", _IDS), Column("rating", ("1", "3", "4.0", "5"))),
    Column("timestamp", ("964982703", "0", "847434962")),
)
_MOVIES = (
    Column("movieId", _IDS),
    Column("title", ("Toy Story (1995)", "Heat", "Misérables (Les) (1995)", "X (٣٣٣٣)")),
    Column("genres", ("Drama|War", "(no genres listed)", "")),
)
_PEOPLE = (
    *(Column("userId", _IDS), Column("gender", ("F", "M")), Column("age", ("1", "56", "25"))),
    *(Column("occupation", ("10", "x")), Column("zip_code", ("48067",))),
)
_FLAGS = tuple(Column(f"flag{n}", ("0", "1")) for n in range(19))
_FILMS = (*_MOVIES[:2], *(Column(name, ("01-Jan-1995", "")) for name in ("released", "video", "url")), *_FLAGS)
_STARS = Column("rating", ("0", "3", "6.0", "1"))
_NEWS = {
    "train.csv": (_as((*_RATINGS[:2], _STARS, _RATINGS[0]), "User_ID", "Article_ID", "Rating", "ID"), ",", True),
    "test.csv": ((Column("ID", _IDS), Column("User_ID", _IDS), Column("Article_ID", _IDS)), ",", True),
    "user.csv": (
        (Column("User_ID", _IDS), Column("Var1", ("A", "NA", "B")), Column("Age", ("20-30", "Less tha 15", ""))),
        *(",", True),
    ),
    "article.csv": (
        (Column("Article_ID", _IDS), *(Column(name, ("1", "5", "2.5")) for name in (
            "VintageMonths", "NumberOfArticlesBySameAuthor", "NumberOfArticlesinSameCategory"
        ))),
        *(",", True),
    ),
}  # fmt: skip


# --- archives --------------------------------------------------------------------------------------------------------


def read_archive(given: bytes, folder: Path) -> None:
    """A zip that is unpacked into a folder of its own."""
    packed, target = folder / "toy.zip", folder / "out"
    packed.write_bytes(given)
    target.mkdir()
    download.unzip(packed, target, 1 << 20)
    total = 0
    for path in target.rglob("*"):
        assert not path.is_symlink() and (path.is_file() or path.is_dir()), f"{path} is no plain file"
        assert path.resolve().is_relative_to(target.resolve())
        total += path.lstat().st_size if path.is_file() else 0
    assert total <= 1 << 20, f"{total} bytes were unpacked"


# --- suites, budgets, texts ------------------------------------------------------------------------------------------

_SUITE = {
    "summary": "a summary",
    "budget": "quick",
    "datasets": ["synthetic-genres", "planted-genres[n_users=100,noise=0.5]"],
    "protocols": ["leave-one-out", "holdout"],
    "algorithms": ["als[factors=8]", "all:report", "ease"],
    "seeds": 2,
    "splits": 1,
    "repeats": 1,
    "throughput": False,
    "set": ["als.factors=4", "leave-one-out.negatives=9"],
}


def read_suite(given: bytes, folder: Path) -> None:
    """A suite, and what it names."""
    path = folder / "suite.toml"
    path.write_bytes(given)
    suite = plan.load_suite(str(path))
    overrides = plan.parse_assignments(suite.set)
    with _also(path):
        plan.load_limits(suite.budget)
        plan.choose_datasets(suite.datasets, OwnFileFlags())
        plan.choose_algorithms(suite.algorithms, overrides)
        plan.preparations([], suite.protocols, range(42, 42 + suite.splits), overrides)


def read_budgets(given: bytes, folder: Path) -> None:
    """The file of budgets."""
    path, ours = folder / "budgets.toml", plan.BUDGETS
    path.write_bytes(given)
    plan.BUDGETS = path
    try:
        with _also(path):
            limits = plan.load_limits("quick")
            budget = plan.load_tuning_budget("tune-small")
    finally:
        plan.BUDGETS = ours
    assert limits.seconds > 0 and limits.memory_bytes > 0 and budget.trials > 0 and budget.seconds > 0


@contextmanager
def _also(path: Path) -> Iterator[None]:
    """A refusal of what a file names need not name the file: its text is what was typed elsewhere too."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_texts(given: dict[str, Any], folder: Path) -> None:
    """What may stand on the command line."""
    overrides = plan.parse_assignments(given["set"])
    plan.choose_algorithms(given["algorithm"], overrides, given["config"])
    plan.preparations([], given["protocol"], [42], overrides)
    own = OwnFileFlags(given["columns"], None, None, given["scale"])
    plan.choose_datasets(given["dataset"], own if any("." in name for name in given["dataset"]) else OwnFileFlags())
    if given["columns"] is not None:
        assert parse_columns(given["columns"]).keys() <= {"user", "item", "rating", "time"}
    if given["scale"] is not None:
        low, high = parse_scale(given["scale"])
        assert -np.inf < low < high < np.inf


def _like(*good: str) -> st.SearchStrategy[str]:
    """One of these texts, whole, with hostile pieces, or put together of theirs."""
    pieces = sorted({piece for text in good for piece in re.split(r"(\W)", text) if piece})
    chosen = st.sampled_from(good)
    return st.one_of(
        chosen,
        chosen,
        st.builds(_put_in, chosen, st.integers(0, 20), hostile_texts),
        st.builds(_with_value, chosen, hostile_texts),
        st.lists(st.sampled_from(pieces) | hostile_texts, max_size=6).map("".join),
    )


def _put_in(text: str, at: int, new: str) -> str:
    return text[:at] + new + text[at:]


def _with_value(text: str, new: str) -> str:
    """``name=value`` with another value."""
    name, equals, _ = text.partition("=")
    return name + equals + new


_ALGORITHM_TEXTS = ("als", "als:report", "all", "all:report", "als[factors=8,reg=1]", "ncf[layers=64-32]", "ease:tuned")
_SET_TEXTS = (
    *("als.factors=4", "ease.l2=1e3", "ncf.layers=64-32-16", "leave-one-out.negatives=9", "holdout.folds=5"),
    *("leave-one-out.held_out=random", "als.reg=0.5", "keras-mf.epochs=3", "holdout.by=time"),
)
_DATASET_TEXTS = (
    *("ml-latest-small", "planted-genres[n_users=100,noise=0.5]", "news-articles[contest=true]", "a/ratings.csv"),
    "planted-genres[seed=7]",
)
_texts = st.fixed_dictionaries(
    {
        "set": st.lists(_like(*_SET_TEXTS), max_size=2),
        "algorithm": st.lists(_like(*_ALGORITHM_TEXTS), max_size=2),
        "config": st.just([]) | st.lists(_like("default", "report", "tuned"), max_size=1),
        "protocol": st.just(["leave-one-out"]) | st.lists(_like("leave-one-out", "holdout"), max_size=1),
        "dataset": st.lists(_like(*_DATASET_TEXTS), max_size=2),
        "columns": st.none() | _like("user=reader,item=article", "rating=r,time=t"),
        "scale": st.none() | _like("1,5", "-1.5,1e3"),
    }
)


def read_tuned(given: bytes, folder: Path) -> None:
    """A tuned configuration, and its options cast for the algorithm."""
    path = folder / "als.toml"
    path.write_bytes(given)
    found = tuned.read(path)
    assert all(value is None or np.isfinite(value) for value in found.values)
    (choice,) = plan.choose_algorithms(["als:tuned"], {})
    place = folder / "synthetic-genres" / "leave-one-out"
    place.mkdir(parents=True)
    shutil.copy(path, place / "als.toml")
    (preparation,) = _preparation()
    meta = {name: {"fingerprint": letter * 64} for name, letter in (("dataset", "d"), ("split", "a"))}
    usable = tuned.for_split(choice, preparation, meta, folder)
    assert usable.unusable or usable.config["factors"] >= 1


@functools.cache
def _preparation() -> list[plan.Preparation]:
    specs = plan.choose_datasets(["synthetic-genres"], OwnFileFlags())
    return plan.preparations([(specs[0], ())], ["leave-one-out"], [42], {})


@functools.cache
def _tuned_fields() -> dict[str, Any]:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from studies import found

    fields = json.loads(json.dumps({"schema": tuned.SCHEMA, **asdict(found())}).replace("null", '"none"'))
    return dict(fields)


# --- answers ---------------------------------------------------------------------------------------------------------

_PAIRS = [(7, 1), (7, 3), (7, 4), (8, 2), (8, 4)]


@functools.cache
def _asked() -> Asked:
    """Two of three users are asked: five pairs, and their catalogue of five items."""
    users, items = np.array([7, 8, 10]), np.array([1, 2, 3, 4, 50])
    seen = sparse.csr_matrix(np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]))
    pair_users, pair_items = (np.array(column) for column in zip(*_PAIRS, strict=True))
    inner = np.searchsorted(users, pair_users).astype(np.int32), np.searchsorted(items, pair_items).astype(np.int32)
    listeners = np.array([0, 1], np.int32)
    return Asked(Question(*inner, listeners, listeners), users, items, seen)


def read_answers(given: tuple[str, bytes], folder: Path) -> None:
    """Scores or lists that were made elsewhere."""
    kind, content = given
    path = folder / "scores.csv"
    path.write_bytes(content)
    file = open_answers(path)
    if kind == "lists":
        lists = read_lists(file, _asked(), 2)
        assert lists.shape[0] == 2 and lists.max() < 5
    else:
        scores = read_scores(file, _asked())
        assert np.isfinite(scores).all() and len(scores) == 5


_SCORE_TEXTS = (
    *(b"user,item,score\n8,4,0.25\n7,3,-1\n7,1,2.5\n7,4,0\n8,2,1e-3\n", b"user\titem\tscore\n7\t1\t1\n7\t3\t2\n"),
    b"8 Q0 4 1 0.25 r\n7 Q0 3 2 -1 r\n7 Q0 1 3 2 r\n7 Q0 4 4 0 r\n8 Q0 2 5 1 r\n",
)
_LIST_TEXTS = (
    *(
        b"user,item,rank\n8,50,2\n7,3,1\n8,3,1\n7,50,2\n",
        b"user,item,rank,score\n8,50,2,1\n7,3,1,2\n8,3,1,9\n7,50,2,1\n",
    ),
    b"8\tQ0\t50\t2\t1\tr\n7\tQ0\t3\t1\t5\tr\n8\tQ0\t3\t1\t4\tr\n7\tQ0\t50\t2\t3\tr\n",
)


@st.composite
def _answers(draw: Any) -> tuple[str, bytes]:
    kind = draw(st.sampled_from(("scores", "lists")))
    text = draw(st.sampled_from(_SCORE_TEXTS if kind == "scores" else _LIST_TEXTS))
    how = draw(st.integers(0, 3))
    if how == 0:
        return kind, draw(mutated(text))
    lines = [re.split(rb"([ ,\t])", line) for line in text.splitlines()]
    for _ in range(draw(st.integers(0, 2))):
        line = draw(st.sampled_from(lines))
        line[draw(st.integers(0, len(line) // 2)) * 2 % len(line)] = draw(hostile_texts).encode(errors="replace")
    if how == 1:
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
    if how == 2:
        lines = (
            draw(st.permutations(lines[1:])) if text.startswith(b"8") else [lines[0], *draw(st.permutations(lines[1:]))]
        )
    return kind, b"\n".join(b"".join(line) for line in lines) + b"\n"


def _answers_in_parquet() -> st.SearchStrategy[tuple[str, bytes]]:
    users, items = zip(*_PAIRS, strict=True)
    good = written(pa.table({"user": users, "item": items, "score": [1.0, 2.0, 3.0, 4.0, 5.0]}))
    odd = parquet(("user", "item", "score"), ("whole", "whole", "real"))
    return st.tuples(st.just("scores"), odd | mutated(good, 1)) | st.just(("scores", good))


# --- files of results ------------------------------------------------------------------------------------------------

_BASELINE = {
    "schema": 1,
    "machine": {"cpu": "x"},
    "benchmarks": {"load": {"reason": "r", "commit": "c", "date": "d", "ratios": [1.0, 1.1, 0.9]}},
}
_HISTORY = {
    **{"date": "2026-01-02T03:04:05+00:00", "commit": "c", "base": None, "hardware_fingerprint": "f" * 16},
    **{"exit_code": 0, "seconds": 1.5},
    "benchmarks": {
        "load": {"status": "ok", "reason": None, "ratio": 1.0, "measured": [{"ratio": 1.0, "before": 1.1, "p": 0.5}]}
    },
}


def read_baselines(given: bytes, folder: Path) -> None:
    """A baseline, and a measurement judged by it."""
    (folder / "another.json").write_bytes(given)
    for reference in baselines.references(folder).values():
        verdict = baselines.judge([1.0, 1.1, 1.2], reference, 1.3)
        assert verdict.slower in (True, False) and np.isfinite(verdict.change)


def read_history(given: bytes, folder: Path) -> None:
    """The history of ``regress``, drawn into the report."""
    from benchmarks.report import command, figures

    path = folder / "regress.jsonl"
    path.write_bytes(given)
    said = io.StringIO()
    with redirect_stderr(said):
        lines = command._history(path)
        figures.history(lines)
    for line in said.getvalue().splitlines():
        assert line.isprintable() and "regress.jsonl:" in line
    if not lines and given.strip():
        raise UserError("nothing can be used of regress.jsonl: " + said.getvalue().partition("\n")[0])


@st.composite
def _histories(draw: Any) -> bytes:
    lines = [json.dumps(_HISTORY).encode()]
    for _ in range(draw(st.integers(0, 2))):
        lines.append(draw(json_files(_HISTORY).map(lambda text: text.replace(b"\n", b" "))))
    return b"\n".join(lines[draw(st.integers(0, 1)) :])


# --- caches ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """What happens to one file of a cache: which one (a fraction of all), and how."""

    place: float
    kind: str
    at: float
    content: bytes


_damages = st.builds(
    Damage,
    st.floats(0, 1),
    st.sampled_from(("none", "flip", "truncate", "remove", "foreign", "replace", "folder", "append", "json", "link")),
    st.floats(0, 1),
    st.binary(min_size=1, max_size=40) | st.just(b"{}") | st.just(b"null") | st.just(b"[" * 50_000),
)


def damage(folder: Path, done: Damage) -> bool:
    """Do it to a file below ``folder``; whether anything changed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[min(int(done.place * len(files)), len(files) - 1)]
    data = bytearray(path.read_bytes())
    at = min(int(done.at * len(data)), len(data) - 1)
    if done.kind == "none":
        return False
    if done.kind == "foreign":
        (path.parent / "foreign.npy").write_bytes(done.content)
    elif done.kind == "remove":
        path.unlink()
    elif done.kind == "folder":
        path.unlink()
        path.mkdir()
    elif done.kind == "link":
        path.unlink()
        path.symlink_to("nowhere")
    elif done.kind == "json":
        json_file = next(each for each in files if each.suffix == ".json")
        json_file.write_bytes(done.content)
    else:
        if done.kind == "flip":
            data[at] ^= 1 << at % 8
        elif done.kind == "append":
            data += done.content
        path.write_bytes({"truncate": data[:at], "replace": done.content}.get(done.kind, data))
    return True


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    before = os.environ.get("RECGAUGE_CACHE")
    os.environ["RECGAUGE_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("RECGAUGE_CACHE")
        if before is not None:
            os.environ["RECGAUGE_CACHE"] = before


def read_store(given: Damage, folder: Path) -> None:
    """A cached data set, of which a file is not what it was."""
    ratings, items = folder / "ratings.csv", folder / "items.csv"
    ratings.write_bytes(b"user,item,rating,time\nann,10,4.0,5\nbob,20,0.5,6\nbob,10,3.0,7\n")
    items.write_bytes("item,title,genres,year\n10,Misérables,Drama|War,1995\n20,B,,\n".encode())
    loader = OwnFile(ratings, items=items)
    with _cache(folder / "cache"):
        first = load_cached(loader, loader.locate())
        (entry,) = (folder / "cache" / "datasets").glob("*/*")
        changed = damage(entry, given)
        again = load_cached(loader, loader.locate())
    _rows(again)
    assert again.fingerprint == first.fingerprint and again.notes == first.notes and again.name == first.name
    assert np.array_equal(again.interactions.values, first.interactions.values)
    assert again.item_titles is not None and again.item_titles.tolist() == ["Misérables", "B"]
    if changed:
        raise UserError("made anew")


@functools.cache
def _prepared() -> tuple[Path, Dataset, LeaveOneOut]:
    """A folder with a prepared split, to be copied, and what it was made of."""
    folder = Path(tempfile.mkdtemp(prefix="recgauge-fuzz-split-"))
    path = folder / "ratings.csv"
    rows = [f"{u},{(u * 3 + k) % 9},{1 + k % 5},{k}\n" for u in range(6) for k in range(5)]
    path.write_text("user,item,rating,time\n" + "".join(rows))
    dataset, protocol = OwnFile(path).load([path]), LeaveOneOut(LeaveOneOut.Config(negatives=3))
    split_store.prepare(folder / "split", dataset, protocol, 42)
    return folder / "split", dataset, protocol


def read_split(given: Damage, folder: Path) -> None:
    """A prepared split, of which a file is not what it was."""
    from algorithms.types import Task

    whole, dataset, protocol = _prepared()
    target = folder / "split"
    shutil.copytree(whole, target)  # with the times of its files
    before = split_store.read_meta(whole)
    changed = damage(target, given)
    meta = split_store.read_meta(target)
    if meta is None:
        meta = split_store.prepare(target, dataset, protocol, 42)
        assert split_store.read_meta(target) is not None
    assert meta == before
    for part in ("", split_store.VALIDATION):
        train = split_store.load_train_set(target / part / "fit", Task.RANKING)
        assert np.array_equal(train.interactions.users, split_store.load_rows(whole / part / "fit").users)
        assert vars(split_store.load_question(target / part)).keys() == vars(split_store.load_question(whole)).keys()
        for name, array in split_store.load_labels(target / part).items():
            assert np.array_equal(array, split_store.load_labels(whole / part)[name])
    if changed:
        raise UserError("made anew")


# --- studies ---------------------------------------------------------------------------------------------------------


@functools.cache
def _journal() -> bytes:
    """The journal of a small study: three complete trials, a pruned and a failed one, one that was running."""
    with tempfile.TemporaryDirectory() as folder:
        _search(None, Path(folder) / "study.log", (0.1, 0.3, 0.2))
        return (Path(folder) / "study.log").read_bytes()


@functools.cache
def _data_base() -> bytes:
    """The same in a data base."""
    with tempfile.TemporaryDirectory() as folder:
        _search(f"sqlite:///{folder}/study.db", Path(folder) / "study.log", (0.1, 0.3))
        return (Path(folder) / "study.db").read_bytes()


def _search(url: str | None, journal: Path, values: tuple[float, ...]) -> Any:
    """Go on with a study: recover it, read all that is known, tell ``values``."""
    from algorithms.space import Choice, IntUniform, LogUniform
    from benchmarks.studies import Search, Study, open_storage

    space = {"reg": LogUniform(0.01, 10), "layers": Choice(((8,), (16, 8))), "epochs": IntUniform(1, 20)}
    base = {"reg": 1.0, "layers": [8], "epochs": 10, "patience": 2}
    search = Search(base, space, {"default": base}, True, "random", "median", 0)
    storage = open_storage(url, journal)
    study = Study("s", storage, search)
    study.allow(20, 90.0)
    study.recover()
    for value in values:
        asked = study.ask()
        study.gives_up(asked, 4, value)
        study.complete(asked, value, 3, 1.0)
    if values:
        study.fail(study.ask(), "no luck", 0.5)
        study.prune(study.ask(), 0.5)
        study.ask()
    known = (study.counts(), study.values(), study.spent(), study.best(), study.failures())
    study.value_of_preset("default")
    study.complete(study.ask(), 0.5, None, 1.0)
    return known


def read_journal(given: bytes, folder: Path) -> None:
    """A study's journal; what it is refused for stays as it is."""
    journal = folder / "study.log"
    journal.write_bytes(given)
    whole = given[: given.rfind(b"\n") + 1]
    try:
        counts, values, spent, _, _ = _search(None, journal, ())
    finally:
        assert journal.read_bytes().startswith(whole), "lines of a journal were lost"
    assert sum(counts.values()) == len(values) and np.isfinite(spent)


@st.composite
def _journals(draw: Any) -> bytes:
    """Lines of a good journal, of which some are altered, gone, doubled, moved, garbage or torn; NULs at its end."""
    good = _journal().splitlines()
    lines = list(good)
    for _ in range(draw(st.sampled_from((0, 1, 1, 2)))):
        place = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(("value", "value", "value", "gone", "again", "garbage", "blank", "moved", "torn")))
        if kind == "value" and lines[place] in good:
            lines[place] = json.dumps(draw(altered(json.loads(lines[place])))).encode()
        elif kind == "gone":
            del lines[place : len(lines) if draw(st.booleans()) else place + 1]
        elif kind == "again":
            lines.insert(draw(st.integers(0, len(lines))), lines[place])
        elif kind == "garbage":
            lines[place] = draw(mutated(lines[place]) | st.binary(max_size=20) | st.just(b"[" * 100_000))
        elif kind == "blank":
            lines.insert(place, b"")
        elif kind == "moved":
            lines.insert(draw(st.integers(0, len(lines))), lines.pop(place))
        elif kind == "torn":
            lines[place] = lines[place][: draw(st.integers(0, len(lines[place])))]
        if not lines:
            break
    text = b"".join(line + b"\n" for line in lines)
    text = text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 5)) == 0 else text
    return text + bytes(draw(st.sampled_from((0, 0, 0, 1, 4096))))


def read_sqlite(given: tuple[bytes, str, Any], folder: Path) -> None:
    """A study in a SQLite file, with bytes changed, or a cell of a table."""
    content, column, value = given
    path = folder / "study.db"
    path.write_bytes(content)
    if column:
        table, _, name = column.partition(".")
        with sqlite3.connect(path) as base:
            base.execute("PRAGMA ignore_check_constraints = on")
            base.execute(f"UPDATE OR IGNORE {table} SET {name} = ?", (value,))
        base.close()
    _search(f"sqlite:///{path}", folder / "study.log", ())


_CELLS = (
    *("trials.state", "trials.number", "trial_values.value", "trial_user_attributes.value_json", "studies.study_name"),
    *("trial_params.distribution_json", "trial_params.param_value", "version_info.schema_version", "trials.study_id"),
    *("study_user_attributes.value_json", "study_directions.direction", "alembic_version.version_num"),
)


def _data_bases() -> st.SearchStrategy[tuple[bytes, str, Any]]:
    values = hostile_texts.filter(lambda text: text.isascii()) | st.integers(-9, 9) | st.none() | st.just("[]")
    cells = st.tuples(st.builds(_data_base), st.just("") | st.sampled_from(_CELLS), values)
    return cells | st.tuples(st.builds(_data_base).flatmap(mutated), st.just(""), st.none())


# --- models ----------------------------------------------------------------------------------------------------------


@functools.cache
def _models() -> dict[str, dict[str, bytes]]:
    """Saved models by algorithm: their files."""
    from algorithms.registry import ALGORITHMS, load_class
    from algorithms.types import FitContext, Task

    whole, _, _ = _prepared()
    saved = {}
    for name in ("bias", "popularity", "ease", "item-knn", "biased-als"):
        train = split_store.load_train_set(whole / "fit", Task.RATING if name == "bias" else Task.RANKING)
        adapter = load_class(ALGORITHMS[name])
        with tempfile.TemporaryDirectory() as folder:
            adapter(adapter.Config()).fit(train, FitContext()).save(Path(folder))
            saved[name] = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return saved


def read_model(given: tuple[str, dict[str, bytes]], folder: Path) -> None:
    """A saved model: loaded, and asked."""
    from algorithms.registry import ALGORITHMS, load_class

    name, files = given
    for file, content in files.items():
        (folder / file).write_bytes(content)
    model = load_class(ALGORITHMS[name]).load(folder)
    scores = model.score(np.arange(min(model.n_users, 3)))
    assert scores.shape[1] == model.n_items and np.isfinite(scores).all()


@st.composite
def _saved_models(draw: Any) -> tuple[str, dict[str, bytes]]:
    name = draw(st.sampled_from(("bias", "popularity", "ease", "item-knn", "biased-als")))
    files = dict(_models()[name])
    if draw(st.booleans()):
        files["model.json"] = draw(json_files(json.loads(files["model.json"])))
    elif draw(st.booleans()):
        files["model.safetensors"] = draw(_safetensors(files["model.safetensors"]))
    else:
        files["model.safetensors"] = draw(mutated(files["model.safetensors"]))
    return name, files


@st.composite
def _safetensors(draw: Any, content: bytes) -> bytes:
    """With a header that says something else: other shapes, types, names or places."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(draw(altered(json.loads(content[8 : 8 + size])))).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


# --- records ----------------------------------------------------------------------------------------------------------


def _of_records() -> dict[str, Target]:
    """Records and side files, by the functions and strategies of their own tests, where these are."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "property"))
    if importlib.util.find_spec("test_hostile_records") is None:
        return {}
    hostile: Any = importlib.import_module("test_hostile_records")
    sources = hostile._sources

    def target(inputs: st.SearchStrategy[Any], function: Callable[..., None]) -> Target:
        def read(given: tuple[int, Any], folder: Path) -> None:
            function(given[1], folder, given[0])
            found, damages = records.read_all(folder)
            _, of_files = hostile.records.complete(found)
            if damages or of_files:
                raise UserError(str([*damages, *of_files][0]))

        return Target(inputs, read, r"\.json|\.npz", 1_000)

    return {
        "record": target(
            hostile.broken(lambda which: sources()[which][2]) | st.builds(lambda: (0, sources()[0][2])),
            hostile.fuzz_record,
        ),
        "record, sealed": target(hostile.hostile_data(), hostile.fuzz_data),
        "side file": target(hostile.broken(lambda which: sources()[which][3] or b"", ok=True), hostile.fuzz_side_file),
        "side file, arrays": target(hostile.hostile_arrays(), hostile.fuzz_side_file),
    }


# --- all of them -----------------------------------------------------------------------------------------------------

_FOUR = ("user", "item", "rating", "time")
_dat = {"ratings.dat": (_MOVIELENS, "::", False), "movies.dat": (_MOVIES, "::", False)}

TARGETS: dict[str, Target] = {
    "own file": Target(_delimited(_RATINGS, "ratings.csv"), read_own_file, _LINE),
    "own file, Parquet": Target(
        st.tuples(st.just("ratings.parquet"), parquet(_FOUR, ("whole", "text", "real", "seconds"))),
        read_own_file,
        r"ratings\.parquet: ",
    ),
    "metadata": Target(_delimited(_ITEMS, "items.csv"), read_metadata, _LINE),
    "metadata, Parquet": Target(
        st.tuples(st.just("items.parquet"), parquet(("item", "title", "genres", "year"), ("text",) * 3 + ("real",))),
        read_metadata,
        r"items\.parquet: ",
    ),
    "movielens, csv": Target(
        _one_hostile({"ratings.csv": (_MOVIELENS, ",", True), "movies.csv": (_MOVIES, ",", True)}),
        functools.partial(read_folder, MovieLensSmall()),
        _LINE,
    ),
    "movielens, ::": Target(_one_hostile(_dat), functools.partial(read_folder, MovieLens10M()), _LINE),
    "movielens, :: with users": Target(
        _one_hostile({**_dat, "users.dat": (_PEOPLE, "::", False)}),
        functools.partial(read_folder, MovieLens1M()),
        _LINE,
    ),
    "movielens, 100k": Target(
        _one_hostile(
            {
                "u.data": (_MOVIELENS, "\t", False),
                "u.item": (_FILMS, "|", False),
                "u.user": ((_PEOPLE[0], _PEOPLE[2], _PEOPLE[1], *_PEOPLE[3:]), "|", False),
            }
        ),
        functools.partial(read_folder, MovieLens100K()),
        _LINE,
    ),
    "news-articles": Target(
        _one_hostile(_NEWS), functools.partial(read_folder, NewsArticles(drop_train_only=True, contest=True)), _LINE
    ),
    "archive": Target(archives(), read_archive, r"toy\.zip: "),
    "suite": Target(toml_files(_SUITE), read_suite, r"suite\.toml: "),
    "budgets": Target(
        toml_files(
            {
                "quick": {"cell_seconds": 300, "cell_memory_gib": 6.0},
                "tune-small": {"trials": 20, "seconds": 90, "trial_seconds": 30, "trial_memory_gib": 6.0},
            }
        ),
        read_budgets,
        r"budgets\.toml: ",
    ),
    "texts": Target(_texts, read_texts),
    "tuned": Target(toml_files(_tuned_fields()), read_tuned, r"als\.toml: "),
    "answers": Target(_answers(), read_answers, r"scores\.csv:\d+: "),
    "answers, Parquet": Target(_answers_in_parquet(), read_answers, r"scores\.csv: |scores\.csv:1: "),
    "baselines": Target(json_files(_BASELINE), read_baselines, r"another\.json: "),
    "history": Target(_histories(), read_history, r"regress\.jsonl"),
    "cached data set": Target(_damages, read_store, "", 1_000),
    "prepared split": Target(_damages, read_split, "", 1_000),
    "journal": Target(_journals(), read_journal, r"study\.log:\d+: |study\.log: ", 1_500),
    "sqlite": Target(_data_bases(), read_sqlite, r"study\.db: ", 250),
    "model": Target(_saved_models(), read_model),
    **_of_records(),
}


def build_seeds(name: str) -> None:
    """Make what a target's valid inputs are made of; before the first draw, which must not depend on when it is."""
    for build in _SEEDS.get(name, ()):
        build()


_SEEDS: dict[str, tuple[Callable[[], Any], ...]] = {
    "tuned": (_preparation,),
    "answers": (_asked,),
    "answers, Parquet": (_asked,),
    "prepared split": (_prepared,),
    "journal": (_journal,),
    "sqlite": (_data_base,),
    "model": (_models,),
}
