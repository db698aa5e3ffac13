"""What CSB is compared with on a GPU: cuSPARSE's CSR product with each algorithm, and cuBLAS."""

from __future__ import annotations

import functools

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.ops.cuda.module import current_device, missing_reason
from csbviz.ops.registry import SPMM_OPS as OPS
from csbviz.ops.registry import Kernel, Prepared, register

__all__ = []


def _upload_csr(A) -> tuple:
    """Row pointer, columns (both int32) and values on the device, kept with the matrix."""
    import cupy

    key = ("cuda_csr", current_device().id)
    if key not in A.cache:
        csr = A.to_scipy()
        if csr.nnz > np.iinfo(np.int32).max:
            raise UnavailableError(
                f"The matrix has {csr.nnz} nonzeros; the CSR baseline counts them in 32 bits."
            )
        arrays = csr.indptr.astype(np.int32), csr.indices.astype(np.int32), csr.data
        A.cache[key] = tuple(cupy.asarray(array) for array in arrays)
    return A.cache[key]


def _prepare_cusparse(
    A, op: str, n: int, *, threads: int = 0, balance: str = "auto", algorithm: str
) -> Prepared:
    from csbviz.ops.cuda.libraries import SparseProduct

    arrays = _upload_csr(A)
    if A.nnz == 0 or n == 0:
        return Prepared(_write_zeros, sum(array.nbytes for array in arrays))
    product = SparseProduct(*arrays, A.shape, n, algorithm, op == "A.T@B")
    return Prepared(
        product,
        sum(array.nbytes for array in arrays),
        params={"algorithm": algorithm, "buffer_bytes": product.buffer_bytes},
        notes="Preprocessing stays out of the timing.",
    )


def _write_zeros(B, out):
    out.fill(0)
    return out


def _upload_dense(A):
    """The matrix with its zeros on the device, kept with the matrix, where there is room for it."""
    import cupy

    key = ("cuda_dense", current_device().id)
    if key not in A.cache:
        needed = A.shape[0] * A.shape[1] * np.dtype(A.dtype).itemsize
        free, _ = cupy.cuda.runtime.memGetInfo()
        if needed > free // 2:
            raise UnavailableError(
                f"The dense matrix needs {needed / 1e9:.1f} GB; the GPU has {free / 1e9:.1f} GB free."
            )
        A.cache[key] = cupy.asarray(A.to_dense())
    return A.cache[key]


def _prepare_cublas(A, op: str, n: int, *, threads: int = 0, balance: str = "auto", compute: str) -> Prepared:
    from csbviz.ops.cuda.libraries import DenseProduct

    if 0 in A.shape or n == 0:
        return Prepared(_write_zeros, 0)
    dense = _upload_dense(A)
    product = DenseProduct(dense, n, compute, op == "A.T@B")
    return Prepared(product, dense.nbytes, params={"compute": compute})


_CUSPARSE = {
    # CUSPARSE_SPMM_CSR_ALG3 does not transpose.
    "default": ("cuSPARSE CSR", OPS, "the algorithm that cuSPARSE takes by itself"),
    "alg1": ("cuSPARSE CSR, ALG1", OPS, "CUSPARSE_SPMM_CSR_ALG1"),
    "alg2": ("cuSPARSE CSR, ALG2", OPS, "CUSPARSE_SPMM_CSR_ALG2, made for row-major operands"),
    "alg3": (
        "cuSPARSE CSR, ALG3",
        ("A@B",),
        "CUSPARSE_SPMM_CSR_ALG3, the one that profits from preprocessing",
    ),
}

for _name, (_title, _ops, _what) in _CUSPARSE.items():
    register(
        Kernel(
            name=f"cusparse_csr_{_name}",
            title=_title,
            format="csr",
            device="cuda",
            ops=_ops,
            dtypes=("float32", "float64"),
            precision={"float32": "fp32", "float64": "fp64"},
            prepare=functools.partial(_prepare_cusparse, algorithm=_name),
            summary=f"cusparseSpMM with int32 CSR, row-major B and C: {_what}.",
            requires=missing_reason,
            # cuSPARSE promises bit-equal results for ALG3 alone.
            deterministic=_name == "alg3",
        )
    )

_CUBLAS = {
    "fp32": ("Dense (cuBLAS, fp32)", "float32", None, "float32 throughout, TF32 switched off"),
    "tf32": ("Dense (cuBLAS, TF32)", "float32", (8, 0), "products of TF32-rounded values on tensor cores"),
    "fp64": ("Dense (cuBLAS, fp64)", "float64", None, "float64 throughout"),
}

for _name, (_title, _dtype, _capability, _what) in _CUBLAS.items():
    register(
        Kernel(
            name=f"cublas_{_name}",
            title=_title,
            format="dense",
            device="cuda",
            ops=OPS,
            dtypes=(_dtype,),
            precision={_dtype: _name},
            prepare=functools.partial(_prepare_cublas, compute=_name),
            summary=f"cublasGemmEx on the matrix with its zeros: {_what}.",
            min_capability=_capability,
            requires=functools.partial(missing_reason, _capability),
        )
    )
