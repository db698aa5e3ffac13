"""CSB products at high sparsity on an NVIDIA GPU, by CUDA cores: csb_spmm_rows.cu and csb_spmm_pieces.cu."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import OptionError
from csbviz.ops.cuda import launch as launches
from csbviz.ops.cuda.direct_plan import build_direct_plan
from csbviz.ops.cuda.module import DeviceLimits, current_device, get_kernel, missing_reason
from csbviz.ops.cuda.panel_costs import choose_launch, predict_us
from csbviz.ops.cuda.panel_launch import (
    ITEM,
    SOURCE,
    TUNABLES,
    Launch,
    function_of,
    refusal,
    shared_bytes,
    slots_of,
    structure_of,
    worth_trying,
)
from csbviz.ops.cuda.panel_plan import build_panel_plan
from csbviz.ops.cuda.pieces_plan import build_pieces_plan
from csbviz.ops.cuda.storage import block_strides, device_arrays, padded_copy
from csbviz.ops.registry import SPMM_OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["RowsProduct", "accepts", "candidates", "prepare"]

_CANDIDATES = 12
"""Launches of each form that are tried for a product: those that the cost model puts first."""

_GRID = 0x7FFFFFFF


def accepts(A: CSBMatrix, op: str, n: int) -> str | None:
    """Why neither kernel takes a product, or None."""
    structure = structure_of(A, is_transposed(op))
    if refusal(structure, Launch("direct", 128 // structure.item, 4, split=1), current_device()) is None:
        return None
    if worth_trying(structure, n, current_device(), form="panel"):
        return None
    rows, cols = A.block_shape
    return f"its blocks of {rows} x {cols} with {A.nnz} entries are too large for the plan's numbers."


def candidates(A: CSBMatrix, op: str, n: int) -> list[dict[str, Any]]:
    """Settings worth trying for a product: of each form the first by predicted time."""
    structure, device = structure_of(A, is_transposed(op)), current_device()
    found = []
    for form in TUNABLES["form"]:
        fitting = worth_trying(structure, n, device, form=form)
        fitting.sort(key=functools.partial(predict_us, structure, n=n, device=device))
        found += [launch.params for launch in fitting[:_CANDIDATES]]
    return found


class RowsProduct:
    """A product made ready; called with a stream and the addresses of B and C.

    Attributes
    ----------
    shape : Launch
        Shape of the launch.
    bytes : int
        Bytes that a call reads besides B: the matrix and its plan arrays.
    """

    def __init__(
        self, A: CSBMatrix, transpose: bool, n: int, shape: Launch, device: DeviceLimits, target: str | None
    ):
        self.shape = shape
        view = A.T if transpose else A
        matrix = device_arrays(A, device.id)
        in_ind = matrix["row_ind" if transpose else "col_ind"]
        build = {"panel": self._panel, "direct": self._direct, "pieces": self._pieces}[shape.form]
        plan, arguments, grid, shared = build(A, view, n, device)
        item = matrix["values"].itemsize
        # A code of a piece says what the index of its entry says.
        read = (in_ind,) if shape.form != "pieces" else ()
        read = (matrix["values"], *read, matrix["blk_ptr"])
        self.bytes = sum(len(x) if isinstance(x, bytes) else x.nbytes for x in (*read, *plan))
        types = A.dtype, str(in_ind.dtype), str(matrix["blk_ptr"].dtype)
        # Only code for compute capability 9.0 and newer waits for the kernel before by itself.
        overlap = device.capability >= (9, 0) and target is None and shape.form != "pieces"
        self._launches = {}
        aligned = n * item % 16 == 0 and matrix["values"].data.ptr % 16 == 0
        for fast in {False, aligned} if view.shape[0] and n else ():
            self._launches[fast] = launches.LaunchPlan(
                get_kernel(function_of(shape, *types, fast), target),
                (grid,),
                (32 * shape.warps,),
                shared,
                (*read, *plan, *arguments, launches.B, launches.C),
                programmatic=overlap,
            )

    def _panel(self, A: CSBMatrix, view: CSBMatrix, n: int, device: DeviceLimits):
        shape, transpose = self.shape, view is not A
        plan = build_panel_plan(A, transpose, shape.warps, shape.tile_m, shape.chunk_k, shape.resident)
        shared = shared_bytes(structure_of(A, transpose), shape, plan.capacity)
        if shared > device.shared_bytes:
            raise OptionError(
                f"The launch needs {shared} bytes of shared memory; this GPU has {device.shared_bytes}."
            )
        row_tiles, chunks = plan.spans.shape[:2]
        column_tiles = -(-max(1, n) // shape.tile_n)
        each = min(shape.column_tiles, column_tiles)
        units, blocks = view.grid
        numbers = (row_tiles, chunks, shape.chunk_k, each, shape.buffers, shape.resident, plan.capacity)
        numbers += (*block_strides(view), *view.block_shape, units, blocks, *view.shape, n)
        grid = row_tiles * -(-column_tiles // each)
        return _upload(plan), tuple(map(np.int32, numbers)), _checked(grid), shared

    def _direct(self, A: CSBMatrix, view: CSBMatrix, n: int, device: DeviceLimits):
        shape = self.shape
        plan = build_direct_plan(A, view is not A)
        out_bits, in_bits = (side.bit_length() - 1 for side in view.block_shape)
        numbers = (shape.split, plan.codes.itemsize == 4, plan.offset_bits, *block_strides(view))
        numbers += (out_bits, in_bits, view.grid[1], view.shape[0], n)
        row_groups = -(-view.shape[0] // (shape.warps // shape.split))
        grid = row_groups * -(-n // shape.tile_n)
        return _upload(plan), tuple(map(np.int32, numbers)), _checked(grid), 0

    def _pieces(self, A: CSBMatrix, view: CSBMatrix, n: int, device: DeviceLimits):
        import cupy

        shape = self.shape
        plan = build_pieces_plan(A, view is not A, shape.length, slots_of(shape, ITEM[A.dtype]))
        out_bits, in_bits = (side.bit_length() - 1 for side in view.block_shape)
        numbers = (plan.groups, plan.place_bits, *block_strides(view), out_bits, in_bits, view.grid[1], n)
        arrays = cupy.asarray(plan.codes), cupy.asarray(plan.pieces), plan.units.tobytes()
        grid = _checked(plan.groups * -(-n // shape.tile_n))
        return (
            arrays,
            tuple(map(np.int32, numbers)),
            grid,
            shared_bytes(structure_of(A, view is not A), shape),
        )

    def __call__(self, stream: int, b: int, c: int) -> None:
        """Launch on a stream, with the addresses of contiguous B and C; returns at once."""
        if self._launches:
            self._launches[True in self._launches and (b | c) % 16 == 0](stream, b, c)


def _upload(plan) -> tuple:
    """The plan's arrays on the GPU."""
    import cupy

    arrays = [array for array in plan if isinstance(array, np.ndarray)]
    return padded_copy(arrays[0]), *map(cupy.asarray, arrays[1:])


def _checked(grid: int) -> int:
    if grid > _GRID:
        raise OptionError(f"The launch needs {grid} CTAs; a grid has at most {_GRID}.")
    return grid


def prepare(
    A: CSBMatrix,
    op: str,
    n: int,
    *,
    threads: int = 0,
    balance: str = "auto",
    target: str | None = None,
    **wanted,
) -> Prepared:
    """Make a product ready on the current CUDA device.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix, float32 or float64.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    threads, balance
        Not used: rows are dealt by length.
    target : str, optional
        Architecture to compile for instead of the device's own, such as "compute_75".
    **wanted
        Parameters of `TUNABLES`; those left out are chosen.

    Returns
    -------
    Prepared

    Raises
    ------
    OptionError
        If a parameter has a value that the kernels do not offer, or the launch does not fit.
    """
    transpose, device = is_transposed(op), current_device()
    shape = choose_launch(structure_of(A, transpose), n, device, **wanted)
    product = RowsProduct(A, transpose, n, shape, device, target)
    return Prepared(launches.run_with(product), product.bytes, params=shape.params, launch=product)


register(
    Kernel(
        name="csb_rows",
        title="CSB (CUDA cores)",
        format="csb",
        device="cuda",
        ops=SPMM_OPS,
        dtypes=("float32", "float64"),
        precision={"float32": "fp32", "float64": "fp64"},
        prepare=prepare,
        summary=(
            "Brings panels of B and the entries, in row order, into shared memory, eight lanes a row; small "
            "products take a warp a row, or a few lanes a piece of a row, and read B where it is. Both "
            "directions from one copy."
        ),
        tunables=TUNABLES,
        min_capability=(7, 5),
        requires=functools.partial(missing_reason, source=SOURCE),
        candidates=candidates,
        accepts=accepts,
    )
)
