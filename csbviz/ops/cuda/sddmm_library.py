"""cuSPARSE's sampled dense-dense product with CSR: what the CSB one is compared with on a GPU."""

from __future__ import annotations

from ctypes import byref

import numpy as np

from csbviz.ops.cuda.libraries import (
    DATA_TYPES,
    CusparseRoutine,
    csr_descriptor,
    row_major_descriptor,
    scalar,
)

__all__ = ["LibrarySampledProduct"]

_NON_TRANSPOSE, _TRANSPOSE = 0, 1
_DEFAULT_ALGORITHM = 0


class LibrarySampledProduct(CusparseRoutine):
    """``out[e] = Σ_c U[row(e), c] · V[col(e), c]`` by cusparseSDDMM, in the order of the CSR entries.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        M x K, float32 or float64; its values are not read. Fewer than 2³¹ entries.
    n : int
        Columns of U and V.
    """

    def __init__(self, csr, n: int):
        import cupy

        super().__init__()
        dtype = csr.dtype.name
        # Descriptors need pointers from the start; each call sets its own.
        out = cupy.empty(max(1, csr.nnz), dtype)[: csr.nnz]
        self._structure = tuple(cupy.asarray(array.astype(np.int32)) for array in (csr.indptr, csr.indices))
        self._C = csr_descriptor(*self._structure, out, csr.shape)
        rows, columns = csr.shape
        U, V = cupy.empty((rows, n), dtype), cupy.empty((columns, n), dtype)
        self._U, self._V = map(row_major_descriptor, (U, V))
        self._factors = scalar(dtype, 1.0), scalar(dtype, 0.0)
        one, zero = map(byref, self._factors)
        left = (_NON_TRANSPOSE, _TRANSPOSE, one, self._U.value, self._V.value)
        self._arguments = (*left, zero, self._C.value, DATA_TYPES[dtype], _DEFAULT_ALGORITHM)
        self._working_memory = self._make_ready("cusparseSDDMM", *self._arguments)

    def __call__(self, U, V, out):
        """Run on the current stream; U (M x n), V (K x n) and out (nnz) are C-contiguous CuPy arrays."""
        self._point_at("cusparseDnMatSetValues", (self._U, U), (self._V, V))
        self._point_at("cusparseSpMatSetValues", (self._C, out))
        self._run("cusparseSDDMM", *self._arguments, self._working_memory)
        return out
