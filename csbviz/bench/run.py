"""Run a set of kernels over one matrix: verify each, time each, compare all from one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from csbviz.bench.contender import FAILURES, Case, Contender, Variants, note_failure
from csbviz.bench.gpu_timing import clocks, time_cuda
from csbviz.bench.names import class_rank
from csbviz.bench.noise import UNSTEADY, OthersLoad, spread
from csbviz.bench.record import OK, Record, add_speedups
from csbviz.bench.timing import MODES, time_cpu
from csbviz.errors import OptionError
from csbviz.ops.registry import OPS, SPMM_OPS, SPMV_OPS, Kernel, get_kernel, kernels
from csbviz.ops.threads import check_threads

__all__ = ["ALL_OPS", "LAYER", "LESS_EXACT", "BenchRequest", "bench_matrix"]

LAYER = "layer"
"""The operation that is a whole layer, forward and backward, in place of one product."""

ALL_OPS = (*OPS, LAYER)
"""What can be measured."""

LESS_EXACT = ("float16", "bfloat16")
"""Dtypes whose dense products are timed beside those of a float32 matrix on a GPU, in classes of their own:
whoever asks whether sparse is faster wants to know what giving up digits would gain."""

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
        Subset of `ALL_OPS`.
    ns : sequence of int
        Numbers of columns of B, or of rows of activations that go through a layer; a product with a vector
        has one.
    device : str
        "cpu" or "cuda".
    kernels : sequence of str or None
        Names of kernels; None takes every kernel of the device. A layer has contenders of its own.
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
            if op not in ALL_OPS:
                raise OptionError(f"There is no operation {op!r}; known are {', '.join(ALL_OPS)}.")
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

    @property
    def cases(self) -> list[tuple[str, int]]:
        """Every operation with its numbers of columns."""
        return [(op, n) for op in self.ops for n in ((1,) if op in SPMV_OPS else self.ns)]


def bench_matrix(
    A, request: BenchRequest | None = None, *, name: str = "matrix", progress: Callable | None = None
) -> list[Record]:
    """Verify and time kernels on one matrix.

    Parameters
    ----------
    A : CSBMatrix
        Not a transposed view; its dtype is the dtype of every contender, but for dense products of less exact
        classes.
    request : BenchRequest, optional
        What to measure.
    name : str
        Name of the matrix in the records.
    progress : callable, optional
        ``progress(fraction, message)`` before each step.

    Returns
    -------
    records : list of Record
        One for each operation, N, kernel and balance strategy, the most exact class of a case first. A kernel
        that cannot run here, fails or is not exact enough gets a record that says so and carries no time.

    Raises
    ------
    OptionError
        If the request is not valid.
    JobError
        If a kernel fails in a way that leaves this process without the GPU.
    """
    request = (request or BenchRequest()).checked()
    report = progress or (lambda fraction, message: None)
    matrices, cases = Variants(A), request.cases
    records: list[Record] = []
    for index, (op, n) in enumerate(cases):

        def step(part: float, message: str, index=index) -> None:
            report((index + part) / len(cases), message)

        if op == LAYER:
            records += _bench_layer(A, request, name, n, step)
        else:
            records += _bench_case(Case(matrices, name, op, n, request.seed), request, step)
    report(1.0, "Done")
    return records


def _bench_layer(A, request: BenchRequest, name: str, n: int, step: Callable) -> list[Record]:
    from csbviz.bench.layer import bench_layer

    return bench_layer(
        A.to_scipy(),
        name=name,
        tokens=(n,),
        device=request.device,
        threads=request.threads,
        min_time=request.min_time,
        seed=request.seed,
        dtype=A.dtype,
        block_shape=tuple(A.block_shape),
        order=A.order,
        progress=step,
    )


def _bench_case(case: Case, request: BenchRequest, step: Callable) -> list[Record]:
    threads = check_threads(request.threads)
    own = case.matrices.own.dtype
    contenders = [
        Contender.of(case, kernel, dtype, balance, threads, request.mode)
        for kernel, dtype in _selected(request, case.op, own)
        for balance in (request.balances if kernel.format == "csb" else ("auto",))
    ]
    contenders.sort(key=lambda contender: class_rank(contender.record.precision))
    label = f"{case.op}, N = {case.n}"
    for index, contender in enumerate(contenders):
        step(0.4 * index / len(contenders), f"{label}: verifying {contender.record.title}")
        contender.prepare_and_verify(case, threads)
    ready = [contender for contender in contenders if contender.record.status == OK]
    load = OthersLoad()
    _time_all(ready, request, label, threads, step)
    share = load.share() if request.device == "cpu" else None
    for contender in ready:
        contender.record.others_load = share
    add_speedups([contender.record for contender in contenders])
    return [contender.record for contender in contenders]


def _selected(request: BenchRequest, op: str, dtype: str) -> list[tuple[Kernel, str]]:
    """Kernels with the dtype that each multiplies."""
    if request.kernels is not None:
        chosen = [kernel for kernel in map(get_kernel, request.kernels) if op in kernel.ops]
        return [(kernel, _dtype_for(kernel, dtype)) for kernel in chosen]
    found = [(kernel, dtype) for kernel in kernels(device=request.device, op=op, dtype=dtype)]
    if dtype == "float32" and request.device == "cuda":
        found += [
            (kernel, less)
            for less in LESS_EXACT
            for kernel in kernels(device="cuda", op=op, dtype=less)
            if kernel.format == "dense"
        ]
    return found


def _dtype_for(kernel: Kernel, dtype: str) -> str:
    """The matrix's own dtype, or the less exact one of a dense kernel that is shown beside it."""
    if dtype == "float32" and dtype not in kernel.dtypes and kernel.format == "dense":
        return next((less for less in LESS_EXACT if less in kernel.dtypes), dtype)
    return dtype


def _time_all(
    ready: list[Contender], request: BenchRequest, label: str, threads: int, step: Callable
) -> None:
    rounds = 1 if request.mode == "cold" else ROUNDS
    samples: dict[int, list] = {id(contender): [] for contender in ready}

    def take_turns(chosen: list[Contender], begin: float, end: float) -> None:
        for index, contender in enumerate(chosen):
            part = begin + (end - begin) * index / len(chosen)
            step(part, f"{label}: timing {contender.record.title}")
            try:
                samples[id(contender)].append(
                    _time_one(contender, request, threads, request.min_time / rounds)
                )
            except FAILURES as error:
                _clear_times(contender.record)
                note_failure(contender.record, error)
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


def _time_one(contender: Contender, request: BenchRequest, threads: int, min_time: float) -> np.ndarray:
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
