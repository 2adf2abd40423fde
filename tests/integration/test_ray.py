"""``--executor ray`` on a real cluster: three nodes on this machine, one of them killed."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import psutil
import pytest
from conftest import MISBEHAVING, NETWORKS, ROOT, CommandLine, Finished

from algorithms.registry import ALGORITHMS
from benchmarks.split_store import read_meta

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install -c constraints.txt '.[ray]'"
)

PLUGIN = ("--plugin", str(MISBEHAVING))
TUNABLE = ROOT / "tests" / "plugins" / "tunable.py"
TIMES = ("created", "wall_s", "timings", "memory", "sha256")
NODE = {"num_cpus": 1, "memory": 7 << 30, "object_store_memory": 100 << 20}
OF_RAY = "RAY_kill_child_processes_on_worker_exit"
"""An environment variable of all that our tasks start."""


@pytest.fixture(scope="module", autouse=True)
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A token that nobody else has; the command lines inherit it. Ray is imported after this: it reads them then."""
    token = tmp_path_factory.mktemp("ray") / "token"
    token.write_text(secrets.token_hex(32))
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def cluster(variables: None) -> Iterator[Any]:
    """Three nodes of one CPU."""
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        started.add_node(**NODE)
    yield started
    started.shutdown()


def on_nodes(benchmarks: CommandLine, cluster: Any, *arguments: str, timeout: float = 120) -> Finished:
    return benchmarks.run("--executor", "ray", "--address", cluster.address, *arguments, timeout=timeout)


def read_records(results: Path) -> dict[str, dict]:
    return {str(path.relative_to(results)): json.loads(path.read_text()) for path in results.glob("*/*/*/*.json")}


def processes_of_tasks() -> list[psutil.Process]:
    """Workers, reapers and all that they started, whoever their parent is by now; not Ray's own processes."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            ours = "benchmarks.worker" in command or "reaper.py" in command or "time.sleep" in command
            if ours and OF_RAY in process.environ():
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Callable[[], Any], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def no_orphans() -> Iterator[None]:
    yield
    wait_until(lambda: not processes_of_tasks(), seconds=10)


def test_local_and_ray_write_equal_records(benchmarks: CommandLine, cluster: Any, tmp_path: Path) -> None:
    local = CommandLine(tmp_path / "local")
    what = (*PLUGIN, "--algorithm", "popularity,als,raises", "--keep-models")
    assert local.run(*what).code == 2
    ended = on_nodes(benchmarks, cluster, *what)
    assert ended.code == 2 and "Times were not measured" in " ".join(ended.out.split())
    here, there = read_records(local.results), read_records(benchmarks.results)
    assert here.keys() == there.keys() and len(here) == 3
    schema = json.loads((ROOT / "results" / "record.schema.json").read_text())
    for path, record in there.items():
        jsonschema_rs.validate(schema, record)
        if record["status"] == "ok":
            assert record["timings"]["fit_s"] is None and "shared" in record["timings"]["not_measured"]
            assert record["timings"]["ranked_users"] == here[path]["timings"]["ranked_users"]
        for field in TIMES:
            record.pop(field), here[path].pop(field)
        assert record == here[path]
        assert str(ROOT) not in json.dumps(record)
    files = {path.relative_to(local.results) for path in local.results.glob("*/*/*/*.npz")}
    assert files and all(
        (benchmarks.results / file).read_bytes() == (local.results / file).read_bytes() for file in files
    )
    assert len(list(benchmarks.results.glob("*/*/raises/*.log"))) == 1

    # What the other executor recorded is known, but for times that are wanted.
    known = on_nodes(local, cluster, "--algorithm", "popularity,als", "--keep-models")
    assert "2 of 2 cells are known" in known.err
    again = benchmarks.run("--algorithm", "popularity")
    assert "known" not in again.err
    assert read_records(benchmarks.results).keys() == there.keys()


@pytest.mark.slow
def test_a_suite_on_real_data_is_the_same_on_nodes(
    benchmarks: CommandLine, cluster: Any, movielens: Path, tmp_path: Path
) -> None:
    """All but most networks, under both protocols: some minutes."""
    local = CommandLine(tmp_path / "local")
    left_out = set(NETWORKS) - {"keras-mf", "tfrs-gmf", "ncf"}
    algorithms = [name for name in ALGORITHMS if name not in left_out]
    what = ("--dataset", "ml-latest-small", "--protocol", "leave-one-out,holdout", "--algorithm", ",".join(algorithms))
    assert local.run(*what, timeout=1500).code == 0
    assert on_nodes(benchmarks, cluster, *what, timeout=1500).code == 0
    here, there = read_records(local.results), read_records(benchmarks.results)
    assert here.keys() == there.keys() and len(here) == 2 * len(algorithms)
    for path, record in there.items():
        for field in TIMES:
            record.pop(field), here[path].pop(field)
        assert record == here[path], path
    for file in local.results.glob("*/*/*/*.npz"):
        assert (benchmarks.results / file.relative_to(local.results)).read_bytes() == file.read_bytes(), file


def test_times_that_are_known_stay_when_a_shared_node_adds_a_model(benchmarks: CommandLine, cluster: Any) -> None:
    assert benchmarks.run("--algorithm", "popularity").code == 0
    ((path, before),) = read_records(benchmarks.results).items()
    assert on_nodes(benchmarks, cluster, "--algorithm", "popularity", "--keep-models").code == 0
    ((again, after),) = read_records(benchmarks.results).items()
    assert again == path and before["model"] is None and after["model"] is not None
    assert after["timings"] == before["timings"] and after["side"] == before["side"]


def test_a_killed_node_costs_nothing_but_time(benchmarks: CommandLine, cluster: Any) -> None:
    victim = cluster.add_node(**NODE)
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", "--protocol", "leave-one-out"),
        *("--executor", "ray", "--address", cluster.address, *PLUGIN, "--algorithm", "sleeps", "--seeds", "5"),
        *("--set", "sleeps.seconds=2", "--format", "json"),
    )
    wait_until(lambda: sum("benchmarks.worker" in " ".join(each.cmdline()) for each in processes_of_tasks()) >= 4)
    cluster.remove_node(victim, allow_graceful=False)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "it starts again" in err
    (row,) = json.loads(out)  # and nothing else on standard output, whatever Ray has to say
    assert row["seeds"] == list(range(5)) and row["status"] == "ok"
    records = read_records(benchmarks.results)
    assert sorted(record["seed"] for record in records.values()) == list(range(5))
    assert err.count("✓") == 5


def test_ctrl_c_leaves_no_worker_and_the_next_run_goes_on(benchmarks: CommandLine, cluster: Any) -> None:
    what = (*PLUGIN, "--algorithm", "popularity,hangs", "--seeds", "2", "--time-limit", "60")
    process = benchmarks.start(
        *("run", "--results", str(benchmarks.results), "--dataset", "synthetic-genres", "--protocol", "leave-one-out"),
        *("--executor", "ray", "--address", cluster.address, *what),
    )
    wait_until(lambda: len(read_records(benchmarks.results)) == 2)
    wait_until(lambda: any("time.sleep" in " ".join(each.cmdline()) for each in processes_of_tasks()))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "interrupted" in err
    wait_until(lambda: not processes_of_tasks(), seconds=2)
    assert not list(benchmarks.results.glob(".scratch/*"))
    again = on_nodes(benchmarks, cluster, *PLUGIN, "--algorithm", "popularity,random", "--seeds", "2")
    assert again.code == 0 and "2 of 4 cells are known" in again.err


def test_limits_are_ours_and_failures_are_rows(benchmarks: CommandLine, cluster: Any) -> None:
    what = (*PLUGIN, "--algorithm", "hangs,eats-memory-in-child,dies,reads-data")
    ended = on_nodes(benchmarks, cluster, *what, "--time-limit", "10", "--memory-limit", "0.5")
    assert ended.code == 2
    found = {record["algorithm"]["name"]: record for record in read_records(benchmarks.results).values()}
    assert found["hangs"]["status"] == "timeout" and 10 <= found["hangs"]["wall_s"] <= 14
    assert found["eats-memory-in-child"]["status"] == "out_of_memory"
    assert "killed by SIGKILL" in found["dies"]["reason"]
    assert "not given" in found["reads-data"]["reason"]


def test_a_cell_that_no_node_can_hold_is_skipped(benchmarks: CommandLine, cluster: Any) -> None:
    ended = on_nodes(benchmarks, cluster, "--algorithm", "popularity", "--memory-limit", "50")
    assert ended.code == 0 and "no node of the cluster has 1 CPU and 50.0 GiB" in " ".join(ended.out.split())


def test_a_node_without_the_drivers_cache_gets_the_split(benchmarks: CommandLine, cluster: Any, tmp_path: Path) -> None:
    """The node lives in a mount namespace of its own, where the driver's cache is empty."""
    hide = f"mount -t tmpfs tmpfs {os.environ['RECGAUGE_CACHE']}"
    if (
        sys.platform != "linux"
        or subprocess.run(["unshare", "--mount", "sh", "-c", hide], capture_output=True).returncode
    ):
        pytest.skip("a file system cannot be hidden from a process here")
    cache = tmp_path / "node-cache"
    ray = Path(sys.executable).with_name("ray")
    start = f"{ray} start --address {cluster.address} --num-cpus 1 --num-gpus 0 --resources '{{}}'"
    start += f" --memory {NODE['memory']} --object-store-memory {NODE['object_store_memory']}"
    before = set(psutil.pids())
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{hide} && {start}"],
        env={**os.environ, "RECGAUGE_CACHE": str(cache)},
        check=True,
        capture_output=True,
        timeout=60,
    )
    try:
        what = ("--algorithm", "sleeps", "--set", "sleeps.seconds=1", "--seeds", "5")
        assert on_nodes(benchmarks, cluster, *PLUGIN, *what).code == 0
    finally:
        for process in psutil.process_iter():
            if process.pid not in before and str(cache) in _environment(process).get("RECGAUGE_CACHE", ""):
                process.kill()
    (split,) = cache.glob("splits/*")
    original = Path(os.environ["RECGAUGE_CACHE"], "splits", split.name)
    assert read_meta(split) == read_meta(original) is not None
    files = [path.relative_to(original) for path in original.rglob("*.npy")]
    assert files and all((split / file).read_bytes() == (original / file).read_bytes() for file in files)
    assert len(read_records(benchmarks.results)) == 5


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_tuning_on_nodes_finds_what_tuning_here_finds(benchmarks: CommandLine, cluster: Any, tmp_path: Path) -> None:
    """One trial at a time, so that the sampler sees the same; poor ones are pruned across the cluster."""
    found = {}
    for executor in (("local",), ("ray", "--address", cluster.address)):
        folder = tmp_path / executor[0]
        ended = benchmarks(
            *("tune", "--dataset", "synthetic-genres", "--protocol", "leave-one-out", "--plugin", str(TUNABLE)),
            *("--algorithm", "knob", "--trials", "10", "--workers", "1", "--sampler", "random"),
            *("--results", str(folder), "--tuned", str(folder / "tuned"), "--executor", *executor),
        )
        assert ended.code == 0, ended.err
        found[executor[0]] = tomllib.loads(next((folder / "tuned").rglob("knob.toml")).read_text())
    here, there = found["local"], found["ray"]
    assert there["values"] == here["values"] and there["config"] == here["config"] and there["study"] == here["study"]
    assert there["trials"] == here["trials"] and there["trials"]["pruned"] > 0


@pytest.mark.slow
def test_trials_of_a_killed_node_run_again(benchmarks: CommandLine, cluster: Any) -> None:
    victim = cluster.add_node(**NODE)
    tuned = benchmarks.results / "tuned"
    process = benchmarks.start(
        *("tune", "--dataset", "synthetic-genres", "--protocol", "leave-one-out", "--plugin", str(TUNABLE)),
        *("--algorithm", "knob", "--trials", "8", "--set", "knob.seconds=2", "--results", str(benchmarks.results)),
        *("--tuned", str(tuned), "--executor", "ray", "--address", cluster.address),
    )
    wait_until(lambda: sum("benchmarks.worker" in " ".join(each.cmdline()) for each in processes_of_tasks()) >= 4)
    cluster.remove_node(victim, allow_graceful=False)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "starts again" in err
    winner = tomllib.loads(next(tuned.rglob("knob.toml")).read_text())
    assert sum(winner["trials"].values()) == 8 and winner["trials"]["failed"] == 0


def test_a_cell_with_a_machine_to_itself_is_timed(
    benchmarks: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an address Ray runs on this machine alone; a cell with all its threads has it to itself."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name)
    before = {process.pid for process in psutil.process_iter() if "raylet" in process.name()}
    ended = benchmarks.run("--executor", "ray", "--algorithm", "popularity", "--threads", str(os.cpu_count()))
    assert ended.code == 0
    (record,) = read_records(benchmarks.results).values()
    assert record["timings"]["fit_s"] and record["timings"]["rank_s"]
    assert not (tmp_path / ".ray").exists()  # a token there would change clusters that the user starts later
    assert not {process.pid for process in psutil.process_iter() if "raylet" in process.name()} - before


def test_a_split_comes_out_as_it_was_packed(benchmarks: CommandLine, tmp_path: Path) -> None:
    from benchmarks.executors.ray_node import pack, unpack

    assert benchmarks.run("--algorithm", "popularity").code == 0
    split = max(Path(os.environ["RECGAUGE_CACHE"], "splits").glob("*/meta.json")).parent
    meta = read_meta(split)
    assert meta is not None
    for _ in range(2):  # as of two tasks on one node
        unpack(pack(split), meta, tmp_path / "node" / "split")
    assert read_meta(tmp_path / "node" / "split") == meta
    assert pack(tmp_path / "node" / "split") == pack(split)


def test_a_record_of_any_nodes_hardware_is_known(benchmarks: CommandLine) -> None:
    from benchmarks.cli import _parser
    from benchmarks.commands import _request
    from benchmarks.environment import hardware
    from benchmarks.run import plan_cells

    what = ["--dataset", "synthetic-genres", "--protocol", "leave-one-out", "--algorithm", "popularity"]
    assert benchmarks.run(*what).code == 0
    request = _request(_parser().parse_args(["run", "--results", str(benchmarks.results), *what]))
    prepared = [(each, read_meta(each.folder) or {}) for each in request.preparations]
    other = {**hardware(), "cpu": "another one"}
    (alien,) = plan_cells(replace(request, machines=(other,)), prepared)
    (either,) = plan_cells(replace(request, machines=(other, hardware())), prepared)
    assert alien.known is None and either.known is not None
    assert alien.cell.key != either.cell.key == either.known.data["key"]


def test_a_node_with_other_packages_must_not_measure() -> None:
    from benchmarks.environment import package_versions
    from benchmarks.executors.ray_node import unfit

    reason = unfit({**package_versions(["numpy"]), "scipy": "0.1"})
    assert reason is not None and reason.startswith("scipy is 1.") and reason.endswith("there, 0.1 here")
    assert unfit({"no-such-package": "1"}) == "no-such-package is not installed there, 1 here"


def test_who_has_a_node_alone() -> None:
    from benchmarks.executors.ray import Node, alone

    def node(name: str, cpus: float, machine: str) -> Node:
        return Node(name, cpus, 0, 1 << 30, {}, machine)

    nodes = [node("a", 1, "first"), node("b", 4, "second"), node("c", 1, "third"), node("d", 1, "third")]
    assert alone(nodes, 1) == {"a"}
    assert alone(nodes, 4) == {"a", "b"}


def test_paths_of_a_request_become_the_nodes() -> None:
    from benchmarks.executors.ray_node import _with_places

    places = {"/driver/splits/ab": "/node/splits/ab", "/driver/p.py": "/code/plugins/p.py"}
    there = ["/driver/splits/ab/fit", "/driver/splits/abc", "/driver/splits", "/driver/p.py", 3, None]
    here = ["/node/splits/ab/fit", "/driver/splits/abc", "/driver/splits", "/code/plugins/p.py", 3, None]
    assert _with_places(there, places) == here


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--address", "auto"), "--executor ray"),
        (("--executor", "ray", "--address", "ray://there:10001"), "HOST:PORT"),
        (("--executor", "ray", "--address", "127.0.0.1:1"), "no cluster there"),
    ],
)
def test_mistakes_are_one_line(benchmarks: CommandLine, arguments: tuple[str, ...], expected: str) -> None:
    ended = benchmarks.run("--algorithm", "popularity", *arguments)
    assert ended.code == 1 and len(ended.err.splitlines()) == 1, ended.err
    assert expected in ended.err
    assert not benchmarks.results.exists()


def test_missing_ray_is_one_line_with_the_install_command(in_copy: Callable[[], CommandLine]) -> None:
    benchmarks = in_copy()
    commands = benchmarks.root / "benchmarks" / "commands.py"
    commands.write_text(commands.read_text().replace('package_version("ray")', 'package_version("ray-missing")'))
    ended = benchmarks.run("--executor", "ray", "--algorithm", "popularity")
    assert ended.code == 1 and ended.err.splitlines() == [
        "recgauge: --executor ray: ray is not installed: pip install -c constraints.txt '.[ray]'"
    ]
