"""From a matrix to the arrays that csb_rows_direct reads: jobs and codes. Pure NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["DirectPlan", "build_direct_plan", "code_bits"]


class DirectPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmm_rows.cu; that file says what they mean.

    Attributes
    ----------
    codes : uint16[nnz] or uint32[nnz]
        Row by row, where each entry lies: block of the unit above its place among the block's entries.
    jobs : uint32[rows + 1, 2]
        Where the row's entries begin in `codes`, and which row of C it is; long rows first.
    offset_bits : int
        Bits of the place.
    """

    codes: np.ndarray
    jobs: np.ndarray
    offset_bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.codes.nbytes + self.jobs.nbytes


def code_bits(A: CSBMatrix, transpose: bool) -> tuple[int, int]:
    """Bits of a code for the block of the unit, and for the place among the block's entries."""
    blocks = (A.T if transpose else A).grid[1]
    fullest = int(np.diff(A.blk_ptr).max(initial=1))
    return max(blocks - 1, 0).bit_length(), (fullest - 1).bit_length()


def build_direct_plan(A: CSBMatrix, transpose: bool) -> DirectPlan:
    """Arrays for a product.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix; fewer than 2³² entries, and codes of at most 32 bits.
    transpose : bool
        Whether the product is with its transpose.
    """
    view = A.T if transpose else A
    out, inner = view.coordinates()
    lengths = np.bincount(out, minlength=view.shape[0])
    by_length = np.argsort(-lengths, kind="stable")
    rank = np.empty_like(by_length)
    rank[by_length] = np.arange(by_length.size)
    order = np.lexsort((inner, rank[out]))

    sizes = np.diff(A.blk_ptr)
    place = np.arange(A.nnz) - np.repeat(A.blk_ptr[:-1], sizes)
    block_bits, offset_bits = code_bits(A, transpose)
    codes = (inner // view.block_shape[1] << offset_bits | place)[order]
    jobs = np.zeros((lengths.size + 1, 2), np.uint32)
    jobs[1:, 0] = np.cumsum(lengths[by_length])
    jobs[:-1, 1] = by_length
    narrow = block_bits + offset_bits <= 16
    return DirectPlan(codes.astype(np.uint16 if narrow else np.uint32), jobs, offset_bits)
