"""The loops that write a .csbz file, compiled by Numba. They assume checked arguments."""

from __future__ import annotations

from numba import njit

__all__ = ["gaps_of", "pack"]


@njit(nogil=True, cache=True)
def pack(symbols, codes, lengths, out):
    """Put the symbols' codes (at most 15 bits) into out (uint8, zeros, three spare bytes at its end)."""
    at = 0
    for i in range(len(symbols)):
        symbol = symbols[i]
        length = int(lengths[symbol])
        three = int(codes[symbol]) << (24 - length - (at & 7))
        byte = at >> 3
        out[byte] |= three >> 16
        out[byte + 1] |= (three >> 8) & 255
        out[byte + 2] |= three & 255
        at += length


@njit(nogil=True, cache=True)
def gaps_of(positions, most, gaps, source):
    """Fill the gaps before each entry (≤ most) and the number of its value + 1, 0 for a filler zero.

    positions: int64, ascending; gaps: uint8 and source: int64, as many as there are entries.
    """
    entry, before = 0, -1
    for i in range(len(positions)):
        zeros = positions[i] - before - 1
        while zeros > most:
            gaps[entry], source[entry] = most, 0
            entry += 1
            zeros -= most + 1
        gaps[entry], source[entry] = zeros, i + 1
        entry += 1
        before = positions[i]
    return entry
