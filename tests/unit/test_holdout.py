"""Holdout from split to figures: by hand and on real MovieLens. Its canaries are in ``test_leave_one_out.py``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from scorers import ByScores

from datasets.errors import DataError, NotApplicableError, UserError
from datasets.movielens import MovieLensSmall
from datasets.types import Dataset, Interactions
from protocols.holdout import Holdout
from protocols.statistics import bootstrap_interval, pool
from protocols.types import Split


class Constant(ByScores):
    """The same rating for every pair."""

    def __init__(self, value: float) -> None:
        self.value = np.float32(value)

    def score(self, users: np.ndarray) -> np.ndarray:
        raise AssertionError("nothing is ranked")

    def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.full(len(users), self.value)


class PerItem(Constant):
    """The item's index as its rating."""

    def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return items.astype(np.float64)


def interactions(users: list[int], items: list[int], values: list[float], n_users: int, n_items: int) -> Interactions:
    columns = np.array(users, np.int32), np.array(items, np.int32), np.array(values, np.float32)
    return Interactions(*columns, None, n_users, n_items)


def hand_made(scale: tuple[float, float] | None = (1.0, 5.0)) -> Split:
    """Training rows for users 0, 1 and items 0, 1; test rows of users 1, 0, 2 and a cold item 3."""
    train = interactions([0, 1], [0, 1], [4, 2], 4, 5)
    valid = interactions([0], [1], [3], 4, 5)
    test = interactions([2, 0, 1, 0], [1, 4, 0, 2], [3, 1, 5, 2], 4, 5)
    return Split(train, valid, test, None, "by hand", rating_scale=scale)


def outcomes_of(split: Split, scorer: Constant) -> dict[str, np.ndarray]:
    protocol = Holdout()
    rows = [np.concatenate((getattr(split.train, n), getattr(split.valid, n))) for n in ("users", "items", "values")]
    seen = Interactions(*rows, None, split.train.n_users, split.train.n_items).matrix()
    return protocol.evaluate(scorer, protocol.question(split), protocol.labels(split), seen)


def test_question_and_labels_belong_together() -> None:
    protocol, split = Holdout(), hand_made()
    question = protocol.question(split)
    assert question.pair_users.tolist() == [0, 0, 1, 2]
    assert question.pair_items.tolist() == [2, 4, 0, 1]
    assert question.rank_users.tolist() == []
    assert protocol.labels(split)["values"].tolist() == [2, 1, 5, 3]


def test_sums_are_per_user_clipped_and_cold_rows_apart() -> None:
    outcomes = outcomes_of(hand_made(), PerItem(0))  # predicts 2 4 0 1, clipped 2 4 1 1
    assert outcomes["users"].tolist() == [0, 1, 2]
    assert outcomes["pair_scores"].tolist() == [2, 4, 0, 1]
    assert outcomes["n"].tolist() == [2, 1, 1]
    assert outcomes["sse"].tolist() == [9, 16, 4]
    assert outcomes["sae"].tolist() == [3, 4, 2]
    assert outcomes["sum_y"].tolist() == [3, 5, 3]
    assert outcomes["sum_y2"].tolist() == [5, 25, 9]
    assert outcomes["cold_n"].tolist() == [2, 0, 1]  # items 2 and 4, and user 2, have no training row
    figures = Holdout().metrics(outcomes)
    assert figures["rmse"] == pytest.approx(np.sqrt(29 / 4))
    assert figures["mae"] == pytest.approx(9 / 4)
    assert figures["r2"] == pytest.approx(1 - 29 / (39 - 11**2 / 4))
    assert figures["rmse/warm"] == pytest.approx(4)
    assert figures["rmse/cold"] == pytest.approx(np.sqrt(13 / 3))
    assert "r2/warm" not in figures  # one row has no variance


def with_both_cold() -> Split:
    """The same with a test row of user 3 and item 3, neither of which has a training row."""
    test = interactions([2, 0, 1, 0, 3], [1, 4, 0, 2, 3], [3, 1, 5, 2, 5], 4, 5)
    return replace(hand_made(), test=test)


def test_cold_users_and_cold_items_by_hand() -> None:
    outcomes = outcomes_of(with_both_cold(), PerItem(0))  # squared errors 4, 9, 16, 0, 4 in the order of test rows
    figures = Holdout().metrics(outcomes)
    assert figures["rmse/warm"] == pytest.approx(4)
    assert figures["rmse/cold"] == pytest.approx(np.sqrt(17 / 4))
    assert figures["rmse/cold-user"] == pytest.approx(np.sqrt((4 + 4) / 2))
    assert figures["rmse/cold-item"] == pytest.approx(np.sqrt((9 + 0 + 4) / 3))
    assert figures["rmse/cold-both"] == pytest.approx(2)
    assert figures["mae/cold-user"] == pytest.approx(2)
    assert figures["mae/cold-item"] == pytest.approx(5 / 3)
    assert figures["r2/cold-user"] == pytest.approx(1 - 8 / 2)
    assert figures["r2/cold-item"] == pytest.approx(1 - 13 / (30 - 8**2 / 3))
    n = {name: s.sums[:, 1].sum() for name, s in Holdout().per_user(outcomes).items()}
    for name in ("rmse", "r2", "mae"):
        by_slice = {
            suffix: n[name + suffix] for suffix in ("", "/warm", "/cold", "/cold-user", "/cold-item", "/cold-both")
        }
        assert by_slice == {"": 5, "/warm": 1, "/cold": 4, "/cold-user": 2, "/cold-item": 3, "/cold-both": 1}


def test_side_files_without_the_two_kinds_of_cold_have_the_other_figures() -> None:
    outcomes = outcomes_of(with_both_cold(), PerItem(0))
    old = {name: array for name, array in outcomes.items() if not name.startswith(("cold_user_", "cold_item_"))}
    new = Holdout().metrics(outcomes)
    kept = [name for name in new if not name.endswith(("/cold-user", "/cold-item", "/cold-both"))]
    assert Holdout().metrics(old) == {name: new[name] for name in kept}
    assert list(new)[: len(kept)] == kept, "new figures come after the others"


def test_folds_pool_cold_rows() -> None:
    """Two folds: user 2 is cold in the first and warm in the second, where its row with item 3 has a cold item."""
    first = hand_made()
    second = replace(
        first,
        train=interactions([0, 1, 2], [0, 1, 1], [4, 2, 3], 4, 5),
        test=interactions([2, 1], [3, 0], [4, 1], 4, 5),
    )
    folds = [Holdout().per_user(outcomes_of(split, PerItem(0))) for split in (first, second)]
    pooled = pool([fold["rmse/cold-item"] for fold in folds])
    assert pooled.users.tolist() == [0, 2]
    assert pooled.sums.tolist() == [[9, 2], [1, 1]]
    assert "rmse/cold-user" not in folds[1]


def test_without_a_scale_nothing_is_clipped() -> None:
    assert outcomes_of(hand_made(None), PerItem(0))["sse"].tolist() == [9, 25, 4]


def test_without_cold_rows_there_are_no_cold_figures() -> None:
    split = hand_made()
    warm = Split(split.train, split.valid, split.test.select(np.array([2])), None, "warm", rating_scale=(1.0, 5.0))
    assert set(Holdout().metrics(outcomes_of(warm, Constant(3)))) == {"rmse", "mae", "rmse/warm", "mae/warm"}


def test_a_prediction_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="4 of 4 pair scores are not finite"):
        outcomes_of(hand_made(), Constant(np.nan))


def test_paired_tests_see_squared_errors() -> None:
    per_user = Holdout().per_user(outcomes_of(hand_made(), PerItem(0)))
    assert per_user["rmse"].sums[:, 0].tolist() == per_user["r2"].sums[:, 0].tolist() == [9, 16, 4]
    assert per_user["mae"].sums[:, 0].tolist() == [3, 4, 2]
    assert per_user["rmse/cold"].users.tolist() == [0, 2]


@pytest.mark.parametrize(
    "options",
    [
        *({"folds": 1}, {"folds": -5}, {"folds": 5, "fold": 5}, {"fold": 1}, {"by": "user"}),
        *({"folds": 5, "by": "time"}, {"max_history": 0}, {"max_history": -1}),
    ],
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="holdout: "):
        Holdout.Config(**options)  # type: ignore[arg-type]


def test_too_few_rows_are_refused() -> None:
    rows = interactions([0, 0], [0, 1], [1, 2], 1, 2)
    dataset = Dataset("tiny", rows, np.arange(1), np.arange(2), None, "", "", "")
    with pytest.raises(DataError, match="'tiny' with 2 rows leaves no"):
        Holdout().split(dataset, 42)


def timed(times: np.ndarray | None, values: np.ndarray) -> Dataset:
    """Four users of ten rows each, in order of time."""
    n = len(values)
    columns = np.repeat(np.arange(4, dtype=np.int32), n // 4), np.tile(np.arange(n // 4, dtype=np.int32), 4)
    rows = Interactions(*columns, values.astype(np.float32), times, 4, n // 4)
    return Dataset("timed", rows, np.arange(4), np.arange(n // 4), (1.0, 5.0), "", "", "")


@pytest.mark.parametrize("by", ["random", "time"])
def test_only_the_latest_rows_are_trained_on(by: Literal["random", "time"]) -> None:
    dataset = timed(np.arange(40) * 7 % 40 // 2, 1.0 + np.arange(40) % 5)
    dataset = replace(dataset, interactions=in_order(dataset.interactions))
    whole = Holdout(Holdout.Config(by=by)).split(dataset, 42)
    short = Holdout(Holdout.Config(by=by, max_history=2)).split(dataset, 42)
    for user in range(4):
        kept, all_of_them = (split.train.select(split.train.users == user) for split in (short, whole))
        assert len(all_of_them) > 2, "the data must have something to leave out"
        assert kept.items.tolist() == all_of_them.items[-2:].tolist()
    for part in ("valid", "test"):
        np.testing.assert_array_equal(getattr(short, part).items, getattr(whole, part).items)
    assert short.fingerprint != whole.fingerprint
    assert len(short.for_validation().train) == 8
    assert "latest 2 rows of each user" in Holdout(Holdout.Config(max_history=2)).explain()


def in_order(rows: Interactions) -> Interactions:
    assert rows.times is not None
    return rows.select(np.lexsort((rows.items, rows.times, rows.users)))


def test_every_fold_keeps_the_latest_rows_of_its_own_train() -> None:
    dataset = timed(np.tile(np.arange(10), 4), 1.0 + np.arange(40) % 5)
    for part in Holdout(Holdout.Config(folds=5, max_history=3)).parts():
        assert part.config.max_history == 3
        assert np.bincount(part.split(dataset, 42).train.users).tolist() == [3, 3, 3, 3]


def test_latest_rows_need_times() -> None:
    timeless = timed(None, 1.0 + np.arange(40) % 5)
    Holdout().split(timeless, 42)
    with pytest.raises(NotApplicableError, match="has no times"):
        Holdout(Holdout.Config(max_history=5)).split(timeless, 42)


def test_where_all_values_are_the_same_there_is_nothing_to_predict() -> None:
    with pytest.raises(NotApplicableError, match=r"all values of 'timed' are 1, .* --protocol leave-one-out"):
        Holdout().split(timed(None, np.ones(40)), 42)
    Holdout().split(timed(None, np.append(np.ones(39), 2)), 42)


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def movielens_small(movielens: Path) -> Dataset:
    return MovieLensSmall().load(MovieLensSmall().locate())


def test_a_constant_on_movielens(movielens_small: Dataset) -> None:
    split = Holdout().split(movielens_small, 42)
    assert (len(split.test), len(split.valid), len(split.train)) == (20_167, 10_084, 70_585)
    mean = np.concatenate((split.train.values, split.valid.values)).mean()
    figures = Holdout().metrics(outcomes_of(split, Constant(float(mean))))
    assert figures["rmse"] == pytest.approx(1.0419, abs=1e-4)  # .8648 / √(1 - .311), the pair of the next test
    assert -0.001 <= figures["r2"] <= 0


def test_damped_means_on_movielens_give_the_published_figures(movielens_small: Dataset) -> None:
    """RMSE .8648 and R² .311 were measured elsewhere with these very draws, so the draws are the same."""
    split = Holdout().split(movielens_small, 42)
    users, items, values = (
        np.concatenate((getattr(split.train, n), getattr(split.valid, n))) for n in ("users", "items", "values")
    )
    mean = values.mean(dtype=np.float64)
    left = values - mean
    item_bias = np.bincount(items, left, split.train.n_items) / (np.bincount(items, minlength=split.train.n_items) + 5)
    left = left - item_bias[items]
    user_bias = np.bincount(users, left, split.train.n_users) / (np.bincount(users, minlength=split.train.n_users) + 5)

    class Bias(Constant):
        def score_pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
            return mean + user_bias[users] + item_bias[items]

    figures = Holdout().metrics(outcomes_of(split, Bias(0)))
    assert figures["rmse"] == pytest.approx(0.8648, abs=5e-5)
    assert figures["r2"] == pytest.approx(0.311, abs=5e-4)


def test_validation_rows_of_movielens(movielens_small: Dataset) -> None:
    view = Holdout().split(movielens_small, 42).for_validation()
    assert outcomes_of(view, Constant(3.5))["n"].sum() == 10_084
    assert view.rating_scale == (0.5, 5.0)


def test_folds_of_movielens_pool_to_the_whole(movielens_small: Dataset) -> None:
    parts = []
    for fold in range(5):
        protocol = Holdout(Holdout.Config(folds=5, fold=fold))
        parts.append(protocol.per_user(outcomes_of(protocol.split(movielens_small, 42), Constant(3.5)))["rmse"])
    pooled = pool(parts)
    assert pooled.sums[:, 1].sum() == 100_836
    values = movielens_small.interactions.values.astype(np.float64)
    assert bootstrap_interval(pooled, draws=50).mean == pytest.approx(np.sqrt(np.mean((values - 3.5) ** 2)))


def test_the_latest_fifth_of_movielens_is_mostly_cold(movielens_small: Dataset) -> None:
    split = Holdout(Holdout.Config(by="time")).split(movielens_small, 42)
    assert split.train.times.max() <= split.valid.times.min() <= split.valid.times.max() < split.test.times.min()
    assert abs(len(split.test) - 20_167) < 50
    assert len(split.valid) == pytest.approx((len(split.train) + len(split.valid)) / 8, abs=1)
    assert split.notes["cold_test_rows"] > len(split.test) / 2
