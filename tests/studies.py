"""What a small study would have found, for tests of tuned configurations."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from benchmarks.tuned import Tuned
from protocols.leave_one_out import LeaveOneOut

_FOUND = Tuned(
    dataset="synthetic-genres",
    protocol="leave-one-out",
    protocol_config=asdict(LeaveOneOut.Config()),
    algorithm="als",
    config={"factors": 16, "reg": 0.5},
    value=0.5,
    metric="ndcg@10",
    default_value=0.25,
    study="a study",
    trials={"complete": 2, "pruned": 0, "failed": 1},
    seconds=12.5,
    bound_by="trials",
    budget={"name": "small", "trials": 3, "seconds": 90.0},
    values=[0.25, None, 0.5],
    dataset_fingerprint="d" * 64,
    split_fingerprint="a" * 64,
    split_seed=42,
    sampler="tpe",
    pruner="median",
    seed=0,
    packages={"python": "3.12.1", "rectools-lightfm": None},
    commit=None,
)


def found(**changes: Any) -> Tuned:
    """A study of three trials of als, one of which failed."""
    return replace(_FOUND, **changes)
