"""Devices as a user asks for them, on a machine without a GPU and on one where nvidia-smi names one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from conftest import CommandLine

from benchmarks.environment import hardware

pytestmark = pytest.mark.skipif(bool(hardware()["gpus"]), reason="this machine has a GPU")

NO_GPU = "no GPU here: nvidia-smi finds none"


@pytest.fixture
def nvidia_smi(tmp_path: Path) -> dict[str, str]:
    """Variables with which a command finds a GPU by name; no framework finds it."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA of a test'\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


def test_each_device_is_a_row_and_what_cannot_run_says_why(benchmarks: CommandLine) -> None:
    ended = benchmarks.run("--algorithm", "popularity,als", "--device", "cpu,cuda")
    assert ended.code == 0, ended.err
    assert f"als (cuda): skipped: {NO_GPU}" in ended.out
    assert "popularity (cuda)" not in ended.out, "popularity knows one device only"
    records = [json.loads(path.read_text()) for path in benchmarks.results.glob("*/*/*/*.json")]
    found = sorted((record["algorithm"]["name"], record["device"], record["status"]) for record in records)
    assert found == [("als", "cpu", "ok"), ("als", "cuda", "skipped"), ("popularity", "cpu", "ok")]
    variables = [record["environment"]["variables"] for record in records if record["status"] == "ok"]
    assert {each["CUDA_VISIBLE_DEVICES"] for each in variables} == {"-1"}


def test_a_dry_run_shows_devices_before_and_after_the_split_is_prepared(
    benchmarks: CommandLine, tmp_path: Path
) -> None:
    cache = {"RECGAUGE_CACHE": str(tmp_path / "cache")}
    asked = ("--algorithm", "als,popularity", "--device", "cpu,cuda", "--dry-run")
    lines = benchmarks.run(*asked, **cache).out.splitlines()
    assert len(lines) == 3 and lines[1].startswith("skip     als") and lines[1].endswith(f"1 seed(s) · cuda: {NO_GPU}")
    benchmarks("prepare", "--dataset", "synthetic-genres", "--protocol", "leave-one-out", **cache)
    lines = benchmarks.run(*asked, **cache).out.splitlines()
    assert len(lines) == 3 and lines[1].startswith("skip     als") and lines[1].endswith(f"seed 0 · cuda: {NO_GPU}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--device", "cpu,gpu"), "'gpu' is not a device: cpu, cuda, auto, or several with commas"),
        (("tune", "--device", "cpu,cuda"), "'cpu,cuda' is not one of cpu, cuda, auto: 'run' takes several"),
        (
            ("predict", "--dataset", "x", "--algorithm", "als", "--out", "x", "--device", "cpu,auto"),
            "'cpu,auto' is not one of cpu, cuda, auto: 'run' takes several",
        ),
    ],
)
def test_a_wrong_device_is_one_line(benchmarks: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    ended = benchmarks(*arguments)
    assert ended.code == 1 and len(ended.err.splitlines()) == 1
    assert message in ended.err


def test_a_gpu_that_implicit_cannot_use(benchmarks: CommandLine, nvidia_smi: dict[str, str]) -> None:
    ended = benchmarks.run("--algorithm", "als", "--device", "cuda", "--dry-run", **nvidia_smi)
    assert re.search(r"^skip .*seed.* · cuda: .*pip install 'rmm-cu13>=26.2,<26.6'", ended.out)
    ended = benchmarks.run("--algorithm", "als", "--device", "auto", "--dry-run", **nvidia_smi)
    assert ended.out.startswith("new") and "cuda" not in ended.out


def test_doctor_names_what_each_framework_needs_for_the_gpu(nvidia_smi: dict[str, str], tmp_path: Path) -> None:
    assert "on the gpu" not in CommandLine(tmp_path)("doctor").out
    ended = CommandLine(tmp_path)("doctor", **nvidia_smi)
    assert ended.code == 0, ended.out
    assert re.search(r"^gpu +NVIDIA of a test$", ended.out, re.MULTILINE)
    section = ended.out.partition("on the gpu\n")[2].partition("\n\n")[0]
    assert re.search(r"^  implicit +implicit needs rmm|^  implicit .*rmm-cu13", section, re.MULTILINE)
    assert "can use it" not in section
