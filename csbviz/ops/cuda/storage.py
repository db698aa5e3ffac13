"""The stored arrays of a matrix in a GPU's memory: uploaded once, or a PyTorch tensor's own memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from csbviz.formats import dtypes

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["block_strides", "device_arrays", "padded_copy", "padded_empty"]


def device_arrays(A: CSBMatrix, device: int) -> dict:
    """The stored arrays on the current GPU, kept with the matrix: one copy serves every kernel, both ways.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix. Values that are a tensor on this GPU are not copied: the kernels read the tensor's
        memory, so a change of it is seen by the next product.
    device : int
        Number of the current GPU.

    Returns
    -------
    dict
        CuPy arrays "values", "row_ind", "col_ind" and "blk_ptr".
    """

    key = ("csb_cuda", device)
    if key not in A.cache:
        arrays = {name: padded_copy(getattr(A, name)) for name in ("row_ind", "col_ind", "blk_ptr")}
        A.cache[key] = {"values": _values(A, device), **arrays}
    return A.cache[key]


def _values(A: CSBMatrix, device: int):
    """The values as a CuPy array; bfloat16, which CuPy lacks, as its bits (uint16)."""
    import cupy

    values = A.values
    if not getattr(values, "is_cuda", False) or values.device.index != device:
        values = dtypes.bits_of(values) if A.dtype == "bfloat16" else dtypes.as_numpy(values)
        return padded_copy(values)
    values = values.detach()
    if A.dtype == "bfloat16":
        import torch

        return cupy.from_dlpack(values.view(torch.int16)).view(np.uint16)
    return cupy.from_dlpack(values)


def block_strides(view: CSBMatrix) -> tuple[int, int]:
    """From unit to unit of a product, and from block to block of a unit, in numbers of stored blocks."""
    units, blocks = view.grid
    return (1, units) if view.transposed else (blocks, 1)


def padded_empty(count: int, dtype):
    """Device memory for so many elements, and beyond them to the next multiple of four elements.

    A kernel may read four neighbouring entries at once when the first of them exists.
    """
    import cupy

    return cupy.empty(-(-count // 4) * 4, dtype)[:count]


def padded_copy(array: np.ndarray):
    """A one-dimensional array on the current GPU, with zeros to the next multiple of four elements."""
    import cupy

    whole = np.zeros(-(-array.size // 4) * 4, array.dtype)
    whole[: array.size] = array
    return cupy.asarray(whole)[: array.size]
