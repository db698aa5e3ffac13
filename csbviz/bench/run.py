"""Run a set of kernels over one matrix: verify each, time each, compare all from one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from csbviz.bench.gpu_timing import clocks, time_cuda
from csbviz.bench.noise import UNSTEADY, OthersLoad, spread
from csbviz.bench.record import OK, Record, by_case
from csbviz.bench.timing import MODES, time_cpu
from csbviz.bench.verify import ERROR_BOUNDS, Reference, make_reference, relative_error
from csbviz.errors import CSBVizError, JobError, OptionError
from csbviz.ops.devices import device_name, gpu_fault, versions
from csbviz.ops.dispatch import prepare_kernel
from csbviz.ops.registry import OPS, SPMM_OPS, SPMV_OPS, Kernel, availability, get_kernel, kernels
from csbviz.ops.threads import check_threads, use_threads

__all__ = ["BenchRequest", "bench_matrix"]

_FAILURES = (CSBVizError, MemoryError, RuntimeError, ImportError, OSError)
"""What a kernel may raise where a machine is too small for it, or lacks a library that it loads late."""

MAX_COLUMNS = 1 << 16
ROUNDS = 3
"""Contenders are timed in turn this many times, so that a drift of the machine's speed meets all of them."""

EXTRA_ROUNDS = 4
"""Most further rounds for contenders whose times are unsteady. A thread that the system sets aside a moment
can make a product take fifty times as long; such moments should be a minority of the samples, which all
count."""

_PAUSE_SECONDS = 0.25
"""Before an extra round, so that what disturbed the last one may pass."""


@dataclass(frozen=True)
class BenchRequest:
    """What to measure on one matrix.

    Attributes
    ----------
    ops : sequence of str
        Subset of `csbviz.ops.OPS`.
    ns : sequence of int
        Numbers of columns of B.
    device : str
        "cpu" or "cuda".
    kernels : sequence of str or None
        Names of kernels; None takes every kernel of the device.
    balances : sequence of str
        Balance strategies that each CSB kernel is measured with.
    threads : int or None
        Threads of every CPU contender; None takes all processors.
    mode : str
        "warm" or "cold".
    min_time : float
        Seconds of timing a kernel.
    seed : int
        Seed of B.
    """

    ops: Sequence[str] = SPMM_OPS
    ns: Sequence[int] = (128,)
    device: str = "cpu"
    kernels: Sequence[str] | None = None
    balances: Sequence[str] = ("auto",)
    threads: int | None = None
    mode: str = "warm"
    min_time: float = 0.2
    seed: int = 0

    def checked(self) -> BenchRequest:
        """The same request, or an error in one sentence.

        Raises
        ------
        OptionError
            If an operation, N, mode, device, balance strategy or kernel name is not known here.
        """
        from csbviz.balance import STRATEGIES

        for op in self.ops:
            if op not in OPS:
                raise OptionError(f"There is no operation {op!r}; known are {', '.join(OPS)}.")
        for n in self.ns:
            if not 1 <= n <= MAX_COLUMNS:
                raise OptionError(f"N must be between 1 and {MAX_COLUMNS}; {n} was asked for.")
        if self.mode not in MODES:
            raise OptionError(f"There is no mode {self.mode!r}; known are {', '.join(MODES)}.")
        if self.device not in ("cpu", "cuda"):
            raise OptionError(f"There is no device {self.device!r}; known are cpu, cuda.")
        for balance in self.balances:
            if balance != "auto" and balance not in STRATEGIES:
                raise OptionError(
                    f"There is no balance strategy {balance!r}; known are auto, {', '.join(STRATEGIES)}."
                )
        for name in self.kernels or ():
            if get_kernel(name).device != self.device:
                raise OptionError(f"Kernel {name} does not run on {self.device}.")
        check_threads(self.threads)
        return self


@dataclass
class _Contender:
    record: Record
    kernel: Kernel
    run: Callable | None = None
    B: object = None
    out: object = None


def bench_matrix(
    A, request: BenchRequest | None = None, *, name: str = "matrix", progress: Callable | None = None
) -> list[Record]:
    """Verify and time kernels on one matrix.

    Parameters
    ----------
    A : CSBMatrix
        Not a transposed view; its dtype is the dtype of every contender.
    request : BenchRequest, optional
        What to measure.
    name : str
        Name of the matrix in the records.
    progress : callable, optional
        ``progress(fraction, message)`` before each step.

    Returns
    -------
    records : list of Record
        One for each operation, N, kernel and balance strategy. A kernel that cannot run here, fails or is
        not exact enough gets a record that says so and carries no time.

    Raises
    ------
    OptionError
        If the request is not valid.
    JobError
        If a kernel fails in a way that leaves this process without the GPU.
    """
    request = (request or BenchRequest()).checked()
    report = progress or (lambda fraction, message: None)
    cases = [(op, n) for op in request.ops for n in ((1,) if op in SPMV_OPS else request.ns)]
    records: list[Record] = []
    for index, (op, n) in enumerate(cases):

        def step(part: float, message: str, index=index) -> None:
            report((index + part) / len(cases), message)

        records += _bench_case(A, request, name, op, n, step)
    report(1.0, "Done")
    return records


def _bench_case(A, request: BenchRequest, name: str, op: str, n: int, step: Callable) -> list[Record]:
    threads = check_threads(request.threads)
    reference = make_reference(A.to_scipy(), op, n, A.dtype, request.seed)
    contenders = []
    for kernel in _selected(request, op, A.dtype):
        balances = request.balances if kernel.format == "csb" else ("auto",)
        for balance in balances:
            contenders.append(_blank(A, request, name, op, n, kernel, balance, threads))
    for index, contender in enumerate(contenders):
        step(0.4 * index / len(contenders), f"{op}, N = {n}: verifying {contender.record.title}")
        _prepare_and_verify(A, op, n, contender, reference, threads)
    ready = [contender for contender in contenders if contender.record.status == OK]
    load = OthersLoad()
    _time_all(ready, request, op, n, threads, step)
    share = load.share() if request.device == "cpu" else None
    for contender in ready:
        contender.record.others_load = share
    _add_speedups([contender.record for contender in contenders])
    return [contender.record for contender in contenders]


def _selected(request: BenchRequest, op: str, dtype: str) -> list[Kernel]:
    if request.kernels is None:
        return list(kernels(device=request.device, op=op, dtype=dtype))
    return [kernel for kernel in map(get_kernel, request.kernels) if op in kernel.ops]


def _blank(A, request, name, op, n, kernel: Kernel, balance: str, threads: int) -> _Contender:
    record = Record(
        kernel=kernel.name,
        title=kernel.title,
        format=kernel.format,
        matrix=name,
        op=op,
        device=kernel.device,
        device_name=device_name(kernel.device),
        dtype=A.dtype,
        precision=kernel.precision.get(A.dtype, ""),
        m=A.shape[0],
        k=A.shape[1],
        n=n,
        nnz=A.nnz,
        sparsity=A.sparsity,
        block_shape=tuple(A.block_shape),
        balance=balance if kernel.format == "csb" else None,
        params={},
        threads=None if kernel.device == "cuda" else (threads if kernel.threads == "all" else 1),
        mode=request.mode,
        copies=kernel.copies,
        deterministic=kernel.deterministic,
        versions=versions(),
        when=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return _Contender(record, kernel)


def _prepare_and_verify(A, op, n, contender: _Contender, reference: Reference, threads: int) -> None:
    record, kernel = contender.record, contender.kernel
    state = availability(kernel)
    if not state.ok or A.dtype not in kernel.dtypes:
        record.status = "unavailable"
        record.message = state.reason or f"It does not multiply {A.dtype} values."
        return
    try:
        start = time.perf_counter()
        with use_threads(threads):
            prepared = prepare_kernel(A, kernel, op, n, threads=threads, balance=record.balance or "auto")
        record.prepare_us = (time.perf_counter() - start) * 1e6
        contender.run = prepared.run
        contender.B, contender.out = _operands(kernel.device, reference)
        with use_threads(threads):
            result = _to_host(prepared.run(contender.B, contender.out))
    except _FAILURES as error:
        _note_failure(record, error)
        return
    record.bytes = prepared.bytes
    record.traffic = prepared.bytes + reference.B.nbytes + result.nbytes
    record.params = dict(prepared.params)
    record.notes = prepared.notes
    if prepared.plan is not None:
        record.balance = prepared.plan.strategy
        # Where CTAs go to whoever is free, no worker's share is known beforehand.
        record.imbalance = float(prepared.plan.imbalance) if prepared.plan.static else None
    record.rel_error = relative_error(result, reference.C)
    bound = ERROR_BOUNDS[record.precision]
    if not record.rel_error <= bound:
        record.status = "wrong"
        record.message = (
            f"The result is off by {record.rel_error:.1e} where {bound:.0e} is the bound of "
            f"{record.precision}, so no time is stated."
        )
        record.rel_error = record.rel_error if np.isfinite(record.rel_error) else None


def _note_failure(record: Record, error: Exception) -> None:
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


def _operands(device: str, reference: Reference):
    """B and an output full of NaN, so that an element that a kernel leaves unwritten cannot pass."""
    if device == "cuda":
        import cupy

        return cupy.asarray(reference.B), cupy.full(reference.C.shape, cupy.nan, reference.B.dtype)
    return reference.B, np.full(reference.C.shape, np.nan, reference.B.dtype)


def _to_host(array) -> np.ndarray:
    return array if isinstance(array, np.ndarray) else array.get()


def _time_all(
    ready: list[_Contender], request: BenchRequest, op: str, n: int, threads: int, step: Callable
) -> None:
    rounds = 1 if request.mode == "cold" else ROUNDS
    samples: dict[int, list] = {id(contender): [] for contender in ready}

    def take_turns(chosen: list[_Contender], begin: float, end: float) -> None:
        for index, contender in enumerate(chosen):
            part = begin + (end - begin) * index / len(chosen)
            step(part, f"{op}, N = {n}: timing {contender.record.title}")
            try:
                samples[id(contender)].append(
                    _time_one(contender, request, threads, request.min_time / rounds)
                )
            except _FAILURES as error:
                _clear_times(contender.record)
                _note_failure(contender.record, error)
            else:
                _fill_times(contender.record, np.concatenate(samples[id(contender)]))

    for turn in range(rounds):
        take_turns(ready, 0.4 + 0.5 * turn / rounds, 0.4 + 0.5 * (turn + 1) / rounds)
        ready = [contender for contender in ready if contender.record.status == OK]
    for turn in range(EXTRA_ROUNDS):
        again = [contender for contender in ready if spread(contender.record) > UNSTEADY]
        if not again or request.mode == "cold":
            break
        time.sleep(_PAUSE_SECONDS)
        take_turns(again, 0.9 + 0.1 * turn / EXTRA_ROUNDS, 0.9 + 0.1 * (turn + 1) / EXTRA_ROUNDS)
        ready = [contender for contender in ready if contender.record.status == OK]
    speed = clocks() if ready and request.device == "cuda" else {}
    for contender in ready:
        contender.record.clocks = speed


def _time_one(contender: _Contender, request: BenchRequest, threads: int, min_time: float) -> np.ndarray:
    if contender.kernel.device == "cuda":
        return time_cuda(contender.run, contender.B, contender.out, mode=request.mode, min_time=min_time)
    return time_cpu(
        contender.run, contender.B, contender.out, mode=request.mode, threads=threads, min_time=min_time
    )


def _clear_times(record: Record) -> None:
    record.median_us = record.p25_us = record.p75_us = record.tflops = None
    record.samples = []


def _fill_times(record: Record, samples: np.ndarray) -> None:
    p25, median, p75 = np.percentile(samples, (25, 50, 75))
    record.median_us, record.p25_us, record.p75_us = float(median), float(p25), float(p75)
    record.samples = [round(float(value), 3) for value in samples]
    record.tflops = 2.0 * record.nnz * record.n / (record.median_us * 1e6) if record.median_us else None


def _add_speedups(records: list[Record]) -> None:
    """Ratios within one case and one precision class: best one-copy CSR and best dense over each record."""
    for group in by_case([record for record in records if record.ok]).values():
        for record in group:
            peers = [peer for peer in group if peer.precision == record.precision]
            csr = [peer.median_us for peer in peers if peer.format == "csr" and peer.copies == 1]
            dense = [peer.median_us for peer in peers if peer.format == "dense"]
            record.speedup_vs_csr = min(csr) / record.median_us if csr else None
            record.speedup_vs_dense = min(dense) / record.median_us if dense else None
