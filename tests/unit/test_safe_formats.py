"""Nothing that RecGauge reads can run code: no pickle, no eval, no shell, and no archive unpacked without a look."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path for folder in ("algorithms", "benchmarks", "datasets", "protocols") for path in (ROOT / folder).rglob("*.py")
]
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
CHECKED_UNPACKING = "datasets/download.py"


def dangers(source: str, name: str = "other.py") -> Iterator[str]:
    """What in ``source`` could run what a file says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            yield from _dangerous_call(node, name)


def _dangerous_call(call: ast.Call, name: str) -> Iterator[str]:
    called = ast.unparse(call.func)
    given = {each.arg: ast.unparse(each.value) for each in call.keywords}
    if called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"):
        yield called
    if called in ("np.load", "numpy.load", "np.lib.format.read_array") and given.get("allow_pickle") != "False":
        yield f"{called} without allow_pickle=False"
    if given.get("allow_pickle", "False") != "False":
        yield f"{called} with allow_pickle"
    if called == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if called.endswith((".extractall", ".extract", "unpack_archive")) and name != CHECKED_UNPACKING:
        yield f"{called} without our check"
    if given.get("shell", "False") != "False":
        yield f"{called} with shell"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_of_ours_runs_what_a_file_says(path: Path) -> None:
    assert list(dangers(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import yaml", "import joblib.externals"),
        *("np.load(path)", "np.load(path, allow_pickle=True)", "np.load(path, allow_pickle=flag)", "f(allow_pickle=1)"),
        *("torch.load(path)", "torch.load(path, weights_only=False)", "eval(text)", "exec(text)", "os.system(text)"),
        *("archive.extractall(target)", "shutil.unpack_archive(a, b)", "subprocess.run(text, shell=True)"),
    ],
)
def test_each_danger_is_seen(source: str) -> None:
    assert len(list(dangers(source))) == 1 or ("allow_pickle=" in source and list(dangers(source)))


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path, allow_pickle=False)",
        "torch.load(path, weights_only=True)",
        "subprocess.run(['git', 'status'])",
        "model.evaluate(rows)",
    ],
)
def test_what_is_safe_is_let_be(source: str) -> None:
    assert list(dangers(source)) == []
