"""Huffman codes of at most 15 bits: the best lengths by package-merge, and a stream's bits."""

from __future__ import annotations

import numpy as np

from csbviz.errors import OptionError
from csbviz.models.huffman_loops import LONGEST_CODE
from csbviz.models.read_compressed import ONLY_SYMBOL, canonical_codes
from csbviz.pruning.compression._loops import pack

__all__ = ["code_lengths", "entropy", "packed", "packed_evenly", "table_of"]


def code_lengths(counts: np.ndarray, longest: int = LONGEST_CODE) -> np.ndarray:
    """Give the lengths of the best prefix code in which no code is longer than `longest` bits.

    Parameters
    ----------
    counts : numpy.ndarray
        How often each symbol occurs, whole numbers ≥ 0.
    longest : int
        1 to 15.

    Returns
    -------
    numpy.ndarray
        uint8; 0 for symbols that do not occur, and for a symbol that is alone: it needs no bits. Otherwise
        the Kraft sum of the others is 1.

    Raises
    ------
    OptionError
        There are more symbols than codes of that length.

    References
    ----------
    Larmore and Hirschberg, A fast algorithm for optimal length-limited Huffman codes, J. ACM 37 (1990).
    """
    counts = np.asarray(counts, np.int64)
    lengths = np.zeros(len(counts), np.uint8)
    used = np.flatnonzero(counts)
    if not 1 <= longest <= LONGEST_CODE or used.size > 1 << longest:
        raise OptionError(f"{used.size:,} symbols cannot have codes of at most {longest} bits each.")
    if used.size < 2:
        return lengths
    used = used[np.argsort(counts[used], kind="stable")]
    single_weights, single_counts = counts[used], np.eye(used.size, dtype=np.uint16)
    weights, holds = single_weights, single_counts
    for _ in range(longest - 1):
        pairs = len(weights) // 2 * 2
        packages = weights[:pairs:2] + weights[1:pairs:2]
        weights = np.concatenate([single_weights, packages])
        holds = np.concatenate([single_counts, holds[:pairs:2] + holds[1:pairs:2]])
        order = np.argsort(weights, kind="stable")
        weights, holds = weights[order], holds[order]
    lengths[used] = holds[: 2 * used.size - 2].sum(axis=0)
    return lengths


def entropy(counts: np.ndarray) -> float:
    """Give the bits per symbol that no code of single symbols can beat, by Shannon; 0 without symbols."""
    counts = np.asarray(counts, np.float64)
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def table_of(lengths: np.ndarray, counts: np.ndarray) -> bytes:
    """Give the lengths as a .csbz file keeps them: four bits each."""
    lengths = np.asarray(lengths, np.uint8)
    if not lengths.any():  # one symbol, or none
        lengths = np.where(np.arange(len(lengths)) == int(np.argmax(counts)), 0, ONLY_SYMBOL).astype(np.uint8)
    even = np.concatenate([lengths, np.zeros(len(lengths) % 2, np.uint8)])
    return (even[::2] << 4 | even[1::2]).astype(np.uint8).tobytes()


def packed(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """Give the Huffman codes of symbols one after the other, from the most significant bit of each byte on.

    Parameters
    ----------
    symbols : numpy.ndarray
        uint8, flat.
    lengths : numpy.ndarray
        Of every symbol that occurs, as `code_lengths` gives them.
    """
    lengths = np.asarray(lengths, np.uint8)
    if not lengths.any():
        return b""
    bits = int(np.bincount(symbols, minlength=len(lengths)) @ lengths.astype(np.int64))
    out = np.zeros((bits + 7) // 8 + 3, np.uint8)
    pack(symbols, canonical_codes(lengths), lengths, out)
    return out[:-3].tobytes()


def packed_evenly(symbols: np.ndarray, bits: int) -> bytes:
    """Give numbers of `bits` bits each, one after the other."""
    return packed(symbols, np.full(1 << bits, bits, np.uint8))
