"""The soak's checker can fail: each of what it is to find is planted beside records of a real run, and found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soak
import soak_checks as checks

SMALL = (
    *("--dataset", "planted-genres[n_users=60,n_items=40,n_ratings=900]", "--protocol", "holdout"),
    *("--algorithm", "bias", "--seeds", "2", "--plugin", str(soak.PLUGIN), "--keep-models"),
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> soak.Soak:
    """A soak after its undisturbed run, on which nothing is wrong."""
    tested = soak.Soak(tmp_path_factory.mktemp("soak"), seed=0, suite=SMALL)
    tested.undisturbed()
    tested.check()
    assert not tested.violations
    assert len(tested.ledger.complete) == 4  # and as many of the oracle
    return tested


@pytest.fixture
def tested(measured: soak.Soak) -> Iterator[soak.Soak]:
    """The same, put right again afterwards."""
    measured.ledger = checks.Ledger(measured.results)
    measured.ledger.look()
    measured.violations = []
    yield measured
    shutil.rmtree(measured.results)
    shutil.copytree(measured.folder / "undisturbed", measured.results)


def found(tested: soak.Soak) -> str:
    return "\n".join(each.what for each in tested.violations)


def a_record(tested: soak.Soak) -> Path:
    return min(tested.ledger.complete)


def rewrite(path: Path, **changed: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@pytest.mark.parametrize("way", soak.WAYS)
@pytest.mark.parametrize("file", ["record", "side", "model"])
def test_damage_is_found_unless_the_injector_did_it(tested: soak.Soak, file: str, way: str) -> None:
    fault = soak.Fault(1, f"{way} {file}", soak.random.Random(f"{file}-{way}"))
    path = checks.files_of(tested.ledger.complete[a_record(tested)])[file][0]
    soak.damage(path, way, fault.chance)
    assert tested.ledger.look(), "nobody says that it is damaged"

    tested.ledger = checks.Ledger(tested.results)
    shutil.copytree(tested.folder / "undisturbed", tested.results, dirs_exist_ok=True)
    tested.ledger.look()
    assert tested._damage(fault, file)
    assert not tested.ledger.look()
    if fault.kind != "flip record":  # a flipped bit may leave a valid record
        assert tested.ledger.look(excuses=False) or fault.kind == "delete record"


def test_damage_of_the_injector_excuses_no_other_state_of_the_file(tested: soak.Soak) -> None:
    path = a_record(tested)
    tested.ledger.touch(path)
    soak.damage(path, "truncate", soak.random.Random(0))
    tested.ledger.note(path)
    assert not tested.ledger.look()
    path.write_text("{}")
    assert "is no valid record" in "\n".join(tested.ledger.look())


def test_a_run_in_the_midst_of_setting_a_damaged_cell_aside_is_excused(tested: soak.Soak) -> None:
    """It moves the sound files too, the record last; where nobody damaged the cell, that is a violation."""
    path = a_record(tested)
    (side,) = checks.files_of(tested.ledger.complete[path])["side"]
    (*_, model) = checks.files_of(tested.ledger.complete[path])["model"]
    side.unlink()
    assert tested.ledger.look()

    tested.ledger = checks.Ledger(tested.results)
    shutil.copytree(tested.folder / "undisturbed", tested.results, dirs_exist_ok=True)
    tested.ledger.look()
    tested.ledger.touch(model)
    soak.damage(model, "truncate", soak.random.Random(0))
    tested.ledger.note(model)
    side.unlink()
    assert not tested.ledger.look()


def test_lost_record_is_found(tested: soak.Soak) -> None:
    a_record(tested).unlink()
    tested.check()
    assert "a complete record is lost" in found(tested)


def test_record_that_is_not_equal_is_found(tested: soak.Soak) -> None:
    path = a_record(tested)
    rewrite(path, metrics={name: 0.5 for name in tested.ledger.complete[path].data["metrics"]}, sha256="0" * 64)
    assert tested.ledger.look()


def test_failure_in_the_place_of_a_measurement_is_found(tested: soak.Soak) -> None:
    before = tested.ledger.complete[a_record(tested)]
    failed = checks.Seen(before.path, "other", {**before.data, "status": "failed", "side": None}, {})
    assert "gave way to one that is not equal (status failed)" in "\n".join(tested.ledger._kept(before, failed))


def test_announced_cell_without_a_record_is_found(tested: soak.Soak) -> None:
    line = "✓ 3/4 bias · planted-genres[n_users=60] · holdout · split 42 · seed {}: rmse 1.041, 0.2 s\n"
    assert not tested.ledger.announced(line.format(1))
    assert "there is no record" in "\n".join(tested.ledger.announced(line.format(7)))


def test_process_that_escaped_is_found_and_ended(tested: soak.Soak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "GRACE_S", 0.1)
    command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    process = subprocess.Popen(command, start_new_session=True, env=tested.environment())
    tested.check()
    assert f"process {process.pid} is still alive" in found(tested)
    assert process.wait(5) != 0


def test_record_that_leaderboard_passes_over_in_silence_is_found(tested: soak.Soak) -> None:
    path, other = sorted(tested.ledger.complete)[:2]
    rows = [{"records": [os.fspath(path.relative_to(tested.results))]}]
    assert not checks.miscounted(rows, [path], tested.results)
    assert "leaves out" in checks.miscounted(rows, [path, other], tested.results)[0]
    assert "which is damaged" in checks.miscounted(rows, [], tested.results)[0]
    assert not checks.unnamed([path], f"recgauge: {path}: not a readable record, left out")
    assert "does not name" in checks.unnamed([path], "")[0]


def test_traceback_and_leftovers_are_found(tested: soak.Soak) -> None:
    assert not checks.bad_output("", "recgauge: interrupted")
    assert "KeyError: 'a'" in checks.bad_output("", "Traceback (most recent call last):\n  …\nKeyError: 'a'\n")[0]
    gone = soak._gone_process()
    for path in (tested.results / ".scratch" / f"{gone}-key", Path(f"{a_record(tested)}.tmp-{gone}")):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert str(path) in checks.leftovers(tested.results)[0]
        path.unlink()


@pytest.mark.parametrize(("code", "err"), [(1, "recgauge: no"), (4, ""), (-9, "")])
def test_exit_code_that_no_fault_explains_is_found(tested: soak.Soak, code: int, err: str) -> None:
    command = tested.start("list")
    tested.finish(command)
    command.log.with_suffix(".err").write_text(err)
    tested._running = [command]
    tested._check_ending(command, code)
    assert f"ended with exit code {code}, not one of [0]" in found(tested)


def test_leaderboard_and_records_that_differ_are_found_and_times_are_not(tested: soak.Soak) -> None:
    assert not tested._differences(tested.folder / "undisturbed")
    rows = tested._rows(tested.results)
    later = json.loads(json.dumps(rows))
    later[0]["cost"] = {"fit_s": None}
    assert not checks.differences(rows, later, checks.TIMES_IN_ROWS)
    later[0]["metrics"]["rmse"]["mean"] += 1e-9
    assert "[0].metrics.rmse.mean" in checks.differences(rows, later, checks.TIMES_IN_ROWS)[0]
    assert checks.differences(rows, rows[1:], checks.TIMES_IN_ROWS)


def test_faults_of_a_seed_are_always_the_same() -> None:
    def first(seed: int) -> list[tuple[str, float]]:
        sequence = soak.faults(seed, soak.kinds())
        return [(fault.kind, fault.chance.random()) for fault, _ in zip(sequence, range(50), strict=False)]

    assert first(1) == first(1) != first(2)
    assert not any("side" in kind for kind in soak.kinds(["side"]))
