"""What else the machine did: a wait for cores and another harness are seen, and said in words."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from benchmarks.environment import ROOT
from benchmarks.host import BUSY_SHARE, Load, busy, watched

QUIET = {"seconds": 10.0, "waiting": 0.0, "stolen": 0.0, "other_workers": 0, "running": 0}
linux = pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")


def test_a_quiet_machine_is_not_worth_a_word() -> None:
    assert busy(QUIET) == busy(None) == busy({}) == []
    assert busy({**QUIET, "waiting": None, "stolen": None}) == []
    assert busy({**QUIET, "waiting": BUSY_SHARE, "stolen": BUSY_SHARE, "running": 9}) == []


def test_a_moment_is_not_worth_a_word_whatever_share_of_it_was_lost() -> None:
    assert busy({**QUIET, "seconds": 0.01, "waiting": 0.9}) == []
    assert busy({**QUIET, "seconds": 1.0, "waiting": 0.9}) != []


def test_each_reason_is_said() -> None:
    reasons = busy({"seconds": 10.0, "waiting": 0.25, "stolen": 0.1, "other_workers": 1, "running": 3})
    assert reasons == [
        "another harness was measuring",
        "waited for a core 25% of the time",
        "the hypervisor took 10% of the time",
    ]


@linux
def test_a_core_that_is_shared_is_seen() -> None:
    """A process that spins on the same core takes half of it."""
    cores = os.sched_getaffinity(0)
    core = min(cores)
    spin = f"import os; os.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    load: Load = {}
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            os.sched_setaffinity(0, {core})
            with watched(load):
                until = time.perf_counter() + 0.5
                while time.perf_counter() < until:
                    pass
        finally:
            os.sched_setaffinity(0, cores)
            other.kill()
    assert load["waiting"] > 0.2
    assert any("waited for a core" in reason for reason in busy(load))


@linux
def test_a_worker_of_another_harness_is_seen() -> None:
    command = [sys.executable, "-P", "-m", "benchmarks.worker"]  # waits for a request that never comes
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    before: Load = {}
    with watched(before):
        pass
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=variables) as other:
        load: Load = {}
        with watched(load):
            time.sleep(0.05)
        other.kill()
    assert load["other_workers"] >= 1
    assert load["other_workers"] >= before["other_workers"]
