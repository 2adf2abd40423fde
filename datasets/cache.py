"""Where derived files live, and folders of arrays that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from platformdirs import user_cache_path

from datasets.errors import NotWritableError

if TYPE_CHECKING:
    import numpy.typing as npt


def cache_root() -> Path:
    """``$RECGAUGE_CACHE``, or the user's cache folder of this system. Not created here."""
    chosen = os.environ.get("RECGAUGE_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("recgauge")


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """``with atomic_folder(target) as folder:`` fill ``folder``; at the end it becomes ``target`` by one rename.

    After an exception nothing is left. Where another process was faster, its folder stays and ours is dropped: folders
    of one name hold the same content.

    Raises:
        NotWritableError: for an OSError in here or in the block, such as a full disk.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_beside(target) as scratch:
            folder = scratch / target.name
            folder.mkdir()
            yield folder
            publish(folder, target)
    except OSError as error:
        raise NotWritableError(target.parent, error) from error


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A folder on the file system of ``target``; its name has the process that made it, should that be killed."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.tmp-{os.getpid()}-") as scratch:
        yield Path(scratch)


def publish(folder: Path, target: Path) -> None:
    """Rename ``folder`` to ``target`` on the same file system; an existing ``target`` is kept."""
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def save_arrays(folder: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write each array to ``folder/NAME.npy``. Object arrays are refused: they would need pickle."""
    import numpy as np

    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def load_arrays(folder: Path, mmap_mode: Literal["r", "c"] | None = "r") -> dict[str, npt.NDArray[Any]]:
    """Every ``NAME.npy`` of ``folder``, by name.

    ``mmap_mode``: ``"r"`` read-only maps, ``"c"`` copy-on-write maps for libraries that refuse read-only buffers, None
    reads into memory.
    """
    import numpy as np

    return {path.stem: np.load(path, mmap_mode=mmap_mode, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}


def write_sealed(folder: Path, name: str, meta: Mapping[str, Any]) -> None:
    """Write ``meta`` as ``folder/NAME``, the last file of ``folder``, with size, mtime and sha256 of each other one."""
    files = {file: [*look, _sha256(folder / file)] for file, look in _seen(folder).items()}
    content = {"meta": meta, "files": files}
    (folder / name).write_text(json.dumps({**content, "sha256": _digest(content)}), encoding="utf-8")


def read_sealed(folder: Path, name: str) -> dict[str, Any]:
    """What ``write_sealed`` wrote, once it is sure that no file came, went or was written to since.

    A copy has other times: what has them is read, and is as good where its content is the same.

    Raises:
        OSError, ValueError: it is not so; the folder's content is of no use.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        found = _seen(folder)
        found.pop(name)
        if content.pop("sha256") != _digest(content) or not _are_unchanged(folder, content["files"], found):
            raise ValueError(f"{folder}: changed since it was written")
        meta: dict[str, Any] = content["meta"]
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{folder / name}: damaged") from error
    return meta


def remove(folder: Path) -> None:
    """Take a folder of ours away, for whoever looks for its name at once."""
    with contextlib.suppress(OSError), scratch_beside(folder) as scratch:
        folder.rename(scratch / folder.name)


def _seen(folder: Path) -> dict[str, list[int]]:
    """Size and mtime of every file: one that was written to since is noticed without reading it."""
    seen = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            stat = os.stat(path)
            seen[os.path.relpath(path, folder)] = [stat.st_size, stat.st_mtime_ns]
    return seen


def _are_unchanged(folder: Path, sealed: Mapping[str, list[Any]], found: Mapping[str, list[int]]) -> bool:
    """Whether the files are those that were sealed; only those of another time are read."""
    if sealed.keys() != found.keys() or any(sealed[file][0] != found[file][0] for file in found):
        return False
    return all(sealed[file][1] == found[file][1] or sealed[file][2] == _sha256(folder / file) for file in found)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
