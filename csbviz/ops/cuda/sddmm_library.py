"""cuSPARSE's sampled dense-dense product with CSR: what the CSB one is compared with on a GPU."""

from __future__ import annotations

from ctypes import byref, c_int64, c_size_t, c_void_p

import numpy as np

from csbviz.ops.cuda.libraries import DATA_TYPES, Descriptor, check, handle, load_library, scalar

__all__ = ["LibrarySampledProduct"]

_INDEX_32, _BASE_ZERO, _ROW_MAJOR = 2, 0, 2
_NON_TRANSPOSE, _TRANSPOSE = 0, 1
_DEFAULT_ALGORITHM = 0


class LibrarySampledProduct:
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

        self._library = load_library("cusparse")
        self._handle = handle("cusparse", "cusparseCreate", cupy.cuda.runtime.getDevice())
        self._indptr, self._indices = (
            cupy.asarray(array.astype(np.int32)) for array in (csr.indptr, csr.indices)
        )
        dtype = csr.dtype.name
        self._kind = DATA_TYPES[dtype]
        rows, columns = csr.shape
        # Descriptors need pointers from the start; each call sets its own.
        out = cupy.empty(max(1, csr.nnz), dtype)
        self._C = Descriptor(
            "cusparseCreateCsr",
            "cusparseDestroySpMat",
            *map(c_int64, (rows, columns, csr.nnz)),
            *(c_void_p(array.data.ptr) for array in (self._indptr, self._indices, out)),
            *(_INDEX_32, _INDEX_32, _BASE_ZERO, self._kind),
        )
        U, V = cupy.empty((rows, n), dtype), cupy.empty((columns, n), dtype)
        self._U, self._V = (self._dense(array) for array in (U, V))
        self._one, self._zero = scalar(dtype, 1.0), scalar(dtype, 0.0)
        size = c_size_t()
        self._call("cusparseSDDMM_bufferSize", byref(size))
        self._buffer = cupy.empty(max(size.value, 16), cupy.uint8)
        self._call("cusparseSDDMM_preprocess", c_void_p(self._buffer.data.ptr))
        cupy.cuda.get_current_stream().synchronize()

    def _dense(self, array) -> Descriptor:
        rows, columns = array.shape
        numbers = *map(c_int64, (rows, columns, columns)), c_void_p(array.data.ptr)
        return Descriptor("cusparseCreateDnMat", "cusparseDestroyDnMat", *numbers, self._kind, _ROW_MAJOR)

    def _call(self, name: str, last) -> None:
        import cupy

        stream = c_void_p(cupy.cuda.get_current_stream().ptr)
        check(self._library.cusparseSetStream(self._handle, stream), "cusparseSetStream")
        status = getattr(self._library, name)(
            self._handle,
            _NON_TRANSPOSE,
            _TRANSPOSE,
            byref(self._one),
            self._U.value,
            self._V.value,
            byref(self._zero),
            self._C.value,
            self._kind,
            _DEFAULT_ALGORITHM,
            last,
        )
        check(status, name)

    def __call__(self, U, V, out):
        """Run on the current stream; U (M x n), V (K x n) and out (nnz) are C-contiguous CuPy arrays."""
        for descriptor, array in ((self._U, U), (self._V, V)):
            check(
                self._library.cusparseDnMatSetValues(descriptor.value, c_void_p(array.data.ptr)),
                "cusparseDnMatSetValues",
            )
        check(
            self._library.cusparseSpMatSetValues(self._C.value, c_void_p(out.data.ptr)),
            "cusparseSpMatSetValues",
        )
        self._call("cusparseSDDMM", c_void_p(self._buffer.data.ptr))
        return out
