"""CSB products on Hopper's tensor cores: launcher of kernels/cuda/csb_spmm_wgmma.cu."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from csbviz.ops.cuda.hopper import register_for_hopper, without_launch
from csbviz.ops.cuda.launch import B, C, Launches, LaunchPlan, run_with
from csbviz.ops.cuda.module import current_device, get_kernel, missing_reason
from csbviz.ops.cuda.storage import block_strides, device_arrays
from csbviz.ops.cuda.wgmma_plan import (
    EDGE,
    KINDS,
    SOURCE,
    TUNABLES,
    Shape,
    block_threads,
    blocks_reason,
    candidates,
    choose_shape,
    halves,
    is_live,
    range_reason,
    scale_exponent,
    shared_bytes,
    split_function,
    stages,
)
from csbviz.ops.cuda.workspace import PerStream, new_array
from csbviz.ops.registry import Prepared, is_transposed

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["accepts", "prepare", "unavailable"]

_CLASS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


unavailable = functools.partial(missing_reason, source=SOURCE)
"""Why the kernels cannot run on this machine, in one sentence, or None."""


def accepts(A: CSBMatrix, op: str, n: int, *, precision: str | None = None) -> str | None:
    """Why the kernels cannot multiply this matrix, in one sentence, or None.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    precision : str, optional
        A key of `KINDS`; by default the class of the dtype.
    """
    unreadable = blocks_reason(A)
    if unreadable is not None:
        return unreadable
    tiles = -(-max(A.shape) // EDGE) * -(-n // EDGE)
    if tiles >= 2**24 or n >= 2**31 - 128:
        return (
            f"The product of {A.shape[0]} x {A.shape[1]} with {n} columns has too many tiles for one launch."
        )
    return range_reason(A, KINDS[precision or _CLASS[A.dtype]])


def prepare(
    A: CSBMatrix,
    op: str,
    n: int,
    *,
    threads: int = 0,
    balance: str = "auto",
    tile_m: int | None = None,
    tile_n: int | None = None,
    split: int | None = None,
    cluster: int | None = None,
    prepass: int | None = None,
    precision: str | None = None,
) -> Prepared:
    """Make a product ready on the current CUDA device.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix, one that `accepts` takes.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    threads, balance : int, str
        Not used: the tiles of C are all alike.
    tile_m, tile_n, split, cluster, prepass : int, optional
        See `TUNABLES`; what is None is chosen.
    precision : str, optional
        A key of `KINDS`; by default the class of the dtype.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer, or two do not go together.
    """
    kind, transpose = KINDS[precision or _CLASS[A.dtype]], is_transposed(op)
    rows, inner = A.shape[::-1] if transpose else A.shape
    wanted = {"tile_m": tile_m, "tile_n": tile_n, "split": split, "cluster": cluster, "prepass": prepass}
    shape = choose_shape(
        rows, inner, n, current_device().multiprocessors, kind, A.nnz / max(1, rows * inner), **wanted
    )
    if (nothing := without_launch(rows, inner, n, shape._asdict())) is not None:
        return nothing
    product = _Product(A, transpose, n, kind, shape)
    return Prepared(
        run_with(product),
        A.nbytes,
        params=shape._asdict() | {"workspace_bytes": product.workspace_bytes},
        notes=f"The split B takes {product.workspace_bytes} bytes for each stream."
        if product.workspace_bytes
        else "",
        launch=product,
    )


class _Product:
    """The launches of a product; ``product(stream, B, C)`` with addresses runs them.

    Attributes
    ----------
    workspace_bytes : int
        Bytes of the split B. There is one for each stream and captured graph that uses the product.
    """

    def __init__(self, A: CSBMatrix, transpose: bool, n: int, kind: int, shape: Shape):
        self._device = device = current_device()
        self._kind, self._shape, self._n = kind, shape, n
        view = A.T if transpose else A
        self._rows, self._inner = view.shape
        units, self._blocks = view.grid
        row_tiles = -(-self._rows // shape.tile_m)
        column_tiles = -(-n // shape.tile_n)
        self._groups = column_tiles * shape.tile_n // EDGE
        self._ctas = _ctas(shape, row_tiles * column_tiles, device.multiprocessors)
        sizes = (
            *block_strides(view),
            units,
            self._blocks,
            A.nnz,
            self._rows,
            self._inner,
            n,
            row_tiles,
            column_tiles,
        )
        self._stages = stages(shape, kind)
        self._sizes = np.array(
            (*sizes, shape.split, shape.cluster, *self._stages, is_live(A)), np.int32
        ).tobytes()
        matrix = device_arrays(A, device.id)
        indices = (matrix["row_ind"], matrix["col_ind"])[:: -1 if transpose else 1]
        self._matrix = (matrix["values"], *indices, matrix["blk_ptr"])
        exponent = scale_exponent(A) if kind < 2 else 0
        self._scale, self._inverse = np.float32(2.0**exponent), np.float32(2.0**-exponent)
        self._kernel = get_kernel(shape.function(kind, transpose))
        self._split_b = get_kernel(split_function(kind)) if shape.prepass else None
        self.workspace_bytes = sum(self._workspace_sizes())
        self._launches = self._bind()
        self._per_stream = PerStream(self._launches) if shape.prepass else None

    def _workspace_sizes(self) -> tuple[int, int]:
        """Bytes of the image of B, and of the scales of its tiles."""
        tiles = self._blocks * self._groups if self._shape.prepass else 0
        return tiles * EDGE * EDGE * 2 * halves(self._kind), tiles * 16

    def _bind(self) -> Launches:
        """The launches, with a workspace of their own."""
        if not self._shape.prepass:
            return Launches(self._multiply(None, None))
        image, scales = (new_array(size, "uint8") for size in self._workspace_sizes())
        sizes = map(np.int32, (self._inner, self._n, self._groups))
        split_b = LaunchPlan(
            self._split_b,
            (self._blocks * self._groups,),
            (256,),
            0,
            (B, *sizes, self._inverse, image, scales),
            programmatic=True,
        )
        return Launches(split_b, self._multiply(image, scales))

    def _multiply(self, image, scales) -> LaunchPlan:
        return LaunchPlan(
            self._kernel,
            (self._ctas,),
            (block_threads(self._shape),),
            shared_bytes(self._shape, self._kind, *self._stages),
            (*self._matrix, self._sizes, self._scale, self._inverse, image, scales, B, C),
            cluster=(self._shape.split,),
            programmatic=True,
        )

    def __call__(self, stream: int, b: int, c: int) -> None:
        """Launch on a stream; b and c are the addresses of B and C, both row-major and contiguous."""
        launches = self._launches if self._per_stream is None else self._per_stream.get(stream, self._bind)
        launches(stream, b, c)


def _ctas(shape: Shape, tiles: int, multiprocessors: int) -> int:
    """CTAs of the grid: one a tile and part of its sum, or as many as run at once, equally loaded."""
    if shape.split > 1:
        return tiles * shape.split
    if tiles <= multiprocessors:
        return tiles
    rounds = -(-tiles // multiprocessors)
    return -(-tiles // rounds)


_register = functools.partial(
    register_for_hopper,
    prepare=prepare,
    accepts=accepts,
    unavailable=unavailable,
    candidates=candidates,
    tunables=TUNABLES,
)
_register(
    "csb_wgmma",
    "CSB (Hopper tensor cores)",
    "Compressed blocks are scattered into dense tiles in shared memory and multiplied by wgmma; float32 "
    "operands are split into pairs of float16 and need three products.",
    _CLASS,
    None,
)
_register(
    "csb_wgmma_tf32",
    "CSB (Hopper tensor cores, TF32 class)",
    "Compressed blocks are scattered into dense tiles and multiplied by wgmma, once, after scaling to "
    "float16, which has TF32's 11 bits.",
    {"float32": "tf32"},
    "tf32",
)
