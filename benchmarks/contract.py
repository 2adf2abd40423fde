"""The contract of an adapter as plain checks: ``check NAME`` runs them, and so do the tests, over the whole registry.

The data is made here: groups of users who rate the items of their own group high and a few others low, one user and one
item without any row, and item metadata that follows the groups. Whatever learns, learns that.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from algorithms.base import DampedBias, Recommender
from algorithms.config import describe, resolve_config
from algorithms.registry import NATIVE, AlgorithmSpec, load_class
from algorithms.registry import spec as find_spec
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.plugins import load_plugin
from datasets.top_k import PADDING
from datasets.types import Features, FloatArray, Interactions

N_USERS, N_ITEMS, N_GROUPS = 161, 161, 4
COLD_USER, COLD_ITEM = N_USERS - 1, N_ITEMS - 1
SEED = 3
COLUMNS = ("users", "items", "values", "times")
CSR_PARTS = ("data", "indices", "indptr")
FRAMEWORKS = ("implicit", "lightfm", "torch", "tensorflow", "keras")


class ContractViolation(Exception):
    """An adapter that does not keep the contract; the message says which part."""


def check(spec: AlgorithmSpec, plugins: Sequence[Path] = ()) -> list[str]:
    """Run every check on one registered algorithm; returns one line for each that it fails.

    ``plugins`` are the files that registered it, for the check that needs another process.
    """
    rules: dict[str, Callable[[AlgorithmSpec], None]] = {rule.__name__: rule for rule in CHECKS}
    rules["check_another_process"] = partial(check_another_process, plugins=plugins)
    failures = []
    for name, rule in rules.items():
        try:
            rule(spec)
        except Exception as problem:  # whatever an adapter raises is its failure, and the next check still runs
            kind = "" if isinstance(problem, ContractViolation) else f"{type(problem).__name__}: "
            failures.append(f"{name.removeprefix('check_').replace('_', ' ')}: {kind}{problem}")
    return failures


# -- the checks -------------------------------------------------------------------------------------------------------


def check_options_are_documented(spec: AlgorithmSpec) -> None:
    """Every option has type and meaning, every space belongs to an option and holds its default; presets resolve."""
    adapter = load_class(spec)
    defaults: dict[str, Any] = {option.name: option.default for option in describe(adapter.Config)}
    for name, space in adapter.SPACE.items():
        _require(name in defaults, f"SPACE names '{name}', which is no option")
        _require(defaults[name] in space, f"the default of '{name}', {defaults[name]}, lies outside its space")
    for preset, options in spec.presets.items():
        resolved = resolve_config(adapter.Config, options, spec.name)
        _require(isinstance(resolved, adapter.Config), f"preset '{preset}' does not resolve")
    _require("default" in spec.presets, "there is no preset 'default'")


def check_learns(spec: AlgorithmSpec) -> None:
    """Unseen items of a user's own group stand above those of the other group, in at least 90 % of pairs."""
    if spec.control:
        return
    toy = toy_train_set(Task.RANKING)
    scores = fitted(spec.name).score(np.arange(N_USERS))
    unseen = toy.interactions.matrix().toarray() == 0
    right = []
    unseen[:, COLD_ITEM] = False
    for user in range(COLD_USER):
        own = scores[user, unseen[user] & (item_group() == user % N_GROUPS)]
        other = scores[user, unseen[user] & (item_group() != user % N_GROUPS)]
        right.append((own[:, None] > other[None, :]).mean())
    share = float(np.mean(right))
    _require(share >= 0.9, f"only {share:.0%} of a user's own kind of items stand above the others: it learns nothing")


def check_score_agrees_with_score_pairs(spec: AlgorithmSpec) -> None:
    for task in _tasks(spec):
        model = fitted(spec.name, task)
        users, items = (grid.ravel() for grid in np.meshgrid(np.arange(N_USERS), np.arange(N_ITEMS), indexing="ij"))
        shuffled = np.random.default_rng(0).permutation(len(users))
        pairs = model.score_pairs(users[shuffled], items[shuffled])
        full = model.score(np.arange(N_USERS)).ravel()[shuffled]
        _require(np.allclose(pairs, full, rtol=1e-5, atol=1e-5), f"{task}: score and score_pairs differ")


def check_batches_agree(spec: AlgorithmSpec) -> None:
    model = fitted(spec.name)
    whole = model.score(np.arange(N_USERS))
    singly = np.vstack([model.score(np.array([user])) for user in range(N_USERS)])
    _require(np.allclose(whole, singly, rtol=1e-5, atol=1e-5), "scores depend on the batch")


def check_scores_are_finite(spec: AlgorithmSpec) -> None:
    """Also for a user and an item without a training row; ``score`` itself raises on NaN and infinity."""
    for task in _tasks(spec):
        model = fitted(spec.name, task)
        model.score(np.array([COLD_USER]))
        model.score_pairs(np.array([COLD_USER, 0]), np.array([0, COLD_ITEM]))


def check_ratings_of_zero(spec: AlgorithmSpec) -> None:
    """An item and a user with nothing but ratings of 0, the lowest of some scales, are no reason for NaN."""
    toy = toy_train_set(Task.RANKING)
    rows = toy.interactions
    values = np.where((rows.items == 5) | (rows.users == 7), 0, rows.values).astype(np.float32)
    model = _fit(spec, replace(toy, interactions=replace(rows, values=values)), FitContext(seed=SEED))
    model.score(np.arange(N_USERS))


def check_same_seed_same_scores(spec: AlgorithmSpec) -> None:
    again = _fit(spec, toy_train_set(Task.RANKING), FitContext(seed=SEED))
    users = np.arange(N_USERS)
    _require(np.array_equal(again.score(users), fitted(spec.name).score(users)), "a second fit gave other scores")


def check_synchronizes_at_any_time(spec: AlgorithmSpec) -> None:
    """The clock calls it before a fit too, when there is nothing to wait for."""
    load_class(spec)(_config(spec)).synchronize()
    fitted(spec.name).synchronize()


def check_tells_its_device(spec: AlgorithmSpec) -> None:
    """Fitted on the CPU it says so, and has taken nothing on a GPU; both can be asked before a fit too."""
    adapter = load_class(spec)
    adapter.reset_peak_gpu()
    device, taken = fitted(spec.name).fitted_device, adapter.peak_gpu_bytes()
    _require(device == "cpu", f"fitted on the CPU, it says that it was fitted on '{device}'")
    _require(not taken, f"fitted on the CPU, it says that it took {taken} bytes on a GPU")


def check_recommends_in_order(spec: AlgorithmSpec) -> None:
    """Never an excluded item, never one twice, best first, padding only at the end."""
    model, seen, k = fitted(spec.name), toy_train_set(Task.RANKING).interactions.matrix(), 140
    users = np.arange(N_USERS)
    lists, scores = model.recommend(users, k, exclude=seen), model.score(users)
    _require(lists.shape == (N_USERS, k) and lists.dtype == np.int32, f"recommend gave {lists.dtype} {lists.shape}")
    for user in users:
        items = lists[user][lists[user] != PADDING]
        free = N_ITEMS - seen[user].nnz
        _require(len(items) == min(k, free), f"user {user} has {free} free items and was given {len(items)} of {k}")
        _require(len(set(items)) == len(items), f"user {user} was given an item twice")
        _require(not set(items) & set(seen[user].indices), f"user {user} was given an excluded item")
        _require(bool((lists[user, len(items) :] == PADDING).all()), f"user {user} has padding before items")
        # Each row was scored in another batch than here: the last bits may differ.
        falls = np.diff(scores[user, items].astype(np.float64))
        _require(bool((falls <= 1e-5 * np.abs(scores[user]).max()).all()), f"user {user}: the list is not in order")


def check_similar_items(spec: AlgorithmSpec) -> None:
    """What is listed as similar is another item, the most similar first, and mostly of the item's own group."""
    model, k = fitted(spec.name), 10
    if not model.similar_by:
        return
    items = np.arange(0, COLD_ITEM, 10)
    own = []
    for item in items:
        similarities, listed = model.similarities(int(item)), model.similar(int(item), k)
        found = listed[listed != PADDING]
        _require(similarities.shape == (N_ITEMS,), f"similarities gave the shape {similarities.shape}")
        _require(item not in found and len(set(found)) == len(found), f"item {item}: itself or an item twice is listed")
        _require(bool((np.diff(similarities[found]) <= 0).all()), f"item {item}: the list is not in order")
        own += list(item_group()[found] == item_group()[item])
    share = float(np.mean(own))
    _require(share >= 0.5, f"only {share:.0%} of similar items are of the same group: that is chance or little more")


def check_save_and_load(spec: AlgorithmSpec) -> None:
    for task in _tasks(spec):
        model = fitted(spec.name, task)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder))
            loaded = type(model).load(Path(folder))
        users = np.arange(N_USERS)
        _require(np.array_equal(loaded.score(users), model.score(users)), f"{task}: the loaded model scores otherwise")
        _require(loaded.config == model.config, f"{task}: the loaded model has another config")
        if model.similar_by:
            same = np.array_equal(loaded.similarities(0), model.similarities(0))
            _require(same, f"{task}: the loaded model finds other similarities")


def check_leaves_training_arrays_alone(spec: AlgorithmSpec) -> None:
    """Training arrays come as copy-on-write maps of files; a write would not fail, so it is looked for."""
    original = toy_train_set(Task.RANKING)
    with tempfile.TemporaryDirectory() as folder:
        mapped = _mapped(original, Path(folder))
        model = _fit(spec, mapped, FitContext(seed=SEED))
        for name, array, before in _named_arrays(mapped, original):
            _require(np.array_equal(array, before), f"fit changed {name}")
        users = np.arange(N_USERS)
        _require(np.array_equal(model.score(users), fitted(spec.name).score(users)), "memory maps gave other scores")


def check_progress(spec: AlgorithmSpec) -> None:
    """Steps rise to the total, if there are steps."""
    calls: list[tuple[int, int]] = []
    _fit(spec, toy_train_set(Task.RANKING), FitContext(seed=SEED, progress=lambda *call: calls.append(call)))
    steps = [step for step, _ in calls]
    _require(steps == sorted(steps), f"progress went backwards: {steps}")
    _require(not calls or calls[-1][0] == calls[-1][1], f"progress ended at {calls[-1:]}")


def check_early_stopping(spec: AlgorithmSpec) -> None:
    """A model that validates scores while it is fitted, stops when told, and a refit with as many steps is the same."""
    train, users = toy_train_set(Task.RANKING), np.arange(N_USERS)
    asked: list[int] = []

    def stop_at_two(step: int) -> bool:
        asked.append(step)
        model.score(users)
        return step == 2

    model = load_class(spec)(_config(spec))
    model.fit(train, FitContext(seed=SEED, validate=stop_at_two))
    if not asked:
        return
    _require(asked == [1, 2], f"told to stop at step 2, it went on: {asked}")
    refit = _fit(spec, train, FitContext(seed=SEED, fixed_steps=2))
    _require(np.array_equal(refit.score(users), model.score(users)), "a refit with fixed_steps=2 scores otherwise")


def check_rating(spec: AlgorithmSpec) -> None:
    """A rating model beats the mean on rows it was not shown, and rates cold pairs by damped means or its own rule."""
    if spec.support.get(Task.RATING) != NATIVE:
        return
    train, test = _rating_split()
    model = _fit(spec, train, FitContext(seed=SEED))
    if not spec.control:
        errors = model.score_pairs(test.users, test.items) - test.values
        baseline = train.interactions.values.mean() - test.values
        _require(_rms(errors) < 0.9 * _rms(baseline), f"RMSE {_rms(errors):.3f}, of the mean {_rms(baseline):.3f}")
    if not model.scores_cold:
        users, items = np.array([COLD_USER, 0, COLD_USER]), np.array([0, COLD_ITEM, COLD_ITEM])
        expected = DampedBias.fit(train.interactions).predict(users, items)
        _require(np.allclose(model.score_pairs(users, items), expected), "cold pairs are not rated by damped means")


def check_another_process(spec: AlgorithmSpec, plugins: Sequence[Path] = ()) -> None:
    """Apart from ``CHECKS``: the tests start one process for the whole registry."""
    here, elsewhere = score_digests([spec.name]), score_digests_of_new_process([spec.name], plugins)
    _require(here == elsewhere, "in another process the same seed gave other scores")


CHECKS: tuple[Callable[[AlgorithmSpec], None], ...] = (
    check_options_are_documented,
    check_learns,
    check_score_agrees_with_score_pairs,
    check_batches_agree,
    check_scores_are_finite,
    check_ratings_of_zero,
    check_same_seed_same_scores,
    check_synchronizes_at_any_time,
    check_tells_its_device,
    check_recommends_in_order,
    check_similar_items,
    check_save_and_load,
    check_leaves_training_arrays_alone,
    check_progress,
    check_early_stopping,
    check_rating,
)


# -- another process --------------------------------------------------------------------------------------------------


def score_digests(names: Iterable[str]) -> dict[str, str]:
    """For each algorithm, sha256 of all its scores on the toy set."""
    scores = {name: np.ascontiguousarray(fitted(name).score(np.arange(N_USERS))) for name in names}
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in scores.items()}


def score_digests_of_new_process(names: Iterable[str], plugins: Sequence[Path] = ()) -> dict[str, str]:
    """``score_digests`` from one fresh interpreter for all ``names``."""
    request = json.dumps({"names": list(names), "plugins": [str(path) for path in plugins]})
    return dict(_in_new_process("_print_digests", request))


def frameworks_loaded_by_import(names: Iterable[str], plugins: Sequence[Path] = ()) -> list[str]:
    """Which frameworks a fresh interpreter holds after importing the adapters of ``names``: there should be none."""
    request = json.dumps({"names": list(names), "plugins": [str(path) for path in plugins]})
    return list(_in_new_process("_print_frameworks", request))


def _in_new_process(function: str, request: str) -> Any:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "
    code += f"from benchmarks import contract; contract.{function}({request!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the new process ended with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _print_digests(request: str) -> None:
    print(json.dumps(score_digests(_requested(request))))


def _print_frameworks(request: str) -> None:
    for name in _requested(request):
        load_class(find_spec(name))
    print(json.dumps([framework for framework in FRAMEWORKS if framework in sys.modules]))


def _requested(request: str) -> list[str]:
    fields = json.loads(request)
    for path in fields["plugins"]:
        load_plugin(Path(path))
    return list(fields["names"])


# -- the toy data -----------------------------------------------------------------------------------------------------


def item_group() -> Any:
    """(n_items,) group of each item; user u is of group u % N_GROUPS."""
    return np.arange(N_ITEMS) % N_GROUPS


@cache
def toy_train_set(task: Task) -> TrainSet:
    """Each user rates 24 items of the own group 4 or 5 and 10 others 1 or 2. Shared by all checks, never written to."""
    rng = np.random.default_rng(0)
    users: list[int] = []
    items: list[int] = []
    values: list[int] = []
    for user in range(COLD_USER):
        own = item_group()[:COLD_ITEM] == user % N_GROUPS
        for pool, count, low in ((np.flatnonzero(own), 24, 4), (np.flatnonzero(~own), 10, 1)):
            users += [user] * count
            items += list(rng.choice(pool, count, replace=False))
            values += list(rng.integers(low, low + 2, count))
    rows = Interactions(
        users=np.array(users, dtype=np.int32),
        items=np.array(items, dtype=np.int32),
        values=np.array(values, dtype=np.float32),
        times=np.arange(len(users), dtype=np.int64),
        n_users=N_USERS,
        n_items=N_ITEMS,
    )
    kinds = sparse.csr_matrix(np.eye(N_GROUPS, dtype=np.float32)[item_group()])
    names = tuple(f"kind={group}" for group in range(N_GROUPS))
    return TrainSet(rows, task, Features(kinds, names), rating_scale=(1.0, 5.0))


def _rating_split() -> tuple[TrainSet, Interactions]:
    toy = toy_train_set(Task.RATING)
    test = np.random.default_rng(1).random(len(toy.interactions)) < 0.2
    return replace(toy, interactions=toy.interactions.select(~test)), toy.interactions.select(test)


def _mapped(train: TrainSet, folder: Path) -> TrainSet:
    """The same training set with every array a copy-on-write map, as a worker gets it."""

    def through_file(name: str, array: Any) -> Any:
        np.save(folder / f"{name}.npy", array)
        return np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)

    rows, features = train.interactions, _item_features(train)
    columns = {name: through_file(name, getattr(rows, name)) for name in COLUMNS}
    parts = [through_file(name, getattr(features.matrix, name)) for name in CSR_PARTS]
    matrix = sparse.csr_matrix(tuple(parts), shape=features.matrix.shape, copy=False)
    return replace(train, interactions=replace(rows, **columns), item_features=Features(matrix, features.names))


def _named_arrays(train: TrainSet, like: TrainSet) -> list[tuple[str, Any, Any]]:
    """(name, array, same array of ``like``) of everything that an adapter could write into."""
    rows, before = train.interactions, like.interactions
    unused = replace(before)  # its matrix is computed afresh: the cached one may have been written into
    owners = [
        (COLUMNS, "", rows, before),
        (CSR_PARTS, "interactions.matrix().", rows.matrix(), unused.matrix()),
        (CSR_PARTS, "item_features.matrix.", _item_features(train).matrix, _item_features(like).matrix),
    ]
    return [
        (prefix + name, getattr(owner, name), getattr(other, name))
        for names, prefix, owner, other in owners
        for name in names
    ]


def _item_features(train: TrainSet) -> Features:
    if train.item_features is None:
        raise ValueError("the toy set has item features")
    return train.item_features


# -- fitting ----------------------------------------------------------------------------------------------------------


@cache
def fitted(name: str, task: Task = Task.RANKING) -> Recommender:
    """The registered algorithm's default preset fitted on the toy set, once a process."""
    return _fit(find_spec(name), toy_train_set(task), FitContext(seed=SEED))


def _fit(spec: AlgorithmSpec, train: TrainSet, run: FitContext) -> Recommender:
    return load_class(spec)(_config(spec)).fit(train, run)


def _config(spec: AlgorithmSpec) -> Any:
    return resolve_config(load_class(spec).Config, spec.presets["default"], spec.name)


def _tasks(spec: AlgorithmSpec) -> list[Task]:
    return [task for task in Task if task in spec.support]


def _rms(errors: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractViolation(message)
