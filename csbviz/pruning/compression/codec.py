"""Models as .csbz files, without any loss; `csbviz.models.read_compressed`, the reader, has the format."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import OptionError
from csbviz.models.read_compressed import CODINGS, MAGIC, MOST_BITS, VERSION
from csbviz.models.tensors import DTYPES
from csbviz.models.write_file import new_file
from csbviz.pruning.compression._loops import gaps_of
from csbviz.pruning.compression.huffman import code_lengths, entropy, packed, packed_evenly, table_of

if TYPE_CHECKING:
    from csbviz.models import Layer, Model

__all__ = ["SUFFIX", "Encoded", "encode", "save"]

SUFFIX = ".csbz"


@dataclass(frozen=True)
class Encoded:
    """A model's file and what became of each tensor.

    Attributes
    ----------
    data : bytes
        The whole file.
    layers : tuple of dict
        One per tensor: name, kind, coding, size, nnz, entries (with fillers), fillers, centroids,
        bytes_dense, bytes (with code book and tables), code_bits and gap_bits (mean length), code_entropy,
        gap_entropy.
    """

    data: bytes
    layers: tuple[dict[str, Any], ...]


def encode(
    model: Model, conv_gap_bits: int = 8, linear_gap_bits: int = 5, coding: str = "huffman"
) -> Encoded:
    """Write a model as a .csbz file.

    Every tensor comes back bit for bit. Zeros of prunable weights are left out; a weight of at most 255
    different values besides is written with a code book. What would not become smaller stays raw.

    Parameters
    ----------
    model : Model
    conv_gap_bits, linear_gap_bits : int
        1 to 8: bits of the gap between two entries of a convolution, or of any other weight, before Huffman
        coding. A longer run of zeros takes filler zeros.
    coding : {"huffman", "codes", "sparse", "raw"}
        How far to go: Huffman codes, code books with codes of equal length, gaps alone, or nothing.

    Raises
    ------
    OptionError
        The bits or the coding are not among those above.
    """
    for name, bits in (("conv_gap_bits", conv_gap_bits), ("linear_gap_bits", linear_gap_bits)):
        checked_bits(name, bits)
    if coding not in CODINGS:
        raise OptionError(f"the coding is {coding!r}; it must be one of {', '.join(CODINGS)}.")
    header: list[dict[str, Any]] = []
    parts: list[bytes] = []
    facts = []
    for layer in model.layers:
        gap_bits = conv_gap_bits if layer.kind == "conv" else linear_gap_bits
        entry, data, fact = _tensor(layer, gap_bits, coding)
        header.append(entry)
        parts.append(data)
        facts.append(fact)
    metadata = dict(sorted(model.metadata.items()))
    text = json.dumps({"metadata": metadata, "tensors": header}, separators=(",", ":")).encode()
    start = MAGIC + VERSION.to_bytes(2, "little") + b"\0\0" + len(text).to_bytes(4, "little")
    body = b"".join([start, text, *parts])
    return Encoded(body + hashlib.sha256(body).digest(), tuple(facts))


def checked_bits(name: str, bits: Any) -> None:
    """Refuse a number of bits that the format does not have.

    Raises
    ------
    OptionError
    """
    if isinstance(bits, bool) or not isinstance(bits, int | np.integer) or not 1 <= bits <= MOST_BITS:
        raise OptionError(f"{name} is {bits!r}; it must be a whole number from 1 to {MOST_BITS}.")


def save(path: str | Path, data: bytes) -> None:
    """Write an encoded model beside `path`, then move it there in one step.

    Raises
    ------
    OptionError
        `path` does not end in .csbz.
    InputError
        The system refuses to write there.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise OptionError(
            f"{path.name} cannot be written as a compressed model: give it the ending {SUFFIX}."
        )
    with new_file(path) as temporary:
        temporary.write_bytes(data)


# ---- one tensor --------------------------------------------------------------------------------------------


def _tensor(layer: Layer, gap_bits: int, coding: str) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    tensor = layer.tensor
    entry: dict[str, Any] = {"name": tensor.name, "dtype": tensor.dtype, "shape": list(tensor.shape)}
    if tensor.op:
        entry["op"] = tensor.op
    fact = {
        "name": layer.name,
        "kind": layer.kind,
        "coding": "raw",
        "size": layer.size,
        "nnz": layer.nnz,
        "entries": layer.size,
        "fillers": 0,
        "centroids": 0,
        "bytes_dense": layer.nbytes,
        "bytes": layer.nbytes,
        "code_bits": 8.0 * DTYPES[tensor.dtype].itemsize,
        "gap_bits": 0.0,
        "code_entropy": None,
        "gap_entropy": None,
    }
    if layer.prunable and coding != "raw":
        found, data, changed = _sparse_or_shared(tensor.data, gap_bits, coding)
        if len(data) < layer.nbytes:
            return entry | found, data, fact | changed | {"coding": found["coding"], "bytes": len(data)}
    return entry | {"coding": "raw"}, np.ascontiguousarray(tensor.data).tobytes(), fact


def _sparse_or_shared(array, gap_bits, coding):
    """The header's fields, the bytes and the facts of a tensor whose zeros are left out."""
    # As integers, -0 is a value like any other, and NaN equals itself.
    bits = np.ascontiguousarray(array).reshape(-1).view(f"u{array.dtype.itemsize}")
    positions = np.flatnonzero(bits)
    values = bits[positions]
    gaps, source = _gaps(positions, gap_bits)
    entries = {"entries": len(gaps), "gap_bits": gap_bits}
    fact = {"entries": len(gaps), "fillers": len(gaps) - len(values)}
    book, codes = np.unique(values, return_inverse=True)
    if coding == "sparse" or len(book) >= 1 << MOST_BITS:
        data = (
            packed_evenly(gaps, gap_bits)
            + np.concatenate([np.zeros(1, bits.dtype), values])[source].tobytes()
        )
        return {"coding": "sparse", **entries}, data, fact | {"gap_bits": float(gap_bits)}
    symbols = np.concatenate([[0], codes + 1]).astype(np.uint8)[source]
    entries["centroids"] = fact["centroids"] = len(book)
    if coding == "codes":
        code_bits = max(1, len(book).bit_length())
        data = book.tobytes() + packed_evenly(gaps, gap_bits) + packed_evenly(symbols, code_bits)
        fact |= {"code_bits": float(code_bits), "gap_bits": float(gap_bits)}
        return {"coding": "codes", **entries, "code_bits": code_bits}, data, fact
    gap_table, gap_stream, gap_fact = _coded("gap", gaps, 1 << gap_bits)
    code_table, code_stream, code_fact = _coded("code", symbols, len(book) + 1)
    sizes = {"gap_bytes": len(gap_stream), "code_bytes": len(code_stream)}
    data = book.tobytes() + gap_table + code_table + gap_stream + code_stream
    return {"coding": "huffman", **entries, **sizes}, data, fact | gap_fact | code_fact


def _gaps(positions, gap_bits):
    """Gap and number of the value + 1 (0 for a filler) of each entry."""
    most = (1 << gap_bits) - 1
    zeros = np.diff(positions, prepend=-1) - 1
    count = len(positions) + int((zeros >> gap_bits).sum())
    gaps, source = np.empty(count, np.uint8), np.empty(count, np.int64)
    gaps_of(positions, most, gaps, source)
    return gaps, source


def _coded(what, symbols, alphabet):
    counts = np.bincount(symbols, minlength=alphabet)
    lengths = code_lengths(counts)
    mean = float(counts @ lengths.astype(np.int64)) / max(len(symbols), 1)
    fact = {f"{what}_bits": mean, f"{what}_entropy": entropy(counts)}
    return table_of(lengths, counts), packed(symbols, lengths), fact
