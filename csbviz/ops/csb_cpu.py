"""The CSB kernel of the CPU: makes a matrix ready for `kernels/cpu` and registers it as "csb_cpu"."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from csbviz.balance import STRATEGIES, WorkPlan, make_plan
from csbviz.errors import MatrixError, OptionError
from csbviz.ops.csb_cpu_tiles import CACHE_LINE, TILES, check_tile, crowding, passes, steps
from csbviz.ops.registry import OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["KERNEL", "prepare"]

GROUP_BYTES = 256 * 1024
"""Output tiles of a group may take this much, a share of the second-level cache."""

USES_UNALIGNED = 6
"""Rows of B that straddle cache lines are packed if a thread uses them at least this often. Measured: packing
takes 0.6-0.8 of the time at 25 uses and more, 0.9-1.0 at 5, up to 1.8 at 1."""

USES_CROWDED = 128
"""Rows of B whose distance crowds them into a few sets of the cache (see `crowding`) are packed if uses x
crowding² is at least this. Measured: packing begins to pay at a crowding of 2 between 25 and 50 uses, at 4
near 8, at 8 near 3, at 16 always."""

SCATTERED_BYTES, CHEAP_BYTES = 32, 16
"""Longest rows of B whose products may be scattered (see `_Task._scatters`), and those for which that beats a
second order of the entries however many there are. Measured with DLMC layers: at N = 1 to 4 it takes 0.7-1.0
of the time, at N = 8 0.9-1.2, at N = 16 twice."""

SHORT_ROWS, SHORT_ROWS_SECOND = 4, 6
"""Rows of blocks that hold fewer entries than this on average are short: a segment costs more than scattering
its entries. The second number is for products that would need a second order."""

LEAST_WORK = 20_000
"""Vector steps (see `default_tile`) below which a second thread costs more than it gains: about 7 µs."""

UNEVEN = 1.2
"""Whole units are dealt out unless the heaviest worker has this much more than the mean; cutting units costs
partial results and a second phase."""


def kernel_module(name: str):
    """Import ``kernels.cpu.<name>``: from the checkout, or in a wheel from ``csbviz._kernels``."""
    package = Path(__file__).resolve().parent.parent
    if (package / "_kernels").is_dir():
        return importlib.import_module(f"csbviz._kernels.cpu.{name}")
    checkout = str(package.parent)
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    return importlib.import_module(f"kernels.cpu.{name}")


def _aligned(size: int) -> np.ndarray:
    """A zeroed buffer of `size` bytes that begins at a cache line."""
    buffer = np.zeros(size + CACHE_LINE, np.uint8)
    skip = -buffer.ctypes.data % CACHE_LINE
    return buffer[skip : skip + size]


class _View:
    """A stored matrix as the product of one operation sees it: output side and inner side."""

    def __init__(self, A: CSBMatrix, op: str):
        self.transpose = is_transposed(op)
        block_cols = A.grid[1]
        if self.transpose:
            self.rows_in, self.rows_out = A.shape
            self.block_in, self.block_out = A.block_shape
            self.unit_step, self.block_step = 1, block_cols
            self.in_order = A.order == "col"
        else:
            self.rows_out, self.rows_in = A.shape
            self.block_out, self.block_in = A.block_shape
            self.unit_step, self.block_step = block_cols, 1
            self.in_order = A.order == "row"
        self.mask, self.shift, self.out_mask, self.out_shift = 0xFFFF, 0, 0xFFFF, 0
        if A.packed_ind is None:
            self.index, self.out_index = self.positions(A)
        else:
            # In the packed byte the row sits above the bits of the column.
            bits = A.block_shape[1].bit_length() - 1
            row, column = ((A.block_shape[0] - 1) << bits, bits), ((1 << bits) - 1, 0)
            self.index, self.out_index = A.packed_ind, None
            self.mask, self.shift = row if self.transpose else column
            self.out_mask, self.out_shift = column if self.transpose else row
        self.blk_ptr = A.blk_ptr.astype(np.int64, copy=False)

    def positions(self, A: CSBMatrix):
        """Input and output rows of the entries inside their blocks, decoded if they are packed."""
        return (A.row_ind, A.col_ind) if self.transpose else (A.col_ind, A.row_ind)

    def output_rows(self, A: CSBMatrix) -> np.ndarray:
        """Output rows as `kernels.cpu.program` takes them."""
        return self.positions(A)[1].astype(np.uint16, copy=False)


def _visiting_order(A: CSBMatrix, op: str, view: _View) -> np.ndarray | None:
    """Order of the entries by output row inside each block; None when that is how they are stored."""
    if view.in_order:
        return None
    kept = A.cache.setdefault("csb_cpu_order", {})
    if op not in kept:
        order = kernel_module("program").sort_entries(view.blk_ptr, view.output_rows(A), view.block_out)
        most = int(np.diff(view.blk_ptr).max(initial=0))
        kept[op] = order.astype(np.uint16 if most <= 1 << 16 else np.uint32)
    return kept[op]


def _plan(A: CSBMatrix, view: _View, balance: str, threads: int, n: int, tile: int) -> WorkPlan:
    def plan(strategy, workers=threads):
        return make_plan(A, strategy, transpose=view.transpose, workers=workers, n=n)

    if balance == "auto":
        if A.nnz * steps(n, tile, A.values.itemsize) < LEAST_WORK:
            return plan("in_order", workers=1)
        whole = plan("swizzle")
        if whole.imbalance <= UNEVEN:
            return whole
        even = plan("equal_nnz")
        return even if even.imbalance < whole.imbalance else whole
    if balance not in STRATEGIES:
        raise OptionError(
            f"There is no balance strategy {balance!r}; known are auto, {', '.join(STRATEGIES)}."
        )
    return plan(balance)


def prepare(
    A: CSBMatrix,
    op: str,
    n: int,
    *,
    threads: int,
    balance: str | WorkPlan = "auto",
    tile_n: int | None = None,
    record: np.ndarray | None = None,
) -> Prepared:
    """Make a matrix ready for the CPU kernel.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix, M x K, float32 or float64.
    op : str
        One of `OPS`.
    n : int
        Columns of B.
    threads : int
        Threads, the workers of the plan.
    balance : str or WorkPlan
        Name of a strategy, a static plan of one's own, or "auto": one thread for very little work, else whole
        units dealt out heaviest first, or equal nonzeros where that is too uneven.
    tile_n : int, optional
        Columns multiplied at a time; None chooses by `n`.
    record : int32[items], optional
        Receives the number of the worker that ran each item of the plan.

    Returns
    -------
    Prepared
        ``run(B, out)`` takes C-contiguous arrays of the matrix' dtype: K x n and M x n, for "A.T@B" M x n and
        K x n.

    Raises
    ------
    OptionError
        If the operation, dtype, strategy or tile is not one that the kernel has.
    MatrixError
        If the matrix' arrays are inconsistent.
    """
    if op not in OPS:
        raise OptionError(f"The operation is {op!r}; it is one of {', '.join(OPS)}.")
    if A.dtype not in KERNEL.dtypes:
        raise OptionError(
            f"Kernel csb_cpu multiplies {', '.join(KERNEL.dtypes)}; the matrix holds {A.dtype} values."
        )
    A = A.stored
    if not A.cache.get("csb_cpu_checked"):
        A.check_format()  # the kernel trusts every index
        A.cache["csb_cpu_checked"] = True
    view = _View(A, op)
    tile = check_tile(tile_n, n, A.values.itemsize)
    plan = balance if isinstance(balance, WorkPlan) else _plan(A, view, balance, threads, n, tile)
    if not plan.static or plan.transpose != view.transpose:
        raise OptionError(f"The CPU kernel needs a static plan made for {op}.")
    task = _Task(A, op, view, plan, n, tile, record)
    return Prepared(
        run=task.runner(),
        bytes=A.nbytes + task.plan_bytes,
        plan=plan,
        params={"tile_n": tile, "block_shape": list(A.block_shape), "balance": plan.strategy},
        notes=""
        if task.order is None
        else f"visits entries in a second order of {task.order.itemsize} bytes each",
    )


class _Task:
    """Everything one product needs but its operands; owns the arrays whose addresses the kernel reads."""

    def __init__(self, A, op, view, plan, n, tile, record):
        self.values, self.view, self.plan, self.n, self.tile = A.values, view, plan, n, tile
        self.dtype, self.itemsize = A.dtype, A.values.itemsize
        self.row_bytes = n * self.itemsize
        self.passes = passes(n, tile, self.itemsize)
        self.scatter = self._scatters()
        # When it walks segments the kernel shifts the length of a row instead of each index.
        lengths = [self.row_bytes, *(columns.tile_bytes for columns in self.passes)]
        if not self.scatter and any(length % (1 << view.shift) for length in lengths):
            view.index, view.mask, view.shift = view.positions(A)[0], 0xFFFF, 0
        self.order = None if self.scatter else _visiting_order(A, op, view)
        self.record = record
        self._build_program(A)
        self._allocate()

    def _scatters(self) -> bool:
        """Whether to add the products to C in memory, entry by entry as they are stored."""
        view = self.view
        if self.n > self.passes[0].tile or self.row_bytes > SCATTERED_BYTES:
            return False
        if not view.in_order and self.row_bytes <= CHEAP_BYTES:
            return True
        rows = view.rows_out * -(-view.rows_in // view.block_in)  # of all blocks
        return self.values.size < rows * (SHORT_ROWS if view.in_order else SHORT_ROWS_SECOND)

    def _build_program(self, A):
        view, plan = self.view, self.plan
        fields = ("unit", "block_begin", "block_end", "entry_begin", "entry_end", "slot")
        items = tuple(getattr(plan, name).astype(np.int64) for name in fields)
        geometry = (
            view.rows_out,
            view.block_out,
            view.block_in,
            view.unit_step,
            view.block_step,
            GROUP_BYTES // self.passes[0].tile_bytes,
        )
        order = np.empty(0, np.uint32) if self.order is None else self.order.astype(np.uint32, copy=False)
        build = kernel_module("program").build_program
        rows = np.empty(0, np.uint16) if self.scatter else view.output_rows(A)
        worker_ptr = plan.worker_ptr.astype(np.int64)
        built = build(view.blk_ptr, rows, order, items, worker_ptr, geometry, self.scatter)
        self.visits, self.segments, self.group_ptr, self.worker_group, self.most_rows = built
        kept = [self.visits, self.segments, self.group_ptr, self.worker_group]
        self.plan_bytes = sum(a.nbytes for a in kept) + (0 if self.order is None else self.order.nbytes)

    def _allocate(self):
        view, workers = self.view, self.plan.workers
        widest = max(self.passes[0].tile_bytes, self.passes[-1].tile_bytes)
        self.panel_size = max(1, min(view.block_in, view.rows_in)) * widest
        self.panels = _aligned(workers * self.panel_size)
        last = self.passes[-1]
        self.tail_size = 0 if last.whole else self.most_rows * last.tile_bytes
        self.tails = _aligned(workers * self.tail_size)
        self.partials = _aligned(self.plan.slots * view.block_out * self.row_bytes)

    def _pack_rule(self, spmm, tile_bytes: int) -> int:
        """Whether to pack whole tiles of B; see `USES_CROWDED` and `USES_UNALIGNED`."""
        uses = self.values.size / max(1, self.view.rows_in * self.plan.workers)
        if self.row_bytes % min(tile_bytes, CACHE_LINE):
            return spmm.ALWAYS if uses >= USES_UNALIGNED else spmm.NEVER
        if self.row_bytes % CACHE_LINE == 0 and self.row_bytes > tile_bytes:
            rows = min(self.view.block_in, self.view.rows_in)
            if uses * crowding(self.row_bytes, tile_bytes, rows) ** 2 >= USES_CROWDED:
                return spmm.ALWAYS
        return spmm.IF_UNALIGNED if uses >= USES_UNALIGNED else spmm.NEVER

    def _tables(self, spmm) -> np.ndarray:
        """The table of each pass, and one that is not used if there is only one."""
        view, plan = self.view, self.plan
        words = {
            spmm.P_B_ROW: self.row_bytes,
            spmm.P_B_ROWS: view.rows_in,
            spmm.P_C_ROW: self.row_bytes,
            spmm.P_PARTIALS: self.partials.ctypes.data,
            spmm.P_MASK: view.mask,
            spmm.P_SHIFT: view.shift,
            spmm.P_OUT_MASK: view.out_mask,
            spmm.P_OUT_SHIFT: view.out_shift,
            spmm.P_BLOCK_IN: view.block_in,
            spmm.P_PANELS: self.panels.ctypes.data,
            spmm.P_PANEL_SIZE: self.panel_size,
            spmm.P_TAILS: self.tails.ctypes.data,
            spmm.P_TAIL_SIZE: self.tail_size,
            spmm.P_VISITS: self.visits.ctypes.data,
            spmm.P_SEGMENTS: self.segments.ctypes.data,
            spmm.P_GROUP_PTR: self.group_ptr.ctypes.data,
            spmm.P_WORKER_GROUP: self.worker_group.ctypes.data,
            spmm.P_RECORD: 0 if self.record is None else self.record.ctypes.data,
            spmm.P_SLOTS: plan.slots,
            spmm.P_SLOT_UNIT: plan.slot_unit.ctypes.data,
            spmm.P_BLOCK_OUT: view.block_out,
            spmm.P_ROWS_OUT: view.rows_out,
            spmm.P_WORKERS: plan.workers,
        }
        tables = np.zeros((2, spmm.P_WORDS), np.int64)
        for table, columns in zip(tables, self.passes, strict=False):
            for word, number in words.items():
                table[word] = number
            table[spmm.P_PACK] = self._pack_rule(spmm, columns.tile_bytes)
            table[spmm.P_COLUMNS] = columns.begin
            table[spmm.P_COLUMNS_END] = columns.end
        return tables.reshape(-1)

    def runner(self):
        """The function ``run(B, out)``; its default argument keeps this task and all arrays alive."""
        import numba

        spmm = kernel_module("spmm")
        work = kernel_module("workers")
        workers, lock = self.plan.workers, work.LOCK
        order = self.view.out_index if self.scatter else self.order  # None for a packed byte
        types = self.dtype, self.view.index.dtype.name, None if order is None else order.dtype.name
        compiled = work.scatter_worker if self.scatter else work.multiply_worker
        multiply, rest, *_ = *(compiled(*types, columns.tile).address for columns in self.passes), 0
        line = CACHE_LINE // self.itemsize
        reduce = work.reduce_worker(self.dtype, line).address if self.plan.slots else 0
        launch = work.launcher(self.dtype, workers > 1)
        table = self._tables(spmm)
        arrays = (
            self.values.ctypes.data,
            self.view.index.ctypes.data,
            0 if order is None else order.ctypes.data,
            workers,
        )
        spare = workers > 1 and workers < numba.config.NUMBA_NUM_THREADS
        b_shape, c_shape = (self.view.rows_in, self.n), (self.view.rows_out, self.n)

        def run(B, out, task=self):
            if B.shape != b_shape or out.shape != c_shape:
                raise MatrixError(
                    f"B is {B.shape} and out {out.shape}; prepared for {b_shape} and {c_shape}."
                )
            with lock:
                if spare and numba.get_num_threads() != workers:
                    numba.set_num_threads(workers)
                launch(table, B, out, multiply, rest, *arrays)
                if reduce:
                    launch(table, B, out, reduce, 0, *arrays)
            return out

        return run


KERNEL = register(
    Kernel(
        name="csb_cpu",
        title="CSB (Numba)",
        format="csb",
        device="cpu",
        ops=OPS,
        dtypes=("float32", "float64"),
        precision={"float32": "fp32", "float64": "fp64"},
        prepare=prepare,
        summary="Walks the rows of each block with a tile of the output in vector registers and the block's "
        "slice of B packed in the first-level cache; both directions from one copy, no atomics.",
        tunables={"tile_n": TILES},
    )
)
