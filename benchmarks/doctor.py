"""``doctor``: what this machine has, what is missing and how to get it.

Standard library only at the top: it must be able to speak where nothing is installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import textwrap
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cli import OK, USER_ERROR
from benchmarks.environment import (
    ROOT,
    commit,
    gpu_obstacle,
    hardware,
    package_version,
    require_our_datasets_package,
)
from datasets.errors import MissingDataError, UserError
from datasets.registry import DATASETS, DatasetSpec, make_loader

if TYPE_CHECKING:
    from datasets.download import Archive

WIDTH = 80
_LABEL = 20

_Versions = dict[str, str | None]


def doctor(options: argparse.Namespace) -> int:
    """Print the report. Exit code 1 where something that the default run needs is broken."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = _versions(project["dependencies"])
    broken = _checkout(project["version"])
    _machine()
    _show("core packages", _installed(core) or "none")
    if _missing(core):
        broken.append(f"{_missing(core)} not installed: type 'make run', or: pip install -c constraints.txt -e .")
    else:  # what follows imports them
        _extras(project["optional-dependencies"])
        if hardware()["gpus"]:
            _gpu_frameworks()
        _data()
        broken += _folders() or _self_test()
    print()
    for line in broken:
        _show("broken", line)
    if not broken:
        print("All that the default run needs is here: python -m benchmarks run")
    return USER_ERROR if broken else OK


def _checkout(version: str) -> list[str]:
    head, _, changes = (commit() or "unknown").partition("+")
    _show("recgauge", f"{version}, commit {head[:12]}{' with changes' if changes else ''}")
    try:
        require_our_datasets_package()
    except UserError as error:
        _show("datasets", "another package")
        return [str(error)]
    _show("datasets", "this checkout's")
    return []


def _machine() -> None:
    here = hardware()
    compiler = shutil.which("cc") or "none: lightfm cannot be built (apt install gcc, or xcode-select --install)"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    _show("python", platform.python_version())
    _show("system", here["os"])
    _show("cpu", f"{here['cpu']}, {here['cores']} usable cores")
    _show("gpu", ", ".join(here["gpus"]) or "none")
    _show("memory", f"{memory / 2**30:.1f} GiB")
    _show("c compiler", compiler)


def _extras(extras: dict[str, list[str]]) -> None:
    from benchmarks.plan import install_command

    print("\nextras")
    for extra, requirements in extras.items():
        if extra == "all":  # lists the others
            continue
        versions = _versions(requirements)
        if _missing(versions):
            _show(f"  {extra}", f"not here: {_missing(versions)}")
            _show("", install_command(extra))
        else:
            _show(f"  {extra}", _installed(versions))


def _gpu_frameworks() -> None:
    """Which of the installed frameworks can use the GPU, and what the others need; each is asked in its own process."""
    from algorithms.gpu import FRAMEWORKS

    print("\non the gpu")
    for framework in FRAMEWORKS:
        if package_version(framework) is not None:
            _show(f"  {framework}", gpu_obstacle(framework) or "can use it")


def _data() -> None:
    from datasets.download import data_roots

    print("\ndata sets")
    roots = data_roots()
    for root in roots:
        _show("  looked for in", _short(root))
    for spec in DATASETS.values():
        _show(f"  {spec.name}", _place(spec, roots))


def _place(spec: DatasetSpec, roots: list[Path]) -> str:
    """Where a data set lies; nothing is fetched."""
    loader = make_loader(spec.target, spec.options)
    if spec.fetchable:
        archive: Archive | None = getattr(loader, "archive", None)
        names = [spec.name] if archive is None else archive.folders
        found = [root / name for root in roots for name in names if (root / name).is_dir()]
        return _short(found[0]) if found else "not here: a run that needs it fetches it"
    if (generated := loader.generated()) is not None and not generated.is_dir():
        return "generated on first use"
    try:
        sources = loader.locate()
    except MissingDataError as error:
        return str(error)
    return _short(sources[0].parent) if sources else "generated"


def _folders() -> list[str]:
    from datasets.cache import cache_root

    cache, results = cache_root(), Path("results/runs").absolute()
    size = sum(path.lstat().st_size for path in cache.rglob("*"))
    print()
    _show("cache", _short(cache))
    _show("", f"{size / 2**20:.1f} MiB")
    return [
        f"{_short(folder)} cannot be written to: choose another folder by {option}"
        for folder, option in ((cache, "RECGAUGE_CACHE"), (results, "--results"))
        if not _writable(folder)
    ]


def _self_test() -> list[str]:
    """The canaries, in a worker as before a run."""
    from benchmarks.executors.local import LocalExecutor
    from benchmarks.run import wrong_canaries

    start = time.monotonic()
    with LocalExecutor() as executor:
        wrong = wrong_canaries(executor)
    _show("self test", f"{'failed' if wrong else 'ok'}, {time.monotonic() - start:.1f} s")
    return wrong


def _writable(folder: Path) -> bool:
    """Whether ``folder`` is, or could be made, a folder to write into."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def _versions(requirements: Iterable[str]) -> _Versions:
    """``["numpy>=2.0"]`` -> ``{"numpy": "2.4.6"}``, None where it is not installed."""
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in requirements]
    return {name: package_version(name) for name in names}


def _installed(versions: _Versions) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)


def _missing(versions: _Versions) -> str:
    return ", ".join(name for name, version in versions.items() if version is None)


def _short(path: Path) -> str:
    """With ``~`` for the user's home."""
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def _show(label: str, text: str) -> None:
    """One labelled fact; paths and options are never broken."""
    first, rest = f"{label:<{_LABEL - 1}} ", " " * _LABEL
    print(textwrap.fill(first + text, WIDTH, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False))
