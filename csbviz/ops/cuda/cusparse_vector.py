"""cuSPARSE's product with a vector, and its conversion of CSR to CSC."""

from __future__ import annotations

from ctypes import byref, c_int64, c_void_p

from csbviz.ops.cuda.libraries import DATA_TYPES, CusparseRoutine, Descriptor, csr_descriptor, scalar

__all__ = ["SPMV_ALGORITHMS", "TransposeConversion", "VectorProduct"]

SPMV_ALGORITHMS = {"default": 0, "alg1": 2, "alg2": 3}
"""cusparseSpMVAlg_t of the CSR algorithms."""

_BASE_ZERO = 0
_CSR2CSC_ALGORITHM = 1  # CUSPARSE_CSR2CSC_ALG1, the default: the same result in every run
_COPY_VALUES = 1  # CUSPARSE_ACTION_NUMERIC


class VectorProduct(CusparseRoutine):
    """``y = op(A) @ x`` by cusparseSpMV with A in CSR, int32 indices.

    Parameters
    ----------
    indptr, indices, values : cupy.ndarray
        The CSR arrays: int32, int32, and float32 or float64.
    shape : tuple of int
        M, K of the stored matrix.
    algorithm : str
        A key of `SPMV_ALGORITHMS`.
    transpose : bool
        Multiply with the transpose.

    Notes
    -----
    Creating the object runs cuSPARSE's preprocessing, so it stays out of what a call takes.
    """

    def __init__(self, indptr, indices, values, shape, algorithm: str, transpose: bool):
        import cupy

        super().__init__()
        self._arrays = indptr, indices, values  # the descriptor points at them
        self._A = csr_descriptor(indptr, indices, values, shape)
        rows, columns = shape
        inner, outer = (rows, columns) if transpose else (columns, rows)
        # Descriptors need a pointer from the start; each call sets its own.
        dtype = str(values.dtype)
        self._kind = DATA_TYPES[dtype]
        self._x, self._y = map(self._vector, (cupy.zeros(inner, dtype), cupy.empty(outer, dtype)))
        self._factors = scalar(dtype, 1.0), scalar(dtype, 0.0)
        alpha, beta = map(byref, self._factors)
        left = (int(transpose), alpha, self._A.value, self._x.value)
        self._arguments = (*left, beta, self._y.value, self._kind, SPMV_ALGORITHMS[algorithm])
        self._working_memory = self._make_ready("cusparseSpMV", *self._arguments)

    def _vector(self, array) -> Descriptor:
        pointer = c_void_p(array.data.ptr)
        return Descriptor(
            "cusparseCreateDnVec", "cusparseDestroyDnVec", c_int64(array.size), pointer, self._kind
        )

    def __call__(self, x, out):
        """Run on the current stream; x and out are contiguous CuPy arrays of inner and outer elements."""
        self._point_at("cusparseDnVecSetValues", (self._x, x), (self._y, out))
        self._run("cusparseSpMV", *self._arguments, self._working_memory)
        return out


class TransposeConversion(CusparseRoutine):
    """CSR to CSC by cusparseCsr2cscEx2, the measure of a conversion: it reads and writes every entry once.

    Parameters
    ----------
    indptr, indices, values : cupy.ndarray
        The CSR arrays: int32, int32, and float32 or float64.
    shape : tuple of int
        M, K.

    Attributes
    ----------
    result : tuple of cupy.ndarray
        Column pointer, rows and values; every call writes them.
    """

    def __init__(self, indptr, indices, values, shape):
        import cupy

        super().__init__()
        self._arrays = indptr, indices, values
        rows, columns = shape
        self.result = cupy.empty(columns + 1, "int32"), cupy.empty_like(indices), cupy.empty_like(values)
        pointers = [c_void_p(a.data.ptr) for a in (values, indptr, indices)]
        column_ptr, row_ind, moved = (c_void_p(a.data.ptr) for a in self.result)
        self._arguments = (
            rows,
            columns,
            values.size,
            *pointers,
            moved,
            column_ptr,
            row_ind,
            DATA_TYPES[str(values.dtype)],
            _COPY_VALUES,
            _BASE_ZERO,
            _CSR2CSC_ALGORITHM,
        )
        self._working_memory = self._allocate("cusparseCsr2cscEx2_bufferSize", *self._arguments)

    def __call__(self) -> None:
        """Run on the current stream."""
        self._run("cusparseCsr2cscEx2", *self._arguments, self._working_memory)
