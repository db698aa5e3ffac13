"""How the CPU kernel cuts the columns of B into tiles, and what the rows of B mean for the caches."""

from __future__ import annotations

import math
from typing import NamedTuple

from csbviz.errors import OptionError

__all__ = [
    "CACHE_LINE",
    "TILES",
    "Pass",
    "check_tile",
    "crowding",
    "default_tile",
    "lanes_at_most",
    "passes",
    "steps",
]

TILES = (1, 2, 4, 8, 16, 32, 64)
"""Columns of a tile: a part of a vector register, or up to four AVX-512 registers of float32."""

LARGEST_TILE = 256
"""Bytes of the widest tile."""

CACHE_LINE = 64

L1_SETS, L1_WAYS = 64, 8
"""The usual first-level data cache: 64 sets of 8 (or 12) lines."""


def lanes_at_most(itemsize: int) -> int:
    """Two sets of sums of a tile must fit the vector registers: 32 of 64 bytes with AVX-512, else 16."""
    import llvmlite.binding as llvm

    wide = llvm.get_host_cpu_features().get("avx512f", False)
    return (256 if wide else 128) // itemsize


def _pass_cost(lanes: int, itemsize: int) -> int:
    """What an entry costs in one tile: its 64-byte vectors, and about one more for the rest."""
    return max(1, lanes * itemsize // CACHE_LINE) + 1


def rest_tile(n: int, tile: int) -> int:
    """Width of the last tile when `n` columns are cut into tiles of `tile`: the next power of two."""
    rest = n % tile
    return 1 << (rest - 1).bit_length() if rest else tile


def steps(n: int, tile: int, itemsize: int) -> int:
    """What an entry costs for all columns."""
    last = _pass_cost(rest_tile(n, tile), itemsize) if n % tile else 0
    return n // tile * _pass_cost(tile, itemsize) + last


def default_tile(n: int, itemsize: int, most: int) -> int:
    """The tile that walks `n` columns in the fewest steps; of equals one that fits, then the widest."""
    tiles = [tile for tile in TILES if tile <= most and tile < 2 * n and tile * itemsize <= LARGEST_TILE]
    return min(tiles, key=lambda tile: (steps(n, tile, itemsize), rest_tile(n, tile) > n % tile > 0, -tile))


def crowding(row_bytes: int, tile_bytes: int, rows: int) -> float:
    """How many times more lines than fit compete for the cache sets that a slice of B falls into.

    1 or less when the slice is spread over all sets and fits; a row length that is a large power of two puts
    all rows of the slice into a few sets.
    """
    starts = L1_SETS // math.gcd(row_bytes // CACHE_LINE, L1_SETS)
    lines = max(1, tile_bytes // CACHE_LINE)
    room = min(L1_SETS, starts * lines) * L1_WAYS
    return rows * lines / room


class Pass(NamedTuple):
    """Columns that one worker multiplies, in tiles of one width."""

    tile: int  # columns of a tile
    tile_bytes: int
    begin: int  # bytes of a row
    end: int

    @property
    def whole(self) -> bool:
        """Whether every tile is full."""
        return (self.end - self.begin) % self.tile_bytes == 0


def passes(n: int, tile: int, itemsize: int) -> list[Pass]:
    """One pass for the tiles of `n` columns, or two where a narrower tile is enough for the last columns."""
    last = rest_tile(n, tile)
    cut = n if last == tile else n - n % tile
    found = [Pass(tile, tile * itemsize, 0, cut * itemsize)] if cut else []
    if cut < n:
        found.append(Pass(last, last * itemsize, cut * itemsize, n * itemsize))
    return found


def check_tile(tile_n: int | None, n: int, itemsize: int) -> int:
    """The tile asked for, or the default one.

    Raises
    ------
    OptionError
        If the kernel has no such tile.
    """
    if tile_n is None:
        return default_tile(n, itemsize, lanes_at_most(itemsize))
    tiles = [tile for tile in TILES if tile * itemsize <= LARGEST_TILE]
    if tile_n not in tiles:
        raise OptionError(f"tile_n is {tile_n}; it is one of {', '.join(map(str, tiles))}.")
    return tile_n
