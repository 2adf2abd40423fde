"""Encoders are fitted on entities with a training row, and on these alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.features import encode
from datasets.types import Column


def categories(*texts: str) -> Column:
    return Column("categories", np.array(texts))


def test_no_columns_no_features() -> None:
    assert encode({}, np.ones(3, dtype=bool)) is None


def test_categories_are_multi_hot_over_the_training_vocabulary() -> None:
    features = encode(
        {"genres": categories("Drama|Comedy", "", "Horror", "Horror|Comedy")}, np.array([True, True, False, False])
    )
    assert features is not None
    assert features.names == ("genres=Comedy", "genres=Drama", "genres=missing")
    # Horror occurs on untrained entities only: alone it counts as missing, beside a known one it is dropped.
    assert features.matrix.toarray().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]
    assert features.matrix.dtype == np.float32 and features.matrix.format == "csr"


def test_a_category_is_one_value_even_with_a_bar_in_it() -> None:
    features = encode({"job": Column("category", np.array(["a|b", "c"]))}, np.ones(2, dtype=bool))
    assert features is not None
    assert features.names == ("job=a|b", "job=c", "job=missing")


def test_numbers_are_standardised_over_trained_entities() -> None:
    years = Column("number", np.array([1990.0, 2010.0, np.nan, 5000.0]))
    features = encode({"year": years}, np.array([True, True, True, False]))
    assert features is not None
    assert features.names == ("year", "year=missing")
    expected = [[-1, 0], [1, 0], [0, 1], [300, 0]]  # mean 2000, standard deviation 10, both without the 5000
    assert features.matrix.toarray().tolist() == expected


@pytest.mark.parametrize("values", [[7.0, 7.0], [np.nan, 1995.0]])
def test_a_number_without_spread_or_without_training_values_stays_small(values: list[float]) -> None:
    features = encode({"year": Column("number", np.array(values))}, np.array([True, False]))
    assert features is not None
    assert np.abs(features.matrix.toarray()).max() <= 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("fitted", "cold", "expected"),
    [
        ([0.0, 1e-60], 1e6, 1e9),  # 1e66 standard deviations away: beyond float32
        ([0.0, 1e-160], -1e300, -1e9),  # beyond float64
        ([7.0, 7.0], 1e308, 1e9),  # no spread to scale by
        ([0.0, 2.0], np.inf, 0.0),  # missing
    ],
)
def test_a_cold_number_far_out_is_clipped(fitted: list[float], cold: float, expected: float) -> None:
    years = Column("number", np.array([*fitted, cold]))
    features = encode({"year": years}, np.array([True, True, False]))
    assert features is not None
    scaled, missing = features.matrix.toarray().T
    assert scaled[2] == np.float32(expected) and missing[2] == np.isinf(cold)
    assert scaled[:2] == pytest.approx([0, 0] if fitted[0] == fitted[1] else [-1, 1], abs=1e-4)


@given(st.lists(st.tuples(st.floats(), st.booleans()), min_size=1, max_size=8))
def test_no_number_overflows(rows: list[tuple[float, bool]]) -> None:
    """Whatever floats a column holds: no warning, and features whose squares are finite."""
    years, trained = (np.array(column) for column in zip(*rows, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = encode({"year": Column("number", years)}, trained)
        assert features is not None
        assert np.isfinite(features.matrix.toarray() ** 2).all()


def test_columns_keep_their_order() -> None:
    columns = {"year": Column("number", np.array([1.0, 2.0])), "genres": categories("A", "B")}
    features = encode(columns, np.ones(2, dtype=bool))
    assert features is not None
    assert features.names == ("year", "year=missing", "genres=A", "genres=B", "genres=missing")
    assert features.matrix.shape == (2, 5)


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="'genres' has 1 rows, trained has 2"):
        encode({"genres": categories("A")}, np.ones(2, dtype=bool))


entities = st.lists(
    st.tuples(
        st.sampled_from(["", "A", "B", "A|B", "C|A"]), st.floats(-1e6, 1e6) | st.just(float("nan")), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.filterwarnings("error")
@given(entities, st.sampled_from(["Z", "A|Z", ""]), st.floats(-1e6, 1e6))
def test_what_untrained_entities_hold_never_changes_the_others(
    rows: list[tuple[str, float, bool]], genre: str, year: float
) -> None:
    trained = np.array([t for _, _, t in rows])

    def encoded(cold_genre: str | None, cold_year: float | None) -> tuple[tuple[str, ...], list[list[float]]]:
        genres = [g if t or cold_genre is None else cold_genre for g, _, t in rows]
        years = [y if t or cold_year is None else cold_year for _, y, t in rows]
        columns = {"genres": categories(*genres), "year": Column("number", np.array(years))}
        features = encode(columns, trained)
        assert features is not None
        return features.names, features.matrix.toarray()[trained].tolist()

    assert encoded(None, None) == encoded(genre, year)
