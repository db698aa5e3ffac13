"""Launch shapes of the tensor-core kernel for few columns, and how long a launch should take.

Pure NumPy: what a GPU will do can be checked without one.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from csbviz.errors import OptionError
from csbviz.ops.cuda.module import Function
from csbviz.ops.cuda.settings import given
from csbviz.ops.cuda.wgmma_plan import EDGE, halves

__all__ = [
    "EDGE",
    "KINDS",
    "MOST_BLOCKS",
    "SOURCE",
    "TUNABLES",
    "Shape",
    "candidates",
    "choose_shape",
    "instantiations",
    "predict_us",
    "shared_bytes",
]

SOURCE = "csb_spmm_few.cu"

KINDS = {"fp32": 0, "tf32": 1}
"""KIND of the source for each precision class."""

TUNABLES = {"tile_m": (64, 128), "tile_n": (64, 48, 32), "depth": (1, 2, 4), "split": (1, 2, 4, 8)}
"""Parameters of a launch and their values.

tile_m, tile_n: rows and columns of C that a CTA computes. depth: most blocks of the sum that a CTA adds
up. split: CTAs of a cluster that share the sum of a tile.
"""

_COLUMNS = {
    (64, 1): (64, 48),
    (64, 2): (64, 48, 32),
    (64, 4): (64,),
    (128, 1): (64, 32),
    (128, 2): (64,),
    (128, 4): (64, 48),
}
"""tile_n by tile_m and depth, where a product was met that it suits: each is one more kernel to compile."""

_MOST_CANDIDATES = 12

MOST_BLOCKS = max(TUNABLES["depth"]) * max(TUNABLES["split"])
"""Blocks of a sum: all of them are in shared memory at once, of one CTA or another."""

_USABLE = {1: 1.0, 2: 1.0, 4: 0.94, 8: 0.79}
"""Share of the multiprocessors that clusters of so many CTAs can fill: a cluster lies inside one group of 16
or 18 of them."""


_HALF_OF_SHARED = 233472 // 2 - 1024
"""Most dynamic shared memory with which two CTAs fit a multiprocessor."""

_COSTS = {
    0: {
        (64, 1): (1.7, 3.4),
        (64, 2): (0.7, 4.6),
        (64, 4): (1.3, 5.3),
        (128, 1): (0.0, 5.1),
        (128, 2): (1.3, 5.2),
        (128, 4): (0.5, 8.8),
    },
    1: {
        (64, 1): (1.8, 3.1),
        (64, 2): (0.8, 3.9),
        (64, 4): (1.0, 4.6),
        (128, 1): (0.3, 4.5),
        (128, 2): (1.3, 4.5),
        (128, 4): (0.7, 6.6),
    },
}
"""Microseconds by KIND and (tile_m, depth): of a launch, and of each round of CTAs, at a density of 0.3.

Read off 150 launches on an H100 (512 x 512, 2048 x 512 and 512 x 2048 at 70 to 90 % sparsity, three layers
of ResNet-50 at 80 %, N of 128 to 512).
"""


_NARROWER = 0.5
"""Share of a round that the columns of a CTA take; the rest is that of its rows."""


class Shape(NamedTuple):
    """A launch: rows and columns of C a CTA, most blocks of the sum that it adds up, CTAs sharing a sum."""

    tile_m: int
    tile_n: int
    depth: int
    split: int = 1

    @property
    def warps(self) -> int:
        """Warps of a CTA; with 8 of them two CTAs share a multiprocessor where their memory allows it."""
        return 16 if self.depth == 4 else 8

    def steps(self, inner: int) -> int:
        """Blocks of the sum that a CTA adds up, of `inner` rows of B."""
        return -(-max(1, -(-inner // EDGE)) // self.split)

    def tiles(self, rows: int, n: int) -> int:
        """Tiles of a C of `rows` x `n`."""
        return -(-rows // self.tile_m) * -(-n // self.tile_n)

    def fault(self, inner: int) -> str | None:
        """Why a launch of this shape cannot add up `inner` rows of B, in one sentence, or None."""
        blocks = max(1, -(-inner // EDGE))
        if self.split > blocks:
            return f"split is {self.split} but the sum has {blocks} blocks."
        if self.steps(inner) > self.depth:
            return f"The sum has {blocks} blocks; split x depth is {self.split * self.depth}."
        if self.tile_n not in _COLUMNS[self.tile_m, self.depth]:
            offered = ", ".join(map(str, _COLUMNS[self.tile_m, self.depth]))
            return (
                f"tile_n is {self.tile_n}; with a tile_m of {self.tile_m} and {self.depth} blocks of the sum "
                f"a CTA it must be one of {offered}."
            )
        return None

    def function(self, kind: int) -> Function:
        """The kernel of this shape."""
        return Function(
            SOURCE, "csb_spmm_few", (kind, self.tile_m // EDGE, self.depth, self.warps, self.tile_n)
        )


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that the launcher can ask for."""
    shapes = [Shape(rows, columns, depth) for (rows, depth), widths in _COLUMNS.items() for columns in widths]
    return tuple(shape.function(kind) for shape, kind in product(shapes, KINDS.values()))


def shared_bytes(shape: Shape, kind: int) -> int:
    """Dynamic shared memory of a CTA in bytes."""
    piece = EDGE * EDGE * 2 * halves(kind)
    tiles = shape.depth * (1 + shape.tile_m // EDGE) * piece
    # Parts of the sum, for a depth of 1 also what warpgroups trade; then the barrier and small things.
    sums = shape.tile_m * shape.tile_n * 4 * (2 if shape.depth == 1 else 1)
    return tiles + sums + 1024


def candidates(rows: int, inner: int, n: int, multiprocessors: int = 132) -> list[Shape]:
    """Shapes worth trying for a product of `rows` x `inner` with `inner` x `n`.

    Parameters
    ----------
    rows, inner, n : int
        Rows of C, rows of B, columns of both.
    multiprocessors : int
        Of the device.
    """
    found = []
    for shape in map(Shape._make, product(*TUNABLES.values())):
        if shape.fault(inner) or (shape.tile_m > EDGE and shape.tile_m >= 2 * rows):
            continue
        if shape.depth >= 2 * shape.steps(inner) and shape.depth > 1:
            continue  # half of what a CTA holds would be empty
        if shape.tiles(rows, n) * shape.split > 4 * multiprocessors:
            continue  # many rounds of CTAs are better pipelined
        found.append(shape)
    found.sort(key=lambda shape: predict_us(shape, rows, inner, n, multiprocessors))
    return found[:_MOST_CANDIDATES]


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
    matching = [
        shape
        for shape in map(Shape._make, product(*TUNABLES.values()))
        if all(getattr(shape, name) == value for name, value in wanted.items())
    ]
    faults = [shape.fault(inner) for shape in matching]
    if all(faults):
        raise OptionError(faults[-1])
    able = [shape for shape, fault in zip(matching, faults, strict=True) if not fault]
    return min(able, key=lambda s: predict_us(s, rows, inner, n, multiprocessors, kind, density))


def predict_us(
    shape: Shape, rows: int, inner: int, n: int, multiprocessors: int, kind: int = 0, density: float = 0.2
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
    resident = 2 if shared_bytes(shape, kind) <= _HALF_OF_SHARED and shape.warps == 8 else 1
    usable, ctas = int(multiprocessors * _USABLE[shape.split]), shape.tiles(rows, n) * shape.split
    waves = -(-ctas // max(1, usable * resident))
    start, wave = _COSTS[kind][shape.tile_m, shape.depth]
    wave *= 1 - _NARROWER * (1 - shape.tile_n / EDGE)
    time = start + waves * wave
    if waves == 1 and ctas > usable:
        time += 0.4 * wave  # two CTAs share a multiprocessor
    time += 0.6 * shape.tile_m * shape.depth / EDGE * (density - 0.3)
    return time
