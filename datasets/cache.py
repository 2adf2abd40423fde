"""Where derived files live, and folders of arrays that appear whole or not at all."""

from __future__ import annotations

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
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            folder = Path(scratch, target.name)
            folder.mkdir()
            yield folder
            publish(folder, target)
    except OSError as error:
        raise NotWritableError(target.parent, error) from error


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
