"""The seal: what adapter code may not open, and what it may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.seal import Seal, SealBroken


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Seal, Path]:
    """A folder with a secret and a given part. One seal for all tests: an audit hook stays for the process's life."""
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "given").mkdir()
    (folder / "given" / "train.txt").write_text("train")
    (folder / "labels.txt").write_text("labels")
    seal = Seal([folder], [folder / "given"])
    seal.install()
    return seal, folder


def test_given_files_open_and_others_do_not(sealed: tuple[Seal, Path]) -> None:
    seal, folder = sealed
    assert (folder / "labels.txt").read_text() == "labels"  # harness code may
    with seal.adapter():
        assert (folder / "given" / "train.txt").read_text() == "train"
        for attempt in (
            lambda: (folder / "labels.txt").read_text(),
            lambda: open(os.fsencode(folder / "labels.txt")),  # noqa: SIM115
            lambda: os.open(folder / "labels.txt", os.O_RDONLY),
            lambda: os.listdir(folder),
            lambda: (folder / "given" / ".." / "labels.txt").read_text(),
            lambda: subprocess.run(["cat", str(folder / "labels.txt")]),
        ):
            with pytest.raises(SealBroken):
                attempt()
    with pytest.raises(SealBroken, match="labels"):
        seal.check()


def test_link_to_a_secret_is_refused_too(sealed: tuple[Seal, Path], tmp_path: Path) -> None:
    seal, folder = sealed
    (tmp_path / "innocent").symlink_to(folder / "labels.txt")
    with seal.adapter(), pytest.raises(SealBroken):
        (tmp_path / "innocent").read_text()


def test_a_file_mode_is_not_taken_for_a_path(sealed: tuple[Seal, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seal, folder = sealed
    monkeypatch.chdir(folder)  # "r" would be a file in here
    with seal.adapter(), open(Path(sys.prefix) / "pyvenv.cfg", "r") as file:  # noqa: UP015
        assert file.read()
