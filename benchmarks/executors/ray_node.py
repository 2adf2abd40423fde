"""What runs on a node of a Ray cluster: our own worker, by the local executor. Adapter code never gets into Ray's
processes.

``serve`` is the Ray task of one cell, ``Slot`` the Ray actor of a warm worker. The code is the driver's: Ray brings it
to the node, see ``ray.py``. The data come from the folder that the driver named, where the node sees it, else once
through Ray's object store into the node's own cache.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray

from benchmarks import locks
from benchmarks.environment import ROOT, hardware, package_versions
from benchmarks.executors.local import Ending, Event, Limits, LocalExecutor, Session, wait_for_any
from benchmarks.run import MODEL, OUTCOMES, wrong_canaries
from benchmarks.split_store import read_meta
from datasets.cache import atomic_folder, cache_root, remove, write_sealed

META = "meta.json"
"""The sealed file of a prepared split, which is written last."""
PLUGINS = "plugins"
"""Folder of the plug-ins in the code that the driver brings."""
UNFIT = "unfit"
"""The status of a request to a node that must not measure: it has other packages, or measures its canaries wrong."""
UNSEEN = "unseen"
"""The status of a request whose split the node can neither see nor unpack."""

_CHUNK_BYTES = 16 << 20
_LONG_POLL_S = 0.5


@dataclass(frozen=True)
class Job:
    """A request to our worker, with the paths of the driver.

    Attributes:
        scratch: the folder that the worker is to fill.
        plugins: paths of the plug-ins, which lie in the folder ``plugins`` of the code on the node.
        split, meta: folder and meta data of the prepared split.
        packages: installed versions that the figures depend on, as they are on the driver.
        alone: ids of the nodes on which such a request runs alone, so that its seconds mean something.
    """

    request: Event
    limits: Limits
    variables: dict[str, str]
    scratch: Path
    plugins: tuple[Path, ...]
    split: Path
    meta: dict[str, Any]
    packages: dict[str, str | None]
    alone: frozenset[str] = frozenset()


def describe() -> dict[str, Any]:
    """The node's hardware, and a name of the machine that all nodes on it share; it goes into no record."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {"hardware": hardware(), "machine": boot.read_text() if boot.exists() else os.uname().nodename}


def serve(job: Job, packed: Sequence[ray.ObjectRef]) -> Iterator[Event]:
    """Run one cell in a fresh worker.

    Yields ``began``, then the worker's own events, then each file that the driver is to have (``file``, in pieces), and
    ``ending`` at last.

    Args:
        packed: the split's folder as ``pack`` makes it, or nothing where the node is thought to see it.
    """
    if (reason := unfit(job.packages)) is not None:
        yield {"event": "ending", "ending": _refusal(UNFIT, reason)}
        return
    split = _split_here(job.split, job.meta, packed)
    if split is None:
        yield {"event": "ending", "ending": _refusal(UNSEEN, "")}
        return
    node = ray.get_runtime_context().get_node_id()
    alone = node in job.alone
    yield {"event": "began", "node": node, "hardware": hardware(), "alone": alone}
    with tempfile.TemporaryDirectory(prefix="recgauge-") as folder, LocalExecutor() as executor:
        scratch = Path(folder)
        request = _localized(job.request, job, split, scratch)
        if not alone:  # no seconds will be kept
            request = {**request, "repeats": 1, "throughput": False}
        with contextlib.closing(executor.session(job.variables, scratch)) as session:
            session.send({**request, "began": time.monotonic()}, job.limits)
            ending = None
            while ending is None:
                wait_for_any([session])
                events, ending = session.poll()
                for event in events:
                    if event["event"] == "fitted":
                        session.answer({"split": str(split), "side": str(scratch / OUTCOMES)})
                    else:
                        yield event
        for name in [OUTCOMES, MODEL] if ending.status == "ok" else []:
            yield from _files(scratch, name)
        yield {"event": "ending", "ending": ending}


class Slot:
    """A warm worker, kept by a Ray actor. ``poll`` waits a little, so that the driver need not ask all the time."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._stack = contextlib.ExitStack()
        self._executor = self._stack.enter_context(LocalExecutor())
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="recgauge-"))
        self._scratch = Path(folder)
        self._session: Session = self._executor.session(variables, self._scratch)
        self._refusal: Ending | None = None

    def ready(self) -> bool:
        """Answers once the actor has its place on a node."""
        return True

    def send(self, job: Job, packed: Sequence[ray.ObjectRef]) -> None:
        if (reason := unfit(job.packages)) is not None:
            self._refusal = _refusal(UNFIT, reason)
        elif (split := _split_here(job.split, job.meta, packed)) is None:
            self._refusal = _refusal(UNSEEN, "")
        else:
            self._refusal = None
            self._session.send(_localized(job.request, job, split, self._scratch), job.limits)

    def answer(self, message: Event) -> None:
        self._session.answer(message)

    def limit(self, seconds: float) -> None:
        self._session.limit(seconds)

    def poll(self) -> tuple[list[Event], Ending | None]:
        """The events that came, or the ending, or nothing after a while."""
        if self._refusal is not None:
            return [], self._refusal
        deadline = time.monotonic() + _LONG_POLL_S
        while True:
            events, ending = self._session.poll()
            if events or ending is not None or not self._session.warm or time.monotonic() > deadline:
                return events, ending
            wait_for_any([self._session])

    def close(self) -> None:
        """Kill the worker; the next request starts another."""
        self._session.close()

    def end(self) -> None:
        """Kill the worker and let go of its folder: the slot is of no more use."""
        self._session.close()
        self._stack.close()


def unfit(packages: Mapping[str, str | None]) -> str | None:
    """Why this node must not measure what the driver planned, or None."""
    here = package_versions(name for name in packages if name != "python")
    for name, version in packages.items():
        if here[name] != version:
            return f"{name} is {here[name] or 'not installed'} there, {version or 'not installed'} here"
    wrong = _wrong_canaries()
    return f"it does not measure right: {'; '.join(wrong)}" if wrong else None


@cache
def _wrong_canaries() -> tuple[str, ...]:
    """Once for each of Ray's processes, before its first cell: a node may join at any time."""
    with LocalExecutor() as executor:
        return tuple(wrong_canaries(executor))


def _refusal(status: str, reason: str) -> Ending:
    return Ending(status, {"reason": reason}, 0.0, 0)


def pack(split: Path) -> dict[str, bytes]:
    """The files of a prepared split's folder, by their names in it."""
    files = [path for path in sorted(split.rglob("*")) if path.is_file() and path.name != META]
    return {str(path.relative_to(split)): path.read_bytes() for path in files}


def unpack(packed: Mapping[str, bytes], meta: dict[str, Any], target: Path) -> None:
    """The folder ``target`` as it was packed; it appears whole, and once only however many want it."""
    with atomic_folder(target) as folder:
        for name, content in packed.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        write_sealed(folder, META, meta)  # with the times of these files


def _split_here(split: Path, meta: dict[str, Any], packed: Sequence[ray.ObjectRef]) -> Path | None:
    """Where the split lies on this node: in a cache that it shares with the driver, or in its own."""
    own = cache_root() / "splits" / split.name
    for folder in (split, own):
        if read_meta(folder) == meta:
            return folder
    if not packed:
        return None
    files = ray.get(packed[0])
    with locks.waited_for(cache_root(), own.name):
        if read_meta(own) != meta:
            remove(own)
            unpack(files, meta, own)
    return own


def _localized(request: Event, job: Job, split: Path, scratch: Path) -> Event:
    """The request with this node's paths, and with what is sealed here too."""
    places = {str(job.split): str(split), str(job.scratch): str(scratch)}
    places |= {str(plugin): str(ROOT / PLUGINS / plugin.name) for plugin in job.plugins}
    here: Event = {name: _with_places(value, places) for name, value in request.items()}
    sealed = [str(cache_root()), *filter(None, [os.environ.get("RECGAUGE_DATA")])]
    return {**here, "forbidden": [*here["forbidden"], *sealed]}


def _with_places(value: Any, places: Mapping[str, str]) -> Any:
    """``value`` with each path in it, or below it, replaced."""
    if isinstance(value, list):
        return [_with_places(each, places) for each in value]
    if isinstance(value, str):
        for there, here in places.items():
            if value == there or value.startswith(there + os.sep):
                return here + value[len(there) :]
    return value


def _files(scratch: Path, name: str) -> Iterator[Event]:
    """The file ``name``, or the files of the folder ``name``, in pieces that are easy on the object store."""
    top = scratch / name
    for path in sorted(top.iterdir()) if top.is_dir() else [top]:
        if path.is_file():
            with path.open("rb") as file:
                while piece := file.read(_CHUNK_BYTES):
                    yield {"event": "file", "name": str(path.relative_to(scratch)), "piece": piece}
