"""The command line. Standard library only at the top: ``--help`` and ``list`` load nothing else.

Exit codes: 0 ok (also with skipped rows), 1 user error (one line), 2 some cells failed (results are written), 3
RecGauge itself became slower, 4 nothing measured.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from datasets.errors import UserError

OK, USER_ERROR, SOME_FAILED, REGRESSION, NOTHING_MEASURED, INTERRUPTED = 0, 1, 2, 3, 4, 130

DEVICES = ("cpu", "cuda", "auto")

PROTOCOL_FLAGS = {
    "held_out": ("leave-one-out",),
    "folds": ("holdout",),
    "by": ("holdout",),
    "max_history": ("leave-one-out", "holdout"),
}
"""Flags that are short for ``--set PROTOCOL.OPTION=VALUE``, and the protocols that have the option."""

_PROGRAM = "python -m benchmarks"

_EXAMPLES = """\
examples:
  python -m benchmarks run                                  every algorithm, both small data sets, about ten minutes
  python -m benchmarks run --dataset ml-latest-small --algorithm als,ease --seeds 3
  python -m benchmarks run --algorithm 'als[factors=32],als[factors=128],ease' --dataset ml-latest-small
  python -m benchmarks run --suite clock --algorithm als,ncf   speed: five fits, pairs/s, users/s, latency, sizes
  python -m benchmarks run --config default,tuned           what tuning gained: both configurations in one table
  python -m benchmarks run --dataset my/ratings.csv --columns user=reader,item=article --items my/articles.csv
  python -m benchmarks run --dataset 'planted-genres[n_users=5000,n_ratings=100000]' --algorithm als,ease
  python -m benchmarks run --device cpu,cuda                each algorithm on each of these that it knows
  python -m benchmarks run --executor ray --address auto    on all nodes of the Ray cluster that this machine is in
  python -m benchmarks tune --dataset ml-latest-small       the same budget for every algorithm, on validation rows
  python -m benchmarks leaderboard --format markdown
  python -m benchmarks report --results results/reference --out report.html
  python -m benchmarks compare als ease                     who is better, and can the data tell
  python -m benchmarks list als                             its options, what they mean, its presets
  python -m benchmarks list ml-latest-small                 its terms, its figures, and what "latest item" means here
  python -m benchmarks predict --dataset news-articles --algorithm keras-deep-mf --out submission.csv
  python -m benchmarks split export --dataset ml-latest-small --protocol leave-one-out --out split/
  python -m benchmarks score scores.csv --name my-model --dataset ml-latest-small --protocol leave-one-out
  python -m benchmarks run --keep-models --dataset ml-latest-small --algorithm als,lightfm,ncf
  python -m benchmarks recommend --algorithm als,lightfm,ncf --user 95     what saved models say: also similar, audience
  python -m benchmarks check my-algorithm --plugin my_algorithm.py
  python -m benchmarks regress --base HEAD                  for developers: did my change make RecGauge slower
  python -m benchmarks doctor                               what this machine has, what is missing, how to get it
"""


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors that offer the nearest valid option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse; what a command does not know is its own error, where argparse has the whole line's."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split("=")[0].split(" ")[0]
        if unknown != message and unknown.startswith("-"):
            message = self._unknown(unknown) or message
        raise UserError(f"{message} (see: {self.prog} --help)")

    def _unknown(self, option: str) -> str | None:
        """Which command has ``option``, where this is one that has not, or what is near it."""
        command = self.prog.removeprefix(_PROGRAM).strip()
        has = [other.prog.removeprefix(_PROGRAM).strip() for other in _parser().parsers() if option in other.flags()]
        if has:
            where = f"of {command}" if command else "before the command"
            return f"unknown option '{option}' {where}: {', '.join(has)} {'has' if len(has) == 1 else 'have'} it"
        near = difflib.get_close_matches(option, [flag for parser in self.parsers() for flag in parser.flags()], n=1)
        return f"unknown option '{option}': did you mean '{near[0]}'?" if near else None

    def flags(self) -> list[str]:
        """The options of this command alone."""
        return list(self._option_string_actions)

    def parsers(self) -> Iterator[_Parser]:
        """This one and those of its commands."""
        yield self
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser.parsers()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        options = _parser().parse_args(arguments)
        module, _, function = options.command.partition(":")
        return int(getattr(importlib.import_module(module), function)(options))
    except UserError as error:
        print(f"recgauge: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(
            "recgauge: interrupted; what is finished is recorded, the same command goes on from here", file=sys.stderr
        )
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has gone
        sys.stderr.close()
        return OK


def _parser() -> _Parser:
    parser = _Parser(
        prog=_PROGRAM,
        description="RecGauge: compare recommender algorithms on the same data, split, candidates and clock.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(metavar="command", required=True)
    _add_run(commands)
    _add_tune(commands)
    _add_leaderboard(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_list(commands)
    _add_prepare(commands)
    _add_predict(commands)
    _add_split(commands)
    _add_score(commands)
    _add_recommend(commands)
    _add_similar(commands)
    _add_audience(commands)
    _add_check(commands)
    _add_doctor(commands)
    _add_regress(commands)
    return parser


def _add_run(commands: argparse._SubParsersAction[_Parser]) -> None:
    run = commands.add_parser(
        "run",
        help="measure what is not measured yet and print the leaderboards",
        description="Measure what is not measured yet and print the leaderboards. Finished cells are never run again.",
        epilog="example: python -m benchmarks run --dataset ml-latest-small --algorithm als,ease --seeds 3",
        allow_abbrev=False,
    )
    run.add_argument(
        "--suite", default="quick", help="what to run: a name in benchmarks/suites or a TOML file (default: quick)"
    )
    run.add_argument(
        "--algorithm",
        action="append",
        metavar="NAME,…",
        help="these instead of the suite's; NAME:PRESET and NAME[OPTION=VALUE,…] are possible",
    )
    run.add_argument(
        "--config",
        action="append",
        metavar="PRESET,…",
        help="each algorithm with those of these presets that it has: default, report, tuned (what 'tune' found)",
    )
    _add_data(run, set_help="an option, such as als.factors=64")
    _add_splits(run)
    run.add_argument("--seeds", type=_positive, metavar="N", help="model seeds 0 to N-1, averaged per user")
    _add_machine(run, of="cell", budget="the suite's")
    run.add_argument(
        "--device",
        type=_devices,
        default=["cpu"],
        metavar="NAME,…",
        help="cpu, cuda (an NVIDIA GPU) or auto (cuda where there is a GPU that the algorithm can use, else cpu); of "
        "several, such as cpu,cuda, an algorithm has a row on each that it knows (default: cpu)",
    )
    _add_plugin(run)
    run.add_argument(
        "--compact", action="store_true", help="leave raw scores out of the side files, for results to be checked in"
    )
    run.add_argument(
        "--keep-models",
        action="store_true",
        help="save each fitted model beside its record, for recommend, similar and audience",
    )
    _add_tuned(run)
    _add_executor(run)
    run.add_argument(
        "--profile", action="store_true", help="also print where each cell's seconds went, to standard error"
    )
    run.add_argument("--dry-run", action="store_true", help="show the cells and measure nothing")
    _add_output(run)
    run.set_defaults(command="benchmarks.commands:run")


def _add_tune(commands: argparse._SubParsersAction[_Parser]) -> None:
    tune = commands.add_parser(
        "tune",
        help="search every algorithm's options under the same budget, on validation rows",
        description="Search every algorithm's options under the same budget of trials and seconds, on validation rows "
        "alone. Finished trials are never run again: the same command goes on where it was stopped.",
        epilog="example: python -m benchmarks tune --dataset ml-latest-small --algorithm als,ease --trials 20",
        allow_abbrev=False,
    )
    tune.add_argument(
        "suite", nargs="?", default="quick", help="what to tune: a name in benchmarks/suites or a TOML file"
    )
    tune.add_argument("--algorithm", action="append", metavar="NAME,…", help="these instead of the suite's")
    _add_data(tune, set_help="an option that is not to be tuned")
    tune.add_argument("--split-seed", type=_whole, default=42, metavar="N", help="of the split (default: 42)")
    tune.add_argument("--seed", type=_whole, default=0, metavar="N", help="of models and sampler (default: 0)")
    _add_machine(tune, of="trial", budget="tune-small")
    _add_one_device(tune)
    tune.add_argument("--trials", type=_positive, metavar="N", help="of one study, instead of the budget's")
    tune.add_argument(
        "--seconds", type=_positive_number, metavar="S", help="of fit and scoring of one study, instead of the budget's"
    )
    tune.add_argument(
        "--sampler", choices=("tpe", "random"), default="tpe", help="how options are drawn (default: tpe)"
    )
    tune.add_argument(
        "--pruner", choices=("median", "none"), default="median", help="what ends poor trials early (default: median)"
    )
    tune.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help="trials at a time (default: 1; with --executor ray as many as the nodes have CPUs for)",
    )
    _add_executor(tune)
    tune.add_argument(
        "--storage", metavar="URL", help="a data base such as sqlite:///tuning.db (default: journals below --results)"
    )
    _add_tuned(tune)
    _add_plugin(tune)
    tune.add_argument("--dry-run", action="store_true", help="show the studies and run nothing")
    _add_results(tune)
    tune.set_defaults(command="benchmarks.commands:tune")


def _add_leaderboard(commands: argparse._SubParsersAction[_Parser]) -> None:
    board = commands.add_parser(
        "leaderboard",
        help="print the tables of everything recorded",
        description="Print the tables of everything recorded in a results folder; measures nothing.",
        epilog="example: python -m benchmarks leaderboard --results results/reference --format markdown",
        allow_abbrev=False,
    )
    _add_selection(board)
    board.add_argument("--metrics", action="append", metavar="NAME,…", help="columns, such as hr@10,coverage@10")
    _add_output(board)
    board.set_defaults(command="benchmarks.commands:leaderboard")


def _add_report(commands: argparse._SubParsersAction[_Parser]) -> None:
    report = commands.add_parser(
        "report",
        help="everything recorded as one HTML file: tables, charts, cards",
        description="Write everything recorded in a results folder as one HTML file that needs no network: tables to "
        "sort and filter, charts, a card for each data set, algorithm and cell; measures nothing.",
        epilog="example: python -m benchmarks report --results results/reference --out report.html",
        allow_abbrev=False,
    )
    _add_selection(report)
    report.add_argument(
        "--results",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="of records; given more than once, the tables of each (default: results/runs)",
    )
    out, history = Path("report.html"), Path("results/runs/regress.jsonl")
    report.add_argument("--out", type=Path, default=out, metavar="FILE", help=f"to write (default: {out})")
    report.add_argument(
        "--history",
        type=Path,
        default=history,
        metavar="FILE",
        help=f"of RecGauge's own speed, as 'regress' adds to it (default: {history})",
    )
    report.add_argument(
        "--figures",
        type=Path,
        metavar="FOLDER",
        help="also write every chart as SVG and PDF, and every table as LaTeX with booktabs (needs Chromium)",
    )
    report.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="also take pictures of the page, wide and phone (needs Chromium)",
    )
    report.add_argument(
        "--readme",
        type=Path,
        metavar="FILE",
        help="also put tables and pictures into this file, where it marks the place",
    )
    report.set_defaults(command="benchmarks.report.command:report")


def _add_compare(commands: argparse._SubParsersAction[_Parser]) -> None:
    comparison = commands.add_parser(
        "compare",
        help="two rows of a leaderboard: how far apart, and can the data tell",
        description="Compare two rows in every table that holds both: difference, effect size, p, wins and losses.",
        epilog="example: python -m benchmarks compare als 'als (factors=64)' --dataset ml-latest-small",
        allow_abbrev=False,
    )
    for name in ("a", "b"):
        comparison.add_argument(
            name, metavar=name.upper(), help="a row: ALGORITHM, ALGORITHM:LABEL or 'ALGORITHM (LABEL)'"
        )
    _add_selection(comparison)
    _add_results(comparison)
    comparison.set_defaults(command="benchmarks.commands:compare")


def _add_list(commands: argparse._SubParsersAction[_Parser]) -> None:
    listing = commands.add_parser(
        "list",
        help="what there is; with a name, its options and what they mean",
        description="Name every algorithm, data set and protocol; with a name, its options, meanings and presets.",
        epilog="example: python -m benchmarks list als",
        allow_abbrev=False,
    )
    listing.add_argument("name", nargs="?", help="an algorithm, data set or protocol, or a file of ratings")
    _add_own_file(listing)
    _add_plugin(listing)
    listing.set_defaults(command="benchmarks.listing:show")


def _add_prepare(commands: argparse._SubParsersAction[_Parser]) -> None:
    prepare = commands.add_parser(
        "prepare",
        help="load and split the data without measuring anything",
        description="Load data sets, split them, draw candidates, and print what came out; measures nothing.",
        epilog="example: python -m benchmarks prepare --dataset ml-latest-small --splits 3",
        allow_abbrev=False,
    )
    prepare.add_argument("--suite", default="quick", help="whose data sets, protocols and splits (default: quick)")
    _add_data(prepare, set_help="an option, such as leave-one-out.negatives=999")
    _add_splits(prepare)
    _add_plugin(prepare)
    prepare.set_defaults(command="benchmarks.commands:prepare")


def _add_predict(commands: argparse._SubParsersAction[_Parser]) -> None:
    predict = commands.add_parser(
        "predict",
        help="write the ratings that a data set wants predicted, such as a contest's submission",
        description="Fit one algorithm on all ratings of a data set and predict the rows that it wants predicted.",
        epilog="example: python -m benchmarks predict --dataset news-articles --algorithm keras-deep-mf "
        "--out submission.csv",
        allow_abbrev=False,
    )
    predict.add_argument("--dataset", required=True, metavar="NAME", help="a data set with rows to predict")
    predict.add_argument("--algorithm", required=True, metavar="NAME", help="one; NAME:PRESET is possible")
    predict.add_argument("--out", required=True, type=Path, metavar="FILE", help="to write: ID,Rating")
    predict.add_argument(
        "--set", action="append", default=[], metavar="NAME.OPTION=VALUE", help="an option, such as als.factors=64"
    )
    predict.add_argument("--seed", type=_whole, default=0, metavar="N", help="of the model (default: 0)")
    _add_machine(predict, of="cell", budget="large")
    _add_one_device(predict)
    _add_plugin(predict)
    predict.set_defaults(command="benchmarks.predict:predict")


def _add_split(commands: argparse._SubParsersAction[_Parser]) -> None:
    split = commands.add_parser(
        "split",
        help="one split as files, to compare a model without porting it",
        description="Splits as files, for models that are made elsewhere and judged by 'score'.",
        allow_abbrev=False,
    )
    export = split.add_subparsers(metavar="command", required=True).add_parser(
        "export",
        help="write train rows, candidates and metadata; the held-out items stay sealed",
        description="Write one split as files in the data set's own ids: what a model may learn from, and what it is "
        "asked. The held-out items stay sealed. The README.md among them says what to hand back to 'score'.",
        epilog="example: python -m benchmarks split export --dataset ml-latest-small --protocol leave-one-out "
        "--out split/",
        allow_abbrev=False,
    )
    _add_one_split(export)
    export.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="to write; new or empty")
    export.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of the files (default: csv)")
    export.set_defaults(command="benchmarks.export:export")


def _add_score(commands: argparse._SubParsersAction[_Parser]) -> None:
    score = commands.add_parser(
        "score",
        help="judge a model's answers from a file, as a row 'external' of the tables",
        description="Judge answers that were made elsewhere on the files of 'split export', and record them as a row "
        "marked 'external'. A file has a score for every asked pair (user,item,score as CSV, TSV or Parquet, or TREC's "
        "run format) or a list for every user (user,item,rank). The same name again replaces the row.",
        epilog="example: python -m benchmarks score scores.csv --name my-model --dataset ml-latest-small --protocol "
        "leave-one-out --lists lists.csv",
        allow_abbrev=False,
    )
    score.add_argument("file", nargs="?", type=Path, metavar="FILE", help="of scores, or of lists by its header")
    score.add_argument("--name", required=True, metavar="NAME", help="of the row; no algorithm's of RecGauge")
    score.add_argument(
        "--lists", type=Path, metavar="FILE", help="of lists, for the figures against the full catalogue"
    )
    _add_one_split(score)
    score.add_argument(
        "--fit-s", type=_positive_number, metavar="SECONDS", help="what fitting took, shown as reported by you"
    )
    _add_output(score)
    score.set_defaults(command="benchmarks.external:score")


def _add_recommend(commands: argparse._SubParsersAction[_Parser]) -> None:
    recommend = commands.add_parser(
        "recommend",
        help="what saved models recommend to a user, beside what the user likes",
        description="Show what a user likes and rated lowest, and what saved models recommend: nothing that the user "
        "has rated. 'run --keep-models' saves models; nothing is fitted here.",
        epilog="example: python -m benchmarks recommend --algorithm als,lightfm,ncf --user 95",
        allow_abbrev=False,
    )
    recommend.add_argument("--user", required=True, metavar="ID", help="the data set's own id")
    recommend.add_argument(
        "--likes", type=_number, metavar="RATING", help="ratings from here on are likes (default: 4/5 of the highest)"
    )
    _add_look(recommend, n=10)
    recommend.set_defaults(command="benchmarks.look:recommend")


def _add_similar(commands: argparse._SubParsersAction[_Parser]) -> None:
    similar = commands.add_parser(
        "similar",
        help="the items most like one, by what saved models know",
        description="Show the items most like one, by what each saved model compares: factors, embeddings, weights, "
        "metadata. 'run --keep-models' saves models; nothing is fitted here.",
        epilog="example: python -m benchmarks similar --item 'forrest gump' --algorithm als:report,ease",
        allow_abbrev=False,
    )
    _add_item(similar)
    _add_look(similar, n=10)
    similar.set_defaults(command="benchmarks.look:similar")


def _add_audience(commands: argparse._SubParsersAction[_Parser]) -> None:
    audience = commands.add_parser(
        "audience",
        help="the users who would like an item most, by saved models",
        description="Show the users with the highest scores for an item, among those who have not rated it. "
        "'run --keep-models' saves models; nothing is fitted here.",
        epilog="example: python -m benchmarks audience --item 7 -n 15 --algorithm lightfm",
        allow_abbrev=False,
    )
    _add_item(audience)
    _add_look(audience, n=10)
    audience.set_defaults(command="benchmarks.look:audience")


def _add_check(commands: argparse._SubParsersAction[_Parser]) -> None:
    check = commands.add_parser(
        "check",
        help="test the harness itself, whether algorithms keep the contract, or whether records are sound",
        description="Run the harness's canaries, then the contract suite on the named algorithms (default: all). With "
        "--results: verify every record below a folder instead, and compute its figures again from its side file.",
        epilog="examples: python -m benchmarks check my-algorithm --plugin my_algorithm.py; "
        "python -m benchmarks check --results results/reference",
        allow_abbrev=False,
    )
    check.add_argument("name", nargs="*", help="an algorithm")
    check.add_argument("--results", type=Path, metavar="FOLDER", help="verify the records below this folder instead")
    _add_plugin(check)
    check.set_defaults(command="benchmarks.check:check")


def _add_doctor(commands: argparse._SubParsersAction[_Parser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        help="what this machine has, what is missing and how to get it",
        description="Say what this machine has, what is missing and how to get it, and test the harness.",
        allow_abbrev=False,
    )
    doctor.set_defaults(command="benchmarks.doctor:doctor")


def _add_regress(commands: argparse._SubParsersAction[_Parser]) -> None:
    regress = commands.add_parser(
        "regress",
        help="has RecGauge itself become slower (for its developers)",
        description="Measure RecGauge's own speed, each benchmark as a ratio to a control in the same run, and compare "
        "with the baseline of this kind of machine. A benchmark is slower when its ratio is above the baseline by more "
        "than it may be, significantly, and again in a second measurement.",
        epilog="example: python -m benchmarks regress -k fit/als -k load --base HEAD~1. Exit codes: 3 slower, 2 a "
        "benchmark failed, 4 nothing was compared.",
        allow_abbrev=False,
    )
    regress.add_argument(
        "-k",
        dest="path",
        action="append",
        default=[],
        metavar="PATH",
        help="these benchmarks only: a path such as fit/als, or a part of it such as fit or als; * is anything",
    )
    regress.add_argument(
        "--base", metavar="REV", help="compare with this commit, measured in turn with the working tree"
    )
    regress.add_argument(
        "--accept", metavar="REASON", help="make what is measured the baseline of this kind of machine, and say why"
    )
    baselines, history = Path("results/baselines"), Path("results/runs/regress.jsonl")
    regress.add_argument(
        "--baselines", type=Path, default=baselines, metavar="FOLDER", help=f"of baselines (default: {baselines})"
    )
    regress.add_argument(
        "--history", type=Path, default=history, metavar="FILE", help=f"gets a line a run (default: {history})"
    )
    _add_plugin(regress)
    regress.add_argument("--dry-run", action="store_true", help="name the benchmarks and measure nothing")
    regress.set_defaults(command="benchmarks.regress:regress")


def _add_item(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--item",
        required=True,
        metavar="ID|TITLE",
        help="the data set's own id, or a title: case, order of words, year and small typos do not matter",
    )


def _add_look(parser: argparse.ArgumentParser, n: int) -> None:
    """Which saved models to look at, and how much of them."""
    parser.add_argument("-n", type=_positive, default=n, metavar="N", help=f"length of a list (default: {n})")
    parser.add_argument(
        "--algorithm",
        action="append",
        metavar="NAME,…",
        help="as for run: NAME, NAME:PRESET, NAME[OPTION=VALUE,…] (default: all whose default preset is saved)",
    )
    _add_data(parser, set_help="an option, such as als.factors=64", default="ml-latest-small, leave-one-out")
    parser.add_argument("--split-seed", type=_whole, default=42, metavar="N", help="of the split (default: 42)")
    parser.add_argument("--seed", type=_whole, default=0, metavar="N", help="of the models (default: 0)")
    parser.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help="that the models were fitted with (default: 1)"
    )
    _add_one_device(parser)
    _add_plugin(parser)
    _add_tuned(parser)
    _add_results(parser)
    parser.add_argument("--format", choices=("terminal", "json"), default="terminal", help="(default: terminal)")
    parser.set_defaults(suite="quick")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", action="append", metavar="NAME,…", help="these only")
    parser.add_argument("--protocol", action="append", metavar="NAME,…", help="these only")
    parser.add_argument("--config", action="append", metavar="PRESET,…", help="rows of these only, such as default")
    _add_plugin(parser)


def _add_data(parser: argparse.ArgumentParser, set_help: str, default: str | None = None) -> None:
    """What to measure on: data sets and protocols with their options; ``default``: data set and protocol, else the
    suite's."""
    several = "these instead of the suite's"
    dataset, protocol = (f"one (default: {each})" for each in default.split(", ")) if default else (several, several)
    parser.add_argument("--dataset", action="append", metavar="NAME,…|FILE", help=dataset)
    _add_own_file(parser)
    parser.add_argument(
        "--drop-train-only",
        action="store_true",
        help="news-articles: leave out the ratings of users who are in train.csv only",
    )
    parser.add_argument("--protocol", action="append", metavar="NAME,…", help=protocol)
    parser.add_argument("--set", action="append", default=[], metavar="NAME.OPTION=VALUE", help=set_help)
    _add_protocol_flags(parser)


def _add_splits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--splits", type=_positive, metavar="N", help="split seeds 42 to 41+N")


def _add_one_split(parser: argparse.ArgumentParser) -> None:
    """One data set, one protocol, one split seed: what files of answers are about."""
    parser.add_argument("--dataset", required=True, metavar="NAME|FILE", help="one data set, or a file of ratings")
    _add_own_file(parser)
    parser.add_argument("--protocol", required=True, metavar="NAME", help="one protocol")
    parser.add_argument("--split-seed", type=_whole, default=42, metavar="N", help="of the split (default: 42)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME.OPTION=VALUE",
        help="an option of the protocol, such as leave-one-out.negatives=999",
    )
    _add_protocol_flags(parser)
    _add_plugin(parser)


def _add_plugin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin",
        action="append",
        type=Path,
        default=[],
        metavar="FILE.py",
        help="adds your own algorithms, data sets and protocols",
    )


def _add_own_file(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group(
        "your own file", "CSV, TSV, :: or Parquet with a header line, such as --dataset path/to/ratings.csv"
    )
    own.add_argument(
        "--columns", metavar="user=…,item=…,rating=…,time=…", help="its column names, where they are not plain"
    )
    own.add_argument("--items", type=Path, metavar="FILE", help="titles and metadata of items, with an id column")
    own.add_argument("--users", type=Path, metavar="FILE", help="metadata of users, with an id column")
    own.add_argument("--scale", metavar="LOW,HIGH", help="lowest and highest rating (default: what the file holds)")


def _add_machine(parser: argparse.ArgumentParser, of: str, budget: str) -> None:
    """Where and within which limits a cell or trial runs; ``budget`` is the default, in words."""
    parser.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help=f"threads of a {of} (default: 1, the reference)"
    )
    parser.add_argument(
        "--budget", metavar="NAME", help=f"limits, as benchmarks/budgets.toml names them (default: {budget})"
    )
    for flag, unit in (("--time-limit", "SECONDS"), ("--memory-limit", "GIB")):
        parser.add_argument(flag, type=_positive_number, metavar=unit, help=f"of one {of}, instead of the budget's")


def _add_executor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--executor",
        choices=("local", "ray"),
        default="local",
        help="where workers run: local, one at a time on this machine, or ray, on all nodes of a Ray cluster "
        "(default: local)",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of the Ray cluster, or auto: the one that this machine is a node of (default: one of this machine alone)",
    )


def _add_one_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        type=_device,
        default="cpu",
        metavar="NAME",
        help="cpu, cuda (an NVIDIA GPU) or auto: cuda where there is a GPU that the algorithm can use, else cpu "
        "(default: cpu)",
    )


def _add_tuned(parser: argparse.ArgumentParser) -> None:
    default = Path("results/tuned")
    parser.add_argument(
        "--tuned", type=Path, default=default, metavar="FOLDER", help=f"of tuned configurations (default: {default})"
    )


def _add_results(parser: argparse.ArgumentParser) -> None:
    default = Path("results/runs")
    parser.add_argument(
        "--results", type=Path, default=default, metavar="FOLDER", help=f"of records (default: {default})"
    )


def _add_protocol_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--held-out", choices=("latest", "random"), help="leave-one-out: a user's latest or a random item"
    )
    parser.add_argument("--folds", type=_positive, metavar="K", help="holdout: k-fold instead of one 80/20 split")
    parser.add_argument(
        "--by", choices=("random", "time"), help="holdout: random rows, or the latest fifth of all times"
    )
    parser.add_argument(
        "--max-history", type=_positive, metavar="K", help="train on the latest K interactions of each user only"
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
    _add_results(parser)
    parser.add_argument(
        "--format",
        choices=("terminal", "markdown", "csv", "json"),
        default="terminal",
        help="of the tables (default: terminal)",
    )


def _devices(text: str) -> list[str]:
    """``"cpu,cuda"`` -> ``["cpu", "cuda"]``."""
    names = text.split(",")
    for name in names:
        if name not in DEVICES:
            raise argparse.ArgumentTypeError(f"'{name}' is not a device: cpu, cuda, auto, or several with commas")
    return names


def _device(text: str) -> str:
    if text not in DEVICES:
        hint = ": 'run' takes several, this command one" if "," in text else ""
        raise argparse.ArgumentTypeError(f"'{text}' is not one of cpu, cuda, auto{hint}")
    return text


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0")
    return int(text)


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return number


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return number
