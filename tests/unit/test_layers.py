"""Imports point left only: datasets <- algorithms, protocols <- benchmarks; frameworks stay in private siblings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "datasets": {"datasets"},
    "algorithms": {"datasets", "algorithms"},
    "protocols": {"datasets", "protocols"},
    "benchmarks": {"datasets", "algorithms", "protocols", "benchmarks"},
}
FRAMEWORKS = {"torch", "pytorch_lightning", "tensorflow", "keras", "tf_keras", "tensorflow_recommenders", "implicit"}
FRAMEWORKS |= {"lightfm", "optuna", "rmm", "cuda", "pynvml"}
FILES = [path.relative_to(ROOT) for folder in ALLOWED for path in sorted((ROOT / folder).rglob("*.py"))]
MAY_LOAD_A_FRAMEWORK = {  # each is itself imported inside a function only
    *("algorithms/_ncf_torch.py", "algorithms/_keras_framework.py", "algorithms/_tfrs_gmf.py"),
    *("benchmarks/tuning.py", "benchmarks/studies.py"),
}


def imported(statements: list[ast.stmt]) -> Iterator[str]:
    """Top-level packages that these statements and what is inside them import."""
    for node in (each for statement in statements for each in ast.walk(statement)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_left(path: Path) -> None:
    found = set(imported(ast.parse((ROOT / path).read_text()).body))
    assert found & ALLOWED.keys() <= ALLOWED[path.parts[0]]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_framework_is_loaded_with_a_module(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text())
    at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    if str(path) not in MAY_LOAD_A_FRAMEWORK:
        assert not set(imported(at_once)) & FRAMEWORKS
