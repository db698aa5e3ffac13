"""CSB products on the tensor cores of any GPU from Turing on, by kernels/cuda/csb_spmm_mma.cu."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from csbviz.ops.cuda import launch as launches
from csbviz.ops.cuda.driver import obstacle
from csbviz.ops.cuda.mma_launch import (
    IMAGE_BYTES,
    SOURCE,
    TUNABLES,
    Launch,
    choose_launch,
    images_function,
    product_function,
    shared_bytes,
    worth_trying,
)
from csbviz.ops.cuda.mma_plan import TILE, build_steps, entry_places, list_tiny, value_range
from csbviz.ops.cuda.module import current_device, get_kernel, missing_reason
from csbviz.ops.cuda.storage import device_arrays
from csbviz.ops.cuda.workspace import PerStream, new_array
from csbviz.ops.registry import SPMM_OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["MIN_CAPABILITY", "MmaProduct", "accepts", "candidates", "prepare"]

MIN_CAPABILITY = (7, 5)

_SIDES = (16, 32, 64)
_SCALED = ("fp32", "tf32")  # classes of float32 values
_OWN_CLASS = {"float16": "fp16", "bfloat16": "bf16"}

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
    if n >= 2**31 - 128 or -(-inner // TILE) * (-(-n // 128) * 2) >= 2**31:
        return f"a B of {inner} x {n} has too many columns or tiles for one launch."
    if A.dtype == "bfloat16":
        return obstacle((8, 0))
    if A.dtype != "float32":
        return None
    if A.cache.get("values_change"):
        return "its values may change from call to call, but their range must be known beforehand."
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


class _Bound(NamedTuple):
    """The launches with a workspace of their own, which is kept as long as they are."""

    images: dict[bool, Any]  # by whether rows of B begin on 16-byte boundaries
    products: dict[bool, Any]  # by whether neighbours in a row of C may be stored at once
    workspace: tuple


class MmaProduct:
    """A product made ready: device arrays, the two launches, and the call.

    Attributes
    ----------
    shape : Launch
        Shape of the launch.
    bytes : int
        Bytes that a call reads besides B.
    workspace_bytes : int
        Bytes for the images of B and for partial sums; there is one workspace for each stream and captured
        graph.
    """

    def __init__(
        self, A: CSBMatrix, transpose: bool, n: int, precision: str, shape: Launch, target: str | None
    ):
        import cupy

        device = current_device()
        self.shape, self._n, self._precision = shape, n, precision
        view = A.T if transpose else A
        self._rows, self._inner = view.shape
        self._item = 4 if precision in _SCALED else 2  # bytes of a value
        matrix = device_arrays(A, device.id)["values"], _device_places(A, device.id)
        steps = build_steps(A, transpose, shape.tile_m, shape.threads // 32)
        plan = [steps.step_ptr, steps.steps, steps.pieces]
        exponent = 0
        if precision in _SCALED:
            exponent = value_range(A).exponent
            plan += list_tiny(A, transpose, precision)
        else:
            plan += [np.zeros(1, np.int32), np.zeros((1, 4), np.int32)]
        self.bytes = sum(array.nbytes for array in (*matrix, *plan))
        plan = [cupy.asarray(array if array.size else np.zeros(4, array.dtype)) for array in plan]
        self._matrix = (*matrix, *plan, np.int32(steps.by_rows), np.float32(2.0**exponent))
        self._exponent = np.int32(exponent)
        self._tiles = max(1, -(-self._rows // shape.tile_m)), -(-n // shape.tile_n)
        self._k_tiles, self._image_tiles = -(-self._inner // TILE), self._tiles[1] * shape.tile_n // TILE
        # Only code for compute capability 9.0 waits by itself for the kernel before.
        self._overlap = device.capability >= (9, 0) and target is None and self._k_tiles > 0
        self._images_kernel = get_kernel(images_function(precision), target)
        self._kernel = get_kernel(product_function(precision, transpose, shape), target)
        first = self._bind()
        self.workspace_bytes = sum(array.nbytes for array in first.workspace)
        self._per_stream = PerStream(first)

    def _bind(self) -> _Bound:
        """Launches with a workspace of their own."""
        parts, scaled = (2 if self._precision == "fp32" else 1), self._precision in _SCALED
        count, tiles = max(1, self._k_tiles * self._image_tiles), self._tiles[0] * self._tiles[1]
        cut = self.shape.splits > 1
        sums = tiles * self.shape.splits * self.shape.tile_m * self.shape.tile_n
        images = (
            new_array(count * parts * IMAGE_BYTES, "uint8"),
            new_array(count * TILE if scaled else 1, "float32"),
            new_array(count, "int32"),
        )
        partials = (
            new_array(sums if cut else 1, "float32"),
            new_array(tiles if cut else 1, "int32", zeroed=True),
        )
        both = (False, True)
        return _Bound(
            {vector: self._images_launch(vector, images) for vector in both},
            {pairs: self._product_launch(pairs, images, partials) for pairs in both},
            (*images, *partials),
        )

    def _images_launch(self, vector: bool, images: tuple):
        if not self._k_tiles:
            return None
        sizes = map(np.int32, (self._inner, self._n, vector))
        arguments = (launches.B, *sizes, self._exponent, np.int32(self._image_tiles), *images)
        grid = (self._k_tiles * self._image_tiles,)
        return launches.LaunchPlan(
            self._images_kernel, grid, (256,), 0, arguments, programmatic=self._overlap
        )

    def _product_launch(self, pairs: bool, images: tuple, partials: tuple):
        sizes = (self._tiles[0], self._image_tiles, self.shape.splits, self._rows, self._n, pairs)
        arguments = (*self._matrix, *images, *map(np.int32, sizes), launches.B, launches.C, *partials)
        grid = (self._tiles[0] * self._tiles[1] * self.shape.splits,)
        shared = shared_bytes(self._precision, self.shape, current_device().capability)
        return launches.LaunchPlan(
            self._kernel, grid, (self.shape.threads,), shared, arguments, programmatic=self._overlap
        )

    def __call__(self, stream: int, b: int, c: int) -> None:
        """Launch on a stream; b and c are the addresses of B and of the result, both row-major."""
        if self._rows == 0 or self._n == 0:
            return
        bound = self._per_stream.get(stream, self._bind)
        images = bound.images[self._n * self._item % 16 == 0 and b % 16 == 0]
        if images is not None:
            images(stream, b, c)
        bound.products[self._n % 2 == 0 and c % (2 * self._item) == 0](stream, b, c)


def _device_places(A: CSBMatrix, device: int):
    """Where the entries belong in their images, on the device, kept with the matrix for both directions."""
    import cupy

    key = ("mma_places", device)
    if key not in A.cache:
        A.cache[key] = cupy.asarray(entry_places(A))
    return A.cache[key]


def _size(A: CSBMatrix, op: str) -> tuple[int, float]:
    """Rows of the product, and how many tiles of the inner dimension hold entries for the mean 64 of them."""
    transpose = is_transposed(op)
    lists = build_steps(A, transpose, TILE, 4)
    return A.shape[1 if transpose else 0], len(lists.steps) / max(1, len(lists.step_ptr) - 1)


def candidates(A: CSBMatrix, op: str, n: int, precision: str = "fp32") -> list[dict]:
    """Settings of the tunables that are worth trying for a product on the current CUDA device.

    Parameters
    ----------
    A, op, n
        See `accepts`.
    precision : {"fp32", "tf32"}
        Class of a product of float32 values.
    """
    precision = _OWN_CLASS.get(A.dtype, precision)
    return worth_trying(*_size(A, op), n, precision, current_device())


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
    precision = _OWN_CLASS.get(A.dtype) or precision or "fp32"
    transpose = is_transposed(op)
    shape = choose_launch(
        *_size(A, op), n, precision, current_device(), tile=tile, stages=stages, splits=splits
    )
    product = MmaProduct(A, transpose, n, precision, shape, target)
    params = shape._asdict() | {"workspace_bytes": product.workspace_bytes}
    return Prepared(launches.run_with(product), product.bytes, params=params, launch=product)


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
            candidates=functools.partial(candidates, precision=single),
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
