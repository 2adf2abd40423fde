"""A cached data set is the loaded one; a cache that fails is never in the way."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from datasets import store
from datasets.errors import NotWritableError
from datasets.own_file import OwnFile
from datasets.store import load_cached
from datasets.synthetic_genres import SyntheticGenres
from datasets.types import Dataset, Interactions

RATINGS = "user,item,rating,time\nann,10,4.0,5\nbob,20,0.5,6\nbob,10,3.0,7\n"
ITEMS = "item,title,genres,year\n10,Misérables (Les),Drama|War,1995\n20,B,,\n"


class Counting(OwnFile):
    """Counts how often a file is really read."""

    reads = 0

    def load(self, sources: list[Path]) -> Dataset:
        type(self).reads += 1
        return super().load(sources)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Counting, "reads", 0)
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def loader(tmp_path: Path) -> Counting:
    (tmp_path / "ratings.csv").write_text(RATINGS)
    (tmp_path / "items.csv").write_text(ITEMS)
    return Counting(tmp_path / "ratings.csv", items=tmp_path / "items.csv")


def load(loader: OwnFile) -> Dataset:
    return load_cached(loader, loader.locate())


def entries(cache: Path) -> list[Path]:
    return sorted(path.relative_to(cache) for path in cache.glob("*/*"))


def assert_equal(one: Dataset, other: Dataset) -> None:
    for name in ("name", "rating_scale", "licence", "citation", "fingerprint", "notes"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("users", "items", "values", "times"):
        same(getattr(one.interactions, name), getattr(other.interactions, name))
    assert (one.interactions.n_users, one.interactions.n_items) == (
        other.interactions.n_users,
        other.interactions.n_items,
    )
    for name in ("user_ids", "item_ids", "item_titles"):
        same(getattr(one, name), getattr(other, name))
    for name in ("item_columns", "user_columns"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert list(ours) == list(theirs)
        for column in ours:
            assert ours[column].kind == theirs[column].kind
            same(ours[column].values, theirs[column].values)


def same(one: np.ndarray | None, other: np.ndarray | None) -> None:
    if one is None or other is None:
        assert one is other
        return
    assert one.dtype == other.dtype and not one.flags.writeable and not other.flags.writeable
    np.testing.assert_array_equal(one, other)


def test_a_cached_data_set_is_the_loaded_one(loader: Counting, cache: Path) -> None:
    first, second = load(loader), load(loader)
    assert Counting.reads == 1
    assert_equal(first, second)
    assert len(entries(cache)) == 1


def test_a_generator_without_times_titles_or_sources_is_cached_too() -> None:
    assert_equal(load_cached(SyntheticGenres(), []), load_cached(SyntheticGenres(), []))


def test_another_source_or_option_is_another_entry(loader: Counting, tmp_path: Path, cache: Path) -> None:
    load(loader)
    os.utime(tmp_path / "ratings.csv", ns=(0, 0))
    load(loader)
    assert Counting.reads == 2 and len(entries(cache)) == 1  # the older one of the same source is gone
    assert load(Counting(loader.path, items=loader.items, scale=(0.0, 9.0))).rating_scale == (0.0, 9.0)
    assert Counting.reads == 3

    (tmp_path / "other.csv").write_text(RATINGS.replace("4.0", "4.5"))
    other = load(Counting(tmp_path / "other.csv"))
    assert other.rating_scale == (0.5, 4.5) and len(entries(cache)) == 2


def test_other_code_is_another_entry(loader: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    load(loader)
    monkeypatch.setattr(store, "_code", lambda kind: "a later version")
    load(loader)
    assert Counting.reads == 2


def test_a_source_that_changes_while_it_is_read_is_not_cached(tmp_path: Path, cache: Path) -> None:
    class Slow(OwnFile):
        def load(self, sources: list[Path]) -> Dataset:
            dataset = super().load(sources)
            self.path.write_text(RATINGS + "ann,20,1,8\n")
            return dataset

    (tmp_path / "ratings.csv").write_text(RATINGS)
    assert len(load(Slow(tmp_path / "ratings.csv")).interactions) == 3
    assert entries(cache) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "meta"])
def test_a_damaged_entry_is_made_again(loader: Counting, cache: Path, damage: str) -> None:
    first = load(loader)
    folder = cache / entries(cache)[0]
    users = folder / "users.npy"
    if damage == "cut":
        users.write_bytes(users.read_bytes()[:-4])
    elif damage == "changed":  # same size, an index out of range: only the time tells
        users.write_bytes(users.read_bytes()[:-4] + b"\xff\xff\xff\x7f")
    elif damage == "removed":
        users.unlink()
    else:
        (folder / "dataset.json").write_text("{")
    assert_equal(load(loader), first)
    assert_equal(load(loader), first)
    assert Counting.reads == 2


def test_two_that_load_at_once_get_the_same(loader: Counting, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load(loader), range(8)))
    for dataset in found[1:]:
        assert_equal(dataset, found[0])
    assert len(entries(cache)) == 1 and not list(cache.glob("*/.*"))


def test_stored_columns_are_still_checked_for_their_shape() -> None:
    users = np.zeros(2, dtype=np.int32)
    columns = {"users": users, "items": users[:1], "values": np.zeros(2, dtype=np.float32), "times": None}
    with pytest.raises(ValueError, match="items has 1 rows"):
        Interactions.unchanged(**columns, n_users=1, n_items=1)


# --- caches that cannot be written ---------------------------------------------------------------------------------


def assert_loads_uncached(loader: OwnFile, capfd: pytest.CaptureFixture[str]) -> str:
    dataset = load(loader)
    assert len(dataset.interactions) > 0
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("warning: ") and "is not cached: " in line
    return line


def test_a_cache_that_cannot_be_made_is_no_error(
    loader: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "file"))
    assert "Not a directory" in assert_loads_uncached(loader, capfd)


def test_a_warning_that_cannot_be_written_is_no_error(
    loader: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker's log lies on the same full disk as the cache."""

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").touch()
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(sys, "stderr", Full())
    assert len(load(loader).interactions) == 3


def test_what_numpy_says_of_a_full_disk_is_explained() -> None:
    message = str(NotWritableError(Path("cache"), OSError("100 requested and 20 written")))
    assert message.startswith("cache: cannot be written (is the disk full? 100 requested and 20 written): make room")
    message = str(NotWritableError(Path("cache"), OSError(errno.EROFS, "Read-only file system")))
    assert message.startswith("cache: cannot be written (Read-only file system): ")


def test_a_full_disk_is_no_error_and_the_rest_of_the_cache_stays(
    loader: Counting, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = load(loader)
    big = tmp_path / "big.csv"
    big.write_text("user,item\n" + "".join(f"{row},{row % 7}\n" for row in range(200_000)))
    assert "big is not cached: " in assert_loads_uncached(OwnFile(big), capfd)
    assert not list(small_disk.glob("datasets/*/.*"))
    assert_equal(load(loader), first)
    assert Counting.reads == 1


def test_a_read_only_disk_is_no_error_and_its_cache_is_used(
    loader: Counting, small_disk: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = load(loader)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert_equal(load(loader), first)
    assert Counting.reads == 1
    assert "Read-only file system" in assert_loads_uncached(OwnFile(tmp_path / "ratings.csv"), capfd)


@pytest.mark.parametrize(
    "meta", ["null", "{}", "[" * 50_000, '{"files": 1}', '{"meta": {}, "files": {}, "sha256": ""}', "\ud800"]
)
def test_an_entry_whose_description_is_another_is_made_again(loader: Counting, cache: Path, meta: str) -> None:
    first = load(loader)
    (cache / entries(cache)[0] / "dataset.json").write_bytes(meta.encode(errors="surrogatepass"))
    assert_equal(load(loader), first)
    assert_equal(load(loader), first)
    assert Counting.reads == 2


def test_a_changed_count_is_noticed(loader: Counting, cache: Path) -> None:
    first = load(loader)
    path = cache / entries(cache)[0] / "dataset.json"
    path.write_text(path.read_text().replace('"n_items": 2', '"n_items": 3'))
    assert_equal(load(loader), first)


def test_a_file_of_somebody_else_is_noticed(loader: Counting, cache: Path) -> None:
    first = load(loader)
    np.save(cache / entries(cache)[0] / "item_titles2.npy", np.zeros(1))
    assert_equal(load(loader), first)
    assert Counting.reads == 2
