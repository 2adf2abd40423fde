"""``planted-genres`` as a data set: its truth in inner indices, its cache, its options on the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_records import record

from benchmarks import plan, records
from benchmarks.plan import OwnFileFlags
from benchmarks.split_store import load_truth, prepare, read_meta
from datasets.errors import UserError
from datasets.planted_genres import PlantedGenres
from datasets.registry import DatasetSpec, make_loader
from datasets.store import load_cached
from datasets.types import Dataset, Factors
from protocols.holdout import Holdout
from protocols.leave_one_out import LeaveOneOut

FACTORS = ("user_factors", "item_factors", "user_bias", "item_bias")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def choose(*names: str) -> list[DatasetSpec]:
    return plan.choose_datasets(names, OwnFileFlags())


def residuals(dataset: Dataset) -> np.ndarray:
    assert dataset.truth is not None
    rows, rating = dataset.interactions, dataset.truth.rating
    products = (rating.user_factors[rows.users] * rating.item_factors[rows.items]).sum(axis=1)
    return rows.values - products - rating.user_bias[rows.users] - rating.item_bias[rows.items]


# --- the data set ----------------------------------------------------------------------------------------------------


def test_the_truth_is_in_inner_indices_where_items_are_never_drawn() -> None:
    dataset = PlantedGenres(n_users=40, n_items=500, n_ratings=200, noise=0.0).load([])
    rows, truth = dataset.interactions, dataset.truth
    assert rows.n_items < 500 and dataset.notes["items_without_ratings"] == 500 - rows.n_items
    assert truth is not None and len(truth.ranking.item_factors) == rows.n_items
    assert np.abs(residuals(dataset)).max() < 1e-5
    names = dataset.item_columns["genres"].values
    by_genre = {
        (int(factors.argmax()), str(name)) for factors, name in zip(truth.ranking.item_factors, names, strict=True)
    }
    assert len(by_genre) == len({name for _, name in by_genre}) == len({genre for genre, _ in by_genre})


def test_the_truth_is_in_inner_indices_where_users_have_no_rating() -> None:
    dataset = PlantedGenres(n_users=40, n_items=10, n_ratings=15, noise=0.0).load([])
    assert dataset.interactions.n_users == 15
    assert np.abs(residuals(dataset)).max() < 1e-5


@pytest.mark.parametrize("options", [(1, 1, 1), (1, 3, 3), (2, 1, 2), (3, 20, 60)])
def test_tiny_ones_work(options: tuple[int, int, int]) -> None:
    dataset = PlantedGenres(*options).load([])
    assert len(dataset.interactions) == options[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_users": 0}, "n_users must be at least 1, got 0"),
        ({"n_items": 0}, "n_items must be at least 1, got 0"),
        ({"n_ratings": 0}, "n_ratings must be at least 1, got 0"),
        ({"noise": -0.1}, "noise must be at least 0, got -0.1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"n_users": 2, "n_items": 3, "n_ratings": 7}, "n_ratings must be at most n_users × n_items = 6, got 7"),
    ],
)
def test_the_impossible_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=f"^planted-genres.{message}$"):
        PlantedGenres(**options)


def test_factors_that_do_not_fit_are_refused() -> None:
    table, vector = np.zeros((3, 2), dtype=np.float32), np.zeros(3, dtype=np.float32)
    Factors(table, table, vector, vector)
    for wrong in ((table, table[:, :1], vector, vector), (table, table, vector[:2], vector)):
        with pytest.raises(ValueError, match="must be"):
            Factors(*wrong)
    with pytest.raises(ValueError, match="item_bias must be"):
        Factors(table, table, vector, vector.astype(np.float64))


def test_from_the_cache_it_is_the_same_with_its_truth(cache: Path) -> None:
    loader = PlantedGenres(n_users=40, n_items=50, n_ratings=200)
    fresh, cached = load_cached(loader, []), load_cached(loader, [])
    assert isinstance(cached.interactions.users.base, np.memmap), "it was read from the cache"
    assert fresh.fingerprint == cached.fingerprint and fresh.truth is not None and cached.truth is not None
    assert fresh.truth.noise == cached.truth.noise == 0.8
    for task in ("ranking", "rating"):
        for name in FACTORS:
            ours, theirs = (getattr(getattr(each.truth, task), name) for each in (fresh, cached))
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype and not ours.flags.writeable and not theirs.flags.writeable


def test_other_options_are_another_entry_of_the_cache(cache: Path) -> None:
    sizes = {"n_users": 40, "n_items": 50, "n_ratings": 200}
    fingerprints = {
        load_cached(PlantedGenres(**sizes, **more), []).fingerprint for more in ({}, {"seed": 1}, {"noise": 0.5})
    }
    assert len(fingerprints) == 3


@pytest.mark.parametrize("protocol", [LeaveOneOut(), Holdout(), Holdout(Holdout.Config(by="time"))])
def test_the_truth_lies_apart_from_all_that_models_see(protocol: LeaveOneOut | Holdout, tmp_path: Path) -> None:
    dataset = PlantedGenres(n_users=40, n_items=50, n_ratings=400).load([])
    without = dataclasses.replace(dataset, truth=None)
    for name, each in (("with", dataset), ("without", without)):
        prepare(tmp_path / name, each, protocol, 42)
    known = load_truth(tmp_path / "with")
    assert known is not None and known.noise == dataset.truth.noise
    meta = [read_meta(tmp_path / name) for name in ("with", "without")]
    shutil.rmtree(tmp_path / "with" / "truth")
    files = sorted(path.relative_to(tmp_path / "with") for path in (tmp_path / "with").rglob("*") if path.is_file())
    assert any(path.suffix == ".npy" for path in files)
    assert files == sorted(
        path.relative_to(tmp_path / "without") for path in (tmp_path / "without").rglob("*") if path.is_file()
    )
    assert [each.pop("truth") is None for each in meta] == [False, True] and meta[0] == meta[1]
    for path in files:
        if path.name != "meta.json":
            assert (tmp_path / "with" / path).read_bytes() == (tmp_path / "without" / path).read_bytes()


# --- options in brackets ---------------------------------------------------------------------------------------------


def test_the_name_says_what_is_not_the_default_in_the_order_of_declaration() -> None:
    (spec,) = choose("planted-genres[noise=0.5,n_users=100,seed=0]")
    assert spec.name == "planted-genres[n_users=100,noise=0.5]" and spec.truth
    loader = make_loader(spec.target, json.loads(json.dumps(dict(spec.options))))
    assert loader == PlantedGenres(n_users=100, noise=0.5)
    assert loader.options()["n_items"] == 1_000, "the key of the cache holds the defaults too"
    (small,) = choose("planted-genres[n_users=10,n_items=20,n_ratings=50]")
    assert make_loader(small.target, small.options).load([]).name == small.name


def test_one_data_set_said_in_two_ways_is_one() -> None:
    assert [spec.name for spec in choose("planted-genres", "planted-genres[n_users=2e3]")] == ["planted-genres"]
    assert [spec.name for spec in choose("planted-genres[seed=1]", "planted-genres")] == [
        "planted-genres[seed=1]",
        "planted-genres",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("planted-genres[n_user=5]", "unknown option of planted-genres 'n_user': did you mean 'n_users'"),
        ("planted-genres[n_users=some]", "planted-genres.n_users must be a whole number, got 'some'"),
        ("planted-genres[noise=0.5", "planted-genres[noise=0.5: expected name[option=value,…]"),
        ("planted-genres[]", "expected name[option=value,…]"),
        ("planted-genre[noise=0.5]", "unknown data set 'planted-genre': did you mean 'planted-genres'"),
        ("ml-100k[seed=1]", "ml-100k[seed=1]: ml-100k has no options: write --dataset ml-100k"),
        ("planted-genres[n_users=3]", "planted-genres.n_ratings must be at most n_users × n_items = 3000"),
    ],
)
def test_mistakes_in_brackets_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        choose(name)
    assert message in str(error.value)


def test_a_file_with_brackets_in_its_name_is_still_a_file(tmp_path: Path) -> None:
    path = tmp_path / "ratings[1].csv"
    path.write_text("user,item\na,b\n")
    (spec,) = choose(str(path))
    assert spec.options["path"] == str(path)


def test_records_in_folders_with_brackets_are_found(tmp_path: Path) -> None:
    path = records.record_path(tmp_path / "[a]", "planted-genres[n_users=10]", "holdout", "bias", "f" * 64)
    records.write(path, record("bias", "failed", dataset="planted-genres[n_users=10]", protocol="holdout"), None, None)
    leftover = path.with_suffix(".json.tmp-999999999")
    leftover.touch()
    found, damaged = records.read_all(tmp_path / "[a]")
    assert [each.path for each in found] == [path] and not damaged
    records.sweep_results(tmp_path / "[a]")
    assert not leftover.exists()
