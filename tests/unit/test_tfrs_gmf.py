"""GMF on TensorFlow Recommenders: what TensorFlow computes is measured in processes of its own, and judged here.

TensorFlow Recommenders needs the legacy Keras, which may not meet Keras 3 in one process. This file run as a program is
such a process: it prints every measurement as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from algorithms.base import DampedBias
from algorithms.tfrs_gmf import TFRSGMF
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.environment import hardware
from datasets.errors import NotApplicableError
from datasets.types import Interactions

ROOT = Path(__file__).parents[2]
SEED = 11


def _rows(dense: np.ndarray, values: np.ndarray) -> Interactions:
    """The pairs that are set in ``dense`` (users, items), with ``values``."""
    users, items = np.nonzero(dense)
    return Interactions(np.int32(users), np.int32(items), np.float32(values), None, *dense.shape)


def _sampled(share: float = 0.5) -> Interactions:
    """40 users × 30 items, a rating 1 to 5 for every second pair."""
    rng = np.random.default_rng(0)
    dense = rng.random((40, 30)) < share
    return _rows(dense, rng.integers(1, 6, np.count_nonzero(dense)))


def _scores(model: TFRSGMF) -> np.ndarray:
    return model.score(np.arange(model.n_users))


def _digest(scores: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(scores).tobytes()).hexdigest()


# -- measured in another process --------------------------------------------------------------------------------------


def measure_first_step(task: str) -> dict[str, Any]:
    """Rows, initial tables, and the fitted model after one step with all rows in the batch.

    For ranking every user has rated all items but one, so that the negatives are known.
    """
    from algorithms._tfrs_gmf import Trainer

    rng = np.random.default_rng(1)
    dense = np.arange(5)[None, :] != np.arange(4)[:, None] if task == "ranking" else rng.random((4, 5)) < 0.7
    rows = _rows(dense, rng.integers(1, 6, np.count_nonzero(dense)))
    config = TFRSGMF.Config(
        factors=3, epochs=1, batch_size=100, reg=0.2, initial_std=0.5, initial_accumulator=0.01, negatives=2
    )
    p, q, _, _ = Trainer(rows, Task(task), config, 0.0, FitContext(seed=SEED)).factors()
    model = TFRSGMF(config).fit(TrainSet(rows, Task(task)), FitContext(seed=SEED))
    arrays = {"users": rows.users, "items": rows.items, "values": rows.values, "p": p, "q": q, **model._state()}
    return {name: array.tolist() for name, array in arrays.items()}


def measure_negatives() -> dict[str, Any]:
    """100 epochs of negatives of 3 users: one rated everything, one all items but 2 and 5, one items 0 to 3 of 8."""
    import tensorflow as tf

    from algorithms._tfrs_gmf import Negatives

    dense = np.ones((3, 8), dtype=bool)
    dense[1, [2, 5]] = dense[2, 4:] = False
    negatives = Negatives(_rows(dense, np.ones(18)), 3, tf.random.Generator.from_seed(SEED, alg="philox"))
    draw = tf.function(negatives.draw)
    drawn = [tuple(column.numpy() for column in draw()) for _ in range(100)]
    counts = np.zeros((3, 8), dtype=int)
    for users, items in drawn:
        np.add.at(counts, (users, items), 1)
    return {
        "counts": counts.tolist(),
        "fresh": any((first[1] != second[1]).any() for first, second in pairwise(drawn)),
    }


def measure_epochs(task: str) -> dict[str, Any]:
    """Digests of the scores after each of 4 epochs: watched from inside, and of fits told to run so many."""
    train, config = TrainSet(_sampled(), Task(task)), TFRSGMF.Config(factors=4, epochs=4, batch_size=64)
    watched: list[str] = []

    def watch(step: int) -> bool:
        model.score_pairs(train.interactions.users, train.interactions.items)
        watched.append(_digest(_scores(model)))
        return False

    model = TFRSGMF(config)
    model.fit(train, FitContext(seed=SEED, validate=watch))

    def refitted(steps: int, seed: int = SEED) -> str:
        return _digest(_scores(TFRSGMF(config).fit(train, FitContext(seed=seed, fixed_steps=steps))))

    return {"watched": watched, "refitted": [refitted(n) for n in (1, 2, 3, 4)], "other_seed": refitted(4, SEED + 1)}


def measure_repeats() -> dict[str, Any]:
    """Digests of 5 fits of 1,500 small steps each: a rounding that depends on memory shows in some of them."""
    train, config = TrainSet(_sampled(), Task.RANKING), TFRSGMF.Config(factors=4, epochs=8, batch_size=16)
    return {"scores": [_digest(_scores(TFRSGMF(config).fit(train, FitContext(seed=1)))) for _ in range(5)]}


def measure_framework(task: str) -> dict[str, Any]:
    """The Keras model's own scores beside those of the factors, how often its loop was traced, orders, and classes."""
    import tensorflow as tf
    import tensorflow_recommenders as tfrs

    from algorithms._tfrs_gmf import Trainer

    rows, run = _sampled(), FitContext(seed=SEED)
    trainer = Trainer(rows, Task(task), TFRSGMF.Config(batch_size=64, initial_std=0.3), 2.5, run)
    first = trainer.factors()
    copies = [array.copy() for array in first]
    for _ in range(3):
        trainer.run_epoch()
    order = tf.function(lambda: trainer._order(20))
    model = TFRSGMF()
    model.user_factors, model.item_factors, model.user_bias, model.item_bias = trainer.factors()
    theirs = trainer._model((rows.users, rows.items)).numpy()[:, 0] + 2.5
    return {
        "difference": float(np.abs(model._score_pairs(rows.users, rows.items) - theirs).max()),
        "spread": float(theirs.std()),
        "first_kept": all((array == copy).all() for array, copy in zip(first, copies, strict=True)),
        "orders": [order().numpy().tolist() for _ in range(2)],
        "traces": trainer.run_epoch.experimental_get_tracing_count(),
        "is_tfrs": isinstance(trainer._model, tfrs.models.Model)
        and isinstance(trainer._model.ranking_task, tfrs.tasks.Ranking),
    }


def measure_interactions() -> dict[str, float]:
    """RMSE on held-out rows whose ratings are 3 ± 1 by the signs of a product, which no bias can tell."""
    rng = np.random.default_rng(2)
    users, items = np.divmod(rng.permutation(80 * 60), 60)
    values = np.float32(3 + np.where((users % 2) == (items % 2), 1, -1))
    rows = Interactions(np.int32(users), np.int32(items), values, None, 80, 60)
    train, test = rows.select(np.arange(4_800) < 2_400), rows.select(np.arange(4_800) >= 2_400)
    model = TFRSGMF(TFRSGMF.Config(factors=8, epochs=10, batch_size=128))
    model.fit(TrainSet(train, Task.RATING), FitContext(seed=SEED))
    means = DampedBias.fit(train).predict(test.users, test.items)
    figures = {"gmf": model.score_pairs(test.users, test.items), "bias": means}
    return {name: float(np.sqrt(np.mean((scores - test.values) ** 2))) for name, scores in figures.items()}


def measure_plain_product() -> dict[str, Any]:
    """Without biases and centring, as in the report: the first scores, and which arrays a model consists of."""
    config = TFRSGMF.Config(factors=4, epochs=1, learning_rate=0.0, biases=False, centred=False)
    plain = TFRSGMF(config).fit(TrainSet(_sampled(), Task.RATING), FitContext())
    return {"largest": float(np.abs(plain._score(np.arange(40))).max()), "arrays": sorted(plain._state())}


def measure_devices() -> dict[str, Any]:
    """Where a fitted model was computed, what it took on a GPU, and what is said where TensorFlow finds none."""
    train, model = TrainSet(_sampled(), Task.RATING), TFRSGMF(TFRSGMF.Config(factors=4, epochs=1))
    model.reset_peak_gpu()
    fitted = model.fit(train, FitContext()).fitted_device
    try:
        TFRSGMF().fit(train, FitContext(device="cuda"))
    except NotApplicableError as error:
        return {"fitted": fitted, "peak": model.peak_gpu_bytes(), "refused": str(error)}
    return {"fitted": fitted, "peak": None, "refused": "not refused"}


MEASUREMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "first_step_rating": lambda: measure_first_step("rating"),
    "first_step_ranking": lambda: measure_first_step("ranking"),
    "negatives": measure_negatives,
    "epochs_rating": lambda: measure_epochs("rating"),
    "epochs_ranking": lambda: measure_epochs("ranking"),
    "repeats": measure_repeats,
    "framework_rating": lambda: measure_framework("rating"),
    "framework_ranking": lambda: measure_framework("ranking"),
    "interactions": measure_interactions,
    "plain_product": measure_plain_product,
    "devices": measure_devices,
}


# -- judged here ------------------------------------------------------------------------------------------------------


def _measure_in_new_process() -> dict[str, Any]:
    environment = {**os.environ, **TFRSGMF.environment(None), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    if find_spec("tensorflow_recommenders") is None:
        pytest.skip("TensorFlow Recommenders is not installed: pip install 'recgauge[tensorflow]'")
    return _measure_in_new_process()


@pytest.mark.parametrize("task", list(Task))
def test_first_step_is_adagrad_on_the_mean_loss_and_its_penalty(measured, task):
    given = {name: np.array(values) for name, values in measured[f"first_step_{task}"].items()}
    users, items, values, p, q = (given[name] for name in ("users", "items", "values", "p", "q"))
    if task is Task.RANKING:
        users = np.concatenate((users, np.repeat(users, 2)))
        items = np.concatenate((items, users[len(items) :]))  # the one item that user u has not rated is item u
        residual = 1 / (1 + np.exp(-(p[users] * q[items]).sum(axis=1))) - (np.arange(len(users)) < len(values))
        offset = 0.0
    else:
        offset = values.mean()
        residual = 2 * ((p[users] * q[items]).sum(axis=1) - (values - offset))

    def stepped(table, places, row_gradients, reg=0.2):
        gradient = np.zeros_like(table)
        np.add.at(gradient, places, (row_gradients + 2 * reg * table[places]) / len(users))
        return table - 0.05 * gradient / np.sqrt(0.01 + gradient**2 + 1e-7)

    everywhere = np.zeros(len(users), dtype=int)
    h = stepped(np.ones((1, 3)), everywhere, residual[:, None] * p[users] * q[items], reg=0)[0]
    c = stepped(np.zeros(1), everywhere, residual, reg=0)[0]
    new_p = stepped(p, users, residual[:, None] * q[items])
    new_q = stepped(q, items, residual[:, None] * p[users])
    assert given["user_factors"] == pytest.approx(h * new_p, abs=1e-5)
    assert given["item_factors"] == pytest.approx(new_q, abs=1e-5)
    assert given["user_bias"] == pytest.approx(offset + c + stepped(np.zeros(4), users, residual), abs=1e-5)
    assert given["item_bias"] == pytest.approx(stepped(np.zeros(5), items, residual), abs=1e-5)


def test_negatives_are_uniform_over_unrated_items_and_fresh(measured):
    counts = np.array(measured["negatives"]["counts"])
    assert counts[0].sum() == 0  # rated everything
    assert counts[1].sum() == 100 * 6 * 3 and counts[1, [2, 5]].sum() == counts[1].sum()
    assert counts[2].sum() == 100 * 4 * 3 and counts[2, 4:].sum() == counts[2].sum()
    for row, free in ((counts[1], [2, 5]), (counts[2], [4, 5, 6, 7])):
        expected = row.sum() / len(free)
        assert ((row[free] - expected) ** 2 / expected).sum() < 16.3  # chi², at most 3 degrees of freedom, p = .001
    assert measured["negatives"]["fresh"]


@pytest.mark.parametrize("task", list(Task))
def test_scoring_in_between_disturbs_nothing_and_epochs_do_not_depend_on_their_number(measured, task):
    epochs = measured[f"epochs_{task}"]
    assert epochs["watched"] == epochs["refitted"]
    assert len(set(epochs["watched"])) == 4  # every epoch changes the scores
    assert epochs["other_seed"] != epochs["refitted"][-1]


def test_every_fit_of_a_seed_is_the_same_to_the_last_bit(measured):
    assert len(set(measured["repeats"]["scores"])) == 1


@pytest.mark.parametrize("task", list(Task))
def test_factors_score_as_the_keras_model_does(measured, task):
    framework = measured[f"framework_{task}"]
    assert framework["is_tfrs"]
    assert framework["difference"] < 1e-5 < framework["spread"]
    assert framework["first_kept"]


@pytest.mark.parametrize("task", list(Task))
def test_epochs_are_traced_once_and_each_has_its_own_order(measured, task):
    framework = measured[f"framework_{task}"]
    assert framework["traces"] == 1
    first, second = framework["orders"]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_learns_what_biases_cannot(measured):
    rmse = measured["interactions"]
    assert rmse["bias"] > 0.95
    assert rmse["gmf"] < 0.2


def test_without_biases_it_is_a_plain_product_that_starts_near_zero(measured):
    assert measured["plain_product"]["arrays"] == ["item_factors", "user_bias", "user_factors"]
    assert 0 < measured["plain_product"]["largest"] < 0.01


def test_another_process_measures_the_same_to_the_last_bit(measured):
    assert _measure_in_new_process() == measured


@pytest.mark.skipif(bool(hardware()["gpus"]), reason="this machine has a GPU")
def test_it_tells_where_it_was_fitted_and_when_there_is_no_gpu(measured):
    devices = measured["devices"]
    assert (devices["fitted"], devices["peak"]) == ("cpu", None)
    assert devices["refused"].startswith("TensorFlow finds no GPU here: pip install 'tensorflow[and-cuda]==")


if __name__ == "__main__":
    print(json.dumps({name: measurement() for name, measurement in MEASUREMENTS.items()}))
