"""Fixtures of the performance tests, and what ``python -m benchmarks regress`` asks of pytest.

A test marked ``regress("fit/als", factor=1.2)`` is a benchmark: the fixture ``against`` measures ours and a control in
turn, with pytest-benchmark. ``regress`` chooses benchmarks by ``--path`` and reads what came out from ``--report``.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ratio import Ratio, interleaved_ratio

DEFAULT_FACTOR = 1.15
"""How much slower a benchmark may be than its baseline; one that is noisier names its own factor."""

ROUND_S = 0.03
"""Seconds of one side of a pair, at least: short work is repeated within a round."""
FEWEST_ROUNDS, MOST_ROUNDS = 8, 30

PACKAGES = ("algorithms", "benchmarks", "datasets", "protocols")

PLANTED = "RECGAUGE_PLANTED"
"""Environment variable: plants a slowdown, see ``planted.py``."""

RATIOS = pytest.StashKey[list[float]]()

Work = Callable[[], object]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("regress", "benchmarks of RecGauge itself, see 'python -m benchmarks regress --help'")
    group.addoption("--path", action="append", metavar="PATH", help="of a benchmark to measure (default: all)")
    group.addoption("--report", type=Path, metavar="FILE", help="to add what was measured to, as JSON lines")
    group.addoption("--seconds", type=float, default=1.5, metavar="S", help="of one benchmark, about (default: 1.5)")
    group.addoption("--of-checkout", type=Path, metavar="FOLDER", help="the checkout that is measured")
    group.addoption("--add-plugin", action="append", type=Path, default=[], metavar="FILE.py", help="with algorithms")


def pytest_configure(config: pytest.Config) -> None:
    from benchmarks.plugins import load_plugin

    if config.getoption("--of-checkout", None) is not None:
        # An editable install would lend another checkout the modules that it lacks.
        sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
    if PLANTED in os.environ:
        config.pluginmanager.import_plugin("performance.planted")
    for path in config.getoption("--add-plugin", []):
        load_plugin(path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the benchmarks that are not asked for, and with ``--collect-only`` report the others."""
    wanted = config.getoption("--path", None)
    if wanted is not None:
        chosen = [item for item in items if path_of(item) in wanted]
        config.hook.pytest_deselected(items=[item for item in items if path_of(item) not in wanted])
        items[:] = chosen
    if config.getoption("collectonly"):
        for item in items:
            if (marker := item.get_closest_marker("regress")) is not None:
                factor = marker.kwargs.get("factor", DEFAULT_FACTOR)
                _report(config, path=path_of(item), factor=factor, algorithm=marker.kwargs.get("algorithm"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Report each benchmark as soon as it is measured, has failed or was skipped."""
    report: Any = yield
    path = path_of(item)
    if path is not None and report.failed:
        error = call.excinfo.exconly().strip().splitlines()[0] if call.excinfo else "it failed"
        _report(item.config, path=path, failed=error)
    elif path is not None and report.skipped:
        _report(item.config, path=path, skipped=report.longrepr[2].removeprefix("Skipped: "))
    elif path is not None and report.when == "call":
        if stray := _from_elsewhere(item.config):
            _report(item.config, path=path, failed=f"{stray} is not of the checkout that is measured")
        elif RATIOS in item.stash:
            _report(item.config, path=path, ratios=item.stash[RATIOS])
        else:
            _report(item.config, path=path, failed="it measured nothing")
    return report


def path_of(item: pytest.Item) -> str | None:
    """The benchmark that a test is, None for other tests."""
    marker = item.get_closest_marker("regress")
    return None if marker is None else str(marker.args[0])


def _from_elsewhere(config: pytest.Config) -> str | None:
    """A loaded module of ours that lies outside the checkout that is measured."""
    root = config.getoption("--of-checkout", None)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if root and file and name.partition(".")[0] in PACKAGES and not Path(file).is_relative_to(root):
            return str(file)
    return None


def _report(config: pytest.Config, **fields: Any) -> None:
    file = config.getoption("--report", None)
    if file is not None:
        with file.open("a") as lines:
            lines.write(json.dumps(fields) + "\n")


@pytest.fixture
def against(benchmark: Any, request: pytest.FixtureRequest) -> Callable[[Work, Work], None]:
    """``against(ours, control)``: both in turn, in rounds of pytest-benchmark; keeps ours / control of each round.

    Each has run before, untimed. The clock is the one that the test's ``benchmark`` marker names.
    """
    clock = request.node.get_closest_marker("benchmark").kwargs["timer"]

    def measure(ours: Work, control: Work) -> None:
        ours(), control()
        gc.collect()
        gc.freeze()  # what is there now need not be looked through again before each round
        request.addfinalizer(gc.unfreeze)
        calls, seconds = _calls(ours, clock)
        control_calls, control_seconds = _calls(control, clock)
        budget = request.config.getoption("--seconds", 1.5)
        rounds = min(max(int(budget / (seconds + control_seconds)), FEWEST_ROUNDS), MOST_ROUNDS)
        controls: list[float] = []
        benchmark.pedantic(
            lambda: _repeat(ours, calls),
            setup=lambda: controls.append(_seconds(control, control_calls, clock) / control_calls),
            rounds=rounds,
        )
        ratios = [
            ours_s / calls / control_s for ours_s, control_s in zip(benchmark.stats.stats.data, controls, strict=True)
        ]
        benchmark.extra_info.update(calls=calls, control_calls=control_calls, ratios=ratios)
        request.node.stash[RATIOS] = ratios

    return measure


def _calls(work: Work, clock: Callable[[], float]) -> tuple[int, float]:
    """How many calls fill a round, and the seconds of such a round."""
    seconds = max(min(_seconds(work, 1, clock) for _ in range(2)), 1e-6)
    calls = math.ceil(ROUND_S / seconds)
    return calls, calls * seconds


def _seconds(work: Work, calls: int, clock: Callable[[], float]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = clock()
        _repeat(work, calls)
        return clock() - start
    finally:
        gc.enable()


def _repeat(work: Work, calls: int) -> None:
    for _ in range(calls):
        work()


@pytest.fixture(scope="session")
def ml20m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with an ML-20M-shaped ``ml-20m``."""
    from performance.make_ml20m import write

    root = tmp_path_factory.mktemp("data")
    write(root / "ml-20m")
    return root


@pytest.fixture
def ratio_to_control() -> Callable[..., Ratio]:
    """``ratio_to_control(ours, control, pairs=15)``: both in turn; prints and returns median ratio and bound."""

    def measure(ours: Callable[[], object], control: Callable[[], object], pairs: int = 15) -> Ratio:
        ratio = interleaved_ratio(ours, control, pairs)
        print(f"ours / control: {ratio}")
        return ratio

    return measure
