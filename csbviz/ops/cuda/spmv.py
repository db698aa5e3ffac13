"""Products with a vector on an NVIDIA GPU: kernels/cuda/csb_spmv.cu, both ways from one copy."""

from __future__ import annotations

import ctypes
import functools
import struct
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.formats.dtypes import VALUE_BYTES
from csbviz.ops.cuda.launch import B, C, Launches, LaunchPlan, run_with
from csbviz.ops.cuda.module import Function, current_device, get_kernel, missing_reason
from csbviz.ops.cuda.spmv_layout import TUNABLES, choose_layout
from csbviz.ops.cuda.spmv_plan import SpmvLayout, build_spmv_plan
from csbviz.ops.cuda.storage import device_arrays, padded_copy
from csbviz.ops.cuda.workspace import PerStream, new_array
from csbviz.ops.registry import SPMV_OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix
    from csbviz.ops.cuda.module import DeviceLimits

__all__ = ["instantiations", "prepare"]

_SOURCE = "csb_spmv.cu"
_TYPES = {"float32": "float", "float64": "double", "float16": "Half", "bfloat16": "Bfloat16"}
_ALONE, _CLUSTER, _WIDE = 0, 1, 2  # how CTAs share rows, as in the source
_NON_PORTABLE_CLUSTER_SIZE_ALLOWED = 14  # CUfunction_attribute
_PORTABLE_CLUSTER = 8
"""CTAs of a cluster that every device with clusters runs."""

_STAGED_BYTES = 32 << 10
"""Most bytes of x that a CTA copies to shared memory."""


def instantiations() -> tuple[Function, ...]:
    """Every instantiation of csb_spmv.cu that this module can ask for."""
    modes = (_ALONE, _CLUSTER, _WIDE)
    choices = product(_TYPES.values(), ("uint8", "uint16"), TUNABLES["slots"], (True, False), modes)
    shares = (Function(_SOURCE, "csb_add_shares", (name,)) for name in _TYPES.values())
    return (*(Function(_SOURCE, "csb_spmv", choice) for choice in choices), *shares)


def _log2(number: int) -> int:
    return int(number).bit_length() - 1


def prepare(
    A: CSBMatrix,
    op: str,
    n: int = 1,
    *,
    threads: int = 0,
    balance: str = "auto",
    rows: int | None = None,
    shares: int | None = None,
    lanes: int | None = None,
    slots: int | None = None,
) -> Prepared:
    """Make a product with a vector ready on the current CUDA device.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@x" or "A.T@x".
    n : int
        1: the columns of B.
    threads : int
        Not used: a GPU runs what it holds.
    balance : str
        Not used: the shares of a product are fixed by its shape.
    rows, shares, lanes, slots : int, optional
        See `SpmvLayout`.

    Returns
    -------
    Prepared

    Raises
    ------
    OptionError
        If a parameter has a value that does not fit the matrix.
    UnavailableError
        If the matrix' values do not begin at a multiple of 16 bytes, or it is too large.
    """
    device = current_device()
    transpose = is_transposed(op)
    view = A.T if transpose else A
    if A.nnz == 0 or 0 in A.shape:
        return Prepared(_write_zeros, 0)
    if A.nnz > 4 * 0xFFFFFFFF or view.grid[1] >= 1 << 22 or max(A.shape) >= 1 << 31:
        raise UnavailableError(f"A {A.shape[0]} x {A.shape[1]} matrix with {A.nnz} entries is too large.")
    wanted = {"rows": rows, "shares": shares, "lanes": lanes, "slots": slots}
    clusters = device.capability >= (9, 0)
    products = (device.shared_bytes - 1024) // (16 if A.dtype == "float64" else 8)  # and as much for x
    most_shares = 16 if device.capability == (9, 0) else _PORTABLE_CLUSTER
    layout = choose_layout(A, transpose, device.multiprocessors, clusters, products, most_shares, **wanted)
    matrix = device_arrays(A, device.id)
    if matrix["values"].data.ptr % 16:
        raise UnavailableError("The matrix' values do not begin at a multiple of 16 bytes; clone the tensor.")
    plan = build_spmv_plan(A, transpose, layout)
    arrays = [padded_copy(a.ravel()) for a in (plan.place, plan.runs, plan.row_ptr)]
    in_ind = matrix["row_ind" if transpose else "col_ind"]
    launch, partial_bytes = _launches(A, view, layout, plan, (matrix["values"], in_ind, *arrays), device)
    read = sum(array.nbytes for array in (matrix["values"], in_ind, *arrays)) + partial_bytes
    notes = f"partial sums take {partial_bytes} bytes for each stream" if partial_bytes else ""
    return Prepared(run_with(launch), read, None, layout._asdict(), notes, launch=launch)


def _launches(A, view, layout: SpmvLayout, plan, arrays, device: DeviceLimits):
    """What launches a product, and the bytes of partial sums."""
    jobs, rounds = plan.runs.shape[:2]
    wide = layout.rows > layout.threads
    cluster = layout.shares > 1 and not wide and device.capability >= (9, 0)
    mode = _WIDE if wide else _CLUSTER if cluster else _ALONE
    sums = np.dtype("float64" if A.dtype == "float64" else "float32")
    capacity = -(-plan.capacity // 4) * 4 + (layout.rows if cluster else 0)
    room = min(_STAGED_BYTES, device.shared_bytes - 1024 - capacity * sums.itemsize)
    staged = plan.window * sums.itemsize <= room
    sizes = (
        rounds,
        _log2(layout.lanes),
        _log2(layout.rows),
        min(5, _log2(max(1, layout.threads // layout.rows))),
        _log2(layout.shares),
        _log2(view.block_shape[1]),
        plan.step,
        plan.lead,
        plan.window,
        -(-plan.capacity // 4) * 4,
        *view.shape,
    )
    kind, index = _TYPES[A.dtype], str(arrays[1].dtype)
    kernel = get_kernel(Function(_SOURCE, "csb_spmv", (kind, index, layout.slots, staged, mode)))
    if cluster and layout.shares > _PORTABLE_CLUSTER:
        allow_large_clusters(kernel)

    def multiply(partials) -> LaunchPlan:
        return LaunchPlan(
            kernel,
            (jobs,),
            (layout.threads,),
            (capacity + (plan.window if staged else 0)) * sums.itemsize,
            (*arrays, struct.pack("12i", *sizes), B, C, partials),
            cluster=(layout.shares,) if cluster else None,
        )

    if not wide and (cluster or layout.shares == 1):
        return multiply(None), 0
    add = get_kernel(Function(_SOURCE, "csb_add_shares", (kind,)))
    height = np.int32(view.shape[0])

    def with_partials() -> Launches:
        partials = new_array(jobs * layout.rows, sums.name)
        numbers = np.int32(_log2(layout.rows)), np.int32(layout.shares), height
        second = LaunchPlan(add, (-(-view.shape[0] // 256),), (256,), 0, (partials, *numbers, C))
        return Launches(multiply(partials), second)

    kept = PerStream(with_partials())

    def launch(stream: int, x: int, y: int) -> None:
        kept.get(stream, with_partials)(stream, x, y)

    return launch, jobs * layout.rows * sums.itemsize


def allow_large_clusters(kernel) -> None:
    """Let a kernel run in clusters of more than eight CTAs.

    Raises
    ------
    UnavailableError
        If the driver refuses.
    """
    status = ctypes.CDLL("libcuda.so.1").cuFuncSetAttribute(
        ctypes.c_void_p(kernel.pointer), _NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1
    )
    if status:
        raise UnavailableError(f"The driver grants no clusters of 16 CTAs (CUDA error {status}).")


def _write_zeros(x, out):
    out.data.memset_async(0, out.nbytes)  # cheaper than a kernel
    return out


register(
    Kernel(
        name="csb_spmv",
        title="CSB SpMV (CUDA)",
        format="csb",
        device="cuda",
        ops=SPMV_OPS,
        dtypes=tuple(VALUE_BYTES),
        precision={"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"},
        prepare=prepare,
        summary=(
            "A plan sorts the products by output row into shared memory, lanes add up the rows, and "
            "CTAs that share rows form a cluster. The same code and copy both ways, no atomics."
        ),
        tunables={name: values for name, values in TUNABLES.items() if name != "threads"},
        min_capability=(7, 5),
        requires=functools.partial(missing_reason, (7, 5)),
    )
)
