"""The user's own ratings: a CSV, TSV, ``::`` or Parquet file, with columns guessed from their names or given."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.errors import DataError, MissingDataError, UserError
from datasets.formats import Field, Format
from datasets.loader import Loader, Progress
from datasets.registry import DatasetSpec

if TYPE_CHECKING:
    from datasets.canonical import Metadata
    from datasets.types import Column, Dataset

ROLES = ("user", "item", "rating", "time")
"""What a column can be; user and item are required."""

_ENTITIES = {
    "user": ("user", "customer", "reviewer"),
    "item": ("item", "movie", "article", "product", "book", "track", "song"),
}
_NAMES = {
    "user": {"uid", *(word + end for word in _ENTITIES["user"] for end in ("", "id"))},
    "item": {"iid", *(word + end for word in _ENTITIES["item"] for end in ("", "id"))},
    "rating": {"rating", "ratings", "score", "value", "stars"},
    "time": {"time", "timestamp", "ts", "unixtime"},
}
_TITLES = {"title", "name"}
_DELIMITERS = ("::", "\t", ",", ";", "|")
_ADVICE = "name them: --columns user=NAME,item=NAME,rating=NAME,time=NAME"
_LONGEST_CATEGORY = 200
"""Characters; a column with a longer text is prose: it is left out and counted in ``notes``."""
_LONGEST_HEADER = 1 << 16
_HEADER = 300
"""Characters of a header line that a message shows."""
_LICENCE = "the user's own file"


def parse_columns(text: str) -> dict[str, str]:
    """``user=reader,item=article`` -> ``{"user": "reader", "item": "article"}``. Raises UserError for other forms."""
    columns: dict[str, str] = {}
    for part in text.split(","):
        role, equals, name = part.partition("=")
        if not equals or not name or role not in ROLES or role in columns:
            raise UserError(
                f"--columns {text}: '{part}' is wrong; each of {', '.join(ROLES)} may stand once, as in user=NAME"
            )
        if name in columns.values():
            raise UserError(f"--columns {text}: '{name}' stands for two things; name a column for each")
        columns[role] = name
    return columns


def parse_scale(text: str) -> tuple[float, float]:
    """``1,5`` -> ``(1.0, 5.0)``. Raises UserError for other forms."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -math.inf < low < high < math.inf:
        raise UserError(f"--scale {text}: expected LOWEST,HIGHEST rating, such as 1,5")
    return low, high


def own_file_spec(
    path: Path,
    columns: dict[str, str] | None = None,
    items: Path | None = None,
    users: Path | None = None,
    scale: tuple[float, float] | None = None,
) -> DatasetSpec:
    """An entry, as the registry has them, for one file of the user."""
    given = {"items": items, "users": users}
    files = {name: str(file.absolute()) for name, file in given.items() if file is not None}
    others = {name: value for name, value in (("columns", columns), ("scale", scale)) if value is not None}
    return DatasetSpec(
        name=OwnFile(path).name,
        target=f"{__name__}:{OwnFile.__name__}",
        summary=f"your own file {path.name}",
        licence=_LICENCE,
        fetchable=False,
        options={"path": str(path.absolute()), **files, **others},
    )


@dataclass(frozen=True)
class OwnFile(Loader):
    """One file of ratings, with optional files that describe items and users.

    Without a rating column every row is a 1 and there is no rating scale; without ``scale`` it is what the data hold.

    Attributes:
        path: CSV, TSV, ``::`` or Parquet, with a header line.
        columns: role (``ROLES``) -> column name; what is not given is guessed. None guesses all.
        items, users: files with an id column; a column ``title`` or ``name`` of items is the title, the others are
            metadata: numbers, categories, or categories joined by ``|``.
        scale: lowest and highest rating that the file may hold.
    """

    path: Path | str
    columns: dict[str, str] | None = None
    items: Path | str | None = None
    users: Path | str | None = None
    scale: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """The file's name as a data set's: ``My Ratings.csv`` is ``my-ratings``."""
        return re.sub(r"[^a-z0-9]+", "-", Path(self.path).stem.lower()).strip("-") or "own-file"

    def options(self) -> dict[str, Any]:
        return {
            "columns": self.columns,
            "items": self.items is not None,
            "users": self.users is not None,
            "scale": self.scale,
        }

    def locate(self, progress: Progress | None = None) -> list[Path]:
        """The ratings, then items and users where they are given."""
        paths = [Path(path) for path in (self.path, self.items, self.users) if path is not None]
        for path in paths:
            if path.is_dir():
                raise DataError(f"{path}: a directory; name the file in it")
            if not path.is_file():
                raise MissingDataError(f"{path}: no such file")
        return paths

    def load(self, sources: list[Path]) -> Dataset:
        import numpy as np

        from datasets.canonical import build_dataset

        source = _open(sources[0], ROLES, self.columns or {}, _ADVICE)
        names = source.roles
        low, high = self.scale or (None, None)
        kinds = {
            "user": Field(names["user"], "id"),
            "item": Field(names["item"], "id"),
            "rating": Field(names.get("rating", ""), "number", low, high),
            "time": Field(names.get("time", ""), "seconds"),
        }
        read = source.read([kinds[role] for role in ROLES if role in names])
        users, items = read[names["user"]], read[names["item"]]
        if len(users.chunk(0).dictionary) < 2:
            raise DataError(f"{sources[0]}: all {len(users):,} rows are of one user; at least two users are required")
        values = read[names["rating"]] if "rating" in names else np.ones(len(users), dtype=np.float32)
        others = iter(sources[1:])
        return build_dataset(
            name=self.name,
            users=users,
            items=items,
            values=values,
            times=read[names["time"]] if "time" in names else None,
            rating_scale=_observed_scale(values) if self.scale is None else (self.scale[0], self.scale[1]),
            licence=_LICENCE,
            citation="",
            item_metadata=_metadata(next(others), "item") if self.items else None,
            user_metadata=_metadata(next(others), "user") if self.users else None,
        )


def _observed_scale(values: Any) -> tuple[float, float] | None:
    """Lowest and highest rating; None where all are the same, since these are no ratings."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else None


def _metadata(path: Path, owner: str) -> Metadata:
    from datasets.canonical import Metadata

    source = _open(path, (owner,), {}, f"call the column of its ids {owner}")
    id_name = source.roles[owner]
    others = [name for name in source.names if name != id_name]
    title = next((name for name in others if _plain(name) in _TITLES), None) if owner == "item" else None
    fields = [
        Field(name, "title") if name == title else Field(name, "text", longest=_LONGEST_CATEGORY) for name in others
    ]
    read = source.read([Field(id_name, "id", unique=True), *fields])
    columns = {name: _column(read[name]) for name in others if name != title and read[name] is not None}
    left_out = len(others) - len(columns) - (title is not None)
    return Metadata(read[id_name], columns, None if title is None else read[title], left_out)


def _column(texts: Any) -> Column:
    """Numbers where every text is one or empty, else categories."""
    import numpy as np

    from datasets.types import Column

    try:
        return Column("number", np.where(texts == "", "nan", texts).astype(np.float64))
    except ValueError:
        return Column("categories" if (np.strings.find(texts, "|") >= 0).any() else "category", texts)


# --- which column is what ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """One file, how it is written (None: Parquet), and which of its columns is what."""

    path: Path
    format: Format | None
    names: list[str]
    roles: dict[str, str]

    def read(self, fields: list[Field]) -> dict[str, Any]:
        if self.format is None:
            from datasets.parquet import read_parquet

            return read_parquet(self.path, fields)
        from datasets.readers import read_table

        return read_table(self.path, fields, self.format)


def _open(path: Path, wanted: tuple[str, ...], given: dict[str, str], advice: str) -> _Source:
    """Sniff ``path`` and find the columns of ``wanted`` roles: the ``given`` ones, and others by their names."""
    from datasets.readers import shown

    if _is_parquet(path):
        from datasets.parquet import column_names

        names = column_names(path)
        return _Source(path, None, names, _roles(str(path), names, wanted, given, shown(names, _HEADER), advice))

    line = _first_line(path)
    format, names = _sniff(line, given)
    if names and all(_is_number(name) for name in names):
        raise DataError.at(path, 1, f"no header line but {shown(line)}; add one, such as user,item,rating,time")
    return _Source(path, format, names, _roles(f"{path}:1", names, wanted, given, shown(line, _HEADER), advice))


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1" or path.suffix in (".parquet", ".pq")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _first_line(path: Path) -> str:
    from datasets.readers import shown

    with path.open("rb") as file:
        raw = file.readline(_LONGEST_HEADER)
    if len(raw) == _LONGEST_HEADER and not raw.endswith(b"\n"):
        raise DataError.at(path, 1, f"the header line is longer than {_LONGEST_HEADER:,} bytes; are line ends missing?")
    try:
        line = re.split("[\r\n]", raw.decode("utf-8-sig"))[0]  # some line ends are \r alone
    except UnicodeDecodeError:
        raise DataError.at(path, 1, "not UTF-8; save the file as UTF-8") from None
    if not raw:
        raise DataError.at(path, 1, "the file is empty; a header line is required")
    if "\0" in line:
        raise DataError.at(path, 1, f"{shown(line)} is no text; CSV, TSV, :: or Parquet is required")
    return line


def _sniff(line: str, given: dict[str, str]) -> tuple[Format, list[str]]:
    """The format whose delimiter gives the most columns that we know; of equals the one with most columns."""
    from datasets.readers import split_line

    found = []
    for delimiter in _DELIMITERS:
        format = Format(delimiter, quoted=delimiter != "::")
        names = split_line(line, format)
        if isinstance(names, list):
            known = sum(name in given.values() or any(_plain(name) in _NAMES[role] for role in ROLES) for name in names)
            found.append((known, len(names), format, names))
    _, _, format, names = max(found, key=lambda option: option[:2])
    return format, names


def _roles(
    where: str, names: list[str], wanted: tuple[str, ...], given: dict[str, str], line: str, advice: str
) -> dict[str, str]:
    """Role -> column name; a wanted user and item must be there."""
    from datasets.readers import shown

    roles = dict(given)
    for role, name in given.items():
        if name not in names:
            raise DataError(f"{where}: no column '{name}' for {role}; the header is {line}")
    for role in wanted:
        guesses = [name for name in names if _plain(name) in _NAMES[role] and name not in given.values()]
        if role in given or not guesses:
            continue
        if len(guesses) > 1:
            raise DataError(f"{where}: {shown(guesses[0])} and {shown(guesses[1])} may both be the {role}; {advice}")
        roles[role] = guesses[0]
    for role in ("user", "item"):
        if role in wanted and role not in roles:
            raise DataError(f"{where}: no column for {role} in the header {line}; {advice}")
    return roles


def _plain(name: str) -> str:
    """``user_id``, ``userId`` and ``User ID`` are one name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?[0-9]+([.][0-9]*)?\s*", text) is not None
