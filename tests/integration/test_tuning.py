"""``tune`` as a user runs it: exact totals, kill and resume, failed trials, what is opened, what is written."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
from conftest import ROOT, CommandLine, Finished
from optuna.trial import FrozenTrial, TrialState

from benchmarks import tuned

PLUGIN = ROOT / "tests" / "plugins" / "tunable.py"
N_USERS, N_ITEMS = 40, 120


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ratings of which some items have many."""
    draw = np.random.default_rng(0)
    weights = 1 / np.arange(1, N_ITEMS + 1)
    lines = ["user,item,rating,time"]
    for user in range(N_USERS):
        items = draw.choice(N_ITEMS, size=8, replace=False, p=weights / weights.sum())
        lines += [f"{user},{item},{draw.integers(1, 6)},{time}" for time, item in enumerate(items)]
    path = tmp_path / "ratings.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


class Tune:
    """The command with the plug-in, tiny data and this test's folders; one study at most."""

    def __init__(self, line: CommandLine, data: Path, folder: Path) -> None:
        self.line, self.folder = line, folder
        self.trace = folder / "trace"
        self._always = ("tune", "--results", str(line.results), "--tuned", str(folder / "tuned"))
        self._always += ("--plugin", str(PLUGIN), "--dataset", str(data))

    def arguments(self, *arguments: str) -> tuple[str, ...]:
        protocol = () if "--protocol" in arguments else ("--protocol", "leave-one-out")
        return (*self._always, *protocol, *arguments)

    def __call__(self, *arguments: str) -> Finished:
        return self.line(*self.arguments(*arguments), TUNABLE_TRACE=str(self.trace))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return self.line.start(*self.arguments(*arguments), TUNABLE_TRACE=str(self.trace))

    def fits(self) -> list[str]:
        """The process that ran each fit."""
        lines = [line.split() for line in self.trace.read_text().splitlines()] if self.trace.exists() else []
        return [line[0] for line in lines if line[1] == "fit"]

    def study(self, algorithm: str = "knob") -> optuna.Study:
        (journal,) = self.line.results.glob(f"studies/*/*/{algorithm}-????????????-*.journal")
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
        return optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage)

    def finished(self, algorithm: str = "knob") -> list[FrozenTrial]:
        study = self.study(algorithm)
        lost = study.user_attrs.get("lost", [])
        return [trial for trial in study.trials if trial.state.is_finished() and trial.number not in lost]

    def winner(self, algorithm: str = "knob") -> tuned.Tuned:
        (path,) = (self.folder / "tuned").glob(f"*/*/{algorithm}.toml")
        return tuned.read(path)


@pytest.fixture
def tune(benchmarks: CommandLine, data: Path, tmp_path: Path) -> Iterator[Tune]:
    yield Tune(benchmarks, data, tmp_path)
    assert not workers_of(benchmarks.results), "a worker was left behind"


def workers_of(results: Path) -> list[psutil.Process]:
    found = []
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        found = [process for process in psutil.process_iter() if _works_in(process, results / ".scratch")]
        if not found:
            break
        time.sleep(0.05)
    return found


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd().startswith(str(folder.resolve()))
    except psutil.Error:
        return False


def wait_until(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def states(trials: list[FrozenTrial]) -> list[TrialState]:
    return [trial.state for trial in trials]


def test_a_study_has_exactly_its_trials_in_one_warm_worker_and_grows_with_its_budget(tune: Tune) -> None:
    ended = tune("--algorithm", "knob", "--trials", "5")
    assert ended.code == 0, ended.err
    winner, trials = tune.winner(), tune.finished()
    assert len(trials) == len(tune.fits()) == len(winner.values) == 5
    assert len(set(tune.fits())) == 1
    assert trials[0].params == {"x": 0.6} and winner.default_value == trials[0].value
    assert winner.value == max(trial.value for trial in trials if trial.state is TrialState.COMPLETE)
    assert winner.trials == {"complete": 5, "pruned": 0, "failed": 0} and winner.bound_by == "trials"
    assert winner.seconds == pytest.approx(sum(trial.user_attrs["seconds"] for trial in trials), abs=0.01)
    assert winner.study == tune.study().study_name
    assert all(len(line) <= 80 for line in ended.out.splitlines() if not line.startswith("  "))

    again = tune("--algorithm", "knob", "--trials", "5")
    assert again.code == 0 and len(tune.fits()) == 5
    assert again.out == ended.out
    more = tune("--algorithm", "knob", "--trials", "7")
    assert more.code == 0 and len(tune.finished()) == len(tune.fits()) == 7
    assert [trial.value for trial in tune.finished()[:5]] == [trial.value for trial in trials]
    assert len({trial.params["x"] for trial in tune.finished()}) == 7, "a draw was drawn again"


def test_a_poor_trial_is_pruned_by_the_figures_that_its_worker_sends(tune: Tune) -> None:
    ended = tune("--algorithm", "knob", "--trials", "16", "--sampler", "random", "--seed", "1")
    assert ended.code == 0, ended.err
    trials, winner = tune.finished(), tune.winner()
    poor = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert winner.trials == {"complete": 16 - len(poor), "pruned": len(poor), "failed": 0}
    assert poor and all(trial.number >= 7 and trial.params["x"] < 0.5 for trial in poor)
    assert all(list(trial.intermediate_values) == [4] for trial in poor)
    assert all(list(trial.intermediate_values) == [4, 8] for trial in trials if trial not in poor)
    assert [value is None for value in winner.values] == [trial in poor for trial in trials]


def test_two_workers_give_the_same_totals(tune: Tune) -> None:
    ended = tune("--algorithm", "knob", "--trials", "7", "--workers", "2", "--set", "knob.seconds=0.2")
    assert ended.code == 0, ended.err
    assert len(tune.finished()) == len(tune.study().trials) == len(tune.fits()) == 7
    assert len(set(tune.fits())) == 2
    assert "knob.seconds" not in str(tune.study().trials[3].params)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_killed_study_goes_on_without_losing_or_repeating_a_trial(tune: Tune, number: int) -> None:
    arguments = ("--algorithm", "knob", "--trials", "6", "--set", "knob.seconds=0.4", "--sampler", "random")
    process = tune.start(*arguments)
    wait_until(lambda: len(tune.fits()) == 4)
    os.kill(process.pid, number)
    process.communicate(timeout=20)
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    before = tune.finished()
    assert len(before) == 3 and states(tune.study().trials).count(TrialState.RUNNING) == 1

    ended = tune(*arguments)
    assert ended.code == 0, ended.err
    assert "3 of them known; 1 lost to an interruption" in ended.err
    after = tune.finished()
    assert [(t.number, t.value) for t in after[:3]] == [(t.number, t.value) for t in before]
    assert len(after) == 6 and tune.study().user_attrs["lost"] == [3]
    assert len(tune.fits()) == 7  # the lost one's too
    assert len({trial.params["x"] for trial in after}) == 6
    assert after[3].params == tune.study().trials[3].params, "the lost draw is made again, then the next ones"


FAILURES = {
    "dies": "killed by SIGKILL",
    "raises": "ZeroDivisionError: a bug in an adapter",
    "hangs": "time limit of 4 s",
    "eats": "the limit is 0.50 GiB",
    "reads-test-labels": "tried to open what its cell was not given: labels",
    "reads-validation-labels": "tried to open what its cell was not given: labels",
}


def test_a_failing_trial_counts_with_its_reason_and_a_fresh_worker_goes_on(tune: Tune) -> None:
    names = ",".join(f"knob-{mode}" for mode in FAILURES)
    ended = tune("--algorithm", names, "--trials", "3", "--time-limit", "4", "--memory-limit", "0.5")
    assert ended.code == 0, ended.err
    for mode, reason in FAILURES.items():
        trials, winner = tune.finished(f"knob-{mode}"), tune.winner(f"knob-{mode}")
        assert states(trials) == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE], mode
        assert reason in trials[1].user_attrs["reason"] and reason in ended.err
        assert trials[1].user_attrs["preset"] == "report"
        assert winner.trials == {"complete": 2, "pruned": 0, "failed": 1}
        assert winner.values[1] is None
    processes = tune.fits()
    assert len(processes) == 3 * len(FAILURES)
    assert len(set(processes)) == 1 + len(FAILURES), "one worker for all studies, a fresh one after each failure"


def test_no_test_row_is_opened_by_owner_or_worker(tune: Tune) -> None:
    arguments = ("--algorithm", "knob", "--trials", "3", "--protocol", "leave-one-out,holdout")
    assert tune(*arguments[:3], "1", *arguments[4:]).code == 0  # prepares the splits
    tune.trace.unlink()
    assert tune(*arguments).code == 0
    lines = tune.trace.read_text().splitlines()
    opened = {line.split(" ", 2)[2] for line in lines if line.split()[1] == "open"}
    splits = [path.split("/splits/")[1].split("/") for path in opened if "/splits/" in path]
    assert len({split for split, *_ in splits}) == 2
    assert {place for _, place, *_ in splits} == {"meta.json", "validation"}
    assert any(rest[:1] == ["labels"] for _, _, *rest in splits), "the trace did not see the worker"
    assert any("studies" in path for path in opened), "the trace did not see the owner"


def test_no_trial_starts_once_the_seconds_are_spent_and_a_running_one_is_stopped(tune: Tune) -> None:
    ended = tune("--algorithm", "knob", "--trials", "9", "--seconds", "1.5", "--set", "knob.seconds=0.6")
    assert ended.code == 0, ended.err
    trials, winner = tune.finished(), tune.winner()
    assert states(trials) == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL]
    assert "the study's 1.5 s are spent" in trials[2].user_attrs["reason"]
    assert winner.bound_by == "seconds" and 1.45 <= winner.seconds <= 1.9
    assert winner.budget == {"name": "tune-small", "trials": 9, "seconds": 1.5}
    assert tune("--algorithm", "knob", "--trials", "9", "--seconds", "1.5", "--set", "knob.seconds=0.6").code == 0
    assert len(tune.finished()) == 3


@pytest.mark.slow
def test_the_default_is_not_stopped_by_the_studys_seconds(tune: Tune) -> None:
    ended = tune("--algorithm", "knob", "--trials", "3", "--seconds", "0.2", "--set", "knob.seconds=0.6")
    assert ended.code == 0, ended.err
    assert states(tune.finished()) == [TrialState.COMPLETE]
    assert tune.winner().default_value == tune.winner().value


@pytest.mark.slow
def test_a_data_base_takes_the_journals_place(tune: Tune, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tuning.db"
    for _ in range(2):
        ended = tune("--algorithm", "knob", "--trials", "3", "--storage", url)
        assert ended.code == 0, ended.err
    assert len(tune.fits()) == 3 and not list(tune.line.results.rglob("*.journal"))
    (name,) = optuna.get_all_study_names(url)
    assert name == tune.winner().study and name.startswith("ratings/leave-one-out/knob/")
    refused = tune("--algorithm", "knob", "--storage", "no-url")
    assert refused.code == 1 and "--storage:" in refused.err and len(refused.err.splitlines()) == 1


def test_a_winner_of_another_split_is_not_replaced(tune: Tune) -> None:
    arguments = ("--algorithm", "knob", "--trials", "2", "--set", "leave-one-out.negatives=20")
    assert tune(*arguments).code == 0
    refused = tune(*arguments, "--split-seed", "43")
    assert refused.code == 1 and "knob.toml: holds the winner of another split" in refused.err
    assert tune.winner().split_seed == 42
    again = tune("--algorithm", "knob:tuned", "--trials", "2")
    assert again.code == 1 and "'tuned' is what tuning finds" in again.err


def test_what_has_no_space_or_cannot_run_is_said_in_a_line(tune: Tune) -> None:
    ended = tune("--algorithm", "random,bias,content-cosine", "--set", "bias.damping=3", "--trials", "4")
    assert ended.code == 0, ended.err
    assert "content-cosine: not tuned: content-cosine needs" in ended.out and "failed" not in ended.err
    for name in ("random", "bias"):
        (row,) = [line for line in ended.out.splitlines() if line.startswith(f"{name} ")]
        assert row.endswith("nothing to tune") and " 1/0/0 " in row
    skipped = tune("--algorithm", "ncf-mmr", "--protocol", "holdout", "--trials", "4")
    assert skipped.code == 0
    assert "ncf-mmr: not tuned: ncf-mmr gives no answer to a rating protocol" in skipped.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--algorithm", "als,als:report"), "als is named twice"),
        (("--protocol", "holdout", "--folds", "3", "--algorithm", "als"), "leave out --folds"),
        (("--budget", "quick"), "unknown tuning budget 'quick'"),
        (("--trials", "0"), "'0' is not a whole number from 1"),
    ],
)
def test_mistakes_are_one_line(tune: Tune, arguments: tuple[str, ...], message: str) -> None:
    refused = tune(*arguments)
    assert refused.code == 1 and message in refused.err and len(refused.err.splitlines()) == 1
    assert not (tune.line.results / "studies").exists()


@pytest.mark.slow
def test_little_of_a_study_of_als_is_neither_fit_nor_scoring(benchmarks: CommandLine, movielens: Path) -> None:
    ended = benchmarks(
        *("tune", "--results", str(benchmarks.results), "--tuned", str(benchmarks.results / "tuned")),
        *("--dataset", "ml-latest-small", "--protocol", "leave-one-out", "--algorithm", "als"),
    )
    assert ended.code == 0, ended.err
    numbers = re.search(r"20/20 trials, ([\d.]+) s of fit and scoring, ([\d.]+) s beside it", ended.err)
    assert numbers, ended.err
    spent, beside = map(float, numbers.groups())
    assert beside <= 0.15 * (spent + beside)


def test_dry_run_shows_the_studies_and_runs_nothing(tune: Tune) -> None:
    ended = tune("--algorithm", "knob,als", "--dry-run")
    assert ended.code == 0
    assert "study    knob · ratings" in ended.out and "study    als" in ended.out
    assert not tune.line.results.exists() and not tune.fits()


def test_two_harnesses_on_one_folder_share_the_work(tune: Tune) -> None:
    """Studies that the other is at are left for later, and their trials never run twice."""
    arguments = ("--algorithm", "knob,popularity", "--trials", "6", "--set", "knob.seconds=0.2")
    both = [tune.start(*arguments) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], [err for _, err in outputs]
    assert outputs[0][0] == outputs[1][0], "both tell of the same winners"
    for algorithm in ("knob", "popularity"):
        study = tune.study(algorithm)
        assert len(study.trials) == len(tune.finished(algorithm)) <= 6
    assert len(tune.finished("knob")) == 6
    assert not list(tune.line.results.glob(".locks/*"))
