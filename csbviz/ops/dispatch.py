"""`spmm`, the function behind ``A @ B``: picks a kernel, keeps its plan with the matrix, and runs it."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from csbviz.errors import OptionError, UnavailableError
from csbviz.ops.direct import direct_product, keep_direct
from csbviz.ops.operands import Operand, as_operand, current_stream_of, give_back, output_buffer
from csbviz.ops.registry import SPMV_OPS, Kernel, Prepared, availability, get_kernel, kernels, require
from csbviz.ops.threads import check_threads, use_threads
from csbviz.ops.tuned import recall

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["matmul", "prepare_kernel", "spmm"]

PLANS_KEPT = 16
"""Plans that stay with a matrix; the least recently used one goes first."""


def prepare_kernel(
    A: CSBMatrix, kernel: Kernel, op: str, n: int, *, threads: int, balance: str = "auto", **params
) -> Prepared:
    """The kernel made ready for this product, from the plans kept with the matrix where it was made before.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix, not a transposed view.
    kernel : Kernel
        An entry of the registry.
    op : str
        One of `csbviz.ops.OPS`.
    n : int
        Columns of B.
    threads : int
        Threads of a CPU kernel.
    balance : str
        Name of a balance strategy, or "auto".
    **params
        Values of the kernel's tunable parameters.

    Raises
    ------
    OptionError
        If the kernel does not offer the operation, the dtype or a parameter, or if `n` does not fit the
        operation.
    UnavailableError
        If the kernel cannot run on this machine.
    """
    if n < 0:
        raise OptionError(f"n is {n}; B has 0 columns or more.")
    if op in SPMV_OPS and n != 1:
        raise OptionError(f"n is {n}; {op} multiplies one vector, so n must be 1.")
    plans: OrderedDict = A.cache.setdefault("plans", OrderedDict())
    key = (kernel.name, op, n, threads, balance, tuple(sorted(params.items())), _gpu(kernel))
    if key in plans:
        plans.move_to_end(key)
        return plans[key]
    require(kernel, op, A.dtype)
    refusal = kernel.accepts(A, op, n)
    if refusal is not None:
        raise UnavailableError(f"Kernel {kernel.name} does not take this product: {refusal}")
    unknown = set(params) - set(kernel.tunables)
    if unknown:
        raise OptionError(
            f"Kernel {kernel.name} has no parameter {sorted(unknown)[0]!r}; "
            f"it has {', '.join(kernel.tunables) or 'none'}."
        )
    prepared = kernel.prepare(A, op, n, threads=threads, balance=balance, **params)
    if kernel.device == "cuda":
        import cupy

        # The uploads are ordered on this stream only; a later product may come on another one.
        cupy.cuda.get_current_stream().synchronize()
    plans[key] = prepared
    while len(plans) > PLANS_KEPT:
        plans.popitem(last=False)
        A.cache.pop("direct", None)  # may hold the plan that went
    return prepared


def _gpu(kernel: Kernel) -> int | None:
    """Number of the current GPU, whose memory holds what a CUDA kernel prepares."""
    if kernel.device != "cuda":
        return None
    import cupy

    return cupy.cuda.runtime.getDevice()


@functools.cache
def _candidates(device: str, op: str, dtype: str) -> tuple[Kernel, ...]:
    """CSB kernels in the order of preference; those of the precision class that is the dtype's own."""
    found = [kernel for kernel in kernels(device=device, op=op, dtype=dtype) if kernel.format == "csb"]
    own = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}[dtype]
    return tuple(kernel for kernel in found if kernel.precision[dtype] == own)


def _choose(A: CSBMatrix, device: str, op: str, n: int) -> Kernel:
    """The first kernel that runs here and takes the product."""
    reasons = []
    for kernel in _candidates(device, op, A.dtype):
        state = availability(kernel)
        reason = state.reason if not state.ok else kernel.accepts(A, op, n)
        if reason is None:
            return kernel
        reasons.append(reason)
    detail = (
        reasons[0]
        if reasons
        else f"there is none for {A.dtype} values; A.astype('float32') can be multiplied"
    )
    raise UnavailableError(f"No CSB kernel on {device} can compute {op}: {detail}")


def spmm(
    A: CSBMatrix,
    B,
    transpose: bool = False,
    kernel: str = "auto",
    balance: str = "auto",
    out=None,
    threads=None,
):
    """C = A·B, or C = Aᵀ·B from the same stored copy.

    Parameters
    ----------
    A : CSBMatrix
        M x K; a transposed view is accepted.
    B : numpy.ndarray, torch.Tensor or cupy.ndarray
        K x N (M x N with `transpose`) or a vector, of the dtype of `A`, row-major; other layouts are copied.
    transpose : bool
        Multiply with the transpose of `A`.
    kernel : str
        Name of a kernel of the registry, or "auto" for the CSB kernel of B's device.
    balance : str
        Name of a balance strategy, or "auto".
    out : same kind as B, optional
        Where the result goes.
    threads : int, optional
        Threads of a CPU kernel; all processors by default.

    Returns
    -------
    C : same kind as B
        M x N (K x N with `transpose`), or a vector for a vector.

    Raises
    ------
    MatrixError
        If B does not fit.
    OptionError
        If an option is unknown or does not fit.
    UnavailableError
        If no kernel can run here.
    """
    transposed = A.transposed != bool(transpose)
    stored = A.stored
    key = (transposed, kernel, balance)
    result = direct_product(stored, key, B, out)
    if result is not None:
        return result
    rows, inner = stored.shape[::-1] if transposed else stored.shape
    with current_stream_of(B):
        operand = as_operand(B, inner, stored.dtype)
        n = operand.array.shape[1]
        op = _operation(transposed, operand, kernel, stored.dtype)
        tuned = recall(stored, op, n, operand.device) if kernel == balance == "auto" else None
        if tuned is not None:
            chosen, params = get_kernel(tuned[0]), dict(tuned[1])
            balance = params.pop("balance", "auto")
        else:
            chosen = _choose(stored, operand.device, op, n) if kernel == "auto" else get_kernel(kernel)
            params = {}
        if chosen.device != operand.device:
            raise OptionError(
                f"Kernel {chosen.name} runs on {chosen.device}, but B lives on {operand.device}."
            )
        buffer = output_buffer(operand, rows, out)
        if rows and n:
            prepared = _run(stored, chosen, op, operand, buffer, check_threads(threads), balance, params)
            keep_direct(stored, key, prepared, B, rows)
        return out if out is not None else give_back(buffer, operand)


def _operation(transposed: bool, operand: Operand, kernel: str, dtype: str) -> str:
    """The operation's name: a product with a vector where a kernel is made for it."""
    spmm_op, spmv_op = ("A.T@B", "A.T@x") if transposed else ("A@B", "A@x")
    if not operand.vector:
        return spmm_op
    offered = _candidates(operand.device, spmv_op, dtype) if kernel == "auto" else (get_kernel(kernel),)
    return spmv_op if any(spmv_op in k.ops and availability(k).ok for k in offered) else spmm_op


def _run(stored, kernel: Kernel, op: str, operand, buffer, threads: int, balance: str, params) -> Prepared:
    n = operand.array.shape[1]
    prepared = prepare_kernel(stored, kernel, op, n, threads=threads, balance=balance, **params)
    if kernel.device == "cuda":
        result = prepared.run(operand.array, buffer)
    else:
        with use_threads(threads):
            result = prepared.run(operand.array, buffer)
    if result is not buffer:  # a library without an out parameter
        np.copyto(buffer, result) if kernel.device == "cpu" else buffer.__setitem__(..., result)
    return prepared


def matmul(A: CSBMatrix, B):
    """What ``A @ B`` calls."""
    return spmm(A, B)
