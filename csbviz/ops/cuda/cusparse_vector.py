"""cuSPARSE's product with a vector, and its conversion of CSR to CSC."""

from __future__ import annotations

from ctypes import byref, c_int64, c_size_t, c_void_p

from csbviz.ops.cuda.libraries import DATA_TYPES, Descriptor, check, handle, load_library, scalar

__all__ = ["SPMV_ALGORITHMS", "TransposeConversion", "VectorProduct"]

SPMV_ALGORITHMS = {"default": 0, "alg1": 2, "alg2": 3}
"""cusparseSpMVAlg_t of the CSR algorithms."""

_INDEX_32 = 2  # CUSPARSE_INDEX_32I
_BASE_ZERO = 0
_CSR2CSC_ALGORITHM = 1  # CUSPARSE_CSR2CSC_ALG1, the default: the same result in every run
_COPY_VALUES = 1  # CUSPARSE_ACTION_NUMERIC


class VectorProduct:
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

        self._library = load_library("cusparse")
        self._handle = handle("cusparse", "cusparseCreate", cupy.cuda.runtime.getDevice())
        self._arrays = indptr, indices, values  # the descriptor points at them
        dtype = str(values.dtype)
        self._kind, self._algorithm = DATA_TYPES[dtype], SPMV_ALGORITHMS[algorithm]
        rows, columns = shape
        self._A = Descriptor(
            "cusparseCreateCsr",
            "cusparseDestroySpMat",
            c_int64(rows),
            c_int64(columns),
            c_int64(values.size),
            *(c_void_p(array.data.ptr) for array in self._arrays),
            _INDEX_32,
            _INDEX_32,
            _BASE_ZERO,
            self._kind,
        )
        inner, outer = (rows, columns) if transpose else (columns, rows)
        # Descriptors need a pointer from the start; each call sets its own.
        x, y = cupy.zeros(inner, dtype), cupy.empty(outer, dtype)
        self._x, self._y = map(self._vector, (x, y))
        self._alpha, self._beta = scalar(dtype, 1.0), scalar(dtype, 0.0)
        self._operation = int(transpose)
        size = c_size_t()
        self._call("cusparseSpMV_bufferSize", byref(size))
        self.buffer_bytes = size.value
        self._buffer = cupy.empty(max(size.value, 16), cupy.uint8)
        self._call("cusparseSpMV_preprocess", c_void_p(self._buffer.data.ptr))
        cupy.cuda.get_current_stream().synchronize()

    def _vector(self, array) -> Descriptor:
        pointer = c_void_p(array.data.ptr)
        return Descriptor(
            "cusparseCreateDnVec", "cusparseDestroyDnVec", c_int64(array.size), pointer, self._kind
        )

    def _call(self, name: str, last) -> None:
        import cupy

        stream = c_void_p(cupy.cuda.get_current_stream().ptr)
        check(self._library.cusparseSetStream(self._handle, stream), "cusparseSetStream")
        status = getattr(self._library, name)(
            self._handle,
            self._operation,
            byref(self._alpha),
            self._A.value,
            self._x.value,
            byref(self._beta),
            self._y.value,
            self._kind,
            self._algorithm,
            last,
        )
        check(status, name)

    def __call__(self, x, out):
        """Run on the current stream; x and out are contiguous CuPy arrays of inner and outer elements."""
        set_values = self._library.cusparseDnVecSetValues
        check(set_values(self._x.value, c_void_p(x.data.ptr)), "cusparseDnVecSetValues")
        check(set_values(self._y.value, c_void_p(out.data.ptr)), "cusparseDnVecSetValues")
        self._call("cusparseSpMV", c_void_p(self._buffer.data.ptr))
        return out


class TransposeConversion:
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
    buffer_bytes : int
        Working memory, allocated beforehand.
    """

    def __init__(self, indptr, indices, values, shape):
        import cupy

        self._library = load_library("cusparse")
        self._handle = handle("cusparse", "cusparseCreate", cupy.cuda.runtime.getDevice())
        self._arrays = indptr, indices, values
        rows, columns = shape
        self.result = cupy.empty(columns + 1, "int32"), cupy.empty_like(indices), cupy.empty_like(values)
        pointers = [c_void_p(a.data.ptr) for a in (values, indptr, indices)]
        column_ptr, row_ind, moved = (c_void_p(a.data.ptr) for a in self.result)
        self._arguments = (
            self._handle,
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
        size = c_size_t()
        status = self._library.cusparseCsr2cscEx2_bufferSize(*self._arguments, byref(size))
        check(status, "cusparseCsr2cscEx2_bufferSize")
        self.buffer_bytes = size.value
        self._buffer = cupy.empty(max(size.value, 16), cupy.uint8)

    def __call__(self) -> None:
        """Run on the current stream."""
        import cupy

        stream = c_void_p(cupy.cuda.get_current_stream().ptr)
        check(self._library.cusparseSetStream(self._handle, stream), "cusparseSetStream")
        status = self._library.cusparseCsr2cscEx2(*self._arguments, c_void_p(self._buffer.data.ptr))
        check(status, "cusparseCsr2cscEx2")
