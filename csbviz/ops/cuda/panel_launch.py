"""The shapes of a launch of csb_rows, which of them fit, and the one that should be fastest."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.ops.cuda.direct_plan import code_bits
from csbviz.ops.cuda.module import DeviceLimits, Function
from csbviz.ops.cuda.panel_plan import MAX_PLACES, TOGETHER, count_places
from csbviz.ops.cuda.pieces_plan import PieceCounts, count_pieces

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = [
    "ITEM",
    "PIECES_SOURCE",
    "SOURCE",
    "TAKES",
    "TUNABLES",
    "Launch",
    "Structure",
    "function_of",
    "instantiations",
    "refusal",
    "shared_bytes",
    "slots_of",
    "structure_of",
    "worth_trying",
]

SOURCE, PIECES_SOURCE = "csb_spmm_rows.cu", "csb_spmm_pieces.cu"

TUNABLES = {
    "form": ("panel", "direct", "pieces"),
    "tile_m": (64, 128, 256, 512),
    "tile_n": (16, 32, 64, 128),
    "warps": (4, 8, 16, 32),
    "chunk_k": (64, 128, 256, 512),
    "column_tiles": (1, 2, 4, 8),
    "buffers": (1, 2),
    "resident": (True, False),
    "split": (1, 2, 4),
    "length": (4, 8, 16),
}
"""Parameters of the kernels and the values worth trying."""

ITEM = {"float32": 4, "float64": 8}
_VECTORS, _ROWS = (1, 2), (1, 2, 4)  # template parameters of csb_rows_panel
_GROUPS = (8, 16, 32)  # of csb_rows_direct
_PIECES = ((8, 4), (8, 8), (16, 8), (16, 16), (32, 8), (32, 16))  # of csb_rows_pieces: GROUP, LENGTH
_PIECES_WARPS = 16  # of a CTA, at most


class Launch(NamedTuple):
    """Shape of a launch. What the other form takes is 0.

    Attributes
    ----------
    form : str
        "panel", "direct" or "pieces", the kernels.
    tile_n : int
        Columns of C of a tile.
    warps : int
        Warps of a CTA.
    tile_m, chunk_k, column_tiles, buffers : int
        Panel: rows of a tile, inner dimension of a chunk, tiles of columns that a CTA computes one after the
        other, panels of B in shared memory.
    resident : bool
        Panel: whether the entries of all chunks are in shared memory together.
    split : int
        Direct: warps that share a row.
    length : int
        Pieces: entries that one takes.
    """

    form: str
    tile_n: int
    warps: int
    tile_m: int = 0
    chunk_k: int = 0
    column_tiles: int = 0
    buffers: int = 0
    resident: bool = False
    split: int = 0
    length: int = 0

    @property
    def params(self) -> dict:
        """The parameters that the form takes."""
        return {name: value for name, value in self._asdict().items() if value or name in TAKES[self.form]}


TAKES = {
    "panel": ("tile_m", "tile_n", "warps", "chunk_k", "column_tiles", "buffers", "resident"),
    "direct": ("tile_n", "warps", "split"),
    "pieces": ("tile_n", "warps", "length"),
}
"""What each form takes of `TUNABLES`."""


def function_of(launch: Launch, dtype: str, index: str, pointer: str, aligned: bool) -> Function:
    """The kernel of a launch, for operands that begin on 16-byte boundaries or any."""
    if launch.form == "panel":
        vectors = launch.tile_n * ITEM[dtype] // 128
        rows = launch.tile_m // (TOGETHER * launch.warps)
        return Function(SOURCE, "csb_rows_panel", (dtype, index, pointer, vectors, rows, aligned))
    group = launch.tile_n * ITEM[dtype] // 16
    if launch.form == "pieces":
        return Function(PIECES_SOURCE, "csb_rows_pieces", (dtype, pointer, group, launch.length, aligned))
    return Function(SOURCE, "csb_rows_direct", (dtype, index, pointer, group, aligned))


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that the launcher can ask for."""
    types = list(product(ITEM, ("uint8", "uint16"), ("int32", "int64")))
    shapes = product(types, _VECTORS, _ROWS, (True, False))
    panels = [Function(SOURCE, "csb_rows_panel", (*types, *shape)) for types, *shape in shapes]
    shapes = product(types, _GROUPS, (True, False))
    direct = [Function(SOURCE, "csb_rows_direct", (*types, *shape)) for types, *shape in shapes]
    shapes = product(ITEM, ("int32", "int64"), _PIECES, (True, False))
    pieces = [
        Function(PIECES_SOURCE, "csb_rows_pieces", (*types, *pair, fast)) for *types, pair, fast in shapes
    ]
    return (*panels, *direct, *pieces)


class Structure(NamedTuple):
    """What the choice asks of a matrix in one direction.

    Attributes
    ----------
    lengths : int64[rows]
        Entries of each row.
    inner : int
        Rows of B.
    block : (int, int)
        Sides of a block.
    code_bits : int
        Bits that a code of the direct form takes.
    item : int
        Bytes of a value.
    dtype : str
        Type of the values.
    count : callable
        ``count(tile_m, chunk_k)``: the places that `count_places` finds.
    pieces : callable
        ``pieces(length)``: what `count_pieces` finds.
    """

    lengths: np.ndarray
    inner: int
    block: tuple[int, int]
    code_bits: int
    item: int
    dtype: str
    count: Callable[[int, int], tuple[int, int]]
    pieces: Callable[[int], PieceCounts]

    @property
    def nnz(self) -> int:
        """Entries."""
        return int(self.lengths.sum())

    @property
    def units(self) -> int:
        """Block rows."""
        return -(-self.lengths.size // self.block[0])

    def tile_entries(self, tile_m: int) -> np.ndarray:
        """Entries of each tile of rows."""
        return np.add.reduceat(self.lengths, np.arange(0, max(1, self.lengths.size), tile_m))


def structure_of(A: CSBMatrix, transpose: bool) -> Structure:
    """The structure in one direction, kept with the matrix."""
    key = ("rows_structure", transpose)
    if key not in A.cache:
        view = A.T if transpose else A
        lengths = np.bincount(view.coordinates()[0], minlength=max(1, view.shape[0]))
        bits = sum(code_bits(A, transpose))
        count = functools.cache(functools.partial(count_places, A, transpose))
        sides = tuple(view.block_shape)
        pieces = functools.cache(functools.partial(count_pieces, A, transpose))
        item = ITEM[A.dtype]
        A.cache[key] = Structure(lengths, view.shape[1], sides, bits, item, A.dtype, count, pieces)
    return A.cache[key]


def _places(structure: Structure, launch: Launch) -> int:
    """Places for entries that a panel launch needs, estimated: the longest of four rows counts for all."""
    entries = float(structure.tile_entries(launch.tile_m).max(initial=0))
    chunks = -(-structure.inner // launch.chunk_k) if launch.chunk_k else 1
    mean = entries / launch.tile_m / chunks  # of a row in a chunk
    slack = 1.0 + (0.0 if chunks == 1 else 1.03 * math.sqrt(mean) / max(mean, 1.0))
    return int(entries * slack / (1 if launch.resident else chunks)) + 4 * TOGETHER


def _fits(structure: Structure, launch: Launch, device: DeviceLimits) -> bool:
    """Whether the shared memory suffices; the places are counted only where bounds leave it open."""

    def enough(places: int) -> bool:
        return places <= MAX_PLACES and shared_bytes(structure, launch, places) <= device.shared_bytes

    most = int(structure.tile_entries(launch.tile_m).max(initial=0))
    chunks = max(1, -(-structure.inner // launch.chunk_k))
    if enough(max(TOGETHER, TOGETHER * most)):  # no four rows take more than four times their entries
        return True
    if not enough(most if launch.resident else most // chunks):
        return False
    return enough(structure.count(launch.tile_m, launch.chunk_k)[0 if launch.resident else 1])


def shared_bytes(structure: Structure, launch: Launch, places: int | None = None) -> int:
    """Dynamic shared memory of a CTA, with that many places for entries or an estimate."""
    if launch.form == "direct":
        return 0
    if launch.form == "pieces":  # of each warp the sums, and what its entries multiply
        group = launch.tile_n * structure.item // 16
        return launch.warps * (512 + 32 // group * launch.length * (4 + structure.item))
    places = _places(structure, launch) if places is None else places
    chunks = max(1, -(-structure.inner // launch.chunk_k))
    panel = launch.chunk_k * launch.tile_n * structure.item
    return launch.buffers * panel + places * 2 * structure.item + 4 * chunks * launch.tile_m


def refusal(structure: Structure, launch: Launch, device: DeviceLimits) -> str | None:
    """Why a launch cannot be, in one sentence, or None."""
    if launch.form == "direct":
        if launch.tile_n * structure.item // 16 not in _GROUPS:
            return f"A direct launch takes no tile_n of {launch.tile_n} for {structure.dtype} values."
        if launch.warps > 8 or launch.split > launch.warps:
            return f"A direct launch takes at most 8 warps and no more a row than a CTA; got {launch.warps}."
        if structure.code_bits > 32 or structure.nnz >= 2**32:
            return "The matrix is too large for the 32-bit numbers of a direct launch."
        return None
    if launch.form == "pieces":
        return _refusal_of_pieces(structure, launch)
    out_block, in_block = structure.block
    if launch.tile_n * structure.item // 128 not in _VECTORS:
        return f"A panel launch takes no tile_n of {launch.tile_n} for {structure.dtype} values."
    if launch.tile_m / (TOGETHER * launch.warps) not in _ROWS:
        return f"{launch.warps} warps compute tiles of {[r * TOGETHER * launch.warps for r in _ROWS]} rows."
    if launch.tile_m < out_block or launch.chunk_k < in_block:
        return (
            f"Blocks of {out_block} x {in_block} do not fit a panel launch with tile_m {launch.tile_m} "
            f"and chunk_k {launch.chunk_k}, which must not be smaller."
        )
    if not _fits(structure, launch, device):
        needed = shared_bytes(structure, launch)
        return (
            f"The launch needs about {needed} bytes of shared memory and at most {MAX_PLACES} places for "
            f"entries; this GPU gives a CTA {device.shared_bytes} bytes."
        )
    return None


def _refusal_of_pieces(structure: Structure, launch: Launch) -> str | None:
    group = launch.tile_n * structure.item // 16
    if (group, launch.length) not in _PIECES or launch.warps > _PIECES_WARPS:
        return (
            f"A launch with pieces takes no tile_n of {launch.tile_n} for {structure.dtype} values with a "
            f"length of {launch.length} and {launch.warps} warps."
        )
    return structure.pieces(launch.length).refusal(slots_of(launch, structure.item))


def slots_of(launch: Launch, item: int) -> int:
    """Pieces of a CTA, of values of that many bytes."""
    return launch.warps * 32 // (launch.tile_n * item // 16)


def worth_trying(structure: Structure, n: int, device: DeviceLimits, **wanted) -> list[Launch]:
    """The launches that fit, without those that leave half a tile or most of the device empty.

    Parameters
    ----------
    structure : Structure
        The matrix.
    n : int
        Columns of B.
    device : DeviceLimits
        The GPU.
    **wanted
        Parameters of `TUNABLES` that the caller sets; what the other form takes is not looked at.
    """

    def values(form: str, name: str) -> tuple:
        return TUNABLES[name] if wanted.get(name) is None else (wanted[name],)

    found = []
    for form in values("", "form"):
        names = TAKES[form]
        for setting in product(*(values(form, name) for name in names)):
            launch = Launch(form, **dict(zip(names, setting, strict=True)))
            if _sensible(structure, launch, n, wanted) and refusal(structure, launch, device) is None:
                found.append(launch)
    return found


def _sensible(structure: Structure, launch: Launch, n: int, wanted: dict) -> bool:
    """Whether no other launch is better by its numbers alone, as far as the caller left the choice."""
    widths = sorted(w for w in TUNABLES["tile_n"] if w * structure.item // 128 in _VECTORS)
    if wanted.get("tile_n") is None and launch.tile_n >= 2 * n and launch.tile_n > widths[0]:
        return False
    tiles = -(-n // launch.tile_n)
    if launch.form != "panel":
        return True
    if wanted.get("warps") is None and launch.warps < 16:  # too few to keep shared memory busy
        return False
    rows, chunks = structure.lengths.size, -(-structure.inner // launch.chunk_k)
    free = {name for name in TAKES["panel"] if wanted.get(name) is None}
    if "tile_m" in free and launch.tile_m >= 2 * rows and launch.tile_m > max(64, structure.block[0]):
        return False
    if "chunk_k" in free and launch.chunk_k >= 2 * structure.inner and launch.chunk_k > structure.block[1]:
        return False
    if "resident" in free and not launch.resident and (chunks == 1 or launch.column_tiles > 1):
        return False
    if "column_tiles" in free and launch.column_tiles > tiles:
        return False
    # A second panel pays where there is a next one, and entries that stay leave it time to come.
    return not (
        "buffers" in free
        and launch.buffers == 2
        and (launch.column_tiles * chunks == 1 or not launch.resident)
    )
