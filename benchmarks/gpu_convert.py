"""Conversion of a matrix that lies on a GPU: CSR or dense to CSB there, and cuSPARSE's CSR to CSC."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from csbviz.formats import CSBMatrix

__all__ = ["time_conversions"]

_SAMPLES = 25


def _microseconds(call: Callable[[], object]) -> tuple[float, float, float]:
    """Quartiles of the time from the call until the device is done, which is what a caller waits."""
    import cupy

    samples = []
    for _ in range(_SAMPLES + 3):
        cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        call()
        cupy.cuda.Device().synchronize()
        samples.append((time.perf_counter() - start) * 1e6)
    p25, median, p75 = np.percentile(samples[3:], (25, 50, 75))
    return round(p25, 3), round(median, 3), round(p75, 3)


def time_conversions(csr, A: CSBMatrix) -> Iterator[dict]:
    """Records of the conversions of one matrix; a wrong result is not timed.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        float32.
    A : CSBMatrix
        The same matrix as the host converted it; the GPU must give the same arrays.
    """
    import cupy

    from csbviz.ops.cuda.convert import csr_to_csb, dense_to_csb
    from csbviz.ops.cuda.cusparse_vector import TransposeConversion

    arrays = [
        cupy.asarray(array) for array in (csr.indptr.astype(np.int32), csr.indices.astype(np.int32), csr.data)
    ]
    dense = cupy.asarray(csr.toarray())
    block_shape = A.block_shape
    ways = {
        "csb_from_csr": lambda: csr_to_csb(*arrays, csr.shape, block_shape, A.dtype),
        "csb_from_dense": lambda: dense_to_csb(dense, block_shape, A.dtype),
    }
    for name, call in ways.items():
        found = call()
        record = {"kernel": name, "op": "convert", "n": 0, "dtype": A.dtype, "mode": "convert"}
        if found is None or not _same(found[0], A):
            yield record | {"status": "wrong"}
            continue
        p25, median, p75 = _microseconds(call)
        yield record | {"status": "ok", "median_us": median, "p25_us": p25, "p75_us": p75}
    if csr.nnz:
        conversion = TransposeConversion(*arrays, csr.shape)
        conversion()
        record = {"kernel": "cusparse_csr2csc", "op": "convert", "n": 0, "dtype": A.dtype, "mode": "convert"}
        expected = csr.tocsc()
        expected.sort_indices()
        if not (conversion.result[2].get() == expected.data).all():
            yield record | {"status": "wrong"}
            return
        p25, median, p75 = _microseconds(conversion)
        yield record | {"status": "ok", "median_us": median, "p25_us": p25, "p75_us": p75}


def _same(found, A: CSBMatrix) -> bool:
    names = ("values", "row_ind", "col_ind", "blk_ptr")
    return all(np.array_equal(found.fetch(name), getattr(A, name)) for name in names)
