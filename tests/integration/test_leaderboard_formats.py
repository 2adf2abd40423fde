"""One measured run, printed in every format, and the questions a reader then asks of it."""

from __future__ import annotations

import csv
import json
import re
from itertools import takewhile
from typing import Any

import pytest
from conftest import CommandLine, cpu_seconds_of_commands

HEADERS = {"HR@10": "hr@10", "NDCG": "ndcg@10", "HR full": "hr@10/full", "RMSE": "rmse", "R²": "r2", "MAE": "mae"}
PRIMARY = {"leave-one-out": "hr@10", "holdout": "rmse"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Two algorithms under both protocols, ratings in two folds, two seeds."""
    benchmarks = CommandLine(tmp_path_factory.mktemp("leaderboard") / "results")
    ended = benchmarks.run("--algorithm", "popularity,bias", "--protocol", "leave-one-out,holdout", *WHAT)
    assert ended.code == 0, ended.err
    return benchmarks


WHAT = ("--folds", "2", "--seeds", "2")


def board(measured: CommandLine, form: str) -> str:
    ended = measured("leaderboard", "--results", str(measured.results), "--format", form, COLUMNS="80")
    assert ended.code == 0, ended.err
    return ended.out


def markdown_rows(text: str) -> list[tuple[str, dict[str, str], str]]:
    """(protocol, cells by header, all notes of the table) of every row of the main tables."""
    found = []
    for section in text.split("### ")[1:]:
        title, *lines = section.splitlines()
        main = takewhile(lambda line: line[:1] == "|", lines[1:])
        headers, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in main]
        notes = "\n".join(line for line in lines if line.startswith("* "))
        found += [(title.split(" · ")[1].split(" ")[0], dict(zip(headers, row, strict=True)), notes) for row in rows]
    return found


def assert_rounds(shown: str, value: float | None) -> None:
    """``shown`` is ``value``, rounded to the digits it has; empty for null."""
    if value is None:
        assert shown == ""
        return
    digits, prefix = re.fullmatch(r"(-?[\d.]+)( [kM])?", shown).groups()  # type: ignore[union-attr]
    unit = {None: 1, " k": 1_000, " M": 1_000_000}[prefix]
    places = len(digits.partition(".")[2])
    assert float(digits) * unit == pytest.approx(value, abs=0.5000001 * unit * 10.0**-places), (shown, value)


def shown_figures(row: dict[str, Any]) -> dict[str, float | None]:
    """What a row's printed cells stand for, by header."""
    cost, peak = row["cost"], row["cost"]["peak_rss_bytes"]
    figures = {header: row["metrics"][name]["mean"] for header, name in HEADERS.items() if name in row["metrics"]}
    costs = {"fit s": cost["fit_s"]["median"], "search": cost["search_s"] or None, "users/s": cost["users_per_s"]}
    return {**figures, **costs, "grp": row["group"], "sd": row["spread"], "MiB": peak / 2**20}


def test_every_number_is_the_same_number_in_every_format(measured: CommandLine) -> None:
    rows = json.loads(board(measured, "json"))
    in_csv = list(csv.DictReader(board(measured, "csv").splitlines()))
    in_markdown = markdown_rows(board(measured, "markdown"))
    terminal = [" ".join(line.split()) for line in board(measured, "terminal").splitlines()]
    assert len(rows) == len(in_csv) == len(in_markdown) == 4

    for row, fields, (protocol, cells, notes) in zip(rows, in_csv, in_markdown, strict=True):
        assert (row["protocol"], row["algorithm"]) == (fields["protocol"], fields["algorithm"])
        assert (protocol, cells["algorithm"].rstrip("†‡")) == (row["protocol"], row["algorithm"])

        for name, figure in row["metrics"].items():
            for edge, column in (("mean", name), ("low", f"{name} low"), ("high", f"{name} high")):
                assert fields[column] == ("" if figure[edge] is None else repr(figure[edge]))
        for name, value in row["cost"].items():
            shown = value["median"] if isinstance(value, dict) else value
            assert fields[name] == ("" if shown is None else repr(shown))
        about = row["table"]
        assert fields["spread"] == repr(row["spread"]) and (fields["rank"], fields["group"]) == (
            str(row["rank"]),
            str(row["group"]),
        )
        assert fields["minimum_detectable_difference"] == repr(about["minimum_detectable_difference"])

        for header, value in shown_figures(row).items():
            if header in cells or value:
                assert_rounds(cells[header], value)
        low, high = cells["95 %"].split("–")
        assert_rounds(low, row["metrics"][PRIMARY[protocol]]["low"])
        assert_rounds(high, row["metrics"][PRIMARY[protocol]]["high"])
        (detectable,) = re.findall(r"Minimum detectable difference: ([\d.]+)\.", notes)
        assert_rounds(detectable, about["minimum_detectable_difference"])
        if about["rank_agreement"] is not None and about["rank_agreement"]["tau_b"] is not None:
            assert fields["tau_b"] == repr(about["rank_agreement"]["tau_b"])
            assert_rounds(*re.findall(r"tau-b (-?[\d.]+\d)", notes), about["rank_agreement"]["tau_b"])

        assert " ".join(" ".join(cell for cell in cells.values() if cell).split()) in terminal
    for note in {line[2:] for _, _, notes in in_markdown for line in notes.splitlines()}:
        assert note in " ".join(terminal)


def test_terminal_fits_eighty_columns(measured: CommandLine) -> None:
    assert max(map(len, board(measured, "terminal").splitlines())) <= 80


def test_folds_and_seeds_are_one_row(measured: CommandLine) -> None:
    rows = json.loads(board(measured, "json"))
    for row in rows:
        assert row["seeds"] == [0, 1] and row["spread"] is not None
        assert len(row["records"]) == (4 if row["protocol"] == "holdout" else 2)
    supports = {(row["protocol"], row["algorithm"]): row["support"] for row in rows}
    assert supports["holdout", "popularity"] == "calibrated" and supports["leave-one-out", "bias"] == "by-rating"


def test_known_cells_print_the_same_tables_in_seconds(measured: CommandLine) -> None:
    arguments = ("--algorithm", "popularity,bias", "--protocol", "leave-one-out,holdout", *WHAT)
    before = cpu_seconds_of_commands()
    again = measured.run(*arguments, COLUMNS="80")
    assert cpu_seconds_of_commands() - before < 15  # 1.5 on a quiet machine; shared cores make CPU seconds longer too
    assert "12 of 12 cells are known" in again.err
    assert again.out == board(measured, "terminal")


def test_compare_answers_for_every_table_or_the_one_asked_for(measured: CommandLine) -> None:
    def compare(*arguments: str) -> Any:
        return measured("compare", *arguments, "--results", str(measured.results))

    both = compare("popularity", "bias")
    assert both.code == 0
    assert both.out.count("popularity − bias: ") == 2 and both.out.count("minimum detectable difference") == 2
    ratings = compare("bias", "popularity:default", "--protocol", "holdout")
    assert ratings.out.count("bias − popularity: ") == 1 and "holdout" in ratings.out
    assert "popularity is better than bias" in ratings.out, "noise: a constant is the best rating there is"

    unknown = compare("popularity", "biass")
    assert unknown.code == 1 and unknown.out == ""
    assert unknown.err == "recgauge: unknown row 'biass': did you mean 'bias'? valid: bias, popularity\n"
    elsewhere = compare("popularity", "bias", "--dataset", "ml-latest-small")
    assert elsewhere.code == 1 and len(elsewhere.err.splitlines()) == 1 and "no such records" in elsewhere.err


def test_compare_help_has_an_example(measured: CommandLine) -> None:
    ended = measured("compare", "--help")
    assert ended.code == 0 and "example: python -m benchmarks compare" in ended.out
