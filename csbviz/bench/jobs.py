"""Functions that the measurement service runs in its worker: plain arguments in, plain dicts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from csbviz.bench.gpu_timing import release_memory
from csbviz.bench.recordings import device_facts
from csbviz.bench.run import BenchRequest, bench_matrix
from csbviz.bench.verdict import verdict

__all__ = ["run_bench"]


def run_bench(
    csr,
    request: dict,
    progress: Callable[[float, str], None],
    *,
    name: str = "matrix",
    block_shape: tuple[int, int] | None = None,
    order: str = "row",
    dtype: str = "float32",
) -> dict:
    """Build the CSB matrix, measure, and judge.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        The layer.
    request : dict
        Keyword arguments of `BenchRequest`.
    progress : callable
        ``progress(fraction, message)``.
    name, block_shape, order, dtype
        Name in the records; how the CSB matrix is laid out (None: blocks that suit the device); type of its
        values.

    Returns
    -------
    dict
        "records": list of record dicts; "verdict": dict of the verdict's fields; "device": what is known of
        the device.
    """
    from csbviz.formats import CSBMatrix, choose_block_shape

    progress(0.0, "Building the CSB matrix")
    if block_shape is None:
        block_shape = choose_block_shape(csr.shape, csr.nnz, device=request.get("device", "cpu"))
    A = CSBMatrix.from_scipy(csr.astype(dtype), block_shape=block_shape, order=order)
    records = bench_matrix(A, BenchRequest(**request), name=name, progress=progress)
    timed = any(record.ok for record in records)
    del A  # and what it keeps on a GPU
    release_memory()
    return {
        "records": [record.to_dict() for record in records],
        "verdict": asdict(verdict(records)),
        "device": device_facts(request.get("device", "cpu")) if timed else {},
    }
