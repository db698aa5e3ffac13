"""From a matrix and a tile to the arrays that csb_rows_panel reads: places, rows and spans.

Pure NumPy: what a GPU will do can be checked without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.errors import OptionError

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["MAX_PLACES", "TOGETHER", "PanelPlan", "build_panel_plan", "count_places", "slots_of_rows"]

TOGETHER = 4
"""Rows that a warp works at; the same number as in the source."""

MAX_PLACES = 0x10000
"""Places in shared memory are 16-bit numbers."""


class PanelPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmm_rows.cu; that file says what they mean.

    Attributes
    ----------
    place : uint16[nnz]
        Where each stored entry goes among the staged entries of its piece of the matrix.
    rows : uint16[row tiles, slots]
        The row of the tile that each slot computes, long rows first.
    spans : uint32[row tiles, chunks, slots]
        Place of the slot's first entry of the chunk, and above 16 bits how many it has there.
    capacity : int
        Most places that are needed at once, a multiple of four.
    """

    place: np.ndarray
    rows: np.ndarray
    spans: np.ndarray
    capacity: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.place.nbytes + self.rows.nbytes + self.spans.nbytes


def build_panel_plan(
    A: CSBMatrix, transpose: bool, warps: int, tile_m: int, chunk_k: int, resident: bool
) -> PanelPlan:
    """Arrays for a product.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    transpose : bool
        Whether the product is with its transpose.
    warps : int
        Warps of a CTA.
    tile_m : int
        Rows of a tile; a multiple of ``TOGETHER * warps``.
    chunk_k : int
        Inner dimension of a chunk; a multiple of the block's inner side.
    resident : bool
        Whether the entries of all chunks are in shared memory together, or those of one.

    Raises
    ------
    OptionError
        If more places are needed than 16 bits can number.
    """
    view = A.T if transpose else A
    out, inner = view.coordinates()
    tiles, chunks = _grid(view.shape, tile_m, chunk_k)
    key, lengths, row_of_slot = _deal(out, inner, tiles, chunks, warps, tile_m, chunk_k)
    longest = _longest_of_four(lengths)
    ends = TOGETHER * np.cumsum(longest.reshape(tiles if resident else tiles * chunks, -1), axis=1)
    capacity = int(ends[:, -1].max(initial=TOGETHER))
    if capacity > MAX_PLACES:
        raise OptionError(
            f"A tile of {tile_m} rows needs {capacity} places for its entries in shared memory; "
            f"they are numbered by 16 bits, so {MAX_PLACES} is the most."
        )
    first = (ends.ravel() - TOGETHER * longest)[:, None] + np.arange(TOGETHER)
    first = first.ravel()
    place = first[key] + TOGETHER * _rank(key, inner, lengths)
    spans = (first | lengths << 16).astype(np.uint32).reshape(tiles, chunks, tile_m)
    return PanelPlan(place.astype(np.uint16), row_of_slot.astype(np.uint16), spans, max(capacity, TOGETHER))


def count_places(A: CSBMatrix, transpose: bool, tile_m: int, chunk_k: int) -> tuple[int, int]:
    """Places that a tile needs at most, for the entries of all chunks together and for those of one chunk.

    Parameters
    ----------
    A, transpose, tile_m, chunk_k
        As for `build_panel_plan`. Any number of warps gets the same rows together.

    Returns
    -------
    resident, chunk : int
        The `capacity` of a plan with and without resident entries.
    """
    view = A.T if transpose else A
    tiles, chunks = _grid(view.shape, tile_m, chunk_k)
    _, lengths, _ = _deal(*view.coordinates(), tiles, chunks, 1, tile_m, chunk_k)
    places = TOGETHER * _longest_of_four(lengths).reshape(tiles, chunks, -1).sum(axis=2)
    return int(places.sum(axis=1).max(initial=TOGETHER)), int(places.max(initial=TOGETHER))


def _grid(shape: tuple[int, int], tile_m: int, chunk_k: int) -> tuple[int, int]:
    """Tiles of rows and chunks of the inner dimension."""
    return max(1, -(-shape[0] // tile_m)), max(1, -(-shape[1] // chunk_k))


def _deal(out, inner, tiles: int, chunks: int, warps: int, tile_m: int, chunk_k: int):
    """Each entry's tile, chunk and slot as one number; entries of each such number; the row of each slot."""
    lengths = np.bincount(out, minlength=tiles * tile_m)
    slot_of_row, row_of_slot = slots_of_rows(lengths.reshape(tiles, tile_m), warps)
    key = (out // tile_m * chunks + inner // chunk_k) * tile_m + slot_of_row.ravel()[out]
    return key, np.bincount(key, minlength=tiles * chunks * tile_m), row_of_slot


def _longest_of_four(lengths: np.ndarray) -> np.ndarray:
    """The four rows of a warp lie side by side, so each takes as many places as the longest of them."""
    return lengths.reshape(-1, TOGETHER).max(axis=1)


def slots_of_rows(lengths: np.ndarray, warps: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal each tile's rows to its slots, long rows first: neighbours of like length share a warp.

    Parameters
    ----------
    lengths : int[tiles, rows of a tile]
        Entries of each row.
    warps : int
        Warps of a CTA.

    Returns
    -------
    slot_of_row, row_of_slot : int[tiles, rows of a tile]
        Permutations of each tile's rows, the inverse of each other.
    """
    by_length = np.argsort(-lengths, axis=1, kind="stable")
    turn, warp = np.divmod(np.arange(lengths.shape[1] // TOGETHER), warps)
    # Back and forth, so that the warps get like shares: who has the longest first has the shortest next.
    warp = np.where(turn % 2, warps - 1 - warp, warp)
    slot = ((turn * warps + warp)[:, None] * TOGETHER + np.arange(TOGETHER)).ravel()
    row_of_slot = np.empty_like(by_length)
    row_of_slot[:, slot] = by_length
    slot_of_row = np.empty_like(by_length)
    np.put_along_axis(slot_of_row, by_length, np.broadcast_to(slot, by_length.shape), axis=1)
    return slot_of_row, row_of_slot


def _rank(key: np.ndarray, inner: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Number of each entry among those of its key, by inner index."""
    order = np.lexsort((inner, key))
    starts = np.cumsum(lengths) - lengths
    rank = np.empty(key.size, np.int64)
    rank[order] = np.arange(key.size) - starts[key[order]]
    return rank
