"""One kernel of a run: made ready, its result verified, and the record that is filled meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.bench.record import Record
from csbviz.bench.verify import ERROR_BOUNDS, Reference, make_reference, relative_error, to_float, unwritten
from csbviz.errors import CSBVizError, JobError, MatrixError, UnavailableError
from csbviz.ops.devices import device_name, gpu_fault, versions
from csbviz.ops.dispatch import prepare_kernel
from csbviz.ops.registry import Kernel, availability
from csbviz.ops.threads import use_threads

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["FAILURES", "Case", "Contender", "Variants", "note_failure"]

FAILURES = (CSBVizError, MemoryError, RuntimeError, ImportError, OSError)
"""What a kernel may raise where a machine is too small for it, or lacks a library that it loads late."""


class Variants:
    """A matrix in the dtypes of its contenders: each conversion is made once, when it is first asked for."""

    def __init__(self, A: CSBMatrix):
        self.own = A
        self._made = {A.dtype: A}

    def get(self, dtype: str) -> CSBMatrix:
        """The matrix with values of that dtype.

        Raises
        ------
        MatrixError
            If a value does not fit the dtype.
        """
        if dtype not in self._made:
            self._made[dtype] = self.own.astype(dtype)
        return self._made[dtype]


class Case:
    """One operation and number of columns, with the reference of each dtype."""

    def __init__(self, matrices: Variants, name: str, op: str, n: int, seed: int):
        self.matrices, self.name, self.op, self.n, self._seed = matrices, name, op, n, seed
        self._references: dict[str, Reference] = {}

    def reference(self, dtype: str) -> Reference:
        """B and the float64 product of the matrix in that dtype."""
        if dtype not in self._references:
            csr = self.matrices.get(dtype).to_scipy()
            self._references[dtype] = make_reference(csr, self.op, self.n, dtype, self._seed)
        return self._references[dtype]


@dataclass
class Contender:
    """A kernel on a case.

    Attributes
    ----------
    record : Record
        What is known of it so far.
    dtype : str
        Type of the values that it multiplies; another than the matrix's own for dense products that are
        shown beside it.
    run, B, out
        The product and its operands, once it was prepared.
    """

    record: Record
    kernel: Kernel
    dtype: str
    run: Callable | None = None
    B: Any = None
    out: Any = None

    @classmethod
    def of(cls, case: Case, kernel: Kernel, dtype: str, balance: str, threads: int, mode: str) -> Contender:
        """A contender with a record that has no measurement yet."""
        A = case.matrices.own
        csb = kernel.format == "csb"
        record = Record(
            kernel=kernel.name,
            title=kernel.title,
            format=kernel.format,
            matrix=case.name,
            op=case.op,
            device=kernel.device,
            device_name=device_name(kernel.device),
            dtype=dtype,
            precision=kernel.precision.get(dtype, ""),
            m=A.shape[0],
            k=A.shape[1],
            n=case.n,
            nnz=A.nnz,
            sparsity=A.sparsity,
            block_shape=tuple(A.block_shape),
            balance=balance if csb else None,
            params={},
            threads=None if kernel.device == "cuda" else (threads if kernel.threads == "all" else 1),
            mode=mode,
            copies=kernel.copies,
            deterministic=kernel.deterministic,
            versions=versions(),
            when=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return cls(record, kernel, dtype)

    def prepare_and_verify(self, case: Case, threads: int) -> None:
        """Make the kernel ready, multiply once and compare; what goes wrong is kept in the record.

        Raises
        ------
        JobError
            If the kernel took the GPU from this process.
        """
        record, kernel = self.record, self.kernel
        state = availability(kernel)
        if not state.ok or self.dtype not in kernel.dtypes:
            record.status = "unavailable"
            record.message = state.reason or f"It does not multiply {self.dtype} values."
            return
        try:
            A, reference = case.matrices.get(self.dtype), case.reference(self.dtype)
            start = time.perf_counter()
            with use_threads(threads):
                prepared = prepare_kernel(
                    A, kernel, case.op, case.n, threads=threads, balance=record.balance or "auto"
                )
            record.prepare_us = (time.perf_counter() - start) * 1e6
            self.run = prepared.run
            self.B, self.out = _operands(kernel.device, reference, self.dtype)
            with use_threads(threads):
                result = _to_host(prepared.run(self.B, self.out))
        except (UnavailableError, MatrixError) as error:  # no room for the matrix, or values out of range
            record.status, record.message = "unavailable", " ".join(str(error).split())
            return
        except FAILURES as error:
            note_failure(record, error)
            return
        record.bytes = prepared.bytes
        record.traffic = prepared.bytes + reference.B.nbytes + result.nbytes
        record.params = dict(prepared.params)
        record.notes = prepared.notes
        if prepared.plan is not None:
            record.balance = prepared.plan.strategy
            # Where CTAs go to whoever is free, no worker's share is known beforehand.
            record.imbalance = float(prepared.plan.imbalance) if prepared.plan.static else None
        elif record.balance is not None:
            record.balance = "auto"  # a kernel that deals out its work in its own way, whatever was asked for
        _judge(record, relative_error(to_float(result, self.dtype), reference.C))


def _judge(record: Record, error: float) -> None:
    """Keep the error, and call the record wrong where it is too large for the precision class."""
    bound = ERROR_BOUNDS[record.precision]
    record.rel_error = error if np.isfinite(error) else None
    if not error <= bound:
        record.status = "wrong"
        record.message = (
            f"The result is off by {error:.1e} where {bound:.0e} is the bound of "
            f"{record.precision}, so no time is stated."
        )


def note_failure(record: Record, error: Exception) -> None:
    """Keep a kernel's failure in its record.

    Raises
    ------
    JobError
        If the kernel took the GPU along: no other kernel can run in this process then.
    """
    fault = gpu_fault() if record.device == "cuda" else None
    if fault:
        raise JobError(
            f"{record.title}, {record.op}, N = {record.n}: the kernel failed and took the GPU from its "
            f"process ({fault}), so this run has no results."
        ) from error
    kind = "" if isinstance(error, CSBVizError) else f"{type(error).__name__}: "
    record.status, record.message = "failed", kind + " ".join(str(error).split())


def _operands(device: str, reference: Reference, dtype: str):
    """B, and an output in which every element is still to be written."""
    out = unwritten(reference.C.shape, dtype)
    if device == "cuda":
        import cupy

        return cupy.asarray(reference.B), cupy.asarray(out)
    return reference.B, out


def _to_host(array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()
