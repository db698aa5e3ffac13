"""What a product costs the Python program that asks for it: time of a call that does not wait for the GPU."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator

from benchmarks.in_turn import in_turn

__all__ = ["time_calls"]

_CALLS, _BATCHES = 100, 5
"""Calls of a batch, few against the launches that a stream takes before it makes the caller wait; batches of
a round."""


def _sample(call: Callable[[], object]) -> float:
    """Microseconds of the host for a call, the mean of a batch; the device is idle when a batch begins."""
    import cupy

    cupy.cuda.Device().synchronize()
    start = time.perf_counter()
    for _ in range(_CALLS):
        call()
    return (time.perf_counter() - start) / _CALLS * 1e6


def time_calls(A, n: int) -> Iterator[dict]:
    """Records of the ways to call a product with a matrix, and of PyTorch's products beside them.

    Parameters
    ----------
    A : CSBMatrix
        float32.
    n : int
        Columns of B.
    """
    import torch

    import csbviz

    B = torch.randn(A.shape[1], n, device="cuda")
    out = torch.empty(A.shape[0], n, device="cuda")
    csbviz.spmm(A, B, out=out)  # plans and uploads
    dense = torch.from_numpy(A.to_dense()).cuda()
    csr = dense.to_sparse_csr()
    calls = {
        "A @ B": lambda: A @ B,
        "spmm with out": lambda: csbviz.spmm(A, B, out=out),
        "torch.mm, dense": lambda: torch.mm(dense, B),
        "torch.mm, CSR": lambda: torch.mm(csr, B),
    }
    addresses = torch.cuda.current_stream().cuda_stream, B.data_ptr(), out.data_ptr()
    for prepared in (A.cache.get("plans") or {}).values():
        if prepared.launch is not None:
            calls["plan, launched by address"] = functools.partial(prepared.launch, *addresses)
    for name, (p25, median, p75) in in_turn(calls, _sample, _BATCHES).items():
        yield {
            "kernel": "torch" if name.startswith("torch") else "csb_cuda",
            "op": "A@B",
            "n": n,
            "dtype": A.dtype,
            "mode": f"call: {name}",
            "status": "ok",
            "median_us": median,
            "p25_us": p25,
            "p75_us": p75,
        }
