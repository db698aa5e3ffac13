"""The sampled product by tiles on tensor cores: csb_sddmm_mma.cu, and csb_sddmm_wgmma.cu for Hopper."""

from __future__ import annotations

import struct
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from csbviz.ops.cuda.launch import B, C, D, LaunchPlan
from csbviz.ops.cuda.module import SOURCES, Function, get_kernel

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix
    from csbviz.ops.cuda.module import DeviceLimits

__all__ = [
    "MMA",
    "WGMMA",
    "TileShape",
    "best_splits",
    "best_tiles",
    "fits",
    "instantiations",
    "predict_us",
    "tile_launches",
    "tiles_of",
]

_DEPTH, _ROW_BYTES = 32, 128  # columns of a stage, and their bytes, as in the sources
_MOST_SPLITS = 8  # CTAs of a cluster that every device with clusters runs


class TileShape(NamedTuple):
    """A kernel and what its CTA holds.

    Attributes
    ----------
    name : str
        "csb_sddmm_mma" or "csb_sddmm_wgmma".
    rows, columns : int
        Of the tile.
    groups : int
        Groups of warps that take different columns of U and V (1 for wgmma).
    stages : int
        Of a group's ring.
    """

    name: str
    rows: int
    columns: int
    groups: int
    stages: int

    @property
    def source(self) -> str:
        """The file of the kernel."""
        return f"{self.name}.cu"

    @property
    def arguments(self) -> tuple[int, ...]:
        """Template arguments of the shape."""
        if self.name == "csb_sddmm_wgmma":
            return self.rows // 64, self.columns, self.stages
        return self.rows, self.columns, self.groups, self.stages

    @property
    def threads(self) -> int:
        """Threads of a CTA."""
        if self.name == "csb_sddmm_wgmma":
            return 2 * self.rows
        return self.rows * self.columns // 32 * self.groups

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory of a CTA: its stages, or its sums in the end."""
        ring = self.groups * self.stages * (self.rows + self.columns) * _ROW_BYTES
        sums = self.groups * self.rows * (self.columns + 8) * 4
        if self.name == "csb_sddmm_wgmma":  # low parts, and room to begin at a multiple of 1024
            return 1024 + max(ring + 2 * self.columns * _ROW_BYTES, sums)
        return max(ring, sums)


MMA = (
    TileShape("csb_sddmm_mma", 128, 64, 2, 3),
    TileShape("csb_sddmm_mma", 64, 64, 4, 3),
)
WGMMA = (
    TileShape("csb_sddmm_wgmma", 128, 128, 1, 4),
    TileShape("csb_sddmm_wgmma", 128, 64, 1, 4),
    TileShape("csb_sddmm_wgmma", 64, 64, 1, 3),
)


class _Costs(NamedTuple):
    """Microseconds of a launch on an H100 with 132 multiprocessors, from timings of layers of 70 to 98 %."""

    start: float  # the first stage, the last sums
    stage: float  # a stage of one CTA
    another: float  # the same stage of another CTA of the multiprocessor
    resident: int  # CTAs that a multiprocessor runs at once


_COSTS = {
    (128, 128): _Costs(6.0, 1.3, 1.3, 1),
    (128, 64): _Costs(3.9, 0.82, 0.82, 1),
    (64, 64): _Costs(4.0, 0.6, 0.26, 3),
}
_CLUSTER_US = 0.6  # each doubling of the CTAs that share a tile
_PICK_US = 8.6e-6 * 132  # an entry, through one multiprocessor


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that can be asked for."""
    indices, pointers = ("uint8", "uint16"), ("int32", "int64")
    structure = tuple(product(indices, indices, pointers))
    shapes = (*MMA, *WGMMA)
    return tuple(
        Function(shape.source, shape.name, (*names, *shape.arguments, vector))
        for shape, names, vector in product(shapes, structure, (True, False))
    )


def fits(A: CSBMatrix, shape: TileShape, dtype: str, device: DeviceLimits) -> bool:
    """Whether tiles of that shape consist of whole blocks, and the device runs the kernel."""
    block_rows, block_columns = A.block_shape
    return (
        dtype == "float32"
        and shape.rows % block_rows == 0
        and shape.columns % block_columns == 0
        and SOURCES[shape.source].fits(device.capability)
        and shape.shared_bytes <= device.shared_bytes
    )


def tiles_of(A: CSBMatrix, shape: TileShape) -> tuple[int, int]:
    """Tiles of the matrix one below the other and side by side."""
    return -(-A.shape[0] // shape.rows), -(-A.shape[1] // shape.columns)


def _splits(tiles: int, shape: TileShape, n: int, device: DeviceLimits) -> list[int]:
    """In how many ways CTAs may share a tile: in clusters, each with a stage of columns at least."""
    if device.capability < (9, 0):
        return [1]
    stages = -(-n // (_DEPTH * shape.groups))
    splits = [s for s in (1, 2, 4, 8) if s <= stages and (s <= 2 or tiles * s <= device.multiprocessors)]
    if shape.rows == 128:  # more CTAs were slower than smaller tiles
        splits = [s for s in splits if s <= 2]
    return splits


def predict_us(A: CSBMatrix, n: int, shape: TileShape, splits: int, multiprocessors: int) -> float:
    """Microseconds that a product on Hopper's tensor cores should take."""
    costs = _COSTS[shape.rows, shape.columns]
    down, across = tiles_of(A, shape)
    ctas = -(-down * across * splits // multiprocessors)  # of the busiest multiprocessor
    full, rest = divmod(ctas, costs.resident)
    together = [costs.resident] * full + [rest] * (rest > 0)
    stage = sum(costs.stage + costs.another * (count - 1) for count in together)
    stages = -(-n // (_DEPTH * splits))
    return (
        costs.start
        + stages * stage
        + _CLUSTER_US * (splits.bit_length() - 1)
        + _PICK_US * A.nnz / multiprocessors
    )


def best_splits(A: CSBMatrix, shape: TileShape, n: int, device: DeviceLimits) -> int:
    """How many CTAs should share a tile."""
    down, across = tiles_of(A, shape)
    options = _splits(down * across, shape, n, device)
    if shape not in WGMMA:  # as many as run at once
        return max(s for s in options if s == 1 or down * across * s <= device.multiprocessors)
    return min(options, key=lambda splits: predict_us(A, n, shape, splits, device.multiprocessors))


def best_tiles(A: CSBMatrix, n: int, dtype: str, device: DeviceLimits) -> tuple[float, TileShape] | None:
    """The shape of tiles that should be the fastest and its microseconds; None where none fits.

    Only Hopper's kernel has measured costs; `MMA` has to be asked for.
    """
    found = []
    for shape in WGMMA:
        if A.nnz and fits(A, shape, dtype, device):
            splits = best_splits(A, shape, n, device)
            found.append((predict_us(A, n, shape, splits, device.multiprocessors), shape))
    return min(found, default=None)


def tile_launches(
    A: CSBMatrix, arrays: dict, n: int, shape: TileShape, splits: int
) -> tuple[LaunchPlan, LaunchPlan]:
    """The launch for operands of any alignment, and that for rows that begin at multiples of 16 bytes.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    arrays : dict
        Its `device_arrays`.
    n : int
        Columns of U and V.
    shape : TileShape
        That `fits`.
    splits : int
        CTAs that share a tile.

    Returns
    -------
    (LaunchPlan, LaunchPlan)
        Called with a stream and the addresses of U, out and V. The second needs ``n % 4 == 0``.
    """
    down, across = tiles_of(A, shape)
    structure = [arrays[name] for name in ("row_ind", "col_ind", "blk_ptr")]
    names = tuple(str(array.dtype) for array in structure)
    sizes = struct.pack("9i", *A.shape, *A.grid, *A.block_shape, n, across, splits)
    launches = []
    for vector in (False, True):
        kernel = get_kernel(Function(shape.source, shape.name, (*names, *shape.arguments, vector)))
        launches.append(
            LaunchPlan(
                kernel,
                (down * across * splits,),
                (shape.threads,),
                shape.shared_bytes,
                (*structure, sizes, B, D, C),
                cluster=(splits,) if splits > 1 else None,
            )
        )
    return launches[0], launches[1]
