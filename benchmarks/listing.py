"""``list``: what there is, and what one thing is. The bare list reads the registries only, which load nothing."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from algorithms import registry as algorithms
from datasets import registry as datasets
from datasets.errors import MissingDataError, unknown_name
from protocols import registry as protocols

if TYPE_CHECKING:
    from datasets.loader import Loader

WIDTH = 80


def show(options: argparse.Namespace) -> int:
    """Print the registries, or one entry."""
    if options.plugin:
        from benchmarks.plugins import load_plugin

        for path in options.plugin:
            load_plugin(path)
    if options.name is None:
        _show_all()
    elif options.name in algorithms.ALGORITHMS:
        _show_algorithm(options.name)
    elif options.name.partition("[")[0] in datasets.DATASETS or datasets.is_path(options.name):
        _show_dataset(options)
    elif options.name in protocols.PROTOCOLS:
        _show_protocol(options.name)
    else:
        names = [*algorithms.ALGORITHMS, *datasets.DATASETS, *protocols.PROTOCOLS]
        raise unknown_name("algorithm, data set or protocol", options.name, names)
    return 0


def _show_all() -> None:
    tables: tuple[tuple[str, dict[str, Any]], ...] = (
        ("algorithms", algorithms.ALGORITHMS),
        ("data sets", datasets.DATASETS),
        ("protocols", protocols.PROTOCOLS),
    )
    for title, entries in tables:
        print(f"{title}:")
        width = max(map(len, entries))
        for name, spec in entries.items():
            print(f"  {name:<{width}} {spec.summary}")
    print("\nmore about one: python -m benchmarks list NAME")


def _show_algorithm(name: str) -> None:
    from algorithms.config import shown

    spec = algorithms.spec(name)
    adapter = algorithms.load_class(spec)
    print(f"{name}: {spec.summary}\n")
    print(f"  adapter   {spec.target}")
    print(f"  packages  {', '.join(spec.packages)}" + (f" (extra: {spec.extra})" if spec.extra else ""))
    for (option, value), packages in spec.other_packages.items():
        print(f"            {', '.join(packages)} with {option}={value}")
    print(f"  tasks     {', '.join(f'{task} {support}' for task, support in spec.support.items())}")
    print(f"  devices   {', '.join(spec.devices)}")
    _print_options(adapter.Config, f"--set {name}.OPTION=VALUE")
    if adapter.SPACE:
        print("\nsearch space:")
    for option_name, distribution in adapter.SPACE.items():
        print(f"  {option_name}: {distribution}")
    print("\npresets (--algorithm " + f"{name}:PRESET):")
    for preset, values in spec.presets.items():
        changes = ", ".join(f"{key}={shown(value)}" for key, value in values.items())
        print(f"  {preset}: {changes or 'the defaults above'}")


def _show_dataset(options: argparse.Namespace) -> None:
    """The data card: what it is, whose terms it has, and the audit where it can be loaded."""
    from benchmarks.plan import OwnFileFlags, choose_datasets
    from benchmarks.progress import download_progress
    from datasets.store import load_cached

    own = OwnFileFlags(options.columns, options.items, options.users, options.scale)
    (spec,) = choose_datasets([options.name], own)
    loader = datasets.make_loader(spec.target, spec.options)
    _print_wrapped([f"{spec.name}: {spec.summary}", "", f"  loader    {spec.target}"])
    archive = getattr(loader, "archive", None)
    if archive is not None:
        _print_wrapped([f"  source    {archive.url}"])
    try:
        sources = loader.locate(download_progress(spec.name))
    except MissingDataError as error:
        _print_terms(spec.licence, citation_of_module(loader))
        _print_dataset_options(spec.name, loader)
        _print_wrapped(["", "not audited:"])
        print(f"  {error}")  # not wrapped: it holds a command to copy
        return
    from benchmarks.audit import card

    dataset = load_cached(loader, sources)
    _print_terms(dataset.licence, dataset.citation)
    _print_dataset_options(spec.name, loader)
    _print_wrapped(["", *card(dataset)])


def _print_dataset_options(name: str, loader: Loader) -> None:
    from benchmarks.plan import has_options

    if has_options(type(loader)):
        _print_options(type(loader), f"--dataset '{name.partition('[')[0]}[OPTION=VALUE,…]'")


def _print_terms(licence: str, citation: str) -> None:
    _print_wrapped([f"  licence   {licence}"] + ([f"  citation  {citation}"] if citation else []))


def citation_of_module(loader: Loader) -> str:
    """The citation of a data set that cannot be loaded: loaders keep it as ``CITATION`` in their module."""
    return str(getattr(sys.modules[type(loader).__module__], "CITATION", ""))


def _print_wrapped(lines: Iterable[str]) -> None:
    for line in lines:
        indent = len(line) - len(line.lstrip())
        hanging = " " * (indent and indent + 2)
        print(textwrap.fill(line, WIDTH, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False))


def _show_protocol(name: str) -> None:
    spec = protocols.spec(name)
    protocol = protocols.load_class(spec)
    print(f"{name}: {spec.summary}\n\n  task     {spec.task}\n  primary  {spec.primary}")
    _print_options(protocol.Config, f"--set {name}.OPTION=VALUE")


def _print_options(config: type, flag: str) -> None:
    """What each option is, with its default, and the ``flag`` that sets it."""
    from algorithms.config import describe, shown

    options = describe(config)
    if options:
        print(f"\noptions ({flag}):")
    for option in options:
        print(f"  {option.name} = {shown(option.default)} ({option.type}): {option.meaning}")
