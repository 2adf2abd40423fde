"""Tables from records written as the harness writes them, with outcomes whose figures are known by hand."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import HOLDOUT, errors, hits, record
from threadpoolctl import threadpool_limits

from benchmarks import compare
from benchmarks import leaderboard as boards
from benchmarks.environment import digest
from benchmarks.records import Record, read_all, write
from benchmarks.render import render
from datasets.errors import UserError

FORMATS = ("terminal", "markdown", "csv", "json")


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Record]:
    """Writes one record; ``outcomes`` None is a failed cell."""

    def put(algorithm: str, outcomes: dict[str, np.ndarray] | None, **changes: Any) -> Record:
        status = changes.pop("status", "failed" if outcomes is None else "ok")
        data = record(algorithm, status, **changes)
        side = None
        if outcomes is not None:
            side = tmp_path / "side.npz"
            np.savez(side, **outcomes)
        return write(
            tmp_path / "toy" / data["protocol"]["name"] / algorithm / f"{data['key'][:32]}.json", data, side, None
        )

    return put


def one_table(records: list[Record], folder: Path) -> boards.Table:
    (table,) = boards.build(records, folder)
    return table


def strict_rows(tables: list[boards.Table]) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    rows: list[dict[str, Any]] = json.loads(render(tables, {}, "json"), parse_constant=refuse)
    return rows


# --- order and groups ------------------------------------------------------------------------------------------------


def test_rows_that_cannot_be_told_apart_are_one_group(put: Callable[..., Record], tmp_path: Path) -> None:
    near = [1] * 30 + [0] * 10
    table = one_table(
        [
            put("far", hits(*[0] * 40)),
            put("near", hits(*near)),
            put("best", hits(*[1] * 31 + [0] * 9)),
            put("broken", None),
        ],
        tmp_path,
    )
    assert [(row["algorithm"], row["rank"], row["group"]) for row in table.rows] == [
        ("best", 1, 1),
        ("near", 2, 1),
        ("far", 3, 2),
        ("broken", None, None),
    ]
    assert len(table.evidence.p) == 3
    assert table.evidence.p["1", "3"] == pytest.approx(3 / 10_001), "the smallest p of 10,000 draws, times three pairs"
    assert table.evidence.p["1", "2"] == 1.0 and table.evidence.p["2", "3"] < 0.001
    text = render([table], {}, "terminal")
    assert "broken: failed: it broke" in text and "Holm over 3 pairs" in " ".join(text.split())


def test_smaller_errors_come_first(put: Callable[..., Record], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.random(40)
    records = [
        put(name, errors(list(noise + extra), [2] * 40), protocol="holdout", config=HOLDOUT)
        for name, extra in (("bad", 3.0), ("good", 0.0))
    ]
    table = one_table(records, tmp_path)
    assert [(row["algorithm"], row["group"]) for row in table.rows] == [("good", 1), ("bad", 2)]
    assert table.rows[0]["metrics"]["rmse"]["mean"] == pytest.approx(np.sqrt(noise.sum() / 80))
    assert table.evidence.rank_agreement is None


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("names", [("ok",), ("broken",), ("ok", "broken"), ("ok", "other"), ("broken", "stuck")])
def test_small_tables_print_in_every_format(
    put: Callable[..., Record], tmp_path: Path, names: tuple[str, ...], form: str
) -> None:
    fails = {"broken": "failed", "stuck": "timeout"}
    records = [put(name, None if name in fails else hits(1, 0, 1), status=fails.get(name, "ok")) for name in names]
    text = render(boards.build(records, tmp_path), {}, form)
    assert all(name in text for name in names)
    assert "nan" not in text.lower()
    assert ("Minimum detectable difference" in text) == ("other" in names and form in ("terminal", "markdown"))


def test_what_is_undefined_is_null(put: Callable[..., Record], tmp_path: Path) -> None:
    """R² of a single cold row has no value, and neither has the interval of a figure that no resample defines."""
    outcomes = errors([1.0, 2.0], [1, 2])
    outcomes |= {f"cold_{name}": outcomes[name] * [1, 0] for name in ("n", "sse", "sae")}
    outcomes |= {"cold_sum_y": np.array([3.0, 0]), "cold_sum_y2": np.array([9.0, 0])}
    rows = strict_rows(boards.build([put("only", outcomes, protocol="holdout", config=HOLDOUT)], tmp_path))
    assert rows[0]["metrics"]["r2/cold"] == {"mean": None, "low": None, "high": None, "n": 1}
    assert rows[0]["table"]["minimum_detectable_difference"] is None
    assert rows[0]["spread"] is None and rows[0]["not_measured"]["spread"]


# --- seeds, folds, figures without users -----------------------------------------------------------------------------


def test_spread_is_the_deviation_over_seeds(put: Callable[..., Record], tmp_path: Path) -> None:
    of_seed = [(1, 1, 1, 0), (1, 1, 0, 0), (1, 0, 0, 0)]
    records = [put("a", hits(*row), seed=seed) for seed, row in enumerate(of_seed)]
    (row,) = one_table(records, tmp_path).rows
    assert row["spread"] == pytest.approx(0.25)
    assert row["metrics"]["hr@10"]["mean"] == pytest.approx(0.5)
    assert row["seeds"] == [0, 1, 2] and "spread" not in row["not_measured"]


def test_folds_are_one_row_of_pooled_errors(put: Callable[..., Record], tmp_path: Path) -> None:
    prints = ["1" * 64, "2" * 64]
    folds = [{"folds": 2, "fold": fold, "by": "random"} for fold in (0, 1)]
    outcomes = [errors([4.0, 1.0], [1, 3], [0, 1]), errors([2.0, 5.0], [2, 2], [1, 7])]
    records = [
        put(name, outcomes[fold], protocol="holdout", config=folds[fold], split=prints[fold], seed=seed)
        for name in ("a", "b")
        for seed in (0, 1)
        for fold in (0, 1)
    ]
    table = one_table(records, tmp_path)
    assert len(table.rows) == 2
    row = table.rows[0]
    assert row["metrics"]["rmse"]["mean"] == pytest.approx(np.sqrt(12 / 8))
    assert row["split_fingerprint"] == digest(prints)
    assert row["protocol_config"] == {"folds": 2, "by": "random"}
    assert row["seeds"] == [0, 1] and len(row["records"]) == 4
    assert "holdout (folds=2)" in boards.title(table)
    assert len(boards.build(records[:5], tmp_path)) == 2, "b has one fold only: not comparable with a, which has both"


def test_a_failed_fold_leaves_no_figure(put: Callable[..., Record], tmp_path: Path) -> None:
    changes = [
        {"protocol": "holdout", "config": {**HOLDOUT, "folds": 2, "fold": i}, "split": f"{i}" * 64} for i in (0, 1)
    ]
    (row,) = one_table([put("a", errors([1.0], [1]), **changes[0]), put("a", None, **changes[1])], tmp_path).rows
    assert row["status"] == "failed" and row["metrics"] == {} and row["group"] is None


def test_figures_without_users_are_means_over_records(put: Callable[..., Record], tmp_path: Path) -> None:
    records = [
        put("a", hits(1, 0), seed=seed, metrics={"hr@10": 0.5, "coverage@10": coverage, "diversity@10": diversity})
        for seed, (coverage, diversity) in enumerate([(0.2, None), (0.4, 0.7)])
    ]
    (row,) = one_table(records, tmp_path).rows
    assert row["metrics"]["coverage@10"] == {"mean": pytest.approx(0.3), "low": None, "high": None, "n": None}
    assert row["metrics"]["diversity@10"]["mean"] == 0.7
    assert row["metrics"]["hr@10"]["low"] is not None


def test_n_counts_test_rows_once_for_all_seeds_and_once_for_each_split(
    put: Callable[..., Record], tmp_path: Path
) -> None:
    splits = {"split": "1" * 64, "split_seed": 1}, {"split": "2" * 64, "split_seed": 2}
    sizes = (errors([1.0, 1.0], [2, 3]), errors([1.0, 1.0], [4, 1], [0, 5]))
    records = [
        put("a", of_split, protocol="holdout", config=HOLDOUT, seed=seed, **changes)
        for seed in (0, 1, 2)
        for of_split, changes in zip(sizes, splits, strict=True)
    ]
    (row,) = one_table(records, tmp_path).rows
    assert row["metrics"]["rmse"]["n"] == row["metrics"]["r2/warm"]["n"] == 10


def test_n_counts_the_rows_of_all_folds(put: Callable[..., Record], tmp_path: Path) -> None:
    folds = [errors([4.0, 1.0], [1, 3], [0, 1]), errors([2.0, 5.0], [2, 2], [1, 7])]
    records = [
        put("a", outcomes, protocol="holdout", config={"folds": 2, "fold": fold, "by": "random"}, split=f"{fold}" * 64)
        for fold, outcomes in enumerate(folds)
    ]
    assert one_table(records, tmp_path).rows[0]["metrics"]["mae"]["n"] == 8


# --- warm and cold ---------------------------------------------------------------------------------------------------


def cold_errors(cold_user: list[int], cold_item: list[int], level: float = 1.0) -> dict[str, np.ndarray]:
    """Users of two test rows each, of which so many have a cold user or a cold item; no row has both."""
    outcomes = errors([2 * level] * len(cold_user), [2] * len(cold_user))
    for prefix, n in (("cold_user_", cold_user), ("cold_item_", cold_item), ("cold_", np.add(cold_user, cold_item))):
        share = np.array(n) / 2
        outcomes |= {f"{prefix}{name}": outcomes[name] * share for name in ("n", "sse", "sae", "sum_y", "sum_y2")}
    return outcomes


def block_of(text: str) -> list[str]:
    """Lines of the block of slices, each with single spaces."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    start = next(place for place, line in enumerate(lines) if line.startswith("warm and cold test rows"))
    end = next(place for place, line in enumerate(lines[start + 2 :], start + 2) if not line)
    return lines[start:end]


def test_slices_stand_below_the_table_with_their_counts(
    put: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cold_user, cold_item = [2] * 600 + [0] * 900, [0] * 600 + [1] * 3 + [0] * 897
    records = [
        put(name, cold_errors(cold_user, cold_item, level), protocol="holdout", config=HOLDOUT)
        for name, level in (("worse", 4.0), ("good", 1.0))
    ]
    table = one_table([*records, put("broken", None, protocol="holdout", config=HOLDOUT)], tmp_path)
    terminal = render([table], {}, "terminal")
    title, names, counts, _, *rows = block_of(terminal)
    assert title == "warm and cold test rows: RMSE, R²"
    assert names == "warm cold user cold item"
    assert counts == "algorithm (n=1,797) R² (n=1,200) R² (n=3) R²"
    assert rows == ["good 1.000 .000 1.000 .000 1.000 .000", "worse 2.000 -3.000 2.000 -3.000 2.000 -3.000"]
    assert "damped-bias rating" in " ".join(terminal.split())
    assert max(map(len, terminal.splitlines())) <= 80
    markdown = render([table], {}, "markdown")
    assert "| cold user (n=1,200) | 95 % | R² | cold item (n=3) | 95 % | R² |" in markdown
    assert "| worse | 2.000 | 2.000–2.000 | -3.000 |" in markdown


def test_two_slices_have_their_intervals_in_the_terminal(
    put: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcomes = {**hits(1, 0, 1, 0), "cold_item": np.array([0, 0, 0, 1], dtype=bool)}
    text = render([one_table([put("neumf-with-a-name-as-long-as-this", outcomes)], tmp_path)], {}, "terminal")
    title, names, counts, _, row = block_of(text)
    assert (title, names) == ("warm and cold test rows: HR@10", "warm cold item")
    assert counts == "algorithm (n=3) 95 % (n=1) 95 %"
    assert row.endswith(" .667 .000–1.000 .000 .000–.000")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("cold", [None, False])
def test_without_cold_rows_there_is_no_block(put: Callable[..., Record], tmp_path: Path, cold: bool | None) -> None:
    """Nor where a side file of an older version does not know which rows were cold."""
    outcomes = hits(1, 0) if cold is None else {**hits(1, 0), "cold_item": np.array([cold, cold])}
    table = one_table([put("a", outcomes)], tmp_path)
    assert ("hr@10/warm" in table.rows[0]["metrics"]) == (cold is False)
    for form in ("terminal", "markdown"):
        assert "cold" not in render([table], {}, form)


def test_published_records_make_tables() -> None:
    results = Path(__file__).parents[2] / "results" / "reference"
    records, unreadable = read_all(results)
    assert records and not unreadable
    text = render(boards.build(records, results), {}, "terminal")
    assert "leave-one-out" in text and "holdout" in text


# --- the way to the oracle -------------------------------------------------------------------------------------------


def ten_times(*row: int) -> dict[str, np.ndarray]:
    return hits(*row * 10)


@pytest.fixture
def known_truth(put: Callable[..., Record], tmp_path: Path) -> boards.Table:
    """Of every ten users the oracle hits 8, ease 6, popularity 4 or, with other options, 5."""
    return one_table(
        [
            put("popularity", ten_times(1, 1, 1, 1, 0, 0, 0, 0, 0, 0)),
            put("popularity", ten_times(1, 1, 1, 1, 1, 0, 0, 0, 0, 0), label="days=3"),
            put("oracle", ten_times(1, 1, 1, 1, 1, 1, 1, 1, 0, 0)),
            put("ease", ten_times(1, 1, 1, 1, 1, 1, 0, 0, 0, 0)),
            put("broken", None),
        ],
        tmp_path,
    )


def test_the_oracle_stands_first_and_apart(known_truth: boards.Table) -> None:
    assert [(boards.row_name(row), row["rank"], row["group"]) for row in known_truth.rows] == [
        ("oracle", None, None),
        ("ease", 1, 1),
        ("popularity (days=3)", 2, 2),
        ("popularity", 3, 3),
        ("broken", None, None),
    ]
    assert known_truth.rows[0]["metrics"]["hr@10"]["mean"] == pytest.approx(0.8)
    evidence = known_truth.evidence
    assert list(evidence.p) == [("1", "2"), ("1", "3"), ("2", "3")]
    assert evidence.rank_agreement is not None and evidence.rank_agreement["n_rows"] == 2


def test_the_way_from_the_baseline_to_the_oracle(known_truth: boards.Table) -> None:
    ways = {boards.row_name(row): row["to_oracle"] for row in known_truth.rows}
    assert ways["oracle"] is None and ways["broken"] is None
    assert ways["popularity"] == {"mean": 0, "low": 0, "high": 0}
    assert ways["ease"]["mean"] == pytest.approx(0.5) and ways["popularity (days=3)"]["mean"] == pytest.approx(0.25)
    assert 0.3 < ways["ease"]["low"] < 0.5 < ways["ease"]["high"] < 0.7
    markdown = render([known_truth], {}, "markdown")
    assert re.search(r"\| grp \| algorithm \|.* HR full \| way \| fit s \|", markdown)
    assert re.search(r"\| 1 \| ease \|.*\| \.600 \| \.50 \| 0\.25 \|", markdown)
    assert "how far a row goes in HR@10 from popularity (0) to the oracle (1)" in markdown
    assert "No row is better than the oracle (smallest corrected p = 1.000)" in markdown
    (oracle, ease, *_, broken) = csv.DictReader(io.StringIO(render([known_truth], {}, "csv")))
    assert (oracle["to_oracle"], broken["to_oracle"], oracle["rank"]) == ("", "", "")
    assert float(ease["to_oracle"]) == pytest.approx(0.5) and float(ease["to_oracle low"]) == ways["ease"]["low"]
    rows = strict_rows([known_truth])
    assert rows[1]["to_oracle"] == ways["ease"]
    better = rows[0]["table"]["better_than_oracle"]
    assert better == {"ease": 1.0, "popularity (days=3)": 1.0, "popularity": 1.0}


def test_the_way_of_errors_is_in_rmse(put: Callable[..., Record], tmp_path: Path) -> None:
    squares = {"bias": 4.0, "als": 2.25, "oracle": 1.0}
    records = [
        put(name, errors([2 * square] * 9, [2] * 9), protocol="holdout", config=HOLDOUT)
        for name, square in squares.items()
    ]
    table = one_table(records, tmp_path)
    assert [row["algorithm"] for row in table.rows] == ["oracle", "als", "bias"]
    assert table.rows[1]["to_oracle"] == {edge: pytest.approx(0.5) for edge in ("mean", "low", "high")}


def test_a_leak_is_cried_out(put: Callable[..., Record], tmp_path: Path) -> None:
    records = [
        put("oracle", ten_times(1, 1, 1, 0, 0)),
        put("cheat", ten_times(1, 1, 1, 1, 1)),
        put("honest", ten_times(1, 1, 0, 0, 0)),
        put("lucky", hits(*[1, 1, 1, 0, 0] * 9, 1, 1, 1, 1, 0)),
    ]
    table = one_table(records, tmp_path)
    p = table.evidence.better_than_oracle
    assert p is not None and p["cheat"] < 0.001 and p["honest"] == 1.0 and p["lucky"] > 0.5
    text = render([table], {}, "markdown")
    (alarm,) = [line for line in text.splitlines() if line.startswith("* LEAK OR BUG:")]
    assert "cheat (p < .001)" in alarm and "honest" not in alarm and "lucky" not in alarm
    assert "No row is better" not in text
    assert all(row["to_oracle"] is None for row in table.rows), "popularity, where the way starts, has no row"
    assert "| way |" not in text


def test_without_an_oracle_nothing_is_said_of_it(put: Callable[..., Record], tmp_path: Path) -> None:
    """Nor where the oracle's row failed."""
    for records in ([put("popularity", hits(1, 0))], [put("popularity", hits(1, 0)), put("oracle", None)]):
        table = one_table(records, tmp_path)
        assert table.evidence.better_than_oracle is None and table.rows[0]["to_oracle"] is None
        assert "better than" not in render([table], {}, "markdown")
    (line,) = csv.DictReader(io.StringIO(render([one_table(records[:1], tmp_path)], {}, "csv")))
    assert line["to_oracle"] == line["to_oracle high"] == ""


def test_an_oracle_alone_is_a_table(put: Callable[..., Record], tmp_path: Path) -> None:
    table = one_table([put("oracle", hits(1, 0))], tmp_path)
    assert table.evidence.better_than_oracle == {} and "nan" not in render([table], {}, "terminal").lower()
    assert strict_rows([table])[0]["rank"] is None


def test_a_full_table_with_an_oracle_fits_eighty_columns(
    put: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    records = [
        put(name, {**hits(1, 0, seed), "cold_item": np.array([0, 0, 1])}, seed=seed, search_s=4321.0)
        for name in ("oracle", "popularity", "lightfm-hybrid", "keras-deep-mf")
        for seed in (0, 1)
    ]
    text = render([one_table(records, tmp_path)], {}, "terminal")
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^grp +algorithm +HR@10 .* way +fit s +search +users/s +MiB$", text, re.MULTILINE)


def test_compare_knows_the_oracle(known_truth: boards.Table) -> None:
    text = compare.describe([known_truth], "ease", "oracle")
    assert "ease − oracle: -.200" in text and "oracle is better than ease" in text
    assert "not corrected: the oracle is in no pair of the table" in text


# --- what a table says below and beside its figures ------------------------------------------------------------------


def test_agreement_is_between_default_rows(put: Callable[..., Record], tmp_path: Path) -> None:
    rows = {"a": ((1, 1, 1, 0), (0, 0, 0, 0)), "b": ((1, 1, 0, 0), (1, 0, 0, 0)), "c": ((1, 0, 0, 0), (1, 1, 0, 0))}
    records = [put(name, hits(*sampled, full=full)) for name, (sampled, full) in rows.items()]
    records.append(put("a", hits(0, 0, 0, 0, full=(0, 0, 0, 0)), label="factors=1"))
    table = one_table(records, tmp_path)
    agreement = table.evidence.rank_agreement
    assert agreement is not None and agreement["tau_b"] == -1.0 and agreement["n_rows"] == 3
    assert "of the 3 default rows: tau-b -1.000" in render([table], {}, "markdown")


def test_marks_stand_after_names_with_their_legend(put: Callable[..., Record], tmp_path: Path) -> None:
    def text(*supports: str) -> str:
        records = [put(f"row-{support}", hits(1, 0), support=support) for support in supports]
        return render(boards.build(records, tmp_path), {}, "markdown")

    both = text("native", "calibrated", "by-rating")
    assert "row-native |" in both and "row-calibrated† |" in both and "row-by-rating‡ |" in both
    assert "* † scores turned into ratings" in both and "* ‡ a rating model" in both
    assert "†" not in text("native", "by-rating") and "‡" not in text("native")


def test_csv_holds_marks_null_and_what_was_not_measured(put: Callable[..., Record], tmp_path: Path) -> None:
    records = [put("a, b", hits(1, 0), support="by-rating"), put("broken", None, support=None)]
    text = render(boards.build(records, tmp_path), {"far · holdout": "no times"}, "csv")
    ok, broken, absent = csv.DictReader(io.StringIO(text))
    assert (ok["algorithm"], ok["mark"], ok["group"], ok["n_seeds"]) == ("a, b", "‡", "1", "1")
    assert float(ok["hr@10"]) == 0.5 and float(ok["fit_s high"]) == 0.25 and ok["p50_ms"] == ""
    assert (broken["status"], broken["reason"], broken["hr@10"], broken["fit_s"]) == ("failed", "it broke", "", "")
    assert (absent["dataset"], absent["protocol"], absent["status"]) == ("far", "holdout", "skipped")
    assert absent["reason"] == "no times"


def test_a_row_without_a_search_has_none_in_print(put: Callable[..., Record], tmp_path: Path) -> None:
    tables = boards.build([put("searched", hits(1, 0), search_s=2.5), put("fitted", hits(0, 0))], tmp_path)
    for form, blank in (("markdown", r"\|  \|"), ("terminal", " +")):
        text = render(tables, {}, form)
        assert re.search(r"^.*searched.* 0\.25 .* 2\.50 .*$", text, re.MULTILINE)
        assert re.search(rf"^.*fitted.* 0\.25 {blank} +100 .*$", text, re.MULTILINE)
    assert [row["cost"]["search_s"] for row in strict_rows(tables)] == [2.5, 0.0]
    assert [line["search_s"] for line in csv.DictReader(io.StringIO(render(tables, {}, "csv")))] == ["2.5", "0.0"]


# --- compare ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(put: Callable[..., Record], tmp_path: Path) -> list[boards.Table]:
    return boards.build(
        [
            put("als", hits(*[1] * 30 + [0] * 10)),
            put("als", hits(*[1] * 29 + [0] * 11), label="factors=8"),
            put("pop", hits(*[0] * 35 + [1] * 5)),
            put("broken", None),
        ],
        tmp_path,
    )


def test_compare_says_who_is_better_and_how_sure_it_is(three: list[boards.Table]) -> None:
    text = compare.describe(three, "als", "pop")
    assert "als − pop: .625 (95 % " in text
    assert "als is better for 30 users, equal for 5, worse for 5" in text
    assert "Holm-corrected over all 3 pairs of the table" in text
    assert "als is better than pop (minimum detectable difference of this pair: " in text
    turned = compare.describe(three, "pop", "als")
    assert "pop − als: -.625" in turned and "als is better than pop" in turned


@pytest.mark.parametrize("name", ["als:factors=8", "als (factors=8)"])
def test_compare_does_not_call_noise_a_difference(three: list[boards.Table], name: str) -> None:
    text = compare.describe(three, "als", name)
    assert "als − als (factors=8): .025" in text and "p = 1 " in text
    assert "The data cannot tell als and als (factors=8) apart" in text


def test_compare_prints_the_p_that_the_groups_rest_on(three: list[boards.Table]) -> None:
    assert f"p = {three[0].evidence.p['1', '3']:.4f}".replace("0.", ".") in compare.describe(three, "als", "pop")


def test_compare_speaks_of_errors_the_right_way_round(put: Callable[..., Record], tmp_path: Path) -> None:
    records = [
        put(name, errors(list(np.linspace(0, 1, 40) + extra), [2] * 40), protocol="holdout", config=HOLDOUT)
        for name, extra in (("good", 0.0), ("bad", 1.0))
    ]
    text = compare.describe(boards.build(records, tmp_path), "good", "bad")
    assert "good is better for 40 users, equal for 0, worse for 0" in text
    assert "good is better than bad" in text and "the only pair of the table" in text
    assert "good − bad: -." in text


def test_compare_shows_why_a_row_has_no_figures(three: list[boards.Table]) -> None:
    assert compare.describe(three, "als", "broken").endswith("broken has no figures: failed: it broke")


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("alx", "pop", "unknown row 'alx': did you mean 'als'? valid: als, als (factors=8), broken, pop"),
        ("als", "als", "the same row"),
    ],
)
def test_compare_refuses_in_one_line(three: list[boards.Table], a: str, b: str, expected: str) -> None:
    with pytest.raises(UserError, match=r"^[^\n]*$") as error:
        compare.describe(three, a, b)
    assert expected in str(error.value)


def test_compare_needs_a_table_with_both(put: Callable[..., Record], tmp_path: Path) -> None:
    tables = boards.build([put("a", hits(1, 0)), put("b", hits(1, 0), split="b" * 64)], tmp_path)
    with pytest.raises(UserError, match="no table holds both 'a' and 'b'"):
        compare.describe(tables, "a", "b")


# --- speed -----------------------------------------------------------------------------------------------------------


def test_tables_of_known_cells_are_quick(put: Callable[..., Record], tmp_path: Path) -> None:
    """The statistics of eleven rows over 610 and over 10,000 users, within what a second run may take."""
    rng = np.random.default_rng(1)
    records = {
        n: [put(f"row-{row}", hits(*(rng.random(n) < 0.5).astype(int)), split=digest(n)) for row in range(11)]
        for n in (610, 10_000)
    }
    # CPU seconds of one thread: neither other work on the machine counts, nor BLAS threads that spin while they wait.
    with threadpool_limits(1):
        start = time.process_time()
        tables = [boards.build(of_split, tmp_path) for of_split in records.values()]
        seconds = time.process_time() - start
    assert seconds < 4
    assert [[len(table.rows) for table in each] for each in tables] == [[11], [11]]


# --- default → tuned -------------------------------------------------------------------------------------------------

STUDY = {
    "study": "a study",
    "metric": "rmse",
    "value": 0.8,
    "default_value": 0.9,
    "sampler": "tpe",
    "pruner": "none",
    "seed": 0,
    "split_fingerprint": "a" * 64,
    "sha256": "b" * 64,
    "budget": {"name": "small", "trials": 20, "seconds": 90.0},
    "trials": {"complete": 18, "pruned": 1, "failed": 1},
    "seconds": 1234.5,
    "bound_by": "seconds",
    "values": [0.9, None, 0.8],
}


def tuned_table(put: Callable[..., Record], folder: Path, *names: str, loss: float = 0.0) -> list[boards.Table]:
    """Of each algorithm a default and a tuned row; where ``loss`` is not 0, one of them has far larger errors."""
    rng = np.random.default_rng(0)
    rating: dict[str, Any] = {"protocol": "holdout", "config": HOLDOUT}
    records = []
    for name in names:
        records.append(put(name, errors(list(rng.random(40) + max(-loss, 0)), [2] * 40), **rating))
        tuned = errors(list(rng.random(40) + max(loss, 0)), [2] * 40)
        records.append(put(name, tuned, **rating, label="tuned", tuned=STUDY))
    return boards.build(records, folder)


def test_the_block_of_gains_is_the_same_in_every_format(put: Callable[..., Record], tmp_path: Path) -> None:
    tables = tuned_table(put, tmp_path, "als", "ease")
    tuning = strict_rows(tables)[0]["table"]["tuning"]
    assert tuning["expected_best"]["als"][-1] == pytest.approx((0.9 * 8 + 0.8 * 19) / 27), "two of three count as .9"
    markdown, terminal = (render(tables, {}, form) for form in ("markdown", "terminal"))
    for row in tuning["rows"]:
        low, high = (f"{row['difference'][edge]:.3f}".replace("0.", ".", 1) for edge in ("low", "high"))
        shown = [f"{row[name]:.3f}".replace("0.", ".", 1) for name in ("default", "tuned")]
        assert f"| {row['algorithm']} | {shown[0]} | {shown[1]} | " in markdown
        assert f" | {low} to {high} | " in markdown and f" {low} to {high} " in terminal
        assert re.search(rf"^{row['algorithm']} .* 20 +1234 +seconds$", terminal, re.MULTILINE)
    mean = f"{tuning['mean_difference']['mean']:.3f}".replace("0.", ".", 1)
    for text in (markdown, terminal):
        assert f"Mean difference over these algorithms: {mean} (95 % " in " ".join(text.split())
        assert "small, 20 trials or 90 s of fit and scoring" in " ".join(text.split())
    assert "tuning" not in render(tables, {}, "csv").splitlines()[0]


@pytest.mark.parametrize("loss", [0.0, 5.0, -5.0])
def test_the_block_of_gains_fits_80_columns(
    put: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = render(tuned_table(put, tmp_path, "lightfm-hybrid", "content-cosine", loss=loss), {}, "terminal")
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "default → tuned" in text and "lightfm-hybrid (tuned)" in text


def test_without_tuned_rows_there_is_no_block(three: list[boards.Table]) -> None:
    assert strict_rows(three)[0]["table"]["tuning"] is None
    assert "default → tuned" not in render(three, {}, "terminal")


# --- answers from elsewhere ------------------------------------------------------------------------------------------


def test_answers_from_elsewhere_are_ranked_among_the_others(put: Callable[..., Record], tmp_path: Path) -> None:
    records = [put("als", hits(*[1] * 20 + [0] * 20)), put("mine", hits(*[1] * 40), label="external")]
    table = one_table(records, tmp_path)
    mine, als = table.rows
    assert (mine["algorithm"], mine["rank"], als["rank"]) == ("mine", 1, 2)
    assert table.evidence.p["1", "2"] < 0.001
    assert mine["metrics"]["hr@10"] == {**dict.fromkeys(("mean", "low", "high"), 1.0), "n": 40}
    assert all(value is None for value in mine["cost"].values()) and mine["not_measured"]["fit_s"].startswith(
        "the answers"
    )
    assert mine["external"] == {"files": mine["external"]["files"], "self_reported": []}
    assert als["external"] is None
    for form in FORMATS[:2]:
        assert "mine (external)" in render([table], {}, form) and "answers from elsewhere" in render([table], {}, form)
    assert "mine (external) − als" in compare.describe([table], "mine", "als")


def test_reported_seconds_are_marked(put: Callable[..., Record], tmp_path: Path) -> None:
    records = [put("als", hits(1, 0)), put("mine", hits(1, 1), label="external", fit_s=12.5)]
    table = one_table(records, tmp_path)
    mine, _ = strict_rows([table])
    assert mine["cost"]["fit_s"] == {"median": 12.5, "low": 12.5, "high": 12.5}
    assert mine["cost"]["train_per_s"] is None and mine["external"]["self_reported"] == ["fit_s"]
    text = render([table], {}, "terminal")
    assert re.search(r"mine \(external\).* 12\*", text)
    assert "* as whoever made them reports it" in text.replace("\n", " ")
    first, second = csv.DictReader(io.StringIO(render([table], {}, "csv")))
    assert (first["self_reported"], second["self_reported"]) == ("fit_s", "")


def test_lists_without_scores_have_a_row_and_no_rank(put: Callable[..., Record], tmp_path: Path) -> None:
    """Of a record's counts no figure is made that its answers do not have."""
    why = {name: "lists alone" for name in ("hr@10", "ndcg@10", "mrr", "mrr/full")}
    lists = {**hits(full=(1, 1)), "users": np.arange(2, dtype=np.int32)}
    records = [put("als", hits(1, 0)), put("broken", None), put("mine", lists, label="external", not_measured=why)]
    table = one_table(records, tmp_path)
    als, mine, broken = strict_rows([table])
    assert (als["algorithm"], mine["algorithm"], broken["status"]) == ("als", "mine", "failed")
    assert (als["rank"], mine["rank"], mine["group"], mine["status"]) == (1, None, None, "ok")
    assert mine["metrics"]["hr@10/full"]["mean"] == 1
    for name, reason in why.items():
        assert (
            mine["metrics"][name] == dict.fromkeys(("mean", "low", "high", "n"))
            and mine["not_measured"][name] == reason
        )
    assert "mine (external) has no hr@10: lists alone." in render([table], {}, "terminal")
    assert compare.describe([table], "mine", "als").endswith("  mine (external) has no hr@10: lists alone")
    _, line, _ = csv.DictReader(io.StringIO(render([table], {}, "csv")))
    assert (line["algorithm"], line["rank"], line["hr@10"], line["hr@10/full"]) == ("mine", "", "", "1.0")


def test_answers_from_elsewhere_are_in_the_tables_of_every_machine(put: Callable[..., Record], tmp_path: Path) -> None:
    """They have no times that could not be compared; another split is another table all the same."""
    records = [
        put("als", hits(1, 0), hardware="a"),
        put("ease", hits(1, 0), hardware="b"),
        put("mine", hits(1, 1), label="external", hardware="c"),
        put("yours", hits(1, 1), label="external", hardware="c", split="b" * 64),
        put("theirs", hits(1, 1), label="external", hardware="d", split="b" * 64),
    ]
    found = sorted(sorted(row["algorithm"] for row in table.rows) for table in boards.build(records, tmp_path))
    assert found == [["als", "mine"], ["ease", "mine"], ["theirs", "yours"]]
