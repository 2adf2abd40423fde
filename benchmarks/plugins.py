"""Third parties' algorithms, data sets and protocols: ``--plugin FILE.py`` adds what its file lists.

A plug-in is one Python file with any of ``ALGORITHMS``, ``DATASETS``, ``PROTOCOLS``: sequences of specs whose targets
are ``"<file name without .py>:<Class>"``. Frameworks are imported inside ``_fit``, as in the adapters here.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from algorithms import registry as algorithms
from datasets import registry as datasets
from datasets.errors import UserError
from protocols import registry as protocols


def load_plugin(path: Path) -> ModuleType:
    """Import the file under its stem and register its specs; importing the same file twice does nothing."""
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    if known is not None:
        raise UserError(f"{path}: a module named '{path.stem}' is loaded already: rename the file")
    if not path.is_file():
        raise UserError(f"{path}: no such plug-in file")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: a plug-in is a Python file, FILE.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}") from error
    for name, registry in (("ALGORITHMS", algorithms), ("DATASETS", datasets), ("PROTOCOLS", protocols)):
        for entry in getattr(module, name, ()):
            registry.register(entry)
    return module
