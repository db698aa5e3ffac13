"""Read .csbz files: pruned and quantised weights behind Huffman codes, as Deep Compression stores them.

The format, version 1; all numbers little-endian:

=========  ==========================================================================================
bytes      meaning
=========  ==========================================================================================
8          ``89 43 53 42 5A 0D 0A 1A``: no text, and damaged by whatever changes ends of lines
2          version, 1
2          zero
4          length of the header
…          the header, JSON: ``{"metadata": {text: text}, "tensors": [{…}, …]}``
…          the tensors' bytes, one after the other without gaps
32         SHA-256 of all bytes before
=========  ==========================================================================================

A tensor has ``name``, ``dtype``, ``shape``, ``op`` (how a graph uses it; left out when unknown) and
``coding``:

``raw``
    Its elements.
``sparse``
    ``entries`` gaps of ``gap_bits`` bits each, then as many elements.
``codes``
    A code book of ``centroids`` elements; the gaps as before; ``entries`` indices of ``code_bits`` bits each.
``huffman``
    The code book; four bits for each of 2^gap_bits gaps and for each of centroids + 1 indices: the length of
    its Huffman code; then ``gap_bytes`` bytes of Huffman-coded gaps and ``code_bytes`` of indices.

Entries run through the tensor in row-major order. A gap is the number of zeros that are skipped before an
entry. A run of 2^gap_bits zeros or more has filler entries in it, each the largest gap followed by one more
zero. Index 0 is this zero, index i the element i - 1 of the code book. What follows the last entry is zero.

Huffman codes are canonical: shorter ones first, equally long ones in the order of their symbols, counted up
from zero. A code is complete: its Kraft sum is 1, and the length 0 means that a symbol does not occur. A code
for one symbol takes no bits; its table has 0 for this symbol and 15 for all others. Bits fill each byte from
the most significant one; the rest of a stream's last byte is zero.

References
----------
Han, Mao and Dally, Deep Compression, ICLR 2016, arXiv:1510.00149.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np

from csbviz.errors import FileFormatError
from csbviz.models.content import reason_of, shown
from csbviz.models.tensors import DTYPES, FLOATS, MAX_UNPACKED, StoredTensor

__all__ = ["CODINGS", "MAGIC", "MOST_BITS", "ONLY_SYMBOL", "VERSION", "canonical_codes", "read"]

MAGIC = b"\x89CSBZ\r\n\x1a"
VERSION = 1
CODINGS = ("raw", "sparse", "codes", "huffman")
MOST_BITS = 8
"""Bits of a gap or an index before Huffman coding, at most."""
ONLY_SYMBOL = 15
"""The length that all symbols but one have in the table of a code for one symbol."""

_START = len(MAGIC) + 8
_DIGEST = 32
_MAX_HEADER = 16 << 20
_OPS = ("", "conv", "matmul", "linear", "recurrent", "gather", "bias", "norm", "other")

# What a file may unpack to: a small file must not fill the memory. Real ones stay far below: a layer that is
# 99.9 % sparse takes 1/1500 of its bytes.
_ALWAYS_ALLOWED = 64 << 20
_MOST_TIMES_LARGER = 4096


def read(content):
    """Read the tensors of a .csbz file.

    Parameters
    ----------
    content : Content

    Returns
    -------
    tensors : list of StoredTensor
    metadata : dict of str to str

    Raises
    ------
    FileFormatError
        Truncated, damaged, of another version, or unpacking to more than a file of its size may.
    """
    header, begin = _read_header(content)
    try:
        metadata, entries = header["metadata"], header["tensors"]
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata must map text to text")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("tensors must be a list of objects")
        plans = [_plan(entry) for entry in entries]
        if len({plan["name"] for plan in plans}) != len(plans):
            raise ValueError("a name appears twice")
    except (KeyError, TypeError, ValueError) as error:
        words = f"{error} is missing" if isinstance(error, KeyError) else reason_of(error)
        raise FileFormatError(f"{content.name} has a damaged header: {words}.") from error
    unpacked = sum(math.prod(plan["shape"]) * DTYPES[plan["dtype"]].itemsize for plan in plans)
    most = min(MAX_UNPACKED, max(_ALWAYS_ALLOWED, _MOST_TIMES_LARGER * content.size))
    if unpacked > most:
        raise FileFormatError(
            f"{content.name} claims to unpack to {unpacked:,} bytes; at most {most:,} are allowed for a file "
            f"of {content.size:,} bytes."
        )
    end = content.size - _DIGEST
    needed = begin + sum(plan["bytes"] for plan in plans)
    if needed != end:
        raise FileFormatError(
            f"{content.name} has {end - begin:,} bytes of tensors where its header needs {needed - begin:,}."
        )
    tensors = []
    for plan in plans:
        data = content.data[begin : begin + plan["bytes"]]
        begin += plan["bytes"]
        try:
            array = _unpack(plan, _Bytes(data))
        except ValueError as error:
            raise FileFormatError(
                f"{content.name} has damaged data in {shown(plan['name'])}: {reason_of(error)}."
            ) from error
        tensors.append(StoredTensor.of(plan["name"], array, plan["dtype"], plan["op"]))
    return tensors, metadata


def canonical_codes(lengths):
    """Give the canonical Huffman codes of symbols with these lengths.

    Parameters
    ----------
    lengths : numpy.ndarray
        uint8; 0 for a symbol that does not occur.

    Returns
    -------
    numpy.ndarray
        uint32, the code of each symbol in its lowest `lengths` bits.

    Raises
    ------
    ValueError
        No complete code has these lengths.
    """
    lengths = np.asarray(lengths, np.int64)
    used = np.flatnonzero(lengths)
    order = used[np.argsort(lengths[used], kind="stable")]
    longest = int(lengths.max(initial=0))
    widths = np.left_shift(1, longest - lengths[order])
    if widths.sum() != 1 << longest or not used.size:
        raise ValueError("its Huffman code is not complete")
    codes = np.zeros(len(lengths), np.uint32)
    codes[order] = (np.cumsum(widths) - widths) >> (longest - lengths[order])
    return codes


# ---- the header --------------------------------------------------------------------------------------------


def _read_header(content):
    name, size = content.name, content.size
    if content.head(len(MAGIC)) != MAGIC:
        raise FileFormatError(
            f"{name} does not begin as a .csbz file does; it is damaged or of another kind."
        )
    if size < _START + _DIGEST:
        raise FileFormatError(f"{name} is truncated: a .csbz file has more than its {size:,} bytes.")
    start = content.head(_START)
    version, length = int.from_bytes(start[8:10], "little"), int.from_bytes(start[12:16], "little")
    if version != VERSION or start[10:12] != b"\0\0":
        raise FileFormatError(
            f"{name} has the version {version} of .csbz; this program reads version {VERSION}."
        )
    if length > min(size - _START - _DIGEST, _MAX_HEADER):
        raise FileFormatError(f"{name} is truncated or damaged: its header claims {length:,} bytes.")
    if hashlib.sha256(content.data[:-_DIGEST]).digest() != content.data[-_DIGEST:].tobytes():
        raise FileFormatError(f"{name} is truncated or damaged: its checksum does not fit its bytes.")
    try:
        header = json.loads(content.data[_START : _START + length].tobytes())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{name} has a damaged header: it is not valid JSON ({reason_of(error)})."
        ) from error
    if not isinstance(header, dict):
        raise FileFormatError(f"{name} has a damaged header: a JSON object is needed.")
    return header, _START + length


def _whole(entry, key, least, most):
    value = entry[key]
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{key} must be a whole number from {least} to {most:,}")
    return value


def _plan(entry) -> dict[str, Any]:
    """Check one tensor's entry and add the bytes that it takes in the file."""
    name, dtype, shape, coding = entry["name"], entry["dtype"], entry["shape"], entry["coding"]
    op = entry.get("op", "")
    if not isinstance(name, str) or dtype not in DTYPES or coding not in CODINGS or op not in _OPS:
        raise ValueError(f"{shown(name)} has a name, type, coding or use that is unknown")
    if (
        not isinstance(shape, list)
        or len(shape) > 64
        or not all(type(x) is int and 0 <= x < 1 << 48 for x in shape)
    ):
        raise ValueError(f"the shape of {shown(name)} must be a list of whole numbers")
    size, width = math.prod(shape), DTYPES[dtype].itemsize
    plan = {"name": name, "dtype": dtype, "shape": tuple(shape), "coding": coding, "op": op}
    if coding == "raw":
        return plan | {"bytes": size * width}
    if dtype not in FLOATS:
        raise ValueError(f"{shown(name)} has the type {dtype}, which is only kept raw")
    entries = plan["entries"] = _whole(entry, "entries", 0, size)
    gap_bits = plan["gap_bits"] = _whole(entry, "gap_bits", 1, MOST_BITS)
    if coding == "sparse":
        return plan | {"bytes": _packed(entries, gap_bits) + entries * width}
    centroids = plan["centroids"] = _whole(entry, "centroids", 0, (1 << MOST_BITS) - 1)
    if coding == "codes":
        code_bits = plan["code_bits"] = _whole(entry, "code_bits", 1, MOST_BITS)
        return plan | {"bytes": centroids * width + _packed(entries, gap_bits) + _packed(entries, code_bits)}
    most = 2 * entries + 1
    gap_bytes = plan["gap_bytes"] = _whole(entry, "gap_bytes", 0, most)
    code_bytes = plan["code_bytes"] = _whole(entry, "code_bytes", 0, most)
    tables = _packed(1 << gap_bits, 4) + _packed(centroids + 1, 4)
    return plan | {"bytes": centroids * width + tables + gap_bytes + code_bytes}


def _packed(count, bits):
    return (count * bits + 7) // 8


# ---- the tensors -------------------------------------------------------------------------------------------


class _Bytes:
    """A tensor's bytes, taken from the front."""

    def __init__(self, data):
        self._data, self._at = data, 0

    def take(self, count):
        self._at += count
        return self._data[self._at - count : self._at]


def _unpack(plan, data):
    shape, storage = plan["shape"], DTYPES[plan["dtype"]]
    size = math.prod(shape)
    if plan["coding"] == "raw":
        raw = data.take(plan["bytes"])
        if plan["dtype"] == "bool" and raw.max(initial=0) > 1:
            raise ValueError("a truth value is neither 0 nor 1")
        return raw.view(storage).reshape(shape)
    entries, gap_symbols = plan["entries"], 1 << plan["gap_bits"]
    array = np.zeros(size, storage)
    if plan["coding"] == "sparse":
        gaps = _fixed(data, entries, plan["gap_bits"])
        values = data.take(entries * storage.itemsize).view(storage)
    else:
        book = np.zeros(plan["centroids"] + 1, storage)
        book[1:] = data.take(plan["centroids"] * storage.itemsize).view(storage)
        if plan["coding"] == "codes":
            gaps = _fixed(data, entries, plan["gap_bits"])
            codes = _fixed(data, entries, plan["code_bits"])
        else:
            gap_lengths, code_lengths = _lengths(data, gap_symbols), _lengths(data, len(book))
            gaps = _huffman(data.take(plan["gap_bytes"]), gap_lengths, entries)
            codes = _huffman(data.take(plan["code_bytes"]), code_lengths, entries)
        if codes.max(initial=0) >= len(book):
            raise ValueError("an index lies outside of the code book")
        values = book[codes]
    if entries + int(gaps.sum(dtype=np.int64)) > size:
        raise ValueError("its entries run past its end")
    from csbviz.models.huffman_loops import place

    bits = np.dtype(f"u{storage.itemsize}")
    place(gaps, np.ascontiguousarray(values).view(bits), array.view(bits))
    return array.reshape(shape)


def _lengths(data, symbols):
    """Lengths of a code's symbols, four bits each."""
    packed = data.take(_packed(symbols, 4))
    return np.stack([packed >> 4, packed & 15], axis=1).reshape(-1)[:symbols]


def _fixed(data, count, bits):
    """`count` numbers of `bits` bits each: the canonical code of equally long codes."""
    return _decode(data.take(_packed(count, bits)), np.full(1 << bits, bits, np.uint8), count)


def _huffman(stream, lengths, count):
    if count == 0:
        if stream.size:
            raise ValueError("it has Huffman codes but no entries")
        return np.empty(0, np.uint8)
    alone = np.flatnonzero(lengths != ONLY_SYMBOL)
    if alone.size == 1 and lengths[alone[0]] == 0:
        if stream.size:
            raise ValueError("the code of one symbol has bits")
        return np.full(count, alone[0], np.uint8)
    return _decode(stream, lengths, count)


def _decode(stream, lengths, count):
    from csbviz.models.huffman_loops import LONGEST_CODE, decode, fill_table

    table = np.zeros(1 << LONGEST_CODE, np.uint16)
    fill_table(lengths, canonical_codes(lengths), table)
    out = np.empty(count, np.uint8)
    padded = np.concatenate([stream, np.zeros(3, np.uint8)])
    used = int(decode(padded, 8 * stream.size, table, out))
    if used < 0 or (used + 7) // 8 != stream.size:
        raise ValueError("its codes do not end where its bits do")
    if used % 8 and int(stream[-1]) & ((1 << (8 - used % 8)) - 1):
        raise ValueError("there are bits after its last code")
    return out
