"""A pytest plug-in that plants a slowdown: ``RECGAUGE_PLANTED=negatives:1.3 python -m benchmarks regress …``.

It proves that ``regress`` finds what it is for (see ``detection.py``); the functions that it slows are RecGauge's own.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

TARGETS = {
    "load": ("load", ["datasets.store:load_cached"]),
    "negatives": ("split/negatives", ["protocols.negatives:draw_negatives"]),
    "metrics": (
        "metrics",
        ["protocols.metrics:count_better_and_tied", "protocols.metrics:hit_rate", "protocols.metrics:ndcg"],
    ),
    "top-k": ("lists/top-k", ["datasets.top_k:top_k"]),
    "als": ("fit/als", ["algorithms.als:ALS._fit"]),
    "ncf": ("fit/ncf", ["algorithms._ncf_torch:train"]),
}
"""Path -> what ``regress -k`` measures of it, and the functions that it is made of."""


@pytest.fixture(scope="session", autouse=True)
def planted() -> Iterator[None]:
    """Every call of the path's functions takes so many times as long, computing."""
    path, _, factor = os.environ["RECGAUGE_PLANTED"].partition(":")
    with pytest.MonkeyPatch.context() as patch:
        for target in TARGETS[path][1]:
            module, _, names = target.partition(":")
            owner: Any = importlib.import_module(module)
            *outer, name = names.split(".")
            for each in outer:
                owner = getattr(owner, each)
            patch.setattr(owner, name, slowed(getattr(owner, name), float(factor)))
        yield


def slowed(function: Callable[..., Any], factor: float) -> Callable[..., Any]:
    def slow(*arguments: Any, **named: Any) -> Any:
        begin = time.process_time()
        result = function(*arguments, **named)
        end = begin + factor * (time.process_time() - begin)
        while time.process_time() < end:
            pass
        return result

    return slow
