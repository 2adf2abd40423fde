"""``Split`` and what an evaluation asks of a fitted model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt
from scipy import sparse

from datasets.errors import UserError
from datasets.types import Dataset, FloatArray, IntArray, Interactions


@dataclass(frozen=True, eq=False)
class Split:
    """One data set divided, with the candidates to rank.

    Attributes:
        train, valid, test: disjoint rows in the same universe.
        candidates: (m, 1 + c) int32 or None; row i belongs to ``test.users[i]``, column 0 is the positive and
            ``PADDING`` fills rows with fewer than c free items. The positive's place never leaves the harness: models
            see pairs sorted by (user, item).
        fingerprint: sha256 over pairs, candidates and id maps.
        genres: (n_items, g) CSR of 0 and 1, for the diversity of lists, or None.
        valid_candidates: the same for ``valid``.
        rating_scale: the data set's (lowest, highest), to which predicted ratings are clipped, or None.
        notes: counts worth telling (users without a test row, users with fewer negatives, cold test rows).
    """

    train: Interactions
    valid: Interactions
    test: Interactions
    candidates: npt.NDArray[np.int32] | None
    fingerprint: str
    valid_candidates: npt.NDArray[np.int32] | None = None
    rating_scale: tuple[float, float] | None = None
    notes: dict[str, int] = field(default_factory=dict)
    genres: sparse.csr_matrix | None = None

    def for_validation(self) -> Split:
        """Train and valid alone, with the validation rows in the place of the test rows."""
        nothing = self.valid.select(np.zeros(len(self.valid), dtype=bool))
        return replace(self, valid=nothing, test=self.valid, candidates=self.valid_candidates, valid_candidates=None)


class Scorer(Interface):
    """What an evaluation needs of a model. Higher is better; scores are finite or the call raises."""

    @property
    def lists_from_scores(self) -> bool:
        """Whether ``recommend`` makes its lists of the scores of the whole catalogue: who has them hands them over."""
        ...

    def score(self, users: IntArray) -> FloatArray:
        """(b,) users -> (b, n_items) scores."""
        ...

    def score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        """(p,) users and (p,) items -> (p,) scores."""
        ...

    def recommend(
        self, users: IntArray, k: int, exclude: sparse.csr_matrix, scores: FloatArray | None = None
    ) -> npt.NDArray[np.int32]:
        """(b,) users -> (b, k) items by (-score, index) without the stored entries of (n_users, n_items) ``exclude``.

        ``PADDING`` where fewer are left; ``scores`` is what ``score(users)`` gave.
        """
        ...


@dataclass(frozen=True, eq=False)
class Question:
    """What a fitted model is asked, without any label.

    Attributes:
        pair_users, pair_items: (p,) int32, sorted by (user, item); none where only lists are asked for.
        rank_users: (m,) int32 ascending users whose full catalogue is ranked; empty where nothing is ranked.
        sample_users: (s,) int32, those of them that a model without factors ranks, since ranking costs it too much.
    """

    pair_users: npt.NDArray[np.int32]
    pair_items: npt.NDArray[np.int32]
    rank_users: npt.NDArray[np.int32]
    sample_users: npt.NDArray[np.int32]

    def for_users(self, rank_users: npt.NDArray[np.int32]) -> Question:
        """The same pairs, with the catalogue of these users only."""
        return replace(self, rank_users=rank_users)

    def without_pairs(self) -> Question:
        """The catalogue of the same users, and no pair."""
        nobody = np.empty(0, dtype=np.int32)
        return replace(self, pair_users=nobody, pair_items=nobody)


Arrays = dict[str, npt.NDArray[np.generic]]
"""Named arrays: labels on the way into the harness, per-user outcomes on the way out (the record's side file)."""

Stopwatch = Callable[[str], AbstractContextManager[None]]
"""``with stopwatch("pairs"): ...`` adds the block's wall seconds to that name."""


def no_stopwatch(name: str) -> AbstractContextManager[None]:
    """A stopwatch that measures nothing."""
    return nullcontext()


MAX_HISTORY = "latest rows of each user that stay in train; all when none"
"""The meaning of the option ``max_history``, which every protocol with training histories has."""


def check_max_history(protocol: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UserError(f"{protocol}: max_history must be at least 1, got {value}")


def explain_max_history(value: int | None) -> str:
    """What the sentence under a table adds."""
    return "" if value is None else f" Trained on the latest {value} rows of each user."


class EvaluationProtocol(ABC):
    """How a data set is divided, what a model is asked, and what its answers are worth.

    The harness calls ``split``, ``question`` and ``labels`` in the process that prepares the data, ``evaluate`` in the
    worker, and ``metrics`` and ``per_user`` wherever figures are made of outcomes.
    """

    task: ClassVar[str]
    primary: ClassVar[str]
    objective: ClassVar[str]
    """The metric that early stopping and tuning look at, on validation rows; better in the direction of ``primary``."""
    higher_is_better: ClassVar[bool]
    columns: ClassVar[dict[str, str]]
    """Table header -> metric, in the order in which tables print them."""
    baseline: ClassVar[str]
    """The algorithm whose default row is the start of the way to the oracle, on data whose best score is known."""
    slices: ClassVar[dict[str, str]]
    """Table header -> suffix of the metrics over the warm and the cold test rows alone."""
    slice_columns: ClassVar[dict[str, str]]
    """Table header -> metric that tables print for each slice, the primary one first."""
    slices_note: ClassVar[str]
    """What warm and cold mean, and what a model can know of a cold row."""

    @dataclass(frozen=True)
    class Config:
        """Options of the protocol; they are part of every cell's key."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = config if config is not None else self.Config()

    @abstractmethod
    def explain(self) -> str:
        """One or two sentences under every table: what the figures are."""

    def parts(self) -> Sequence[EvaluationProtocol]:
        """The splits that make one result together, such as the folds of k-fold; usually just this one."""
        return [self]

    @abstractmethod
    def split(self, dataset: Dataset, split_seed: int) -> Split:
        """Divide ``dataset``; the same ``split_seed`` gives the same split everywhere."""

    @abstractmethod
    def question(self, split: Split) -> Question:
        """What to ask about the test rows, unlabelled and in an order that tells nothing."""

    @abstractmethod
    def labels(self, split: Split) -> Arrays:
        """What only harness code may know, aligned with ``question``."""

    @abstractmethod
    def evaluate(
        self,
        scorer: Scorer,
        question: Question,
        labels: Arrays,
        seen: sparse.csr_matrix,
        stopwatch: Stopwatch = no_stopwatch,
    ) -> Arrays:
        """Ask ``scorer`` and reduce its answers to per-user outcomes.

        ``seen`` (n_users, n_items) marks train ∪ valid. Stopwatch names: ``pairs`` for scoring pairs, ``rank`` for
        making full-catalogue lists, scores and masking included; counting and labels stay outside.
        """

    def check_outcomes(self, outcomes: Arrays, n_users: int, n_items: int) -> None:  # noqa: B027
        """Refuse outcomes of which ``metrics`` and ``per_user`` would make nonsense; they may come from any file.

        ``n_users``, ``n_items``: of the data set. A protocol that does not say what it expects takes everything.

        Raises:
            ValueError: an array is missing or cannot be; the message names it.
        """

    @abstractmethod
    def metrics(self, outcomes: Arrays) -> dict[str, float]:
        """Every figure of the protocol from one cell's outcomes."""

    @abstractmethod
    def per_user(self, outcomes: Arrays) -> dict[str, UserStatistic]:
        """For each metric with an interval, what the bootstrap over users needs."""


@dataclass(frozen=True, eq=False)
class UserStatistic:
    """A metric as ``combine`` of sums over users, so that one bootstrap serves means, RMSE and R² alike.

    Attributes:
        users: (u,) int32 ascending.
        sums: (u, s) float64 per-user sufficient sums; paired tests compare users by column 0 (a hit, a squared error),
            column 1 is the number of test rows.
        combine: (..., s) totals over (resampled) users -> (...) values of the metric.
    """

    users: npt.NDArray[np.int32]
    sums: npt.NDArray[np.float64]
    combine: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
