"""CSB products on the tensor cores of any GPU from Turing on, by kernels/cuda/csb_spmm_mma.cu."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from csbviz.formats import dtypes
from csbviz.ops.cuda import launch as launches
from csbviz.ops.cuda.driver import obstacle
from csbviz.ops.cuda.mma_launch import (
    SOURCE,
    TUNABLES,
    Launch,
    choose_launch,
    images_function,
    product_function,
    shared_bytes,
)
from csbviz.ops.cuda.mma_plan import TILE, build_steps, list_tiny, value_range
from csbviz.ops.cuda.module import current_device, get_kernel, missing_reason
from csbviz.ops.registry import SPMM_OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["MIN_CAPABILITY", "MmaProduct", "accepts", "prepare"]

MIN_CAPABILITY = (7, 5)

_SIDES = (16, 32, 64)
_TINY_SHARE = 1e-3
"""Most entries, of all, that may be added one by one because they are too small for the images."""

_SMALLEST_LARGEST = 2.0**-100
"""Below this the largest value of a matrix leaves no room for scaling in float32."""


def accepts(A: CSBMatrix, op: str, n: int, precision: str = "fp32") -> str | None:
    """Why the tensor-core kernels do not take a product, or None.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    precision : str
        "fp32" or "tf32" for float32 values; not used for others.
    """
    if any(side not in _SIDES for side in A.block_shape):
        rows, cols = A.block_shape
        return f"its blocks are {rows} x {cols}; both sides must be 16, 32 or 64."
    if A.nnz >= 2**31 - 1:
        return f"it holds {A.nnz} entries; the kernel counts fewer than 2³¹."
    inner = A.shape[0 if is_transposed(op) else 1]
    if -(-inner // TILE) * (-(-n // 128) * 2) >= 2**31:
        return f"a B of {inner} x {n} has more than 2³¹ tiles."
    if A.dtype == "bfloat16":
        return obstacle((8, 0))
    if A.dtype != "float32":
        return None
    found = value_range(A)
    if not found.finite:
        return "its values are not all finite, and float16 halves cannot tell Inf from large."
    if 0.0 < found.largest < _SMALLEST_LARGEST:
        return f"its largest magnitude is {found.largest:.3g}; at least {_SMALLEST_LARGEST:.3g} is needed."
    if found.tiny[precision] > max(64, _TINY_SHARE * A.nnz):
        return (
            f"{found.tiny[precision]} of its {A.nnz} values are too small beside the largest, "
            f"{found.largest:.3g}, to be held by scaled float16 numbers."
        )
    return None


class MmaProduct:
    """A product made ready: device arrays, the two launches, and the call.

    Attributes
    ----------
    shape : Launch
        Shape of the launch.
    bytes : int
        Bytes that a call reads besides B.
    workspace_bytes : int
        Bytes for the images of B and for partial sums.
    """

    def __init__(
        self, A: CSBMatrix, transpose: bool, n: int, precision: str, shape: Launch, target: str | None
    ):
        import cupy

        device = current_device()
        self.shape, self._n, self._precision = shape, n, precision
        view = A.T if transpose else A
        self._rows, self._inner = view.shape
        self._bits = 4 if A.dtype == "float32" else 2
        matrix = _upload_matrix(A, device.id)
        plan = build_steps(A, transpose, shape.tile_m)
        arrays = [cupy.asarray(_never_empty(array)) for array in plan]
        exponent, tiny = 0, (np.zeros(1, np.int32), np.zeros((1, 4), np.int32))
        if precision in ("fp32", "tf32"):
            exponent, tiny = value_range(A).exponent, list_tiny(A, transpose, precision)
        arrays += [cupy.asarray(array) for array in tiny]
        self.bytes = sum(matrix[name].nbytes for name in ("values", "row_ind", "col_ind"))
        self.bytes += plan.nbytes + sum(array.nbytes for array in tiny)
        tiles_m, tiles_n = max(1, -(-self._rows // shape.tile_m)), -(-n // shape.tile_n)
        self._k_tiles, self._image_tiles = -(-self._inner // TILE), tiles_n * shape.tile_n // TILE
        self._allocate(tiles_m * tiles_n)
        sides = [np.int32(side.bit_length() - 1) for side in A.block_shape]
        self._matrix = (
            *(matrix[name] for name in ("values", "row_ind", "col_ind")),
            *arrays,
            *sides,
            np.float32(2.0**exponent),
        )
        self._counts = tuple(map(np.int32, (tiles_m, self._image_tiles, shape.splits, self._rows, n)))
        self._grid = (tiles_m * tiles_n * shape.splits,)
        self._exponent = np.int32(exponent)
        # Only code for compute capability 9.0 waits for the images itself.
        self._overlap = device.capability >= (9, 0) and target is None and self._k_tiles > 0
        self._images_kernel = get_kernel(images_function(precision), target)
        self._kernel = get_kernel(product_function(precision, transpose, shape), target)
        self._images_launches = {flag: self._images_launch(flag) for flag in (False, True)}
        self._launches = {flag: self._product_launch(flag) for flag in (False, True)}
        self.run = launches.run_with(self.launch)

    def _allocate(self, tiles: int) -> None:
        import cupy

        parts = 2 if self._precision == "fp32" else 1
        count = max(1, self._k_tiles * self._image_tiles)
        self._images = cupy.empty(count * parts * 8192, np.uint8)
        self._factors = cupy.empty(count * 64 if self._precision in ("fp32", "tf32") else 1, np.float32)
        self._flags = cupy.zeros(count, np.int32)
        cut = self.shape.splits > 1
        elements = tiles * self.shape.splits * self.shape.tile_m * self.shape.tile_n
        self._partials = cupy.empty(elements if cut else 1, np.float32)
        self._tickets = cupy.zeros(tiles if cut else 1, np.int32)
        buffers = (self._images, self._factors, self._flags, self._partials, self._tickets)
        self.workspace_bytes = sum(buffer.nbytes for buffer in buffers)

    def _images_launch(self, vector: bool):
        if not self._k_tiles:
            return None
        arguments = (
            launches.B,
            *map(np.int32, (self._inner, self._n, vector)),
            self._exponent,
            np.int32(self._image_tiles),
            self._images,
            self._factors,
            self._flags,
        )
        return launches.LaunchPlan(
            self._images_kernel, (self._k_tiles * self._image_tiles,), (256,), 0, arguments
        )

    def _product_launch(self, pairs: bool):
        arguments = (
            *self._matrix,
            self._images,
            self._factors,
            self._flags,
            *self._counts,
            np.int32(pairs),
            launches.B,
            launches.C,
            self._partials,
            self._tickets,
        )
        shared = shared_bytes(self._precision, self.shape)
        return launches.LaunchPlan(
            self._kernel, self._grid, (self.shape.threads,), shared, arguments, programmatic=self._overlap
        )

    def launch(self, stream: int, b: int, c: int) -> None:
        """Write the product to address `c`, on a stream; `b` and `c` are contiguous, of any alignment."""
        if self._rows == 0 or self._n == 0:
            return
        row_bytes = self._n * self._bits
        images = self._images_launches[row_bytes % 16 == 0 and b % 16 == 0]
        if images is not None:
            images(stream, b, c)
        self._launches[self._n % 2 == 0 and c % (2 * self._bits) == 0](stream, b, c)


def _never_empty(array: np.ndarray) -> np.ndarray:
    """The array, or one element in its place: an empty device array has no address."""
    return array if array.size else np.zeros(4, array.dtype)


def _upload_matrix(A: CSBMatrix, device: int) -> dict:
    """The stored arrays on the device, kept with the matrix; 16-bit values as their bits."""
    import cupy

    key = ("csb_cuda", device)
    if key not in A.cache:
        values = A.values if A.dtype == "float32" else dtypes.bits_of(A.values)
        arrays = {"values": values, "row_ind": A.row_ind, "col_ind": A.col_ind, "blk_ptr": A.blk_ptr}
        A.cache[key] = {
            name: cupy.asarray(_never_empty(np.ascontiguousarray(array))) for name, array in arrays.items()
        }
    return A.cache[key]


def prepare(
    A: CSBMatrix,
    op: str,
    n: int,
    *,
    threads: int = 0,
    balance: str = "auto",
    precision: str | None = None,
    tile: str | None = None,
    stages: int | None = None,
    splits: int | None = None,
    target: str | None = None,
) -> Prepared:
    """Make a tensor-core product ready on the current CUDA device.

    Parameters
    ----------
    A : CSBMatrix
        A stored matrix that `accepts` takes.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    threads, balance
        Not used.
    precision : {"fp32", "tf32"}, optional
        Class of a product of float32 values; other values have their own.
    tile : str, optional
        Rows and columns of a CTA's tile of C, for example "64x128".
    stages : int, optional
        1, or 2 to decode the next block while one is multiplied.
    splits : int, optional
        CTAs that share the inner dimension.
    target : str, optional
        Architecture to compile for instead of the device's own, such as "compute_75".

    Returns
    -------
    Prepared
        `params` holds the tile, stages and splits that were chosen.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer.
    """
    own = {"float16": "fp16", "bfloat16": "bf16"}
    precision = own.get(A.dtype) or precision or "fp32"
    transpose = is_transposed(op)
    rows = A.shape[1 if transpose else 0]
    lists = build_steps(A, transpose, TILE)
    mean = len(lists.steps) / max(1, len(lists.step_ptr) - 1)
    shape = choose_launch(rows, mean, n, precision, current_device(), tile=tile, stages=stages, splits=splits)
    product = MmaProduct(A, transpose, n, precision, shape, target)
    params = {"tile": f"{shape.tile_m}x{shape.tile_n}", "stages": shape.stages, "splits": shape.splits}
    return Prepared(product.run, product.bytes, params=params, launch=product.launch)


def _register(name: str, title: str, precision: dict[str, str], summary: str) -> None:
    single = precision["float32"]
    register(
        Kernel(
            name=name,
            title=title,
            format="csb",
            device="cuda",
            ops=SPMM_OPS,
            dtypes=tuple(precision),
            precision=precision,
            prepare=functools.partial(prepare, precision=single),
            summary=summary,
            tunables=TUNABLES,
            min_capability=MIN_CAPABILITY,
            requires=functools.partial(missing_reason, source=SOURCE),
            accepts=functools.partial(accepts, precision=single),
        )
    )


_register(
    "csb_mma",
    "CSB (tensor cores, mma)",
    {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"},
    "Decodes blocks into dense tiles in shared memory and multiplies them on tensor cores by mma.sync: "
    "float32 values as pairs of float16 in three products, as accurate as float32; the transposed product "
    "reads the same tiles transposed. bfloat16 needs compute capability 8.0.",
)
_register(
    "csb_mma_tf32",
    "CSB (tensor cores, mma, TF32 class)",
    {"float32": "tf32"},
    "Like csb_mma with one product of operands rounded to 11 significant bits, those of TF32.",
)
