"""Prune whatever is opened: a model, or a single matrix as a model of one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from csbviz.models.opened import Opened, of_matrix, of_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from scipy.sparse import csr_matrix

    from csbviz.pruning.evidence import Evidence

__all__ = ["prune_matrix", "prune_opened", "values_before_and_after"]

_MOST_DENSE = 1 << 27  # positions, 512 MB in float32


def prune_opened(
    opened: Opened,
    method: str,
    scope: str = "global",
    sparsity: float = 0.9,
    locked: Sequence[str] = (),
    seed: int = 0,
    granularity: str | Mapping[str, Any] = "weight",
    options: Mapping[str, Any] | None = None,
    evidence: Evidence | None = None,
) -> Opened:
    """Prune all layers but the locked ones.

    Parameters
    ----------
    opened : Opened
        As loaded; it is not changed.
    method, scope, sparsity, seed, granularity, options, evidence
        As in `prune_model`.
    locked : sequence of str
        Layers that keep all their weights.

    Returns
    -------
    Opened
        With the title of the unpruned one. `opened` itself when every layer is locked.

    Raises
    ------
    CSBVizError
        As `prune_model` does.
    """
    from csbviz.pruning import prune_model

    free = [layer.name for layer in opened.layers if layer.name not in set(locked)]
    if not free:
        return opened
    if opened.matrix is not None:
        pruned = prune_matrix(opened.matrix, method, sparsity, seed, granularity, options)
        return of_matrix(pruned, opened.title, opened.digest)
    model = prune_model(
        opened.model, method, scope, sparsity, free, seed, granularity, options, evidence
    ).model
    return of_model(model, opened.title)


def prune_matrix(
    matrix: csr_matrix,
    method: str,
    sparsity: float,
    seed: int = 0,
    granularity: str | Mapping[str, Any] = "weight",
    options: Mapping[str, Any] | None = None,
) -> csr_matrix:
    """Drop entries of a sparse matrix until `sparsity` of all its positions, or units, are zero.

    Parameters
    ----------
    matrix : csr_matrix
        M x K.
    method, seed, granularity, options
        As in `prune_array`.
    sparsity : float
        Share of the M * K positions, 0 to 1. A matrix that is sparser already stays as it is.

    Raises
    ------
    OptionError
        As `prune_array` does; also when units of several weights are asked for in a matrix that is too large
        to be written out with its zeros.
    """
    from csbviz.pruning import prune_array

    if granularity != "weight":
        return _without_units(matrix, method, sparsity, seed, granularity, options)
    rows, cols = matrix.shape
    keep = rows * cols - round(sparsity * rows * cols)
    if keep >= matrix.nnz:
        return matrix
    values, _ = prune_array(matrix.data, method, 1.0 - keep / matrix.nnz, seed)
    pruned = matrix.copy()
    pruned.data = values.copy()
    pruned.eliminate_zeros()
    return pruned


def _without_units(matrix, method, sparsity, seed, granularity, options) -> csr_matrix:
    """Drop whole units: their scores are means over all positions, zeros included."""
    from csbviz.errors import OptionError
    from csbviz.pruning import prune_array

    rows, cols = matrix.shape
    if rows * cols > _MOST_DENSE:
        raise OptionError(
            f"a matrix of {rows:,} x {cols:,} is too large to prune units of several weights in it: at most "
            f"{_MOST_DENSE:,} positions are possible; prune single weights instead."
        )
    _, mask = prune_array(matrix.toarray(), method, sparsity, seed, granularity, options)
    pruned = matrix.tocsr(copy=True)
    pruned.data[~mask.reshape(-1)[_positions(pruned)]] = 0
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
