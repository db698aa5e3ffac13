"""Prune whatever is opened: a model, or a single matrix as a model of one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csbviz.models.opened import Opened, of_matrix, of_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from scipy.sparse import csr_matrix

__all__ = ["prune_matrix", "prune_opened", "values_before_and_after"]


def prune_opened(
    opened: Opened,
    method: str,
    scope: str = "global",
    sparsity: float = 0.9,
    locked: Sequence[str] = (),
    seed: int = 0,
) -> Opened:
    """Prune all layers but the locked ones.

    Parameters
    ----------
    opened : Opened
        As loaded; it is not changed.
    method, scope, sparsity, seed
        As in `prune_model`.
    locked : sequence of str
        Layers that keep all their weights.

    Returns
    -------
    Opened
        With the title of the unpruned one. `opened` itself when every layer is locked.
    """
    from csbviz.pruning import prune_model

    free = [layer.name for layer in opened.layers if layer.name not in set(locked)]
    if not free:
        return opened
    if opened.matrix is not None:
        pruned = prune_matrix(opened.matrix, method, sparsity, seed)
        return of_matrix(pruned, opened.title, opened.digest)
    model = prune_model(opened.model, method, scope, sparsity, layers=free, seed=seed).model
    return of_model(model, opened.title)


def prune_matrix(matrix: csr_matrix, method: str, sparsity: float, seed: int = 0) -> csr_matrix:
    """Drop entries of a sparse matrix until `sparsity` of all its positions are zero.

    Parameters
    ----------
    matrix : csr_matrix
        M x K.
    method, seed
        As in `prune_array`.
    sparsity : float
        Share of the M * K positions, 0 to 1. A matrix that is sparser already stays as it is.
    """
    from csbviz.pruning import prune_array

    rows, cols = matrix.shape
    keep = rows * cols - round(sparsity * rows * cols)
    if keep >= matrix.nnz:
        return matrix
    values, _ = prune_array(matrix.data, method, 1.0 - keep / matrix.nnz, seed)
    pruned = matrix.copy()
    pruned.data = values.copy()
    pruned.eliminate_zeros()
    return pruned


def values_before_and_after(loaded: Opened, pruned: Opened, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a layer before and after, position by position; of a matrix its stored entries.

    Returns
    -------
    before, after : numpy.ndarray
        Flat and of one length; a pruned weight is 0 in `after`.
    """
    before = loaded.values(layer)
    if loaded.matrix is None:
        return before, pruned.values(layer)
    after = before.copy()
    after[~_stored_in(loaded.matrix, pruned.matrix)] = 0
    return before, after


def _stored_in(matrix: csr_matrix, part: csr_matrix) -> np.ndarray:
    """For each stored entry of `matrix`, whether `part`, whose entries are some of them, stores it too."""
    import numpy as np

    return np.isin(_positions(matrix), _positions(part), assume_unique=True)


def _positions(matrix: csr_matrix) -> np.ndarray:
    import numpy as np

    rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return rows * matrix.shape[1] + matrix.indices
