"""The structure of a layer's weights: all of a CSB matrix but the values, also as tensors for state dicts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from csbviz.errors import FileFormatError, InputError
from csbviz.formats import CSBMatrix

__all__ = ["TENSORS", "Structure", "structure_from_tensors"]

_ORDERS = ("row", "col", "morton")
_VERSION = 1
_HEADER = "layout"
_ARRAYS = ("row_ind", "col_ind", "packed_ind", "blk_ptr")

TENSORS = (_HEADER, *_ARRAYS)
"""Names of the tensors that a structure may have in a state dict."""


class Structure(NamedTuple):
    """The index arrays of a stored matrix and what they mean; none of it ever changes.

    Attributes
    ----------
    row_ind, col_ind, packed_ind, blk_ptr : numpy.ndarray or None
        As in `CSBMatrix`.
    shape, block_shape : (int, int)
        Of the stored matrix.
    order : str
    transposed : bool
        Whether the layer's weights are the transpose of the stored matrix.
    """

    row_ind: np.ndarray | None
    col_ind: np.ndarray | None
    packed_ind: np.ndarray | None
    blk_ptr: np.ndarray
    shape: tuple[int, int]
    block_shape: tuple[int, int]
    order: str
    transposed: bool

    @classmethod
    def of(cls, matrix: CSBMatrix) -> Structure:
        """The structure of a matrix or transposed view; the arrays are shared."""
        stored = matrix.stored
        packed = stored.packed_ind is not None
        index = (None, None) if packed else (stored.row_ind, stored.col_ind)
        arrays = *index, stored.packed_ind, stored.blk_ptr
        return cls(*arrays, stored.shape, stored.block_shape, stored.order, matrix.transposed)

    @property
    def nnz(self) -> int:
        """Number of entries."""
        return int(self.blk_ptr[-1])

    def matrix(self, values: torch.Tensor) -> CSBMatrix:
        """The matrix whose values are the tensor's memory; they may change while it requires a gradient."""
        held = values.detach()
        if held.device.type == "cpu" and held.dtype != torch.bfloat16:
            held = held.numpy()
        index = self.row_ind, self.col_ind, self.blk_ptr
        A = CSBMatrix(held, *index, self.shape, self.block_shape, self.order, packed_ind=self.packed_ind)
        # If they change, kernels must not keep anything that they computed from them.
        A.cache["values_change"] = values.requires_grad
        A.cache["csb_cpu_checked"] = True  # the structure was checked when the layer was made
        return A.T if self.transposed else A

    def tensors(self) -> dict[str, torch.Tensor]:
        """The structure as tensors on the CPU, by name; the index arrays are shared."""
        numbers = *self.shape, *self.block_shape, _ORDERS.index(self.order), int(self.transposed)
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        header = {_HEADER: torch.tensor([_VERSION, *numbers])}
        return header | {n: torch.from_numpy(_writable(a)) for n, a in arrays.items() if a is not None}

    def same_as(self, other: Structure) -> bool:
        """Whether both describe the same positions in the same order."""
        mine, theirs = self.tensors(), other.tensors()
        return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def _writable(array: np.ndarray) -> np.ndarray:
    """The array, or a copy of one that NumPy protects and that PyTorch could not."""
    return array if array.flags.writeable else array.copy()


def structure_from_tensors(tensors: dict[str, torch.Tensor]) -> Structure:
    """The structure back from `Structure.tensors`, checked in full: kernels trust every index.

    Parameters
    ----------
    tensors : dict of torch.Tensor
        By name, on any device; names that a structure does not have are left out.

    Raises
    ------
    FileFormatError
        If the tensors are not those of a structure, or another version's.
    MatrixError, OptionError
        If they contradict each other.
    """
    header = tensors.get(_HEADER)
    if header is None or header.dtype != torch.int64 or header.shape != (7,) or "blk_ptr" not in tensors:
        raise FileFormatError(
            f"A CSBLinear's structure needs the tensors {_HEADER} (7 int64 numbers) and blk_ptr."
        )
    version, rows, columns, block_rows, block_columns, order, transposed = header.tolist()
    if version != _VERSION or not 0 <= order < len(_ORDERS) or transposed not in (0, 1):
        raise FileFormatError(
            f"The structure's layout is {header.tolist()}; version {_VERSION} of it is understood."
        )
    arrays = {name: tensors[name].cpu().numpy() for name in _ARRAYS if name in tensors}
    nnz = int(arrays["blk_ptr"][-1]) if arrays["blk_ptr"].size else 0
    if not arrays.keys() >= {"packed_ind"} and not arrays.keys() >= {"row_ind", "col_ind"}:
        raise FileFormatError("A CSBLinear's structure needs row_ind and col_ind, or packed_ind.")
    packed = arrays.get("packed_ind")
    index = (None, None) if packed is not None else (arrays["row_ind"], arrays["col_ind"])
    values = np.broadcast_to(np.float32(0), max(0, nnz))  # only their number counts here
    shapes = (rows, columns), (block_rows, block_columns)
    try:
        A = CSBMatrix(values, *index, arrays["blk_ptr"], *shapes, _ORDERS[order], packed_ind=packed)
        A.check_format()
    except InputError as error:
        raise type(error)(f"The structure of a CSBLinear is not sound: {error}") from None
    return Structure.of(A.T if transposed else A)
