"""The registry of kernels: one entry an implementation of an operation.

An entry is all that is needed to add a kernel: it then shows up in the app, on the command line, in the
correctness tests and in the benchmarks. Launcher modules register their entries when they are imported;
they are imported on the first question to the registry, so that ``import csbviz`` stays fast.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csbviz.errors import OptionError, UnavailableError

if TYPE_CHECKING:
    from csbviz.balance import WorkPlan

__all__ = [
    "OPS",
    "SPMM_OPS",
    "SPMV_OPS",
    "Availability",
    "Kernel",
    "Prepared",
    "availability",
    "get_kernel",
    "is_transposed",
    "kernels",
    "register",
    "require",
]

SPMM_OPS = ("A@B", "A.T@B")
"""Products of the stored matrix, and of its transpose from the same copy, with a matrix B of N columns."""

SPMV_OPS = ("A@x", "A.T@x")
"""The same with one vector: B has one column."""

OPS = SPMM_OPS + SPMV_OPS
"""The operations that kernels offer."""

LAUNCHERS = (
    "csbviz.ops.csb_cpu",
    "csbviz.ops.baselines_cpu",
    "csbviz.ops.choice",
    "csbviz.ops.cuda.wgmma",
    "csbviz.ops.cuda.few",
    "csbviz.ops.cuda.panel",
    "csbviz.ops.cuda.rows",
    "csbviz.ops.cuda.mma",
    "csbviz.ops.cuda.spmv",
    "csbviz.ops.cuda.baselines",
)
"""Modules that register kernels, in the order in which tables list them."""


@dataclass
class Prepared:
    """A kernel made ready for one matrix, operation and number of columns.

    Attributes
    ----------
    run : callable
        ``run(B, out) -> out``. CPU kernels take C-contiguous NumPy arrays, CUDA kernels CuPy arrays;
        B is K x N for ``A@B`` and M x N for ``A.T@B``; every element of ``out`` is written.
    bytes : int
        Bytes of everything the kernel reads besides B: the matrix and its plan arrays.
    plan : WorkPlan or None
        How the work is shared, for kernels that execute a plan.
    params : dict
        The values of the tunable parameters that were used, JSON-safe.
    notes : str
        What a reader of the timing should know.
    launch : callable or None
        CUDA kernels that can be launched by address: ``launch(stream, B, C)``, three integers, for contiguous
        operands; it neither waits nor allocates, and works on any stream.
    """

    run: Callable[[Any, Any], Any]
    bytes: int
    plan: WorkPlan | None = None
    params: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    launch: Callable[[int, int, int], None] | None = None


@dataclass(frozen=True)
class Kernel:
    """An implementation of one or more operations.

    Attributes
    ----------
    name : str
        Unique name, as used on the command line.
    title : str
        Name for people.
    format : str
        Storage format that it reads: "csb", "csr", "dense", ...
    device : str
        "cpu" or "cuda".
    ops : tuple of str
        Subset of `OPS`.
    dtypes : tuple of str
        Types of values that it multiplies, e.g. ("float32", "float64").
    precision : dict
        Maps a dtype to the precision class of its products: "fp32", "tf32", "fp64", ...
        Only kernels of one class are compared.
    prepare : callable
        ``prepare(A, op, n, *, threads, balance="auto", **params) -> Prepared`` with an untransposed
        `CSBMatrix`; everything that is not part of one product (conversion, plan, upload) happens here.
    summary : str
        One sentence on how it works.
    threads : str
        "all" when it uses as many threads as it is given, "one" when it always runs on one.
    tunables : dict
        Name of each tunable parameter of `prepare` and the values worth trying.
    min_capability : tuple of int or None
        Least CUDA compute capability.
    exact_capability : bool
        True where it runs on GPUs of that very capability only.
    requires : callable
        Returns None when the kernel can run on this machine, else one sentence with the reason.
    deterministic : bool
        True when two runs give bit-equal results.
    copies : int
        Copies of the values that it keeps: 2 when it stores the transpose beside the matrix.
    candidates : callable or None
        ``candidates(A, op, n)`` gives the settings of the tunables that are worth trying for a product, dicts
        for `prepare`; None where every combination is.
    accepts : callable
        ``accepts(A, op, n)`` returns None when the kernel can multiply this matrix, else one sentence with
        the reason: block shapes it is not made for, values out of its range.
    """

    name: str
    title: str
    format: str
    device: str
    ops: tuple[str, ...]
    dtypes: tuple[str, ...]
    precision: dict[str, str]
    prepare: Callable[..., Prepared]
    summary: str
    threads: str = "all"
    tunables: dict[str, tuple] = field(default_factory=dict)
    min_capability: tuple[int, int] | None = None
    requires: Callable[[], str | None] = lambda: None
    deterministic: bool = True
    copies: int = 1
    candidates: Callable[[Any, str, int], Iterable[dict[str, Any]]] | None = None
    accepts: Callable[[Any, str, int], str | None] = lambda A, op, n: None
    exact_capability: bool = False


@dataclass(frozen=True)
class Availability:
    """Whether a kernel can run here; `reason` is one sentence when it cannot."""

    ok: bool
    reason: str = ""


_KERNELS: dict[str, Kernel] = {}
_loaded = False


def register(kernel: Kernel) -> Kernel:
    """Add a kernel to the registry and return it.

    Raises
    ------
    ValueError
        If the name is taken or an operation is unknown: faults of the entry, not of a user.
    """
    if kernel.name in _KERNELS:
        raise ValueError(f"kernel name {kernel.name!r} is registered twice")
    unknown = set(kernel.ops) - set(OPS)
    if unknown:
        raise ValueError(f"kernel {kernel.name!r} names unknown operations {sorted(unknown)}")
    missing = set(kernel.dtypes) - set(kernel.precision)
    if missing:
        raise ValueError(f"kernel {kernel.name!r} states no precision for {sorted(missing)}")
    _KERNELS[kernel.name] = kernel
    return kernel


def _load_launchers() -> None:
    global _loaded
    if not _loaded:
        for module in LAUNCHERS:
            importlib.import_module(module)
        _loaded = True


def kernels(device: str | None = None, op: str | None = None, dtype: str | None = None) -> tuple[Kernel, ...]:
    """All registered kernels, or those for a device, an operation and a dtype.

    Parameters
    ----------
    device : str, optional
        "cpu" or "cuda".
    op : str, optional
        One of `OPS`.
    dtype : str, optional
        For example "float32".
    """
    _load_launchers()
    return tuple(
        kernel
        for kernel in _KERNELS.values()
        if (device is None or kernel.device == device)
        and (op is None or op in kernel.ops)
        and (dtype is None or dtype in kernel.dtypes)
    )


def get_kernel(name: str) -> Kernel:
    """The kernel of that name.

    Raises
    ------
    OptionError
        If there is none; the message lists those there are.
    """
    _load_launchers()
    if name not in _KERNELS:
        raise OptionError(f"There is no kernel named {name!r}; known kernels are {', '.join(_KERNELS)}.")
    return _KERNELS[name]


def availability(kernel: Kernel) -> Availability:
    """Whether a kernel can run on this machine, and if not, why."""
    reason = kernel.requires()
    return Availability(reason is None, reason or "")


def is_transposed(op: str) -> bool:
    """Whether an operation multiplies with the transpose."""
    return op.startswith("A.T")


def require(kernel: Kernel, op: str, dtype: str) -> None:
    """Raise unless a kernel can run an operation on a dtype on this machine.

    Raises
    ------
    OptionError
        If the kernel does not offer the operation or the dtype.
    UnavailableError
        If this machine cannot run the kernel.
    """
    if op not in kernel.ops:
        raise OptionError(f"Kernel {kernel.name} does not compute {op}; it computes {', '.join(kernel.ops)}.")
    if dtype not in kernel.dtypes:
        raise OptionError(
            f"Kernel {kernel.name} does not multiply {dtype} values; it takes {', '.join(kernel.dtypes)}."
        )
    state = availability(kernel)
    if not state.ok:
        raise UnavailableError(f"Kernel {kernel.name} cannot run here: {state.reason}")
