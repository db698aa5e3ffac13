"""Choose exactly the `count` lowest of many scores, the same ones every time, without copying them.

The threshold is the count-th smallest score. It is found digit by digit: count how often each value of the
highest 16 bits occurs, which tells the threshold's highest bits, then count the next 16 bits of those scores
that share them, and so on; two passes for 32-bit scores, however many there are. Everything below the
threshold goes; of the scores equal to it, the first ones in order go, until the count is met.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from csbviz.pruning.parallel import cuts, in_threads, spread

__all__ = ["Cut", "as_keys", "keep_marked", "kept_in_groups", "units_to_prune"]

_DIGIT = 1 << 16


def units_to_prune(size: int, sparsity: float) -> int:
    """How many of `size` units go at this sparsity.

    Parameters
    ----------
    size : int
    sparsity : float
        0 ≤ sparsity < 1.

    Returns
    -------
    int
        The nearest whole number (ties to even), but never all: a layer without any weight is no layer.
    """
    return min(round(sparsity * size), max(size - 1, 0))


def as_keys(scores: np.ndarray) -> tuple[np.ndarray, np.unsignedinteger]:
    """Give scores as unsigned integers whose order is that of their absolute values.

    Returns
    -------
    keys : numpy.ndarray
        Read-only, of the same shape and width; a view where the scores are contiguous.
    strip : numpy.unsignedinteger
        The bits of a key that count: all but the sign of a floating-point number.
    """
    scores = np.ascontiguousarray(scores)
    kind = np.dtype(f"u{scores.dtype.itemsize}")
    keys = scores.view(kind)
    keys.flags.writeable = False
    bits = 8 * kind.itemsize - (scores.dtype.kind == "f")
    return keys, kind.type((1 << bits) - 1)


class Cut:
    """The line between the `count` lowest of all scores and the rest.

    Parameters
    ----------
    scores : sequence of numpy.ndarray
        Floating point (compared by absolute value, no NaN) or unsigned integers. Arrays of several types are
        compared in the type that holds all.
    count : int
        0 ≤ count ≤ number of all scores.
    """

    def __init__(self, scores: Sequence[np.ndarray], count: int):
        self._dtype = np.result_type(*scores)
        self._count = count
        if count <= 0:
            return
        keyed = [as_keys(score.astype(self._dtype, copy=False).reshape(-1)) for score in scores]
        self._strip = keyed[0][1]
        self._threshold, self._equal = _threshold([keys for keys, _ in keyed], self._strip, count)

    def kept(self, score: np.ndarray) -> np.ndarray:
        """Mark what stays of one array; to be asked for each array once, in order.

        Returns
        -------
        numpy.ndarray
            Boolean, of the same shape; False where a score is among the `count` lowest. Among equal scores,
            the earlier array and the earlier position go first.
        """
        from csbviz.pruning import _loops

        if self._count <= 0:
            return np.ones(score.shape, bool)
        keys, strip = as_keys(score.astype(self._dtype, copy=False).reshape(-1))
        mask = np.empty(keys.shape, bool)
        line = strip, self._threshold
        pieces = [(keys[begin:end], mask[begin:end]) for begin, end in cuts(keys.size, keys.size)]
        found = in_threads([functools.partial(_loops.mark, *piece, *line) for piece in pieces])
        for piece, equal in zip(pieces, found, strict=True):
            wanted = min(self._equal, equal)
            if wanted:
                _loops.drop_first(*piece, *line, wanted)
                self._equal -= wanted
        return mask.reshape(score.shape)


def _threshold(keys: list[np.ndarray], strip: np.unsignedinteger, count: int):
    """The count-th smallest key, and how many of those equal to it are among the `count` lowest."""
    width = 8 * keys[0].dtype.itemsize
    shares = spread([array.size for array in keys])
    prefix, left = 0, count
    for shift in range(width - 16, -1, -16):
        first = shift == width - 16
        run = functools.partial(_counts, keys, strip, shift, None if first else prefix)
        counts = sum(in_threads([functools.partial(run, share) for share in shares]))
        up_to = np.cumsum(counts)
        digit = int(np.searchsorted(up_to, left))  # the first digit with `left` or more keys up to it
        left -= int(up_to[digit] - counts[digit])
        prefix = prefix << 16 | digit
    return keys[0].dtype.type(prefix), left


def _counts(keys, strip, shift, prefix, share) -> np.ndarray:
    """How often each digit occurs in one thread's share of the keys; int64[65536]."""
    from csbviz.pruning import _loops

    counts = np.zeros((2, _DIGIT), np.int64)
    of_width = keys[0].dtype.type
    for index, begin, end in share:
        part = keys[index][begin:end]
        if prefix is None:
            _loops.tally_all(part, strip, of_width(shift), counts)
        else:
            _loops.tally(part, strip, of_width(shift), of_width(prefix), counts)
    return counts[0] + counts[1]


def kept_in_groups(scores: np.ndarray, kept: int, group: int) -> np.ndarray:
    """Mark the `kept` highest of every `group` neighbours in a row.

    Parameters
    ----------
    scores : numpy.ndarray
        (rows, cols), as for `Cut`.
    kept, group : int
        1 ≤ kept ≤ group.

    Returns
    -------
    numpy.ndarray
        Boolean, (rows, cols). A row's last group may be shorter; it keeps as many, or all that it has.
    """
    from csbviz.pruning import _loops

    keys, strip = as_keys(scores)
    mask = np.empty(keys.shape, bool)
    pieces = [(keys[begin:end], mask[begin:end]) for begin, end in cuts(keys.shape[0], keys.size)]
    in_threads([functools.partial(_loops.keep_in_groups, *piece, strip, kept, group) for piece in pieces])
    return mask


def keep_marked(weight: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Copy a weight with +0 where the mask is False; what is zero already keeps its sign.

    Parameters
    ----------
    weight : numpy.ndarray
        Floating point of 16, 32 or 64 bits, any shape.
    mask : numpy.ndarray
        Boolean, of the same shape.

    Returns
    -------
    numpy.ndarray
        Of the type of `weight`; kept values are bit for bit the same.
    """
    from csbviz.pruning import _loops

    bits, _ = as_keys(weight)
    bits = bits.reshape(-1)
    strip = bits.dtype.type((1 << (8 * bits.dtype.itemsize - 1)) - 1)
    out = np.empty(bits.shape, bits.dtype)
    marks = np.ascontiguousarray(mask).reshape(-1)
    pieces = [[array[begin:end] for array in (bits, marks, out)] for begin, end in cuts(out.size, out.size)]
    in_threads([functools.partial(_loops.keep_marked, *piece, strip) for piece in pieces])
    return out.view(weight.dtype).reshape(weight.shape)
