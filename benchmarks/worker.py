"""The worker: one process that fits, answers and counts, and never hands a label to an adapter.

It reads requests as JSON lines on standard input and writes events as JSON lines to its standard output; what libraries
print goes to standard error, which the parent keeps as the cell's log. A cell takes two steps: with the first request
the worker knows the training files only; the second, which names question and labels, comes after ``fit`` returned.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from scipy import sparse

from algorithms.base import FactorRecommender, Recommender
from algorithms.config import resolve_config
from algorithms.types import FitContext, Task, TrainSet
from benchmarks import split_store
from benchmarks.clock import Clock, Stages, gpu_process_bytes, importing, peak_rss_bytes, reset_peak_rss
from benchmarks.environment import without_paths
from benchmarks.host import Load, watched
from benchmarks.plugins import load_plugin
from benchmarks.records import writing
from benchmarks.scorers import CalibratedScorer, SealedScorer
from benchmarks.seal import Seal
from benchmarks.search import Found, search
from benchmarks.throughput import measure_throughput
from datasets.errors import NotApplicableError, NotWritableError, UserError
from datasets.registry import make_loader
from datasets.store import load_cached
from datasets.types import Features, Interactions, Truth
from protocols.types import Arrays, EvaluationProtocol, Question

PROGRESS_EVERY_S = 0.1
RAW = "pair_scores"
"""The outcome that no figure needs: what the model answered, pair by pair."""


class WrongDevice(RuntimeError):
    """A model that was to run on one device and runs on another: its times would be of a row that does not exist."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What one cell gave: outcomes per user, figures made of them, what they cost, and the fitted model."""

    outcomes: Arrays
    metrics: dict[str, float]
    timings: dict[str, Any]
    memory: dict[str, int | None]
    model: Recommender


def measure(
    make: Callable[[], Recommender],
    train: TrainSet,
    run: FitContext,
    protocol: EvaluationProtocol,
    ask: Callable[[], tuple[Question, Arrays, sparse.csr_matrix]],
    seal: Seal,
    progress: Callable[[str, int, int], None] = lambda phase, step, total: None,
    repeats: int = 1,
    validation: split_store.Part | None = None,
    calibrate: bool = False,
    throughput: bool = False,
    stages: Stages | None = None,
) -> Measurement:
    """Fit, ask, count: the one way in which anything is measured here, canaries included.

    Args:
        make: a fresh, unfitted model each call.
        ask: called once, after the last fit returned; gives question, labels and the seen rows.
        repeats: timed fits, a fresh model each; the last one answers.
        validation: train and validation rows, for early stopping and calibration; None where neither is wanted.
        calibrate: whether the model's scores have to be turned into ratings.
        throughput: whether to measure how fast it answers, apart from the answers that the metrics need.
        stages: where the seconds went; what came before this call may be in it already.

    Raises:
        WrongDevice: the fitted model is not on ``run.device``.
    """
    stages = stages or Stages()
    imports: list[float] = []
    with stages("warm-up"), seal.adapter(), importing(imports):
        make().fit(tiny_train_set(train), replace(run, progress=lambda step, total: None, fixed_steps=1))
    stages.move(sum(imports), "warm-up", "import")
    clock = Clock()
    found = Found()
    if validation is not None:
        with stages("search"), clock("search"):
            searching = replace(run, progress=lambda step, total: progress("search", step, total))
            found = search(make, validation, searching, protocol, seal, calibrate)
    fitting: Load = {}
    answering: Load = {}
    with stages("fit"), watched(fitting):
        for _ in range(repeats):
            model = make()  # which lets go of the one before: its memory is not to count twice
            _timed_fit(model, train, replace(run, fixed_steps=found.steps), seal, clock)
    seal.check()
    if model.fitted_device != run.device:
        raise WrongDevice(f"asked for {run.device}, but the fitted model is on {model.fitted_device}")
    peak_fit = peak_rss_bytes()

    with stages("load"):
        question, labels, seen = ask()
    if not isinstance(model, FactorRecommender):
        question = question.for_users(question.sample_users)
    with stages("metrics"), watched(answering):
        outcomes = protocol.evaluate(_scorer(model, seal, found, question, progress), question, labels, seen, clock)
        metrics = protocol.metrics(outcomes)
    stages.move(clock.total("pairs") + clock.total("rank"), "metrics", "score")
    seal.check()
    with seal.adapter():
        memory = {"peak_rss_fit_bytes": peak_fit, **_memory(model, run.device)}
    timings = _timings(model, train, question, found, clock) | {"throughput": None}
    if throughput:
        ranks = len(question.rank_users) > 0
        # What was noted while the metrics were answered gives way: these answers are the ones with a clock on them.
        with stages("throughput"), watched(answering):
            timings["throughput"] = measure_throughput(model, seen, ranks, seal, clock, progress)
        seal.check()
    timings |= {"host": {"fit": fitting, "answers": answering}, "stages": stages.seconds}
    return Measurement(outcomes, metrics, timings, memory, model)


def _timed_fit(model: Recommender, train: TrainSet, run: FitContext, seal: Seal, clock: Clock) -> None:
    """A fit has ended when the model answers: one score inside the block, so that an engine that computes on first read
    has computed by then."""
    users, items = train.interactions.users[:1], train.interactions.items[:1]
    clock.synchronize = model.synchronize
    gc.collect()
    reset_peak_rss()
    model.reset_peak_gpu()
    with seal.adapter(), clock("fit"):
        model.fit(train, run)
        model.score_pairs(users, items)


def _timings(model: Recommender, train: TrainSet, question: Question, found: Found, clock: Clock) -> dict[str, Any]:
    """Seconds, and the counts that turn them into rates."""
    n_rows = len(train.interactions)
    return {
        "fit_s": clock.blocks["fit"],
        "search_s": clock.total("search"),
        "steps": found.steps,
        "epochs": found.steps or getattr(model.config, "epochs", 1),
        "train_rows": n_rows,
        "samples_per_epoch": model.samples_per_epoch(n_rows),
        "pairs_s": clock.total("pairs"),
        "pairs": len(question.pair_users),
        "rank_s": clock.total("rank"),
        "ranked_users": len(question.rank_users),
    }


def _memory(model: Recommender, device: str) -> dict[str, int | None]:
    on_gpu = device == "cuda"
    return {
        "peak_rss_score_bytes": peak_rss_bytes(),
        "peak_gpu_bytes": model.peak_gpu_bytes() if on_gpu else None,
        "gpu_process_bytes": gpu_process_bytes() if on_gpu else None,
        "model_bytes": model.size_bytes(),
    }


def _scorer(
    model: Recommender, seal: Seal, found: Found, question: Question, progress: Callable[[str, int, int], None]
) -> SealedScorer:
    ranked = 0

    def count(users: int) -> None:
        nonlocal ranked
        ranked += users
        progress("score", ranked, len(question.rank_users))

    if found.calibration is not None:
        return CalibratedScorer(model, seal, found.calibration)
    return SealedScorer(model, seal, count)


def tiny_train_set(like: TrainSet) -> TrainSet:
    """24 users × 40 items with the kinds of input that ``like`` has: enough to initialise a framework."""
    n_users, n_items = 24, 40
    users = np.repeat(np.arange(n_users, dtype=np.int32), 6)
    items = ((users * 7 + np.tile(np.arange(6, dtype=np.int32), n_users) * 5) % n_items).astype(np.int32)
    values = (1 + (users + items) % 5).astype(np.float32)
    times = None if like.interactions.times is None else np.arange(len(users), dtype=np.int64)
    rows = Interactions(users, items, values, times, n_users, n_items)

    def features(of: Features | None, size: int) -> Features | None:
        width = 3
        dense = np.eye(width, dtype=np.float32)[np.arange(size) % width]
        return None if of is None else Features(sparse.csr_matrix(dense), tuple(f"tiny={i}" for i in range(width)))

    return TrainSet(
        rows, like.task, features(like.item_features, n_items), features(like.user_features, n_users), like.rating_scale
    )


def main() -> None:
    """Serve the requests of standard input until it ends."""
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.register_at_fork(after_in_child=lambda: _cut_off(0, events.fileno()))

    def emit(event: str, **fields: Any) -> None:
        events.write(json.dumps({"event": event, **fields}) + "\n")

    requests = (json.loads(line) for line in sys.stdin)
    for request in requests:
        try:
            _HANDLERS[request["kind"]](request, requests, emit)
        except NotApplicableError as error:
            emit("ended", status="skipped", reason=str(error))
        except UserError as error:
            # What the user is to mend ends the run before any training; an adapter that raises one is a failed row.
            if request["kind"] in ("cell", "trial") and not isinstance(error, NotWritableError):
                emit("ended", status="failed", reason=str(error))
            else:
                emit("user_error", reason=str(error))
        except Exception as error:
            status = "out_of_memory" if _is_out_of_memory(error) else "failed"
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            emit("ended", status=status, reason=without_paths(reason), traceback=without_paths(traceback.format_exc()))


def _cut_off(*descriptors: int) -> None:
    """A process that adapter code forks must neither answer for the worker nor read its requests."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nothing, descriptor)
    os.close(nothing)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory, of the GPU too, was lacking: ``MemoryError``, PyTorch's and CuPy's ``OutOfMemoryError``,
    TensorFlow's ``ResourceExhaustedError``; by their names, since no framework is to be loaded for it."""
    names = {kind.__name__ for kind in type(error).__mro__}
    lacking = {"MemoryError", "OutOfMemoryError", "ResourceExhaustedError"}
    return bool(names & lacking) or "out of memory" in str(error).lower()


def _cell(request: dict[str, Any], requests: Iterator[dict[str, Any]], emit: Callable[..., None]) -> None:
    """Step one: fit with the training files. Step two, after ``fitted``: the parent names question and labels."""
    protocol = _protocol(request["protocol"])
    task = Task(protocol.task)
    fit_folder = Path(request["fit"])
    given: list[str | Path] = [
        fit_folder,
        fit_folder.parent / split_store.VALIDATION / "fit",
        sys.prefix,
        sys.base_prefix,
    ]
    seal = Seal(request["forbidden"], [*given, *request["allowed"]])
    seal.install()
    progress = _throttled(emit)
    stages = Stages(request["began"])
    truth = None if request["truth"] is None else split_store.load_truth(Path(request["truth"]))
    with stages("import"), seal.adapter():
        for plugin in request["plugins"]:
            load_plugin(Path(plugin))
        make = _maker(request, truth)
    run = FitContext(
        seed=request["seed"],
        threads=request["threads"],
        device=request["device"],
        deadline=time.monotonic() + request["seconds"],
        progress=lambda step, total: progress("fit", step, total),
    )

    def ask() -> tuple[Question, Arrays, sparse.csr_matrix]:
        emit("fitted")
        answer = next(requests)
        folder = Path(answer["split"])
        outputs.append(answer["side"])
        return split_store.load_question(folder), split_store.load_labels(folder), split_store.load_seen(fit_folder)

    outputs: list[str] = []
    calibrate = request["calibrate"]
    with stages("load"):
        train = split_store.load_train_set(fit_folder, task)
        searches = calibrate or make().patience
        validation = split_store.load_validation(fit_folder.parent, task) if searches else None
    measured = measure(
        make,
        train,
        run,
        protocol,
        ask,
        seal,
        progress,
        request["repeats"],
        validation,
        calibrate,
        request["throughput"],
        stages,
    )
    kept = {name: array for name, array in measured.outcomes.items() if name != RAW or not request["compact"]}
    with stages("write"), writing(Path(outputs[0]).parent), open(outputs[0], "wb") as file:
        save_side_file(file, kept)
    if request["model"] is not None:
        with stages("write"):
            _keep(measured.model, Path(request["model"]), seal)
    emit("ended", status="ok", metrics=measured.metrics, timings=measured.timings, memory=measured.memory)


def _keep(model: Recommender, folder: Path, seal: Seal) -> None:
    """Save the fitted model, where it can be saved: no folder appears for one that cannot."""
    with suppress(NotImplementedError), seal.adapter():
        model.save(folder)
    seal.check()


def _maker(request: dict[str, Any], truth: Truth | None = None) -> Callable[[], Recommender]:
    """Makes a fresh model; ``truth`` is for the oracle only."""
    algorithm = _load(request["algorithm"])
    if truth is not None:
        return lambda: algorithm(truth)
    config = resolve_config(algorithm.Config, request["config"])
    return lambda: algorithm(config)


_warmed_up: set[tuple[str, str]] = set()
"""Algorithm and task whose framework this process has initialised."""


def _trial(request: dict[str, Any], requests: Iterator[dict[str, Any]], emit: Callable[..., None]) -> None:
    """One trial of tuning; the process stays warm for the next. It is given the validation folder and no other.

    ``started`` says that imports and warm-up are done: from then on seconds count.
    """
    from benchmarks.trial import judge  # the other kinds of request do not need it

    protocol = _protocol(request["protocol"])
    task = Task(protocol.task)
    folder = Path(request["validation"])
    given = (sys.prefix, sys.base_prefix, *request["allowed"])
    harness = _installed_seal(tuple(request["forbidden"]), (str(folder), *given))
    adapter = _installed_seal(tuple(request["forbidden"]), (str(folder / "fit"), *given))
    progress = _throttled(emit)

    def stop(step: int, figure: float) -> bool:
        emit("validated", step=step, figure=figure)
        return bool(next(requests)["stop"])

    with harness.adapter():
        with adapter.adapter():
            for plugin in request["plugins"]:
                load_plugin(Path(plugin))
            make = _maker(request)
        part = split_store.load_validation(folder.parent, task)  # anew: an adapter may have written into its arrays
        run = FitContext(seed=request["seed"], threads=request["threads"], device=request["device"])
        if (request["algorithm"], task) not in _warmed_up:
            with adapter.adapter():
                make().fit(tiny_train_set(part.train), replace(run, fixed_steps=1))
            _warmed_up.add((request["algorithm"], task))
        emit("started")
        run = replace(
            run,
            deadline=time.monotonic() + request["seconds"],
            progress=lambda step, total: progress("fit", step, total),
        )
        judged = judge(
            make,
            part,
            run,
            protocol,
            adapter,
            request["calibrate"],
            stop if request["prune"] else None,
        )
    adapter.check()
    harness.check()
    emit("ended", status="ok", value=judged.value, steps=judged.steps, seconds=judged.seconds)


@cache
def _installed_seal(forbidden: tuple[str, ...], allowed: tuple[str, ...]) -> Seal:
    """One seal for all trials of a study: an audit hook cannot be taken away again."""
    seal = Seal(forbidden, allowed)
    seal.install()
    return seal


def _prepare(request: dict[str, Any], requests: Iterator[dict[str, Any]], emit: Callable[..., None]) -> None:
    """Load one data set and write one of its splits."""
    for plugin in request["plugins"]:
        load_plugin(Path(plugin))
    loader = make_loader(**request["dataset"])
    emit("progress", phase="load", step=0, total=2)
    dataset = load_cached(loader, [Path(path) for path in request["sources"]])
    emit("progress", phase="split", step=1, total=2)
    meta = split_store.prepare(Path(request["target"]), dataset, _protocol(request["protocol"]), request["split_seed"])
    emit("ended", status="ok", meta=meta)


def _canaries(request: dict[str, Any], requests: Iterator[dict[str, Any]], emit: Callable[..., None]) -> None:
    """Measure scorers whose figures are known; names those that came out wrong."""
    from benchmarks.canaries import wrong_figures

    emit("ended", status="ok", wrong=wrong_figures())


def _check(request: dict[str, Any], requests: Iterator[dict[str, Any]], emit: Callable[..., None]) -> None:
    """Put algorithms that share an environment through the contract suite; each is reported as soon as it is known."""
    from algorithms import registry
    from benchmarks import contract

    plugins = [Path(plugin) for plugin in request["plugins"]]
    for plugin in plugins:
        load_plugin(plugin)
    for name in request["names"]:
        emit("checked", name=name, failures=contract.check(registry.spec(name), plugins))
    emit("ended", status="ok")


def _look(request: dict[str, Any], requests: Iterator[dict[str, Any]], emit: Callable[..., None]) -> None:
    """Load kept models that share an environment, one after another, and ask each of them the question."""
    from benchmarks.looking import answer

    seal = Seal(request["forbidden"], [*request["folders"], sys.prefix, sys.base_prefix])
    seal.install()
    with seal.adapter():
        for plugin in request["plugins"]:
            load_plugin(Path(plugin))
        for target, folder in zip(request["algorithms"], request["folders"], strict=True):
            emit("looked", **answer(_load(target).load(Path(folder)), request["question"]))
    seal.check()
    emit("ended", status="ok")


_HANDLERS: dict[str, Callable[..., None]] = {
    "cell": _cell,
    "trial": _trial,
    "prepare": _prepare,
    "canaries": _canaries,
    "check": _check,
    "look": _look,
}


def save_side_file(file: IO[bytes], arrays: Arrays) -> None:
    """Write an ``.npz`` whose bytes depend on the arrays only (``np.savez`` stores the time of writing)."""
    import zipfile

    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(arrays[name]), allow_pickle=False)


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _protocol(request: dict[str, Any]) -> EvaluationProtocol:
    protocol = _load(request["target"])
    return protocol(protocol.Config(**request["config"]))


def _throttled(emit: Callable[..., None]) -> Callable[[str, int, int], None]:
    """Progress events, at most ten a second and the last of a phase always."""
    last = 0.0

    def progress(phase: str, step: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_EVERY_S or step >= total:
            last = now
            emit("progress", phase=phase, step=int(step), total=int(total))

    return progress


if __name__ == "__main__":
    main()
