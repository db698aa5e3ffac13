"""Sparse matrices out of files: .smtx (the DLMC collection), .mtx (Matrix Market), .npz (SciPy)."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import scipy.sparse

from ..errors import FileFormatError, MatrixError
from . import convert, dtypes
from .file_bytes import MAX_DIMENSION, read_bytes
from .npz_files import read_npz

__all__ = ["SUFFIXES", "load_matrix"]


def load_matrix(path_or_file, seed: int = 0, name: str | None = None) -> scipy.sparse.csr_matrix:
    """Read a sparse matrix from a file that need not be trusted.

    Parameters
    ----------
    path_or_file : str, os.PathLike or binary file object
        ``.smtx``, ``.mtx`` or ``.npz``, each also with ``.gz``; the name decides.
    seed : int
        An .smtx file holds positions without values; standard normal float32 values are drawn from this seed.
    name : str, optional
        Name of a file object that has none of its own.

    Returns
    -------
    scipy.sparse.csr_matrix
        Sorted, duplicates summed, values float32 or float64 (a pattern in .mtx has ones), all of them finite.

    Raises
    ------
    FileFormatError
        If the file is of another kind than its name says, truncated, larger than its bound, or holds pickled
        objects.
    MatrixError
        If sizes, indices or values are impossible: negative, out of range, NaN or infinite.

    Notes
    -----
    An .npz file is one of `scipy.sparse.save_npz` or of `CSBMatrix.save`. No header is trusted: what it
    claims is compared with the bytes that are there before anything is allocated for it.
    """
    name, content = read_bytes(path_or_file, name)
    for suffix, read in _READERS.items():
        if name.lower().endswith(suffix):
            return _finish(read(content, name, seed), name)
    raise FileFormatError(
        f"{name} is no matrix file by its name; needed is {', '.join(SUFFIXES)}, each also .gz."
    )


def _finish(S, name: str) -> scipy.sparse.csr_matrix:
    """Return canonical CSR with finite float32 or float64 values."""
    values = dtypes.float_values(S.data)
    S = S.__class__(S)  # a new container, whose arrays can be replaced
    S.data = values.astype(np.float32) if values.dtype == np.float16 else values
    S = scipy.sparse.csr_matrix(S)
    S.sum_duplicates()
    finite = np.isfinite(S.data)
    if not finite.all():
        entry = int(np.argmin(finite))
        row = int(np.searchsorted(S.indptr, entry, side="right")) - 1
        where = f"row {row}, column {S.indices[entry]}"
        raise MatrixError(f"{name} has the value {S.data[entry]} in {where}; all values must be finite.")
    return S


def _check_sizes(name: str, **sizes: int) -> None:
    for what, size in sizes.items():
        if size < 0:
            raise MatrixError(f"{name} says that it has {size} {what}; that number cannot be negative.")
        if what != "nonzeros" and size > MAX_DIMENSION:
            raise MatrixError(
                f"{name} says that it has {size:,} {what}; at most {MAX_DIMENSION:,} are possible."
            )


def _check_indices(indices, size: int, what: str, name: str) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        bad = indices[(indices < 0) | (indices >= size)][0]
        raise MatrixError(f"{name} has a nonzero in {what} {bad}; the matrix has {what}s 0 to {size - 1}.")


# ---- .smtx: a line "rows, columns, nonzeros", a line of row offsets, a line of column indices --------------


def _read_smtx(content: bytes, name: str, seed: int):
    header, _, body = content.partition(b"\n")
    found = re.fullmatch(rb"\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*,\s*(-?\d{1,18})\s*", header)
    if not found:
        raise FileFormatError(f"{name} is no .smtx file: its first line must be 'rows, columns, nonzeros'.")
    rows, cols, nnz = map(int, found.groups())
    _check_sizes(name, rows=rows, columns=cols, nonzeros=nnz)
    needed = rows + 1 + nnz
    if 2 * needed - 1 > len(body):  # a number takes a digit and a separator at least
        raise FileFormatError(
            f"{name} promises {needed:,} numbers after its first line but has {len(body):,} bytes."
        )
    numbers = _parse_integers(body, name)
    if len(numbers) != needed:
        kind = "is truncated" if len(numbers) < needed else "goes on too long"
        raise FileFormatError(f"{name} {kind}: it promises {needed:,} numbers and holds {len(numbers):,}.")
    indptr, indices = numbers[: rows + 1], numbers[rows + 1 :]
    if indptr[-1] != nnz:
        raise MatrixError(f"{name} has row offsets up to {indptr[-1]} but promises {nnz} nonzeros.")
    values = np.random.default_rng(seed).standard_normal(nnz, dtype=np.float32)
    return _checked_csr(values, indices, indptr, (rows, cols), name)


def _parse_integers(text: bytes, name: str) -> np.ndarray:
    odd = text.translate(None, b"0123456789 \t\r\n")
    if odd[:1] == b"-":
        raise MatrixError(f"{name} has a negative offset or index; all must be 0 or more.")
    if odd:
        raise FileFormatError(f"{name} is no .smtx file: {chr(odd[0])!r} stands among its numbers.")
    return np.fromstring(text, dtype=np.int64, sep=" ") if text.strip() else np.empty(0, np.int64)


def _checked_csr(values, indices, indptr, shape, name: str):
    """Build CSR from untrusted arrays; SciPy's own compiled code would believe them."""
    if len(indices) != len(values):
        raise MatrixError(
            f"{name} has {len(values)} values for {len(indices)} indices; both must be as many."
        )
    held = scipy.sparse.csr_matrix((0, shape[1]))  # a carrier for the check, which reads lengths and pointers
    held.indptr, held.indices, held.data, held._shape = indptr, indices, values, shape
    try:
        convert.check_csr(held)
    except MatrixError as error:
        raise MatrixError(f"{name}: {error}") from None
    nnz = int(indptr[-1])
    _check_indices(indices[:nnz], shape[1], "column", name)
    narrow = np.int32 if max(*shape, nnz) < 2**31 else np.int64
    arrays = values[:nnz], indices[:nnz].astype(narrow), indptr.astype(narrow)
    return scipy.sparse.csr_matrix(arrays, shape=shape)


# ---- .mtx: Matrix Market -----------------------------------------------------------------------------------


def _read_mtx(content: bytes, name: str, seed: int):
    # SciPy's compiled reader ends the process on some damaged files. So NumPy reads the numbers, once the
    # lines were found to hold nothing else.
    if not content.endswith(b"\n"):
        content += b"\n"
    header = _read_mtx_header(content, name)
    _check_mtx_lines(content, header, name)
    numbers = np.fromstring(content[header.start :], np.float64, sep=" ")
    entries = numbers.reshape(-1, header.numbers_of_entry)
    if len(entries) != header.entries:
        kind = "is truncated" if len(entries) < header.entries else "goes on too long"
        raise FileFormatError(
            f"{name} {kind}: it promises {header.entries:,} entries and holds {len(entries):,}."
        )
    if header.layout == "array":
        return _full_matrix(entries[:, 0], header)
    indices = entries[:, :2].astype(np.int64)
    for found, size, what in zip(indices.T, header.shape, ("row", "column"), strict=True):
        wrong = (found < 1) | (found > size)
        if wrong.any():
            raise MatrixError(
                f"{name} has an entry in {what} {found[wrong][0]}; the file's {what}s are 1 to {size}."
            )
    indices -= 1
    values = np.ones(len(entries)) if header.field == "pattern" else entries[:, 2]
    rows, cols = indices.T
    if header.symmetry != "general":
        mirrored = rows != cols
        sign = -1 if header.symmetry == "skew-symmetric" else 1
        values = np.concatenate([values, sign * values[mirrored]])
        rows, cols = np.concatenate([indices, indices[mirrored][:, ::-1]]).T
    return scipy.sparse.coo_matrix((values, (rows, cols)), shape=header.shape)


def _full_matrix(values: np.ndarray, header: _MtxHeader):
    """An array's values, which stand column by column; of a symmetric one those from the diagonal down."""
    if header.symmetry == "general":
        return scipy.sparse.csr_matrix(values.reshape(header.shape, order="F"))
    skew = header.symmetry == "skew-symmetric"
    full = np.zeros(header.shape)
    cols, rows = np.triu_indices(header.shape[0], k=int(skew))
    full[cols, rows] = -values if skew else values
    full[rows, cols] = values
    return scipy.sparse.csr_matrix(full)


class _MtxHeader(NamedTuple):
    """What the first lines say, where the entries begin, and how many there are."""

    layout: str
    field: str
    symmetry: str
    shape: tuple[int, int]
    entries: int
    start: int

    @property
    def numbers_of_entry(self) -> int:
        return 1 if self.layout == "array" else 2 + (self.field != "pattern")


def _read_mtx_header(content: bytes, name: str) -> _MtxHeader:
    """Read the header, and compare its claims, for which memory is taken, with the bytes that follow."""
    banner = content[:1000].partition(b"\n")[0].decode("latin-1").lower().split()
    if banner[:2] != ["%%matrixmarket", "matrix"] or len(banner) != 5:
        raise FileFormatError(f"{name} is no .mtx file: it must begin with a '%%MatrixMarket matrix …' line.")
    layout, field, symmetry = banner[2:]
    if field == "complex" or symmetry == "hermitian":
        raise MatrixError(f"{name} has complex values; needed are real ones.")
    size = re.compile(rb"(?:[ \t\r]*(?:%[^\n]*)?\n)*([^%\n][^\n]*)").match(content, content.find(b"\n") + 1)
    numbers = size.group(1).split() if size else []
    expected = {"coordinate": 3, "array": 2}.get(layout, 0)
    if len(numbers) != expected or not all(re.fullmatch(rb"-?\d{1,18}", number) for number in numbers):
        raise FileFormatError(
            f"{name} is no sound .mtx file: its line of sizes needs {expected} whole numbers."
        )
    rows, cols, *rest = map(int, numbers)
    _check_sizes(name, rows=rows, columns=cols, nonzeros=rest[0] if rest else 0)
    if symmetry not in ("general", "symmetric", "skew-symmetric"):
        raise FileFormatError(f"{name} is {symmetry}; needed is general, symmetric or skew-symmetric.")
    if symmetry != "general" and rows != cols:
        raise MatrixError(f"{name} is {symmetry} but has {rows} rows and {cols} columns; it must be square.")
    if layout == "coordinate":
        entries = rest[0]
        least = entries * (4 if field == "pattern" else 6) - 1  # "1 1" or "1 1 1" and a line's end
    else:
        triangle = rows * (rows + 1 if symmetry == "symmetric" else rows - 1) // 2
        entries = rows * cols if symmetry == "general" else triangle
        least = 2 * entries - 1
    left = len(content) - size.end()
    if least > left:
        raise FileFormatError(
            f"{name} promises entries of {least:,} bytes or more but has {left:,} bytes for them."
        )
    start = content.find(b"\n", size.end()) + 1
    return _MtxHeader(layout, field, symmetry, (rows, cols), entries, start)


_NUMBER = rb"[+-]?+(?:(?:\d++\.?+\d*+|\.\d++)(?:[eE][+-]?+\d++)?+|(?i:inf(?:inity)?|nan))"
_VALUE = {"pattern": rb"", "integer": rb"[+-]?+\d{1,18}+", "real": _NUMBER, "double": _NUMBER}
_GAP, _END = rb"[ \t]++", rb"[ \t]*+\r?+\n"


def _check_mtx_lines(content: bytes, header: _MtxHeader, name: str) -> None:
    """Refuse a line that is no entry. Every line ends in a line feed here."""
    if header.field not in _VALUE or (header.layout, header.field) == ("array", "pattern"):
        raise FileFormatError(
            f"{name} has {header.field} values in {header.layout} layout; needed are real or integer ones, "
            "or a pattern in coordinate layout."
        )
    indices = [rb"\d{1,15}+"] * 2 if header.layout == "coordinate" else []
    parts = [*indices, _VALUE[header.field]] if _VALUE[header.field] else indices
    entry = _GAP.join(parts)
    lines = re.compile(rb"(?:[ \t]*+(?:" + entry + rb")?+" + _END + rb")*+")
    end = lines.match(content, header.start).end()
    if end < len(content):
        line = content[end:].partition(b"\n")[0][:60].decode("latin-1").strip()
        number = content.count(b"\n", 0, end) + 1
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
        needed = {2: "a row and a column", 3: "a row, a column and a value"}.get(len(parts), "a value")
        raise FileFormatError(
            f"{name} is no sound Matrix Market file: line {number} is {shown!r}; needed is {needed}."
        )


# ---- .npz: scipy.sparse.save_npz, or a CSB matrix ----------------------------------------------------------


def _read_npz(content: bytes, name: str, seed: int):
    from .csb_files import csb_from_arrays, is_csb

    arrays = read_npz(content, name)
    if is_csb(arrays):
        return csb_from_arrays(arrays, name).to_scipy()
    needs = {
        "csr": ("data", "indices", "indptr"),
        "csc": ("data", "indices", "indptr"),
        "bsr": ("data", "indices", "indptr"),
        "coo": ("data", "row", "col"),
        "dia": ("data", "offsets"),
    }
    kind = arrays["format"].tobytes().replace(b"\0", b"").decode("latin-1") if "format" in arrays else None
    shape = arrays.get("shape", np.empty(0))
    if kind not in needs or not {"shape", *needs[kind]} <= arrays.keys():
        held = ", ".join(sorted(arrays)) or "nothing"
        raise FileFormatError(
            f"{name} holds {held}; needed is a matrix of scipy.sparse.save_npz or CSBMatrix.save."
        )
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise MatrixError(f"{name} gives its shape as {shape.tolist()}; needed are two whole numbers.")
    rows, cols = map(int, shape)
    _check_sizes(name, rows=rows, columns=cols)
    parts = [arrays[key] for key in needs[kind]]
    _check_parts(kind, needs[kind], parts, name)
    return _BUILD[kind](*parts, (rows, cols), name)


def _check_parts(kind: str, keys, parts, name: str) -> None:
    for key, part in zip(keys, parts, strict=True):
        dims = {("bsr", "data"): 3, ("dia", "data"): 2}.get((kind, key), 1)
        kinds = "biuf" if key == "data" else "iu"
        if part.ndim != dims or part.dtype.kind not in kinds:
            need = "real numbers" if key == "data" else "whole numbers"
            raise MatrixError(
                f"{name} holds {key!r} as {part.ndim}-D {part.dtype}; needed are {dims}-D {need}."
            )


def _from_csc(data, indices, indptr, shape, name):
    try:
        return _checked_csr(data, indices, indptr, shape[::-1], name).T
    except MatrixError as error:  # the check speaks of rows; the transposed matrix' rows are columns
        text = str(error).replace("column", "\0").replace("row", "column").replace("\0", "row")
        raise MatrixError(text) from None


def _from_coo(data, row, col, shape, name):
    if not len(data) == len(row) == len(col):
        raise MatrixError(
            f"{name} has {len(data)} values, {len(row)} rows and {len(col)} columns; they must match."
        )
    _check_indices(row, shape[0], "row", name)
    _check_indices(col, shape[1], "column", name)
    return scipy.sparse.coo_matrix((data, (row, col)), shape=shape)


def _from_bsr(data, indices, indptr, shape, name):
    block = data.shape[1:]
    if 0 in block or shape[0] % block[0] or shape[1] % block[1]:
        raise MatrixError(f"{name} has blocks of {block}, which do not divide its shape {shape}.")
    blocks = _checked_csr(
        np.arange(len(data)), indices, indptr, (shape[0] // block[0], shape[1] // block[1]), name
    )
    return scipy.sparse.bsr_matrix((data[: blocks.nnz], blocks.indices, blocks.indptr), shape=shape).tocoo()


def _from_dia(data, offsets, shape, name):
    if len(data) != len(offsets) or len(np.unique(offsets)) != len(offsets):
        raise MatrixError(
            f"{name} has {len(data)} diagonals for {len(offsets)} distinct offsets; they must match."
        )
    _check_indices(offsets + shape[0], shape[0] + shape[1], "diagonal", name)
    return scipy.sparse.dia_matrix((data, offsets), shape=shape).tocoo()


_BUILD = {"csr": _checked_csr, "csc": _from_csc, "bsr": _from_bsr, "coo": _from_coo, "dia": _from_dia}
_READERS = {".smtx": _read_smtx, ".mtx": _read_mtx, ".npz": _read_npz}
SUFFIXES = tuple(_READERS)
