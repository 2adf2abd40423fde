"""The clock: what it counts as a fit and as an answer, whatever an engine puts off; where a cell's seconds go."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.base import Recommender
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.clock import Clock, Stages, importing
from benchmarks.seal import Seal
from benchmarks.split_store import union
from benchmarks.worker import Measurement, WrongDevice, measure, tiny_train_set
from datasets.types import FloatArray, IntArray
from protocols.conformance import toy
from protocols.leave_one_out import LeaveOneOut

DELAY_S = 0.15
TINY_USERS = 24


class Prompt(Recommender):
    """Scores items by index; does at once what it is asked for. The warm-up fit's tiny size costs nothing."""

    def _fit(self, train: TrainSet, run: FitContext) -> None:
        if self.n_users != TINY_USERS:
            self._learn()

    def _learn(self) -> None:
        time.sleep(DELAY_S)

    def _score(self, users: IntArray) -> FloatArray:
        return np.tile(np.arange(self.n_items, dtype=np.float32), (len(users), 1))


class ReturnsEarly(Prompt):
    """As a GPU does: ``fit`` only enqueues the work, and the device goes on with it."""

    _device: threading.Thread | None = None

    def _learn(self) -> None:
        self._device = threading.Thread(target=time.sleep, args=[DELAY_S])
        self._device.start()

    def synchronize(self) -> None:
        if self._device is not None:
            self._device.join()


class ComputesOnFirstRead(Prompt):
    """As a lazy engine does: ``fit`` only writes down what is to be computed."""

    _todo = False

    def _learn(self) -> None:
        self._todo = True

    def _score(self, users: IntArray) -> FloatArray:
        if self._todo:
            time.sleep(DELAY_S)
            self._todo = False
        return super()._score(users)


class _Later:
    """Scores that are computed when somebody reads them."""

    def __init__(self, scores: FloatArray) -> None:
        self._scores = scores

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> FloatArray:
        time.sleep(DELAY_S)
        return self._scores


class AnswersLater(Prompt):
    """Its scores are promises."""

    def _learn(self) -> None:
        """Nothing to wait for."""

    def _score(self, users: IntArray) -> Any:
        scores = super()._score(users)
        return scores if self.n_users == TINY_USERS else _Later(scores)

    def _score_pairs(self, users: IntArray, items: IntArray) -> Any:
        return _Later(items.astype(np.float32))


class Elsewhere(Prompt):
    """Says that it runs on another device than asked for."""

    @property
    def fitted_device(self) -> str:
        return "cuda"


def measured(model: type[Recommender], **options: Any) -> Measurement:
    protocol = LeaveOneOut()
    split = protocol.split(toy(), 42)
    rows = union(split.train, split.valid)
    train = TrainSet(rows, Task.RANKING, rating_scale=split.rating_scale)
    ask = (protocol.question(split), protocol.labels(split), rows.matrix())
    return measure(model, train, FitContext(), protocol, lambda: ask, Seal(), **options)


@pytest.mark.parametrize("model", [Prompt, ReturnsEarly, ComputesOnFirstRead])
def test_a_fit_lasts_until_the_model_can_answer(model: type[Recommender]) -> None:
    timings = measured(model, repeats=2).timings
    assert len(timings["fit_s"]) == 2
    for seconds in timings["fit_s"]:
        assert DELAY_S <= seconds < 3 * DELAY_S
    assert timings["rank_s"] < DELAY_S and timings["pairs_s"] < DELAY_S


def test_an_answer_is_on_the_host_when_the_clock_stops() -> None:
    timings = measured(AnswersLater).timings
    assert timings["pairs_s"] >= DELAY_S and timings["rank_s"] >= DELAY_S
    assert timings["fit_s"][0] < 3 * DELAY_S  # one score belongs to a fit


def test_a_model_on_another_device_is_not_measured() -> None:
    with pytest.raises(WrongDevice, match="asked for cpu, but the fitted model is on cuda"):
        measured(Elsewhere)


def test_no_earlier_model_is_left_while_one_is_fitted() -> None:
    """Its memory would count for the next one."""
    models: weakref.WeakSet[Recommender] = weakref.WeakSet()
    alive: list[int] = []

    class Counted(Recommender):
        def _fit(self, train: TrainSet, run: FitContext) -> None:
            models.add(self)
            alive.append(len(models))

        def _score(self, users: IntArray) -> FloatArray:
            return np.zeros((len(users), self.n_items))

    measured(Counted, repeats=3)
    assert alive == [1, 1, 1, 1]  # with the warm-up


def test_stages_count_every_second_once() -> None:
    stages = Stages(began=time.monotonic() - 1)
    start = time.perf_counter()
    measurement = measured(Prompt, stages=stages, throughput=True)
    wall = time.perf_counter() - start
    seconds = measurement.timings["stages"]
    assert seconds == stages.seconds
    assert 1 <= seconds.pop("start") < 1.1
    assert min(seconds.values()) >= 0 and seconds["fit"] >= DELAY_S
    assert wall - 0.1 < sum(seconds.values()) <= wall
    assert {"warm-up", "import", "fit", "score", "metrics", "throughput"} <= seconds.keys()


def test_imports_are_told_from_what_they_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recgauge_inner.py").write_text("import time\ntime.sleep(.05)\n")
    (tmp_path / "recgauge_outer.py").write_text("import time\nimport recgauge_inner\ntime.sleep(.05)\n")
    monkeypatch.syspath_prepend(tmp_path)
    seconds: list[float] = []
    with importing(seconds):
        import recgauge_outer  # noqa: F401

        time.sleep(0.2)
    del sys.modules["recgauge_outer"], sys.modules["recgauge_inner"]
    assert len(seconds) == 1 and 0.1 <= seconds[0] < 0.2, "an import within an import counts once"
    import json as after  # the statement is as it was

    assert after.dumps([]) == "[]" and len(seconds) == 1


def test_the_device_is_waited_for_on_both_sides() -> None:
    waits: list[str] = []
    clock = Clock(lambda: waits.append("wait"))
    with clock("fit"):
        waits.append("work")
    assert waits == ["wait", "work", "wait"]


def test_the_tiny_set_is_what_these_models_take_for_the_warm_up() -> None:
    split = LeaveOneOut().split(toy(), 42)
    assert tiny_train_set(TrainSet(split.train, Task.RANKING)).interactions.n_users == TINY_USERS
