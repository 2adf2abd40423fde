"""The worker's measuring function: whose catalogue is ranked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from algorithms.base import Recommender
from algorithms.biased_als import BiasedALS
from algorithms.popularity import Popularity
from algorithms.types import FitContext, Task, TrainSet
from benchmarks.seal import Seal
from benchmarks.split_store import union
from benchmarks.worker import Measurement, measure
from protocols.conformance import toy
from protocols.leave_one_out import LeaveOneOut

SAMPLE = [3, 4, 31, 58]


def measured(model: type[Recommender], sample: list[int], phases: list[tuple[str, int, int]]) -> Measurement:
    protocol = LeaveOneOut()
    split = protocol.split(toy(), 42)
    rows = union(split.train, split.valid)
    question = replace(protocol.question(split), sample_users=np.array(sample, np.int32))
    return measure(
        model,
        TrainSet(rows, Task.RANKING, rating_scale=split.rating_scale),
        FitContext(),
        protocol,
        lambda: (question, protocol.labels(split), rows.matrix()),
        Seal(),
        progress=lambda *event: phases.append(event),
    )


@pytest.mark.parametrize(("model", "ranked"), [(Popularity, SAMPLE), (BiasedALS, list(range(60)))])
def test_models_without_factors_rank_the_sample_alone(model: type[Recommender], ranked: list[int]) -> None:
    phases: list[tuple[str, int, int]] = []
    found, every = measured(model, SAMPLE, phases), measured(model, list(range(60)), [])
    assert found.outcomes["users_full"].tolist() == ranked
    assert found.timings["ranked_users"] == len(ranked)
    assert [phase for phase in phases if phase[0] == "score"][-1] == ("score", len(ranked), len(ranked))
    for name in ("n_better_full", "n_tied_full", "top_items", "positive_score_full"):
        np.testing.assert_array_equal(found.outcomes[name], every.outcomes[name][ranked])


def test_a_sample_leaves_the_candidates_alone() -> None:
    found, every = measured(Popularity, SAMPLE, []), measured(Popularity, list(range(60)), [])
    assert found.outcomes["users"].tolist() == list(range(60)) and found.timings["pairs"] == 6_000
    for figure in ("hr@10", "ndcg@10", "mrr"):
        assert found.metrics[figure] == every.metrics[figure]
    # Even users' test item is the most popular one, odd users' is cold: the sample has two of each, all users 30.
    assert found.metrics["hr@10/full"] == pytest.approx(every.metrics["hr@10/full"], abs=0.01)
