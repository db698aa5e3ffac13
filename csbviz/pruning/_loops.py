"""The loops of pruning, compiled by Numba: without the GIL, cached on disk, called by `parallel`.

They assume checked arguments. Scores travel as unsigned integers of their width: with the sign bit cleared,
the bits of floating-point numbers are ordered as their absolute values are, so float16, float32, float64 and
unsigned scores share these loops, and a weight is its own score.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "drop_first",
    "expand",
    "keep_in_groups",
    "keep_marked",
    "mark",
    "sum_blocks",
    "tally",
    "tally_all",
]

TINY = float(np.finfo(np.float64).tiny)  # what a square is at least, so that only zeros add up to zero
SMALL_GROUP = 32  # weights up to which comparing all pairs of a group beats a search for its threshold


@njit(nogil=True, cache=True)
def tally_all(keys, strip, shift, counts):
    """Add to counts[key >> shift] every key; counts: 2 x 65536.

    Neighbours often meet in one counter and would wait for each other: two tables take a half each.
    """
    half = len(keys) >> 1
    first, second = keys[:half], keys[half : 2 * half]
    for p in range(half):
        counts[0, (first[p] & strip) >> shift] += 1
        counts[1, (second[p] & strip) >> shift] += 1
    if len(keys) & 1:
        counts[0, (keys[len(keys) - 1] & strip) >> shift] += 1


@njit(nogil=True, cache=True)
def tally(keys, strip, shift, prefix, counts):
    """Add to counts[0, digit] the keys whose bits above the digit's 16 are `prefix`."""
    low, digit = keys.dtype.type(0xFFFF), keys.dtype.type(16)
    for p in range(len(keys)):
        key = (keys[p] & strip) >> shift
        if key >> digit == prefix:
            counts[0, key & low] += 1


@njit(nogil=True, cache=True)
def mark(keys, mask, strip, threshold):
    """Fill the mask with key ≥ threshold; return how many keys equal it."""
    equal = 0
    for p in range(len(keys)):
        key = keys[p] & strip
        mask[p] = key >= threshold
        equal += key == threshold
    return equal


@njit(nogil=True, cache=True)
def drop_first(keys, mask, strip, threshold, wanted):
    """Clear the first `wanted` positions whose key equals the threshold."""
    for p in range(len(keys)):
        if wanted == 0:
            return
        if keys[p] & strip == threshold:
            mask[p] = False
            wanted -= 1


@njit(nogil=True, cache=True)
def keep_marked(bits, mask, out, strip):
    """Copy the values that are marked; others become +0, but a zero keeps its sign."""
    zero = bits.dtype.type(0)
    for p in range(len(bits)):
        value = bits[p]
        stays = mask[p] | ((value & strip) == zero)
        out[p] = value if stays else zero


@njit(nogil=True, cache=True)
def sum_blocks(scores, height, width, squared, sums):
    """Add up |score| (or its square) per block in float64.

    scores: (rows, cols). sums: (block rows, block columns), zeros.
    """
    for row in range(scores.shape[0]):
        line, totals = scores[row], sums[row // height]
        if width == 1:  # columns: one sum beside the other, so that it becomes vector code
            for col in range(len(line)):
                score = abs(np.float64(line[col]))
                totals[col] += score * score + (TINY if score else 0.0) if squared else score
        else:
            for j in range(len(totals)):
                total = totals[j]
                for col in range(j * width, min((j + 1) * width, len(line))):
                    score = abs(np.float64(line[col]))
                    total += score * score + (TINY if score else 0.0) if squared else score
                totals[j] = total


@njit(nogil=True, cache=True)
def expand(kept, height, width, mask):
    """Fill the mask (rows, cols) from the marks of its blocks (block rows, block columns)."""
    for row in range(mask.shape[0]):
        line, marks = mask[row], kept[row // height]
        for j in range(len(marks)):
            line[j * width : min((j + 1) * width, len(line))] = marks[j]


@njit(nogil=True, cache=True)
def _keep_highest(keys, strip, kept, marks):
    """Mark the `kept` highest keys, 1 ≤ kept < len(keys); of equal keys the later ones.

    The threshold, the kept-th highest key, is found bit by bit: a bit of it is set when enough keys are as
    high.
    """
    threshold, bit = strip & keys.dtype.type(0), (strip >> keys.dtype.type(1)) + keys.dtype.type(1)
    while bit:
        raised, enough = threshold | bit, 0
        for p in range(len(keys)):
            enough += keys[p] & strip >= raised
        if enough >= kept:
            threshold = raised
        bit >>= keys.dtype.type(1)
    room = kept
    for p in range(len(keys)):
        room -= keys[p] & strip > threshold
    for p in range(len(keys) - 1, -1, -1):
        key = keys[p] & strip
        marks[p] = key > threshold or (key == threshold and room > 0)
        room -= key == threshold


@njit(nogil=True, cache=True)
def keep_in_groups(keys, mask, strip, kept, group):
    """Mark the `kept` highest of every `group` neighbours in a row.

    keys, mask: (rows, cols). The last group of a row may be shorter: it keeps as many, or all that it has. Of
    equal keys the later ones stay.
    """
    for row in range(keys.shape[0]):
        line, marks = keys[row], mask[row]
        for first in range(0, len(line), group):
            part, out = line[first : first + group], marks[first : first + group]
            if len(part) <= kept:
                out[:] = True
            elif len(part) <= SMALL_GROUP:
                for p in range(len(part)):
                    key, higher = part[p] & strip, 0
                    for q in range(p):
                        higher += part[q] & strip > key
                    for q in range(p + 1, len(part)):
                        higher += part[q] & strip >= key
                    out[p] = higher < kept
            else:
                _keep_highest(part, strip, kept, out)
