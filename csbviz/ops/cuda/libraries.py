"""cuSPARSE and cuBLAS through ctypes, on CuPy's arrays and stream.

CuPy's own bindings refuse to run while a stream is being captured, choose the algorithm themselves and know
no preprocessing; a baseline needs all three.
"""

from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_double, c_float, c_int, c_int64, c_size_t, c_void_p

from csbviz.errors import UnavailableError

__all__ = [
    "ALGORITHMS",
    "COMPUTE",
    "DATA_TYPES",
    "CusparseRoutine",
    "DenseProduct",
    "DenseVectorProduct",
    "Descriptor",
    "SparseProduct",
    "check",
    "csr_descriptor",
    "handle",
    "load_library",
    "row_major_descriptor",
    "scalar",
]

ALGORITHMS = {"default": 0, "alg1": 4, "alg2": 6, "alg3": 12}
"""cusparseSpMMAlg_t of the CSR algorithms."""

COMPUTE = {"fp32": 68, "tf32": 77, "fp64": 70, "fp16": 68, "bf16": 68}
"""cublasComputeType_t: 32F, 32F through TF32 tensor cores, 64F. With 32F, values of 16 bits go through tensor
cores and are added in float32; float32 values stay off them."""

DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
"""cudaDataType_t."""

_INDEX_32 = 2  # CUSPARSE_INDEX_32I
_BASE_ZERO = 0
_ROW_MAJOR = 2  # CUSPARSE_ORDER_ROW
_NON_TRANSPOSE, _TRANSPOSE = 0, 1  # the same numbers in cuSPARSE and cuBLAS
_WORKSPACE = 32 << 20  # what cuBLAS asks for on Hopper; more than it takes elsewhere


@functools.cache
def load_library(name: str) -> ctypes.CDLL:
    """The shared library of that name, e.g. "cusparse", from NVIDIA's wheels or the CUDA toolkit.

    Raises
    ------
    UnavailableError
        If it is not installed.
    """
    from cuda.pathfinder import load_nvidia_dynamic_lib  # comes with CuPy

    try:
        return ctypes.CDLL(load_nvidia_dynamic_lib(name).abs_path)
    except (RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(f"The library {name} was not found ({reason}).") from None


def check(status: int, call: str) -> None:
    """Raise where a library reports an error: a fault of this program, not of a user."""
    if status:
        raise RuntimeError(f"{call} failed with status {status}")


@functools.cache
def handle(library: str, create: str, device: int) -> c_void_p:
    """A handle a device; it lives as long as the process."""
    handle = c_void_p()
    check(getattr(load_library(library), create)(byref(handle)), create)
    return handle


def scalar(dtype: str, value: float):
    """A factor as the libraries take it for values of that dtype."""
    return c_double(value) if dtype == "float64" else c_float(value)


class Descriptor:
    """A cuSPARSE descriptor that is destroyed with its object."""

    def __init__(self, create: str, destroy: str, *arguments):
        self._library = load_library("cusparse")
        self._destroy = destroy
        self.value = c_void_p()
        check(getattr(self._library, create)(byref(self.value), *arguments), create)

    def __del__(self):
        if getattr(self, "value", None):
            getattr(self._library, self._destroy)(self.value)


def csr_descriptor(indptr, indices, values, shape) -> Descriptor:
    """A CSR matrix of CuPy arrays, int32 indices; the arrays have to outlive it."""
    return Descriptor(
        "cusparseCreateCsr",
        "cusparseDestroySpMat",
        *map(c_int64, (*shape, values.size)),
        *(c_void_p(array.data.ptr) for array in (indptr, indices, values)),
        *(_INDEX_32, _INDEX_32, _BASE_ZERO, DATA_TYPES[str(values.dtype)]),
    )


def row_major_descriptor(array) -> Descriptor:
    """A dense matrix in a C-contiguous CuPy array."""
    rows, columns = array.shape
    return Descriptor(
        "cusparseCreateDnMat",
        "cusparseDestroyDnMat",
        *map(c_int64, (rows, columns, columns)),
        c_void_p(array.data.ptr),
        *(DATA_TYPES[str(array.dtype)], _ROW_MAJOR),
    )


class CusparseRoutine:
    """What every routine of cuSPARSE needs: the library, a handle, CuPy's stream, and working memory.

    Attributes
    ----------
    buffer_bytes : int
        Working memory, allocated beforehand.
    """

    def __init__(self):
        import cupy

        self._library = load_library("cusparse")
        self._handle = handle("cusparse", "cusparseCreate", cupy.cuda.runtime.getDevice())
        self.buffer_bytes, self._buffer = 0, None

    def _run(self, name: str, *arguments) -> None:
        """Call a function on CuPy's current stream; the handle comes before the arguments."""
        import cupy

        stream = c_void_p(cupy.cuda.get_current_stream().ptr)
        check(self._library.cusparseSetStream(self._handle, stream), "cusparseSetStream")
        check(getattr(self._library, name)(self._handle, *arguments), name)

    def _allocate(self, name: str, *arguments) -> c_void_p:
        """Ask how much working memory is needed, allocate it, and return its address."""
        import cupy

        size = c_size_t()
        self._run(name, *arguments, byref(size))
        self.buffer_bytes = size.value
        self._buffer = cupy.empty(max(size.value, 16), cupy.uint8)
        return c_void_p(self._buffer.data.ptr)

    def _make_ready(self, name: str, *arguments) -> c_void_p:
        """Allocate working memory and preprocess, so that neither is part of a call; its address."""
        import cupy

        buffer = self._allocate(f"{name}_bufferSize", *arguments)
        self._run(f"{name}_preprocess", *arguments, buffer)
        cupy.cuda.get_current_stream().synchronize()
        return buffer

    def _point_at(self, setter: str, *pairs) -> None:
        """Point descriptors at arrays."""
        for descriptor, array in pairs:
            check(getattr(self._library, setter)(descriptor.value, c_void_p(array.data.ptr)), setter)


class SparseProduct(CusparseRoutine):
    """``C = op(A) @ B`` by cusparseSpMM with A in CSR, int32 indices, B and C row-major.

    Parameters
    ----------
    indptr, indices, values : cupy.ndarray
        The CSR arrays: int32, int32, and float32 or float64.
    shape : tuple of int
        M, K of the stored matrix.
    n : int
        Columns of B.
    algorithm : str
        A key of `ALGORITHMS`.
    transpose : bool
        Multiply with the transpose.

    Notes
    -----
    Creating the object runs cuSPARSE's preprocessing, so it stays out of what a call takes.
    """

    def __init__(self, indptr, indices, values, shape, n: int, algorithm: str, transpose: bool):
        import cupy

        super().__init__()
        self._arrays = indptr, indices, values  # the descriptor points at them
        self._A = csr_descriptor(indptr, indices, values, shape)
        rows, columns = shape
        inner, outer = (rows, columns) if transpose else (columns, rows)
        # Descriptors need a pointer from the start; each call sets its own.
        dtype = str(values.dtype)
        B, C = cupy.empty((inner, n), dtype), cupy.empty((outer, n), dtype)
        self._B, self._C = map(row_major_descriptor, (B, C))
        self._factors = scalar(dtype, 1.0), scalar(dtype, 0.0)
        alpha, beta = map(byref, self._factors)
        operation = _TRANSPOSE if transpose else _NON_TRANSPOSE
        left = (operation, _NON_TRANSPOSE, alpha, self._A.value, self._B.value)
        self._arguments = (*left, beta, self._C.value, DATA_TYPES[dtype], ALGORITHMS[algorithm])
        self._working_memory = self._make_ready("cusparseSpMM", *self._arguments)

    def __call__(self, B, out):
        """Run on the current stream; B and out are C-contiguous CuPy arrays."""
        self._point_at("cusparseDnMatSetValues", (self._B, B), (self._C, out))
        self._run("cusparseSpMM", *self._arguments, self._working_memory)
        return out


class DenseProduct:
    """``C = op(A) @ B`` by cublasGemmEx with a stated compute type; all three arrays row-major.

    Parameters
    ----------
    A : cupy.ndarray
        M x K, C-contiguous.
    n : int
        Columns of B.
    compute : str
        A key of `COMPUTE`: "fp32" never uses TF32, "tf32" allows it; "fp16" and "bf16" add in float32 and
        round the result once.
    transpose : bool
        Multiply with the transpose.
    dtype : str, optional
        Type of the values where the arrays hold their bits ("bfloat16" as uint16).
    """

    def __init__(self, A, n: int, compute: str, transpose: bool, dtype: str | None = None):
        import cupy

        self._library = load_library("cublas")
        self._handle = handle("cublas", "cublasCreate_v2", cupy.cuda.runtime.getDevice())
        self._A, self._transpose = A, transpose
        dtype = dtype or str(A.dtype)
        self._alpha, self._beta = scalar(dtype, 1.0), scalar(dtype, 0.0)
        rows, columns = A.shape
        outer, inner = (columns, rows) if transpose else (rows, columns)
        self._sizes = c_int(n), c_int(outer), c_int(inner)
        self._leading = c_int(n), c_int(columns), c_int(n)
        self._kind, self._compute = DATA_TYPES[dtype], COMPUTE[compute]
        # A workspace of its own: what cuBLAS would take while a graph is captured would be timed with it.
        self._workspace = cupy.empty(_WORKSPACE, cupy.uint8)

    def __call__(self, B, out):
        """Run on the current stream; B and out are C-contiguous CuPy arrays."""
        import cupy

        library, handle = self._library, self._handle
        stream = c_void_p(cupy.cuda.get_current_stream().ptr)
        check(library.cublasSetStream_v2(handle, stream), "cublasSetStream")
        # Setting the stream takes the workspace away again.
        workspace = c_void_p(self._workspace.data.ptr), c_size_t(_WORKSPACE)
        check(library.cublasSetWorkspace_v2(handle, *workspace), "cublasSetWorkspace")
        check(library.cublasSetMathMode(handle, 0), "cublasSetMathMode")  # CUBLAS_DEFAULT_MATH
        # cuBLAS is column-major: it sees Bᵀ, Aᵀ and Cᵀ, so it is asked for Cᵀ = Bᵀ·op(A)ᵀ.
        status = library.cublasGemmEx(
            handle,
            _NON_TRANSPOSE,
            _TRANSPOSE if self._transpose else _NON_TRANSPOSE,
            *self._sizes,
            byref(self._alpha),
            c_void_p(B.data.ptr),
            self._kind,
            self._leading[0],
            c_void_p(self._A.data.ptr),
            self._kind,
            self._leading[1],
            byref(self._beta),
            c_void_p(out.data.ptr),
            self._kind,
            self._leading[2],
            self._compute,
            -1,  # CUBLAS_GEMM_DEFAULT
        )
        check(status, "cublasGemmEx")
        return out


class DenseVectorProduct:
    """``y = op(A) @ x`` by cublasSgemv or cublasDgemv.

    Parameters
    ----------
    A : cupy.ndarray
        M x K, float32 or float64, C-contiguous.
    transpose : bool
        Multiply with the transpose.
    """

    def __init__(self, A, transpose: bool):
        import cupy

        self._library = load_library("cublas")
        self._handle = handle("cublas", "cublasCreate_v2", cupy.cuda.runtime.getDevice())
        self._A = A
        dtype = str(A.dtype)
        self._alpha, self._beta = scalar(dtype, 1.0), scalar(dtype, 0.0)
        self._name = "cublasSgemv_v2" if dtype == "float32" else "cublasDgemv_v2"
        # cuBLAS is column-major: it sees Aᵀ.
        self._operation = _NON_TRANSPOSE if transpose else _TRANSPOSE
        self._sizes = c_int(A.shape[1]), c_int(A.shape[0])

    def __call__(self, x, out):
        """Run on the current stream; x and out are contiguous CuPy arrays."""
        import cupy

        stream = c_void_p(cupy.cuda.get_current_stream().ptr)
        check(self._library.cublasSetStream_v2(self._handle, stream), "cublasSetStream")
        check(self._library.cublasSetMathMode(self._handle, 0), "cublasSetMathMode")  # CUBLAS_DEFAULT_MATH
        status = getattr(self._library, self._name)(
            self._handle,
            self._operation,
            *self._sizes,
            byref(self._alpha),
            c_void_p(self._A.data.ptr),
            self._sizes[0],
            c_void_p(x.data.ptr),
            c_int(1),
            byref(self._beta),
            c_void_p(out.data.ptr),
            c_int(1),
        )
        check(status, self._name)
        return out
