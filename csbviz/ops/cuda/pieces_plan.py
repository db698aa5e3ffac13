"""From a matrix to the arrays that csb_rows_pieces reads: codes, pieces and units. Pure NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from csbviz.errors import OptionError

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = [
    "COUNT_BITS",
    "MOST_GROUPS",
    "PIECES_BITS",
    "PieceCounts",
    "PiecesPlan",
    "build_pieces_plan",
    "count_pieces",
    "cut_rows",
]

COUNT_BITS, PIECES_BITS = 6, 6
"""Bits of a piece's word for its entries and for the pieces of its row; the same numbers as in the source."""

MOST_GROUPS = 1024
"""Groups of rows that a launch can tell the unit of; the same number as in the source."""

_CODE_BITS, _LEAST_STEP_BITS = 16, 4
_MOST_SLOTS = 64


class PiecesPlan(NamedTuple):
    """Arrays of kernels/cuda/csb_spmm_pieces.cu; that file says what they mean.

    Attributes
    ----------
    codes : uint16[groups * slots * length]
        Of each entry of a piece its place among the entries of its block, above it how far its row of B is
        from that of the entry before.
    pieces : uint32[groups * slots]
        Of each piece its entries, the pieces of its row if it is the first, the row of the unit, and the row
        of B of its first entry.
    units : uint16[MOST_GROUPS]
        Unit of each group of rows.
    groups : int
        Groups of rows: CTAs of a tile of columns.
    place_bits : int
        Bits of the place in a code.
    """

    codes: np.ndarray
    pieces: np.ndarray
    units: np.ndarray
    groups: int
    place_bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return self.codes.nbytes + self.pieces.nbytes + self.units.nbytes


class PieceCounts(NamedTuple):
    """Pieces of a matrix, before a launch is chosen.

    Attributes
    ----------
    most : int
        Pieces of the longest row.
    total : int
        Pieces of all rows.
    units : int
        Block rows.
    limit : str or None
        Why codes and words of pieces cannot hold the matrix.
    """

    most: int
    total: int
    units: int
    limit: str | None = None

    def refusal(self, slots: int) -> str | None:
        """Why CTAs of so many pieces cannot compute the product, in one sentence, or None."""
        if self.limit:
            return self.limit
        most = min(slots, (1 << PIECES_BITS) - 1)
        if self.most > most:
            return f"The longest row has {self.most} pieces; a CTA of this launch sums up at most {most}."
        # Of the groups of a unit all but one are more than half full.
        groups = self.units + 2 * self.total // slots
        if groups > MOST_GROUPS:
            return f"There may be {groups} groups of rows; a launch with pieces takes {MOST_GROUPS}."
        return None


def _place_bits(A: CSBMatrix) -> int:
    """Bits of a place among the entries of a block."""
    return int(np.diff(A.blk_ptr).max(initial=1) - 1).bit_length()


def _limit(A: CSBMatrix, view: CSBMatrix, length: int) -> str | None:
    if not A.nnz:
        return "A matrix without entries has no pieces."
    if A.nnz > MOST_GROUPS * _MOST_SLOTS * length:  # said before anything is sorted
        return f"{A.nnz} entries are more than the pieces of a launch take."
    free = 32 - COUNT_BITS - PIECES_BITS - (view.block_shape[0] - 1).bit_length()
    if (view.shape[1] - 1).bit_length() > free:
        return f"A piece has {free} bits for the row of B it begins with; {view.shape[1]} rows are too many."
    if _place_bits(A) > _CODE_BITS - _LEAST_STEP_BITS:
        return (
            f"A block of {int(np.diff(A.blk_ptr).max())} entries is too full for the 16-bit codes of pieces."
        )
    return None


def count_pieces(A: CSBMatrix, transpose: bool, length: int) -> PieceCounts:
    """How many pieces of at most `length` entries a product has."""
    view = A.T if transpose else A
    limit = _limit(A, view, length)
    if limit:
        return PieceCounts(0, 0, view.grid[0], limit)
    pieces_of_row = _cut(A, view, length)[-1]
    return PieceCounts(int(pieces_of_row.max()), int(pieces_of_row.sum()), view.grid[0])


def _cut(A: CSBMatrix, view: CSBMatrix, length: int) -> tuple[np.ndarray, ...]:
    """Order of the entries by row, their rows and columns, the piece of each, and the pieces of each row."""
    out, inner = (side.astype(np.int64) for side in view.coordinates())
    order = np.lexsort((inner, out))
    row, column = out[order], inner[order]
    piece = cut_rows(row, column, length, (1 << (_CODE_BITS - _place_bits(A))) - 1)
    rows_of_pieces = row[np.diff(piece, prepend=-1) != 0]
    # A row without entries has one empty piece, so that somebody writes it.
    return order, row, column, piece, np.maximum(np.bincount(rows_of_pieces, minlength=view.shape[0]), 1)


def cut_rows(row: np.ndarray, inner: np.ndarray, length: int, most_step: int) -> np.ndarray:
    """Number of each entry's piece, counted through.

    Parameters
    ----------
    row, inner : int64[nnz]
        Coordinates, sorted by row and then by inner index.
    length : int
        Entries of a piece at most.
    most_step : int
        Largest distance of neighbours in a piece.

    Returns
    -------
    int64[nnz]
    """
    new = np.ones(row.size, bool)
    new[1:] = (row[1:] != row[:-1]) | (np.diff(inner) > most_step)
    run = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    rank = np.arange(row.size) - starts[run]
    return np.cumsum(new | (rank % length == 0)) - 1


def build_pieces_plan(A: CSBMatrix, transpose: bool, length: int, slots: int) -> PiecesPlan:
    """Arrays for a product.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    transpose : bool
        Whether the product is with its transpose.
    length : int
        Entries of a piece at most.
    slots : int
        Pieces of a CTA.

    Raises
    ------
    OptionError
        If a row has more pieces than a CTA, or there are too many groups of rows.
    """
    view = A.T if transpose else A
    refusal = count_pieces(A, transpose, length).refusal(slots)
    if refusal:
        raise OptionError(refusal)
    order, row, column, piece, pieces_of_row = _cut(A, view, length)
    bits, out_block = _place_bits(A), view.block_shape[0]
    first = np.flatnonzero(np.diff(piece, prepend=-1))  # entry that a piece begins with
    counts = np.diff(first, append=row.size)
    slot_of_row, units = _pack(pieces_of_row, out_block, slots)

    words = np.zeros(units.size * slots, np.int64)
    rows = np.arange(view.shape[0])
    words[slot_of_row] = pieces_of_row << COUNT_BITS | rows % out_block << (COUNT_BITS + PIECES_BITS)
    starts = np.flatnonzero(np.diff(row[first], prepend=-1))
    number = np.arange(first.size) - np.repeat(starts, np.diff(starts, append=first.size))
    slot = slot_of_row[row[first]] + number
    base_shift = COUNT_BITS + PIECES_BITS + (out_block - 1).bit_length()
    words[slot] |= counts | column[first] << base_shift

    sizes = np.diff(A.blk_ptr)
    place = (np.arange(A.nnz) - np.repeat(A.blk_ptr[:-1], sizes))[order]
    step = np.diff(column, prepend=0)
    step[first] = 0
    codes = np.zeros((words.size, length), np.uint16)
    codes[slot[piece], np.arange(row.size) - first[piece]] = step << bits | place
    last = first + counts - 1
    spare = np.arange(length) >= counts[:, None]  # past the end of a piece its last entry is there again
    filled = codes[slot]
    filled[spare] = np.broadcast_to(place[last][:, None], spare.shape)[spare]
    codes[slot] = filled
    known = np.zeros(MOST_GROUPS, np.uint16)
    known[: units.size] = units
    return PiecesPlan(codes.ravel(), words.astype(np.uint32), known, units.size, bits)


def _pack(pieces: np.ndarray, out_block: int, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal rows to groups of `slots` pieces: the first slot of each row, and the unit of each group.

    The rows of a group are of one unit. Long rows go first, each to the fullest group that still has room.
    """
    slot_of_row, units = np.zeros(pieces.size, np.int64), []
    for begin in range(0, pieces.size, out_block):
        here = pieces[begin : begin + out_block]
        used: list[int] = []
        for row in np.argsort(-here, kind="stable").tolist():
            need = int(here[row])
            fitting = [group for group, full in enumerate(used) if full + need <= slots]
            if fitting:
                group = max(fitting, key=used.__getitem__)
            else:
                group = len(used)
                used.append(0)
            slot_of_row[begin + row] = (len(units) + group) * slots + used[group]
            used[group] += need
        units += [begin // out_block] * len(used)
    return slot_of_row, np.array(units, np.int64)
