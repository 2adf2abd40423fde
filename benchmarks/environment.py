"""What a figure depends on besides code and data: hardware, packages, commit, thread variables."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from datasets.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def canonical_json(value: Any) -> str:
    """The one text of a JSON value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_our_datasets_package() -> None:
    """Fail in one line when ``import datasets`` finds another package than the checkout's."""
    import datasets

    found = Path(datasets.__file__ or ".").resolve().parent
    if found != ROOT / "datasets":
        raise UserError(
            f"'import datasets' finds {found}, not this checkout's: run from the checkout, or uninstall the other one"
        )


@functools.cache
def hardware() -> dict[str, Any]:
    """CPU model, usable cores, GPUs and operating system, without anything that names the machine."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": _gpus(),
        "os": f"{platform.system()} {platform.machine()}",
    }


def hardware_fingerprint() -> str:
    """Figures of time are compared only where this is equal."""
    return digest(hardware())


@functools.cache
def package_version(name: str) -> str | None:
    """The installed version of a distribution, None where it is missing. Nothing is imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def package_versions(names: Iterable[str]) -> dict[str, str | None]:
    """Installed versions by distribution name, with Python's own."""
    return {"python": platform.python_version(), **{name: package_version(name) for name in names}}


@functools.cache
def gpu_obstacle(framework: str) -> str | None:
    """Why an installed framework cannot use this machine's GPU, or None; see ``algorithms.gpu``.

    Asked in a process of its own, which takes seconds: this one must not import a framework.
    """
    command = [sys.executable, "-P", "-m", "algorithms.gpu", framework]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        answer = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120)
    except subprocess.TimeoutExpired:
        return f"{framework} did not say within two minutes whether it can use the GPU"
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        return without_paths(f"{framework} could not say whether it can use the GPU: {reason[0]}")
    return answer.stdout.strip() or None


@functools.cache
def commit() -> str | None:
    """The checkout's commit, with ``+changes`` where the working tree differs; None outside git."""
    try:
        head = _git("rev-parse", "HEAD")
        return f"{head}+changes" if _git("status", "--porcelain", "--untracked-files=no") else head
    except (OSError, subprocess.CalledProcessError):
        return None


def worker_variables(threads: int, of_adapter: dict[str, str], device: str = "cpu") -> dict[str, str]:
    """The environment variables that the harness sets for a worker, for the record too.

    A worker on the CPU sees no GPU: no framework can go there unasked, or spend time and memory on preparing one.
    """
    gpus = {"CUDA_VISIBLE_DEVICES": "-1"} if device == "cpu" else {}
    return {**dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONHASHSEED": "0", **gpus, **of_adapter}


def without_paths(text: str) -> str:
    """``text`` with the paths of this machine shortened, fit for a record that others read."""
    for path, name in (
        (str(ROOT), "."),
        (sys.prefix, "<python>"),
        (sys.base_prefix, "<python>"),
        (str(Path.home()), "~"),
    ):
        if len(path) > 1:
            text = text.replace(path, name)
    return text


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 else []
