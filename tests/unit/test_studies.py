"""A study's rules: what is queued, what counts, what is drawn after a kill, what is pruned."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from algorithms.registry import ALGORITHMS, load_class
from algorithms.space import Choice, IntUniform, LogUniform
from benchmarks.studies import Asked, Search, Study, open_storage
from datasets.errors import UserError

SPACE = {"reg": LogUniform(0.01, 10), "layers": Choice(((8,), (16, 8))), "epochs": IntUniform(1, 20)}
DEFAULT: dict[str, Any] = {"reg": 1.0, "layers": [8], "epochs": 10, "patience": 2}
REPORT: dict[str, Any] = {"reg": 0.0, "layers": [16, 8], "epochs": 20, "patience": 0}


def study(storage: BaseStorage | None = None, **changes: Any) -> Study:
    presets = {"default": DEFAULT, "report": REPORT}
    search = {"base": DEFAULT, "space": SPACE, "presets": presets, "higher_is_better": True}
    search |= {"sampler": "tpe", "pruner": "median", "seed": 0, **changes}
    made = Study("s", storage or InMemoryStorage(), Search(**search))
    made.recover()
    return made


def run(on: Study, values: list[float]) -> list[Asked]:
    """One complete trial for each value."""
    asked = []
    for value in values:
        asked.append(on.ask())
        on.complete(asked[-1], value, None, 1.0)
    return asked


def trials_of(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="s", storage=storage).trials


def test_the_presets_come_first_and_then_draws_from_the_space() -> None:
    asked = run(study(), [0.1] * 20)
    assert [each.preset for each in asked[:3]] == ["default", "report", None]
    assert asked[0].config == DEFAULT and asked[1].config == REPORT
    for each in asked[2:]:
        assert each.config["patience"] == 2
        assert 0.01 <= each.config["reg"] <= 10 and each.config["layers"] in ("8", "16-8")
    assert len({each.config["reg"] for each in asked}) == 20


def test_a_preset_outside_the_space_is_tried_but_not_learned_from() -> None:
    storage = InMemoryStorage()
    run(study(storage), [0.1, 0.9, 0.3])
    default, report, drawn = trials_of(storage)
    assert default.params == {"reg": 1.0, "layers": "8", "epochs": 10}
    assert report.params == {} and report.value == 0.9
    assert set(drawn.params) == set(SPACE)


def test_a_preset_is_queued_again_unless_it_is_complete() -> None:
    storage = InMemoryStorage()
    first = study(storage)
    first.fail(first.ask(), "no luck", 1.0)
    run(first, [0.5])
    again = study(storage)
    assert again.ask().preset == "default"
    assert again.ask().preset is None
    assert study(storage).ask().preset == "default"  # the one that was running is lost


def test_what_was_running_is_lost_and_counts_for_nothing() -> None:
    storage = InMemoryStorage()
    first = study(storage)
    run(first, [0.1, 0.2])
    first.ask()
    second = study(storage)
    assert [trial.state for trial in trials_of(storage)] == [TrialState.COMPLETE] * 2 + [TrialState.FAIL]
    assert second.counts() == {"complete": 2, "pruned": 0, "failed": 0}
    assert second.spent() == 2.0 and second.values() == [0.1, 0.2] and second.failures() == []


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_killed_study_draws_what_it_would_have_drawn(sampler: str) -> None:
    values = [((7 * n) % 11) / 11 for n in range(16)]
    whole = [each.config for each in run(study(sampler=sampler), values)]
    storage = InMemoryStorage()
    parts = run(study(storage, sampler=sampler), values[:5])
    study(storage, sampler=sampler).ask()
    parts += run(study(storage, sampler=sampler), values[5:])
    assert [each.config for each in parts] == whole


def test_two_running_trials_and_a_kill_never_draw_the_same_twice() -> None:
    storage = InMemoryStorage()
    first = study(storage, sampler="random")
    run(first, [0.1, 0.2])
    lost, kept = first.ask(), first.ask()
    first.complete(kept, 0.3, None, 1.0)
    drawn = [each.config for each in run(study(storage, sampler="random"), [0.4, 0.5])]
    assert drawn[0] == lost.config, "what was lost is drawn again"
    assert kept.config not in drawn and drawn[0] != drawn[1]


def test_a_smaller_budget_than_before_is_refused() -> None:
    storage = InMemoryStorage()
    study(storage).allow(20, 90)
    study(storage).allow(20, 180)
    for smaller in ((19, 180), (20, 90)):
        with pytest.raises(UserError, match="budget of 20 trials and 180 s, larger than"):
            study(storage).allow(*smaller)


def test_counts_values_and_the_earliest_of_the_best() -> None:
    on = study()
    run(on, [0.5, 0.4, 0.5])
    on.prune(on.ask(), 0.25)
    on.fail(on.ask(), "died", 0.5)
    assert on.counts() == {"complete": 3, "pruned": 1, "failed": 1}
    assert on.values() == [0.5, 0.4, 0.5, None, None]
    assert on.spent() == 3.75 and on.failures() == ["died"]
    assert on.best() == (DEFAULT, 0.5)
    assert on.value_of_preset("report") == 0.4
    assert study(higher_is_better=False).best() is None


def test_only_a_trial_below_the_median_is_pruned_and_never_a_preset() -> None:
    on = study()
    for number in range(7):
        asked = on.ask()
        assert not on.gives_up(asked, 4, 0.01 if asked.preset else number / 10), "too few to compare with"
        on.complete(asked, 0.5, None, 1.0)
    good, poor = on.ask(), on.ask()
    assert not on.gives_up(good, 4, 0.45)
    assert on.gives_up(poor, 4, 0.05)
    assert not on.gives_up(Asked(poor.trial, {}, "default"), 8, 0.01)
    lax = study(pruner="none")
    run(lax, [0.5] * 9)
    assert not lax.gives_up(lax.ask(), 4, 0.0)


TORN = b'{"op_code":4,"worker'


@pytest.mark.parametrize("tail", [TORN, bytes(5_000), TORN + bytes(5_000), TORN[:3] + bytes(1)], ids=range(4))
def test_a_journal_survives_a_torn_line_and_what_a_power_cut_leaves(tmp_path: Path, tail: bytes) -> None:
    journal = tmp_path / "of" / "a.journal"
    run(study(open_storage(None, journal)), [0.1, 0.2])
    whole = journal.read_bytes()
    journal.write_bytes(whole + tail)
    assert study(open_storage(None, journal)).values() == [0.1, 0.2]
    assert journal.read_bytes().startswith(whole) and b"\0" not in journal.read_bytes()
    run(study(open_storage(None, journal)), [0.3])
    assert study(open_storage(None, journal)).values() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_registered_space_can_be_drawn_from(name: str) -> None:
    """A space whose default is no point of it would be searched without its best known start."""
    from dataclasses import asdict

    from algorithms.config import resolve_config

    spec = ALGORITHMS[name]
    adapter = load_class(spec)
    default = asdict(resolve_config(adapter.Config, spec.presets["default"], name))
    search = {"base": default, "space": adapter.SPACE, "presets": {"default": default}}
    on = study(**search)
    for asked in run(on, [0.1] * 9):
        resolve_config(adapter.Config, asked.config, name)
    assert on.best() == (default, 0.1)


def lines_of(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


DAMAGED_LINES = {
    "garbage": b"\xff\xfe\0\n",
    "blank": b"\n",
    "no JSON": b'{"op_code":\n',
    "no object": b"[1]\n",
    "nested": b"[" * 50_000 + b"\n",
    "unknown operation": b'{"op_code":77,"worker_id":"w"}\n',
    "a study gone": b'{"op_code":1,"worker_id":"w","study_id":0}\n',
    "another study": b'{"op_code":4,"worker_id":"w","study_id":5,"datetime_start":null}\n',
    "another trial": b'{"op_code":8,"worker_id":"w","trial_id":99,"user_attr":{"a":1}}\n',
    "a part missing": b'{"op_code":2,"worker_id":"w","study_id":0}\n',
}


@pytest.mark.parametrize("case", DAMAGED_LINES)
def test_a_damaged_line_of_a_journal_is_named_and_nothing_is_lost(tmp_path: Path, case: str) -> None:
    journal = tmp_path / "a.journal"
    storage = open_storage(None, journal)
    run(study(storage), [0.1, 0.2])
    lines = lines_of(journal)
    damaged = b"".join([*lines[:5], DAMAGED_LINES[case], *lines[5:]])
    journal.write_bytes(damaged)
    with pytest.raises(UserError) as caught:
        study(open_storage(None, journal))
    message = str(caught.value)
    assert message.startswith(f"{journal}:6: this study is damaged (") and message.endswith("move it to begin anew")
    assert message.isprintable() and len(message) < 700
    assert journal.read_bytes() == damaged


def test_a_repeated_line_of_a_journal_is_named(tmp_path: Path) -> None:
    """Optuna leaves out what is said of a finished trial, and whatever else a lost or doubled line makes of others."""
    journal = tmp_path / "a.journal"
    storage = open_storage(None, journal)
    run(study(storage), [0.1])
    lines = lines_of(journal)
    finished = next(line for line in lines if b'"op_code":6' in line and b'"state":1' in line)
    journal.write_bytes(b"".join([*lines, finished]))
    with pytest.raises(UserError, match=rf":{len(lines) + 1}: .*trial 0 is finished"):
        open_storage(None, journal)


@pytest.mark.parametrize("foreign", [b"not a journal at all", b"PK\3\4", b"\n\0", b"{}"])
def test_a_file_of_something_else_is_no_journal_and_stays(tmp_path: Path, foreign: bytes) -> None:
    journal = tmp_path / "a.journal"
    journal.write_bytes(foreign)
    with pytest.raises(UserError, match=r"a\.journal:[12]: this study is damaged"):
        open_storage(None, journal)
    assert journal.read_bytes() == foreign


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b'{"seconds":1.0}', b'{"seconds":"long"}'),
        (b'{"seconds":1.0}', b'{"seconds":NaN}'),
        (b'{"draw":0}', b'{"draw":[]}'),
        (b'"values":[0.5]', b'"values":["half"]'),
        (b'"values":[0.5]', b'"values":[NaN]'),
        (b'"patience":2', b'"patients":2'),
    ],
)
def test_what_tune_cannot_have_written_is_refused(tmp_path: Path, was: bytes, becomes: bytes) -> None:
    journal = tmp_path / "a.journal"
    storage = open_storage(None, journal)
    run(study(storage), [0.5])
    text = journal.read_bytes()
    assert was in text
    journal.write_bytes(text.replace(was, becomes))
    refused = pytest.raises(UserError, match=r"a\.journal(:\d+)?: this study is damaged")
    with refused:
        study(open_storage(None, journal))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE trial_values SET value = 'high'", "value of trial 0"),
        ("UPDATE trials SET number = NULL", "damaged"),
        ("UPDATE trials SET state = 'LOST'", "damaged"),
        ("UPDATE trial_user_attributes SET value_json = '{'", "damaged"),
        ("UPDATE alembic_version SET version_num = 'v9'", "--storage"),
    ],
)
def test_a_damaged_data_base_is_named(tmp_path: Path, change: str, reason: str) -> None:
    file, journal = tmp_path / "studies.db", tmp_path / "a.journal"
    storage = open_storage(f"sqlite:///{file}", journal)
    run(study(storage), [0.5])
    with sqlite3.connect(file) as base:
        base.execute("PRAGMA ignore_check_constraints = on")
        base.execute(change)
    base.close()
    with pytest.raises(UserError) as caught:
        study(open_storage(f"sqlite:///{file}", journal))
    assert str(caught.value).startswith(f"--storage sqlite:///{file}: ") and reason in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_password_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        open_storage("nosuch://me:secret@host/base", tmp_path / "a.journal")
    assert "secret" not in str(caught.value) and "me:***@host" in str(caught.value)
