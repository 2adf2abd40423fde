"""The report in a real browser, its figures against the JSON, and data that would like to be markup."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, CommandLine

REFERENCE = ROOT / "results" / "reference"
MOST_BYTES = 8_000_000
HOSTILE = "<img src=x onerror=alert(1)>"
INJECTED = "</script><script>document.title = 'owned'</script>"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The report of the reference run, and the rows that JSON has."""
    folder = tmp_path_factory.mktemp("report")
    command, results = CommandLine(folder), ("--results", str(REFERENCE))
    history = folder / "regress.jsonl"
    measured = [{"ratio": 1.3, "before": 1.0, "p": 1e-9}]
    line = {
        "date": "2026-11-01T10:00:00+00:00",
        "base": None,
        "hardware_fingerprint": "abc",
        "benchmarks": {"fit/als": {"status": "ok", "measured": measured}},
    }
    lines = [line, {**line, "base": "HEAD~1"}, 5]  # against another commit: no point on a line of baselines
    history.write_text("\n".join(map(json.dumps, lines)) + "\nnot json\n")
    made = command("report", *results, "--out", str(folder / "report.html"), "--history", str(history))
    assert made.code == 0, made.err
    assert [f"regress.jsonl:{number}: not a line of regress" in made.err for number in range(1, 5)] == [
        False,
        False,
        True,
        True,
    ]
    rows = command("leaderboard", *results, "--format", "json")
    return folder / "report.html", json.loads(rows.out)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    driver = shutil.which("chromedriver")
    if driver is None or shutil.which("chromium") is None:
        pytest.skip("chromium and chromium-driver are not installed")
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1400,1000"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    yield chromium
    chromium.quit()


@pytest.fixture(scope="module")
def opened(browser: Any, reference: tuple[Path, list[dict[str, Any]]]) -> Any:
    browser.get(reference[0].as_uri())
    return browser


def points(browser: Any, chart: str) -> int:
    return int(browser.execute_script(f"return document.querySelectorAll('#{chart} .points path').length"))


def test_it_opens_without_an_error_and_needs_no_network(opened: Any) -> None:
    assert opened.get_log("browser") == []
    asked = opened.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in asked if not name.startswith("data:")] == []
    assert opened.execute_script("return document.querySelectorAll('.chart .plot-container').length") >= 14
    buttons = opened.execute_script("return [...document.querySelectorAll('.modebar-btn')].map((b) => b.dataset.title)")
    assert buttons and not [title for title in buttons if "Share" in title or "Cloud" in title]


def test_a_chart_has_as_many_points_as_its_table_has_rows(
    opened: Any, reference: tuple[Path, list[dict[str, Any]]]
) -> None:
    rows = reference[1]
    for place, protocol in enumerate(("leave-one-out", "holdout")):
        n = sum(row["protocol"] == protocol and row["status"] == "ok" for row in rows)
        assert n > 30
        assert points(opened, f"board-{place}-intervals") == n
        assert points(opened, f"board-{place}-fit-time") == n
    assert points(opened, "speed-history") == 1


def test_columns_sort_both_ways_and_by_number(opened: Any) -> None:
    def column() -> list[str]:
        script = (
            "return [...document.querySelectorAll('#board-0 tr[data-row]')].map((row) => row.cells[2].dataset.value)"
        )
        return list(opened.execute_script(script))

    button = opened.find_elements("css selector", "#board-0 thead button")[2]
    button.send_keys("\n")  # by keyboard
    assert column() == sorted(column(), key=float)
    assert button.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    button.click()
    assert column() == sorted(column(), key=float, reverse=True)


def test_filters_leave_rows_and_their_points(opened: Any) -> None:
    from selenium.webdriver.support.select import Select

    def choose(name: str, value: str) -> None:
        Select(opened.find_element("name", name)).select_by_visible_text(value)

    choose("preset", "tuned")
    shown = opened.find_elements("css selector", "#board-0 tr[data-row]:not([hidden])")
    assert len(shown) == 17 and all("(tuned)" in row.text for row in shown)
    assert points(opened, "board-0-intervals") == 17
    choose("protocol", "holdout")
    assert not opened.find_element("id", "board-0").is_displayed()
    assert opened.find_element("id", "shown").text == "17 rows"
    choose("preset", "all")
    choose("protocol", "all")
    search = opened.find_element("name", "text")
    search.send_keys("NCF-")
    assert opened.find_element("id", "shown").text == "8 rows"
    search.clear()
    assert opened.find_element("id", "shown").text == "68 rows"


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_window(opened: Any, width: int) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    WebDriverWait(opened, 20).until(
        lambda browser: browser.execute_script("return document.documentElement.scrollWidth") <= width
    )


class _Tables(HTMLParser):
    """Cells of every leaderboard as (board, row, attributes, text), as the file has them before a script runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[tuple[int, int, dict[str, str | None], str]] = []
        self._board, self._row, self._cell = -1, -1, None
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if "data-protocol" in found:
            self._board += 1
        elif tag == "tr" and "data-row" in found:
            self._row = int(found["data-row"] or 0)
        elif tag == "td" and "data-value" in found:
            self.cells.append((self._board, self._row, found, ""))
            self._cell = len(self.cells) - 1
        elif tag == "small":
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            board, row, found, text = self.cells[self._cell]
            self.cells[self._cell] = (board, row, found, text + data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "td":
            self._cell = None


def test_every_number_is_the_jsons(reference: tuple[Path, list[dict[str, Any]]]) -> None:
    path, rows = reference
    tables = [[row for row in rows if row["protocol"] == protocol] for protocol in ("leave-one-out", "holdout")]
    checked = 0
    for board, place, found, text in _Tables(path.read_text()).cells:
        row, name = tables[board][place], found["data-figure"] or ""
        if name in row["metrics"]:
            expected = row["metrics"][name]["mean"]
            assert round(float(text.strip() or "nan"), 3) == pytest.approx(round(expected, 3), abs=1e-9)
        elif name in row["cost"]:
            expected = row["cost"][name]["median"] if isinstance(row["cost"][name], dict) else row["cost"][name]
            expected = None if name == "search_s" and not expected else expected
        else:
            expected = row.get(name) if name != "status" or row["status"] != "ok" else None
        exact = expected if isinstance(expected, str) else "" if expected is None else json.dumps(expected)
        assert found["data-value"] == exact, (board, place, name)
        checked += expected is not None
    assert checked > 68 * 8


def test_charts_are_of_the_same_numbers(opened: Any, reference: tuple[Path, list[dict[str, Any]]]) -> None:
    drawn = opened.execute_script("return figures['board-0-intervals'].data[0].x")
    assert drawn == [row["metrics"]["hr@10"]["mean"] for row in reference[1] if row["protocol"] == "leave-one-out"]


def test_several_folders_have_tables_of_their_own(benchmarks: CommandLine, tmp_path: Path) -> None:
    """The sweep of the diversity loss and MMR, and the clock's figures, are beside the reference."""
    folders = [REFERENCE, REFERENCE / "diversity", REFERENCE / "clock"]
    arguments = [argument for folder in folders for argument in ("--results", str(folder))]
    out = tmp_path / "report.html"
    made = benchmarks("report", *arguments, "--out", str(out))
    assert made.code == 0, made.err
    text = out.read_text()
    titles = re.findall(r"<h2>(ml-latest-small [^<]*)</h2>", text)
    assert len(titles) == len(set(titles)) == 5
    assert [title.rsplit(" · ", 1)[1] for title in titles].count("clock") == 2
    assert 'data-figure="p99_ms"' in text and "diversity_weight=0.3" in text and "trade_off=0.6" in text
    assert out.stat().st_size <= MOST_BYTES


def test_it_is_small_enough_to_send(reference: tuple[Path, list[dict[str, Any]]]) -> None:
    assert reference[0].stat().st_size <= MOST_BYTES


def test_what_is_data_is_shown_as_text(benchmarks: CommandLine, browser: Any, tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.csv"
    lines = [f"{user},{item},{1 + (user + item) % 5}" for user in range(60) for item in range(user % 7, 30, 3)]
    ratings.write_text("user,item,rating\n" + "\n".join(lines) + "\n")
    plugin = tmp_path / "hostile_plugin.py"
    plugin.write_text(
        "from algorithms.popularity import Popularity\n"
        "from algorithms.registry import RANKER, AlgorithmSpec\n"
        "class Broken(Popularity):\n"
        "    def _fit(self, train, run):\n"
        f"        raise ValueError({INJECTED!r})\n"
        "ALGORITHMS = (\n"
        '    AlgorithmSpec("broken", "hostile_plugin:Broken", "fails", ("numpy",), RANKER),\n'
        f'    AlgorithmSpec("{HOSTILE}", "hostile_plugin:Popularity", "<b>bold</b>", ("numpy",), RANKER),\n'
        ")\n"
    )
    ran = benchmarks.run("--dataset", str(ratings), "--plugin", str(plugin), "--algorithm", f"{HOSTILE},broken")
    assert ran.code == 2, ran.err
    out = tmp_path / "report.html"
    made = benchmarks("report", "--results", str(benchmarks.results), "--plugin", str(plugin), "--out", str(out))
    assert made.code == 0, made.err
    browser.get(out.as_uri())
    assert browser.get_log("browser") == []
    assert browser.title == "RecGauge: recommender algorithms compared"
    assert browser.find_elements("tag name", "img") == []
    assert browser.find_element("css selector", "tbody th").text == HOSTILE
    assert HOSTILE in browser.find_element("css selector", "#board-0-intervals .yaxislayer-above").text
    notes = browser.find_element("css selector", ".notes").text
    assert INJECTED in notes


def test_figures_and_tables_for_a_paper(benchmarks: CommandLine, tmp_path: Path) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    folder = tmp_path / "figures"
    selection = ("--results", str(REFERENCE), "--protocol", "holdout", "--config", "default")
    made = benchmarks("report", *selection, "--out", str(tmp_path / "report.html"), "--figures", str(folder))
    assert made.code == 0, made.err
    drawn = {path.name.split("-seeds-")[1] for path in folder.iterdir() if path.suffix != ".tex"}
    assert drawn == {f"{name}.{form}" for name in ("intervals", "fit-time", "slices") for form in ("svg", "pdf")}
    assert all(path.read_bytes().startswith(b"%PDF") for path in folder.glob("*.pdf"))
    assert all(b"<svg" in path.read_bytes()[:200] for path in folder.glob("*.svg"))
    (table,) = folder.glob("*.tex")
    lines = table.read_text().splitlines()
    assert "\\toprule" in lines and "\\bottomrule" in lines
    assert sum(line.endswith(r"\\") for line in lines) == 18


def test_the_readme_has_the_leaderboard_of_the_reference(benchmarks: CommandLine, tmp_path: Path) -> None:
    """Made anew it stays as it is; ``make readme`` also takes the pictures."""
    readme = tmp_path / "README.md"
    text = (ROOT / "README.md").read_text()
    begin, end = (text.index(mark) for mark in ("![The report](", "```\nml-latest-small"))
    readme.write_text(text[:begin] + text[end:].replace("HR@10", "HR@11"))
    selection = ("--results", str(REFERENCE), "--config", "default", "--dataset", "ml-latest-small")
    out = ("--out", str(tmp_path / "report.html"))
    made = benchmarks("report", *selection, *out, "--readme", str(readme), COLUMNS="200")
    assert made.code == 0, made.err
    part = slice(text.index("```\nml-latest-small"), text.index("<!-- end of the reference leaderboard -->"))
    assert text[part] in readme.read_text()

    readme.write_text("no place for it")
    refused = benchmarks("report", *selection, *out, "--readme", str(readme))
    assert (refused.code, len(refused.err.splitlines())) == (1, 1)
    assert readme.read_text() == "no place for it"


def test_pictures(benchmarks: CommandLine, tmp_path: Path) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    selection = ("--results", str(REFERENCE), "--protocol", "holdout", "--config", "default")
    made = benchmarks("report", *selection, "--out", str(tmp_path / "report.html"), "--pictures", str(tmp_path))
    assert made.code == 0, made.err
    sizes = {path.name: struct.unpack(">II", path.read_bytes()[16:24]) for path in tmp_path.glob("*.png")}
    assert sizes == {"report-wide.png": (1280, 1900), "report-phone.png": (390, 1000)}


def test_without_records_it_says_what_makes_some(benchmarks: CommandLine, tmp_path: Path) -> None:
    made = benchmarks("report", "--results", str(tmp_path), "--out", str(tmp_path / "report.html"))
    assert made.code == 1 and "'python -m benchmarks run' makes some" in made.err
    assert not (tmp_path / "report.html").exists()


def test_latex_can_set_it(tmp_path: Path) -> None:
    """Every special character is escaped: a real LaTeX, where there is one, sets the table."""
    from benchmarks.report.latex import escape

    text = escape("100 % of a_b & {c} # $5 ~ ^ \\ R² ‡")
    assert (
        text
        == r"100 \% of a\_b \& \{c\} \# \$5 \textasciitilde{} \textasciicircum{} \textbackslash{} R$^2$ $^\ddagger$"
    )
    if shutil.which("pdflatex") is None:
        return
    (tmp_path / "t.tex").write_text(f"\\documentclass{{article}}\\begin{{document}}{text}\\end{{document}}")
    subprocess.run(["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True, capture_output=True)
