"""CSB products on an NVIDIA GPU: the CUDA kernels of kernels/cuda/csb_spmm.cu, launched through CuPy."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.ops.cuda.module import DeviceLimits, Function, current_device, get_kernel, missing_reason
from csbviz.ops.cuda.rows_launch import TUNABLES, V1_ROWS, Launch, choose_launch, plan_workers
from csbviz.ops.registry import Kernel, Prepared, register

if TYPE_CHECKING:
    from csbviz.balance import WorkPlan
    from csbviz.formats import CSBMatrix

__all__ = ["MIN_CAPABILITY", "CsbProduct", "prepare"]

MIN_CAPABILITY = (7, 5)

_STAGE_BYTES = 96 << 10
"""Most shared memory for staged entries, so that two CTAs fit a multiprocessor that has 200 KiB or more."""

# Tried and left out: asking for a carve-out of shared memory just as large as the resident CTAs need won
# 1 %; renumbering the CTAs so that those of one multiprocessor share a tile of B lost 2 %.


class CsbProduct:
    """A product made ready: device arrays, launch arguments, and the call.

    Attributes
    ----------
    plan : WorkPlan
        The plan that the launch executes.
    launch : Launch
        Its shape.
    windows, tiles : int
        CTAs an item: windows of rows x tiles of columns.
    record : cupy.ndarray or None
        int32[tiles, items, windows, 4]: multiprocessor, CTA, entries multiplied and unit of each CTA of
        the last call, when asked for.
    bytes : int
        Bytes that a call reads besides B.
    """

    def __init__(
        self, A: CSBMatrix, plan: WorkPlan, launch: Launch, device: DeviceLimits, record: bool = False
    ):
        import cupy

        from csbviz.ops.cuda.rows_plan import build_cuda_plan

        view = A.T if plan.transpose else A
        self.plan, self.launch, self.n = plan, launch, plan.n
        self.windows = max(1, view.block_shape[0] // launch.window_rows)
        self.tiles = plan.tiles
        self._rows, self._in_rows = view.shape
        entry_bytes = 16 if A.dtype == "float64" else 8
        budget = min(_STAGE_BYTES, device.shared_bytes - 4 * (launch.window_rows + 1) - 64)
        if launch.version == 1:
            arrays = build_cuda_plan(A, plan)
            self._shared = V1_ROWS * launch.tile_n * (entry_bytes // 2)
        else:
            arrays = build_cuda_plan(A, plan, launch.window_rows, budget // entry_bytes)
            self._capacity = -(-arrays.capacity // 4) * 4
            self._shared = self._capacity * entry_bytes + 4 * (launch.window_rows + 1)
        self._matrix = _upload_matrix(A, device.id)
        self._arrays = [cupy.asarray(array) for array in arrays[:5]]
        self._partials = cupy.empty((plan.slots, view.block_shape[0], plan.n), A.dtype)
        cells = (self.tiles, plan.items, self.windows, 4)
        self.record = cupy.full(cells, -1, np.int32) if record else None
        self._set_up(view)
        read = [self._matrix["values"], self._matrix["blk_ptr"], self._in_ind]
        read += [self._out_ind] if launch.version == 1 else []
        self.bytes = sum(array.nbytes for array in read) + arrays.nbytes

    def _set_up(self, view: CSBMatrix) -> None:
        matrix, dtype, launch = self._matrix, view.dtype, self.launch
        self._out_ind, self._in_ind = matrix["row_ind"], matrix["col_ind"]
        if view.transposed:
            self._out_ind, self._in_ind = self._in_ind, self._out_ind
        pointer, index = str(matrix["blk_ptr"].dtype), str(self._in_ind.dtype)
        out_block, in_block = view.block_shape
        units, blocks = view.grid
        strides = (1, units) if view.transposed else (blocks, 1)
        self._strides = tuple(map(np.int32, strides))
        self._sizes = tuple(map(np.int32, (out_block, in_block, self._rows, self.n)))
        self._counts = (np.int32(self.plan.items), np.int32(self.windows))
        self._ctas = self.plan.items * self.windows * self.tiles
        if self._ctas > 0x7FFFFFFF:
            raise UnavailableError(f"The launch needs {self._ctas} CTAs; a grid has at most {0x7FFFFFFF}.")
        if launch.version == 1:
            arguments = (dtype, str(self._out_ind.dtype), index, pointer)
            self._kernels = {1: get_kernel(Function("csb_spmm.cu", "csb_spmm_v1", arguments))}
        else:
            # One column at a time where rows are not 16-byte aligned.
            self._kernels = {
                vector: get_kernel(
                    Function("csb_spmm.cu", "csb_spmm_v2", (dtype, index, pointer, launch.lanes, vector))
                )
                for vector in ((1, 4) if self.n % 4 == 0 else (1,))
            }
        self._add = (
            get_kernel(Function("csb_spmm.cu", "csb_add_partials", (dtype,))) if self.plan.slots else None
        )

    def __call__(self, B, out):
        """Write the product to `out` on the current stream; B and out are C-contiguous CuPy arrays."""
        if self._rows == 0 or self.n == 0:
            return out
        (self._run_v1 if self.launch.version == 1 else self._run_v2)(B, out)
        if self._add is not None:
            self._add_partials(out)
        return out

    def _record_pointer(self):
        return np.uintp(0 if self.record is None else self.record.data.ptr)

    def _run_v1(self, B, out) -> None:
        items, batches, *_ = self._arrays
        matrix = self._matrix
        arguments = (matrix["values"], self._out_ind, self._in_ind, matrix["blk_ptr"], items, batches)
        arguments += (*self._counts, *self._strides, *self._sizes, B, out, self._partials)
        self._kernels[1](
            (self._ctas,),
            (self.launch.tile_n,),
            (*arguments, self._record_pointer()),
            shared_mem=self._shared,
        )

    def _run_v2(self, B, out) -> None:
        items, batches, source, row_ptr, _ = self._arrays
        aligned = 4 in self._kernels and (B.data.ptr | out.data.ptr) % 16 == 0
        kernel = self._kernels[4 if aligned else 1]
        matrix = self._matrix
        arguments = (matrix["values"], self._in_ind, matrix["blk_ptr"], items, batches, source, row_ptr)
        arguments += (*self._counts, np.int32(self.launch.window_rows), np.int32(self._capacity))
        arguments += (*self._strides, *self._sizes, B, out, self._partials, self._record_pointer())
        kernel((self._ctas,), (32 * self.launch.warps,), arguments, shared_mem=self._shared)

    def _add_partials(self, out) -> None:
        reduced = self._arrays[4]
        out_block = int(self._sizes[0])
        parts = max(1, min(64, out_block * self.n // 256))
        sizes = (np.int32(parts), np.int32(out_block), np.int32(self._rows), np.int32(self.n))
        self._add((len(reduced) * parts,), (256,), (reduced, *sizes, self._partials, out))


def _upload_matrix(A: CSBMatrix, device: int) -> dict:
    """The stored arrays on the device, kept with the matrix: one copy serves both directions."""
    import cupy

    key = ("csb_cuda", device)
    if key not in A.cache:
        names = ("values", "row_ind", "col_ind", "blk_ptr")
        A.cache[key] = {name: cupy.asarray(np.ascontiguousarray(getattr(A, name))) for name in names}
    return A.cache[key]


def prepare(
    A: CSBMatrix,
    op: str,
    n: int,
    *,
    threads: int = 0,
    balance: str = "auto",
    version: int = 2,
    lanes: int | None = None,
    warps: int | None = None,
    window_rows: int | None = None,
    record: bool = False,
) -> Prepared:
    """Make a CSB product ready on the current CUDA device.

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
    version, lanes, warps, window_rows : int, optional
        See `choose_launch`.
    record : bool
        Keep which multiprocessor did what in ``prepared.run.record``.

    Returns
    -------
    Prepared
        Its `run` is a `CsbProduct`.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer.
    """
    from csbviz.balance import make_plan

    device = current_device()
    transpose = op == "A.T@B"
    wanted = {"version": version, "lanes": lanes, "warps": warps, "window_rows": window_rows}
    launch, balance = choose_launch(A, transpose, n, device.multiprocessors, balance, **wanted)
    workers = plan_workers(launch, A.block_shape[1 if transpose else 0], device.multiprocessors)
    plan = make_plan(A, balance, transpose, workers, n, launch.tile_n, assignment="dynamic")
    product = CsbProduct(A, plan, launch, device, record)
    params = {key: value for key, value in launch._asdict().items() if key != "lanes" or version == 2}
    return Prepared(product, product.bytes, plan, params)


register(
    Kernel(
        name="csb_gather",
        title="CSB (CUDA cores, by work plan)",
        format="csb",
        device="cuda",
        ops=("A@B", "A.T@B"),
        dtypes=("float32", "float64"),
        precision={"float32": "fp32", "float64": "fp64"},
        prepare=prepare,
        summary=(
            "A CTA sorts its entries by output row into shared memory, a warp multiplies a row; the "
            "transposed product runs the same code on the same copy, and nothing is added atomically."
        ),
        tunables=TUNABLES,
        min_capability=MIN_CAPABILITY,
        requires=functools.partial(missing_reason, MIN_CAPABILITY),
    )
)
