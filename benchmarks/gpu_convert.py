"""Conversion of a matrix that lies on a GPU: CSR or dense to CSB there, and cuSPARSE's CSR to CSC."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.in_turn import in_turn
from csbviz.formats import CSBMatrix

__all__ = ["time_conversions"]


def _sample(call: Callable[[], object]) -> float:
    """Microseconds from the call until the device is done, which is what a caller waits."""
    import cupy

    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    call()
    cupy.cuda.Device().synchronize()
    return (time.perf_counter() - start) * 1e6


def time_conversions(csr, A: CSBMatrix) -> Iterator[dict]:
    """Records of the conversions of one matrix; a wrong result is not timed.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        float32.
    A : CSBMatrix
        The same matrix as the host converted it; the GPU must give the same arrays.
    """
    calls, wrong = _verified(csr, A)
    record = {"op": "convert", "n": 0, "dtype": A.dtype, "mode": "convert"}
    for name in wrong:
        yield {"kernel": name} | record | {"status": "wrong"}
    for name, (p25, median, p75) in in_turn(calls, _sample).items():
        yield (
            {"kernel": name}
            | record
            | {
                "status": "ok",
                "median_us": median,
                "p25_us": p25,
                "p75_us": p75,
            }
        )


def _verified(csr, A: CSBMatrix) -> tuple[dict[str, Callable[[], object]], list[str]]:
    """The conversions that give the right arrays, and the names of the others."""
    import cupy

    from csbviz.ops.cuda.convert import csr_to_csb, dense_to_csb
    from csbviz.ops.cuda.cusparse_vector import TransposeConversion

    arrays = [
        cupy.asarray(array) for array in (csr.indptr.astype(np.int32), csr.indices.astype(np.int32), csr.data)
    ]
    dense = cupy.asarray(csr.toarray())
    block_shape = A.block_shape
    calls: dict[str, Callable[[], object]] = {
        "csb_from_csr": lambda: csr_to_csb(*arrays, csr.shape, block_shape, A.dtype),
        "csb_from_dense": lambda: dense_to_csb(dense, block_shape, A.dtype),
    }
    wrong = []
    for name, call in list(calls.items()):
        found = call()
        if found is None or not _same(found[0], A):
            wrong.append(name)
            del calls[name]
    if csr.nnz:
        conversion = TransposeConversion(*arrays, csr.shape)
        conversion()
        expected = csr.tocsc()
        expected.sort_indices()
        if (conversion.result[2].get() == expected.data).all():
            calls["cusparse_csr2csc"] = conversion
        else:
            wrong.append("cusparse_csr2csc")
    return calls, wrong


def _same(found, A: CSBMatrix) -> bool:
    names = ("values", "row_ind", "col_ind", "blk_ptr")
    return all(np.array_equal(found.fetch(name), getattr(A, name)) for name in names)
