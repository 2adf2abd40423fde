"""A study's rules: what is queued, what counts, what is drawn after a kill, what is pruned."""

from __future__ import annotations

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


def test_a_journal_survives_a_torn_line(tmp_path: Path) -> None:
    journal = tmp_path / "of" / "a.journal"
    run(study(open_storage(None, journal)), [0.1, 0.2])
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker')
    assert study(open_storage(None, journal)).values() == [0.1, 0.2]
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
