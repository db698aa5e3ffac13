"""A kernel's result against a float64 product, before anything is timed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from csbviz.errors import OptionError
from csbviz.formats.dtypes import as_numpy, bits_of, values_from_bits
from csbviz.ops.registry import is_transposed

__all__ = ["ERROR_BOUNDS", "Reference", "make_reference", "relative_error", "to_float", "unwritten"]

ERROR_BOUNDS = {"fp64": 1e-13, "fp32": 2e-6, "tf32": 2e-3, "fp16": 2e-3, "bf16": 1e-2}
"""Largest ‖out - ref‖/‖ref‖ of each precision class that is called correct.

fp32 is what float32 sums of the lengths met in practice reach with some room; the classes with short
mantissas are bounded by the rounding of their operands (2^-11 for TF32 and fp16, 2^-8 for bf16).
"""


@dataclass(frozen=True)
class Reference:
    """Operand and float64 result of one case.

    Attributes
    ----------
    B : numpy.ndarray
        Seeded standard normals of the matrix's dtype; bfloat16, which NumPy lacks, as its bits (uint16).
    C : numpy.ndarray of float64
        The product of the stored values and B, both taken as float64.
    """

    B: np.ndarray
    C: np.ndarray


def make_reference(csr, op: str, n: int, dtype: str, seed: int = 0) -> Reference:
    """Random B and the float64 product.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        M x K.
    op : str
        One of `csbviz.ops.OPS`.
    n : int
        Columns of B, at least 1.
    dtype : str
        Type of the values that B is rounded to; `csr` holds values that are rounded already.
    seed : int
        Seed of B.

    Raises
    ------
    OptionError
        If n is below 1.
    """
    if n < 1:
        raise OptionError(f"N must be at least 1; {n} was asked for.")
    matrix = csr.T if is_transposed(op) else csr
    B = np.random.default_rng(seed).standard_normal((matrix.shape[1], n), dtype=np.float32)
    if dtype == "bfloat16":
        import torch

        B = bits_of(torch.from_numpy(B).to(torch.bfloat16))
    else:
        B = B.astype(dtype, copy=False)
    return Reference(B, matrix.astype(np.float64) @ to_float(B, dtype).astype(np.float64))


def to_float(array: np.ndarray, dtype: str) -> np.ndarray:
    """Values of an operand or result as numbers that NumPy computes with; bfloat16 comes as its bits."""
    return as_numpy(values_from_bits(array, dtype)) if dtype == "bfloat16" else array


def unwritten(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An output full of NaN, so that an element that a kernel leaves unwritten cannot pass."""
    if dtype == "bfloat16":
        return np.full(shape, 0x7FC0, np.uint16)
    return np.full(shape, np.nan, dtype)


def relative_error(out: np.ndarray, reference: np.ndarray) -> float:
    """‖out - ref‖/‖ref‖ (Frobenius); infinite where `out` is not finite or the shape is wrong.

    For a reference of zero norm the error is the norm of `out`.
    """
    if out.shape != reference.shape or not np.isfinite(out).all():
        return float("inf")
    scale = float(np.linalg.norm(reference))
    error = float(np.linalg.norm(out.astype(np.float64) - reference))
    return error / scale if scale else error
