"""What benchmarks are compared with: fixed work on one thread, about 10 to 100 ms, that uses the same resources.

A machine that is faster or slower, or busy, changes a control as it changes what is measured; no change of RecGauge
changes it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Work = Callable[[], object]


def for_extra(extra: str | None) -> Work:
    """The control of algorithms that need this optional dependency group: its framework's own work."""
    return {"torch": torch, "tensorflow": tensorflow}.get(extra or "", numpy)()


def numpy() -> Work:
    """A matrix product, a gather, a sort and some Python: what an algorithm on NumPy and SciPy is made of."""
    draw = np.random.default_rng(0)
    square = draw.random((384, 384), dtype=np.float32)
    values = draw.random(1 << 18, dtype=np.float32)
    places = draw.integers(len(values), size=len(values))

    def run() -> object:
        return square @ square, np.sort(values[places]), sum(value * value for value in range(20_000))

    return run


def torch() -> Work:
    """An epoch of the plain NCF loop on few rows."""
    import torch

    from performance import plain_ncf

    draw = torch.Generator().manual_seed(0)
    n_users, n_items, n_rows = 2_000, 1_000, 8_192
    users, items = (torch.randint(n, (n_rows,), generator=draw) for n in (n_users, n_items))

    def run() -> object:
        torch.set_num_threads(1)
        return plain_ncf.train(users, items, n_users, n_items, epochs=1)

    return run


def tensorflow() -> Work:
    """A graph that is traced anew each time, and some steps of it: embeddings, a product, their gradients."""
    import tensorflow as tf

    draw = np.random.default_rng(0)
    users, items = (tf.constant(draw.integers(n, size=8_192)) for n in (2_000, 1_000))
    tables = [tf.Variable(draw.random((n, 50), dtype=np.float32)) for n in (2_000, 1_000)]

    def run() -> object:
        @tf.function
        def step() -> object:
            with tf.GradientTape() as tape:
                scores = tf.reduce_sum(tf.gather(tables[0], users) * tf.gather(tables[1], items), axis=1)
                loss = tf.reduce_mean(tf.square(scores - 12.5))
            for table, gradient in zip(tables, tape.gradient(loss, tables), strict=True):
                table.assign_sub(1e-3 * tf.convert_to_tensor(gradient))
            return loss

        return [step() for _ in range(5)]

    return run
