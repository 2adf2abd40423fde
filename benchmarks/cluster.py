"""``--executor ray``: many cells at a time on the nodes of a cluster, each recorded here as its answer comes.

This process plans, prepares, holds each cell's lock from before it is sent until its record is written, and writes.
Whatever is lost on its way is sent again; nothing is counted twice, since nothing is written but here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import locks, records
from benchmarks.executors import LOST, MAX_LOSSES
from benchmarks.executors import ray as executor
from benchmarks.executors.local import USER_MISTAKE, Ending, Event, Limits
from benchmarks.executors.ray import Cluster, ClusterSession, Flight, Needs
from benchmarks.executors.ray_node import UNSEEN
from benchmarks.plan import Cell
from benchmarks.progress import ManyDisplay, TuningDisplay
from benchmarks.records import Record
from benchmarks.run import Planned, Runner, RunRequest, RunResult, execute
from datasets.errors import UserError

if TYPE_CHECKING:
    from benchmarks.tuning import TuneRequest, TuneResult

SHARED = "its machine was shared with other cells"


def on_cluster(request: RunRequest, cluster: Cluster) -> RunRequest:
    """The request as it is on these nodes: with their hardware, and times where each cell has a node to itself."""
    return replace(
        request,
        choices=[replace(choice, gpus=cluster.gpus) for choice in request.choices],
        machines=cluster.machines,
        timed=len(cluster.alone(request.threads)) == len(cluster.nodes),
    )


def run(request: RunRequest, address: str | None) -> RunResult:
    """``run.execute`` on the cluster at ``address``.

    Raises:
        UserError, NothingMeasured: as there; UserError also where the cluster cannot be used.
    """
    display = ManyDisplay()
    with executor.connected(address, request.plugins) as cluster:
        request = on_cluster(request, cluster)
        return execute(request, display, ClusterRun(request, cluster, display))


def tune(request: TuneRequest, address: str | None) -> TuneResult:
    """``tuning.execute`` on the cluster at ``address``; raises what that raises."""
    from benchmarks import tuning  # loads Optuna

    with executor.connected(address, request.plugins) as cluster:
        request = replace(request, choices=[replace(choice, gpus=cluster.gpus) for choice in request.choices])
        return tuning.execute(request, TuningDisplay(), ClusterSlots(cluster, request))


class ClusterSlots:
    """Where trials run, see ``tuning.Slots``: a warm worker on whatever node has room for it."""

    def __init__(self, cluster: Cluster, request: TuneRequest) -> None:
        self._cluster = cluster
        self._limits = request.budget.trial
        self.number = cluster.room(request.threads)
        self._needs: Needs | None = None

    @contextmanager
    def opened(self, cell: Cell, scratch: Path) -> Iterator[ClusterSession]:
        self._needs = Needs.of(cell, self._limits)
        self._require_room()
        session = self._cluster.session(cell, self._limits, scratch)
        try:
            yield session
        finally:
            session.end()

    def ready(self, session: ClusterSession) -> bool:
        return session.ready

    def send(self, session: ClusterSession, cell: Cell, request: Event, limits: Limits) -> None:
        session.send(cell, request, limits)

    def wait_for_any(self, sessions: Iterable[ClusterSession]) -> None:
        busy = list(sessions)
        if not busy:
            self._require_room()
        executor.wait_for_any(busy)

    def _require_room(self) -> None:
        assert self._needs is not None
        if not self._cluster.can_hold(self._needs):
            raise UserError(f"tune: {self._cluster.cannot_hold(self._needs)}")


@dataclass
class _Sent:
    """A cell on its way: its place in the plan, what it holds, and what has come of it."""

    place: int
    planned: Planned
    needs: Needs
    flight: Flight
    scratch: Path
    holds: ExitStack
    began: Event | None = field(default=None)


class ClusterRun:
    """Runs cells on a cluster; see ``run.RunAll``."""

    def __init__(self, request: RunRequest, cluster: Cluster, display: ManyDisplay) -> None:
        self._request = request
        self._cluster = cluster
        self._display = display
        self._sent: dict[Flight, _Sent] = {}
        self._losses: Counter[int] = Counter()
        self._found: dict[int, Record] = {}

    def __call__(self, runner: Runner, todo: Sequence[Planned]) -> list[Record]:
        """A record for each of ``todo``."""
        self._runner = runner
        self._todo = todo
        self._waiting = deque(range(len(todo)))
        if todo:
            self._display.running("starting on the nodes")
        try:
            while self._waiting or self._sent:
                self._send_some()
                self._follow()
        finally:
            executor.cancel(list(self._sent))
            for sent in self._sent.values():
                sent.holds.close()
        return [self._found[place] for place in range(len(todo))]

    def _send_some(self) -> None:
        """As many as there is room for, and one more, so that no node waits for this process."""
        for _ in range(len(self._waiting)):
            if len(self._sent) > self._cluster.room(self._request.threads):
                return
            place = self._waiting.popleft()
            if not self._send(place, self._todo[place]):
                self._waiting.append(place)  # another harness has it, or it is on its way under another label

    def _send(self, place: int, planned: Planned) -> bool:
        """Send the cell, or record it where that is not needed; False where it has to wait."""
        with ExitStack() as stack:
            on_machines = [planned.on(machine, self._request) for machine in self._request.machines]
            for key in sorted({each.cell.key for each in on_machines}):
                if not stack.enter_context(locks.held(self._request.results, key[:32])):
                    return False
            wanted = [self._runner.begin(each) for each in on_machines]
            if (record := self._recorded(planned, on_machines)) is not None:
                self._found[place] = record
                return True
            needs = Needs.of(planned.cell, self._request.limits)
            if not self._cluster.can_hold(needs):
                self._found[place] = self._runner.skip(planned, self._cluster.cannot_hold(needs))
                return True
            name = planned.cell.key[:16]
            scratch = stack.enter_context(records.scratch_folder(self._request.results, name))
            request = self._runner.cell_request(planned.cell, scratch, wanted[0])
            alone = self._cluster.alone(self._request.threads)
            job = self._cluster.job(request, self._request.limits, planned.cell, scratch, alone)
            flight = self._cluster.start(job, needs)
            self._sent[flight] = _Sent(place, planned, needs, flight, scratch, stack.pop_all())
        return True

    def _recorded(self, planned: Planned, on_machines: Sequence[Planned]) -> Record | None:
        """What has been recorded since the plan was made, on whichever machine, or can be without measuring."""
        if (record := self._runner.of_another_harness(planned)) is not None:
            return record
        for each in on_machines:
            if each.known is not None and each.known.data["split"] == each.cell.meta["split"]:
                self._display.finished(each.cell.name, each.known, "by another harness")
                return each.known
        return next(filter(None, map(self._runner.without_measuring, on_machines)), None)

    def _follow(self) -> None:
        if not self._sent:
            if self._waiting:
                locks.wait_for_another(self._display, self._todo[self._waiting[0]].cell.name)
            return
        ready = executor.wait_for_flights(list(self._sent))
        for flight in ready:
            self._take(self._sent[flight], flight.next())
        if not ready:
            self._give_up_on_homeless()

    def _take(self, sent: _Sent, event: Event) -> None:
        name = sent.planned.cell.name
        if event["event"] == "began":
            sent.began = event
            self._display.began(name)
        elif event["event"] == "progress":
            self._display.progress(name, event["phase"], event["step"], event["total"])
        elif event["event"] == "file":
            _append(sent.scratch / event["name"], event["piece"])
        elif event["event"] == "ending":
            self._land(sent, event["ending"])

    def _land(self, sent: _Sent, ending: Ending) -> None:
        """Record what has ended; send again what was lost, or could not be begun for want of its data."""
        del self._sent[sent.flight]
        planned = sent.planned
        with sent.holds:
            executor.refuse_unfit(ending)
            if ending.status == UNSEEN:
                self._cluster.pack(planned.cell.preparation.folder)
                self._waiting.appendleft(sent.place)
            elif ending.status == LOST and self._losses[sent.place] + 1 < MAX_LOSSES:
                self._losses[sent.place] += 1
                self._waiting.appendleft(sent.place)
                self._display.lost(planned.cell.name, str(ending.reason))
            else:
                self._record(sent, ending)

    def _record(self, sent: _Sent, ending: Ending) -> None:
        planned, untimed = sent.planned, None
        if ending.status == LOST:
            reason = f"lost {MAX_LOSSES} times: {ending.reason}"
            ending = replace(ending, status="failed", event={"reason": reason})
        if ending.status == USER_MISTAKE:
            raise UserError(ending.reason)
        if sent.began is not None:
            planned = planned.on(sent.began["hardware"], self._request)
            untimed = None if sent.began["alone"] else SHARED
        self._found[sent.place] = self._runner.write(planned, ending, sent.scratch, untimed)

    def _give_up_on_homeless(self) -> None:
        """Cells that wait for a node of which there is none any more."""
        for sent in list(self._sent.values()):
            if sent.began is None and not self._cluster.can_hold(sent.needs):
                sent.flight.cancel()
                del self._sent[sent.flight]
                with sent.holds:
                    reason = self._cluster.cannot_hold(sent.needs)
                    self._found[sent.place] = self._runner.skip(sent.planned, reason)


def _append(file: Path, piece: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    with records.writing(file.parent), file.open("ab") as out:
        out.write(piece)
