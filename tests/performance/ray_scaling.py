"""How much faster a tuning is on two nodes than on one: real Ray nodes of one core each, on this machine.

    python tests/performance/ray_scaling.py                     # 12 trials of 20 s: seven minutes, needs two idle cores
    python tests/performance/ray_scaling.py --seconds 3 --trials 6

Every trial is the same arithmetic on one thread. Times are of the whole command, its connecting to Ray and starting of
workers included, Ray's own start not. Exit code 1 below the ratio that is required.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUSY = ROOT / "tests" / "plugins" / "busy.py"
REQUIRED = 1.4


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=12, help="(default: 12)")
    parser.add_argument("--seconds", type=float, default=20, help="of one trial, alone on its core (default: 20)")
    options = parser.parse_args()
    rounds = max(1, round(options.seconds / _seconds_of_a_round()))
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "memory": 7 << 30, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        _tune(cluster.address, rounds, trials=1)  # prepares the split
        one = _tune(cluster.address, rounds, options.trials)
        print(f"one node:  {one:.1f} s for {options.trials} trials", flush=True)
        cluster.add_node(**node)
        two = _tune(cluster.address, rounds, options.trials)
        print(f"two nodes: {two:.1f} s", flush=True)
    finally:
        cluster.shutdown()
    print(f"ratio: {one / two:.2f} (required: {REQUIRED})")
    return 0 if one / two >= REQUIRED else 1


def _seconds_of_a_round() -> float:
    """As the adapter does them, in a process with one thread."""
    code = """
import time
import numpy as np
matrix = np.full((200, 200), 0.005)
for _ in range(200):
    matrix = matrix @ matrix
start = time.perf_counter()
for _ in range(2000):
    matrix = matrix @ matrix
print((time.perf_counter() - start) / 2000)
"""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return float(subprocess.run([sys.executable, "-c", code], env=one_thread, capture_output=True, check=True).stdout)


def _tune(address: str, rounds: int, trials: int) -> float:
    """Seconds of one ``tune`` with as many trials at a time as the cluster has CPUs for."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks", "tune", "--executor", "ray", "--address", address]
        command += ["--dataset", "synthetic-genres", "--protocol", "leave-one-out", "--plugin", str(BUSY)]
        command += ["--algorithm", "busy", "--set", f"busy.rounds={rounds}", "--trials", str(trials)]
        command += ["--seconds", "100000", "--time-limit", "10000", "--sampler", "random", "--pruner", "none"]
        command += ["--results", folder, "--tuned", f"{folder}/tuned"]
        start = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
