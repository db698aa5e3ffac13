"""`csb_cuda`: the kernel that takes, of all CSB kernels of a GPU, the one that should be fastest.

What is measured beats what is predicted: a variant that `csbviz.autotune` found for this matrix, operation
and N comes first. Then the cost model of `choice_model` ranks the variants of the families; where it knows
none of those that run here, a rule of thumb on the density decides.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from csbviz.errors import CSBVizError, OptionError, UnavailableError
from csbviz.ops import choice_model
from csbviz.ops.cuda.module import missing_reason
from csbviz.ops.registry import SPMM_OPS, Kernel, Prepared, availability, get_kernel, kernels, register
from csbviz.ops.tuned import recall

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["AUTOMATIC", "Choice", "choices", "choose"]

AUTOMATIC = ("csb_cuda", "csb_cuda_tf32")
"""Kernels that choose among others; nothing chooses them."""

MIN_CAPABILITY = (7, 5)

DENSE_ENOUGH = 0.07
"""Share of entries from which multiplying whole blocks on tensor cores is worth its work."""

_FROM_DENSE = ("csb_wgmma", "csb_wgmma_tf32", "csb_mma", "csb_mma_tf32", "csb_rows", "csb_gather")
_FROM_SPARSE = ("csb_rows", "csb_gather", "csb_wgmma", "csb_wgmma_tf32", "csb_mma", "csb_mma_tf32")


class Choice(NamedTuple):
    """A kernel with its parameters.

    Attributes
    ----------
    kernel : str
        Name in the registry.
    params : dict
        Keyword arguments of its `prepare`.
    predicted_us : float or None
        Microseconds that the cost model expects; None for a measured or ruled choice.
    source : str
        "measured", "model" or "rule".
    """

    kernel: str
    params: dict[str, Any]
    predicted_us: float | None
    source: str


def choose(A: CSBMatrix, op: str, n: int, precisions: tuple[str, ...] | None = None) -> Choice:
    """The kernel and parameters that should be fastest on the current CUDA device: the first of `choices`."""
    return choices(A, op, n, precisions)[0]


def choices(
    A: CSBMatrix, op: str, n: int, precisions: tuple[str, ...] | None = None, most: int = 4
) -> list[Choice]:
    """What to take for a product on the current CUDA device, the first first.

    A launch may turn out too large when its plan is made, since the model only estimates some sizes; then the
    next is taken. The last are kernels with launches of their own choice.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix, not a transposed view.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    precisions : tuple of str, optional
        Precision classes that will do; by default the dtype's own.
    most : int
        Variants of the model.

    Raises
    ------
    UnavailableError
        If no kernel takes the product here; the message has the first reason.
    """
    precisions = precisions or (_OWN_CLASS[A.dtype],)
    usable, reasons = _usable(A, op, n, precisions)
    if not usable:
        detail = reasons[0] if reasons else f"there is none for {A.dtype} values"
        raise UnavailableError(f"No CSB kernel on this GPU can compute {op}: {detail}")
    names = [kernel.name for kernel in usable]
    found = [Choice(*ranked, "model") for ranked in choice_model.rank(A, op, n, names)[:most]]
    known = recall(A, op, n, "cuda")
    if known is not None and known[0] in names:
        found.insert(0, Choice(*known, None, "measured"))
    return found + [Choice(name, {}, None, "rule") for name in _by_rule(A, names)]


_OWN_CLASS = {"float32": "fp32", "float64": "fp64", "float16": "fp16", "bfloat16": "bf16"}


def _usable(A, op: str, n: int, precisions: tuple[str, ...]) -> tuple[list[Kernel], list[str]]:
    """Kernels that run here and take the product, and the reasons of the others."""
    found, reasons = [], []
    for kernel in _families(op, A.dtype, precisions):
        state = availability(kernel)
        reason = kernel.accepts(A, op, n) if state.ok else state.reason
        if reason is None:
            found.append(kernel)
        else:
            reasons.append(reason)
    return found, reasons


@functools.cache
def _families(op: str, dtype: str, precisions: tuple[str, ...]) -> tuple[Kernel, ...]:
    return tuple(
        kernel
        for kernel in kernels(device="cuda", op=op, dtype=dtype)
        if kernel.format == "csb" and kernel.name not in AUTOMATIC and kernel.precision[dtype] in precisions
    )


def _by_rule(A, names: list[str]) -> list[str]:
    cells = A.shape[0] * A.shape[1]
    dense = bool(cells) and A.nnz / cells >= DENSE_ENOUGH
    order = _FROM_DENSE if dense else _FROM_SPARSE
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def _prepare(
    A: CSBMatrix, op: str, n: int, *, threads: int = 0, balance: str = "auto", tf32: bool = False
) -> Prepared:
    """Make the chosen kernel ready; with a named balance strategy, the kernel that executes such plans."""
    if balance != "auto":
        return _named(Choice("csb_gather", {}, None, "rule"), A, op, n, threads=threads, balance=balance)
    last: CSBVizError | None = None
    for choice in choices(A, op, n, ("tf32", "fp32") if tf32 else None):
        try:
            return _named(choice, A, op, n, threads=threads)
        except (OptionError, UnavailableError) as error:
            last = last or error
    raise last


def _named(choice: Choice, A, op: str, n: int, **options) -> Prepared:
    """The chosen kernel made ready; its parameters say which one it is."""
    prepared = get_kernel(choice.kernel).prepare(A, op, n, **options, **choice.params)
    prepared.params = {"kernel": choice.kernel, "choice": choice.source} | prepared.params
    return prepared


def _accepts(A: CSBMatrix, op: str, n: int, tf32: bool = False) -> str | None:
    usable, reasons = _usable(A, op, n, ("tf32", "fp32") if tf32 else (_OWN_CLASS[A.dtype],))
    return None if usable else (reasons[0] if reasons else f"There is no kernel for {A.dtype} values.")


register(
    Kernel(
        name="csb_cuda",
        title="CSB (CUDA)",
        format="csb",
        device="cuda",
        ops=SPMM_OPS,
        dtypes=tuple(_OWN_CLASS),
        precision=_OWN_CLASS,
        prepare=_prepare,
        summary=(
            "Takes the CSB kernel, tile and split that should be fastest for the matrix, N and the GPU: CUDA "
            "cores where entries are few, tensor cores on decompressed blocks where they are many."
        ),
        min_capability=MIN_CAPABILITY,
        requires=functools.partial(missing_reason, MIN_CAPABILITY),
        accepts=_accepts,
    )
)
register(
    Kernel(
        name="csb_cuda_tf32",
        title="CSB (CUDA, TF32)",
        format="csb",
        device="cuda",
        ops=SPMM_OPS,
        dtypes=("float32",),
        precision={"float32": "tf32"},
        prepare=functools.partial(_prepare, tf32=True),
        summary=(
            "The same choice where products of TF32-rounded values will do; where entries are few the "
            "float32 kernels are the fastest of this class too."
        ),
        min_capability=MIN_CAPABILITY,
        requires=functools.partial(missing_reason, MIN_CAPABILITY),
        accepts=functools.partial(_accepts, tf32=True),
    )
)
