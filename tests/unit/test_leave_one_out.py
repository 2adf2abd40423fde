"""Leave-one-out from split to figures: by hand, on the canaries' toy, and on real MovieLens."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scorers import ByScores

from datasets.errors import DataError, NotApplicableError, UserError
from datasets.movielens import MovieLensSmall
from datasets.top_k import PADDING
from datasets.types import Column, Dataset, Interactions
from protocols import conformance, registry, splits
from protocols.conformance import CANARIES
from protocols.leave_one_out import LeaveOneOut
from protocols.types import Arrays, EvaluationProtocol, Split


class Matrix(ByScores):
    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def score(self, users: np.ndarray) -> np.ndarray:
        return self.scores[users]

    def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return self.scores[users, items]


def fitted_rows(split: Split) -> Interactions:
    """Train ∪ valid."""
    train, valid = split.train, split.valid
    columns = (np.concatenate((getattr(train, name), getattr(valid, name))) for name in ("users", "items", "values"))
    return Interactions(*columns, None, train.n_users, train.n_items)


def evaluate(protocol: EvaluationProtocol, split: Split, scorer: object) -> Arrays:
    question, labels = protocol.question(split), protocol.labels(split)
    return protocol.evaluate(scorer, question, labels, fitted_rows(split).matrix())  # type: ignore[arg-type]


def small() -> Dataset:
    """Two users of 4 and 3 rows, one of 2; 12 items."""
    users, items = [0, 0, 0, 0, 1, 1, 1, 2, 2], [3, 1, 7, 2, 5, 0, 9, 4, 6]
    values, times = [5, 1, 4, 3, 2, 5, 4, 5, 5], [1, 2, 3, 4, 1, 2, 3, 1, 2]
    rows = Interactions(
        np.array(users, np.int32), np.array(items, np.int32), np.array(values, np.float32), np.array(times), 3, 12
    )
    return Dataset("small", rows, np.arange(3), np.arange(12), (1.0, 5.0), "", "", "")


# --- registry --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.PROTOCOLS)
def test_the_table_tells_what_the_class_does(name: str) -> None:
    entry = registry.spec(name)
    protocol = registry.load_class(entry)
    assert (entry.name, entry.task, entry.primary) == (name, protocol.task, protocol.primary)
    assert protocol.primary in protocol.columns.values()
    for field in fields(protocol.Config):
        assert "Annotated[" in str(field.type), "every option is declared with one line of meaning"


def test_unknown_and_taken_names_are_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'leave-one-out'"):
        registry.spec("leave-1-out")
    with pytest.raises(UserError, match="'holdout' is registered already"):
        registry.register(registry.spec("holdout"))


def test_the_registry_loads_no_numpy() -> None:
    code = "import sys, protocols.registry; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(registry.__file__).parents[1]).returncode == 0


# --- split and question ----------------------------------------------------------------------------------------------


def test_question_is_sorted_and_does_not_tell_the_positive() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=4))
    split = protocol.split(small(), 42)
    question, labels = protocol.question(split), protocol.labels(split)
    assert np.lexsort((question.pair_items, question.pair_users)).tolist() == list(range(10))
    assert question.pair_items[labels["positive_index"]].tolist() == [2, 9]
    assert question.rank_users.tolist() == labels["users"].tolist() == [0, 1]
    assert question.pair_users.dtype == question.pair_items.dtype == question.rank_users.dtype == np.int32


def test_positive_min_drops_low_rows_but_never_offers_them_as_test_negatives() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=20, positive_min=2))
    split = protocol.split(small(), 42)  # user 0's row with item 1 is rated 1
    assert (split.test.users.tolist(), split.test.items.tolist()) == ([0, 1], [2, 9])
    assert len(split.train) + len(split.valid) + len(split.test) == 8
    assert split.notes["rows_below_positive_min"] == 1
    assert split.candidates is not None and 1 not in split.candidates[0]
    assert split.notes["users_with_fewer_negatives"] == 2


def test_a_data_set_without_long_users_is_refused() -> None:
    dataset = small()
    short = replace(dataset, interactions=dataset.interactions.select(np.array([0, 1, 4, 5])))
    with pytest.raises(DataError, match="'small' has 3 positives"):
        LeaveOneOut().split(short, 42)


def test_only_the_latest_rows_are_trained_on() -> None:
    """Of user 0's items 3 1 7 2, in order of time, 2 is tested and 7 validated; user 2 trains only."""
    whole = LeaveOneOut(LeaveOneOut.Config(negatives=4)).split(small(), 42)
    short = LeaveOneOut(LeaveOneOut.Config(negatives=4, max_history=1)).split(small(), 42)
    assert whole.train.items.tolist() == [3, 1, 5, 4, 6]
    assert short.train.items.tolist() == [1, 5, 6]
    assert short.for_validation().train.items.tolist() == [1, 5, 6]
    assert (short.valid.items.tolist(), short.test.items.tolist()) == ([7, 0], [2, 9])
    np.testing.assert_array_equal(short.candidates, whole.candidates)
    np.testing.assert_array_equal(short.valid_candidates, whole.valid_candidates)
    assert short.fingerprint != whole.fingerprint


def test_an_item_may_be_cold_for_want_of_history() -> None:
    """The only other row of user 0's test item is user 1's oldest one."""
    rows = replace(small().interactions, items=np.array([3, 1, 7, 2, 2, 5, 0, 9, 4], np.int32))
    rows = replace(rows, users=np.array([0, 0, 0, 0, 1, 1, 1, 1, 2], np.int32), times=np.array([*range(8), 0]))
    dataset = replace(small(), interactions=rows)
    colds = [
        LeaveOneOut(LeaveOneOut.Config(negatives=4, max_history=k)).split(dataset, 42).notes["cold_test_items"]
        for k in (None, 2, 1)
    ]
    assert colds == [1, 1, 2]


def test_latest_rows_need_times() -> None:
    timeless = replace(small(), interactions=replace(small().interactions, times=None))
    LeaveOneOut().split(timeless, 42)
    with pytest.raises(NotApplicableError, match="has no times"):
        LeaveOneOut(LeaveOneOut.Config(max_history=5)).split(timeless, 42)


def test_the_table_says_how_long_histories_were() -> None:
    assert "latest 20 rows of each user" in LeaveOneOut(LeaveOneOut.Config(max_history=20)).explain()
    assert "rows of each user" not in LeaveOneOut().explain()


def test_a_large_catalogue_is_asked_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=4))
    split = protocol.split(small(), 42)
    question = protocol.question(split)
    assert question.sample_users.tolist() == question.rank_users.tolist() == [0, 1]
    monkeypatch.setattr(splits, "MOST_RANKED_PAIRS", 3 * 12 - 1)  # all users of the data, tested or not, × items
    monkeypatch.setattr(splits, "RANKED_SAMPLE", 1)
    question = protocol.question(split)
    assert question.rank_users.tolist() == [0, 1]
    assert len(question.sample_users) == 1 and question.sample_users[0] in (0, 1)
    monkeypatch.setattr(splits, "MOST_RANKED_PAIRS", 3 * 12)
    assert protocol.question(split).sample_users.tolist() == [0, 1]


@pytest.mark.parametrize("options", [{"held_out": "last"}, {"negatives": 0}, {"max_history": 0}, {"max_history": -1}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        LeaveOneOut.Config(**options)  # type: ignore[arg-type]


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_outcomes_by_hand() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=20))  # all free items: 8 and 9
    split = protocol.split(small(), 42)
    scores = np.tile(np.arange(12, dtype=np.float32), (3, 1))
    scores[1, [10, 11]] = 9
    outcomes = evaluate(protocol, split, Matrix(scores))
    assert outcomes["n_candidates"].tolist() == [9, 10]
    assert outcomes["n_better"].tolist() == [7, 0]  # user 0: positive 2; 4 5 6 8 9 10 11 are above, 0 below
    assert outcomes["n_tied"].tolist() == [0, 2]
    assert outcomes["positive_score"].tolist() == [2, 9]
    assert outcomes["pair_scores"].dtype == np.float32
    assert outcomes["n_better_full"].tolist() == [7, 0]  # only train ∪ valid is masked: 1 3 7, and 0 5
    assert outcomes["n_tied_full"].tolist() == [0, 2]
    assert outcomes["n_candidates_full"].tolist() == [9, 10]
    assert outcomes["top_items"][0].tolist() == [11, 10, 9, 8, 6, 5, 4, 2, 0, PADDING]
    assert outcomes["top_items"][1].tolist() == [9, 10, 11, 8, 7, 6, 4, 3, 2, 1]
    figures = protocol.metrics(outcomes)
    assert figures["mrr"] == pytest.approx((1 / 8 + (1 + 1 / 2 + 1 / 3) / 3) / 2)
    assert figures["hr@10"] == 1.0
    assert figures.pop("coverage@10") == 1.0  # no mean over users
    assert {name: s.combine(s.sums.sum(axis=0)) for name, s in protocol.per_user(outcomes).items()} == figures


def warm_and_cold() -> Dataset:
    """User 0 is tested on item 2, which nobody else rated, user 1 on item 3, of user 0's oldest row; 30 items."""
    rows = small().interactions
    items = np.array([3, 1, 7, 2, 5, 0, 3, 4, 6], np.int32)
    return replace(small(), interactions=replace(rows, items=items, n_items=30), item_ids=np.arange(30))


def items_by_number() -> Matrix:
    """Higher items score higher, but for user 1, whose test item is best."""
    scores = np.tile(np.arange(30.0), (3, 1))
    scores[1, 3] = 99
    return Matrix(scores)


def test_warm_and_cold_items_by_hand() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=40))
    outcomes = evaluate(protocol, protocol.split(warm_and_cold(), 42), items_by_number())
    assert outcomes["cold_item"].tolist() == [True, False]
    figures = protocol.metrics(outcomes)
    warm = {name: value for name, value in figures.items() if name.endswith("/warm")}
    assert warm == {"hr@10/warm": 1, "ndcg@10/warm": 1, "mrr/warm": 1, "hr@10/full/warm": 1}
    cold = {name: value for name, value in figures.items() if name.endswith("/cold-item")}
    behind = 27 - 2  # items 3 … 29 are above item 2, and user 0 rated two of them
    assert cold == {
        **{"hr@10/cold-item": 0, "ndcg@10/cold-item": 0, "hr@10/full/cold-item": 0},
        "mrr/cold-item": pytest.approx(1 / (behind + 1)),
    }
    assert figures["hr@10"] == 0.5 and list(figures)[:6] == [
        f"{name}{suffix}" for suffix in ("", "/full") for name in ("hr@10", "ndcg@10", "mrr")
    ]


def test_an_item_that_history_left_out_is_cold() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=40, max_history=1))
    split = protocol.split(warm_and_cold(), 42)
    assert evaluate(protocol, split, items_by_number())["cold_item"].tolist() == [True, True]
    assert split.notes["cold_test_items"] == 2


def test_slices_of_a_ranked_sample_are_of_its_users() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=40))
    split = protocol.split(warm_and_cold(), 42)
    question = replace(protocol.question(split), rank_users=np.array([1], np.int32))
    seen = fitted_rows(split).matrix()
    figures = protocol.metrics(protocol.evaluate(items_by_number(), question, protocol.labels(split), seen))
    assert figures["hr@10/full/warm"] == 1 and "hr@10/full/cold-item" not in figures
    assert figures["hr@10/cold-item"] == 0


def test_side_files_without_cold_items_have_the_other_figures() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=40))
    outcomes = evaluate(protocol, protocol.split(warm_and_cold(), 42), items_by_number())
    new = protocol.metrics(outcomes)
    old = protocol.metrics({name: array for name, array in outcomes.items() if name != "cold_item"})
    assert old == {name: value for name, value in new.items() if not name.endswith(("/warm", "/cold-item"))}


def test_column_one_counts_test_rows() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=40))
    per_user = protocol.per_user(evaluate(protocol, protocol.split(warm_and_cold(), 42), items_by_number()))
    n = {name: statistic.sums[:, 1].sum() for name, statistic in per_user.items()}
    assert n == {name: 1 if name.endswith(("/warm", "/cold-item")) else 2 for name in per_user}


def test_a_sample_of_users_may_be_ranked_and_none() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=4))
    split = protocol.split(small(), 42)
    scorer = Matrix(np.random.default_rng(0).random((3, 12)))
    question, labels, seen = protocol.question(split), protocol.labels(split), fitted_rows(split).matrix()
    every = protocol.evaluate(scorer, question, labels, seen)
    some = protocol.evaluate(scorer, replace(question, rank_users=np.array([1], np.int32)), labels, seen)
    assert some["users_full"].tolist() == [1] and some["n_better_full"][0] == every["n_better_full"][1]
    none = protocol.evaluate(scorer, replace(question, rank_users=np.empty(0, np.int32)), labels, seen)
    names = {"hr@10", "ndcg@10", "mrr"}
    assert set(protocol.metrics(none)) == names | {f"{name}/cold-item" for name in names}
    assert protocol.metrics(none)["mrr"] == protocol.metrics(every)["mrr"]


def test_lists_may_be_asked_for_alone() -> None:
    """Without pairs there is no figure of candidates; those of the catalogue, warm and cold, are what they were."""
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=40))
    split = protocol.split(warm_and_cold(), 42)
    question, labels, seen = protocol.question(split), protocol.labels(split), fitted_rows(split).matrix()
    every = protocol.evaluate(items_by_number(), question, labels, seen)
    lists = protocol.evaluate(items_by_number(), question.without_pairs(), labels, seen)
    assert all(len(lists[name]) == 0 for name in ("positive_score", "n_better", "n_tied", "n_candidates"))
    of_lists = {
        name: value for name, value in protocol.metrics(every).items() if "/full" in name or name.endswith("y@10")
    }
    of_lists["coverage@10"] = protocol.metrics(every)["coverage@10"]
    assert protocol.metrics(lists) == of_lists
    assert {"hr@10/full", "hr@10/full/warm", "hr@10/full/cold-item"} <= of_lists.keys()
    assert protocol.per_user(lists).keys() == of_lists.keys() - {"coverage@10"}


def test_validation_rows_are_evaluated_the_same_way() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=4))
    view = protocol.split(small(), 42).for_validation()
    outcomes = evaluate(protocol, view, Matrix(np.tile(np.arange(12.0), (3, 1))))
    assert outcomes["positive_score"].tolist() == [7, 0]


def test_the_stopwatch_runs_around_scoring_only() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=4))
    split = protocol.split(small(), 42)
    names, running = [], []

    @contextmanager
    def stopwatch(name: str) -> Iterator[None]:
        names.append(name)
        running.append(name)
        yield
        running.pop()

    class Watched(Matrix):
        def score(self, users: np.ndarray) -> np.ndarray:
            assert running == ["rank"]
            return super().score(users)

        def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
            assert running == ["pairs"]
            return super().score_pairs(users, items)

    seen = fitted_rows(split).matrix()
    protocol.evaluate(
        Watched(np.zeros((3, 12))), protocol.question(split), protocol.labels(split), seen, stopwatch=stopwatch
    )
    assert names == ["pairs", "rank", "rank"]  # scoring, then masking and top-k


def test_the_stopwatch_stands_while_scores_are_made_for_counting_alone() -> None:
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=4))
    split = protocol.split(small(), 42)
    running = []

    @contextmanager
    def stopwatch(name: str) -> Iterator[None]:
        running.append(name)
        yield
        running.pop()

    class Faster(Matrix):
        lists_from_scores = False

        def score(self, users: np.ndarray) -> np.ndarray:
            assert running == []
            return super().score(users)

        def recommend(self, users, k, exclude, scores=None):  # type: ignore[no-untyped-def]
            assert running == ["rank"] and scores is None
            return super().recommend(users, k, exclude, self.scores[users])

    seen, scores = fitted_rows(split).matrix(), np.random.default_rng(0).random((3, 12))
    question, labels = protocol.question(split), protocol.labels(split)
    faster = protocol.evaluate(Faster(scores), question, labels, seen, stopwatch=stopwatch)
    usual = protocol.evaluate(Matrix(scores), question, labels, seen)
    assert all(np.array_equal(faster[name], usual[name]) for name in usual)


# --- canaries --------------------------------------------------------------------------------------------------------


class Sung(ByScores):
    """A canary as a model that was fitted on ``train``."""

    def __init__(self, name: str, train: Interactions) -> None:
        self.canary, self.train = CANARIES[name], train

    def score(self, users: np.ndarray) -> np.ndarray:
        return self.canary.score(users, self.train)

    def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return self.canary.score_pairs(users, items, self.train)


def sing(name: str, split_seed: int = 42) -> dict[str, float]:
    protocol = registry.load_class(registry.spec(CANARIES[name].protocol))()
    split = protocol.split(conformance.toy(), split_seed)
    return protocol.metrics(evaluate(protocol, split, Sung(name, fitted_rows(split))))


@pytest.mark.parametrize("name", CANARIES)
def test_canaries_sing_as_expected(name: str) -> None:
    canary = CANARIES[name]
    if canary.failure:
        with pytest.raises(ValueError, match=canary.failure):
            sing(name)
        return
    for split_seed in range(40, 45):
        assert canary.mistakes(sing(name, split_seed)) == []


def test_the_toy_is_as_described() -> None:
    toy = conformance.toy()
    split = LeaveOneOut().split(toy, 42)
    assert split.notes["users_with_fewer_negatives"] == 0 and split.notes["users_without_test"] == 0
    assert np.bincount(toy.interactions.items, minlength=150).min() >= 1
    assert sorted(zip(conformance.training_rows().users, conformance.training_rows().items, strict=True)) == sorted(
        zip(fitted_rows(split).users, fitted_rows(split).items, strict=True)
    )
    assert (toy.interactions.times[np.isin(toy.interactions.items, [75])].astype(np.float32) == np.float32(1.5e9)).all()


def mistakes_with(name: str, split: Split, train: Interactions | None = None, seen: Interactions | None = None) -> str:
    protocol = LeaveOneOut()
    question, labels = protocol.question(split), protocol.labels(split)
    train, seen = (fitted_rows(split) if rows is None else rows for rows in (train, seen))
    outcomes = protocol.evaluate(Sung(name, train), question, labels, seen.matrix())
    return " ".join(CANARIES[name].mistakes(protocol.metrics(outcomes)))


def test_planted_defects_are_caught() -> None:
    split = LeaveOneOut().split(conformance.toy(), 42)
    assert split.candidates is not None
    whole = conformance.toy().interactions
    # The model was given test rows.
    assert "hr@10 is 1" in mistakes_with("train-memoriser", split, train=whole)
    assert "hr@10" in mistakes_with("popularity", split, train=whole)
    # Seen items are not masked.
    nothing = whole.select(np.empty(0, dtype=int))
    assert "hr@10/full" in mistakes_with("train-memoriser", split, seen=nothing)
    # Negatives from items that the user has seen.
    seen_negatives = split.candidates.copy()
    for row, user in enumerate(split.test.users):
        own = fitted_rows(split).items[fitted_rows(split).users == user][:2]
        seen_negatives[row, 1:3] = own
    assert "hr@10" in mistakes_with("train-memoriser", replace(split, candidates=seen_negatives))
    # Users whose item is cold are left out.
    warm = np.isin(split.test.items, fitted_rows(split).items)
    without_cold = replace(split, test=split.test.select(warm), candidates=split.candidates[warm])
    assert "hr@10 is 1" in mistakes_with("popularity", without_cold)
    # Times lost their precision: the larger of the last two item ids became the test item.
    coarse = replace(whole, times=whole.times.astype(np.float32).astype(np.int64))
    order = np.lexsort((coarse.items, coarse.times, coarse.users))
    moved = LeaveOneOut().split(replace(conformance.toy(), interactions=coarse.select(order)), 42)
    assert "hr@10" in mistakes_with("oracle", moved)


def test_a_positive_in_a_fixed_place_is_caught() -> None:
    """The request in the order of the candidates, positive in front, instead of sorted by item."""

    class Unsorted(LeaveOneOut):
        def question(self, split: Split):  # type: ignore[no-untyped-def]
            assert split.candidates is not None
            users = np.repeat(split.test.users, split.candidates.shape[1])
            return replace(super().question(split), pair_users=users, pair_items=split.candidates.ravel())

        def labels(self, split: Split) -> Arrays:
            return {**super().labels(split), "positive_index": np.arange(len(split.test)) * 100}

    split = LeaveOneOut().split(conformance.toy(), 42)
    figures = Unsorted().metrics(evaluate(Unsorted(), split, Sung("first-position", fitted_rows(split))))
    assert figures["hr@10"] == 1.0 and CANARIES["first-position"].mistakes(figures)


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def movielens_small(movielens: Path) -> Dataset:
    return MovieLensSmall().load(MovieLensSmall().locate())


def popularity_hit_rate(dataset: Dataset, held_out: str, split_seed: int = 42) -> tuple[float, Split]:
    protocol = LeaveOneOut(LeaveOneOut.Config(held_out=held_out))  # type: ignore[arg-type]
    split = protocol.split(dataset, split_seed)
    counts = np.bincount(fitted_rows(split).items, minlength=split.train.n_items).astype(np.float32)

    class Popularity(ByScores):
        def score(self, users: np.ndarray) -> np.ndarray:
            return np.broadcast_to(counts, (len(users), len(counts)))

        def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
            return counts[items]

    return protocol.metrics(evaluate(protocol, split, Popularity()))["hr@10"], split


def test_latest_items_of_movielens(movielens_small: Dataset) -> None:
    hit_rate, split = popularity_hit_rate(movielens_small, "latest")
    assert len(split.test) == len(split.valid) == 610
    assert split.notes["users_with_tied_latest"] == 94
    assert split.notes["cold_test_items"] == 23
    assert split.notes["users_with_fewer_negatives"] == 0
    assert 0.58 <= hit_rate <= 0.65


def test_random_items_of_movielens(movielens_small: Dataset) -> None:
    hit_rate, _ = popularity_hit_rate(movielens_small, "random")
    assert 0.69 <= hit_rate <= 0.75


def test_a_constant_scorer_on_movielens(movielens_small: Dataset) -> None:
    protocol = LeaveOneOut()
    split = protocol.split(movielens_small, 42)
    question = replace(protocol.question(split), rank_users=np.empty(0, np.int32))
    outcomes = protocol.evaluate(
        Matrix(np.zeros((610, split.train.n_items), np.float32)),
        question,
        protocol.labels(split),
        sparse.csr_matrix((610, split.train.n_items)),
    )
    assert protocol.metrics(outcomes)["hr@10"] == pytest.approx(0.10, abs=1e-12)


def test_genres_give_the_diversity_of_lists() -> None:
    genres = np.array(["A"] * 6 + ["B"] * 5 + [""])
    data = replace(small(), item_columns={"genres": Column("categories", genres)})
    protocol = LeaveOneOut(LeaveOneOut.Config(negatives=20))
    split = protocol.split(data, 42)
    outcomes = evaluate(protocol, split, Matrix(np.tile(np.arange(12.0), (3, 1))))
    # User 0's list is 11 10 9 8 6 5 4 2 0: item 11 has no genre, four items each have A and B.
    assert outcomes["diversity"][0] == pytest.approx(16 / 28)
    assert outcomes["listed_without_genres"].tolist() == [1, 1]
    figures = protocol.metrics(outcomes)
    assert figures["diversity@10"] == pytest.approx(outcomes["diversity"].mean())
    assert figures["diversity@10/left-out"] == 2
