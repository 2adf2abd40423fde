"""Folders of arrays appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.cache import atomic_folder, cache_root, load_arrays, save_arrays


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
