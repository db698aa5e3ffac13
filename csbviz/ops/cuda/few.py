"""CSB products with few columns on Hopper's tensor cores: launcher of kernels/cuda/csb_spmm_few.cu."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from csbviz.ops.cuda.few_plan import (
    EDGE,
    KINDS,
    MOST_BLOCKS,
    SOURCE,
    TUNABLES,
    Shape,
    candidates,
    choose_shape,
    shared_bytes,
)
from csbviz.ops.cuda.hopper import register_for_hopper, without_launch
from csbviz.ops.cuda.launch import B, C, LaunchPlan, run_with
from csbviz.ops.cuda.module import current_device, get_kernel, missing_reason
from csbviz.ops.cuda.storage import block_strides, device_arrays
from csbviz.ops.cuda.wgmma_plan import blocks_reason, is_live, range_reason, scale_exponent
from csbviz.ops.registry import Prepared, is_transposed

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["accepts", "prepare", "unavailable"]

_MOST_SIDE = 65535 * min(*TUNABLES["tile_m"], *TUNABLES["tile_n"])
"""Rows and columns of a C with as many tiles as a grid can have."""

unavailable = functools.partial(missing_reason, source=SOURCE)
"""Why the kernel cannot run on this machine, in one sentence, or None."""


def accepts(A: CSBMatrix, op: str, n: int, *, precision: str = "fp32") -> str | None:
    """Why the kernel cannot multiply this matrix, in one sentence, or None.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    precision : str
        A key of `KINDS`.
    """
    unreadable = blocks_reason(A)
    if unreadable is not None:
        return unreadable
    if max(*A.shape, n) > _MOST_SIDE:
        return (
            f"The product of {A.shape[0]} x {A.shape[1]} with {n} columns is too large for one launch: "
            f"this kernel takes up to {_MOST_SIDE} rows and columns."
        )
    blocks = -(-A.shape[0 if is_transposed(op) else 1] // EDGE)
    if blocks > MOST_BLOCKS:
        return f"The sum has {blocks} blocks of {EDGE}; this kernel adds up to {MOST_BLOCKS} at once."
    return range_reason(A, KINDS[precision])


def prepare(
    A: CSBMatrix,
    op: str,
    n: int,
    *,
    threads: int = 0,
    balance: str = "auto",
    tile_m: int | None = None,
    tile_n: int | None = None,
    depth: int | None = None,
    split: int | None = None,
    precision: str = "fp32",
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
    tile_m, tile_n, depth, split : int, optional
        See `TUNABLES`; what is None is chosen.
    precision : str
        A key of `KINDS`.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer, or two do not go together.
    """
    rows, inner = A.shape[::-1] if is_transposed(op) else A.shape
    shape = choose_shape(
        rows,
        inner,
        n,
        current_device().multiprocessors,
        KINDS[precision],
        A.nnz / max(1, rows * inner),
        tile_m=tile_m,
        tile_n=tile_n,
        depth=depth,
        split=split,
    )
    if (nothing := without_launch(rows, inner, n, shape._asdict())) is not None:
        return nothing
    launch = _launch(A, is_transposed(op), n, KINDS[precision], shape)
    return Prepared(run_with(launch), A.nbytes, params=shape._asdict(), launch=launch)


def _launch(A: CSBMatrix, transpose: bool, n: int, kind: int, shape: Shape) -> LaunchPlan:
    """The launch of a product."""
    view = A.T if transpose else A
    rows, inner = view.shape
    units, blocks = view.grid
    row_tiles, column_tiles = -(-rows // shape.tile_m), -(-n // shape.tile_n)
    sizes = (*block_strides(view), units, blocks, A.nnz, rows, inner, n, row_tiles, column_tiles)
    rings = 0, 0  # of the pipelined kernel that shares the structure
    matrix = device_arrays(A, current_device().id)
    exponent = scale_exponent(A)
    return LaunchPlan(
        get_kernel(shape.function(kind)),
        (shape.split, row_tiles, column_tiles),
        (shape.warps * 32,),
        shared_bytes(shape, kind),
        (
            matrix["values"],
            *(matrix["row_ind"], matrix["col_ind"])[:: -1 if transpose else 1],
            matrix["blk_ptr"],
            np.array((*sizes, shape.split, 1, *rings, is_live(A)), np.int32).tobytes(),
            np.int32(shape.steps(inner)),
            np.float32(2.0**exponent),
            np.float32(2.0**-exponent),
            B,
            C,
        ),
        cluster=(shape.split,),
        programmatic=True,
    )


_register = functools.partial(
    register_for_hopper,
    prepare=prepare,
    accepts=accepts,
    unavailable=unavailable,
    candidates=candidates,
    tunables=TUNABLES,
)
_register(
    "csb_few",
    "CSB (Hopper, few columns)",
    "A CTA holds the few blocks that it multiplies at once, so that a product of few columns is one short "
    "chain; float32 operands are split into pairs of float16 and need three products.",
    {"float32": "fp32"},
    "fp32",
)
_register(
    "csb_few_tf32",
    "CSB (Hopper, few columns, TF32)",
    "As csb_few with one product, after scaling to float16, which has TF32's 11 bits.",
    {"float32": "tf32"},
    "tf32",
)
