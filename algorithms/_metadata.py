"""Which metadata an adapter uses, and metadata as unit vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms.types import TrainSet
from datasets.errors import NotApplicableError
from datasets.types import Features, FloatArray


def item_metadata(train: TrainSet, numbers: bool, algorithm: str) -> sparse.csr_matrix:
    """(n_items, d) float32 CSR of item features, with or without the columns that come from numbers.

    Raises:
        NotApplicableError: when the data set has no item metadata of that kind.
    """
    features = train.item_features
    matrix = None if features is None else (features.matrix if numbers else _category_columns(features))
    if matrix is None or matrix.shape[1] == 0:
        raise NotApplicableError(
            f"{algorithm} needs item metadata, such as genres, and this data set has none: leave it out"
        )
    return matrix


def unit_rows(features: FloatArray | sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """(n, d) dense float64 rows of length 1, zero rows as they are."""
    dense = np.asarray(features if isinstance(features, np.ndarray) else features.toarray(), dtype=np.float64)
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = dense / np.where(lengths > 0, lengths, 1)
    return unit


def _category_columns(features: Features) -> sparse.csr_matrix:
    """Without numbers: those have columns "year" and "year=missing", categories "genres=Drama"."""
    numbers = {name for name in features.names if "=" not in name}
    kept = [j for j, name in enumerate(features.names) if name.partition("=")[0] not in numbers]
    return features.matrix[:, np.array(kept, dtype=np.intp)]
