"""Raw metadata columns become numbers, with encoders fitted on entities that have a training row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import sparse

from datasets.types import Column, Features

_RAW_LIMIT = 1e100
"""Numbers beyond are clipped: squares of what is left, and the quotient by any spread of it, are finite in float64."""
_SCALED_LIMIT = 1e9
"""In standard deviations. No trained entity of n is further out than sqrt(n); a cold one may be, and is clipped, so
that its features and a model's float32 products of them stay finite."""


def encode(columns: Mapping[str, Column], trained: npt.NDArray[np.bool_]) -> Features | None:
    """Encode the metadata of n items or users; None without columns.

    ``trained`` (n,) marks entities with a training row: vocabularies and scales come from these alone, so that an
    encoder tells nothing about test rows. Every entity is encoded, a cold one too.

    * ``category`` and ``categories``: one column per value seen in training (``genres=Comedy``) and ``genres=missing``
      for entities without any such value.
    * ``number``: standardised over trained entities (``year``), missing is 0, and ``year=missing`` marks it. Clipped at
      10⁹ standard deviations, which only a cold entity can be away from the mean. Infinite is missing.

    Returns ``Features`` of (n, d) float32 CSR.
    """
    if not columns:
        return None
    blocks: list[sparse.csr_matrix] = []
    names: list[str] = []
    for name, column in columns.items():
        if len(column.values) != len(trained):
            raise ValueError(f"column '{name}' has {len(column.values)} rows, trained has {len(trained)}")
        block, labels = _encode_number(column, trained) if column.kind == "number" else _encode_texts(column, trained)
        blocks.append(block)
        names.extend(f"{name}={label}" if label else name for label in labels)
    return Features(sparse.hstack(blocks, format="csr", dtype=np.float32), tuple(names))


def _encode_number(column: Column, trained: npt.NDArray[np.bool_]) -> tuple[sparse.csr_matrix, list[str]]:
    raw = column.values.astype(np.float64)
    known = np.isfinite(raw)
    values = np.clip(raw, -_RAW_LIMIT, _RAW_LIMIT)
    fitted = values[known & trained]
    if len(fitted) == 0:  # nothing to scale by: no value can be used
        known = np.zeros_like(known)
        fitted = np.zeros(1)
    scaled = np.clip((values - fitted.mean()) / (fitted.std() or 1.0), -_SCALED_LIMIT, _SCALED_LIMIT)
    block = np.column_stack([np.where(known, scaled, 0.0), ~known]).astype(np.float32)
    return sparse.csr_matrix(block), ["", "missing"]


def _encode_texts(column: Column, trained: npt.NDArray[np.bool_]) -> tuple[sparse.csr_matrix, list[str]]:
    texts = column.values.tolist()
    sets = [set(text.split("|") if column.kind == "categories" else [text]) - {""} for text in texts]
    vocabulary = sorted(set().union(*(sets[row] for row in np.flatnonzero(trained))))
    place = {label: index for index, label in enumerate(vocabulary)}
    missing = len(vocabulary)
    rows = [sorted(place[label] for label in labels if label in place) or [missing] for labels in sets]

    ends = np.cumsum([0, *(len(row) for row in rows)])
    indices = np.array([index for row in rows for index in row], dtype=np.int32)
    data = np.ones(len(indices), dtype=np.float32)
    return sparse.csr_matrix((data, indices, ends), shape=(len(rows), missing + 1)), [*vocabulary, "missing"]
