"""One case of the GPU benchmark: a matrix, an operation and N; each contender is verified, then timed."""

from __future__ import annotations

import time

import numpy as np

from csbviz.bench.gpu_timing import SAMPLE_US, time_cuda
from csbviz.bench.verify import ERROR_BOUNDS
from csbviz.errors import CSBVizError, OptionError
from csbviz.formats import CSBMatrix
from csbviz.ops.devices import gpu_fault
from csbviz.ops.registry import Kernel, availability, kernels

__all__ = ["Case", "GpuLost", "contenders", "random_operand"]

_FAILURES = (CSBVizError, MemoryError, RuntimeError, ImportError, OSError, ValueError, TypeError)


class GpuLost(Exception):
    """A kernel took the GPU from this process; nothing more can be measured in it."""


def contenders(op: str, dtype: str, names: list[str] | None = None) -> list[Kernel]:
    """Kernels of the registry that compute the operation on such values here, or those named."""
    found = kernels(device="cuda", op=op, dtype=dtype)
    return [k for k in found if availability(k).ok and (names is None or k.name in names)]


def random_operand(rows: int, n: int, dtype: str, seed: int):
    """Standard normals on the device as a kernel takes them, and the same in float64."""
    import cupy

    exact = cupy.random.RandomState(seed).standard_normal((rows, n)).astype(cupy.float32)
    if dtype == "bfloat16":
        B = bfloat16_bits(exact)
        return B, widened(B)
    B = exact.astype(dtype)
    return B, B.astype(cupy.float64)


def bfloat16_bits(array):
    """The bits of float32 values rounded to bfloat16, ties to even, as uint16."""
    import cupy

    bits = array.view(cupy.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(cupy.uint16)


def widened(array):
    """Values in float64 of an array as a kernel writes it."""
    import cupy

    if array.dtype == cupy.uint16:  # the bits of bfloat16: the upper half of a float32
        return (array.astype(cupy.uint32) << 16).view(cupy.float32).astype(cupy.float64)
    return array.astype(cupy.float64)


class Case:
    """One matrix, operation and N on the device, with a float64 result to compare with.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    dense64 : cupy.ndarray of float64, M x K
        Its values.
    op : str
        One of `csbviz.ops.registry.OPS`.
    n : int
        Columns of B.
    """

    def __init__(self, A: CSBMatrix, dense64, op: str, n: int):
        import cupy

        self.A, self.op, self.n = A, op, n
        left = dense64.T if op.startswith("A.T") else dense64
        self.B, exact = random_operand(left.shape[1], n, A.dtype, seed=n)
        self.reference = left @ exact
        self.norm = float(cupy.linalg.norm(self.reference))
        self.out = cupy.empty(self.reference.shape, self.B.dtype)

    def error(self, run) -> float:
        """Relative error of a run into an output full of NaN."""
        import cupy

        self.out.view(cupy.uint8).fill(0xFF)  # NaN in every format
        run(self.B, self.out)
        error = float(cupy.linalg.norm(widened(self.out) - self.reference))
        return error / self.norm if self.norm else error

    def measure(
        self,
        kernel: Kernel,
        mode: str,
        min_time: float,
        *,
        balance: str = "auto",
        seen: set | None = None,
        sample_us: float = SAMPLE_US,
        **params,
    ) -> dict:
        """Verify, then time; a record for the JSON. Refusals and failures are records too.

        With `seen`, a variant whose parameters turn out as those of one before is "repeated", not measured.

        Raises
        ------
        GpuLost
            If the kernel broke the process's use of the GPU.
        """
        record = {
            "kernel": kernel.name,
            "op": self.op,
            "n": self.n,
            "dtype": self.A.dtype,
            "precision": kernel.precision[self.A.dtype],
        }
        reason = kernel.accepts(self.A, self.op, self.n)
        if reason:
            return record | {"status": "refused", "message": reason}
        try:
            return record | self._verify_and_time(kernel, mode, (min_time, sample_us), balance, params, seen)
        except OptionError as error:
            if seen is not None:  # a combination that the kernel does not offer
                return record | {"status": "repeated"}
            return record | {"status": "failed", "message": str(error), "params": params}
        except _FAILURES as error:
            fault = gpu_fault()
            if fault:
                raise GpuLost(f"{kernel.name} {params} {self.op} N={self.n}: {fault}") from error
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
            return record | {"status": "failed", "message": message, "params": params}

    def _verify_and_time(self, kernel: Kernel, mode, timing, balance, params, seen) -> dict:
        start = time.perf_counter()
        prepared = kernel.prepare(self.A, self.op, self.n, threads=1, balance=balance, **params)
        seconds = time.perf_counter() - start
        record = {
            "balance": prepared.plan.strategy if prepared.plan else None,
            "params": prepared.params,
            "bytes": prepared.bytes,
            "prepare_us": round(seconds * 1e6),
        }
        if seen is not None:
            key = kernel.name, record["balance"], str(sorted(prepared.params.items()))
            if key in seen:
                return {"status": "repeated"}
            seen.add(key)
        error = self.error(prepared.run)
        if not error <= ERROR_BOUNDS[kernel.precision[self.A.dtype]]:
            return record | {"status": "wrong", "rel_error": str(error)}
        samples = time_cuda(
            prepared.run, self.B, self.out, mode=mode, min_time=timing[0], sample_us=timing[1]
        )
        p25, median, p75 = (round(float(p), 3) for p in np.percentile(samples, (25, 50, 75)))
        return record | {
            "status": "ok",
            "rel_error": float(f"{error:.3g}"),
            "median_us": median,
            "p25_us": p25,
            "p75_us": p75,
            "samples": len(samples),
        }
