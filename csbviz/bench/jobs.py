"""Functions that the measurement service runs in its worker: plain arguments in, plain dicts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from csbviz.bench.gpu_timing import release_memory
from csbviz.bench.recordings import device_facts
from csbviz.bench.run import BenchRequest, bench_matrix
from csbviz.bench.verdict import verdict
from csbviz.ops.dispatch import prepare_kernel
from csbviz.ops.registry import availability, kernels

__all__ = ["build", "run_bench", "run_tune"]


def build(
    csr,
    device: str,
    block_shape: tuple[int, int] | None = None,
    order: str = "row",
    dtype: str = "float32",
):
    """The CSB matrix of a layer, in blocks that suit the device if none are asked for.

    Parameters
    ----------
    csr : scipy.sparse.csr_matrix
        M x K.
    device : str
        "cpu" or "cuda".
    block_shape : (int, int), optional
    order : str
        Order of the entries inside a block.
    dtype : str
        Type of the values; SciPy computes with no half precision, so those are rounded last.

    Returns
    -------
    CSBMatrix
    """
    from csbviz.formats import CSBMatrix, choose_block_shape

    shape = block_shape or choose_block_shape(csr.shape, csr.nnz, device=device)
    if dtype in ("float16", "bfloat16"):
        return CSBMatrix.from_scipy(csr, block_shape=shape, order=order).astype(dtype)
    return CSBMatrix.from_scipy(csr.astype(dtype), block_shape=shape, order=order)


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
    progress(0.0, "Building the CSB matrix")
    A = build(csr, request.get("device", "cpu"), block_shape, order, dtype)
    records = bench_matrix(A, BenchRequest(**request), name=name, progress=progress)
    timed = any(record.ok for record in records)
    del A  # and what it keeps on a GPU
    release_memory()
    return {
        "records": [record.to_dict() for record in records],
        "verdict": asdict(verdict(records)),
        "device": device_facts(request.get("device", "cpu")) if timed else {},
    }


def run_tune(
    csr,
    request: dict,
    progress: Callable[[float, str], None],
    *,
    block_shape: tuple[int, int] | None = None,
    order: str = "row",
    dtype: str = "float32",
) -> dict:
    """Measure every variant of the CSB kernels, and find among them what the library takes by itself.

    Parameters
    ----------
    csr, progress, block_shape, order, dtype
        As in `run_bench`.
    request : dict
        Keyword arguments of `autotune`: op, n, device, budget_s, threads.

    Returns
    -------
    dict
        "variants": list of dicts, the fastest first; "automatic": place in it of the library's own choice, or
        None where that was not among them; "device": what is known of the device.
    """
    from csbviz.bench.autotune import autotune

    progress(0.0, "Building the CSB matrix")
    A = build(csr, request["device"], block_shape, order, dtype)
    found = autotune(A, **request, use=False, progress=progress)
    place = _place_of_choice(A, request, found)
    del A
    release_memory()
    return {
        "variants": [variant.to_dict() for variant in found],
        "automatic": place,
        "device": device_facts(request["device"]),
    }


def _place_of_choice(A, request: dict, found: list) -> int | None:
    """Which of the variants ``A @ B`` would run."""
    from csbviz.ops.choice import AUTOMATIC

    op, n, device = request["op"], request["n"], request["device"]
    ready = [k for k in kernels(device=device, op=op, dtype=A.dtype) if k.format == "csb"]
    ready = [k for k in ready if availability(k).ok and k.accepts(A, op, n) is None]
    if not ready:
        return None
    name, used = ready[0].name, None
    if name in AUTOMATIC:
        params = dict(prepare_kernel(A, ready[0], op, n, threads=1).params)
        name = params.pop("kernel", name)
        params.pop("choice", None)
        used = params
    for place, variant in enumerate(found):
        if variant.kernel == name and (variant.used == used if used is not None else not variant.params):
            return place
    return None
