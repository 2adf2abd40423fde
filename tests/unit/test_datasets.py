"""The data sets themselves: every fact that is known of them, and the registry that lists them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from datasets import registry
from datasets.errors import DataError, UserError
from datasets.movielens import MovieLens1M, MovieLens10M, MovieLens100K, MovieLensSmall, year_of
from datasets.synthetic_genres import SyntheticGenres
from datasets.types import Dataset


@pytest.fixture(scope="module")
def movielens_files() -> list[Path]:
    root = os.environ.get("RECGAUGE_DATA")
    if not root or not Path(root, "ml-latest-small").is_dir():
        pytest.skip("RECGAUGE_DATA does not hold ml-latest-small")
    return MovieLensSmall().locate()


@pytest.fixture(scope="module")
def movielens(movielens_files: list[Path]) -> Dataset:
    return MovieLensSmall().load(movielens_files)


@pytest.fixture(scope="module")
def synthetic() -> Dataset:
    return SyntheticGenres().load([])


# --- ml-latest-small ---------------------------------------------------------------------------------------------


def test_movielens_has_the_published_counts(movielens: Dataset) -> None:
    rows = movielens.interactions
    assert (len(rows), rows.n_users, rows.n_items) == (100_836, 610, 9_724)
    assert float(rows.values.mean(dtype=np.float64)) == pytest.approx(3.5016, abs=5e-5)
    assert float(rows.values.std(dtype=np.float64)) == pytest.approx(1.0425, abs=5e-5)
    assert movielens.rating_scale == (0.5, 5.0)
    assert movielens.notes == {
        "duplicate_rows": 0,
        "users_with_tied_latest_time": 94,
        "items_without_ratings": 18,
        "items_without_metadata": 0,
    }
    assert "Harper" in movielens.citation and "commercial" in movielens.licence


def test_movielens_rows_are_those_of_the_file_in_canonical_order(
    movielens: Dataset, movielens_files: list[Path]
) -> None:
    with movielens_files[0].open(encoding="utf-8", newline="") as file:
        raw = [
            (int(r["userId"]), int(r["timestamp"]), int(r["movieId"]), float(r["rating"])) for r in csv.DictReader(file)
        ]
    rows = movielens.interactions
    assert rows.times is not None
    ours = zip(
        movielens.user_ids[rows.users].tolist(),
        rows.times.tolist(),
        movielens.item_ids[rows.items].tolist(),
        rows.values.tolist(),
        strict=True,
    )
    assert list(ours) == sorted(raw)
    assert rows.times.dtype == np.int64


def test_movielens_metadata_belongs_to_its_items(movielens: Dataset, movielens_files: list[Path]) -> None:
    with movielens_files[1].open(encoding="utf-8", newline="") as file:
        raw = {int(r["movieId"]): (r["title"], r["genres"]) for r in csv.DictReader(file)}
    assert movielens.item_titles is not None
    genres, years = movielens.item_columns["genres"].values, movielens.item_columns["year"].values
    for index, item_id in enumerate(movielens.item_ids.tolist()):
        title, listed = raw[item_id]
        assert movielens.item_titles[index] == title
        assert genres[index] == ("" if listed == "(no genres listed)" else listed)
    assert years[movielens.item_ids.tolist().index(1)] == 1995
    assert int(np.isnan(years).sum()) == 13  # such as "Babylon 5"
    assert int((genres == "").sum()) == sum(raw[i][1] == "(no genres listed)" for i in movielens.item_ids.tolist())


def test_movielens_arrays_are_read_only(movielens: Dataset) -> None:
    rows = movielens.interactions
    arrays = [rows.users, rows.items, rows.values, rows.times, movielens.user_ids, movielens.item_ids]
    arrays += [movielens.item_titles, *(column.values for column in movielens.item_columns.values())]
    assert not any(array is None or array.flags.writeable for array in arrays)


def test_a_rating_outside_the_scale_is_refused_by_line(tmp_path: Path) -> None:
    ratings, movies = tmp_path / "ratings.csv", tmp_path / "movies.csv"
    ratings.write_text("userId,movieId,rating,timestamp\n1,1,4.0,5\n1,2,5.5,6\n")
    movies.write_text("movieId,title,genres\n1,A (1990),Drama\n2,B (1991),Drama\n")
    with pytest.raises(DataError, match=r"ratings\.csv:3: column 'rating' is '5\.5'; a number from 0\.5 to 5\.0"):
        MovieLensSmall().load([ratings, movies])


def test_a_movie_listed_twice_is_refused_by_line(tmp_path: Path) -> None:
    ratings, movies = tmp_path / "ratings.csv", tmp_path / "movies.csv"
    ratings.write_text("userId,movieId,rating,timestamp\n1,1,4.0,5\n")
    movies.write_text("movieId,title,genres\n1,A (1990),Drama\n2,B (1991),Drama\n1,A (1990),Comedy\n")
    with pytest.raises(DataError, match=r"movies\.csv:4: column 'movieId' is '1'; it was there before"):
        MovieLensSmall().load([ratings, movies])


@pytest.mark.parametrize(
    ("title", "year"),
    [
        ("Toy Story (1995)", 1995.0),
        ("Runaway Brain (1995) ", 1995.0),
        ("2001: A Space Odyssey (1968)", 1968.0),
        ("Babylon 5", float("nan")),
        ("Death Note: Desu nôto (2006–2007)", float("nan")),
        ("(500) Days of Summer", float("nan")),
    ],
)
def test_the_year_is_what_ends_the_title(title: str, year: float) -> None:
    assert year_of(title) == pytest.approx(year, nan_ok=True)


# --- the formats of the family --------------------------------------------------------------------------------------


def hundred_k(folder: Path) -> list[Path]:
    """Lines as ml-100k has them: tabs, ``|`` with 19 genre flags, latin-1, a title in quotes."""
    story, unknown = "0|0|0|1|1|1" + "|0" * 13, "1" + "|0" * 18
    items = (
        f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|{story}\n"
        f'2|"Misérables", Les (1995)|01-Jan-1995||http://us.imdb.com|{unknown}\n'
        f"267|unknown||||{unknown}\n"
    )
    (folder / "u.data").write_text("196\t1\t3\t881250949\n186\t2\t5\t891717742\n196\t267\t1\t881250949\n")
    (folder / "u.item").write_bytes(items.encode("latin-1"))
    (folder / "u.user").write_bytes("186|24|M|technician|85711\n196|53|F|other|94043\n".encode("latin-1"))
    return [folder / name for name in ("u.data", "u.item", "u.user")]


def test_ml_100k_is_read(tmp_path: Path) -> None:
    dataset = MovieLens100K().load(hundred_k(tmp_path))
    assert dataset.rating_scale == (1.0, 5.0)
    assert dataset.user_ids.tolist() == [186, 196] and dataset.item_ids.tolist() == [1, 2, 267]
    assert dataset.interactions.values.tolist() == [5.0, 3.0, 1.0]
    assert dataset.interactions.times is not None
    assert dataset.interactions.times.tolist() == [891717742, 881250949, 881250949]
    assert dataset.item_titles is not None
    assert dataset.item_titles.tolist() == ["Toy Story (1995)", '"Misérables", Les (1995)', "unknown"]
    assert dataset.item_columns["genres"].values.tolist() == ["Animation|Children's|Comedy", "", ""]
    np.testing.assert_array_equal(dataset.item_columns["year"].values, [1995.0, 1995.0, np.nan])
    assert {name: column.values.tolist() for name, column in dataset.user_columns.items()} == {
        "age": [24.0, 53.0],
        "gender": ["M", "F"],
        "occupation": ["technician", "other"],
    }


def test_ml_1m_is_read(tmp_path: Path) -> None:
    ratings, movies, users = (tmp_path / name for name in ("ratings.dat", "movies.dat", "users.dat"))
    ratings.write_text("1::1193::5::978300760\n2::661::3::978302109\n")
    text = '661::"Great Performances" Cats (1998)::Musical\n1193::Mission: Impossible, L\'été (1996)::Action|Drama\n'
    movies.write_bytes(text.encode("latin-1"))
    users.write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    dataset = MovieLens1M().load([ratings, movies, users])
    assert dataset.item_titles is not None
    assert dataset.item_titles.tolist() == ['"Great Performances" Cats (1998)', "Mission: Impossible, L'été (1996)"]
    assert dataset.item_columns["genres"].values.tolist() == ["Musical", "Action|Drama"]
    assert dataset.user_columns["age"].values.tolist() == [1.0, 56.0]
    assert dataset.user_columns["occupation"].values.tolist() == ["10", "16"]
    assert dataset.rating_scale == (1.0, 5.0)

    ratings.write_text("1::1193::5::978300760\n2::661::0.5::978302109\n")
    with pytest.raises(DataError, match=r"ratings\.dat:2: column 'rating' is '0\.5'; a number from 1\.0 to 5\.0"):
        MovieLens1M().load([ratings, movies, users])


def test_ml_10m_is_read(tmp_path: Path) -> None:
    ratings, movies = tmp_path / "ratings.dat", tmp_path / "movies.dat"
    ratings.write_text("1::122::5::838985046\n2::185::0.5::838983525\n")
    movies.write_text("122::Boomerang (1992)::(no genres listed)\n185::Amélie: Net (2001)::Action\n", encoding="utf-8")
    dataset = MovieLens10M().load([ratings, movies])
    assert dataset.interactions.values.tolist() == [5.0, 0.5]
    assert dataset.item_titles is not None and dataset.item_titles.tolist()[1] == "Amélie: Net (2001)"
    assert dataset.item_columns["genres"].values.tolist() == ["", "Action"]
    assert dataset.user_columns == {}


@pytest.mark.parametrize("bad", ["1::122::5", "1::122::5::6::7", "1::122::five::6", "::122::5::6", "1:122:5:6"])
def test_a_bad_line_between_double_colons_is_named(tmp_path: Path, bad: str) -> None:
    ratings = tmp_path / "ratings.dat"
    ratings.write_text(f"1::122::5::838985046\n{bad}\n2::185::0.5::838983525\n")
    with pytest.raises(DataError, match=r"ratings\.dat:2: "):
        MovieLens10M().load([ratings, tmp_path / "movies.dat"])


def test_the_archive_of_ml_10m_may_lie_as_it_was_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECGAUGE_DATA", str(tmp_path))
    (tmp_path / "ml-10M100K").mkdir()
    for name in ("ratings.dat", "movies.dat"):
        (tmp_path / "ml-10M100K" / name).touch()
    assert MovieLens10M().locate()[0] == tmp_path / "ml-10M100K" / "ratings.dat"


# --- synthetic-genres --------------------------------------------------------------------------------------------


def test_synthetic_has_the_printed_rows(synthetic: Dataset) -> None:
    rows = synthetic.interactions
    assert (len(rows), rows.n_users, rows.n_items) == (34_953, 10_000, 1_000)
    assert rows.times is None
    assert synthetic.rating_scale == (1.0, 9.0)
    triples = set(zip(rows.users.tolist(), rows.items.tolist(), rows.values.tolist(), strict=True))
    assert {t for t in triples if t[0] == 0} == {(0, 521, 2.0), (0, 941, 8.0), (0, 741, 2.0)}
    assert {(1, 986, 5.0), (1, 275, 5.0)} <= triples
    # Uniform on 1..9: mean 5, standard deviation 2.582.
    assert float(rows.values.std()) == pytest.approx(2.582, abs=0.03)
    assert synthetic.user_ids.tolist() == list(range(10_000))
    assert synthetic.item_ids.tolist() == list(range(1_000))


def test_synthetic_draws_come_in_the_printed_order() -> None:
    from datasets.synthetic_genres import generate

    users, items, ratings, _ = generate()
    first = list(zip(users.tolist(), items.tolist(), ratings.tolist(), strict=True))[:5]
    assert first == [(0, 521, 2), (0, 941, 8), (0, 741, 2), (1, 986, 5), (1, 275, 5)]


def test_synthetic_genres_are_the_printed_ones(synthetic: Dataset) -> None:
    genres = synthetic.item_columns["genres"].values.tolist()
    assert genres[:3] == ["Romance|Action", "Mystery", "Drama|Western"]
    like_99 = [item for item in range(1_000) if set(genres[item].split("|")) == {"Romance", "Action"}]
    assert like_99 == [0, 91, 99, 174, 179, 211, 352, 392, 399, 512, 588, 618, 737, 744, 813, 858]


def test_synthetic_leaves_the_global_state_alone() -> None:
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    SyntheticGenres().load([])
    assert np.random.rand() == expected


# --- both --------------------------------------------------------------------------------------------------------


def test_fingerprints_are_stable(movielens: Dataset, synthetic: Dataset) -> None:
    """A change here makes every record of these data sets stale: raise the format number in ``fingerprint``."""
    assert synthetic.fingerprint == "08240c0a7cbc6933e4ea31f4b97a43a7fb375a845a4964b66f603f304a92853c"
    assert movielens.fingerprint == "0df372fc6ced3e5ca1828b51f909da009e3e4515f4db01f62f5ea57e9f980ef6"


# --- registry ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(registry.DATASETS))
def test_every_spec_loads_a_loader(name: str) -> None:
    from datasets.loader import Loader

    spec = registry.spec(name)
    assert spec.name == name
    assert isinstance(registry.make_loader(spec.target, spec.options), Loader)
    assert all("\n" not in text and text for text in (spec.summary, spec.licence))


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown data set 'ml-latest-smal': did you mean 'ml-latest-small'"):
        registry.spec("ml-latest-smal")


def test_a_plugin_adds_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "DATASETS", dict(registry.DATASETS))
    module = types.ModuleType("a_plugin_of_mine")
    module.Mine = SyntheticGenres  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_plugin_of_mine", module)
    spec = registry.DatasetSpec("mine", "a_plugin_of_mine:Mine", "my own", "mine", fetchable=False)

    registry.register(spec)
    registry.register(spec)  # the same file given twice
    assert isinstance(registry.make_loader(registry.spec("mine").target, {}), SyntheticGenres)
    with pytest.raises(UserError, match="'synthetic-genres' is already registered"):
        registry.register(registry.DatasetSpec("synthetic-genres", "a:B", "other", "mine", fetchable=False))


def _modules_after(code: str) -> set[str]:
    listing = f"{code}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_registry_imports_the_standard_library_only() -> None:
    loaded = {name.partition(".")[0] for name in _modules_after("import datasets.registry")}
    ours = {"datasets"}
    bare = {name.partition(".")[0] for name in _modules_after("")}
    assert loaded - bare - ours <= sys.stdlib_module_names


def test_finding_files_needs_no_numpy(tmp_path: Path) -> None:
    for spec in registry.DATASETS.values():
        loader = registry.make_loader(spec.target, spec.options)
        (tmp_path / spec.name).mkdir()
        for name in getattr(loader, "files", ()):
            (tmp_path / spec.name / name).touch()
    code = f"""
import os; os.environ["RECGAUGE_DATA"] = {str(tmp_path)!r}
from datasets import registry
for spec in registry.DATASETS.values():
    registry.make_loader(spec.target, spec.options).locate()
"""
    assert not {"numpy", "scipy", "pyarrow", "pandas"} & _modules_after(code)
