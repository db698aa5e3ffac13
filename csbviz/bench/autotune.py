"""`autotune`: measure every variant of every CSB kernel on one matrix, and use the fastest from then on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.bench.gpu_timing import time_cuda
from csbviz.bench.timing import time_cpu
from csbviz.bench.verify import ERROR_BOUNDS, make_reference, relative_error, to_float, unwritten
from csbviz.errors import CSBVizError, JobError, OptionError, UnavailableError
from csbviz.ops.choice import AUTOMATIC
from csbviz.ops.devices import gpu_fault
from csbviz.ops.registry import OPS, Kernel, Prepared, availability, get_kernel, kernels
from csbviz.ops.threads import check_threads, use_threads
from csbviz.ops.tuned import remember

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["Variant", "autotune", "variants"]

_FAILURES = (CSBVizError, MemoryError, RuntimeError, ImportError, OSError)
_FIRST_SECONDS, _SECOND_SECONDS = 0.004, 0.03
"""Timing of a variant: a short one of all, a longer one of the few that are close to the fastest."""

_CLOSE = 1.08


@dataclass
class Variant:
    """A kernel with one setting of its parameters.

    Attributes
    ----------
    kernel : str
        Its name.
    balance : str or None
        The strategy that its plan came from.
    params : dict
        What was asked for; `used` is what the kernel made of it.
    status : str
        "ok", "wrong" (not exact enough, so not timed) or "failed".
    median_us : float or None
        Microseconds a product.
    rel_error : float or None
        Against a float64 product.
    message : str
        One sentence when the status is not "ok".
    """

    kernel: str
    balance: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)
    status: str = "ok"
    median_us: float | None = None
    rel_error: float | None = None
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """A dict that JSON can hold."""
        return asdict(self)


def variants(kernel: Kernel, A: CSBMatrix, op: str, n: int) -> Iterator[dict[str, Any]]:
    """Settings of a kernel's tunable parameters that are worth trying for a product.

    Parameters
    ----------
    kernel : Kernel
        An entry of the registry.
    A : CSBMatrix
        The stored matrix.
    op : str
        One of `csbviz.ops.registry.OPS`.
    n : int
        Columns of B.

    Yields
    ------
    dict
        Keyword arguments of the kernel's `prepare`: what its `candidates` name, or else every combination
        of its tunables. The empty setting, which is the kernel's own choice, comes first.
    """
    yield {}
    if kernel.candidates is not None:
        yield from kernel.candidates(A, op, n)
        return
    names = list(kernel.tunables)
    if names:
        for values in itertools.product(*kernel.tunables.values()):
            yield dict(zip(names, values, strict=True))


def autotune(
    A: CSBMatrix,
    op: str = "A@B",
    n: int = 128,
    device: str = "cuda",
    *,
    budget_s: float = 30.0,
    kernels: Sequence[str] | None = None,
    use: bool = True,
    threads: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Variant]:
    """Verify and time every variant of the CSB kernels for one product.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix; a transposed view is tuned as what it is a view of, with the other operation.
    op : str
        One of `csbviz.ops.registry.OPS`.
    n : int
        Columns of B; 1 for a product with a vector.
    device : str
        "cuda" or "cpu".
    budget_s : float
        Seconds after which no further variant is begun; the kernels' own choices come first.
    kernels : sequence of str, optional
        Names of CSB kernels; by default all of the precision class that ``A @ B`` has for this dtype.
    use : bool
        Let later products of this matrix with this operation and N take the fastest variant.
    threads : int, optional
        Threads of CPU kernels; all processors by default.
    progress : callable, optional
        ``progress(fraction, message)`` before each variant.
    cancelled : callable, optional
        Asked before each variant; True ends the search with what was measured so far.

    Returns
    -------
    list of Variant
        The fastest first, then those that are wrong or failed. A setting that a kernel turns into one that
        was measured before is left out.

    Raises
    ------
    OptionError
        If the operation, N, the device or a kernel is unknown or does not fit.
    UnavailableError
        If no kernel can run here.
    JobError
        If a variant leaves this process without the GPU.
    """
    stored, op = A.stored, _for_stored(A, op)
    chosen = _chosen(stored, op, n, device, kernels)
    search = _Search(stored, op, n, device, check_threads(threads))
    todo = list(_in_turn({kernel.name: variants(kernel, stored, op, n) for kernel in chosen}))
    deadline = time.perf_counter() + budget_s
    for done, (name, params) in enumerate(todo):
        if (cancelled is not None and cancelled()) or time.perf_counter() > deadline:
            break
        if progress is not None:
            progress(0.95 * done / len(todo), f"{name} {_in_words(params)}".strip())
        search.measure(get_kernel(name), params)
    found = search.ranked()
    if use and found and found[0].status == "ok":
        best = found[0]
        remember(stored, op, n, device, best.kernel, best.params)
    if progress is not None:
        progress(1.0, "Done")
    return found


def _for_stored(A, op: str) -> str:
    if op not in OPS:
        raise OptionError(f"There is no operation {op!r}; known are {', '.join(OPS)}.")
    if not A.transposed:
        return op
    return op.replace("A.T", "A") if op.startswith("A.T") else op.replace("A", "A.T", 1)


def _chosen(A, op: str, n: int, device: str, names: Sequence[str] | None) -> list[Kernel]:
    """The kernels to try: those named, or those of the class that an ordinary product of this dtype has."""
    if device not in ("cpu", "cuda"):
        raise OptionError(f"There is no device {device!r}; known are cpu, cuda.")
    if n < 1:
        raise OptionError(f"N must be at least 1; {n} was asked for.")
    if op in ("A@x", "A.T@x") and n != 1:
        raise OptionError(f"A vector has one column; N = {n} was asked for.")
    if names is None:
        found = [k for k in kernels(device=device, op=op, dtype=A.dtype) if k.format == "csb"]
        found = [k for k in found if k.precision[A.dtype] in _CLASSES.get(A.dtype, ())]
    else:
        found = [get_kernel(name) for name in names]
        for kernel in found:
            if kernel.device != device or kernel.format != "csb":
                raise OptionError(f"Kernel {kernel.name} is no CSB kernel of {device}.")
            if op not in kernel.ops or A.dtype not in kernel.dtypes:
                raise OptionError(f"Kernel {kernel.name} does not compute {op} with {A.dtype} values.")
    found = [kernel for kernel in found if kernel.name not in AUTOMATIC]
    ready = [kernel for kernel in found if availability(kernel).ok and kernel.accepts(A, op, n) is None]
    if not ready:
        reasons = [availability(k).reason or k.accepts(A, op, n) for k in found]
        detail = reasons[0] if reasons else f"there is none for {A.dtype} values"
        raise UnavailableError(f"No CSB kernel on {device} can compute {op}: {detail}")
    return ready


_CLASSES = {"float64": ("fp64",), "float32": ("fp32",), "float16": ("fp16",), "bfloat16": ("bf16",)}


def _in_turn(settings: dict[str, Iterator]) -> Iterator[tuple[str, dict]]:
    """One setting of each kernel, then the next of each: a short budget sees every kernel."""
    waiting = dict(settings)
    while waiting:
        for name, iterator in list(waiting.items()):
            params = next(iterator, None)
            if params is None:
                del waiting[name]
            else:
                yield name, params


def _in_words(params: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())


class _Search:
    """The variants of one product that were measured so far."""

    def __init__(self, A, op: str, n: int, device: str, threads: int):
        self._A, self._op, self._n, self._device, self._threads = A, op, n, device, threads
        self._reference = make_reference(A.to_scipy(), op, n, A.dtype)
        self._seen: set = set()
        self._runs: dict[int, Callable] = {}
        self._found: list[Variant] = []
        self._B, self._blank = self._reference.B, unwritten(self._reference.C.shape, A.dtype)
        self._out = self._blank.copy()
        if device == "cuda":
            import cupy

            self._B, self._blank, self._out = map(cupy.asarray, (self._B, self._blank, self._out))

    def measure(self, kernel: Kernel, params: dict) -> None:
        """Verify one setting, and time it unless it is wrong or known."""
        variant = Variant(kernel.name, params=dict(params))
        try:
            prepared = self._prepare(kernel, params)
            if prepared is None:
                return
            variant.used = dict(prepared.params)
            variant.balance = prepared.plan.strategy if prepared.plan is not None else None
            self._verify(variant, prepared, kernel.precision[self._A.dtype])
            if variant.status == "ok":
                variant.median_us = self._time(prepared.run, _FIRST_SECONDS)
                self._runs[id(variant)] = prepared.run
        except OptionError:
            return  # a combination that the kernel does not offer
        except _FAILURES as error:
            self._fail(variant, error)
        self._found.append(variant)

    def _prepare(self, kernel: Kernel, params: dict) -> Prepared | None:
        with use_threads(self._threads):
            prepared = kernel.prepare(self._A, self._op, self._n, threads=self._threads, **params)
        strategy = prepared.plan.strategy if prepared.plan is not None else None
        key = (kernel.name, strategy, repr(sorted(prepared.params.items())))
        if key in self._seen:
            return None
        self._seen.add(key)
        return prepared

    def _verify(self, variant: Variant, prepared: Prepared, precision: str) -> None:
        self._out[...] = self._blank
        with use_threads(self._threads):
            result = prepared.run(self._B, self._out)
        host = result if isinstance(result, np.ndarray) else result.get()
        variant.rel_error = relative_error(to_float(host, self._A.dtype), self._reference.C)
        bound = ERROR_BOUNDS[precision]
        if not variant.rel_error <= bound:
            variant.status = "wrong"
            variant.message = (
                f"The result is off by {variant.rel_error:.1e}; {bound:.0e} is the bound of {precision}."
            )

    def _time(self, run: Callable, seconds: float) -> float:
        if self._device == "cuda":
            samples = time_cuda(run, self._B, self._out, min_time=seconds)
        else:
            samples = time_cpu(
                run, self._B, self._out, mode="warm", threads=self._threads, min_time=5 * seconds
            )
        return float(np.median(samples))

    def _fail(self, variant: Variant, error: Exception) -> None:
        fault = gpu_fault() if self._device == "cuda" else None
        if fault:
            raise JobError(
                f"{variant.kernel} ({_in_words(variant.params)}) took the GPU from its process ({fault})."
            ) from error
        variant.status = "failed"
        variant.message = f"{type(error).__name__}: {' '.join(str(error).split())}"

    def ranked(self) -> list[Variant]:
        """All variants, the fastest first; the close ones are timed once more, in turn, for longer."""
        good = sorted((v for v in self._found if v.status == "ok"), key=lambda v: v.median_us)
        close = [v for v in good if v.median_us <= _CLOSE * good[0].median_us]
        if len(close) > 1:
            for variant in close:
                variant.median_us = self._time(self._runs[id(variant)], _SECOND_SECONDS)
            good.sort(key=lambda v: v.median_us)
        return good + [v for v in self._found if v.status != "ok"]
