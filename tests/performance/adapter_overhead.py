"""One adapter's fit against its library called directly: ``python adapter_overhead.py als|ease|lightfm``.

Prints the ratio as JSON. One process an algorithm, since frameworks never meet; it keeps to one core.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from scipy import linalg

from algorithms.types import FitContext, Task, TrainSet
from benchmarks.ratio import interleaved_ratio
from datasets.movielens import MovieLensSmall
from datasets.types import Interactions

PAIRS = 61
"""Short fits in many pairs: what slows a shared machine for a while slows both of a pair. CPU seconds, one thread."""

Fit = Callable[[], object]


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    loader = MovieLensSmall()
    rows = loader.load(loader.locate()).interactions
    rows.matrix()  # made once for both
    ours, control = {"als": als, "ease": ease, "lightfm": lightfm}[sys.argv[1]](rows)
    print(json.dumps(asdict(interleaved_ratio(ours, control, PAIRS, time.process_time))))


def als(rows: Interactions) -> tuple[Fit, Fit]:
    from implicit.cpu.als import AlternatingLeastSquares

    from algorithms.als import ALS

    options = {"factors": 50, "alpha": 1.0}
    train, matrix = TrainSet(rows, Task.RANKING), rows.matrix()

    def control() -> None:
        model = AlternatingLeastSquares(**options, regularization=10.0, iterations=5, num_threads=1, random_state=0)
        model.fit(matrix, show_progress=False)

    return lambda: ALS(ALS.Config(**options, reg=10.0, epochs=5)).fit(train, FitContext()), control


def lightfm(rows: Interactions) -> tuple[Fit, Fit]:
    from lightfm import LightFM as Model

    from algorithms.lightfm import LightFM

    options = {"learning_rate": 0.05, "max_sampled": 10}
    train, positives = TrainSet(rows, Task.RANKING), rows.matrix().tocoo()
    positives.data = np.ones_like(positives.data)

    def control() -> None:
        model = Model(**options, no_components=30, loss="warp", random_state=0)
        model.fit(positives, epochs=5, num_threads=1)

    return lambda: LightFM(LightFM.Config(**options, factors=30, epochs=5)).fit(train, FitContext()), control


def ease(rows: Interactions) -> tuple[Fit, Fit]:
    """The dual of Steck's closed form, as ``algorithms.ease`` derives it."""
    from algorithms.ease import EASE

    l2 = 500.0
    train, matrix = TrainSet(rows, Task.RANKING), rows.matrix()

    def control() -> tuple[np.ndarray, np.ndarray]:
        seen = matrix.astype(np.float64)
        seen.data[:] = 1
        gram = (seen @ seen.T).toarray()
        gram[np.diag_indices_from(gram)] += l2
        inverse = linalg.cho_solve(linalg.cho_factor(gram, overwrite_a=True), np.eye(len(gram)), overwrite_b=True)
        columns = seen.T.tocsr()
        own = np.asarray(columns.multiply(columns @ inverse).sum(axis=1)).ravel()
        return np.eye(len(gram)) - l2 * inverse, own

    return lambda: EASE(EASE.Config(l2=l2)).fit(train, FitContext()), control


if __name__ == "__main__":
    main()
