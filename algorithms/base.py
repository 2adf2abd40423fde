"""``Recommender``: checks, seeding, batching, masking, top-k, storage. An adapter adds ``_fit`` and ``_score``."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms import gpu, storage
from algorithms.space import Space
from algorithms.types import FitContext, Task, TrainSet
from datasets.errors import NotApplicableError, UserError
from datasets.top_k import top_k, unseen_top_k
from datasets.types import FloatArray, IntArray, Interactions

TILE_ELEMENTS = 4_000_000
"""Scores held at once while tiling over users: 16 MB of float32."""

TILE_PAIRS = 1_024
"""Pairs whose factors are gathered at once: few enough that they are still in the cache when they are multiplied."""

_TOPK_BATCH = 100
"""Queries from which ``implicit.cpu.topk`` starts threads: it takes so many at a time."""


class NonFiniteScores(ValueError):
    """A model answered NaN or infinity: a defect of the model, never a rank."""


@dataclass(frozen=True)
class Shape:
    """The size of a training set, from which a model's memory is estimated before it runs."""

    n_users: int
    n_items: int
    n_rows: int
    n_features: int = 0


class Recommender(ABC):
    """One algorithm.

    A subclass declares ``Config`` (see ``algorithms.config``) and ``SPACE``, implements ``_fit`` and ``_score``, and
    ``_state``/``_restore`` to be saved. Its module imports no framework at the top: ``_fit`` does.

    Attributes:
        predicts_ratings: scores are ratings when the task is ``Task.RATING``; otherwise the harness calibrates them.
        lists_from_scores: ``recommend`` needs the scores of the whole catalogue and takes them from who has them.
        similar_by: in words, what ``similar`` compares items by; empty for a model that knows nothing of the kind.
    """

    @dataclass(frozen=True)
    class Config:
        """No options."""

    SPACE: ClassVar[Mapping[str, Space]] = {}
    predicts_ratings: ClassVar[bool] = False
    lists_from_scores: ClassVar[bool] = True
    similar_by: ClassVar[str] = ""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config
        self.n_users = self.n_items = 0
        self.task = Task.RANKING
        self._scorable = False
        self._bias: DampedBias | None = None

    # -- what an adapter writes ---------------------------------------------------------------------------------------

    @abstractmethod
    def _fit(self, train: TrainSet, run: FitContext) -> None:
        """Learn from ``train``; call ``_step_done`` after every epoch or sweep, if there are any."""

    @abstractmethod
    def _score(self, users: IntArray) -> FloatArray:
        """(b,) valid users -> (b, n_items) scores, higher is better."""

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        """(p,) valid pairs, p > 0 -> (p,) scores. Gathers from ``_score``; override it where pairs are cheap."""
        order = np.argsort(users, kind="stable")
        distinct, first = np.unique(users[order], return_index=True)
        bounds = np.append(first, len(users))
        gathered = []
        for tile in self._tiles(len(distinct)):
            rows = order[bounds[tile.start] : bounds[tile.stop]]
            position = np.searchsorted(distinct[tile], users[rows])
            gathered.append(self._score(distinct[tile])[position, items[rows]])
        in_order = np.concatenate(gathered)
        scores = np.empty_like(in_order)
        scores[order] = in_order
        return scores

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What the fitted model consists of, as named arrays."""
        raise NotImplementedError(f"{type(self).__name__} cannot be saved: it has no _state")

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take back what ``_state`` gave."""
        raise NotImplementedError(f"{type(self).__name__} cannot be loaded: it has no _restore")

    @property
    def patience(self) -> int:
        """The option of that name: validations without a better figure before training stops; 0: all steps."""
        return int(getattr(self.config, "patience", 0))

    @property
    def scores_cold(self) -> bool:
        """Whether the fitted model itself rates pairs whose user or item has no training row."""
        return False

    @property
    def uses_item_metadata(self) -> bool:
        """Whether the fitted model has something to say of an item without a training row, by its metadata."""
        return False

    def _similarities(self, item: int) -> FloatArray:
        """(n_items,) how similar each item is to a valid ``item``, -inf for what must not be listed.

        For a model with ``similar_by``.
        """
        raise NotApplicableError(f"{type(self).__name__} has no vectors or similarities of items")

    def synchronize(self) -> None:
        """Wait until the device has finished; the clock calls it. Nothing to wait for on a CPU."""
        return None

    @property
    def fitted_device(self) -> str:
        """``cpu`` or ``cuda``: where the fitted model was computed, read back from it and not from the request.

        The harness fails a cell whose model was computed elsewhere than asked. A loaded model is on the CPU.
        """
        return "cpu"

    @staticmethod
    def reset_peak_gpu() -> None:
        """Let ``peak_gpu_bytes`` count from now on. Imports no framework."""
        gpu.reset_peak()

    @staticmethod
    def peak_gpu_bytes() -> int | None:
        """The most bytes that torch or TensorFlow allocated on the GPU since the reset, None where neither uses one."""
        return gpu.peak_bytes()

    def samples_per_epoch(self, n_rows: int) -> int | None:
        """What an epoch over ``n_rows`` learns from, drawn negatives included; None for a model without samples.

        By the option ``negatives``: so many beside each row, when ranking.
        """
        negatives = getattr(self.config, "negatives", None)
        if negatives is None:
            return None
        return n_rows * (1 + negatives) if self.task is Task.RANKING else n_rows

    @staticmethod
    def environment(config: Any) -> dict[str, str]:
        """Environment variables that must be set before the worker process starts."""
        return {}

    @classmethod
    def memory_estimate(cls, shape: Shape, config: Any) -> int | None:
        """Peak bytes of fitting ``shape``, beyond the training data, or None where it does not matter."""
        return None

    # -- what the harness calls ---------------------------------------------------------------------------------------

    def fit(self, train: TrainSet, run: FitContext) -> Self:
        """Fit from scratch: same ``train``, config, ``run.seed`` and one thread, same model.

        Raises:
            UserError: when the training set has no rows, or lacks what the config asks for.
        """
        from threadpoolctl import threadpool_limits  # only a fit needs it

        interactions = train.interactions
        if len(interactions) == 0:
            raise UserError("the training set has no rows: use a larger data set or another protocol")
        self.n_users, self.n_items, self.task = interactions.n_users, interactions.n_items, train.task
        self._scorable = False
        self._bias = DampedBias.fit(interactions) if train.task is Task.RATING else None
        random.seed(run.seed)
        np.random.seed(run.seed % 2**32)  # for frameworks that draw from the global state
        with threadpool_limits(run.threads):
            self._fit(train, run)
        self._scorable = True
        return self

    def score(self, users: IntArray) -> FloatArray:
        """(b,) users -> (b, n_items) float32 or float64 scores, higher is better.

        Raises:
            NonFiniteScores: when a score is NaN or infinite.
            ValueError: for users outside the universe or an answer of the wrong shape.
        """
        users = self._checked(users, self.n_users, "users")
        scores = np.asarray(self._score(users))  # an engine that answers before it has computed computes here
        _check_scores(scores, (len(users), self.n_items), users)
        return self._fill_cold(scores, users[:, None], np.arange(self.n_items)[None, :])

    def score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        """(p,) users and (p,) items -> (p,) float32 or float64 scores. Raises as ``score``."""
        users = self._checked(users, self.n_users, "users")
        items = self._checked(items, self.n_items, "items")
        if len(users) != len(items):
            raise ValueError(f"score_pairs needs as many items as users, got {len(items)} and {len(users)}")
        if len(users) == 0:
            return np.empty(0, dtype=np.float32)
        scores = np.asarray(self._score_pairs(users, items))
        _check_scores(scores, (len(users),), users)
        return self._fill_cold(scores, users, items)

    def cold_pairs(self, users: IntArray, items: IntArray) -> npt.NDArray[np.bool_]:
        """Which pairs have a user or an item without a training row and get ``cold_ratings``. Task.RATING only."""
        if self.scores_cold:
            return np.zeros(np.broadcast_shapes(users.shape, items.shape), dtype=np.bool_)
        return ~self._fitted_bias().knows(users, items)

    def cold_ratings(self, users: IntArray, items: IntArray) -> FloatArray:
        """Damped-bias predictions, float64: what a cold pair is worth, calibrated or not. Task.RATING only."""
        return self._fitted_bias().predict(users, items)

    def recommend(
        self, users: IntArray, k: int, exclude: sparse.csr_matrix | None = None, scores: FloatArray | None = None
    ) -> npt.NDArray[np.int32]:
        """(b,) users -> (b, k) int32 items, best first, ties to the lower index, ``PADDING`` where fewer are free.

        Args:
            exclude: (n_users, n_items) CSR whose stored entries are never recommended, such as what the user has seen.
            scores: what ``score(users)`` gave, where that is known already.
        """
        users = self._checked(users, self.n_users, "users")
        lists = np.empty((len(users), k), dtype=np.int32)
        for tile in self._tiles(len(users)):
            of_tile = self.score(users[tile]) if scores is None else scores[tile]
            lists[tile] = unseen_top_k(of_tile, k, None if exclude is None else exclude[users[tile]])
        return lists

    def similarities(self, item: int) -> FloatArray:
        """(n_items,) float32 or float64: how similar each item is to ``item`` by ``similar_by``, higher is more.

        -inf for items that are not compared.

        Raises:
            NotApplicableError: the model compares no items.
        """
        self._checked(np.array([item]), self.n_items, "items")
        return self._similarities(item)

    def similar(self, item: int, k: int, among: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int32]:
        """(k,) int32 other items, most similar first, ties to the lower index, ``PADDING`` where fewer.

        ``among``: (n_items,) the items that may be listed. Raises as ``similarities``.
        """
        similarities = np.array(self.similarities(item))
        similarities[item] = -np.inf
        if among is not None:
            similarities[~among] = -np.inf
        return top_k(similarities[None, :], k)[0]

    def audience(self, item: int, k: int, exclude: IntArray | None = None) -> npt.NDArray[np.int32]:
        """(k,) int32 users with the highest scores for ``item``, best first, ties to the lower index.

        ``exclude``: users who are not listed, such as those who know the item; ``PADDING`` where fewer are left.
        """
        self._checked(np.array([item]), self.n_items, "items")
        scores = np.array(self.score_pairs(np.arange(self.n_users), np.full(self.n_users, item)))
        if exclude is not None:
            scores[exclude] = -np.inf
        return top_k(scores[None, :], k)[0]

    def size_bytes(self) -> int | None:
        """Bytes of all arrays that ``save`` writes; None for a model that cannot be saved."""
        try:
            return sum(array.nbytes for array in self._arrays().values())
        except NotImplementedError:
            return None

    def save(self, folder: Path) -> None:
        """Write the fitted model as ``model.json`` and ``model.safetensors``; nothing in them is executable."""
        self._checked(np.empty(0, dtype=np.int32), self.n_users, "users")
        facts = {"n_users": self.n_users, "n_items": self.n_items, "task": str(self.task)}
        storage.write(folder, type(self), self.config, facts, self._arrays())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model that ``save`` wrote; a UserError when it is of another algorithm, not readable or cannot answer."""
        config, facts, state = storage.read(folder, cls)
        model = cls(config)
        try:
            model.n_users, model.n_items, model.task = facts["n_users"], facts["n_items"], Task(facts["task"])
            bias = {name.removeprefix("bias."): array for name, array in state.items() if name.startswith("bias.")}
            model._bias = DampedBias(**bias) if bias else None
            model._restore(state)
            model._scorable = True
            model.score(np.array([model.n_users - 1]))  # whether shapes fit each other shows when they are used
        except Exception as problem:  # arrays that somebody else wrote may break an adapter anywhere
            reason = f"{type(problem).__name__}: {problem}".splitlines()[0]
            raise UserError(f"{folder}: no {cls.__name__} model that can answer ({reason}): save it again") from problem
        return model

    def _arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The adapter's state, and the biases of cold ratings."""
        bias = {} if self._bias is None else {f"bias.{name}": array for name, array in vars(self._bias).items()}
        return self._state() | bias

    # -- helpers for adapters -----------------------------------------------------------------------------------------

    def _steps(self, run: FitContext, configured: int) -> int:
        """How many epochs or sweeps to run: what early stopping found on a refit, else what the config says."""
        return configured if run.fixed_steps is None else run.fixed_steps

    def _step_done(self, run: FitContext, step: int, total: int) -> bool:
        """Report that ``step`` of ``total`` is done; True: stop here.

        The model must be able to score by now, where ``run.validates`` or the step is the last.
        """
        self._scorable = True
        run.progress(step, total)
        return run.validate(step)

    def _tiles(self, n: int) -> Iterator[slice]:
        """Slices of ``n`` users, small enough that their scores fit in a few megabytes."""
        size = max(1, TILE_ELEMENTS // self.n_items)
        return (slice(start, min(start + size, n)) for start in range(0, n, size))

    def _checked(self, indices: IntArray, size: int, name: str) -> IntArray:
        if not self._scorable:
            raise ValueError(f"{type(self).__name__} is not fitted: call fit first")
        indices = np.asarray(indices)
        if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
            raise ValueError(f"{name} must be a vector of integers, got {indices.ndim}-d {indices.dtype}")
        if len(indices) and (indices.min() < 0 or indices.max() >= size):
            raise ValueError(f"{name} must lie in [0, {size})")
        return indices

    @property
    def _fills_cold(self) -> bool:
        return self.task is Task.RATING and self.predicts_ratings and not self.scores_cold

    def _fill_cold(self, scores: FloatArray, users: IntArray, items: IntArray) -> FloatArray:
        """Ratings with cold pairs filled in; any other scores as they are."""
        if not self._fills_cold:
            return scores
        filled = np.where(self.cold_pairs(users, items), self.cold_ratings(users, items), scores)
        return filled.astype(scores.dtype, copy=False)

    def _fitted_bias(self) -> DampedBias:
        if self._bias is None:
            raise ValueError("cold ratings exist only for a model fitted with Task.RATING")
        return self._bias


class FactorRecommender(Recommender):
    """A model that is a product: score(u, i) = user_factors[u] · item_factors[i] + user_bias[u] + item_bias[i].

    ``_fit`` sets ``user_factors`` (n_users, d) and ``item_factors`` (n_items, d) and may set ``user_bias`` (n_users,)
    and ``item_bias`` (n_items,); a constant belongs into one of them.
    """

    lists_from_scores = False
    similar_by = "cosine of item factors"

    user_factors: FloatArray
    item_factors: FloatArray
    user_bias: FloatArray | None = None
    item_bias: FloatArray | None = None

    _threads = 1
    _catalogue: Catalogue | None = None

    def fit(self, train: TrainSet, run: FitContext) -> Self:
        """As any model's; ``recommend`` then uses as many threads as ``run`` has."""
        self._threads = run.threads
        super().fit(train, run)
        self._catalogue = None
        # Here, so that the warm-up fit pays for it and no list; not before, as implicit finds its GPU when imported.
        import implicit.cpu.topk  # noqa: F401

        return self

    def _step_done(self, run: FitContext, step: int, total: int) -> bool:
        self._catalogue = None
        return super()._step_done(run, step, total)

    def recommend(
        self, users: IntArray, k: int, exclude: sparse.csr_matrix | None = None, scores: FloatArray | None = None
    ) -> npt.NDArray[np.int32]:
        """As any model's, by ``implicit.cpu.topk`` instead of ``score``: the last bits of what it compares may differ.

        It lists k + 1 items. Where the last two of them tie, the cut is undecided or fewer than k items are free: those
        rows are made of scores.
        """
        users = self._checked(users, self.n_users, "users")
        if self._catalogue is None:
            dtype = np.result_type(self.user_factors, self.item_factors)
            self._catalogue = Catalogue.of(self.item_factors, self.item_bias, dtype)
        queries = self._catalogue.queries(self.user_factors[users])
        finite = self.user_bias is None or bool(np.isfinite(self.user_bias[users]).all())
        if k >= self.n_items or self._fills_cold or not (finite and self._catalogue.bounds(queries)):
            return super().recommend(users, k, exclude, scores)
        seen = None if exclude is None else exclude[users]
        items, products = self._catalogue.top(queries, k + 1, seen, self._threads)
        lists = items[:, :k]
        undecided = np.flatnonzero(products[:, k - 1] == products[:, k])
        if len(undecided):
            known = None if scores is None else scores[undecided]
            lists[undecided] = super().recommend(users[undecided], k, exclude, known)
        return lists

    def _score(self, users: IntArray) -> FloatArray:
        scores = self.user_factors[users] @ self.item_factors.T
        if self.user_bias is not None:
            scores += self.user_bias[users, None]
        if self.item_bias is not None:
            scores += self.item_bias
        return scores

    def _score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        scores = np.empty(len(users), dtype=np.result_type(self.user_factors, self.item_factors))
        for start in range(0, len(users), TILE_PAIRS):
            tile = slice(start, start + TILE_PAIRS)
            left, right = self.user_factors.take(users[tile], axis=0), self.item_factors.take(items[tile], axis=0)
            np.einsum("pd,pd->p", left, right, out=scores[tile])
        if self.user_bias is not None:
            scores += self.user_bias[users]
        if self.item_bias is not None:
            scores += self.item_bias[items]
        return scores

    def _similarities(self, item: int) -> FloatArray:
        return cosines(self.item_factors, item)

    def _state(self) -> dict[str, npt.NDArray[np.generic]]:
        parts = ("user_factors", "item_factors", "user_bias", "item_bias")
        return {name: getattr(self, name) for name in parts if getattr(self, name) is not None}

    def _restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.user_factors, self.item_factors = state["user_factors"], state["item_factors"]
        self.user_bias, self.item_bias = state.get("user_bias"), state.get("item_bias")


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items as ``implicit.cpu.topk`` compares them.

    Attributes:
        vectors: (n_items, d) factors, and the bias as one more column where there is one.
        biased: whether there is.
        largest: the largest absolute value among them.
    """

    vectors: FloatArray
    biased: bool
    largest: float

    @classmethod
    def of(cls, factors: FloatArray, bias: FloatArray | None, dtype: npt.DTypeLike) -> Catalogue:
        columns = [factors] if bias is None else [factors, bias[:, None]]
        vectors = np.hstack(columns, dtype=dtype, casting="same_kind")
        return cls(vectors, bias is not None, float(np.abs(vectors).max(initial=0)))

    def queries(self, factors: FloatArray) -> FloatArray:
        """(b, d) factors of users, as they are multiplied with ``vectors``; their biases would change no order."""
        factors = factors.astype(self.vectors.dtype, copy=False)
        return np.hstack((factors, np.ones_like(factors[:, :1]))) if self.biased else factors

    def bounds(self, queries: FloatArray) -> bool:
        """Whether no product can overflow, nor be NaN: among thousands of products ``topk`` would not tell."""
        bound = float(np.abs(queries).max(initial=0)) * self.largest * self.vectors.shape[1]
        return bound < float(np.finfo(self.vectors.dtype).max)

    def top(
        self, queries: FloatArray, k: int, seen: sparse.csr_matrix | None, threads: int
    ) -> tuple[npt.NDArray[np.int32], FloatArray]:
        """The k <= n_items best items of each of (b, d) ``queries`` by (-product, index), and their products.

        Of items that tie with the last one others may be missing. A stored entry of ``seen``, (b, n_items) CSR, has the
        lowest product that there is.
        """
        from implicit.cpu.topk import topk
        from threadpoolctl import threadpool_limits

        # topk asks each row for its indices only; to slice CSR rows for that takes half as long as the products.
        rows = None if seen is None else [SimpleNamespace(indices=seen.indices[a:b]) for a, b in pairwise(seen.indptr)]
        crowd = threads > 1 and len(queries) > _TOPK_BATCH  # its threads call BLAS: more there would oversubscribe
        with threadpool_limits(1, user_api="blas") if crowd else nullcontext():
            items, products = topk(self.vectors, queries, k, filter_query_items=rows, num_threads=threads)
        order = np.lexsort((items, -products))
        return np.take_along_axis(items, order, axis=1), np.take_along_axis(products, order, axis=1)


@dataclass(frozen=True, eq=False)
class DampedBias:
    """r̂(u, i) = μ + b_u + b_i with b_i = Σ(r − μ)/(n_i + damping), then b_u = Σ(r − μ − b_i)/(n_u + damping).

    The damped means of Funk (2006). A user or item without a training row has bias 0.

    Attributes:
        mean: () float64.
        user_bias, item_bias: (n_users,) and (n_items,) float64.
        user_rows, item_rows: training rows of each, int64.
    """

    mean: npt.NDArray[np.float64]
    user_bias: npt.NDArray[np.float64]
    item_bias: npt.NDArray[np.float64]
    user_rows: IntArray
    item_rows: IntArray

    @classmethod
    def fit(cls, rows: Interactions, damping: float = 5.0) -> DampedBias:
        values: npt.NDArray[np.float64] = rows.values.astype(np.float64)
        mean = np.asarray(values.mean())
        user_rows = np.bincount(rows.users, minlength=rows.n_users)
        item_rows = np.bincount(rows.items, minlength=rows.n_items)
        item_bias = _damped(np.bincount(rows.items, values - mean, rows.n_items), item_rows, damping)
        residual = values - mean - item_bias[rows.items]
        user_bias = _damped(np.bincount(rows.users, residual, rows.n_users), user_rows, damping)
        return cls(mean, user_bias, item_bias, user_rows, item_rows)

    def predict(self, users: IntArray, items: IntArray) -> npt.NDArray[np.float64]:
        """Ratings of users and items of shapes that broadcast."""
        ratings: npt.NDArray[np.float64] = self.mean + self.user_bias[users] + self.item_bias[items]
        return ratings

    def knows(self, users: IntArray, items: IntArray) -> npt.NDArray[np.bool_]:
        """Whether both have a training row; shapes broadcast."""
        known: npt.NDArray[np.bool_] = (self.user_rows[users] > 0) & (self.item_rows[items] > 0)
        return known


def cosines(vectors: FloatArray, item: int) -> FloatArray:
    """(n, d) vectors -> (n,) cosine of each with row ``item``; 0 where either is zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, 1)
    # Summed row by row, not by BLAS: equal rows must have equal cosines to the last bit, wherever they stand.
    cosine: FloatArray = (unit * unit[item]).sum(axis=1)
    return cosine


def _damped(sums: npt.NDArray[Any], counts: IntArray, damping: float) -> npt.NDArray[np.float64]:
    """sums / (counts + damping), 0 where both the count and the damping are 0."""
    weights = counts + damping
    means: npt.NDArray[np.float64] = np.divide(sums, weights, out=np.zeros(len(sums)), where=weights > 0)
    return means


def _check_scores(scores: FloatArray, shape: tuple[int, ...], users: IntArray) -> None:
    if scores.shape != shape or scores.dtype not in (np.float32, np.float64):
        raise ValueError(f"scores must be float32 or float64 of shape {shape}, got {scores.dtype} {scores.shape}")
    with np.errstate(all="ignore"):
        if np.isfinite(scores.sum()):  # one pass without a mask: a sum is finite only if no addend is NaN or infinite
            return
    bad = ~np.isfinite(scores)
    if bad.any():
        first = users[np.flatnonzero(bad.any(axis=1) if bad.ndim == 2 else bad)[0]]
        raise NonFiniteScores(f"{bad.sum()} of {bad.size} scores are not finite, the first for user {first}")
