"""Records on disk: never torn, never silently wrong, never lost; and what is damaged is moved, not deleted."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_records import hits, record

from benchmarks import leaderboard as boards
from benchmarks import locks, records
from benchmarks.environment import file_digest
from benchmarks.record_check import check_results
from benchmarks.record_format import DamagedError, UnreadableError, parse, sealed
from benchmarks.worker import save_side_file
from datasets.cache import scratch_beside
from datasets.errors import UserError
from protocols.leave_one_out import LeaveOneOut

ROOT = Path(__file__).parents[2]
Put = Callable[..., records.Record]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes a record as the harness does; further arguments as of ``made_records.record``."""

    def put(algorithm: str, *sampled: int, model: str | None = None, **changes: Any) -> records.Record:
        outcomes = hits(*sampled)
        metrics = LeaveOneOut().metrics(outcomes)
        data = record(algorithm, metrics=metrics, **changes)
        path = records.record_path(tmp_path, "toy", "leave-one-out", algorithm, data["key"])
        with (tmp_path / "side").open("wb") as file:
            save_side_file(file, outcomes)
        kept = None
        if model is not None:
            kept = tmp_path / "model"
            kept.mkdir()
            (kept / "model.json").write_text(model)
        return records.write(path, data, tmp_path / "side", None, kept)

    return put


def names_beside(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


def fail_at(monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """As if the process died just before a file of that name comes into place."""
    replace = os.replace

    def stop(source: Any, target: Any) -> None:
        if str(target).endswith(suffix):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_written(put: Put) -> None:
    written = put("als", 1, 0)
    assert records.load(written.path) == written
    assert json.loads(written.path.read_text()) == written.data
    side = records.side_file(written)
    assert side.name == f"{written.path.stem}.{file_digest(side)[:8]}.npz"


def test_a_second_write_leaves_nothing_of_the_first(put: Put) -> None:
    first = put("als", 1, 0, model="one")
    first.path.with_suffix(".log").write_text("of a failure before")
    second = put("als", 1, 1, model="two")
    assert first.path == second.path and first.data["side"] != second.data["side"]
    named = {second.path.name, second.data["side"]["file"], second.data["model"]["folder"]}
    assert names_beside(second.path) == named
    third = put("als", 1, 1)
    assert names_beside(third.path) == {third.path.name, third.data["side"]["file"]}


def test_other_cells_of_the_folder_stay(put: Put) -> None:
    other, tuned = put("als", 1, 0, seed=1), put("als", 0, 0)
    twin = tuned.path.with_name(f"{tuned.path.stem}-tuned.npz")
    twin.touch()
    put("als", 1, 1)
    assert records.damage(other) is None and twin.exists()


@pytest.mark.parametrize("suffix", [".json", ".npz", ".model"])
def test_a_write_that_ends_half_way_leaves_the_older_record_whole(
    put: Put, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    before = put("als", 1, 0, model="one")
    with monkeypatch.context() as patch:
        fail_at(patch, suffix)
        with pytest.raises(KeyboardInterrupt):
            put("als", 1, 1, model="two")
    assert records.damage_at(before.path) is None and records.load(before.path) == before
    shutil.rmtree(before.path.parents[3] / "model", ignore_errors=True)
    after = put("als", 1, 1, model="two")
    assert names_beside(after.path) == {after.path.name, after.data["side"]["file"], after.data["model"]["folder"]}


@pytest.mark.parametrize("suffix", [".json", ".npz", ".model"])
def test_a_write_of_the_same_content_that_ends_half_way_leaves_the_older_record_whole(
    put: Put, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    before = put("als", 1, 0, model="one")
    folder = records.model_folder(before)
    assert folder is not None
    inode = folder.stat().st_ino
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        fail_at(patch, suffix)
        put("als", 1, 0, model="one")
    assert records.damage_at(before.path) is None and records.load(before.path).data["model"] == before.data["model"]
    assert records.checked_model(before).stat().st_ino == inode and not (before.path.parents[3] / "model").exists()


@pytest.mark.parametrize("kind", ["changed", "more", "file", "link"])
def test_what_has_the_name_of_a_model_and_is_not_it_gives_way(put: Put, tmp_path: Path, kind: str) -> None:
    folder = records.model_folder(put("als", 1, 0, model="one"))
    assert folder is not None
    if kind in ("changed", "more"):
        (folder / ("model.json" if kind == "changed" else "more")).write_text("two")
    else:
        shutil.copytree(folder, tmp_path / "elsewhere")
        shutil.rmtree(folder)
        folder.touch() if kind == "file" else folder.symlink_to(tmp_path / "elsewhere")
    after = put("als", 1, 0, model="one")
    assert records.damage_at(after.path) is None
    assert {each.name: each.read_text() for each in folder.iterdir()} == {"model.json": "one"}
    assert names_beside(after.path) == {after.path.name, after.data["side"]["file"], folder.name}
    assert not list(tmp_path.glob("model*"))


def test_a_full_disk_leaves_no_half_written_record(put: Put, small_disk: Path) -> None:
    """The record has room in no block, its folder's entry has."""
    data = record("als", "failed")
    path = records.record_path(small_disk, "toy", "leave-one-out", "als", data["key"])
    path.parent.mkdir(parents=True)
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    with pytest.raises(OSError, match="No space left"):
        records.write(path, data, None, None)
    assert not names_beside(path)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EIO])
def test_a_folder_need_not_have_fsync_a_file_must(put: Put, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As on SMB, 9p and FUSE; an error of the disk is none of these."""
    fsync = os.fsync

    def refuse(kind: Callable[[int], bool]) -> Callable[[int], None]:
        def refused(descriptor: int) -> None:
            if kind(os.fstat(descriptor).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(descriptor)

        return refused

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse(stat.S_ISDIR))
        if number == errno.EIO:
            with pytest.raises(OSError, match="Input/output"):
                put("als", 1, 0, model="one")
        else:
            assert records.damage_at(put("als", 1, 0, model="one").path) is None
        patch.setattr(os, "fsync", refuse(stat.S_ISREG))
        with pytest.raises(OSError, match=re.escape(os.strerror(number))):
            put("ease", 1, 0)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path))}: this file system has no locks: name another"):
        locks.held(tmp_path, "a").__enter__()


def test_what_could_not_be_read_is_not_written(put: Put, tmp_path: Path) -> None:
    before = put("als", 1, 0)
    with pytest.raises(ValueError, match=r"threads: -1 is less than"):
        records.write(before.path, {**before.data, "threads": -1}, None, None)
    assert records.damage_at(before.path) is None


def test_the_newer_record_wins_whatever_the_clocks_say(put: Put, tmp_path: Path) -> None:
    ahead = "2099-01-01T00:00:00.000+00:00"
    put("als", 0, 0, code="older", created=ahead)
    put("als", 0, 0, code="of another seed", seed=1, created="2150-01-01T00:00:00.000+00:00")
    newer = put("als", 1, 1, code="newer", created="2026-01-01T00:00:00.000+00:00")
    assert newer.data["created"] == "2099-01-01T00:00:00.001+00:00"
    again = put("als", 1, 1, code="newer", created="2026-01-01T00:00:00.000+00:00")
    assert again.data["created"] == "2099-01-01T00:00:00.002+00:00"
    found, _ = records.read_all(tmp_path)
    assert again in found and len(found) == 2
    alone = put("ease", 1, 1, created="2026-01-01T00:00:00.000+00:00")
    assert alone.data["created"] == "2026-01-01T00:00:00.000+00:00"


def test_the_last_moment_of_all_stops_nobody(put: Put) -> None:
    put("als", 0, code="older", created="2999-12-31T23:59:59.999+00:00")
    assert put("als", 1, code="newer").data["created"] == "2999-12-31T23:59:59.999+00:00"


# --- what is left behind ---------------------------------------------------------------------------------------------


@pytest.fixture
def days_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def later() -> None:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 2 * records.ORPHAN_S)

    return later


def test_orphans_are_swept_once_no_one_can_be_about_to_name_them(
    put: Put, tmp_path: Path, days_later: Callable[[], None]
) -> None:
    kept = put("als", 1, 0, model="one")
    orphans = [kept.path.with_name(f"{kept.path.stem}.00000000.npz"), kept.path.with_name(f"{'0' * 32}.00000000.npz")]
    for orphan in orphans:
        orphan.touch()
        os.utime(orphan, (0, 0))  # as old as it says it is: a copy keeps the time of writing
    folder = kept.path.with_name(f"{kept.path.stem}.00000000.model")
    folder.mkdir()
    records.sweep_results(tmp_path)
    assert all(each.exists() for each in (*orphans, folder)), "another harness may be writing"
    days_later()
    records.sweep_results(tmp_path)
    assert not any(each.exists() for each in (*orphans, folder))
    assert records.damage_at(kept.path) is None


def test_what_a_killed_preparation_left_in_the_cache_is_swept(tmp_path: Path) -> None:
    for target in (tmp_path / "splits" / "a", tmp_path / "data" / "ml-1m", tmp_path / "datasets" / "b" / "c"):
        target.parent.mkdir(parents=True)
        with scratch_beside(target) as ours:
            dead = ours.with_name(ours.name.replace(f"tmp-{os.getpid()}-", "tmp-999999999-"))
            dead.mkdir()
            (dead / "half.npy").touch()
            records.sweep_cache(tmp_path)
            assert ours.exists() and not dead.exists()


def test_what_is_not_ours_is_not_swept(put: Put, tmp_path: Path, days_later: Callable[[], None]) -> None:
    """Names that are like ours, in a results folder that lies where a user works, and in a cache."""
    beside = put("als", 1, 0).path.parent
    names = (
        *("embeddings.20240101.npz", "weights.finalrun.model", "notes.tmp-99999999", ".notes.tmp-999999999-abcdefgh"),
        *(f"{'0' * 32}.json.tmp-old", f"{'0' * 32}.0000000g.npz", f"{'0' * 31}.00000000.npz"),
    )
    others = [beside / name for name in names]
    for folder in ("datasets/mine", "splits", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        others += [tmp_path / folder / ".notes.tmp-999999999", tmp_path / folder / "a.tmp-999999999-abcdefgh"]
    others.append(tmp_path / "elsewhere" / ".a.tmp-999999999-abcdefgh")
    for other in others:
        other.touch()
    days_later()
    records.sweep_results(tmp_path)
    records.sweep_cache(tmp_path)
    assert [each for each in others if not each.exists()] == []


def test_what_another_harness_is_at_is_not_swept(put: Put, tmp_path: Path, days_later: Callable[[], None]) -> None:
    kept = put("als", 1, 0)
    left = [kept.path.with_name(f"{kept.path.stem}.{name}") for name in ("00000000.npz", "json.tmp-999999999")]
    for each in left:
        each.touch()
    days_later()
    with locks.held(tmp_path, kept.data["key"][:32]):
        records.sweep_results(tmp_path)
        assert all(each.exists() for each in left)
    records.sweep_results(tmp_path)
    assert not any(each.exists() for each in left)


def test_a_leftover_on_a_read_only_disk_stops_nobody(small_disk: Path, days_later: Callable[[], None]) -> None:
    cell = small_disk / "toy" / "leave-one-out" / "als"
    left = [cell / f"{'0' * 32}.00000000.npz", cell / f"{'0' * 32}.json.tmp-999999999"]
    left += [small_disk / ".scratch" / "999999999-a", small_disk / "splits" / ".a.tmp-999999999-abcdefgh"]
    for each in left:
        each.parent.mkdir(parents=True, exist_ok=True)
        each.touch()
    days_later()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    records.sweep_results(small_disk)
    records.sweep_cache(small_disk)
    assert all(each.exists() for each in left)


def test_a_lock_file_that_cannot_be_removed_stops_nobody(tmp_path: Path) -> None:
    file = tmp_path / locks.FOLDER / "a.lock"
    with locks.held(tmp_path, "a") as ours:
        assert ours
        file.unlink()
        file.mkdir()
    file.rmdir()
    with locks.held(tmp_path, "a") as ours:
        assert ours


def test_what_lies_beside_a_damaged_record_is_not_swept(
    put: Put, tmp_path: Path, days_later: Callable[[], None]
) -> None:
    kept = put("als", 1, 0)
    side = records.side_file(kept)
    kept.path.write_text("{")
    days_later()
    records.sweep_results(tmp_path)
    assert side.exists()


# --- reading ---------------------------------------------------------------------------------------------------------


def test_one_flipped_figure_is_found(put: Put) -> None:
    path = put("als", 1, 0).path
    text = path.read_text()
    path.write_text(text.replace('"hr@10": 0.5', '"hr@10": 0.6'))
    with pytest.raises(DamagedError, match="not as it was written"):
        records.load(path)
    path.write_text(json.dumps(json.loads(text)))  # laid out in another way it is the same record
    assert records.damage_at(path) is None


@pytest.mark.parametrize("where", ["", "/clock"])
def test_published_records_of_version_1_have_the_newest_shape(where: str) -> None:
    path = next(Path(f"{ROOT}/results/reference{where}/ml-latest-small/leave-one-out/als").glob("*.json"))
    before = json.loads(path.read_text())
    after = records.load(path).data
    assert before["schema"] == "recgauge.record/1" and after["schema"] == records.record_format.SCHEMA
    for name in before.keys() - {"schema", "timings", "memory"}:
        assert after[name] == before[name]
    for part in ("timings", "memory"):
        assert after[part].items() >= before[part].items()
    assert parse("again", json.dumps(after).encode()) == after


@pytest.mark.parametrize(("more", "epochs"), [({"steps": 4}, 4), ({}, 5), ({"epochs": 3, "steps": 9}, 3)])
def test_epochs_of_version_1_stand_where_they_stood(put: Put, more: dict[str, int], epochs: int) -> None:
    data = put("als", 1).data
    data["algorithm"]["config"] = {"epochs": 5}
    timings = {name: value for name, value in data["timings"].items() if name not in ("steps", "epochs")}
    old = {**data, "schema": "recgauge.record/1", "timings": {**timings, **more}}
    del old["sha256"]
    assert parse("old", json.dumps(old).encode())["timings"]["epochs"] == epochs


def test_a_text_can_command_no_terminal(put: Put) -> None:
    data = {**put("als", 1).data, "reason": "\x1b[2J\nred \u202e \ud800 é"}
    assert parse("x", json.dumps(sealed(data)).encode())["reason"] == "\\x1b[2J\\nred \\u202e \\ud800 é"
    data["reason"] = "plain"
    assert parse("x", json.dumps(sealed(data)).encode())["reason"] == "plain"


@pytest.mark.parametrize("size", [0, 9, 10, 11, 1000])
def test_the_tail_of_a_log_is_its_last_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(ord("a") + number % 26 for number in range(size))
    (tmp_path / "log").write_bytes(content)
    with (tmp_path / "log").open("rb") as file:
        assert records.tail(file, 10).encode() == content[-10:]


def test_no_record_is_a_pipe_a_folder_or_huge(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("als", 1).path
    os.mkfifo(path.with_name("pipe.json"))
    path.with_name("folder.json").mkdir()
    with path.with_name("huge.json").open("wb") as file:
        file.truncate(records.record_format.MAX_BYTES + 1)
    path.with_name("nowhere.json").symlink_to("nothing")
    found, damages = records.read_all(tmp_path)
    assert len(found) == 1
    reasons = {Path(str(error).split(": ")[0]).stem: error.reason for error in damages}
    assert reasons == {
        "pipe": "no file",
        "folder": "no file",
        "huge": "larger than 32 MiB",
        "nowhere": "cannot be read (No such file or directory): make it readable",
    }


def test_a_side_file_does_not_lead_elsewhere(put: Put, tmp_path: Path) -> None:
    kept = put("als", 1, 0)
    side = records.side_file(kept)
    os.replace(side, tmp_path / "elsewhere.npz")
    side.symlink_to(tmp_path / "elsewhere.npz")
    assert "leads out of its folder" in str(records.damage_at(kept.path))


def test_a_table_is_made_of_what_another_harness_has_just_written(put: Put, tmp_path: Path) -> None:
    """Between the reading of a record and that of its side file both were replaced."""
    put("als", 0, 0)
    found, _ = records.read_all(tmp_path)
    newer = put("als", 1, 1)
    (sound,), damages = records.complete(found)
    assert not damages and sound.data == newer.data
    (table,) = boards.build([sound], tmp_path)
    assert table.rows[0]["metrics"]["hr@10"]["mean"] == 1.0


def test_tables_are_the_same_without_the_lists(put: Put, tmp_path: Path) -> None:
    """Which are most of what a record of many users holds in memory."""
    kept = [records.with_outcomes(put(name, *ranks)) for name, ranks in (("als", (1, 0, 1)), ("ease", (1, 1, 1)))]
    sound, damages = records.complete(map(records.load, [each.path for each in kept]))
    assert not damages
    for whole, record_of_table in zip(kept, sound, strict=True):
        assert whole.outcomes is not None and record_of_table.outcomes is not None
        assert whole.outcomes.keys() - record_of_table.outcomes.keys() == {"top_items"}
    assert [table.rows for table in boards.build(sound, tmp_path)] == [
        table.rows for table in boards.build(kept, tmp_path)
    ]


def test_ten_damages_are_named_and_the_rest_counted(capsys: pytest.CaptureFixture[str]) -> None:
    records.tell(DamagedError(f"{number}.json", "broken") for number in range(25))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "recgauge: 0.json: broken: left out" and len(lines) == 11
    assert lines[-1].startswith("recgauge: and 15 more: ")
    records.tell([])
    assert not capsys.readouterr().err


# --- setting aside ---------------------------------------------------------------------------------------------------


def test_what_is_set_aside_is_kept_each_time(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = []
    for number in (1, 2):
        kept = put("als", 1, 0, model=f"model {number}")
        side = records.side_file(kept)
        side.write_bytes(f"damage {number}".encode())
        contents.append(side.read_bytes())
        reason = str(records.damage_at(kept.path))
        assert "its sha256 differs" in reason
        folder = records.set_aside(kept.path, reason)
        assert folder == tmp_path / ".damaged" / "toy" / "leave-one-out" / "als" / f"{kept.path.stem}.{number}"
        names = {kept.path.name, side.name, kept.data["model"]["folder"]}
        assert {each.name for each in folder.iterdir()} == names and not names_beside(kept.path)
        assert capsys.readouterr().err == f"recgauge: {reason}: set aside in {folder}\n"
    assert [next(folder.parent.glob(f"*.{n}/*.npz")).read_bytes() for n in (1, 2)] == contents
    assert records.read_all(tmp_path) == ([], []), "what is set aside is no record"


def test_a_kill_while_files_are_set_aside_loses_none(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever file it comes at: the next run moves what is left, before it writes."""
    rename = os.rename
    for number in range(3):
        kept = put("als", 1, 0, model="one")
        side = records.side_file(kept)
        side.write_bytes(b"damage")
        names, left = names_beside(kept.path), iter(range(number))

        def stop(source: Any, target: Any, left: Any = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            rename(source, target)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(os, "rename", stop)
            records.set_aside_damaged(kept.path)
        records.set_aside_damaged(kept.path)
        assert not names_beside(kept.path)
        place = tmp_path / ".damaged" / "toy" / "leave-one-out" / "als"
        assert {each.name for each in place.glob("*/*")} == names
        shutil.rmtree(place)


def _of_a_newer_version(kept: records.Record) -> str:
    kept.path.write_text(kept.path.read_text().replace("recgauge.record/2", "recgauge.record/3"))
    return f"{kept.path}: made by a newer RecGauge (recgauge.record/3): update, or give another --results"


def _linked_by_dvc(kept: records.Record) -> str:
    side = records.side_file(kept)
    elsewhere = side.rename(kept.path.parents[3] / "of DVC")
    side.symlink_to(elsewhere)
    return f"{side}: leads out of its folder: put the file itself in place of the link, or give another --results"


def _link_to_nothing(kept: records.Record) -> str:
    kept.path.unlink()
    kept.path.symlink_to("not fetched yet")
    return f"{kept.path}: cannot be read (No such file or directory): make it readable, or give another --results"


def _linked_model(kept: records.Record) -> str:
    (folder,) = kept.path.parent.glob("*.model")
    file = folder / "model.json"
    file.rename(kept.path.parents[3] / "of git-annex")
    file.symlink_to(kept.path.parents[3] / "of git-annex")
    return f"{file}: leads out of its folder: put the file itself in place of the link, or give another --results"


@pytest.mark.parametrize("change", [_of_a_newer_version, _linked_by_dvc, _link_to_nothing, _linked_model])
def test_what_may_be_sound_is_neither_moved_nor_replaced(
    put: Put, tmp_path: Path, change: Callable[[records.Record], str], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = put("als", 1, 0, model="one")
    reason, names = change(kept), names_beside(kept.path)
    with pytest.raises(UserError) as refusal:
        records.set_aside_damaged(kept.path)
    assert str(refusal.value) == reason
    assert names_beside(kept.path) == names and not (tmp_path / ".damaged").exists()
    assert check_results(tmp_path) == 2
    assert "0 sound, 0 damaged, 1 not to be read here; " in capsys.readouterr().out
    if change in (_of_a_newer_version, _link_to_nothing):
        with pytest.raises(UserError, match="or give another --results"):
            put("als", 1, 1, model=None)
        assert names_beside(kept.path) == names


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), OSError(errno.EIO, "I/O"), MemoryError()])
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_passing_read_error_is_no_damage(
    put: Put, monkeypatch: pytest.MonkeyPatch, error: Exception, suffix: str
) -> None:
    kept = put("als", 1, 0)
    opened = Path.open

    def refuse(path: Path, *how: Any, **more: Any) -> Any:
        if path.suffix == suffix:
            raise error
        return opened(path, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert isinstance(records.damage_at(kept.path), UnreadableError)
        with pytest.raises(UserError, match=r"cannot be read \("):
            records.set_aside_damaged(kept.path)
    assert records.damage_at(kept.path) is None


def test_a_changed_model_is_not_sound_and_a_missing_one_is_not_there(put: Put) -> None:
    kept = put("als", 1, 0, model="one")
    wanted = records.Wanted(model=True)
    kept.data["memory"]["model_bytes"] = 1
    assert records.satisfies(kept, kept.data["key"], wanted)
    folder = records.model_folder(kept)
    assert folder is not None
    (folder / "model.json").write_text("two")
    assert not records.satisfies(kept, kept.data["key"], wanted)
    assert "has changed since it was saved" in str(records.damage_at(kept.path))
    shutil.rmtree(folder)
    assert not records.satisfies(kept, kept.data["key"], wanted)
    assert records.satisfies(kept, kept.data["key"], records.Wanted())
    assert records.damage_at(kept.path) is None


# --- check -----------------------------------------------------------------------------------------------------------


def test_check_finds_each_kind_of_damage(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = {name: put(name, 1, 0, 1, model=name) for name in ("whole", "record", "side", "model", "figure")}
    assert check_results(tmp_path) == 0
    assert "5 records: 5 sound, 0 damaged" in capsys.readouterr().out
    made["record"].path.write_text(made["record"].path.read_text().replace("true", "false").replace("toy", "tox"))
    records.side_file(made["side"]).write_bytes(b"something else")
    (made["model"].path.with_name(made["model"].data["model"]["folder"]) / "model.json").write_text("x")
    wrong = {**made["figure"].data, "metrics": {**made["figure"].data["metrics"], "hr@10": 0.9}}
    made["figure"].path.write_text(json.dumps(sealed(wrong)))
    assert check_results(tmp_path) == 2
    out = capsys.readouterr().out
    for reason in ("its own sha256 differs", "its sha256 differs)", "has changed since it was saved", "hr@10 is 0.9"):
        assert reason in out
    assert "5 records: 1 sound, 4 damaged" in out and "run" in out.splitlines()[-1]


def test_check_of_nothing_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no records here"):
        check_results(tmp_path)


def test_check_says_what_it_cannot_compute(put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = put("als", 1, 0)
    data = {**kept.data, "metrics": {**kept.data["metrics"], "gone@10": 0.5, "never@10": None}}
    kept.path.write_text(json.dumps(sealed(data)))
    assert check_results(tmp_path) == 0
    assert "not computed again: gone@10: the side file lacks what it is made of: 1 figure\n" in capsys.readouterr().out
