"""Launch shapes of the Hopper tensor-core kernels, their shared memory, and the range that they hold.

Pure NumPy: what a GPU will do can be checked without one.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.errors import OptionError
from csbviz.formats.dtypes import as_numpy
from csbviz.ops.cuda.module import Function
from csbviz.ops.cuda.settings import given

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = [
    "EDGE",
    "KINDS",
    "SOURCE",
    "TUNABLES",
    "Shape",
    "blocks_reason",
    "candidates",
    "choose_shape",
    "instantiations",
    "is_live",
    "position_of",
    "range_reason",
    "scale_exponent",
    "shared_bytes",
    "split_function",
    "stages",
]

SOURCE = "csb_spmm_wgmma.cu"

EDGE = 64
"""Rows and columns of a block of A, and of a tile of B."""

KINDS = {"fp32": 0, "tf32": 1, "fp16": 2, "bf16": 3}
"""KIND of the source for each precision class."""

TUNABLES = {
    "tile_m": (64, 128),
    "tile_n": (64, 128),
    "split": (1, 2, 4, 8),
    "cluster": (1,),
    "prepass": (0, 1),
}
"""Parameters of a launch and their values.

tile_m, tile_n: rows and columns of C that a CTA computes. split: CTAs of a cluster that share the sum of a
tile. cluster: always 1; clusters that share tiles of B were never faster. prepass: 1 when a launch of its own
splits B first, 0 when every CTA splits what it needs, which takes a tile_n of 64.
"""

_SHARED_LIMIT = 232448  # a CTA's dynamic shared memory on compute capability 9.0
_MAX_STAGES = 8
_TOP = 14
"""Scaled magnitudes are below 2^15; float16 ends at 65504."""

_SPAN = 28
"""Binary orders below the largest magnitude that a scaled pair of float16 holds: 2^14 to 2^-14."""


class Shape(NamedTuple):
    """A launch: rows and columns of C a CTA, CTAs that share a sum, 1, and whether B is split before it."""

    tile_m: int
    tile_n: int
    split: int = 1
    cluster: int = 1
    prepass: int = 1

    @property
    def fault(self) -> str | None:
        """Why no kernel has this shape, in one sentence, or None."""
        if not self.prepass and self.tile_n > EDGE:
            return f"prepass is 0; that needs a tile_n of {EDGE}."
        return None

    def function(self, kind: int, transpose: bool) -> Function:
        """The kernel of this shape, for A·B or Aᵀ·B."""
        return _function(kind, self.tile_m // EDGE, self.tile_n, not self.prepass, transpose)


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that the launcher can ask for."""
    kinds = tuple(KINDS.values())
    tiles = ((64, False), (128, False), (64, True))
    return (
        *map(split_function, kinds),
        *(
            _function(kind, rows, *tile, transpose)
            for kind, rows, tile, transpose in product(kinds, (1, 2), tiles, (False, True))
        ),
    )


def split_function(kind: int) -> Function:
    """The pre-pass that splits B."""
    return Function(SOURCE, "csb_split_b", (kind,))


def _function(kind: int, row_blocks: int, tile_n: int, fused: bool, transpose: bool) -> Function:
    return Function(SOURCE, "csb_spmm_wgmma", (kind, row_blocks, tile_n, fused, transpose))


def position_of(index: np.ndarray) -> np.ndarray:
    """Place in wgmma's order of a row or column of a tile; the source explains it."""
    return (index & ~15) | (index & 2) << 2 | (index & 12) >> 1 | (index & 1)


def halves(kind: int) -> int:
    """Tensor-core numbers that an operand is split into."""
    return 2 if kind == 0 else 1


def stages(shape: Shape, kind: int) -> tuple[int, int]:
    """Stages of the rings of A and of B.

    Raises
    ------
    OptionError
        If not even the fewest fit into shared memory.
    """
    # Groups of producers take turns, three where tiles are 64 wide and two where they are 128 wide; so do
    # the two warpgroups that multiply one block row. A place for a tile of A must always be the same group's
    # and the same warpgroup's, or a barrier's parity could stand for the wrong phase: with 64 x 64 tiles
    # there are six.
    if not shape.prepass:
        choices = (4, 4), (3, 4), (2, 4)
    elif shape.tile_n == EDGE:
        choices = ((6, 4),) if shape.tile_m == EDGE else ((3, 4), (3, 3))
    elif shape.tile_m == EDGE:
        choices = (4, 4), (2, 4)
    else:
        choices = (2, 4), (2, 3)  # more would leave less L1 cache
    for a_stages, b_stages in choices:
        if shared_bytes(shape, kind, a_stages, b_stages) <= _SHARED_LIMIT:
            return a_stages, b_stages
    raise OptionError(f"A launch of {shape} needs more shared memory than a CTA has.")


def shared_bytes(shape: Shape, kind: int, a_stages: int, b_stages: int) -> int:
    """Dynamic shared memory of a CTA in bytes."""
    row_blocks, groups = shape.tile_m // EDGE, shape.tile_n // EDGE
    piece = EDGE * EDGE * 2 * halves(kind)
    tiles = (b_stages * groups + a_stages * row_blocks) * piece
    partials = shape.tile_m * shape.tile_n * 4 * ((shape.split > 1) + _takes_turns(shape))
    # Barriers, then a record a part of the sum, scales a stage, extremes of B, and misfits of A.
    return tiles + partials + 8 * (2 + 3 * row_blocks) * _MAX_STAGES + 16 + 16 * _MAX_STAGES * 4 + 256 + 256


def block_threads(shape: Shape) -> int:
    """Threads of a CTA, in warpgroups that multiply, that prepare tiles of A, and that start copies of B."""
    if not shape.prepass:
        return 128 * (2 + 2 if shape.tile_m > EDGE else 1 + 3)
    return 128 * (2 + (2 if shape.tile_n > EDGE else 3) + 1)


def _takes_turns(shape: Shape) -> bool:
    """Whether two warpgroups take turns with the steps of one block row; they add their sums in the end."""
    return shape.tile_m == EDGE and bool(shape.prepass)


def candidates(rows: int, inner: int, n: int, multiprocessors: int = 132) -> list[Shape]:
    """Shapes worth trying for a product of `rows` x `inner` with `inner` x `n`.

    Parameters
    ----------
    rows, inner, n : int
        Rows of C, rows of B, columns of both.
    multiprocessors : int
        Of the device.
    """
    blocks = max(1, -(-inner // EDGE))
    found = []
    for shape in map(Shape._make, product(*TUNABLES.values())):
        tile_m, tile_n, split = shape[:3]
        if shape.fault or split > blocks:
            continue
        if (tile_m > EDGE and tile_m >= 2 * rows) or (tile_n > EDGE and tile_n >= 2 * n):
            continue
        row_tiles = -(-rows // tile_m)
        tiles = row_tiles * -(-n // tile_n)
        if split > 1 and tiles * split > 2 * multiprocessors:
            continue
        found.append(shape)
    return found


def choose_shape(
    rows: int,
    inner: int,
    n: int,
    multiprocessors: int,
    kind: int = 0,
    density: float = 0.2,
    **wanted: int | None,
) -> Shape:
    """The shape that should be fastest by a simple rule, with what the caller sets.

    Raises
    ------
    OptionError
        If a parameter has a value that the kernel does not offer, or two do not go together.
    """
    wanted = given(wanted, TUNABLES)
    fault = Shape(**({"tile_m": EDGE, "tile_n": EDGE} | wanted)).fault
    if fault:
        raise OptionError(fault)
    blocks = max(1, -(-inner // EDGE))
    if wanted.get("split", 1) > blocks:
        raise OptionError(f"split is {wanted['split']} but the sum has {blocks} blocks.")
    matching = [
        shape
        for shape in candidates(rows, inner, n, multiprocessors)
        if all(getattr(shape, name) == value for name, value in wanted.items())
    ]
    if matching:
        return min(matching, key=lambda s: predict_us(s, rows, inner, n, multiprocessors, kind, density))
    # An unusual wish: what is left open is as simple as can be.
    return Shape(**({"tile_m": EDGE, "tile_n": EDGE} | wanted))


_COSTS = {
    (64, 64, 0): (0.96, 0.0, 3.6),
    (64, 64, 1): (0.66, 0.04, 3.3),
    (64, 128, 1): (0.75, 0.54, 4.1),
    (128, 64, 0): (1.36, 0.76, 4.0),
    (128, 64, 1): (0.95, 1.02, 4.0),
    (128, 128, 1): (1.01, 1.19, 5.0),
}
"""Microseconds by (tile_m, tile_n, prepass): a step of 64 of the sum, the same a unit of density, and a tile.

Fitted to 153 float32 launches on an H100 (three matrices of 70 to 90 % sparsity, N of 128 to 2048); root mean
square error 5 %.
"""


def predict_us(
    shape: Shape, rows: int, inner: int, n: int, multiprocessors: int, kind: int, density: float = 0.2
) -> float:
    """Microseconds that a launch should take.

    Parameters
    ----------
    shape : Shape
        The launch.
    rows, inner, n : int
        Rows of C, rows of B, columns of both.
    multiprocessors : int
        Of the device.
    kind : int
        A value of `KINDS`.
    density : float
        Share of the matrix's cells that hold an entry.
    """
    # Clusters lie inside a group of 16 or 18 multiprocessors: large ones leave some of them idle.
    usable = {1: 1.0, 2: 1.0, 4: 0.94, 8: 0.79}[shape.split]
    tiles = -(-rows // shape.tile_m) * -(-n // shape.tile_n)
    rounds = -(-tiles * shape.split // max(1, int(multiprocessors * usable)))
    steps = -(-max(1, -(-inner // EDGE)) // shape.split)
    step, dense, tile = _COSTS[shape.tile_m, shape.tile_n, shape.prepass]
    step += dense * density
    if kind != 0:
        step *= 0.65
    time = 0.4 + rounds * (steps * step + tile)
    if shape.prepass:
        time += 0.3 + 2.0e-6 * inner * n
    if shape.split > 1:
        time += 1.1 * (1 + shape.tile_m * shape.tile_n / 16384)
    return time


def is_live(A: CSBMatrix) -> bool:
    """Whether the values of A are a tensor on a GPU, which may change after a plan was made."""
    return bool(getattr(A.stored.values, "is_cuda", False))


def _magnitudes(values) -> tuple[float, float, bool]:
    """Smallest and largest finite nonzero magnitude (0 when there is none), and whether all are finite."""
    numbers = np.abs(as_numpy(values).astype(np.float32, copy=False))
    finite = np.isfinite(numbers)
    nonzero = numbers[finite & (numbers > 0)]
    if not nonzero.size:
        return 0.0, 0.0, bool(finite.all())
    return float(nonzero.min()), float(nonzero.max()), bool(finite.all())


def _value_range(A: CSBMatrix) -> tuple[float, float, bool]:
    """What `_magnitudes` says, kept with the matrix unless its values may change."""
    if is_live(A):
        return _magnitudes(A.stored.values)
    key = "wgmma_value_range"
    if key not in A.cache:
        A.cache[key] = _magnitudes(A.stored.values)
    return A.cache[key]


def blocks_reason(A: CSBMatrix) -> str | None:
    """Why kernels that decompress blocks into tiles cannot read a matrix, in one sentence, or None."""
    if A.block_shape != (EDGE, EDGE):
        rows, columns = A.block_shape
        return f"The blocks are {rows} x {columns}; this kernel reads {EDGE} x {EDGE} blocks."
    if A.blk_ptr.dtype != np.int32:
        return f"The matrix has {A.nnz} entries; this kernel counts them in 32 bits."
    return None


def range_reason(A: CSBMatrix, kind: int) -> str | None:
    """Why the values of A do not fit the kernel's range, in one sentence, or None.

    Values that may change are looked at by the kernel itself, in every product.
    """
    if is_live(A):
        return None
    smallest, largest, finite = _value_range(A)
    if not finite:
        return "The matrix holds Inf or NaN; tensor cores would multiply them with zeros that are not stored."
    if kind < 2 and largest and math.frexp(largest)[1] - math.frexp(smallest)[1] > _SPAN:
        return (
            f"The magnitudes of the matrix reach from {smallest:.2g} to {largest:.2g}; "
            f"pairs of float16 hold a range of 2^{_SPAN}."
        )
    if kind < 2 and abs(scale_exponent(A)) > 126:
        return f"The largest magnitude of the matrix is {largest:.2g}; to scale it leaves float32's range."
    return None


def scale_exponent(A: CSBMatrix) -> int:
    """Power of two that brings the largest magnitude of A into [2^14, 2^15); 0 for a matrix of zeros.

    Values that may change have room to grow eightfold before the kernel must take its slow path.
    """
    _, largest, _ = _value_range(A)
    if not largest:
        return 0
    exponent = _TOP + 1 - math.frexp(largest)[1]
    return max(-126, min(126, exponent - 3)) if is_live(A) else exponent
