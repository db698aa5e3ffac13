"""Conversion of a matrix that lies on a GPU: CSR or dense to CSB there, and cuSPARSE's CSR to CSC."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from csbviz.formats import CSBMatrix

__all__ = ["in_turn", "time_conversions"]

_ROUNDS, _EXTRA_ROUNDS, _SAMPLES = 3, 6, 9
"""Rounds of each conversion in turn, most further ones of those with unsteady times, samples of a round."""

_UNSTEADY = 0.2
"""Quartiles further apart than this share of the median: the host did something else meanwhile."""

_PAUSE_SECONDS = 0.05
"""Before a further round, so that what disturbed the last one may pass."""


def _sample(call: Callable[[], object]) -> float:
    """Microseconds from the call until the device is done, which is what a caller waits."""
    import cupy

    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    call()
    cupy.cuda.Device().synchronize()
    return (time.perf_counter() - start) * 1e6


def _quartiles(samples: list[float]) -> tuple[float, float, float]:
    p25, median, p75 = np.percentile(samples, (25, 50, 75))
    return round(p25, 3), round(median, 3), round(p75, 3)


def in_turn(calls: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float, float]]:
    """Quartiles of the time of each call in microseconds, of all samples of all rounds.

    Parameters
    ----------
    calls : dict
        Name → what to time. A host that others disturb for a while meets all of them, since they take turns;
        those whose times are unsteady get further rounds.
    """
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        for _ in range(3):  # memory that the pool keeps from then on
            call()
    for number in range(_ROUNDS + _EXTRA_ROUNDS):
        names = list(calls)
        if number >= _ROUNDS:
            found = {name: _quartiles(samples[name]) for name in names}
            names = [name for name, (p25, p50, p75) in found.items() if p75 - p25 > _UNSTEADY * p50]
            if not names:
                break
            time.sleep(_PAUSE_SECONDS)
        for name in names:
            samples[name] += [_sample(calls[name]) for _ in range(_SAMPLES)]
    return {name: _quartiles(found) for name, found in samples.items()}


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
    for name, (p25, median, p75) in in_turn(calls).items():
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
