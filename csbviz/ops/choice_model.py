"""What a variant of a CSB kernel should cost on a GPU: small models with constants fitted to measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["rank"]


def rank(A: CSBMatrix, op: str, n: int, names: list[str]) -> tuple[str, dict[str, Any], float] | None:
    """The variant of the least predicted time: kernel, parameters, microseconds.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    names : list of str
        Kernels that take the product.

    Returns
    -------
    tuple or None
        None where no model knows any of them.
    """
    return None
