"""CSB products on a GPU as the balance strategies plan them, by CUDA cores: kernels/cuda/csb_spmm.cu."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.errors import OptionError, UnavailableError
from csbviz.ops.cuda.launch import B, C, Launches, LaunchPlan, run_with
from csbviz.ops.cuda.module import DeviceLimits, Function, current_device, get_kernel, missing_reason
from csbviz.ops.cuda.rows_launch import (
    EXECUTIONS,
    TUNABLES,
    V1_ROWS,
    Launch,
    choose_launch,
    plan_workers,
)
from csbviz.ops.cuda.rows_plan import CudaPlan, build_gather_plan, build_simple_plan
from csbviz.ops.cuda.storage import block_strides, device_arrays
from csbviz.ops.cuda.workspace import PerStream, new_array
from csbviz.ops.registry import SPMM_OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.balance import WorkPlan
    from csbviz.formats import CSBMatrix

__all__ = ["MIN_CAPABILITY", "GatherProduct", "SimpleProduct", "prepare_gather", "prepare_simple"]

MIN_CAPABILITY = (7, 5)

_STAGE_BYTES = 6 << 10
"""Shared memory for staged entries, a warp: 1024 threads fit a multiprocessor that has 200 KiB or more."""

_MOST = 0x7FFFFFFF
"""What 32-bit numbers in the kernels count to."""

# Tried and left out: asking for a carve-out of shared memory just as large as the resident CTAs need won
# 1 %; renumbering the CTAs so that those of one multiprocessor share a tile of B lost 2 %.


class _Bound(NamedTuple):
    """Launches for any B and C, and for aligned ones where they are others; the arrays that they write."""

    any: Callable[[int, int, int], None]
    aligned: Callable[[int, int, int], None] | None
    workspace: tuple


class _Product:
    """A product made ready: device arrays and launches; called with a stream and the addresses of B and C.

    Attributes
    ----------
    plan : WorkPlan
        The plan that the launch executes.
    record : cupy.ndarray or None
        When asked for, what each CTA of the last call did: int64[..., 8] with the multiprocessor, the CTA,
        the entries multiplied, the unit, the multiprocessor's clock at begin and end, and nanoseconds at
        begin and end. The first dimensions are tiles and items, or items alone where each has its own tile.
    bytes : int
        Bytes that a call reads besides B.
    workspace_bytes : int
        Bytes of partial sums and counters; there is one workspace for each stream and captured graph.
    """

    def __init__(self, A: CSBMatrix, plan: WorkPlan, arrays: CudaPlan, device: DeviceLimits):
        import cupy

        self.plan, self.record, self._device = plan, None, device
        self._view = A.T if plan.transpose else A
        self._matrix = device_arrays(A, device.id)
        self._arrays = {
            name: cupy.asarray(a) for name, a in arrays._asdict().items() if isinstance(a, np.ndarray)
        }
        self._indices = self._matrix["row_ind"], self._matrix["col_ind"]
        if plan.transpose:
            self._indices = self._indices[::-1]
        self._strides = block_strides(self._view)
        read = ("values", "blk_ptr")
        self.bytes = arrays.nbytes + sum(self._matrix[name].nbytes for name in read)
        self.workspace_bytes = 0
        self._nothing_to_do = 0 in (self._view.shape[0], plan.n)

    def _set_up(self, record_shape: tuple | None) -> None:
        """Make the record and the launches: one set, or one for each stream where they share a workspace."""
        import cupy

        if record_shape is not None:
            self.record = cupy.full((*record_shape, 8), -1, np.int64)
        self._launches = None if self._nothing_to_do else self._bind()
        self._per_stream = PerStream(self._launches) if self.workspace_bytes and self._launches else None

    def _bind(self) -> _Bound:
        """Launches with a workspace of their own."""
        raise NotImplementedError

    @property
    def workspaces(self) -> int:
        """Workspaces that were made so far."""
        return len(self._per_stream) if self._per_stream is not None else 0

    def _jobs(self) -> tuple[int, ...]:
        plan = self.plan
        return (plan.items,) if plan.tile is not None else (plan.tiles, plan.items)

    def __call__(self, stream: int, b: int, c: int) -> None:
        """Launch on a stream; b and c are the addresses of B and of the result, both row-major."""
        bound = self._launches
        if bound is None:
            return
        if self._per_stream is not None:
            bound = self._per_stream.get(stream, self._bind)
        # Four columns at a time only where rows are 16-byte aligned.
        launch = bound.aligned if bound.aligned is not None and not (b | c) & 15 else bound.any
        launch(stream, b, c)


class SimpleProduct(_Product):
    """Version 1: a thread a column, a CTA at most 32 rows of an item, a second launch for partial sums."""

    def __init__(self, A: CSBMatrix, plan: WorkPlan, device: DeviceLimits, record: bool = False):
        super().__init__(A, plan, build_simple_plan(A, plan), device)
        self.bytes += sum(index.nbytes for index in self._indices)
        out_block = self._view.block_shape[0]
        self.windows = -(-out_block // V1_ROWS)
        self.workspace_bytes = plan.partial_bytes(out_block, self._matrix["values"].itemsize)
        self._set_up((*self._jobs(), self.windows) if record else None)

    def _bind(self) -> _Bound:
        plan, view, arrays, matrix = self.plan, self._view, self._arrays, self._matrix
        dtype, (out_ind, in_ind) = view.dtype, self._indices
        arguments = dtype, str(out_ind.dtype), str(in_ind.dtype), str(matrix["blk_ptr"].dtype)
        kernel = get_kernel(Function("csb_spmm.cu", "csb_spmm_v1", arguments))
        partials = new_array(self.workspace_bytes // matrix["values"].itemsize, dtype)
        own_tiles, pitch = plan.tile is not None, plan.n if plan.tile is None else plan.tile_n
        (out_block, in_block), rows = view.block_shape, view.shape[0]
        read = (matrix["values"], out_ind, in_ind, matrix["blk_ptr"], arrays["items"], arrays["batches"])
        sizes = [plan.items, self.windows, own_tiles, pitch, *self._strides]
        sizes += [out_block, in_block, rows, plan.n]
        multiply = LaunchPlan(
            kernel,
            (plan.jobs * self.windows,),
            (plan.tile_n,),
            V1_ROWS * plan.tile_n * partials.itemsize,
            (*read, *map(np.int32, sizes), partials, self.record, B, C),
        )
        if not plan.slots:
            return _Bound(multiply, None, ())
        parts = max(1, min(64, out_block * pitch // 256))
        sizes = (parts, own_tiles, pitch, out_block, rows, plan.n)
        add = LaunchPlan(
            get_kernel(Function("csb_spmm.cu", "csb_add_partials", (dtype,))),
            (len(arrays["groups"]) * parts,),
            (256,),
            0,
            (arrays["groups"], *map(np.int32, sizes), partials, C),
        )
        return _Bound(Launches(multiply, add), None, (partials,))


class GatherProduct(_Product):
    """Version 2: a CTA gathers the entries of an item by row; partial sums are added in the same launch.

    Attributes
    ----------
    execution : str
        "grid": a CTA an item and tile; "ticket": CTAs that stay draw them; "shares": CTAs that stay go
        through the items that the plan gives them.
    ctas : int
        CTAs of the grid.
    """

    def __init__(
        self,
        A: CSBMatrix,
        plan: WorkPlan,
        launch: Launch,
        device: DeviceLimits,
        execution: str = "grid",
        record: bool = False,
    ):
        entry_bytes = 16 if A.dtype == "float64" else 8
        rest = 4 * (launch.window_rows + 1)
        budget = min(_STAGE_BYTES * launch.warps, device.shared_bytes - rest - 64)
        if plan.jobs > _MOST:
            raise UnavailableError(f"The plan has {plan.jobs} jobs; the kernel counts up to {_MOST}.")
        arrays = build_gather_plan(A, plan, budget // entry_bytes)
        if arrays.source.size > 0xFFFFFFFF:
            raise UnavailableError(f"The plan orders {arrays.source.size} entries; 32 bits count them.")
        super().__init__(A, plan, arrays, device)
        self.bytes += self._indices[1].nbytes
        self.launch, self.execution = launch, execution
        self._capacity = max(4, -(-arrays.capacity // 4) * 4)
        self._shared = self._capacity * entry_bytes + rest
        vectors = (1, 4) if plan.n % 4 == 0 else (1,)
        self._kernels = {vector: self._kernel(vector) for vector in vectors}
        self.ctas = self._grid(device)
        self._partials = plan.partial_bytes(launch.window_rows, self._matrix["values"].itemsize)
        self._counters = len(arrays.groups) * plan.tiles + 2 * (execution == "ticket")
        self.workspace_bytes = self._partials + 4 * self._counters
        self._set_up(self._jobs() if record else None)

    def _kernel(self, vector: int):
        name = "csb_spmm_v2" if self.execution == "grid" else "csb_spmm_v2_persistent"
        index, pointer = str(self._indices[1].dtype), str(self._matrix["blk_ptr"].dtype)
        arguments = self._view.dtype, index, pointer, self.launch.lanes, vector
        return get_kernel(Function("csb_spmm.cu", name, arguments))

    def _grid(self, device: DeviceLimits) -> int:
        if self.execution == "grid":
            return self.plan.jobs
        if self.execution == "shares":
            return self.plan.workers
        threads, kernel = 32 * self.launch.warps, self._kernels[max(self._kernels)]
        registers = -(-kernel.registers // 8) * 8 * threads
        shared = self._shared + kernel.static_shared + 1024  # that the system keeps for a CTA
        fitting = (
            device.threads_per_multiprocessor // threads,
            65536 // registers,
            device.shared_per_multiprocessor // shared,
        )
        return min(self.plan.jobs, device.multiprocessors * max(1, min(fitting)))

    def _bind(self) -> _Bound:
        plan, view, arrays, matrix = self.plan, self._view, self._arrays, self._matrix
        partials = counters = None
        if self._partials:
            partials = new_array(self._partials // matrix["values"].itemsize, view.dtype)
        if self._counters:
            counters = new_array(self._counters, "int32", zeroed=True)
        arrived = counters.data.ptr if counters is not None else 0
        ticket = arrived + 4 * (self._counters - 2) if self.execution == "ticket" else 0
        read = [matrix["values"], self._indices[1], matrix["blk_ptr"]]
        read += [arrays[name] for name in ("items", "batches", "source", "row_ptr", "groups", "shares")]
        pointers = [array.data.ptr for array in read]
        if self.execution != "shares":
            pointers[-1] = 0
        pointers += [partials.data.ptr if partials is not None else 0, arrived, ticket]
        pointers += [0 if self.record is None else self.record.data.ptr]
        own_tiles, rows = plan.tile is not None, self.launch.window_rows
        out_block, in_block = view.block_shape
        sizes = [plan.items, plan.tiles, own_tiles, plan.tile_n if own_tiles else plan.n]
        sizes += [rows, out_block // rows, *self._strides, in_block, view.shape[0], plan.n, self._capacity]
        work = struct.pack("13Q12i", *pointers, *sizes)  # struct Work of the source
        launches = {
            vector: LaunchPlan(kernel, (self.ctas,), (32 * self.launch.warps,), self._shared, (work, B, C))
            for vector, kernel in self._kernels.items()
        }
        return _Bound(launches[1], launches.get(4), (partials, counters))


def prepare_simple(
    A: CSBMatrix, op: str, n: int, *, threads: int = 0, balance: str = "auto", record: bool = False
) -> Prepared:
    """Make version 1 ready on the current CUDA device; parameters as for `prepare_gather`."""
    from csbviz.balance import make_plan

    device = current_device()
    tile_n = min(128, max(32, -(-n // 32) * 32))
    strategy = "swizzle" if balance == "auto" else balance
    workers = 2 * device.multiprocessors
    plan = make_plan(A, strategy, is_transposed(op), workers, n, tile_n, assignment="dynamic")
    product = SimpleProduct(A, plan, device, record)
    params = {"tile_n": tile_n, "warps": tile_n // 32, "window_rows": V1_ROWS}
    return _prepared(product, params)


def prepare_gather(
    A: CSBMatrix,
    op: str,
    n: int,
    *,
    threads: int = 0,
    balance: str = "auto",
    lanes: int | None = None,
    warps: int | None = None,
    window_rows: int | None = None,
    execution: str | None = None,
    record: bool = False,
) -> Prepared:
    """Make version 2 ready on the current CUDA device.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix, float32 or float64.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    threads : int
        Not used: a GPU runs what it holds.
    balance : str
        Name of a balance strategy, or "auto".
    lanes, warps, window_rows : int, optional
        See `choose_launch`.
    execution : str, optional
        "grid" or "ticket"; a plan whose workers stay with their shares, stream-K's, is always executed so.
    record : bool
        Keep which multiprocessor did what and when in ``prepared.launch.record``.

    Returns
    -------
    Prepared
        Its `launch` is a `GatherProduct`.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer.
    """
    from csbviz.balance import make_plan

    device = current_device()
    wanted = {"lanes": lanes, "warps": warps, "window_rows": window_rows, "execution": execution}
    launch, balance = choose_launch(A, is_transposed(op), n, device.multiprocessors, balance, **wanted)
    workers = plan_workers(launch, balance, n, device.multiprocessors)
    plan = make_plan(
        A,
        balance,
        is_transposed(op),
        workers,
        n,
        launch.tile_n,
        assignment="dynamic",
        unit_rows=launch.window_rows,
    )
    if plan.static and execution is not None:
        raise OptionError(
            f"The workers of {balance} stay with their shares; execution cannot be {execution!r}."
        )
    execution = "shares" if plan.static else execution or EXECUTIONS[0]
    product = GatherProduct(A, plan, launch, device, execution, record)
    return _prepared(product, {**launch._asdict(), "execution": execution})


def _prepared(product: _Product, params: dict) -> Prepared:
    notes = ""
    if product.workspace_bytes:
        notes = f"partial sums and counters take {product.workspace_bytes} bytes for each stream"
    return Prepared(run_with(product), product.bytes, product.plan, params, notes, launch=product)


def _accepts(A: CSBMatrix, op: str, n: int) -> str | None:
    """Rows of B and C are stepped through by 32-bit numbers of bytes."""
    most = _MOST // (8 if A.dtype == "float64" else 4)
    return None if n <= most else f"B has {n} columns; the kernel takes at most {most}."


_ENTRY = {
    "format": "csb",
    "device": "cuda",
    "ops": SPMM_OPS,
    "dtypes": ("float32", "float64"),
    "precision": {"float32": "fp32", "float64": "fp64"},
    "min_capability": MIN_CAPABILITY,
    "requires": functools.partial(missing_reason, MIN_CAPABILITY),
    "accepts": _accepts,
}
register(
    Kernel(
        name="csb_gather",
        title="CSB (CUDA, gathered rows)",
        prepare=prepare_gather,
        summary=(
            "A CTA sorts its entries by output row into shared memory, a warp multiplies a row; it executes "
            "every balance strategy in both directions from one copy, and adds nothing atomically."
        ),
        tunables=TUNABLES,
        **_ENTRY,
    )
)
register(
    Kernel(
        name="csb_simple",
        title="CSB (CUDA, simple)",
        prepare=prepare_simple,
        summary=(
            "The first version, kept to compare with: a CTA walks the entries as they are stored and adds "
            "into rows in shared memory, a thread a column."
        ),
        **_ENTRY,
    )
)
