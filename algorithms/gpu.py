"""GPUs as each framework sees them: what keeps it from using one, and what its allocator has taken there.

``python -m algorithms.gpu torch`` prints what keeps torch from it, for a process that must not import torch itself.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from datasets.errors import NotApplicableError

IMPLICIT_NEEDS = "pip install 'rmm-cu13>=26.2,<26.6' 'nvidia-cublas<14' nvidia-curand"
"""implicit 0.7.3 is linked against the rmm of these releases, others lack symbols; its wheel brings no CUDA library."""

_FOLDERS = r"[^\s'(]*/"
"""Of a path in a message: records tell nothing of the machine's folders."""


def obstacle(framework: str) -> str | None:
    """Why ``framework``, one of ``FRAMEWORKS``, cannot use a GPU in this process, or None. It must be installed."""
    return _OBSTACLES[framework]()


def require(framework: str) -> None:
    """Raises NotApplicableError, with what to do, where ``framework`` cannot use a GPU."""
    if (reason := obstacle(framework)) is not None:
        raise NotApplicableError(reason)


def reset_peak() -> None:
    """Let ``peak_bytes`` count from now on."""
    torch, tensorflow = _in_use()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()
    if tensorflow is not None:
        tensorflow.config.experimental.reset_memory_stats("GPU:0")


def peak_bytes() -> int | None:
    """The most bytes that tensors took at once on the GPU; None where neither torch nor TensorFlow uses one.

    Allocated tensors, not what the allocator keeps in reserve. Nothing is imported.
    """
    torch, tensorflow = _in_use()
    if torch is not None:
        return int(torch.cuda.max_memory_allocated())
    if tensorflow is not None:
        return int(tensorflow.config.experimental.get_memory_info("GPU:0")["peak"])
    return None


def _in_use() -> tuple[Any, Any]:
    """torch and TensorFlow, each None where this process has not loaded it or it has no GPU."""
    torch, tensorflow = sys.modules.get("torch"), sys.modules.get("tensorflow")
    if torch is not None and not torch.cuda.is_initialized():
        torch = None
    if tensorflow is not None and not tensorflow.config.get_visible_devices("GPU"):
        tensorflow = None
    return torch, tensorflow


def _torch() -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    if torch.version.cuda is None:
        release = torch.__version__.partition("+")[0]
        return f"torch {torch.__version__} is built without CUDA: pip install --force-reinstall torch=={release}"
    return f"torch finds no GPU here: CUDA {torch.version.cuda} wants a newer driver, or CUDA_VISIBLE_DEVICES hides it"


def _tensorflow() -> str | None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return None
    return f"TensorFlow finds no GPU here: pip install 'tensorflow[and-cuda]=={tf.__version__}'"


def _implicit() -> str | None:
    with suppress(ImportError, RuntimeError):  # without it, the system's loader may find them
        from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with rmm

        for library in ("cublas", "curand"):
            load_nvidia_dynamic_lib(library)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import implicit.gpu
    if implicit.gpu.HAS_CUDA:
        return None
    if not implicit.gpu.HAS_RMM:
        return f"implicit needs rmm and CUDA 13 to use a GPU: {IMPLICIT_NEEDS}"
    told = str(caught[-1].message) if caught else "its CUDA extension does not load here"
    remedy = "" if "driver" in told else f": {IMPLICIT_NEEDS}"
    return f"implicit: {re.sub(_FOLDERS, '', told)}{remedy}"


_OBSTACLES: dict[str, Callable[[], str | None]] = {"torch": _torch, "tensorflow": _tensorflow, "implicit": _implicit}

FRAMEWORKS = tuple(_OBSTACLES)
"""Distributions whose use of a GPU is known here."""

if __name__ == "__main__":
    print(obstacle(sys.argv[1]) or "")
