"""Nodes of a Ray cluster as places where cells and trials run. Ray finds the node, ``ray_node.py`` runs there.

Nothing else imports Ray, and nothing imports this but a run that asks for it. Ray's own retries are off: the driver
alone knows what has its record, so it alone starts lost work again.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from benchmarks.environment import ROOT, digest
from benchmarks.executors import LOST, ray_node
from benchmarks.executors.local import POLL_S, Ending, Event, Limits
from benchmarks.executors.ray_node import UNFIT, UNSEEN, Job
from benchmarks.plan import Cell
from datasets.errors import UserError

_SAME = "install there what is here (pip install -c constraints.txt), or take the node out of the cluster"

_LOOK_S = 2.0
"""How often to ask which nodes are alive."""
_UNWIND_S = 10.0
"""What workers on nodes may take to end after an interruption."""
_OBJECT_STORE_BYTES = 512 << 20
"""Of a cluster that is started for one run on this machine: answers pass through, nothing stays."""
_CODE = ("algorithms", "benchmarks", "datasets", "protocols")


@dataclass(frozen=True)
class Needs:
    """What one cell or trial takes of a node, as Ray counts it."""

    cpus: int
    gpus: int
    memory_bytes: int

    @staticmethod
    def of(cell: Cell, limits: Limits) -> Needs:
        return Needs(cell.threads, int(cell.device == "cuda"), limits.memory_bytes)

    def __str__(self) -> str:
        gpu = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}{gpu} and {self.memory_bytes / 2**30:.1f} GiB"

    @property
    def options(self) -> dict[str, Any]:
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory_bytes}


@dataclass(frozen=True)
class Node:
    """A living node, with what it offers to Ray.

    Attributes:
        hardware: as in a record.
        machine: the same for all nodes on one machine.
    """

    id: str
    cpus: float
    gpus: float
    memory_bytes: float
    hardware: dict[str, Any]
    machine: str

    def holds(self, needs: Needs) -> bool:
        return self.cpus >= needs.cpus and self.gpus >= needs.gpus and self.memory_bytes >= needs.memory_bytes


def alone(nodes: Sequence[Node], threads: int) -> frozenset[str]:
    """Ids of the nodes all of whose CPUs such a cell takes, and that share their machine with no other node."""
    machines = [node.machine for node in nodes]
    return frozenset(node.id for node in nodes if threads >= node.cpus and machines.count(node.machine) == 1)


class Cluster:
    """A connected cluster: its nodes, and requests on their way."""

    def __init__(self, plugins: Sequence[Path]) -> None:
        self._plugins = tuple(path.resolve() for path in plugins)
        self._described: dict[str, dict[str, Any] | None] = {}
        self._packed: dict[Path, ray.ObjectRef] = {}
        self._looked = 0.0
        self._nodes: list[Node] = []
        self._serve = ray.remote(max_retries=0, num_returns="streaming")(ray_node.serve)
        self._slot = ray.remote(max_restarts=0, max_task_retries=0)(ray_node.Slot)

    @property
    def nodes(self) -> list[Node]:
        """Those alive, as of a moment ago. A node that has joined since is described on the way."""
        if time.monotonic() - self._looked > _LOOK_S:
            alive = [node for node in ray.nodes() if node["Alive"]]
            self._describe([node["NodeID"] for node in alive if node["NodeID"] not in self._described])
            self._nodes = [
                _node(node, about) for node in alive if (about := self._described[node["NodeID"]]) is not None
            ]
            self._looked = time.monotonic()
        return self._nodes

    @property
    def machines(self) -> tuple[dict[str, Any], ...]:
        """The different hardware of all nodes."""
        return tuple({digest(node.hardware): node.hardware for node in self.nodes}.values())

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that Ray may give to a cell."""
        return tuple(gpu for node in self.nodes if node.gpus for gpu in node.hardware["gpus"])

    def alone(self, threads: int) -> frozenset[str]:
        """Nodes that a cell with so many threads has to itself."""
        return alone(self.nodes, threads)

    def can_hold(self, needs: Needs) -> bool:
        return any(node.holds(needs) for node in self.nodes)

    def cannot_hold(self, needs: Needs) -> str:
        """The reason, for a record."""
        return f"no node of the cluster has {needs}: give a node more, or lower --threads or --memory-limit"

    def room(self, threads: int) -> int:
        """How many requests with so many threads the CPUs of all nodes are enough for."""
        return max(1, sum(int(node.cpus // threads) for node in self.nodes))

    def job(
        self,
        request: Event,
        limits: Limits,
        cell: Cell,
        scratch: Path,
        alone: frozenset[str] = frozenset(),
    ) -> Job:
        split = cell.preparation.folder
        variables, packages = cell.variables, cell.packages
        return Job(request, limits, variables, scratch, self._plugins, split, cell.meta, packages, alone)

    def start(self, job: Job, needs: Needs) -> Flight:
        """Run a cell on whatever node has room for it."""
        return Flight(self._serve.options(**needs.options).remote(job, self.packed(job.split)))

    def session(self, cell: Cell, limits: Limits, scratch: Path) -> ClusterSession:
        """A worker for trials of the cell's environment that stays warm on whatever node has room for it."""
        return ClusterSession(self, cell, limits, scratch)

    def slot(self, needs: Needs, variables: dict[str, str]) -> Any:
        """A new actor; it may have to wait for its place."""
        return self._slot.options(**needs.options).remote(variables)

    def packed(self, split: Path) -> list[ray.ObjectRef]:
        """The split in the object store, if a node needed it there; within a list, so that only such nodes fetch it."""
        return [self._packed[split]] if split in self._packed else []

    def pack(self, split: Path) -> None:
        """A node does not see the split: from now on it goes through the object store."""
        if split not in self._packed:
            self._packed[split] = ray.put(ray_node.pack(split))

    def _describe(self, nodes: Sequence[str]) -> None:
        describe = ray.remote(num_cpus=0, max_retries=0)(ray_node.describe)
        asked = {
            node: describe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
            for node in nodes
        }
        for node, answer in asked.items():
            try:
                self._described[node] = ray.get(answer)
            except ray.exceptions.RayTaskError as error:
                reason = f"{type(error.cause).__name__}: {error.cause}"
                raise UserError(f"--executor ray: a node cannot run RecGauge: {reason}: {_SAME}") from error
            except ray.exceptions.RayError:  # it has gone meanwhile
                self._described[node] = None


class Flight:
    """A cell on its way through the cluster."""

    def __init__(self, events: Any) -> None:
        self._events = events

    def cancel(self) -> None:
        """Interrupt it; its worker is killed as on this machine."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.cancel(self._events)

    def next(self) -> Event:
        """What ``wait_for_flights`` found: the next event; a loss is an ``ending`` too."""
        try:
            event: Event = ray.get(next(self._events))
            return event
        except ray.exceptions.RayTaskError as error:
            raise _mistake_or_bug(error) from error
        except (ray.exceptions.RayError, StopIteration) as error:
            return {"event": "ending", "ending": Ending(LOST, {"reason": _why_lost(error)}, 0.0, 0)}


def wait_for_flights(flights: Sequence[Flight]) -> list[Flight]:
    """Those of ``flights`` that have something to say, or none after a while."""
    by_events = {flight._events: flight for flight in flights}
    ready, _ = ray.wait(list(by_events), num_returns=1, timeout=_LOOK_S / 4, fetch_local=False)
    return [by_events[events] for events in ready]


def cancel(flights: Sequence[Flight]) -> None:
    """Interrupt them all and wait until their workers have ended."""
    for flight in flights:
        flight.cancel()
    deadline = time.monotonic() + _UNWIND_S
    left = list(flights)
    while left and time.monotonic() < deadline:
        for flight in wait_for_flights(left):
            with contextlib.suppress(ray.exceptions.RayError):
                if flight.next()["event"] != "ending":
                    continue
            left.remove(flight)


class ClusterSession:
    """``local.Session`` on a node: the same requests one after another, to a worker that Ray finds a place for.

    A request whose node has gone ends as ``lost``; the session then looks for another place by itself.
    """

    def __init__(self, cluster: Cluster, cell: Cell, limits: Limits, scratch: Path) -> None:
        self._cluster = cluster
        self._needs = Needs.of(cell, limits)
        self._variables = cell.variables
        self._scratch = scratch
        self._job: Job | None = None
        self._answer: ray.ObjectRef | None = None
        self._warm = self._placed = False
        self._slot: Any = None
        self._place: Any = None

    @property
    def ready(self) -> bool:
        """Whether it has a place on a node; the first time that this is asked it begins to look for one."""
        if self._slot is None:
            self._start_slot()
        if not self._placed:
            done, _ = ray.wait([self._place], timeout=0)
            if done and _is_alive(self._place):
                self._placed = True
            elif done:
                self._start_slot()
        return self._placed

    @property
    def warm(self) -> bool:
        return self._warm

    def send(self, cell: Cell, request: Event, limits: Limits) -> None:
        """``cell``: whose split and packages the request needs, in the environment of the session."""
        self._job = self._cluster.job(request, limits, cell, self._scratch)
        self._send()

    def answer(self, message: Event) -> None:
        self._slot.answer.remote(message)

    def limit(self, seconds: float) -> None:
        self._slot.limit.remote(seconds)

    def poll(self) -> tuple[list[Event], Ending | None]:
        if self._job is None:
            return [], None
        asked = self.asked()
        if not ray.wait([asked], timeout=0)[0]:
            return [], None
        self._answer = None
        try:
            events, ending = ray.get(asked)
        except ray.exceptions.RayTaskError as error:
            raise _mistake_or_bug(error) from error
        except ray.exceptions.RayError as error:
            self._start_slot()
            events, ending = [], Ending(LOST, {"reason": _why_lost(error)}, 0.0, 0)
        if ending is not None and ending.status == UNSEEN:
            self._cluster.pack(self._job.split)
            self._send()
            return events, None
        if ending is not None:
            refuse_unfit(ending)
            self._job = None
            self._warm = ending.status == "ok"
        return events, ending

    def asked(self) -> ray.ObjectRef:
        """The slot's answer to the poll that is on its way."""
        if self._answer is None:
            self._answer = self._slot.poll.remote()
        return self._answer

    def close(self) -> None:
        """Kill the worker; the place is kept."""
        self._slot.close.remote()
        self._job, self._answer, self._warm = None, None, False

    def end(self) -> None:
        """Kill the worker and give the place back; one that has no place yet never gets it."""
        if self._slot is None:
            return
        with contextlib.suppress(ray.exceptions.RayError):
            if self._placed:
                ray.get(self._slot.end.remote(), timeout=_UNWIND_S)
        ray.kill(self._slot)

    def _send(self) -> None:
        assert self._job is not None
        self._slot.send.remote(self._job, self._cluster.packed(self._job.split))

    def _start_slot(self) -> None:
        self._placed = self._warm = False
        self._slot = self._cluster.slot(self._needs, self._variables)
        self._place = self._slot.ready.remote()


def wait_for_any(sessions: Sequence[ClusterSession]) -> None:
    """Wait until one of the busy ``sessions`` has something to ``poll``, or for a moment."""
    if sessions:
        ray.wait([session.asked() for session in sessions], num_returns=1, timeout=_LOOK_S / 4)
    else:
        time.sleep(POLL_S * 10)


def refuse_unfit(ending: Ending) -> None:
    """Raises UserError where a node must not measure."""
    if ending.status == UNFIT:
        raise UserError(f"--executor ray: a node cannot be used: {ending.reason}: {_SAME}")


@contextlib.contextmanager
def connected(address: str | None, plugins: Sequence[Path]) -> Iterator[Cluster]:
    """The cluster at ``address`` (``auto``: the one that this machine is a node of), or one of this machine alone that
    lives as long as the block.

    The code of this checkout and the plug-ins travel along, so that every node runs what the driver plans with.

    Raises:
        UserError: there is no such cluster, or it cannot be used.
    """
    if address is not None:
        _require_reachable(address)
    with tempfile.TemporaryDirectory(prefix="recgauge-") as folder:
        _copy_code(Path(folder), plugins)
        # What Ray has to say about nodes it prints to standard output, which belongs to tables and JSON.
        with contextlib.redirect_stdout(io.StringIO()):
            _connect(address, folder)
            try:
                yield Cluster(plugins)
            finally:
                ray.shutdown()


def _require_reachable(address: str) -> None:
    """Raises UserError where nobody listens at ``address``: Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or "/" in host or not port.isdigit():
        raise UserError(f"--address {address}: auto or HOST:PORT, typed on a machine of the cluster")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: no cluster there: {error}") from error


def _connect(address: str | None, code: str) -> None:
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "CRITICAL",
        # A process of Ray that ends kills its children, our reaper among them, but not theirs; the reaper kills all.
        "runtime_env": {"working_dir": code, "env_vars": {"RAY_kill_child_processes_on_worker_exit": "0"}},
    }
    on_signal = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init("local", include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **options)
        else:
            ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = "--executor ray" if address is None else f"--address {address}"
        raise UserError(f"{where}: {_why_no_cluster(error)}") from error
    finally:
        signal.signal(signal.SIGTERM, on_signal)  # Ray puts its own in place


def _why_no_cluster(error: BaseException) -> str:
    """In one line, with what to do."""
    text = str(error).strip()
    if "InvalidAuthToken" in text or isinstance(error, ray.exceptions.AuthenticationError):
        return "the cluster wants its token: set RAY_AUTH_MODE=token, as where its nodes were started"
    if "ersion mismatch" in text:
        return " ".join(text.split())
    if isinstance(error, ConnectionError):
        return "no such cluster, or this machine is no node of it: ray start --address HOST:PORT makes it one"
    return text.splitlines()[0] if text else type(error).__name__


def _copy_code(target: Path, plugins: Sequence[Path]) -> None:
    for package in _CODE:
        shutil.copytree(ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    (target / ray_node.PLUGINS).mkdir()
    for plugin in plugins:
        shutil.copy(plugin, target / ray_node.PLUGINS / plugin.name)


def _node(node: dict[str, Any], about: dict[str, Any]) -> Node:
    offers = node["Resources"]
    return Node(node["NodeID"], *(offers.get(name, 0.0) for name in ("CPU", "GPU", "memory")), **about)


def _is_alive(place: ray.ObjectRef) -> bool:
    try:
        return bool(ray.get(place))
    except ray.exceptions.RayTaskError as error:
        raise _mistake_or_bug(error) from error
    except ray.exceptions.RayError:
        return False


def _mistake_or_bug(error: ray.exceptions.RayTaskError) -> Exception:
    """What our code raised on a node: what the user can mend, such as a full disk, is one line."""
    cause = error.cause
    return UserError(f"--executor ray: on a node: {cause}") if isinstance(cause, UserError) else error


def _why_lost(error: BaseException) -> str:
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "Ray's memory monitor killed it: its node was short of memory"
    return f"its node or Ray's process there has gone ({type(error).__name__})"
