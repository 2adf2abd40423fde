"""Leave-one-out: rank each user's held-out item, among 99 sampled items and in the full catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from scipy import sparse

from datasets.errors import DataError, UserError
from datasets.features import encode
from datasets.top_k import PADDING
from datasets.types import Dataset, Interactions
from protocols import metrics
from protocols.negatives import draw_negatives, pair_keys
from protocols.outcomes import FLAG, INTEGER, REAL, Expected, check, check_users
from protocols.splits import (
    Division,
    Stream,
    fingerprint,
    generator,
    keep_latest,
    known,
    leave_latest_out,
    leave_random_out,
    sample_of_users,
)
from protocols.types import (
    MAX_HISTORY,
    Arrays,
    EvaluationProtocol,
    Question,
    Scorer,
    Split,
    Stopwatch,
    UserStatistic,
    check_max_history,
    explain_max_history,
    no_stopwatch,
)

K = metrics.TOP_K
ROUNDING = 1e-9

UserValues = dict[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]]
"""Metric -> (u,) users and the value of each."""

_SLICED = (f"hr@{K}", f"ndcg@{K}", "mrr", f"hr@{K}/full")
"""Metrics that are also told apart for warm and cold held-out items."""


class LeaveOneOut(EvaluationProtocol):
    """HR@10, NDCG@10 and MRR of one held-out item a user (He et al. 2017), with ties as expectations.

    Test is the user's last row in canonical order, validation the one before it; users with fewer than 3 rows train
    only. With ``positive_min``, rows below it are in no part of the split, but never become test negatives.
    """

    task = "ranking"
    primary = f"hr@{K}"
    objective = f"ndcg@{K}"
    higher_is_better = True
    columns = {"HR@10": "hr@10", "NDCG": "ndcg@10", "HR full": "hr@10/full"}
    baseline = "popularity"
    slices = {"warm": "/warm", "cold item": "/cold-item"}
    slice_columns = {"HR@10": "hr@10"}
    slices_note = (
        "Warm: held-out items that have training rows; cold item: held-out items that have none. Every test user has "
        "training rows. An algorithm that uses no metadata knows nothing of a cold item."
    )

    @dataclass(frozen=True)
    class Config:
        held_out: Annotated[Literal["latest", "random"], "which row of a user is the test item"] = "latest"
        negatives: Annotated[int, "sampled items that each test item is ranked against"] = 99
        positive_min: Annotated[float | None, "lowest rating that counts as a positive; every rating when none"] = None
        max_history: Annotated[int | None, MAX_HISTORY] = None

        def __post_init__(self) -> None:
            check_max_history("leave-one-out", self.max_history)
            if self.held_out not in ("latest", "random"):
                raise UserError(f"leave-one-out: held_out must be 'latest' or 'random', got '{self.held_out}'")
            if self.negatives < 1:
                raise UserError(f"leave-one-out: negatives must be at least 1, got {self.negatives}")

    def explain(self) -> str:
        which = "latest" if self.config.held_out == "latest" else "randomly chosen"
        rated = "" if self.config.positive_min is None else f" rated {self.config.positive_min:g} or more"
        return (
            f"HR@{K}, NDCG@{K}: each user's {which} item{rated} ranked among {self.config.negatives} items that "
            "the user never rated (ties: expected value over random orders). HR full: ranked among all items not seen "
            f"in training.{explain_max_history(self.config.max_history)}"
        )

    def split(self, dataset: Dataset, split_seed: int) -> Split:
        """Divide ``dataset`` and draw candidates.

        Test negatives come from items that the user never rated anywhere; validation negatives from items outside
        train ∪ valid, so that their absence tells nothing about the test item.

        Raises:
            DataError: no user has 3 positives.
        """
        rated = dataset.interactions
        positive = np.ones(len(rated), dtype=bool)
        if self.config.positive_min is not None:
            positive = rated.values >= self.config.positive_min
        division = self._divide(rated, positive, split_seed)
        kept = rated.select(positive)
        train, valid, test = (kept.select(mask) for mask in (division.train, division.valid, division.test))
        if not len(test):
            raise DataError(
                f"leave-one-out: no user of '{dataset.name}' has 3 positives: use another data set or protocol"
            )

        candidates = self._candidates(test, (rated,), split_seed, Stream.TEST_NEGATIVES)
        valid_candidates = self._candidates(valid, (train, valid), split_seed, Stream.VALID_NEGATIVES)
        if self.config.max_history is not None:
            train = keep_latest(train, self.config.max_history)
        notes = {
            "rows_below_positive_min": int(np.count_nonzero(~positive)),
            "users_without_test": rated.n_users - len(test),
            "users_with_fewer_negatives": int((candidates == PADDING).any(axis=1).sum()),
            "users_with_fewer_valid_negatives": int((valid_candidates == PADDING).any(axis=1).sum()),
            "users_with_tied_latest": _tied_latest(kept),
            "cold_test_items": int(np.count_nonzero(~np.isin(test.items, np.concatenate((train.items, valid.items))))),
        }
        identity = fingerprint(train, valid, test, candidates, valid_candidates, dataset.user_ids, dataset.item_ids)
        return Split(
            train, valid, test, candidates, identity, valid_candidates, dataset.rating_scale, notes, _genres(dataset)
        )

    def question(self, split: Split) -> Question:
        """All candidates sorted by (user, item), and the test users' full catalogue."""
        users, items, _ = _flatten(split)
        ranked = split.test.users.astype(np.int32, copy=False)
        return Question(users, items, ranked, sample_of_users(ranked, split.test.n_users * split.test.n_items))

    def labels(self, split: Split) -> Arrays:
        """What the harness counts with.

        Returns:
            ``users`` (m,) and ``positive_items`` (m,) int32, ``positive_index`` (m,) int64: places among the pairs;
            with genres ``genre_indptr`` (n_items + 1,) and ``genre_indices``.
        """
        _, _, positive_index = _flatten(split)
        labels: Arrays = {
            "users": split.test.users,
            "positive_items": split.test.items,
            "positive_index": positive_index,
        }
        if split.genres is not None:
            labels |= {"genre_indptr": split.genres.indptr, "genre_indices": split.genres.indices}
        return labels

    def evaluate(
        self,
        scorer: Scorer,
        question: Question,
        labels: Arrays,
        seen: sparse.csr_matrix,
        stopwatch: Stopwatch = no_stopwatch,
    ) -> Arrays:
        """Per-user counts.

        Returns:
            On the candidates, for each of m test users: ``users``, ``positive_score``, ``n_better``, ``n_tied``,
            ``n_candidates``, ``cold_item`` (bool: the held-out item has no training row); ``pair_scores`` (p,) as
            scored. For each of ``question.rank_users`` (all test users, or a
            sample): ``users_full``, ``positive_score_full``, ``n_better_full``, ``n_tied_full``, ``n_candidates_full``
            ``top_items`` (·, 10), ``novelty`` and, with genres, ``diversity`` (float64, NaN for a list that has none)
            and ``listed_without_genres``. ``n_items`` (1,). Integers are int32, scores keep the scorer's dtype.
            Where the question has no pairs, ``positive_score`` to ``n_candidates`` are empty.

        Raises:
            ValueError: a score is not finite.
        """
        scores = metrics.score_pairs(scorer, question.pair_users, question.pair_items, stopwatch)
        starts = metrics.group_starts(question.pair_users)
        positive_index = labels["positive_index"].astype(np.int64)[: None if len(scores) else 0]
        better, tied = metrics.count_better_and_tied(scores, starts, positive_index)

        ranked = question.rank_users
        positives = labels["positive_items"].astype(np.int32)[np.searchsorted(labels["users"], ranked)]
        full = metrics.rank_catalogue(scorer, ranked, positives, seen, K, stopwatch)
        counts = np.bincount(seen.indices, minlength=seen.shape[1])
        outcomes: Arrays = {
            "users": labels["users"],
            "positive_score": scores[positive_index],
            "n_better": better,
            "n_tied": tied,
            "n_candidates": np.diff(starts, append=len(scores)).astype(np.int32),
            "cold_item": ~known(seen)[1][labels["positive_items"].astype(np.int32)],
            "pair_scores": scores,
            "users_full": ranked,
            "positive_score_full": full.positive_score,
            "n_better_full": full.n_better,
            "n_tied_full": full.n_tied,
            "n_candidates_full": full.n_candidates,
            "top_items": full.top_items,
            "novelty": metrics.novelty(full.top_items, counts, seen.shape[0]),
            "n_items": np.array([seen.shape[1]], dtype=np.int32),
        }
        if "genre_indptr" in labels:
            genres = _genre_matrix(labels)
            without = np.append(np.diff(genres.indptr) == 0, False)  # the appended entry is what PADDING points to
            outcomes["diversity"] = metrics.intra_list_diversity(full.top_items, genres)
            outcomes["listed_without_genres"] = without[full.top_items].sum(axis=1, dtype=np.int32)
        return outcomes

    def check_outcomes(self, outcomes: Arrays, n_users: int, n_items: int) -> None:
        """Counts that can be counts, of users that can be users: see ``evaluate``. Where there are no pairs, or no
        lists, their arrays are empty."""
        users, ranked = check_users("users", outcomes, n_users), check_users("users_full", outcomes, n_users)
        if not users:
            raise ValueError("no test user")
        if not np.isin(outcomes["users_full"], outcomes["users"]).all():
            raise ValueError("array users_full names a user who is not in users")
        asked = users if outcomes.get("n_better", outcomes["users"]).size else 0
        sampled = min(n_items, self.config.negatives + 1)
        check(outcomes, users, {"cold_item": Expected(FLAG, 0, 1)}, optional=["cold_item"])
        check(outcomes, 1, {"n_items": Expected(INTEGER, n_items, n_items)})
        _check_counts(outcomes, asked, "", sampled)
        _check_counts(outcomes, ranked, "_full", n_items)
        check(outcomes, ranked, {"top_items": Expected(INTEGER, PADDING, n_items - 1, columns=K), **_OF_LISTS})
        check(outcomes, ranked, _OF_GENRES, optional=_OF_GENRES)

    def metrics(self, outcomes: Arrays) -> dict[str, float]:
        """Means over users of ``hr@10``, ``ndcg@10``, ``mrr``; where the catalogue was ranked the same with ``/full``,
        ``coverage@10``, ``novelty@10`` and ``diversity@10`` of its lists, and how many listed items had no genre.

        Over users whose held-out item has training rows (``/warm``) or none (``/cold-item``): the figures on the
        candidates, and ``hr@10/full``.
        """
        figures = {name: float(np.mean(values)) for name, (_, values) in _user_values(outcomes).items()}
        if len(outcomes["top_items"]):
            figures[f"coverage@{K}"] = metrics.coverage(
                outcomes["top_items"].astype(np.int32), int(outcomes["n_items"][0])
            )
        if "listed_without_genres" in outcomes:
            figures[f"diversity@{K}/left-out"] = float(outcomes["listed_without_genres"].sum())
        return figures

    def per_user(self, outcomes: Arrays) -> dict[str, UserStatistic]:
        """For the same names but coverage, which is no mean over users: sums (value, 1) of each user."""
        return {
            name: UserStatistic(users, np.column_stack((values, np.ones(len(values)))), _mean)
            for name, (users, values) in _user_values(outcomes).items()
        }

    def _divide(self, rated: Interactions, positive: npt.NDArray[np.bool_], split_seed: int) -> Division:
        """Masks over the positive rows. The draws are over all canonical rows, whatever ``positive_min``."""
        users = rated.users[positive]
        if self.config.held_out == "latest" and rated.times is not None:
            return leave_latest_out(users)
        draws = generator(split_seed, Stream.LEAVE_ONE_OUT_ITEM).random(len(rated))
        return leave_random_out(users, draws[positive])

    def _candidates(
        self, held_out: Interactions, excluded: tuple[Interactions, ...], split_seed: int, stream: Stream
    ) -> npt.NDArray[np.int32]:
        """(m, 1 + negatives): the positive, then its negatives."""
        keys, rng = pair_keys(*excluded), generator(split_seed, stream)
        drawn = draw_negatives(keys, held_out.users, held_out.n_items, self.config.negatives, rng)
        return np.column_stack((held_out.items, drawn))


def _tied_latest(rows: Interactions) -> int:
    """Users whose latest time is shared by two rows or more, so that the item id decides."""
    if rows.times is None or len(rows) < 2:
        return 0
    last = np.append(rows.users[1:] != rows.users[:-1], True)
    last[0] = False  # a first row has no row before it
    rows_last = np.flatnonzero(last)
    same_user = rows.users[rows_last - 1] == rows.users[rows_last]
    return int(np.count_nonzero(same_user & (rows.times[rows_last - 1] == rows.times[rows_last])))


def _flatten(split: Split) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Users and items of all candidates sorted by (user, item), and each positive's place among them."""
    if split.candidates is None:
        raise ValueError("leave-one-out needs candidates")
    n_items = split.test.n_items
    rows = np.sort(np.where(split.candidates == PADDING, n_items, split.candidates), axis=1)
    real = rows < n_items
    sizes = real.sum(axis=1)
    place = (rows < split.test.items[:, None]).sum(axis=1)
    return (
        np.repeat(split.test.users, sizes),
        rows[real].astype(np.int32),
        np.cumsum(sizes) - sizes + place,
    )


_OF_LISTS = {"novelty": Expected(REAL, -ROUNDING, 64, nan=True)}
_OF_GENRES = {
    "diversity": Expected(REAL, -ROUNDING, 1 + ROUNDING, nan=True),
    "listed_without_genres": Expected(INTEGER, 0, K),
}


def _check_counts(outcomes: Arrays, length: int, suffix: str, n_candidates: int) -> None:
    """Fewer candidates are better than the positive or tied with it than there are: it is one of them."""
    any_score = float(np.finfo(np.float64).max)
    expected = {"positive_score": Expected(REAL, -any_score, any_score)}
    expected |= dict.fromkeys(("n_better", "n_tied"), Expected(INTEGER, 0, n_candidates))
    expected["n_candidates"] = Expected(INTEGER, 1, n_candidates)
    check(outcomes, length, {f"{name}{suffix}": wanted for name, wanted in expected.items()})
    better, tied, of = (outcomes[f"{name}{suffix}"].astype(np.int64) for name in ("n_better", "n_tied", "n_candidates"))
    if (better + tied >= of).any():
        raise ValueError(f"arrays n_better{suffix} and n_tied{suffix} count as many candidates as there are, or more")


def _user_values(outcomes: Arrays) -> UserValues:
    """Metric name -> users and their values; what was not asked, candidates or catalogue, has no metric."""
    values = {}
    for suffix in ("", "/full"):
        tail = suffix.replace("/", "_")
        users = outcomes[f"users{tail}"].astype(np.int32)
        better, tied = (outcomes[f"{name}{tail}"].astype(np.int64) for name in ("n_better", "n_tied"))
        if len(better):
            values[f"hr@{K}{suffix}"] = (users, metrics.hit_rate(better, tied, K))
            values[f"ndcg@{K}{suffix}"] = (users, metrics.ndcg(better, tied, K))
            values[f"mrr{suffix}"] = (users, metrics.reciprocal_rank(better, tied))
    for name in ("novelty", "diversity"):
        defined = np.isfinite(outcomes[name]) if name in outcomes else np.zeros(0, dtype=bool)
        if defined.any():
            values[f"{name}@{K}"] = (
                outcomes["users_full"][defined].astype(np.int32),
                outcomes[name][defined].astype(np.float64),
            )
    return values | _slices(values, outcomes)


def _slices(values: UserValues, outcomes: Arrays) -> UserValues:
    """The figures over warm and cold held-out items; none from side files that do not know which were cold."""
    if "cold_item" not in outcomes:
        return {}
    cold_users = outcomes["users"][outcomes["cold_item"].astype(bool)]
    slices = {}
    for name in _SLICED:
        users, of_users = values.get(name, (np.empty(0, np.int32), np.empty(0)))
        cold = np.isin(users, cold_users)
        for suffix, some in (("/warm", ~cold), ("/cold-item", cold)):
            if some.any():
                slices[f"{name}{suffix}"] = (users[some], of_users[some])
    return slices


def _genres(dataset: Dataset) -> sparse.csr_matrix | None:
    """(n_items, g) 0/1 matrix of the column ``genres``; an item without genres has an empty row."""
    column = dataset.item_columns.get("genres")
    if column is None:
        return None
    features = encode({"genres": column}, np.ones(len(column.values), dtype=bool))
    assert features is not None
    return features.matrix[:, :-1].tocsr()  # the last column is "missing"


def _genre_matrix(labels: Arrays) -> sparse.csr_matrix:
    indptr, indices = labels["genre_indptr"], labels["genre_indices"].astype(np.int32)
    shape = (len(indptr) - 1, int(indices.max(initial=-1)) + 1)
    return sparse.csr_matrix((np.ones(len(indices)), indices, indptr), shape=shape)


def _mean(totals: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return totals[..., 0] / totals[..., 1]
