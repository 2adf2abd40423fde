"""Finding, fetching, checking and unpacking, against a real server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from fuzz_inputs import Entry, raw_zip

from datasets import download
from datasets.download import Archive
from datasets.errors import DataError, MissingDataError

FILES = ("ratings.csv", "movies.csv")
CONTENT = {"toy/ratings.csv": b"userId,movieId\n", "toy/movies.csv": b"movieId,title\n" * 20_000}

Serve = Callable[..., Archive]


def packed(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No data but what a test makes; returns the cache's data folder."""
    monkeypatch.setenv("RECGAUGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RECGAUGE_DATA", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "data"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(body)`` answers every request with ``body`` and returns the archive that it claims to be."""
    servers: list[ThreadingHTTPServer] = []

    def start(body: bytes, *, status: int = 200, limit: int = 1 << 20) -> Archive:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/toy.zip"
        return Archive("toy", url, len(body), f"sha256:{hashlib.sha256(body).hexdigest()}", limit)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def only_error(archive: Archive, roots: Path) -> str:
    """The message of a fetch that must fail and leave nothing behind."""
    with pytest.raises(MissingDataError) as caught:
        download.locate(archive, FILES)
    assert not roots.exists() or list(roots.iterdir()) == []
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_good_archive_is_fetched_once(serve: Serve, roots: Path) -> None:
    archive = serve(packed(CONTENT))
    steps: list[tuple[int, int]] = []
    paths = download.locate(archive, FILES, lambda done, total: steps.append((done, total)))
    assert paths == [roots / "toy" / name for name in FILES]
    assert paths[1].read_bytes() == CONTENT["toy/movies.csv"]
    assert steps[-1] == (archive.size, archive.size)
    assert list(roots.iterdir()) == [roots / "toy"]

    steps.clear()
    assert download.locate(archive, FILES, lambda done, total: steps.append((done, total))) == paths
    assert steps == []


def test_the_chosen_folder_comes_before_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, serve: Serve, roots: Path
) -> None:
    archive = serve(packed(CONTENT))
    mine = tmp_path / "mine"
    monkeypatch.setenv("RECGAUGE_DATA", str(mine))
    assert download.locate(archive, FILES)[0].parent == roots / "toy"  # nothing in mine: fetched

    (mine / "toy").mkdir(parents=True)
    (mine / "toy" / "ratings.csv").touch()
    assert download.locate(archive, FILES)[0].parent == roots / "toy"  # one file is not all
    (mine / "toy" / "movies.csv").touch()
    assert download.locate(archive, FILES)[0].parent == mine / "toy"


def test_a_wrong_checksum_is_refused(serve: Serve, roots: Path) -> None:
    archive = serve(packed(CONTENT))
    wrong = Archive("toy", archive.url, archive.size, "sha256:" + "0" * 64, archive.unpacked_limit)
    message = only_error(wrong, roots)
    assert "sha256 is " in message and "the download was removed" in message


def test_md5_is_understood_too(serve: Serve, roots: Path) -> None:
    body = packed(CONTENT)
    archive = serve(body)
    by_md5 = Archive("toy", archive.url, archive.size, f"md5:{hashlib.md5(body).hexdigest()}", archive.unpacked_limit)
    assert download.locate(by_md5, FILES)[0].is_file()


# --- cut downloads -------------------------------------------------------------------------------------------------


class Cutting:
    """A server of ``body`` that sends at most ``cuts[i]`` bytes of its i-th answer; afterwards all."""

    def __init__(self, body: bytes, cuts: list[int], ranges: bool) -> None:
        self.body, self.cuts, self.ranges = body, list(cuts), ranges
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{self.server.server_port}/toy.zip"
        self.archive = Archive("toy", url, len(body), f"sha256:{hashlib.sha256(body).hexdigest()}", 1 << 20)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers["Range"]
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if start >= len(self.body):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        request.send_header("Content-Length", str(len(self.body) - start))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(self.body)
        request.wfile.write(self.body[start : start + cut])


@pytest.fixture
def cutting() -> Iterator[Callable[..., Cutting]]:
    servers: list[Cutting] = []

    def start(cuts: list[int], ranges: bool = True) -> Cutting:
        servers.append(Cutting(packed(CONTENT), cuts, ranges))
        return servers[-1]

    yield start
    for each in servers:
        each.server.shutdown()
        each.server.server_close()


def test_a_cut_connection_is_taken_up_again(cutting: Callable[..., Cutting], roots: Path) -> None:
    server = cutting([100, 50])
    steps: list[int] = []
    paths = download.locate(server.archive, FILES, lambda done, total: steps.append(done))
    assert paths[1].read_bytes() == CONTENT["toy/movies.csv"]
    assert server.asked == [None, "bytes=100-", "bytes=150-"]
    assert steps[:2] == [100, 150] and steps[-1] == server.archive.size
    assert list(roots.iterdir()) == [roots / "toy"]


def test_the_next_run_goes_on_from_where_the_last_was_cut(cutting: Callable[..., Cutting], roots: Path) -> None:
    server = cutting([100, 0])
    with pytest.raises(MissingDataError, match=rf"100 of {server.archive.size:,} bytes came; they are kept"):
        download.locate(server.archive, FILES)
    assert (roots / ".toy.zip.part").stat().st_size == 100

    assert download.locate(server.archive, FILES)[1].read_bytes() == CONTENT["toy/movies.csv"]
    assert server.asked == [None, "bytes=100-", "bytes=100-"]
    assert list(roots.iterdir()) == [roots / "toy"]


def test_a_server_without_ranges_starts_again(cutting: Callable[..., Cutting], roots: Path) -> None:
    server = cutting([100], ranges=False)
    assert download.locate(server.archive, FILES)[1].read_bytes() == CONTENT["toy/movies.csv"]
    assert server.asked == [None, "bytes=100-"]


@pytest.mark.parametrize("size", ["known", "unknown"])
def test_a_part_of_another_file_is_removed_and_said(cutting: Callable[..., Cutting], roots: Path, size: str) -> None:
    server = cutting([])
    archive = server.archive if size == "known" else dataclasses.replace(server.archive, size=None)
    roots.mkdir(parents=True)
    (roots / ".toy.zip.part").write_bytes(b"x" * 100)
    with pytest.raises(MissingDataError, match=r"sha256 is .*; the download was removed"):
        download.locate(archive, FILES)
    assert list(roots.iterdir()) == []
    assert download.locate(archive, FILES)[0].is_file()


def test_a_part_that_is_longer_than_the_archive_starts_again(cutting: Callable[..., Cutting], roots: Path) -> None:
    server = cutting([])
    roots.mkdir(parents=True)
    (roots / ".toy.zip.part").write_bytes(b"x" * (len(server.body) + 1))
    assert download.locate(server.archive, FILES)[0].is_file()
    assert server.asked == [f"bytes={len(server.body) + 1}-", None]


def test_two_that_fetch_at_once_fetch_once(cutting: Callable[..., Cutting], roots: Path) -> None:
    server = cutting([])
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: download.locate(server.archive, FILES), range(2)))
    assert found[0] == found[1] and found[0][0].is_file()
    assert server.asked == [None]
    assert list(roots.iterdir()) == [roots / "toy"]


def test_an_archive_of_unknown_size_is_bounded(serve: Serve, roots: Path) -> None:
    archive = dataclasses.replace(serve(packed(CONTENT)), size=None, unpacked_limit=50)
    assert "more than 50 bytes came" in only_error(archive, roots)


def test_more_bytes_than_published_are_refused(serve: Serve, roots: Path) -> None:
    archive = serve(packed(CONTENT))
    short = Archive("toy", archive.url, 100, archive.digest, archive.unpacked_limit)
    assert "more than 100 bytes came" in only_error(short, roots)


@pytest.mark.parametrize("name", ["../evil", "toy/../../evil", "/evil", "toy/../../unpacked-too/evil"])
def test_a_path_outside_the_folder_is_refused(serve: Serve, roots: Path, name: str) -> None:
    archive = serve(packed({**CONTENT, name: b"x"}))
    assert "would be written outside its folder" in only_error(archive, roots)
    assert not list(roots.parent.rglob("evil"))


def test_a_zip_bomb_is_refused(serve: Serve, roots: Path) -> None:
    archive = serve(packed({**CONTENT, "toy/zeros": bytes(2 << 20)}), limit=1 << 20)
    assert "at most 1,048,576 are expected" in only_error(archive, roots)


def test_a_damaged_zip_is_refused(serve: Serve, roots: Path) -> None:
    assert "damaged zip" in only_error(serve(packed(CONTENT)[:-30]), roots)
    body = bytearray(packed(CONTENT))
    body[100:110] = bytes(10)  # inside the first compressed entries
    assert "damaged zip" in only_error(serve(bytes(body)), roots)


def test_an_archive_of_something_else_is_refused(serve: Serve, roots: Path) -> None:
    assert "the archive holds no folder toy/" in only_error(serve(packed({"other/ratings.csv": b""})), roots)


def test_no_such_page(serve: Serve, roots: Path) -> None:
    assert "404" in only_error(serve(packed(CONTENT), status=404), roots)


def test_without_a_network_the_error_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, roots: Path
) -> None:
    monkeypatch.setenv("RECGAUGE_DATA", str(tmp_path / "my data"))
    url = "http://127.0.0.1:9/toy.zip"  # the discard port: nobody listens
    message = only_error(Archive("toy", url, 1, "sha256:0", 1), roots)
    assert message.startswith(
        f"toy: no ratings.csv, movies.csv in {tmp_path / 'my data' / 'toy'} and {roots / 'toy'}; "
    )
    assert f"curl -fL {url} -o {roots / 'toy.zip'} && unzip {roots / 'toy.zip'} -d {roots}" in message
    assert "set RECGAUGE_DATA to the folder that holds toy/" in message


def test_an_incomplete_folder_in_the_cache_is_named(serve: Serve, roots: Path) -> None:
    (roots / "toy").mkdir(parents=True)
    (roots / "toy" / "ratings.csv").touch()
    with pytest.raises(MissingDataError, match=r"toy is incomplete: remove it"):
        download.locate(serve(packed(CONTENT)), FILES)


def test_unzip_reports_the_file(tmp_path: Path) -> None:
    path = tmp_path / "some.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"some\.zip: damaged zip"):
        download.unzip(path, tmp_path / "out", 100)


GOOD_ENTRY = Entry(b"toy/ratings.csv", b"user,item\n1,2\n", method=8)

HOSTILE_ENTRIES: dict[str, tuple[list[Entry], str]] = {
    "up": ([Entry(b"../up")], "outside its folder"),
    "up from inside": ([Entry(b"toy/../../up")], "outside its folder"),
    "absolute": ([Entry(b"/etc/up")], "outside its folder"),
    "backslashes": ([Entry(b"..\\up")], "outside its folder"),
    "drive": ([Entry(b"C:/up")], "outside its folder"),
    "empty name": ([Entry(b"")], "outside its folder"),
    "line end": ([Entry(b"toy/a\nb")], "control characters"),
    "escape": ([Entry(b"toy/\x1b[31m")], "control characters"),
    "NUL": ([Entry(b"toy/a\0b")], "control characters"),
    "link": ([Entry(b"toy/link", b"/etc/passwd", mode=0o120777)], "neither a file nor a folder"),
    "device": ([Entry(b"toy/device", b"", mode=0o060600)], "neither a file nor a folder"),
    "pipe": ([Entry(b"toy/pipe", b"", mode=0o010600)], "neither a file nor a folder"),
    "encrypted": ([Entry(b"toy/x", flags=1)], "is encrypted"),
    "strongly encrypted": ([Entry(b"toy/x", flags=0x41)], "is encrypted"),
    "lzma": ([Entry(b"toy/x", method=14)], "method 14"),
    "unknown method": ([Entry(b"toy/x", method=99)], "method 99"),
    "long name": ([Entry(b"toy/" + b"n" * 300)], "too long"),
    "deep": ([Entry(b"toy/" + b"d/" * 2_500 + b"x")], "too long"),
    "twice": ([GOOD_ENTRY], "is there twice"),
    "file and folder": ([Entry(b"toy/x"), Entry(b"toy/x/y")], "damaged zip"),
    "lying size": ([Entry(b"toy/x", b"\0" * 3_000_000, method=8, size=10)], "damaged zip"),
    "bomb": ([Entry(b"toy/x", b"\0" * 3_000_000, method=8)], "would unpack to 3,000,014 bytes, at most 1,048,576"),
    "overlapping": ([Entry(b"toy/ratings2.csv", offset=0)], "damaged zip"),
    "nowhere": ([Entry(b"toy/x", offset=2**31)], "damaged zip"),
    "many": ([Entry(b"toy/%d" % n, b"") for n in range(1_000)], "1,001 entries, at most 1,000"),
}


@pytest.mark.parametrize("case", HOSTILE_ENTRIES)
def test_an_entry_that_no_data_set_has_is_refused(tmp_path: Path, case: str) -> None:
    entries, reason = HOSTILE_ENTRIES[case]
    packed_file, out = tmp_path / "toy.zip", tmp_path / "in" / "out"
    packed_file.write_bytes(raw_zip([GOOD_ENTRY, *entries]))
    out.mkdir(parents=True)
    with pytest.raises(DataError, match=r"^toy\.zip: ") as caught:
        download.unzip(packed_file, out, 1 << 20)
    assert reason in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "toy.zip"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]
    if "damaged zip" not in reason:  # refused before a byte is written
        assert list(out.iterdir()) == []


def test_a_million_entries_are_refused_soon(tmp_path: Path) -> None:
    packed_file = tmp_path / "toy.zip"
    packed_file.write_bytes(raw_zip([Entry(b"%d" % n, b"") for n in range(200_000)]))
    began = time.monotonic()
    with pytest.raises(DataError, match="200,000 entries, at most 1,000 are expected"):
        download.unzip(packed_file, tmp_path, 1 << 20)
    assert time.monotonic() - began < 10
