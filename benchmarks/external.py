"""``score``: judge answers that were made elsewhere as those of any algorithm here, and record them as a row.

The answers of a file take the place of a fitted model; counts, metrics and records are made by the code that makes
them for every algorithm. No model code runs here, so labels may be read in this very process.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms.registry import ALGORITHMS, NATIVE
from benchmarks import leaderboard as boards
from benchmarks import locks, records, split_store
from benchmarks.answers import AnswerFile, open_answers, read_lists, read_scores
from benchmarks.cli import NOTHING_MEASURED, OK
from benchmarks.environment import (
    ROOT,
    commit,
    digest,
    file_digest,
    hardware,
    hardware_fingerprint,
    package_versions,
    require_our_datasets_package,
)
from benchmarks.executors.local import LocalExecutor
from benchmarks.one_split import Asked, OneSplit, one_split
from benchmarks.oracle import ORACLE
from benchmarks.records import EXTERNAL, Record
from benchmarks.render import render
from benchmarks.run import NothingMeasured, wrong_canaries
from benchmarks.worker import save_side_file
from datasets.errors import UserError
from datasets.top_k import PADDING
from datasets.types import FloatArray, IntArray
from protocols.metrics import TOP_K
from protocols.types import Arrays, EvaluationProtocol

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,59}")

_OF_CANDIDATES = (f"hr@{TOP_K}", f"ndcg@{TOP_K}", "mrr")
_OF_LISTS = (
    *(f"hr@{TOP_K}/full", f"ndcg@{TOP_K}/full"),
    *(f"coverage@{TOP_K}", f"novelty@{TOP_K}", f"diversity@{TOP_K}", f"diversity@{TOP_K}/left-out"),
)
_WITHOUT_LISTS = "the file has scores of the candidates alone, and no lists of the full catalogue"
_WITHOUT_SCORES = "the file has lists, and no scores of the candidates"
_CUT = "a list does not say where the items stand that are not in it"

_SOURCES = ("benchmarks/answers.py", "benchmarks/external.py")


@dataclass(frozen=True, eq=False)
class Answers:
    """All that files say, as a ``Scorer``: whoever asks for something else gets an error.

    Attributes:
        scores: (p,) float64 of the question's pairs, or None.
        lists: (m, longest) int32 of its ``rank_users``, ``PADDING`` at the end, or None.
    """

    asked: Asked
    scores: npt.NDArray[np.float64] | None
    lists: npt.NDArray[np.int32] | None

    lists_from_scores = False

    def score_pairs(self, users: IntArray, items: IntArray) -> FloatArray:
        """(p,) scores as the file has them."""
        assert self.scores is not None
        question, n_items = self.asked.question, len(self.asked.item_ids)
        wanted, keys = (
            of_users.astype(np.int64) * n_items + of_items
            for of_users, of_items in ((question.pair_users, question.pair_items), (users, items))
        )
        return self.scores[np.searchsorted(wanted, keys)]

    def score(self, users: IntArray) -> FloatArray:
        """(b, n_items) float32: minus the rank of what is listed, and one value below all of them for the rest."""
        lists = self._of(users)
        scores = np.full((len(users), len(self.asked.item_ids)), -lists.shape[1] - 1, dtype=np.float32)
        rows, ranks = np.nonzero(lists != PADDING)
        scores[rows, lists[rows, ranks]] = -ranks - 1
        return scores

    def recommend(
        self, users: IntArray, k: int, exclude: sparse.csr_matrix, scores: FloatArray | None = None
    ) -> npt.NDArray[np.int32]:
        """(b, k) the lists' beginnings; reading them has made sure that they leave out ``exclude``."""
        return self._of(users)[:, :k]

    def _of(self, users: IntArray) -> npt.NDArray[np.int32]:
        assert self.lists is not None
        return self.lists[np.searchsorted(self.asked.question.rank_users, users)]

    def outcomes(self, protocol: EvaluationProtocol, labels: Arrays) -> Arrays:
        """What the protocol makes of the part of its question that is answered."""
        question, nothing = self.asked.question, np.empty(0, dtype=np.int32)
        if self.lists is None:
            question = question.for_users(nothing)
        if self.scores is None:
            question = question.without_pairs()
        return protocol.evaluate(self, question, labels, self.asked.seen)

    def not_answered(self) -> dict[str, str]:
        """Metric -> why these files do not have it. A rating protocol asks for scores alone."""
        if not len(self.asked.question.rank_users):
            return {}
        reasons = {"mrr/full": _WITHOUT_LISTS if self.lists is None else _CUT}
        if self.lists is None:
            reasons |= dict.fromkeys(_OF_LISTS, _WITHOUT_LISTS)
        if self.scores is None:
            reasons |= dict.fromkeys(_OF_CANDIDATES, _WITHOUT_SCORES)
        return reasons


def score(options: argparse.Namespace) -> int:
    """Read the files, judge them, write the record and print the tables that hold it."""
    require_our_datasets_package()
    began = time.monotonic()
    records.sweep_results(options.results)
    scores, lists = _files(options.file, options.lists)
    split = one_split(options, "score")
    _require_free_name(options.name, options.results, split)
    if lists is not None and split.preparation.protocol.task != "ranking":
        raise UserError(f"{lists.path}: lists, but {split.preparation.protocol.name} asks for ratings: give scores")
    asked = Asked.of(split)
    answers = Answers(
        asked,
        None if scores is None else read_scores(scores, asked),
        None if lists is None else read_lists(lists, asked, TOP_K),
    )
    try:
        _require_right_harness()
    except NothingMeasured as error:
        print(f"recgauge: {error}", file=sys.stderr)
        return NOTHING_MEASURED
    given = {"scores": scores, "lists": lists}
    files = [
        {"what": what, "format": file.kind, "sha256": file_digest(file.path)}
        for what, file in given.items()
        if file is not None
    ]
    record = _write(options, split, answers, files, began)
    print(f"{options.name} ({EXTERNAL}) is scored: {record.path}", file=sys.stderr)
    print(render(_tables_with(record, options.results), {}, options.format))
    return OK


def _files(file: Path | None, lists: Path | None) -> tuple[AnswerFile | None, AnswerFile | None]:
    """The files of scores and of lists; one alone is whatever its header says."""
    if file is None and lists is None:
        raise UserError("score: name a file of scores, or one of lists: python -m benchmarks score FILE --name NAME")
    scores = None if file is None else open_answers(file)
    if lists is not None:
        if scores is not None and not scores.has_scores:
            raise UserError(f"{file}: lists, as {lists} is too: leave out one of them")
        return scores, open_answers(lists)
    assert scores is not None
    return (scores, None) if scores.has_scores else (None, scores)


def _require_free_name(name: str, results: Path, split: OneSplit) -> None:
    """A name that can be typed and be a folder's, and is no algorithm's of this checkout or of these results."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name}: letters, digits and . _ + - are possible, 60 of them, a letter or digit first")
    taken = {known.lower() for known in (*ALGORITHMS, ORACLE.name, "all")}
    folder = results / split.preparation.dataset.name / split.preparation.protocol.name / name
    others = filter(None, map(records.read, folder.glob("*.json")))
    if name.lower() in taken or any(not record.is_external for record in others):
        raise UserError(f"--name {name}: an algorithm here has that name: choose another, such as my-{name}")


def _require_right_harness() -> None:
    with LocalExecutor() as executor:
        if wrong := wrong_canaries(executor):
            raise NothingMeasured(f"nothing was scored, the harness is wrong: {'; '.join(wrong)}")


def _write(
    options: argparse.Namespace, split: OneSplit, answers: Answers, files: list[dict[str, Any]], began: float
) -> Record:
    """Evaluate, and put the record in its place, which is the name's on this split whatever the file holds."""
    protocol, preparation = split.protocol, split.preparation
    outcomes = answers.outcomes(protocol, split_store.load_labels(preparation.folder))
    missing = answers.not_answered()
    metrics = {name: value for name, value in protocol.metrics(outcomes).items() if name not in missing}
    place = {
        "name": options.name,
        "dataset": split.meta["dataset"]["fingerprint"],
        "split": split.meta["split"]["fingerprint"],
        "protocol": [preparation.protocol.name, preparation.protocol_config],
    }
    key = digest({EXTERNAL: place})
    data = {
        "key": key,
        "status": "ok",
        "reason": None,
        "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "dataset": split.meta["dataset"],
        "protocol": {
            "name": preparation.protocol.name,
            "config": preparation.protocol_config,
            "task": preparation.protocol.task,
            "primary": preparation.protocol.primary,
        },
        "split": split.meta["split"],
        "algorithm": {"name": options.name, "label": EXTERNAL, "config": {}, "support": NATIVE},
        "external": {
            "files": files,
            "fit_s": options.fit_s,
            "ranked_users": 0 if answers.lists is None else len(answers.lists),
            "not_measured": missing,
        },
        "seed": 0,
        "threads": 1,
        "device": "cpu",
        "metrics": {**metrics, **dict.fromkeys(missing)},
        "timings": None,
        "memory": {"peak_group_rss_bytes": None},
        "wall_s": round(time.monotonic() - began, 3),
        "limits": None,
        "hardware": hardware(),
        "hardware_fingerprint": hardware_fingerprint(),
        "environment": {
            "packages": package_versions(("numpy", "scipy", "pyarrow")),
            "variables": {},
            "commit": commit(),
            "code": digest([file_digest(ROOT / source) for source in _SOURCES]),
        },
    }
    results = options.results.resolve()
    path = records.record_path(results, preparation.dataset.name, preparation.protocol.name, options.name, key)
    with (
        locks.waited_for(results, key[:32]),
        records.scratch_folder(results, key[:16]) as scratch,
        records.writing(results),
    ):
        records.set_aside_damaged(path)
        side = scratch / "outcomes.npz"
        with side.open("wb") as file:
            save_side_file(file, outcomes)
        return records.write(path, data, side, log=None)


def _tables_with(record: Record, results: Path) -> list[boards.Table]:
    """The tables of a results folder in which the record is a row."""
    about = ("dataset", "protocol")
    found, damages = records.read_all(results.resolve())
    alike = [each for each in found if all(each.data[name]["name"] == record.data[name]["name"] for name in about)]
    alike, of_files = records.complete(alike)
    records.tell([*damages, *of_files])
    path = str(record.path.relative_to(results.resolve()))
    tables = boards.build(alike, results.resolve())
    return [table for table in tables if any(path in row["records"] for row in table.rows)]
