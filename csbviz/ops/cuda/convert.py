"""CSR and dense matrices on a GPU to CSB, there: the kernels of kernels/cuda/csb_convert.cu."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from csbviz.formats import dtypes
from csbviz.formats.checks import MAX_BLOCKS, blk_ptr_dtype, grid_of, index_dtype
from csbviz.formats.index_forms import resolve_block_shape
from csbviz.ops.cuda.module import Function, current_device, get_kernel, missing_reason

__all__ = ["DeviceArrays", "convert", "csr_to_csb", "dense_to_csb", "instantiations"]

_SOURCE = "csb_convert.cu"
_BITS = {2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}
"""C++ types that values of so many bytes are moved as."""

_WARPS = (32, 16, 8, 4, 2, 1)
"""Warps of a CTA that converts a block row, most first: each needs a counter for every block."""


def instantiations() -> tuple[Function, ...]:
    """Every instantiation of csb_convert.cu that this module can ask for."""
    bits, indices, pointers = _BITS.values(), ("uint8", "uint16"), ("int32", "int64")
    return (
        *(Function(_SOURCE, "csb_from_csr", a) for a in product(bits, pointers, indices, indices, pointers)),
        *(Function(_SOURCE, "csb_count_dense", (b,)) for b in bits),
        *(Function(_SOURCE, "csb_from_dense", a) for a in product(bits, indices, indices, pointers)),
    )


class DeviceArrays(NamedTuple):
    """The arrays of a CSB matrix on a GPU, and how they come to the host (`csbviz.formats.remote`).

    Attributes
    ----------
    values, row_ind, col_ind, blk_ptr : cupy.ndarray
        As `CSBMatrix` has them; bfloat16 values as their bits (uint16).
    dtype : str
        Type of the values.
    device : int
        Number of the GPU.
    """

    values: object
    row_ind: object
    col_ind: object
    blk_ptr: object
    dtype: str
    device: int

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return self.values.size

    def fetch(self, name: str):
        """Return one of the arrays on the host."""
        import cupy

        with cupy.cuda.Device(self.device):
            array = getattr(self, name).get()
        return dtypes.values_from_bits(array, self.dtype) if name == "values" else array

    def cache(self) -> dict:
        """A cache for the matrix in which the kernels find the arrays."""
        names = ("values", "row_ind", "col_ind", "blk_ptr")
        return {("csb_cuda", self.device): {name: getattr(self, name) for name in names}}


def convert(thing, block_shape):
    """Convert a matrix where it lies: what `csbviz.formats.remote.set_conversion_hook` is given.

    Parameters
    ----------
    thing : cupy.ndarray, cupyx.scipy.sparse.csr_matrix, or torch.Tensor on CUDA (strided or sparse CSR)
        M x K, float16, bfloat16, float32 or float64.
    block_shape : (int, int), int or None
        None chooses blocks for the GPU.

    Returns
    -------
    tuple or None
        `DeviceArrays`, shape, block shape and cache; None where the host has to convert: other formats and
        types, rows that are not sorted or hold a column twice, columns or pointers out of range.
    """
    if missing_reason((7, 5)) is not None:
        return None
    import cupy

    from csbviz.ops.operands import current_stream_of

    parts = _torch_parts(thing) if dtypes.is_torch(thing) else _cupy_parts(thing)
    if parts is None:
        return None
    held = thing.data if getattr(thing, "format", "") == "csr" else thing  # CuPy's, which names its device
    with current_stream_of(held):
        arrays, shape, dtype = parts()
        if len(arrays) == 1:
            found = dense_to_csb(arrays[0], block_shape, dtype)
        else:
            found = csr_to_csb(*arrays, shape, block_shape, dtype)
        if found is None:
            return None
        arrays, block_shape = found
        cupy.cuda.get_current_stream().synchronize()  # a later product may come on another stream
    return arrays, shape, block_shape, arrays.cache()


def _torch_parts(tensor):
    """A function that gives the CuPy arrays, shape and dtype of a tensor, or None for another layout."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.ndim != 2 or dtype not in dtypes.VALUE_BYTES:
        return None
    shape = tuple(tensor.shape)
    if tensor.layout == torch.sparse_csr and tensor.values().ndim == 1:
        held = tensor.crow_indices(), tensor.col_indices(), tensor.values()
    elif tensor.layout == torch.strided:
        held = (tensor,)
    else:
        return None

    def parts():
        return [_from_torch(t) for t in held], shape, dtype

    return parts


def _from_torch(tensor):
    import cupy
    import torch

    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return cupy.from_dlpack(tensor.view(torch.int16)).view(np.uint16)
    return cupy.from_dlpack(tensor)


def _cupy_parts(thing):
    import cupy

    dtype = str(getattr(thing, "dtype", ""))
    if dtype not in dtypes.VALUE_BYTES or getattr(thing, "ndim", 0) != 2:
        return None
    if isinstance(thing, cupy.ndarray):
        return lambda: ([cupy.ascontiguousarray(thing)], thing.shape, dtype)
    if getattr(thing, "format", "") == "csr":
        return lambda: ([thing.indptr, thing.indices, thing.data], thing.shape, dtype)
    return None


def csr_to_csb(indptr, indices, data, shape: tuple[int, int], block_shape, dtype: str):
    """Convert CSR arrays on the current GPU, in one launch and without a sort.

    Parameters
    ----------
    indptr, indices : cupy.ndarray
        int32 or int64, both alike.
    data : cupy.ndarray
        The values; bfloat16 as its bits.
    shape : (int, int)
        Rows and columns of the matrix.
    block_shape : (int, int), int or None
        None chooses blocks for the GPU.
    dtype : str
        Type of the values.

    Returns
    -------
    (DeviceArrays, block shape) or None
        None where a column does not rise in its row or something is out of range.
    """
    import cupy

    device, nnz = current_device(), int(data.size)
    rows, columns = shape
    block_shape = resolve_block_shape(block_shape, shape, nnz, "cuda")
    units, block_columns = grid_of(shape, block_shape)
    warps = [w for w in _WARPS if 4 * w * block_columns <= device.shared_bytes - 1024]
    types = {str(indptr.dtype), str(indices.dtype)}
    if len(types) > 1 or not types <= {"int32", "int64"} or indptr.size != rows + 1 or indices.size != nnz:
        return None
    if not warps or units * block_columns > MAX_BLOCKS or rows >= 2**31:
        return None
    found = _empty(nnz, units * block_columns, block_shape, data.dtype, dtype, device.id)
    if units == 0 or block_columns == 0:
        found.blk_ptr.fill(0)
        return (found, block_shape) if nnz == 0 else None
    bits, index = _BITS[data.dtype.itemsize], types.pop()
    arguments = (bits, index, str(found.row_ind.dtype), str(found.col_ind.dtype), str(found.blk_ptr.dtype))
    kernel = get_kernel(Function(_SOURCE, "csb_from_csr", arguments))
    fault = cupy.zeros(1, np.int32)
    shifts = (side.bit_length() - 1 for side in block_shape)
    sizes = np.int64(nnz), np.int32(rows), np.int64(columns), *map(np.int32, shifts), np.int32(block_columns)
    kernel(
        (units,),
        (32 * warps[0],),
        (indptr, indices, data, *sizes, found.values, found.row_ind, found.col_ind, found.blk_ptr, fault),
        4 * warps[0] * block_columns,
    )
    return None if int(fault[0]) else (found, block_shape)


def dense_to_csb(matrix, block_shape, dtype: str):
    """Convert a row-major matrix on the current GPU; every value other than zero becomes an entry.

    Parameters
    ----------
    matrix : cupy.ndarray
        M x K, C-contiguous; bfloat16 as its bits.
    block_shape : (int, int), int or None
        None chooses blocks for the GPU.
    dtype : str
        Type of the values.

    Returns
    -------
    (DeviceArrays, block shape) or None
        None where there are too many blocks.
    """
    import cupy

    device, shape = current_device(), matrix.shape
    nnz = int(cupy.count_nonzero(matrix.view(f"u{matrix.itemsize}") << 1)) if block_shape is None else 0
    block_shape = resolve_block_shape(block_shape, shape, nnz, "cuda")
    units, block_columns = grid_of(shape, block_shape)
    blocks = units * block_columns
    if blocks > MAX_BLOCKS or max(shape) >= 2**31:
        return None
    kind = _BITS[matrix.itemsize]
    shifts = [np.int32(side.bit_length() - 1) for side in block_shape]
    sizes = np.int64(shape[1]), *map(np.int32, shape), *shifts, np.int32(block_columns)
    pointer = cupy.zeros(blocks + 1, np.int64)
    if blocks:
        count = get_kernel(Function(_SOURCE, "csb_count_dense", (kind,)))
        count((blocks,), (256,), (matrix, *sizes, pointer[1:]))
        cupy.cumsum(pointer, out=pointer)
    found = _empty(int(pointer[-1]), blocks, block_shape, matrix.dtype, dtype, device.id)
    found.blk_ptr[...] = pointer
    if found.nnz:
        indices = str(found.row_ind.dtype), str(found.col_ind.dtype)
        move = get_kernel(Function(_SOURCE, "csb_from_dense", (kind, *indices, str(found.blk_ptr.dtype))))
        arrays = found.blk_ptr, found.values, found.row_ind, found.col_ind
        move((blocks,), (256,), (matrix, *sizes, *arrays))
    return found, block_shape


def _empty(nnz: int, blocks: int, block_shape, held, dtype: str, device: int) -> DeviceArrays:
    from csbviz.ops.cuda.storage import padded_empty

    row_ind, col_ind = (padded_empty(nnz, index_dtype(side)) for side in block_shape)
    values, blk_ptr = padded_empty(nnz, held), padded_empty(blocks + 1, blk_ptr_dtype(nnz))
    return DeviceArrays(values, row_ind, col_ind, blk_ptr, dtype, device)
