"""What CSB is compared with on a CPU: MKL's CSR and the dense product through PyTorch, and SciPy's CSR.

Conversions happen in ``prepare`` and stay out of every timing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from csbviz.ops.registry import OPS, SPMV_OPS, Kernel, Prepared, is_transposed, register

_PRECISION = {"float32": "fp32", "float64": "fp64"}


def _csr_bytes(csr) -> int:
    return csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes


def _torch_csr(csr):
    """The same arrays as a PyTorch CSR tensor; int32 indices keep MKL from converting them at each call."""
    import torch

    with warnings.catch_warnings():
        # PyTorch says once that its CSR support is in beta, and that it trusts the indices given to it:
        # both are known here, and the result of every kernel is verified.
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(csr.indptr.astype(np.int32, copy=False)),
            torch.from_numpy(csr.indices.astype(np.int32, copy=False)),
            torch.from_numpy(csr.data),
            size=csr.shape,
            check_invariants=False,
        )


def _torch_product(matrix, op: str) -> Callable:
    """``run(B, out)`` of PyTorch's product with a dense or CSR tensor, without a copy of B or out."""
    import torch

    if op in SPMV_OPS:  # MKL's product with a vector takes an eighth of its product with one column

        def multiply(B, out):
            torch.mv(matrix, torch.from_numpy(B)[:, 0], out=torch.from_numpy(out)[:, 0])
            return out

        return multiply

    def run(B, out):
        torch.mm(matrix, torch.from_numpy(B), out=torch.from_numpy(out))
        return out

    return run


def _prepare_mkl(A, op: str, n: int, *, threads: int, balance: str = "auto") -> Prepared:
    csr = A.to_scipy()
    sparse = _torch_csr(csr)
    if is_transposed(op):
        sparse = sparse.t()

    return Prepared(_torch_product(sparse, op), _csr_bytes(csr))


def _prepare_mkl_copy(A, op: str, n: int, *, threads: int, balance: str = "auto") -> Prepared:
    csr = A.to_scipy()
    transposed = csr.T.tocsr()
    sparse = _torch_csr(transposed)

    notes = "Reads a second, transposed copy; the bytes count both copies."
    return Prepared(_torch_product(sparse, op), _csr_bytes(csr) + _csr_bytes(transposed), notes=notes)


def _prepare_scipy(A, op: str, n: int, *, threads: int, balance: str = "auto") -> Prepared:
    csr = A.to_scipy()
    matrix = csr.T if is_transposed(op) else csr

    def run(B, out):
        return matrix @ B  # SciPy's product has no out parameter

    return Prepared(run, _csr_bytes(csr), notes="One thread; allocates its result.")


def _prepare_dense(A, op: str, n: int, *, threads: int, balance: str = "auto") -> Prepared:
    import torch

    dense = torch.from_numpy(A.to_dense())
    matrix = dense.T if is_transposed(op) else dense

    return Prepared(_torch_product(matrix, op), dense.element_size() * dense.nelement())


register(
    Kernel(
        name="csr_mkl",
        title="CSR (MKL through PyTorch)",
        format="csr",
        device="cpu",
        ops=OPS,
        dtypes=("float32", "float64"),
        precision=_PRECISION,
        prepare=_prepare_mkl,
        summary="torch.sparse_csr_tensor with int32 indices; its transposed product is PyTorch's own.",
    )
)
register(
    Kernel(
        name="csr_mkl_copy",
        title="CSR + transposed copy (MKL)",
        format="csr",
        device="cpu",
        ops=("A.T@B", "A.T@x"),
        dtypes=("float32", "float64"),
        precision=_PRECISION,
        prepare=_prepare_mkl_copy,
        summary="MKL's CSR product on a second copy of the matrix, stored transposed: twice the memory.",
        copies=2,
    )
)
register(
    Kernel(
        name="csr_scipy",
        title="CSR (SciPy)",
        format="csr",
        device="cpu",
        ops=OPS,
        dtypes=("float32", "float64"),
        precision=_PRECISION,
        prepare=_prepare_scipy,
        summary="scipy.sparse.csr_matrix, forward and as its transposed view; always one thread.",
        threads="one",
    )
)
register(
    Kernel(
        name="dense_torch",
        title="Dense (PyTorch)",
        format="dense",
        device="cpu",
        ops=OPS,
        dtypes=("float32", "float64"),
        precision=_PRECISION,
        prepare=_prepare_dense,
        summary="torch.mm on the matrix with its zeros.",
    )
)
