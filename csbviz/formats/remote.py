"""Matrices that already lie on a GPU: who converts them there, and how their arrays come to the host.

Nothing here imports CuPy: `csbviz.ops` hands its conversion over, as it does with the product.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import MatrixError
from . import dtypes
from .order import check_order

__all__ = ["RemoteArrays", "convert", "fetch", "is_remote", "set_conversion_hook"]

_conversion_hook = None

_SWAPPED = {"values": "values", "_row_ind": "_col_ind", "_col_ind": "_row_ind", "blk_ptr": "blk_ptr"}
"""The arrays, and which of them a transposed view sees in their place."""


class RemoteArrays(Protocol):
    """The arrays of a CSB matrix where they lie; `CSBMatrix` fetches each when it is first asked for.

    Attributes
    ----------
    nnz : int
        Number of entries.
    dtype : str
        Type of the values.
    """

    nnz: int
    dtype: str

    def fetch(self, name: str):
        """Return "values", "row_ind", "col_ind" or "blk_ptr" as an array of the host."""


def set_conversion_hook(function) -> None:
    """Say which function converts to row order on a GPU; importing the package does.

    ``function(thing, block_shape)`` gets a matrix for which `is_remote` is true. It returns the arrays
    (`RemoteArrays`), shape, block shape and cache of the CSB matrix, or None where the host has to convert.
    """
    global _conversion_hook
    _conversion_hook = function


def is_remote(thing) -> bool:
    """Whether a matrix lies on a GPU: CuPy's, dense or sparse, or a PyTorch tensor on CUDA."""
    if dtypes.is_torch(thing):
        return thing.device.type == "cuda"
    return type(thing).__module__.partition(".")[0] in ("cupy", "cupyx")


def convert(cls, thing, block_shape, order: str, index: str):
    """Return the CSB matrix of one that lies on a GPU.

    It is converted there in row order; other orders, packed indices and rows that are not sorted are
    converted on the host.

    Parameters
    ----------
    cls : type
        `CSBMatrix`.
    thing : cupy.ndarray, CuPy sparse matrix, or torch.Tensor on CUDA
    block_shape, order, index
        See `CSBMatrix.from_scipy`.
    """
    converted = None
    if _conversion_hook is not None and check_order(order) == "row" and index in ("auto", "split"):
        converted = _conversion_hook(thing, block_shape)
    if converted is None:
        return _on_host(cls, thing, block_shape, order, index)
    A = object.__new__(cls)
    A._remote, A.shape, A.block_shape, A.cache = converted
    A.order, A.transposed, A.packed_ind, A._base = order, False, None, None
    return A


def _on_host(cls, thing, *options):
    if dtypes.is_torch(thing):
        return cls.from_torch(thing.detach().cpu(), *options)
    if not hasattr(thing, "get"):
        raise MatrixError(f"Found a {type(thing).__name__} of CuPy; needed is an array or a sparse matrix.")
    host = thing.get()
    return cls.from_scipy(host, *options) if hasattr(host, "tocsr") else cls.from_dense(host, *options)


def fetch(A, name: str):
    """Return an array of a matrix that lies on a GPU, brought to the host and kept there.

    Raises
    ------
    AttributeError
        For everything else.
    """
    where = A.__dict__.get("_remote")
    if where is None or name not in _SWAPPED:
        raise AttributeError(f"{type(A).__name__!r} object has no attribute {name!r}")
    array = where.fetch(name.lstrip("_")) if A._base is None else getattr(A._base, _SWAPPED[name])
    setattr(A, name, array)
    return array
