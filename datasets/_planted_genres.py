"""How ``planted-genres`` is drawn: tastes, items without repeats, ratings.

Each user u has a taste θ_u ~ Dirichlet(.3) over the genres, each genre g a distribution φ_g over its items, by
rank^-.8. An event draws a genre from θ_u, then an item from φ_g; an item that the user has already is no event. So the
next new item is i with a probability proportional to θ_ug φ_gi over the items that the user does not have: successive
sampling. Where repeats get in the way, the rest of a sequence comes from its equal in distribution, a race: each
remaining item gets an exponential waiting time of rate θ_ug φ_gi, and the order of arrival is the sequence (Efraimidis
and Spirakis 2006, "Weighted random sampling with a reservoir").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.synthetic_genres import GENRES
from datasets.types import Factors, Truth

Array = npt.NDArray[Any]

CONCENTRATION = 0.3
"""Of the Dirichlet distribution of tastes: most users like two or three genres."""
RANK_EXPONENT = -0.8
MEAN_RATING = 3.5
USER_SD, ITEM_SD = 0.4, 0.4
TASTE_SLOPE = 2.5
"""Rating points between a genre that a user never draws and one that the user always draws."""
DAY_S = 86_400
"""Seconds between two draws of a user, unless there are more users than that."""

TILE = 1 << 17
"""Draws at a time: what stays in a core's cache. It has no influence on what is drawn."""
# One random stream for each part: a user's taste does not change with the number of ratings.
_CATALOGUE, _TASTES, _EVENTS, _RACES, _BIASES, _NOISE = range(6)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A generated data set; users and items are indices of the whole universe.

    Attributes:
        users, items: (n_ratings,) int32, by user, then in order of drawing.
        ratings: (n_ratings,) float32.
        times: (n_ratings,) int64 seconds, distinct: a draw a day, so that the p-th of every user comes before the next
            of anybody.
        genres: (n_items,) unicode.
        truth: of all n_users and n_items.
    """

    users: Array
    items: Array
    ratings: Array
    times: Array
    genres: Array
    truth: Truth


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items by slot: genre by genre, the most popular first.

    Attributes:
        genres: (n_items,) int, ascending.
        weights: (n_items,) float64, φ: of each genre they add up to 1.
        items: (n_items,) int32, the item in each slot: neither genre nor rank can be told from it.
    """

    genres: Array
    weights: Array
    items: Array

    @property
    def n_genres(self) -> int:
        return int(self.genres[-1]) + 1


def generate(n_users: int, n_items: int, n_ratings: int, noise: float, seed: int, tile: int = TILE) -> Drawn:
    """Draw ``n_ratings`` ratings; see ``datasets.planted_genres.PlantedGenres`` for what is possible."""
    catalogue = make_catalogue(n_items, _stream(seed, _CATALOGUE))
    tastes = _stream(seed, _TASTES).dirichlet(np.full(catalogue.n_genres, CONCENTRATION), n_users)
    length = -(-n_ratings // n_users)  # rounded up: where the division leaves a rest, later users drop their last draw
    slots = draw_sequences(tastes, catalogue, length, _stream(seed, _EVENTS), _stream(seed, _RACES), tile)

    n_full = n_users - (n_users * length - n_ratings)
    users = _rows(np.broadcast_to(np.arange(n_users, dtype=np.int32)[:, None], slots.shape), n_full)
    times = _rows(np.arange(length) * max(DAY_S, n_users) + np.arange(n_users)[:, None], n_full)
    items = catalogue.items[_rows(slots, n_full)]
    truth = _truth(tastes, catalogue, noise, _stream(seed, _BIASES))
    ratings = _rate(users, items, truth, _stream(seed, _NOISE), tile)
    names = np.empty(n_items, dtype=f"U{max(map(len, GENRES))}")
    names[catalogue.items] = np.array(GENRES)[catalogue.genres]
    return Drawn(users, items, ratings, times, names, truth)


def make_catalogue(n_items: int, rng: np.random.Generator) -> Catalogue:
    """Genres of equal size (to one item), in each a weight of rank^-.8, and which item stands where."""
    genres = np.sort(np.arange(n_items) % len(GENRES))
    ranks = np.arange(n_items) - np.searchsorted(genres, genres) + 1
    weights = ranks**RANK_EXPONENT
    weights /= np.bincount(genres, weights)[genres]
    return Catalogue(genres, weights, rng.permutation(n_items).astype(np.int32))


def draw_sequences(
    tastes: Array,
    catalogue: Catalogue,
    length: int,
    events: np.random.Generator,
    races: np.random.Generator,
    tile: int = TILE,
) -> Array:
    """``length`` distinct slots for each user, in order of drawing.

    Args:
        tastes: (n_users, n_genres) float64, each row adds up to 1.
        events: each user takes as many values as any other, one user after the other.
        races: the same, of users alone who repeat themselves too often.

    Returns:
        (n_users, length) int32.
    """
    n_draws = length + length // 4 + 8  # at ML-20M's shape one user in two thousand needs more, by a race
    cumulated = catalogue.genres + _cumulated_within(catalogue)
    slots = np.empty((len(tastes), length), dtype=np.int32)
    for rows in _tiles(len(tastes), tile // n_draws):
        drawn = _draw_events(tastes[rows], cumulated, events.random((rows.stop - rows.start, n_draws)))
        slots[rows], counts = _without_repeats(drawn, len(catalogue.items), length)
        short = rows.start + np.flatnonzero(counts < length)
        for few in _tiles(len(short), tile // len(catalogue.items)):
            users = short[few]
            slots[users] = _finish_by_race(slots[users], counts[users - rows.start], tastes[users], catalogue, races)
    return slots


def _stream(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng([seed, part])


def _tiles(n: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _cumulated_within(catalogue: Catalogue) -> Array:
    """(n_items,) cumulated weights of each genre, the last one exactly 1."""
    total = np.cumsum(catalogue.weights)
    last = np.append(np.diff(catalogue.genres) > 0, True)
    before = np.append(0.0, total[last][:-1])[catalogue.genres]
    return np.where(last, 1.0, total - before)


def _draw_events(tastes: Array, cumulated: Array, uniform: Array) -> Array:
    """(b, n_draws) slots by inversion: where ``uniform`` falls among the genres, and how far into its genre."""
    upper = np.cumsum(tastes, axis=1)
    genres = np.zeros(uniform.shape, dtype=np.int8)
    for bound in upper[:, :-1].T:
        genres += uniform >= bound[:, None]
    genres = genres.astype(np.intp)
    lower = np.pad(upper[:, :-1], ((0, 0), (1, 0)))
    place = (uniform - np.take_along_axis(lower, genres, axis=1)) / np.take_along_axis(tastes, genres, axis=1)
    slots = np.searchsorted(cumulated, genres + place, side="right")
    return np.minimum(slots, len(cumulated) - 1)  # rounding may end at the very end


def _without_repeats(drawn: Array, n_items: int, length: int) -> tuple[Array, Array]:
    """The first ``length`` distinct slots of each row in order, and (b,) how many there are; what follows is void."""
    order_bits, slot_bits = (max(1, (size - 1).bit_length()) for size in (drawn.shape[1], n_items))
    narrow = order_bits + slot_bits < 31  # half the width sorts several times as fast
    dtype: Any = np.int32 if narrow else np.int64
    keys = (drawn.astype(dtype) << order_bits) | np.arange(drawn.shape[1], dtype=dtype)
    keys.sort(axis=1)
    slots, order = keys >> order_bits, keys & ((1 << order_bits) - 1)
    repeated = slots[:, 1:] == slots[:, :-1]
    keys = (order << slot_bits) | slots
    keys[:, 1:][repeated] = np.iinfo(dtype).max
    keys.sort(axis=1)
    counts = drawn.shape[1] - np.count_nonzero(repeated, axis=1)
    return keys[:, :length] & ((1 << slot_bits) - 1), counts


def _finish_by_race(
    slots: Array, counts: Array, tastes: Array, catalogue: Catalogue, rng: np.random.Generator
) -> Array:
    """(b, length) ``slots`` of which the first ``counts`` stand, filled up by exponential waiting times."""
    n_items, length = len(catalogue.items), slots.shape[1]
    waiting = rng.standard_exponential((len(slots), n_items)) / (tastes[:, catalogue.genres] * catalogue.weights)
    open_places = np.arange(length) >= counts[:, None]
    rows, places = np.nonzero(~open_places)
    waiting[rows, slots[rows, places]] = np.inf
    n_wanted = int(length - counts.min())
    first = np.argpartition(waiting, n_wanted - 1, axis=1)[:, :n_wanted]
    first = np.take_along_axis(first, np.argsort(np.take_along_axis(waiting, first, axis=1), axis=1), axis=1)
    rows, places = np.nonzero(open_places)
    slots[rows, places] = first[rows, places - counts[rows]]
    return slots


def _rows(table: Array, n_full: int) -> Array:
    """(n_users, length) one after the other; users from ``n_full`` on without their last column."""
    return np.concatenate((table[:n_full].ravel(), table[n_full:, :-1].ravel()))


def _truth(tastes: Array, catalogue: Catalogue, noise: float, rng: np.random.Generator) -> Truth:
    n_users, n_items, n_genres = len(tastes), len(catalogue.items), catalogue.n_genres
    genre_of_item, probability = np.zeros((2, n_items, n_genres), dtype=np.float32)
    genre_of_item[catalogue.items, catalogue.genres] = 1
    probability[catalogue.items, catalogue.genres] = catalogue.weights
    # The mean of θ_ug over a user's own draws, so that tastes do not move the mean rating.
    usual = (CONCENTRATION + 1) / (n_genres * CONCENTRATION + 1)
    liking = (TASTE_SLOPE * (tastes - usual)).astype(np.float32)
    user_bias = MEAN_RATING + USER_SD * rng.standard_normal(n_users, dtype=np.float32)
    item_bias = ITEM_SD * rng.standard_normal(n_items, dtype=np.float32)
    no_bias = (np.zeros(n_users, dtype=np.float32), np.zeros(n_items, dtype=np.float32))
    return Truth(
        ranking=Factors(tastes.astype(np.float32), probability, *no_bias),
        rating=Factors(liking, genre_of_item, user_bias, item_bias),
        noise=noise,
    )


def _rate(users: Array, items: Array, truth: Truth, rng: np.random.Generator, tile: int) -> Array:
    """(n,) float32: the noiseless value of each (user, item) and its noise."""
    factors = truth.rating
    of_genre = factors.user_factors + factors.user_bias[:, None]
    genre_of_item = factors.item_factors.argmax(axis=1)
    ratings = np.empty(len(users), dtype=np.float32)
    for rows in _tiles(len(users), tile):
        ratings[rows] = rng.standard_normal(rows.stop - rows.start, dtype=np.float32) * np.float32(truth.noise)
        ratings[rows] += of_genre[users[rows], genre_of_item[items[rows]]] + factors.item_bias[items[rows]]
    return ratings
