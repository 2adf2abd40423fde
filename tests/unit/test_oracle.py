"""The oracle: on data whose truth is known its figures are what the data were drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from algorithms.popularity import Popularity
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.oracle import Oracle
from benchmarks.split_store import union
from datasets.planted_genres import PlantedGenres
from datasets.types import Dataset
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut
from protocols.types import EvaluationProtocol

NOISE = 0.8


@pytest.fixture(scope="module")
def planted() -> Dataset:
    return PlantedGenres(n_users=2_000, n_items=1_000, n_ratings=150_000, noise=NOISE).load([])


def _figures(dataset: Dataset, protocol: EvaluationProtocol, algorithm: type) -> dict[str, float]:
    split = protocol.split(dataset, 42)
    rows = union(split.train, split.valid)
    model = algorithm(dataset.truth) if algorithm is Oracle else algorithm()
    model.fit(TrainSet(rows, Task(protocol.task)), FitContext())
    outcomes = protocol.evaluate(model, protocol.question(split), protocol.labels(split), rows.matrix())
    return protocol.metrics(outcomes)


def test_its_error_is_the_planted_noise(planted: Dataset) -> None:
    split = Holdout().split(planted, 42)
    assert len(split.test) >= 20_000
    assert _figures(planted, Holdout(), Oracle)["rmse"] == pytest.approx(NOISE, rel=0.01)


def test_its_ranking_is_far_above_popularity(planted: Dataset) -> None:
    oracle, popularity = (_figures(planted, LeaveOneOut(), each) for each in (Oracle, Popularity))
    assert oracle["hr@10"] > popularity["hr@10"] + 0.1
    assert oracle["hr@10/full"] > popularity["hr@10/full"] + 0.02


def test_it_learns_nothing(planted: Dataset) -> None:
    """Ratings turned upside down are no news to it."""
    rows = planted.interactions
    upside_down = type(rows)(rows.users, rows.items, -rows.values, rows.times, rows.n_users, rows.n_items)
    users = np.arange(20)
    scores = [
        Oracle(planted.truth).fit(TrainSet(each, Task.RATING), FitContext()).score(users)
        for each in (rows, upside_down)
    ]
    assert np.array_equal(*scores)
