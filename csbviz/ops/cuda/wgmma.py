"""CSB products on Hopper's tensor cores: launcher of kernels/cuda/csb_spmm_wgmma.cu."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from csbviz.ops.cuda.launch import B, C, Launches, LaunchPlan, run_with
from csbviz.ops.cuda.module import Function, current_device, get_kernel, missing_reason
from csbviz.ops.cuda.storage import device_arrays
from csbviz.ops.cuda.wgmma_plan import (
    EDGE,
    KINDS,
    SOURCE,
    TUNABLES,
    Shape,
    block_threads,
    choose_shape,
    halves,
    range_reason,
    scale_exponent,
    shared_bytes,
    stages,
)
from csbviz.ops.registry import SPMM_OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["accepts", "prepare"]

_CLASS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


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
    if A.block_shape != (EDGE, EDGE):
        rows, columns = A.block_shape
        return f"The blocks are {rows} x {columns}; this kernel reads {EDGE} x {EDGE} blocks."
    if A.blk_ptr.dtype != np.int32:
        return f"The matrix has {A.nnz} entries; this kernel counts them in 32 bits."
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
    tile_m, tile_n, split, cluster : int, optional
        See `TUNABLES`; what is None is chosen.
    precision : str, optional
        A key of `KINDS`; by default the class of the dtype.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer, or two do not go together.
    """
    kind, transpose = KINDS[precision or _CLASS[A.dtype]], is_transposed(op)
    device = current_device()
    rows, inner = A.shape[::-1] if transpose else A.shape
    wanted = {"tile_m": tile_m, "tile_n": tile_n, "split": split, "cluster": cluster}
    shape = choose_shape(rows, inner, n, device.multiprocessors, kind, **wanted)
    if rows == 0 or n == 0:
        return Prepared(lambda operand, out: out, 0, params=shape._asdict())
    if inner == 0:
        return Prepared(lambda operand, out: (out.fill(0), out)[1], 0, params=shape._asdict())
    launch, workspace = _launches(A, transpose, n, kind, shape, device)
    return Prepared(
        run_with(launch),
        A.nbytes + workspace,
        params=shape._asdict() | {"workspace_bytes": workspace},
        launch=launch,
    )


def _launches(A: CSBMatrix, transpose: bool, n: int, kind: int, shape: Shape, device):
    """The launches of a product, and the bytes of the split B that they write and read."""
    import cupy

    view = A.T if transpose else A
    rows, inner = view.shape
    units, blocks = view.grid
    row_tiles = _round_up(-(-rows // shape.tile_m), shape.cluster)
    column_tiles = -(-n // shape.tile_n)
    groups = column_tiles * shape.tile_n // EDGE
    image = cupy.empty(blocks * groups * EDGE * EDGE * 2 * halves(kind), cupy.uint8)
    scales = cupy.empty(blocks * groups, cupy.float32)

    exponent = scale_exponent(A) if kind < 2 else 0
    scale, inverse = (np.float32(2.0**sign) for sign in (exponent, -exponent))
    split_b = LaunchPlan(
        get_kernel(Function(SOURCE, "csb_split_b", (kind,))),
        (blocks * groups,),
        (256,),
        0,
        (B, np.int32(inner), np.int32(n), np.int32(groups), inverse, image, scales),
        programmatic=True,
    )
    a_stages, b_stages = stages(shape, kind)
    strides = (1, units) if transpose else (blocks, 1)
    sizes = (*strides, units, blocks, A.nnz, rows, inner, n, row_tiles, column_tiles)
    sizes += (shape.split, shape.cluster, a_stages, b_stages)
    matrix = device_arrays(A, device.id)
    indices = (matrix["row_ind"], matrix["col_ind"])[:: -1 if transpose else 1]
    multiply = LaunchPlan(
        get_kernel(Function(SOURCE, "csb_spmm_wgmma", (kind, shape.tile_m // EDGE, shape.tile_n))),
        (_ctas(shape, row_tiles * column_tiles, device.multiprocessors),),
        (block_threads(shape),),
        shared_bytes(shape, kind, a_stages, b_stages),
        (
            matrix["values"],
            *indices,
            matrix["blk_ptr"],
            np.array(sizes, np.int32).tobytes(),
            scale,
            image,
            scales,
            B,
            C,
        ),
        cluster=(shape.split * shape.cluster,),
        programmatic=True,
    )
    return Launches(split_b, multiply), image.nbytes + scales.nbytes


def _ctas(shape: Shape, tiles: int, multiprocessors: int) -> int:
    """CTAs of the grid: one a tile and part of its sum, or as many as run at once, equally loaded."""
    if shape.split > 1:
        return tiles * shape.split
    most = multiprocessors // shape.cluster * shape.cluster
    if tiles <= most:
        return tiles
    rounds = -(-tiles // most)
    return _round_up(-(-tiles // rounds), shape.cluster)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _register(name: str, title: str, dtypes: tuple[str, ...], precision: str | None, summary: str) -> None:
    register(
        Kernel(
            name=name,
            title=title,
            format="csb",
            device="cuda",
            ops=SPMM_OPS,
            dtypes=dtypes,
            precision={dtype: precision or _CLASS[dtype] for dtype in dtypes},
            prepare=functools.partial(prepare, precision=precision),
            summary=summary,
            tunables=TUNABLES,
            min_capability=(9, 0),
            exact_capability=True,
            requires=functools.partial(missing_reason, source=SOURCE),
            accepts=functools.partial(accepts, precision=precision),
        )
    )


_register(
    "csb_wgmma",
    "CSB (Hopper tensor cores)",
    ("float32", "float16", "bfloat16"),
    None,
    "Compressed blocks are scattered into dense tiles in shared memory and multiplied by wgmma; float32 "
    "operands are split into pairs of float16 and need three products.",
)
_register(
    "csb_wgmma_tf32",
    "CSB (Hopper tensor cores, TF32 class)",
    ("float32",),
    "tf32",
    "Compressed blocks are scattered into dense tiles and multiplied by wgmma, once, after scaling to "
    "float16, which has TF32's 11 bits.",
)
