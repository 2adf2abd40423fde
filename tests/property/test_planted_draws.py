"""``planted-genres`` draws what its truth says: exact counts, the exact distribution, the planted variances."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from datasets._planted_genres import (
    CONCENTRATION,
    ITEM_SD,
    MEAN_RATING,
    TASTE_SLOPE,
    USER_SD,
    Catalogue,
    Drawn,
    draw_sequences,
    generate,
    make_catalogue,
)
from datasets.types import Factors

Array = npt.NDArray[Any]

LIKELY = 1e-4
"""No p-value below this: with fixed seeds a right generator passes always, a wrong one hardly ever."""


def scores(factors: Factors, users: Array, items: Array) -> Array:
    products = (factors.user_factors[users].astype(np.float64) * factors.item_factors[items]).sum(axis=1)
    return products + factors.user_bias[users] + factors.item_bias[items]


# --- counts ----------------------------------------------------------------------------------------------------------


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, int]:
    n_users, n_items = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    return {"n_users": n_users, "n_items": n_items, "n_ratings": draw(st.integers(1, n_users * n_items))}


@settings(max_examples=150, deadline=None)
@given(sizes(), st.integers(0, 5), st.integers(1, 200))
def test_counts_are_exact_and_items_distinct(size: dict[str, int], seed: int, tile: int) -> None:
    drawn = generate(**size, noise=0.5, seed=seed, tile=tile)
    each, rest = divmod(size["n_ratings"], size["n_users"])
    counts = np.bincount(drawn.users, minlength=size["n_users"])
    assert counts.tolist() == [each + (user < rest) for user in range(size["n_users"])]
    assert len(set(zip(drawn.users.tolist(), drawn.items.tolist(), strict=True))) == size["n_ratings"]
    assert drawn.items.min() >= 0 and drawn.items.max() < size["n_items"]
    assert len(np.unique(drawn.times)) == size["n_ratings"]
    assert np.isfinite(drawn.ratings).all()
    assert (drawn.users.dtype, drawn.items.dtype) == (np.int32, np.int32)
    assert (drawn.ratings.dtype, drawn.times.dtype) == (np.float32, np.int64)


@settings(max_examples=60, deadline=None)
@given(sizes(), st.integers(0, 5), st.integers(1, 200))
def test_the_size_of_a_tile_makes_no_difference(size: dict[str, int], seed: int, tile: int) -> None:
    same(generate(**size, noise=0.5, seed=seed), generate(**size, noise=0.5, seed=seed, tile=tile))


def same(one: Drawn, other: Drawn) -> None:
    for name in ("users", "items", "ratings", "times", "genres"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.truth.rating.item_bias, other.truth.rating.item_bias)


def test_a_seed_is_a_data_set() -> None:
    size = {"n_users": 50, "n_items": 60, "n_ratings": 500, "noise": 0.5}
    same(generate(**size, seed=1), generate(**size, seed=1))
    assert (generate(**size, seed=1).items != generate(**size, seed=2).items).any()


def test_times_are_the_order_of_drawing() -> None:
    drawn = generate(30, 20, 290, 0.5, 0)
    by_time = np.argsort(drawn.times)
    places = np.concatenate([np.arange(count) for count in np.bincount(drawn.users)])
    assert (np.diff(places[by_time]) >= 0).all(), "the p-th of every user before the next of anybody"
    assert (np.diff(drawn.times)[np.diff(drawn.users) == 0] > 0).all()


# --- distribution ----------------------------------------------------------------------------------------------------


def sequence_probabilities(weights: Array, length: int) -> tuple[Array, Array]:
    """Exact distributions of the first and the last of ``length`` items drawn one after the other, by enumeration."""
    first, last = np.zeros((2, len(weights)))
    for sequence in itertools.permutations(range(len(weights)), length):
        probability, left = 1.0, 1.0
        for item in sequence:
            probability *= weights[item] / left
            left -= weights[item]
        first[sequence[0]] += probability
        last[sequence[-1]] += probability
    return first, last


@pytest.mark.parametrize(
    ("taste", "length"),
    [
        ([0.5, 0.3, 0.2], 1),
        ([0.5, 0.3, 0.2], 4),
        ([0.98, 0.015, 0.005], 4),  # a genre of three items: hardly anybody gets far without the race
        ([0.2, 0.1, 0.7], 7),
    ],
)
def test_first_and_last_item_have_the_probabilities_of_drawing_without_replacement(
    taste: list[float], length: int
) -> None:
    n = 20_000
    weights = np.array([0.5, 0.3, 0.2, 0.6, 0.4, 0.9, 0.1])
    catalogue = Catalogue(np.array([0, 0, 0, 1, 1, 2, 2]), weights, np.arange(7, dtype=np.int32))
    tastes = np.tile(taste, (n, 1))
    events, races = np.random.default_rng(1), np.random.default_rng(2)
    slots = draw_sequences(tastes, catalogue, length, events, races)
    if taste[0] == 0.98:
        assert races.bit_generator.state != np.random.default_rng(2).bit_generator.state, "the race was used"
    expected = sequence_probabilities(np.array(taste)[catalogue.genres] * weights, length)
    for place, probabilities in zip((0, -1), expected, strict=True):
        seen = np.bincount(slots[:, place], minlength=7)
        assert stats.chisquare(seen, probabilities / probabilities.sum() * n).pvalue > LIKELY


def test_events_and_races_agree() -> None:
    """The last of 12 items of 30: nearly always by events, or with a taste that leaves it to the race."""
    catalogue = make_catalogue(30, np.random.default_rng(0))
    tastes = np.tile(np.r_[0.8, 0.19, np.full(7, 0.01 / 7)], (20_000, 1))
    short = draw_sequences(tastes, catalogue, 4, np.random.default_rng(1), np.random.default_rng(2))
    long = draw_sequences(tastes, catalogue, 12, np.random.default_rng(3), np.random.default_rng(4))
    for place in (0, 3):  # what is drawn later cannot matter
        table = np.array([np.bincount(each[:, place], minlength=30) for each in (short, long)])
        assert stats.chi2_contingency(table[:, table.sum(axis=0) > 20]).pvalue > LIKELY


def test_the_truth_is_the_probability_of_the_first_draw() -> None:
    n_users, n_items = 20_000, 40
    drawn = generate(n_users, n_items, n_users, 0.5, 3)
    ranking = drawn.truth.ranking
    probabilities = ranking.user_factors.astype(np.float64) @ ranking.item_factors.T
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    expected, variance = probabilities.sum(axis=0), (probabilities * (1 - probabilities)).sum(axis=0)
    z = (np.bincount(drawn.items, minlength=n_items) - expected) / np.sqrt(variance)
    assert np.abs(z).max() < 4.5
    own = scores(ranking, drawn.users, drawn.items)  # the user's own taste, not just what is popular
    mean, spread = (probabilities**2).sum(axis=1), (probabilities**3).sum(axis=1) - (probabilities**2).sum(axis=1) ** 2
    assert abs((own - mean).sum() / np.sqrt(spread.sum())) < 4.5


def test_tastes_and_popularity_are_as_planted() -> None:
    drawn = generate(5_000, 900, 5_000, 0.5, 0)
    tastes = drawn.truth.ranking.user_factors
    beta = stats.beta(CONCENTRATION, 8 * CONCENTRATION)  # the marginal of a Dirichlet distribution
    assert stats.kstest(tastes[:, 4], beta.cdf).pvalue > LIKELY
    weights = drawn.truth.ranking.item_factors
    assert (np.count_nonzero(weights, axis=1) == 1).all(), "one genre an item"
    for genre in weights.T:
        in_order = np.sort(genre[genre > 0])[::-1]
        np.testing.assert_allclose(in_order / in_order[0], np.arange(1, 101) ** -0.8, rtol=1e-5)
        assert in_order.sum() == pytest.approx(1, abs=1e-5)
    names = [set(drawn.genres[genre > 0]) for genre in weights.T]
    assert [len(name) for name in names] == [1] * 9 and len(set.union(*names)) == 9


def test_neither_genre_nor_rank_can_be_told_from_the_id() -> None:
    factors = generate(10, 9_000, 100, 0.5, 0).truth.ranking.item_factors
    ids = np.arange(9_000)
    assert abs(stats.spearmanr(ids, factors.argmax(axis=1)).statistic) < 0.05
    assert abs(stats.spearmanr(ids, factors.max(axis=1)).statistic) < 0.05


# --- ratings ---------------------------------------------------------------------------------------------------------


def test_ratings_are_the_noiseless_value_and_the_noise() -> None:
    drawn = generate(4_000, 500, 100_000, 0.7, 0)
    noise = drawn.ratings - scores(drawn.truth.rating, drawn.users, drawn.items)
    assert drawn.truth.noise == 0.7
    assert noise.std() == pytest.approx(0.7, rel=0.01)
    assert stats.kstest(noise / 0.7, "norm").pvalue > LIKELY
    for bias in (drawn.truth.rating.user_bias, drawn.truth.rating.item_bias):
        assert abs(stats.spearmanr(noise[: len(bias)], bias).statistic) < 0.15, "streams are separate"
    without = generate(4_000, 500, 100_000, 0.0, 0)
    np.testing.assert_array_equal(without.items, drawn.items)
    np.testing.assert_allclose(without.ratings, scores(drawn.truth.rating, drawn.users, drawn.items), rtol=0, atol=1e-5)


def test_every_part_of_a_rating_has_its_variance() -> None:
    drawn = generate(20_000, 9_000, 20_000, 0.8, 0)  # one rating each: every draw is a first draw
    rating = drawn.truth.rating
    assert rating.user_bias.mean() == pytest.approx(MEAN_RATING, abs=0.02)
    assert rating.user_bias.std() == pytest.approx(USER_SD, rel=0.03)
    assert rating.item_bias.std() == pytest.approx(ITEM_SD, rel=0.03)
    # Of the taste for a drawn genre, E Σ θ^(k+1), from the moments of the Dirichlet distribution.
    a, total = CONCENTRATION, 9 * CONCENTRATION
    mean = (a + 1) / (total + 1)
    square = (a + 1) * (a + 2) / ((total + 1) * (total + 2))
    taste = scores(rating, drawn.users, drawn.items) - rating.user_bias[drawn.users] - rating.item_bias[drawn.items]
    assert taste.mean() == pytest.approx(0, abs=0.02)
    assert taste.std() == pytest.approx(TASTE_SLOPE * np.sqrt(square - mean**2), rel=0.03)
