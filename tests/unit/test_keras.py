"""Keras MF and Keras deep MF on both backends: each backend's checks run in one process of their own."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from algorithms import _keras_common as common
from algorithms.config import resolve_config
from algorithms.keras_deep_mf import KerasDeepMF
from algorithms.keras_mf import KerasMF
from algorithms.registry import ALGORITHMS
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import NotApplicableError, UserError
from datasets.types import Features, Interactions

ROOT = Path(__file__).parents[2]
BACKENDS = ("tensorflow", "torch")
N_USERS, N_ITEMS = 30, 40
GRID = tuple(grid.ravel() for grid in np.meshgrid(np.arange(N_USERS), np.arange(N_ITEMS), indexing="ij"))


def _train_set(task: Task) -> TrainSet:
    """A third of all pairs, but everything for user 0 and nothing for the last user; metadata of users and of items."""
    rng = np.random.default_rng(0)
    chosen = rng.random((N_USERS, N_ITEMS)) < 1 / 3
    chosen[0], chosen[-1] = True, False
    users, items = np.nonzero(chosen)
    values = rng.integers(1, 6, len(users)).astype(np.float32)
    rows = Interactions(np.int32(users), np.int32(items), values, None, N_USERS, N_ITEMS)
    return TrainSet(rows, task, _metadata(N_ITEMS, 3, rng), _metadata(N_USERS, 2, rng), (1.0, 5.0))


def _metadata(size: int, columns: int, rng: np.random.Generator) -> Features:
    matrix = sparse.csr_matrix(rng.random((size, columns)).astype(np.float32))
    return Features(matrix, tuple(f"column {j}" for j in range(columns)))


def _small(name: str, preset: str, backend: str, **options: object) -> Any:
    """The preset of a registered algorithm, with less to compute."""
    adapter = KerasMF if name == "keras-mf" else KerasDeepMF
    small = {"factors": 4, "batch_size": 10_000, "epochs": 3, "backend": backend}
    return adapter(resolve_config(adapter.Config, {**ALGORITHMS[name].presets[preset], **small, **options}, name))


# -- checks in the process of a backend -------------------------------------------------------------------------------


def scores_are_those_of_keras(backend: str) -> None:
    """The arrays taken out of a trained model score as the model does, dropout off."""
    from algorithms import _keras_framework as framework

    for task in Task:
        train = _train_set(task)
        deep = _small("keras-deep-mf", "default", backend, dropout=0.3, initial_std=0.3, batch_size=256)
        flat = _small("keras-mf", "default", backend, initial_std=0.3)
        for adapter in (deep, flat):
            adapter.n_users, adapter.n_items, adapter.task = N_USERS, N_ITEMS, task
            with framework.session(backend, FitContext(seed=1)):
                offset = common.offset(train, adapter.config)
                extra = [adapter._metadata(train)] if adapter is deep else []
                build = framework.deep_model if adapter is deep else framework.mf_model
                model = build(train, adapter.config, *extra, offset)
                assert list(framework.train_epochs(model, train, adapter.config, 1, 3)) == [1, 2, 3]
                adapter._publish(framework, model, *([train, *extra] if adapter is deep else []), offset)
                inputs = {name: np.int32(GRID[name.startswith("item")]) for name in model.input}
                expected = np.asarray(model.predict(inputs, batch_size=4_096, verbose=0))[:, 0]
            rows = train.interactions
            known = np.isin(GRID[0], rows.users) & np.isin(GRID[1], rows.items)  # what was never trained is taken as 0
            pairs, full = adapter._score_pairs(*GRID), adapter._score(np.arange(N_USERS)).ravel()
            np.testing.assert_allclose(pairs[known], expected[known], atol=1e-5)
            np.testing.assert_allclose(full, pairs, atol=1e-5)
            assert expected.std() > 0.1


def keras_mf_descends_the_documented_loss(backend: str) -> None:
    """Three full batches of plain gradient descent, by hand, on mean((ŷ − r)²) plus the penalty of rows or tables."""
    import keras

    from algorithms import _keras_framework as framework

    train, step = _train_set(Task.RATING), 0.5
    for reg_over in ("rows", "tables"):
        config = _small("keras-mf", "report", backend, reg=0.05, reg_over=reg_over).config
        with framework.session(backend, FitContext(seed=2)):
            model = framework.mf_model(train, config, 3.0)
            model.compile(keras.optimizers.SGD(step), model.loss, jit_compile=False)
            names = ("user_factors", "item_factors", "user_bias", "item_bias")
            tables = [framework.weights(model, name)[0].astype(np.float64) for name in names]
            list(framework.train_epochs(model, train, config, 2, 3))
            found = [framework.weights(model, name)[0] for name in names]
        for _ in range(3):
            gradients = _gradients(*tables, train.interactions, 3.0, config)
            tables = [table - step * gradient for table, gradient in zip(tables, gradients, strict=True)]
        for array, expected in zip(found, tables, strict=True):
            np.testing.assert_allclose(array, expected, atol=1e-5)


def _gradients(p: Any, q: Any, b: Any, c: Any, rows: Interactions, offset: float, config: Any) -> list[Any]:
    u, i, n = rows.users, rows.items, len(rows)
    error = 2 * ((p[u] * q[i]).sum(axis=1) + b[u, 0] + c[i, 0] + offset - rows.values)[:, None] / n
    gradients = [np.zeros_like(table) for table in (p, q, b, c)]
    per_row = 2 * config.reg / n if config.reg_over == "rows" else 0.0
    updates = (error * q[i] + per_row * p[u], error * p[u] + per_row * q[i], error, error)
    for gradient, index, update in zip(gradients, (u, i, u, i), updates, strict=True):
        np.add.at(gradient, index, update)
    if config.reg_over == "tables":
        gradients[0] += 2 * config.reg * p
        gradients[1] += 2 * config.reg * q
    return gradients


def metadata_counts_unless_it_is_not_connected(backend: str) -> None:
    """Permuting the rows of either side's metadata changes ``default`` and changes nothing in ``report-metadata``."""
    train = _train_set(Task.RATING)
    order = np.random.default_rng(5).permutation
    permuted = {
        "item_features": Features(train.item_features.matrix[order(N_ITEMS)], train.item_features.names),
        "user_features": Features(train.user_features.matrix[order(N_USERS)], train.user_features.names),
    }
    for preset, counts in (("default", True), ("report-metadata", False)):
        scores = _fitted(_small("keras-deep-mf", preset, backend, units=8), train)
        for name, features in permuted.items():
            other = TrainSet(**{**vars(train), name: features})
            differ = not np.array_equal(_fitted(_small("keras-deep-mf", preset, backend, units=8), other), scores)
            assert differ == counts, (preset, name)


def validation_leaves_training_alone(backend: str) -> None:
    """After 2 of 5 epochs, scored and drawn from in between, the model is the one that a fit of 2 epochs gives."""
    for task in Task:
        train = _train_set(task)
        for name, options in (("keras-mf", {}), ("keras-deep-mf", {"dropout": 0.5, "units": 8, "batch_size": 256})):
            scores = _scores_of_each_epoch(_small(name, "default", backend, epochs=5, **options), train)
            refit = _small(name, "default", backend, epochs=5, **options)
            refit.fit(train, FitContext(seed=3, fixed_steps=2))
            assert len(scores) == 5
            assert np.array_equal(refit.score(np.arange(N_USERS)), scores[1])
            assert not np.array_equal(scores[1], scores[2])


def _scores_of_each_epoch(model: Any, train: TrainSet) -> list[Any]:
    scores = []

    def validate(step: int) -> bool:
        scores.append(model.score(np.arange(N_USERS)))
        random.random()
        np.random.random(7)
        return False

    model.fit(train, FitContext(seed=3, validate=validate))
    return scores


def seeds_matter_and_nothing_else_does(backend: str) -> None:
    train = _train_set(Task.RANKING)
    for name in ("keras-mf", "keras-deep-mf"):
        first, again, other = (_fitted(_small(name, "default", backend), train, seed) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def the_other_backend_is_refused_and_not_loaded(backend: str) -> None:
    other = next(each for each in BACKENDS if each != backend)
    if find_spec(other) is not None:
        with pytest.raises(UserError, match=f"Keras runs on {backend}.*KERAS_BACKEND={other}"):
            _small("keras-mf", "default", other).fit(_train_set(Task.RATING), FitContext())
    _fitted(_small("keras-mf", "default", backend), _train_set(Task.RATING))
    assert backend in sys.modules
    assert other not in sys.modules


def a_model_tells_where_it_was_fitted(backend: str) -> None:
    """Read from the weights: those of a model on torch's device without memory are nowhere else."""
    import keras

    from algorithms import _keras_framework as framework

    train = _train_set(Task.RATING)
    for name in ("keras-mf", "keras-deep-mf"):
        model = _small(name, "default", backend)
        model.reset_peak_gpu()
        assert model.fit(train, FitContext()).fitted_device == "cpu"
        assert model.peak_gpu_bytes() is None
    if backend == "torch":
        with keras.device("meta"):
            config = _small("keras-mf", "default", backend).config
            assert framework.device_of(framework.mf_model(train, config, 0.0)) == "meta"


def a_gpu_that_is_not_there_is_told_in_one_line(backend: str) -> None:
    from algorithms import gpu

    if gpu.obstacle(backend) is None:
        return
    for name in ("keras-mf", "keras-deep-mf"):
        with pytest.raises(NotApplicableError) as caught:
            _small(name, "default", backend).fit(_train_set(Task.RATING), FitContext(device="cuda"))
        assert str(caught.value) == gpu.obstacle(backend)
        assert len(str(caught.value).splitlines()) == 1


def _fitted(model: Any, train: TrainSet, seed: int = 0) -> Any:
    return model.fit(train, FitContext(seed=seed)).score(np.arange(N_USERS))


CHECKS: tuple[Callable[[str], None], ...] = (
    the_other_backend_is_refused_and_not_loaded,
    scores_are_those_of_keras,
    keras_mf_descends_the_documented_loss,
    metadata_counts_unless_it_is_not_connected,
    validation_leaves_training_alone,
    seeds_matter_and_nothing_else_does,
    a_model_tells_where_it_was_fitted,
    a_gpu_that_is_not_there_is_told_in_one_line,
)


def main(backend: str) -> None:
    """Print one JSON object: for each check, how it failed, or null."""
    outcomes: dict[str, str | None] = {}
    for check in CHECKS:
        try:
            check(backend)
            outcomes[check.__name__] = None
        except Exception:
            outcomes[check.__name__] = traceback.format_exc()
    print(json.dumps(outcomes))


# -- tests ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BACKENDS)
def outcomes(request: pytest.FixtureRequest) -> dict[str, str | None]:
    backend = request.param
    if find_spec("keras") is None or find_spec(backend) is None:
        pytest.skip(f"keras or {backend} is not installed: pip install 'recgauge[tensorflow,torch]'")
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **common.environment(backend)}
    command = [sys.executable, __file__, backend]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("\n") == 1, "more than the outcome was printed"
    return json.loads(done.stdout)


@pytest.mark.parametrize("check", [check.__name__ for check in CHECKS])
def test_in_the_process_of_the_backend(outcomes: dict[str, str | None], check: str) -> None:
    assert outcomes[check] is None, outcomes[check]


def test_a_missing_backend_is_told_with_what_to_install() -> None:
    with pytest.raises(NotApplicableError, match=r"no_such_backend is not installed: pip install .*no_such_backend"):
        common.load_framework("no_such_backend")


def test_the_backend_is_named_before_the_process_starts() -> None:
    for adapter in (KerasMF, KerasDeepMF):
        for backend in BACKENDS:
            variables = adapter.environment(adapter.Config(backend=backend))
            assert variables["KERAS_BACKEND"] == backend


def test_an_epoch_of_ranking_is_every_row_and_unrated_items() -> None:
    train, negatives = _train_set(Task.RANKING), 5
    rated = train.interactions.matrix().toarray() > 0
    epochs = common.Epochs(train, negatives, seed=0)
    drawn = np.zeros(rated.shape, dtype=np.int64)
    for _ in range(60):
        indices, targets = epochs.draw()
        positive = targets[:, 0] == 1
        pairs = indices["user"], indices["item"]
        found = np.zeros(rated.shape, dtype=np.int64)
        np.add.at(found, tuple(side[positive] for side in pairs), 1)
        assert np.array_equal(found, rated)
        np.add.at(drawn, tuple(side[~positive] for side in pairs), 1)
    assert drawn[rated].sum() == 0
    counts = rated.sum(axis=1)
    counts[0] = 0  # has rated everything: nothing can be drawn
    assert np.array_equal(drawn.sum(axis=1), 60 * negatives * counts)
    expected = np.broadcast_to((drawn.sum(axis=1) / np.maximum(1, (~rated).sum(axis=1)))[:, None], rated.shape)
    free = ~rated & (counts > 0)[:, None]
    chi_squared = ((drawn[free] - expected[free]) ** 2 / expected[free]).sum()
    degrees = free.sum() - (counts > 0).sum()
    assert abs(chi_squared - degrees) < 5 * np.sqrt(2 * degrees)  # uniform over what each user has not rated


def test_an_epoch_of_rating_is_every_row_with_its_value() -> None:
    train = _train_set(Task.RATING)
    epochs = common.Epochs(train, 4, seed=0)
    orders = []
    for _ in range(2):
        indices, targets = epochs.draw()
        found = sparse.csr_matrix((targets[:, 0], (indices["user"], indices["item"])), shape=(N_USERS, N_ITEMS))
        assert np.array_equal(found.toarray(), train.interactions.matrix().toarray())
        orders.append(indices["user"] * N_ITEMS + indices["item"])
    assert not np.array_equal(*orders)


if __name__ == "__main__":
    main(sys.argv[1])
