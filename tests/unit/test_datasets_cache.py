"""Folders of arrays appear whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from datasets.cache import _digest, atomic_folder, cache_root, load_arrays, read_sealed, save_arrays, write_sealed


def test_the_cache_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("RECGAUGE_CACHE")
    assert cache_root().name == "recgauge"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "split"
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert list(target.parent.iterdir()) == [target]


def test_nothing_is_left_of_a_folder_that_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="half-way"), atomic_folder(tmp_path / "split") as folder:
        (folder / "a").write_text("1")
        raise RuntimeError("half-way")
    assert list(tmp_path.iterdir()) == []


def test_the_faster_process_wins(tmp_path: Path) -> None:
    target = tmp_path / "split"
    with atomic_folder(target) as slow:
        (slow / "a").write_text("slow")
        with atomic_folder(target) as fast:
            (fast / "a").write_text("fast")
    assert (target / "a").read_text() == "fast"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("mmap_mode", ["r", "c", None])
def test_arrays_come_back_as_they_were(tmp_path: Path, mmap_mode: str | None) -> None:
    arrays = {
        "users": np.arange(5, dtype=np.int32),
        "candidates": np.arange(6, dtype=np.int32).reshape(2, 3),
        "none": np.empty(0, dtype=np.int64),
        "ids": np.array(["a", "ü"]),
    }
    save_arrays(tmp_path, arrays)
    loaded = load_arrays(tmp_path, mmap_mode)  # type: ignore[arg-type]
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype
    assert loaded["users"].flags.writeable == (mmap_mode != "r")


def test_writing_into_a_copy_on_write_map_leaves_the_file(tmp_path: Path) -> None:
    save_arrays(tmp_path, {"users": np.arange(5)})
    load_arrays(tmp_path, "c")["users"][0] = 99
    assert load_arrays(tmp_path)["users"][0] == 0


def test_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        save_arrays(tmp_path, {"bad": np.array([object()])})


def test_a_seal_without_sha256_of_its_files_holds_until_their_times_change(tmp_path: Path) -> None:
    """As written before there were any."""
    (tmp_path / "a").write_text("1")
    write_sealed(tmp_path, "meta.json", {"n": 1})
    content = json.loads((tmp_path / "meta.json").read_text())
    del content["sha256"]
    content["files"] = {name: seen[:2] for name, seen in content["files"].items()}
    (tmp_path / "meta.json").write_text(json.dumps({**content, "sha256": _digest(content)}))
    assert read_sealed(tmp_path, "meta.json") == {"n": 1}
    os.utime(tmp_path / "a", (1, 1))
    with pytest.raises(ValueError, match="damaged"):
        read_sealed(tmp_path, "meta.json")
