"""From a suite and flags to cells: what will be measured, under which key, and what cannot run and why.

Nothing here loads a framework: adapter modules import NumPy at most.
"""

from __future__ import annotations

import dataclasses
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

from algorithms import gpu
from algorithms import registry as algorithm_registry
from algorithms.base import FactorRecommender, Recommender, Shape
from algorithms.config import resolve_config, shown
from algorithms.registry import TUNED
from benchmarks.environment import (
    ROOT,
    digest,
    file_digest,
    gpu_obstacle,
    hardware,
    package_version,
    package_versions,
    worker_variables,
)
from benchmarks.executors.local import Limits
from benchmarks.oracle import ORACLE
from benchmarks.progress import download_progress
from datasets import registry as dataset_registry
from datasets.cache import cache_root
from datasets.errors import MissingDataError, UserError, unknown_name
from datasets.loader import Loader, changed_options
from datasets.own_file import own_file_spec, parse_columns, parse_scale
from protocols import registry as protocol_registry

SUITES = ROOT / "benchmarks" / "suites"
BUDGETS = ROOT / "benchmarks" / "budgets.toml"
FIRST_SPLIT_SEED = 42
TUNING_BUDGET = "tune-small"

Overrides = dict[str, dict[str, str]]
"""Name of an algorithm or protocol -> option -> value as typed."""

_LARGEST_TOML, _LONGEST_KEY = 4 << 20, 1_000
_MOST = 10_000
"""Of seeds, splits and repeats in a suite: as many cells are planned before the first one runs."""

_EXTRA_NEEDS = {"lightfm": " (needs a C compiler: apt install gcc, or xcode-select --install)"}

_RESULT_SOURCES = (
    *("algorithms/types.py", "algorithms/base.py", "datasets/types.py", "datasets/features.py", "datasets/top_k.py"),
    *("benchmarks/worker.py", "benchmarks/search.py", "benchmarks/objective.py", "benchmarks/scorers.py"),
    *("benchmarks/clock.py", "benchmarks/throughput.py", "benchmarks/split_store.py"),
)


@dataclass(frozen=True)
class Suite:
    """What to run, as a TOML file in ``suites/`` says it; flags replace single fields."""

    summary: str
    budget: str
    datasets: tuple[str, ...]
    protocols: tuple[str, ...]
    algorithms: tuple[str, ...]
    seeds: int = 1
    splits: int = 1
    repeats: int = 1
    """Timed fits of each cell, a fresh model each."""
    throughput: bool = False
    """Whether to measure how fast fitted models answer, for all that the clock can tell."""
    set: tuple[str, ...] = ()
    """Options of what it names, as ``--set`` takes them; those of the command line come on top."""


@dataclass(frozen=True)
class AlgorithmChoice:
    """One algorithm with one resolved configuration."""

    spec: algorithm_registry.AlgorithmSpec
    label: str
    config: dict[str, Any]
    given: dict[str, str] = field(default_factory=dict)
    """The options that the user set, as typed: tuning leaves them alone."""
    tuned: dict[str, Any] | None = None
    """The study behind ``config``, for the record, where that is the preset ``tuned``: see ``tuned.py``."""
    unusable: str | None = None
    """Why there is no configuration for this split, or none that may be used on it."""
    gpus: tuple[str, ...] | None = None
    """The GPUs of a cluster's nodes, where its cells run there; None: this machine's are asked."""

    @cached_property
    def adapter(self) -> type[Recommender]:
        return algorithm_registry.load_class(self.spec)

    @cached_property
    def variables(self) -> dict[str, str]:
        """Environment variables that must be set before a worker of this adapter starts."""
        return self.adapter.environment(self.adapter.Config(**self.config))

    def packages(self, device: str) -> tuple[str, ...]:
        """Distributions whose versions decide this configuration's figures on ``device``."""
        lists = ("implicit",) if issubclass(self.adapter, FactorRecommender) else ()  # by which these make theirs
        return tuple(dict.fromkeys((*self.spec.packages_of(self.config, device), *lists)))

    def cannot_use(self, device: str) -> str | None:
        """Why this configuration has nothing to run on ``device`` here, or None."""
        if device not in self.spec.devices:
            return f"{self.spec.name} runs on {', '.join(self.spec.devices)}, not on {device}"
        if device == "cpu":
            return None
        if self.gpus is not None:  # whether a framework can use them, the nodes' workers find out
            return None if self.gpus else "no node of the cluster has a GPU"
        if not hardware()["gpus"]:
            return "no GPU here: nvidia-smi finds none"
        needed = self.spec.packages_of(self.config, device)
        frameworks = (name for name in needed if name in gpu.FRAMEWORKS and package_version(name))
        return next(filter(None, map(gpu_obstacle, frameworks)), None)

    def devices(self, asked: Iterable[str]) -> list[str]:
        """Where this configuration is measured: what ``auto`` stands for, and no device that it never runs on.

        If it runs on none of them, all: its rows then say so.
        """
        named = list(dict.fromkeys(self._resolved(device) for device in asked))
        return [device for device in named if device in self.spec.devices] or named

    def _resolved(self, device: str) -> str:
        """``auto`` is cuda where the machine has a GPU that this configuration can use, else cpu."""
        if device != "auto":
            return device
        return "cpu" if self.cannot_use("cuda") else "cuda"

    @cached_property
    def sources(self) -> str:
        """Digest of the code that decides this algorithm's figures."""
        module = self.spec.target.partition(":")[0]
        files = [Path(str(sys.modules[module].__file__))]
        files += [files[0].with_name(f"{sibling}.py") for sibling in self.spec.siblings]
        return digest([_file_digest(file) for file in files] + [_harness_digest()])


@dataclass(frozen=True)
class Preparation:
    """One split of one data set, to be prepared or found prepared."""

    dataset: dataset_registry.DatasetSpec
    sources: tuple[Path, ...]
    protocol: protocol_registry.ProtocolSpec
    protocol_config: dict[str, Any]
    split_seed: int

    @cached_property
    def name(self) -> str:
        """For people: ``ml-latest-small · holdout (folds=5, fold=0) · split 42``, options where not the default."""
        options = f" ({', '.join(self.changed)})" if self.changed else ""
        return f"{self.dataset.name} · {self.protocol.name}{options} · split {self.split_seed}"

    @cached_property
    def changed(self) -> list[str]:
        """``["folds=5", "fold=0"]``: options of the protocol that are not the default."""
        default = dataclasses.asdict(protocol_registry.load_class(self.protocol).Config())
        return [f"{name}={value}" for name, value in self.protocol_config.items() if value != default[name]]

    @cached_property
    def folder(self) -> Path:
        """``cache/splits/<request>``: named by all that decides its content."""
        stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.sources]
        request = {
            "dataset": [self.dataset.name, self.dataset.target, dict(self.dataset.options)],
            "sources": stats,
            "protocol": [self.protocol.name, self.protocol_config],
            "split_seed": self.split_seed,
            "code": [_folder_digest("datasets"), _folder_digest("protocols"), _harness_digest()],
            "plugins": [_file_digest(_module_file(spec.target)) for spec in (self.dataset, self.protocol)],
        }
        return cache_root() / "splits" / digest(request)[:32]


@dataclass(frozen=True)
class Cell:
    """One algorithm config on one split with one seed on one device."""

    choice: AlgorithmChoice
    preparation: Preparation
    meta: dict[str, Any] = field(repr=False)
    seed: int
    threads: int
    device: str
    machine: dict[str, Any] = field(default_factory=hardware, repr=False)
    """``hardware()`` of where it runs: of this machine, or of a cluster's node."""

    @property
    def name(self) -> str:
        """For people: ``als (factors=64) · ml-latest-small · leave-one-out · split 42 · seed 0``, with another device
        than the CPU at the end."""
        label = "" if self.choice.label == "default" else f" ({self.choice.label})"
        device = "" if self.device == "cpu" else f" · {self.device}"
        return f"{self.choice.spec.name}{label} · {self.preparation.name} · seed {self.seed}{device}"

    @property
    def packages(self) -> dict[str, str | None]:
        """Installed versions of all that decides the figures."""
        return package_versions(self.choice.packages(self.device))

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of this cell's worker."""
        return worker_variables(self.threads, self.choice.variables, self.device)

    @property
    def environment(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Extra and variables: cells of one environment may share a worker; frameworks never meet."""
        return self.choice.spec.extra or "", tuple(sorted(self.variables.items()))

    @cached_property
    def key(self) -> str:
        """sha256 over all that decides the figures, and nothing that does not (limits are recorded, not hashed)."""
        return digest(
            {
                "dataset": self.meta["dataset"]["fingerprint"],
                "split": self.meta["split"]["fingerprint"],
                "protocol": [self.preparation.protocol.name, self.preparation.protocol_config],
                "algorithm": [self.choice.spec.name, self.choice.config],
                "seed": self.seed,
                "threads": self.threads,
                "device": self.device,
                "hardware": digest(self.machine),
                "packages": self.packages,
                "sources": [self.choice.sources, _folder_digest("protocols")],
                "support": self.choice.spec.support,
                **({"truth": self.meta["truth"]} if self.choice.spec is ORACLE else {}),
            }
        )

    def cannot_run(self, limits: Limits) -> str | None:
        """Why this cell is skipped, or None."""
        spec = self.choice.spec
        if reason := self.choice.cannot_use(self.device) or not_installed(spec, self.choice.packages(self.device)):
            return reason
        if self.preparation.protocol.task not in spec.support:
            return f"{spec.name} gives no answer to a {self.preparation.protocol.task} protocol"
        if self.choice.unusable:
            return self.choice.unusable
        sizes = self.meta["dataset"]
        shape = Shape(sizes["n_users"], sizes["n_items"], sizes["n_rows"])
        needed = self.choice.adapter.memory_estimate(shape, self.choice.adapter.Config(**self.choice.config))
        if needed is not None and needed > limits.memory_bytes:
            return f"needs about {needed / 2**30:.1f} GiB, the limit is {limits.memory_bytes / 2**30:.1f} GiB"
        return None


def not_installed(spec: algorithm_registry.AlgorithmSpec, needed: Iterable[str] | None = None) -> str | None:
    """Which package of an algorithm is missing and how to install it, or None.

    ``needed`` are those of a configuration that may do without some; one of a configuration alone is named by whatever
    needs it.
    """
    required = spec.packages if needed is None else [name for name in needed if name in spec.packages]
    missing = [name for name in required if package_version(name) is None]
    if not missing:
        return None
    command = install_command(spec.extra) if spec.extra else f"pip install {missing[0]}"
    return f"{missing[0]} is not installed: {command}{_EXTRA_NEEDS.get(str(spec.extra), '')}"


def install_command(extra: str) -> str:
    """What to type, in the checkout, for an optional dependency group."""
    return f"pip install -c constraints.txt '.[{extra}]'"


def load_suite(name: str) -> Suite:
    """The suite of that name in ``suites/``, or the TOML file at that path.

    Raises:
        UserError: no such suite, no valid TOML, or a field that a suite does not have.
    """
    path = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    if not path.is_file():
        raise unknown_name("suite", name, (file.stem for file in SUITES.glob("*.toml")))
    fields = _read_toml(path)
    known = {each.name for each in dataclasses.fields(Suite)}
    for unknown in fields.keys() - known:
        raise UserError(f"{path}: {unknown_name('field of a suite', unknown, known)}")
    missing = {each.name for each in dataclasses.fields(Suite) if each.default is dataclasses.MISSING} - fields.keys()
    if missing:
        raise UserError(f"{path}: a suite needs {', '.join(sorted(missing))}")
    declared = {each.name: str(each.type) for each in dataclasses.fields(Suite)}
    for name, value in fields.items():
        if not _is_of_type(value, declared[name]):
            raise UserError(f"{path}: {name} = {value!r:.80}: {_SUITE_TYPES[declared[name]]} is required")
    lists: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    suite = Suite(**lists)
    names = [*algorithm_registry.ALGORITHMS, *protocol_registry.PROTOCOLS]
    try:
        overrides = parse_assignments(suite.set)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    for unknown in overrides.keys() - set(names):
        raise UserError(f"{path}: set: {unknown_name('algorithm or protocol', unknown, names)}")
    return suite


_SUITE_TYPES = {
    "str": "a text",
    "int": f"a whole number from 1 to {_MOST:,}",
    "bool": "true or false",
    "tuple[str, ...]": "a list of texts",
}


def _is_of_type(value: object, declared: str) -> bool:
    if declared == "str":
        return isinstance(value, str)
    if declared == "bool":
        return isinstance(value, bool)
    if declared == "int":
        return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def load_limits(budget: str, seconds: float | None = None, memory_gib: float | None = None) -> Limits:
    """The limits of a named budget, with what flags replace."""
    return _limits(_budget(budget, "budget", "cell_seconds"), "cell", seconds, memory_gib)


@dataclass(frozen=True)
class TuningBudget:
    """What every study may spend, and the limits of one of its trials."""

    name: str
    trials: int
    seconds: float
    trial: Limits


def load_tuning_budget(
    budget: str,
    trials: int | None = None,
    seconds: float | None = None,
    trial_seconds: float | None = None,
    memory_gib: float | None = None,
) -> TuningBudget:
    """The tuning budget of that name, with what flags replace."""
    fields = _budget(budget, "tuning budget", "trials")
    limits = _limits(fields, "trial", trial_seconds, memory_gib)
    return TuningBudget(budget, trials or fields["trials"], seconds or fields["seconds"], limits)


def _limits(fields: dict[str, Any], of: str, seconds: float | None, memory_gib: float | None) -> Limits:
    memory = memory_gib if memory_gib is not None else fields[f"{of}_memory_gib"]
    return Limits(seconds if seconds is not None else fields[f"{of}_seconds"], int(memory * 2**30))


def _budget(name: str, kind: str, field_of_kind: str) -> dict[str, Any]:
    """The table ``name`` of ``budgets.toml``, among those that have this field."""
    found = _read_toml(BUDGETS)
    budgets = {known: fields for known, fields in found.items() if isinstance(fields, dict) and field_of_kind in fields}
    if name not in budgets:
        raise unknown_name(kind, name, budgets)
    for wanted in _BUDGET_FIELDS[field_of_kind]:
        value = budgets[name].get(wanted)
        whole = wanted == "trials"
        if not (
            isinstance(value, int if whole else int | float) and not isinstance(value, bool) and 0.001 <= value < 1e9
        ):
            required = "a whole number from 1" if whole else "a number from 0.001"
            raise UserError(f"{BUDGETS}: {name}: {wanted} = {value!r:.80}: {required} to 1,000,000,000 is required")
    return dict(budgets[name])


_BUDGET_FIELDS = {
    "cell_seconds": ("cell_seconds", "cell_memory_gib"),
    "trials": ("trials", "seconds", "trial_seconds", "trial_memory_gib"),
}
"""The field that tells budgets of one kind from others, and all that these have."""


def choose_algorithms(names: Sequence[str], overrides: Overrides, presets: Sequence[str] = ()) -> list[AlgorithmChoice]:
    """Algorithms by ``name``, ``name:preset`` or ``name[option=value,…]``, with overrides applied.

    ``all`` is every registered one, ``all:report`` every one that has this preset. What stands in brackets comes on top
    of the overrides, so that one run can hold several configurations of an algorithm. With ``presets``, each algorithm
    is taken once for each of them that it has.

    A choice of the preset ``tuned`` has no configuration yet: that depends on the split (``tuned.for_split``).
    """
    wanted = [each for name in _with_presets(names, presets) for each in _expand_all(name)]
    return [_choose(each, overrides) for each in dict.fromkeys(wanted)]


def with_oracle(choices: Sequence[AlgorithmChoice], preparation: Preparation) -> list[AlgorithmChoice]:
    """The algorithms, and the oracle where the data set's truth is known."""
    return [*choices, AlgorithmChoice(ORACLE, "default", {})] if preparation.dataset.truth else list(choices)


def parse_assignments(assignments: Iterable[str]) -> Overrides:
    """``["als.factors=64"]`` -> ``{"als": {"factors": "64"}}``; the name is an algorithm's or a protocol's."""
    parsed: Overrides = {}
    for text in assignments:
        target, equals, value = text.partition("=")
        name, dot, option = target.partition(".")
        if not (equals and dot and option and value):
            raise UserError(f"--set {text}: expected name.option=value, such as als.factors=64")
        parsed.setdefault(name, {})[option] = value
    return parsed


def merge_overrides(first: Overrides, second: Overrides) -> Overrides:
    """Both; where they set the same option, ``second`` wins."""
    return {name: {**first.get(name, {}), **second.get(name, {})} for name in {**first, **second}}


def require_all_used(overrides: Overrides, names: Iterable[str]) -> None:
    """Refuse an override of something that is not part of this run."""
    for name in overrides.keys() - set(names):
        known = [*algorithm_registry.ALGORITHMS, *protocol_registry.PROTOCOLS]
        if name not in known:
            raise unknown_name("algorithm or protocol", name, known)
        flag = "--algorithm" if name in algorithm_registry.ALGORITHMS else "--protocol"
        raise UserError(f"--set {name}.…: {name} is not part of this run: add {flag} {name}")


@dataclass(frozen=True)
class OwnFileFlags:
    """What the command line says of the user's own file, beside its path; as typed, None where it is silent."""

    columns: str | None = None
    items: Path | None = None
    users: Path | None = None
    scale: str | None = None

    def spec(self, path: Path) -> dataset_registry.DatasetSpec:
        columns = None if self.columns is None else parse_columns(self.columns)
        scale = None if self.scale is None else parse_scale(self.scale)
        return own_file_spec(path, columns, self.items, self.users, scale)


def choose_datasets(names: Sequence[str], own: OwnFileFlags) -> list[dataset_registry.DatasetSpec]:
    """Data sets by ``name`` or ``name[option=value,…]``, and files of the user by path: ``is_path`` tells them apart.

    Raises:
        UserError: an unknown name or option, two files, or flags of a file without one.
    """
    distinct = list(dict.fromkeys(names))
    paths = [name for name in distinct if dataset_registry.is_path(name)]
    if len(paths) > 1:
        raise UserError(f"--dataset {','.join(paths)}: one file at a time")
    for flag, value in vars(own).items():
        if value is not None and not paths:
            raise UserError(f"--{flag} {value}: no file to which it belongs: add --dataset path/to/ratings.csv")
    specs = [own.spec(Path(name)) if name in paths else dataset_spec(name) for name in distinct]
    return list({(spec.name, spec.target): spec for spec in specs}.values())  # brackets may say the same in two ways


def dataset_spec(text: str) -> dataset_registry.DatasetSpec:
    """The spec of ``name`` or ``name[option=value,…]``, named by the options that differ from the defaults.

    Raises:
        UserError: an unknown name or option, or a value that the option cannot have.
    """
    name, bracket, options = text.partition("[")
    spec = dataset_registry.spec(name)
    if not bracket:
        return spec
    loader_class = dataset_registry.loader_class(spec.target)
    if not has_options(loader_class):
        raise UserError(f"{text}: {name} has no options: write --dataset {name}")
    loader = resolve_config(loader_class, _bracketed(text, options), name)
    return dataset_registry.with_options(spec, changed_options(loader))


def has_options(loader_class: type[Loader]) -> bool:
    """Whether a loader declares options as an adapter's ``Config`` does: a dataclass with ``Annotated`` fields."""
    if not dataclasses.is_dataclass(loader_class):
        return False
    hints = get_type_hints(loader_class, include_extras=True)
    return all(get_origin(hints[field.name]) is Annotated for field in dataclasses.fields(loader_class))


def drop_train_only(specs: Sequence[dataset_registry.DatasetSpec]) -> list[dataset_registry.DatasetSpec]:
    """``--drop-train-only``: that option for every data set that has it. Raises UserError where none has."""
    option = "drop_train_only"
    if not any(dataset_registry.has_option(spec, option) for spec in specs):
        having = [name for name, spec in dataset_registry.DATASETS.items() if dataset_registry.has_option(spec, option)]
        raise UserError(f"--drop-train-only: no data set of this run has it: add --dataset {' or '.join(having)}")
    return [
        dataset_registry.with_options(spec, {option: True}) if dataset_registry.has_option(spec, option) else spec
        for spec in specs
    ]


def find_datasets(
    specs: Sequence[dataset_registry.DatasetSpec], named_by_user: bool
) -> tuple[list[tuple[dataset_registry.DatasetSpec, tuple[Path, ...]]], dict[str, str]]:
    """Specs with their source files, and the reasons of those that a default run goes on without.

    Raises:
        MissingDataError: a data set that the user named is neither here nor to be fetched.
    """
    found, missing = [], {}
    for spec in specs:
        try:
            sources = dataset_registry.make_loader(spec.target, spec.options).locate(download_progress(spec.name))
        except MissingDataError as error:
            if named_by_user:
                raise
            missing[spec.name] = str(error)
        else:
            found.append((spec, tuple(sources)))
    return found, missing


def preparations(
    datasets: Iterable[tuple[dataset_registry.DatasetSpec, tuple[Path, ...]]],
    protocols: Sequence[str],
    split_seeds: Iterable[int],
    overrides: Overrides,
) -> list[Preparation]:
    """Every data set × protocol × split seed."""
    seeds = list(split_seeds)
    chosen = []
    for name in dict.fromkeys(protocols):
        spec = protocol_registry.spec(name)
        protocol = protocol_registry.load_class(spec)
        config = resolve_config(protocol.Config, overrides.get(name, {}), name)
        chosen += [(spec, dataclasses.asdict(part.config)) for part in protocol(config).parts()]
    return [
        Preparation(dataset, sources, protocol, config, seed)
        for dataset, sources in datasets
        for protocol, config in chosen
        for seed in seeds
    ]


def _with_presets(names: Sequence[str], presets: Sequence[str]) -> list[str]:
    """``["als[reg=1]"]`` and ``["default", "report"]`` -> ``["als:default[reg=1]", "als:report[reg=1]"]``."""
    if not presets:
        return list(names)
    known = {TUNED, *(preset for spec in algorithm_registry.ALGORITHMS.values() for preset in spec.presets)}
    for unknown in set(presets) - known:
        raise unknown_name("preset", unknown, known)
    found = []
    for preset in presets:
        having = [name for name in names if _has_preset(name, preset)]
        if not having:
            raise UserError(f"--config {preset}: no algorithm of this run has a preset of this name")
        found += [re.sub(r"^[^\[]*", rf"\g<0>:{preset}", name) for name in having]
    return found


def _has_preset(text: str, preset: str) -> bool:
    named = text.partition("[")[0]
    if ":" in named:
        raise UserError(f"{text} names its own preset: leave out either that or --config")
    return named == "all" or preset == TUNED or preset in algorithm_registry.spec(named).presets


def _expand_all(name: str) -> list[str]:
    if name.partition(":")[0] != "all":
        return [name]
    preset = name.partition(":")[2] or "default"
    found = [
        f"{spec.name}:{preset}"
        for spec in algorithm_registry.ALGORITHMS.values()
        if preset == TUNED or preset in spec.presets
    ]
    if not found:
        raise UserError(f"no algorithm has a preset '{preset}'")
    return found


def _choose(text: str, overrides: Overrides) -> AlgorithmChoice:
    named, bracket, options = text.partition("[")
    name, _, preset = named.partition(":")
    spec = algorithm_registry.spec(name)
    preset = preset or "default"
    if preset not in {TUNED, *spec.presets}:
        raise unknown_name(f"preset of {name}", preset, {TUNED, *spec.presets})
    own = {**overrides.get(name, {}), **(_bracketed(text, options) if bracket else {})}
    if preset == TUNED:
        if bracket:
            raise no_longer_tuned(name, next(iter(own)))
        return AlgorithmChoice(spec, TUNED, {})
    adapter = algorithm_registry.load_class(spec)
    config = dataclasses.asdict(resolve_config(adapter.Config, {**spec.presets[preset], **own}, spec.name))
    label = ", ".join(
        ([preset] if preset != "default" or not own else []) + [f"{key}={shown(config[key])}" for key in own]
    )
    return AlgorithmChoice(spec, label, config, given=own)


def no_longer_tuned(name: str, option: str) -> UserError:
    """The user set an option of an algorithm whose tuned configuration is asked for."""
    return UserError(
        f"{name}.{option} is set, and with another option {name} is no longer tuned: leave out either the option or "
        f"the preset '{TUNED}'"
    )


def _bracketed(text: str, options: str) -> dict[str, str]:
    """``"factors=64,reg=1]"`` -> ``{"factors": "64", "reg": "1"}``."""
    pairs = [part.partition("=") for part in options.removesuffix("]").split(",")]
    if not options.endswith("]") or not all(option and equals and value for option, equals, value in pairs):
        raise UserError(f"{text}: expected name[option=value,…], such as als[factors=64,reg=1]")
    return {option: value for option, _, value in pairs}


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file of ours or the user's.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML, or one that would take for ever to read.
    """
    if path.stat().st_size > _LARGEST_TOML:
        raise ValueError(f"larger than {_LARGEST_TOML:,} bytes")
    text = path.read_text(encoding="utf-8")
    if any(len(line.partition("=")[0]) > _LONGEST_KEY for line in text.splitlines()):
        raise ValueError(f"a key is longer than {_LONGEST_KEY:,} characters")  # a.a.a…: the time grows as its square
    try:
        content = tomllib.loads(text)
        _refuse_beyond_64_bits(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return content


def _refuse_beyond_64_bits(value: object) -> None:
    """TOML has no such integers; those of thousands of digits, as hexadecimal ones may be, could not even be shown."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            _refuse_beyond_64_bits(each)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer is beyond 64 bits")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error


def _module_file(target: str) -> Path:
    import importlib

    return Path(str(importlib.import_module(target.partition(":")[0]).__file__))


@cache
def _file_digest(path: Path) -> str:
    return file_digest(path)


@cache
def _folder_digest(folder: str) -> str:
    return digest([[path.name, file_digest(path)] for path in sorted((ROOT / folder).glob("*.py"))])


@cache
def _harness_digest() -> str:
    return digest([_file_digest(ROOT / source) for source in _RESULT_SOURCES])
