"""Does ``regress`` find a slowdown of 1.3 times, and is it quiet otherwise? An hour and a half on two cores.

    python tests/performance/detection.py planted --tries 20 --out results/reference/regress/planted.jsonl
    python tests/performance/detection.py unchanged --runs 10 --out results/reference/regress/unchanged.jsonl

Needs a baseline of this kind of machine. ``planted`` slows six paths one at a time (``planted.py``); ``unchanged`` runs
the whole check on unchanged code, a busy loop on one core during every other run. Each line of the output is a run; a
summary ends on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from planted import TARGETS

ROOT = Path(__file__).resolve().parents[2]

FACTOR = 1.3
QUIET, CAUGHT = 0, 3
"""Exit codes: nothing is slower, something is."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Prove that 'regress' finds slowdowns and raises no false alarm.")
    parser.add_argument("what", choices=("planted", "unchanged"))
    parser.add_argument("--tries", type=int, default=20, help="of each planted path (default: 20)")
    parser.add_argument("--runs", type=int, default=10, help="of the whole check on unchanged code (default: 10)")
    parser.add_argument("--out", type=Path, required=True, help="gets a line a run")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w") as out:
        for line in planted(options.tries) if options.what == "planted" else unchanged(options.runs):
            print(json.dumps(line), file=out, flush=True)
            print(f"{line['what']}: exit code {line['exit_code']}, {line['seconds']} s", file=sys.stderr, flush=True)
    summarise([json.loads(line) for line in options.out.read_text().splitlines()])


def planted(tries: int) -> Iterator[dict[str, Any]]:
    """The paths in turn, so that a bad moment of the machine is not one path's."""
    for _ in range(tries):
        for path, (chosen, _) in TARGETS.items():
            yield {"what": path, **run(["-k", chosen], {"RECGAUGE_PLANTED": f"{path}:{FACTOR}"})}


def unchanged(runs: int) -> Iterator[dict[str, Any]]:
    for turn in range(runs):
        busy = turn % 2 == 1
        with busy_loop() if busy else nullcontext():
            yield {"what": "unchanged, one core busy" if busy else "unchanged", **run([], {})}


def run(arguments: list[str], variables: Mapping[str, str]) -> dict[str, Any]:
    """One ``regress`` and its line of history."""
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder, "history.jsonl")
        command = [sys.executable, "-m", "benchmarks", "regress", *arguments, "--history", str(history)]
        begin = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True)
        seconds = round(time.monotonic() - begin, 1)
        if not history.exists():
            raise RuntimeError(f"regress measured nothing:\n{done.stdout}{done.stderr}")
        line = json.loads(history.read_text())
    statuses = {row["status"] for row in line["benchmarks"].values()}
    if done.returncode not in (QUIET, CAUGHT) or statuses & {"failed", "new"}:
        raise RuntimeError(f"this is no evidence, exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    measured = {path: {"status": row["status"], "changes": _changes(row)} for path, row in line["benchmarks"].items()}
    return {"exit_code": done.returncode, "seconds": seconds, "commit": line["commit"], "benchmarks": measured}


def _changes(row: dict[str, Any]) -> list[float]:
    return [round(each["ratio"] / each["before"], 3) for each in row["measured"]]


def summarise(lines: list[dict[str, Any]]) -> None:
    tries = Counter(line["what"] for line in lines)
    alarms = Counter(line["what"] for line in lines if line["exit_code"] == CAUGHT)
    for what, n in tries.items():
        longest = max(line["seconds"] for line in lines if line["what"] == what)
        print(f"{what:<26} {alarms[what]:>3} of {n} found slower, at most {longest:.0f} s a run")
    print(f"{'all':<26} {alarms.total():>3} of {tries.total()}")


@contextmanager
def busy_loop() -> Iterator[None]:
    """One core's worth of work for nothing."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
