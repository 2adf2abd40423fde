"""Which metadata an adapter uses, and in which form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from algorithms.types import TrainSet
from datasets.errors import NotApplicableError
from datasets.types import Features, FloatArray

_BINS = 10


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


def indicators(features: Features | None, numbers: bool, trained: npt.NDArray[np.bool_]) -> sparse.csr_matrix | None:
    """(n, d) CSR of 0 and 1, for models that embed what an entity has; None where there is no metadata of that kind.

    Categories stay as they are. A number becomes the label of one of ten bins of equal counts, so that an outlier is
    just a member of the last bin; the bins come from the ``trained`` (n,) entities, which know it.
    """
    if features is None:
        return None
    blocks = [_category_columns(features)]
    if numbers:
        blocks += [_binned(features, column, trained) for column in _number_names(features)]
    matrix = sparse.hstack(blocks, format="csr", dtype=np.float32)
    return matrix if matrix.shape[1] else None


def unit_rows(features: FloatArray | sparse.csr_matrix) -> npt.NDArray[np.float64]:
    """(n, d) dense float64 rows of length 1, zero rows as they are."""
    dense = np.asarray(features if isinstance(features, np.ndarray) else features.toarray(), dtype=np.float64)
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = dense / np.where(lengths > 0, lengths, 1)
    return unit


def _category_columns(features: Features) -> sparse.csr_matrix:
    """Without numbers: those have columns "year" and "year=missing", categories "genres=Drama"."""
    numbers = set(_number_names(features))
    kept = [j for j, name in enumerate(features.names) if name.partition("=")[0] not in numbers]
    return features.matrix[:, np.array(kept, dtype=np.intp)]


def _number_names(features: Features) -> list[str]:
    return [name for name in features.names if "=" not in name]


def _binned(features: Features, name: str, trained: npt.NDArray[np.bool_]) -> sparse.csr_matrix:
    """(n, b + 1): one of b bins, or missing."""
    values, missing = (
        features.matrix[:, features.names.index(each)].toarray().ravel() for each in (name, f"{name}=missing")
    )
    known = missing == 0
    fitted = values[known & trained]
    inner = np.unique(np.quantile(fitted, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(fitted) else np.empty(0)
    places = np.where(known, np.searchsorted(inner, values, side="right"), len(inner) + 1)
    shape = (len(values), len(inner) + 2)
    return sparse.csr_matrix((np.ones(len(values), np.float32), (np.arange(len(values)), places)), shape=shape)
