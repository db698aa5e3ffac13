"""The loops that read a .csbz file, compiled by Numba: Huffman codes, and entries put in their places.

They assume checked arguments; whatever the bits of a stream say, `decode` reads and writes inside its arrays.
"""

from __future__ import annotations

from numba import njit

__all__ = ["LONGEST_CODE", "decode", "fill_table", "place"]

LONGEST_CODE = 15
"""Bits of the longest code: its length fits into four bits, a table of all windows into a cache."""


@njit(nogil=True, cache=True)
def fill_table(lengths, codes, table):
    """Fill table[window] with symbol << 4 | length, for each window of `LONGEST_CODE` bits.

    lengths: uint8, symbols; codes: uint32, symbols (the canonical codes); table: uint16, 1 << LONGEST_CODE.
    """
    for symbol in range(len(lengths)):
        length = int(lengths[symbol])
        if length:
            shift = LONGEST_CODE - length
            first = int(codes[symbol]) << shift
            for window in range(first, first + (1 << shift)):
                table[window] = (symbol << 4) | length


@njit(nogil=True, cache=True)
def decode(stream, bits, table, out):
    """Decode len(out) symbols of a stream (uint8, most significant bit first, three spare bytes at its end).

    Returns the bits that were used, or -1 when more than `bits` would be needed.
    """
    at = 0
    for i in range(len(out)):
        byte = at >> 3
        three = (int(stream[byte]) << 16) | (int(stream[byte + 1]) << 8) | int(stream[byte + 2])
        entry = int(table[(three >> (24 - LONGEST_CODE - (at & 7))) & ((1 << LONGEST_CODE) - 1)])
        at += entry & 15
        if at > bits:
            return -1
        out[i] = entry >> 4
    return at


@njit(nogil=True, cache=True)
def place(gaps, values, out):
    """Put each value into `out` (zeros before), gaps[i] places after the one before it; all must fit."""
    at = -1
    for i in range(len(gaps)):
        at += int(gaps[i]) + 1
        out[at] = values[i]
