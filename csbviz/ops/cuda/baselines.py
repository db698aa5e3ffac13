"""What CSB is compared with on a GPU: cuSPARSE's CSR products with each algorithm, and cuBLAS."""

from __future__ import annotations

import functools

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.formats import dtypes
from csbviz.ops.cuda.module import current_device, missing_reason
from csbviz.ops.registry import SPMM_OPS, SPMV_OPS, Kernel, Prepared, is_transposed, register

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
    from csbviz.ops.cuda.cusparse_vector import VectorProduct
    from csbviz.ops.cuda.libraries import SparseProduct

    arrays = _upload_csr(A)
    if A.nnz == 0 or n == 0:
        return Prepared(_write_zeros, sum(array.nbytes for array in arrays))
    if op in SPMV_OPS:
        product = VectorProduct(*arrays, A.shape, algorithm, is_transposed(op))
    else:
        product = SparseProduct(*arrays, A.shape, n, algorithm, is_transposed(op))
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
    """The matrix with its zeros on the device, kept with the matrix, where there is room for it.

    bfloat16, which CuPy lacks, as its bits (uint16).
    """
    import cupy

    key = ("cuda_dense", current_device().id)
    if key not in A.cache:
        needed = A.shape[0] * A.shape[1] * dtypes.VALUE_BYTES[A.dtype]
        free, _ = cupy.cuda.runtime.memGetInfo()
        if needed > free // 2:
            raise UnavailableError(
                f"The dense matrix needs {needed / 1e9:.1f} GB; the GPU has {free / 1e9:.1f} GB free."
            )
        dense = A.to_dense()
        if A.dtype == "bfloat16":  # of float32 values that were bfloat16 the lower half is zero
            dense = (dense.view(np.uint32) >> 16).astype(np.uint16)
        A.cache[key] = cupy.asarray(dense)
    return A.cache[key]


def _prepare_cublas(A, op: str, n: int, *, threads: int = 0, balance: str = "auto", compute: str) -> Prepared:
    from csbviz.ops.cuda.libraries import DenseProduct, DenseVectorProduct

    if 0 in A.shape or n == 0:
        return Prepared(_write_zeros, 0)
    dense = _upload_dense(A)
    if op in SPMV_OPS:
        product = DenseVectorProduct(dense, is_transposed(op))
    else:
        product = DenseProduct(dense, n, compute, is_transposed(op), A.dtype)
    return Prepared(product, dense.nbytes, params={"compute": compute})


_CUSPARSE = {
    # CUSPARSE_SPMM_CSR_ALG3 does not transpose.
    "default": ("cuSPARSE CSR", SPMM_OPS, "the algorithm that cuSPARSE takes by itself"),
    "alg1": ("cuSPARSE CSR, ALG1", SPMM_OPS, "CUSPARSE_SPMM_CSR_ALG1"),
    "alg2": ("cuSPARSE CSR, ALG2", SPMM_OPS, "CUSPARSE_SPMM_CSR_ALG2, made for row-major operands"),
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

_CUSPARSE_VECTOR = {
    "default": ("cuSPARSE SpMV", "the algorithm that cuSPARSE takes by itself"),
    "alg1": ("cuSPARSE SpMV, ALG1", "CUSPARSE_SPMV_CSR_ALG1"),
    "alg2": ("cuSPARSE SpMV, ALG2", "CUSPARSE_SPMV_CSR_ALG2, the same bits in every run for A·x"),
}

for _name, (_title, _what) in _CUSPARSE_VECTOR.items():
    register(
        Kernel(
            name=f"cusparse_spmv_{_name}",
            title=_title,
            format="csr",
            device="cuda",
            ops=SPMV_OPS,
            dtypes=("float32", "float64"),
            precision={"float32": "fp32", "float64": "fp64"},
            prepare=functools.partial(_prepare_cusparse, algorithm=_name),
            summary=f"cusparseSpMV with int32 CSR: {_what}.",
            requires=missing_reason,
            deterministic=False,  # Aᵀ·x adds atomically
        )
    )

_CUBLAS = {
    "fp32": ("fp32", "float32", None, "float32 throughout, TF32 switched off"),
    "tf32": ("TF32", "float32", (8, 0), "products of TF32-rounded values on tensor cores"),
    "fp64": ("fp64", "float64", None, "float64 throughout"),
    "fp16": ("fp16", "float16", None, "float16 values on tensor cores, sums in float32, rounded once"),
    "bf16": ("bf16", "bfloat16", (8, 0), "bfloat16 values on tensor cores, sums in float32, rounded once"),
}

for _name, (_title, _dtype, _capability, _what) in _CUBLAS.items():
    register(
        Kernel(
            name=f"cublas_{_name}",
            title=f"Dense (cuBLAS, {_title})",
            format="dense",
            device="cuda",
            ops=SPMM_OPS,
            dtypes=(_dtype,),
            precision={_dtype: _name},
            prepare=functools.partial(_prepare_cublas, compute=_name),
            summary=f"cublasGemmEx on the matrix with its zeros: {_what}.",
            min_capability=_capability,
            requires=functools.partial(missing_reason, _capability),
        )
    )

register(
    Kernel(
        name="cublas_gemv",
        title="Dense (cuBLAS gemv)",
        format="dense",
        device="cuda",
        ops=SPMV_OPS,
        dtypes=("float32", "float64"),
        precision={"float32": "fp32", "float64": "fp64"},
        prepare=functools.partial(_prepare_cublas, compute="fp32"),
        summary="cublasSgemv or cublasDgemv on the matrix with its zeros.",
        requires=missing_reason,
    )
)
