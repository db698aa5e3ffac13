"""CSB matrices in files: .npz without pickle, and .safetensors.

Both hold the stored arrays and one JSON header: format, version, shape, block_shape, order, transposed,
dtype. bfloat16 values lie as uint16 in .npz, which has no such dtype, and as BF16 in .safetensors.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from pathlib import Path

import numpy as np

from ..errors import FileFormatError, InputError, OptionError
from . import dtypes
from .csb import CSBMatrix
from .file_bytes import MAX_DIMENSION, read_bytes
from .npz_files import read_npz

__all__ = ["csb_from_arrays", "is_csb", "load_csb", "save_csb"]

FORMAT, VERSION = "csbviz.csb", 1
SUFFIXES = (".npz", ".safetensors")


def save_csb(A: CSBMatrix, path_or_file, name: str | None = None) -> None:
    """Write a matrix or transposed view: the stored arrays and the flag.

    Parameters
    ----------
    A : CSBMatrix
    path_or_file : str, os.PathLike or writable binary file object
        A file of that path is replaced at once when all is written, so a failure leaves the old one.
    name : str, optional
        Its suffix decides between ``.npz`` and ``.safetensors``; default is the path, or the file object's
        name.

    Raises
    ------
    OptionError
        If the suffix is neither.
    """
    is_file = hasattr(path_or_file, "write")
    name = name or str(getattr(path_or_file, "name", "") if is_file else os.fspath(path_or_file))
    if not name.lower().endswith(SUFFIXES):
        raise OptionError(f"The file name is {name!r}; a CSB matrix is saved as {' or '.join(SUFFIXES)}.")
    pack = _pack_npz if name.lower().endswith(".npz") else _pack_safetensors
    content = pack(A.stored, json.dumps(_header(A)))
    if is_file:
        path_or_file.write(content)
    else:
        _write_at_once(Path(path_or_file), content)


def load_csb(path_or_file, name: str | None = None) -> CSBMatrix:
    """Read a matrix that `save_csb` wrote, from a file that need not be trusted.

    Raises
    ------
    FileFormatError
        If the file is of another kind, truncated or incomplete.
    MatrixError, OptionError
        If its arrays do not make a sound matrix (`CSBMatrix.check_format` is run in full).
    """
    name, content = read_bytes(path_or_file, name)
    if name.lower().endswith(".npz"):
        arrays = read_npz(content, name)
    elif name.lower().endswith(".safetensors"):
        arrays = _unpack_safetensors(content, name)
    else:
        raise FileFormatError(f"{name} is no CSB file by its name; needed is {' or '.join(SUFFIXES)}.")
    if not is_csb(arrays):
        raise FileFormatError(f"{name} holds no CSB matrix: the header is missing.")
    return csb_from_arrays(arrays, name)


def is_csb(arrays: dict[str, np.ndarray]) -> bool:
    """Tell whether the arrays of a file have the names of a CSB matrix."""
    return {"header", "values", "blk_ptr"} <= arrays.keys()


def csb_from_arrays(arrays: dict[str, np.ndarray], name: str) -> CSBMatrix:
    """Build and check the matrix from a file's arrays."""
    header = _read_header(arrays["header"], name)
    dtype = header["dtype"]
    values = arrays["values"]
    width = dtypes.VALUE_BYTES[dtype]
    if values.dtype.name not in (dtype, f"uint{8 * width}") or values.ndim != 1:
        raise FileFormatError(
            f"{name} holds values as {values.ndim}-D {values.dtype}; its header says {dtype}."
        )
    index = [arrays.get(key) for key in ("row_ind", "col_ind", "packed_ind")]
    if index[2] is None and (index[0] is None or index[1] is None):
        raise FileFormatError(f"{name} holds no indices; needed are row_ind and col_ind, or packed_ind.")
    values = dtypes.values_from_bits(values.view(f"u{width}"), dtype)
    try:
        args = (*index[:2], arrays["blk_ptr"], header["shape"], header["block_shape"], header["order"])
        A = CSBMatrix(values, *args, packed_ind=index[2])
        A.check_format()
    except InputError as error:
        raise type(error)(f"{name}: {error}") from None
    return A.T if header["transposed"] else A


def _header(A: CSBMatrix) -> dict:
    return {
        "format": FORMAT,
        "version": VERSION,
        "shape": A.stored_shape,
        "block_shape": A.stored_block_shape,
        "order": A.stored_order,
        "transposed": A.transposed,
        "dtype": A.dtype,
    }


def _read_header(array: np.ndarray, name: str) -> dict:
    try:
        header = json.loads(array.tobytes())
        if header["format"] != FORMAT:
            raise FileFormatError(f"{name} is no CSB file: its format is {header['format']!r}.")
        if header["version"] != VERSION:
            raise FileFormatError(
                f"{name} has version {header['version']}; this csbviz reads version {VERSION}."
            )
        sizes = [*header["shape"], *header["block_shape"]]
        sound = len(header["shape"]) == len(header["block_shape"]) == 2
        sound &= all(type(size) is int and 0 <= size <= MAX_DIMENSION for size in sizes)
        sound &= type(header["transposed"]) is bool and header["dtype"] in dtypes.VALUE_BYTES
        sound &= isinstance(header["order"], str)
    except FileFormatError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise FileFormatError(f"{name} has a broken header; save the matrix again.")
    return header


def _arrays(A: CSBMatrix) -> dict:
    if A.packed_ind is not None:
        return {"values": A.values, "packed_ind": A.packed_ind, "blk_ptr": A.blk_ptr}
    return {"values": A.values, "row_ind": A.row_ind, "col_ind": A.col_ind, "blk_ptr": A.blk_ptr}


def _pack_npz(A: CSBMatrix, header: str) -> bytes:
    arrays = _arrays(A)
    if dtypes.is_torch(arrays["values"]):
        arrays["values"] = dtypes.bits_of(arrays["values"])
    buffer = io.BytesIO()
    np.savez(buffer, header=np.frombuffer(header.encode(), np.uint8), **arrays)
    return buffer.getvalue()


def _pack_safetensors(A: CSBMatrix, header: str) -> bytes:
    arrays = _arrays(A)
    if not dtypes.is_torch(arrays["values"]):
        from safetensors.numpy import save
    else:
        import torch
        from safetensors.torch import save

        arrays = {key: array if key == "values" else torch.from_numpy(array) for key, array in arrays.items()}
    return save(arrays, metadata={"header": header})


def _unpack_safetensors(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Return the arrays and the header; bfloat16 as its bits."""
    from safetensors import SafetensorError, deserialize

    kinds = {
        "U8": "u1",
        "U16": "<u2",
        "I32": "<i4",
        "I64": "<i8",
        "BF16": "<u2",
        "F16": "<f2",
        "F32": "<f4",
        "F64": "<f8",
    }
    try:
        tensors = dict(deserialize(content))
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__", {}).get("header")
    except (SafetensorError, ValueError):
        raise FileFormatError(
            f"{name} is no sound .safetensors file: it is truncated or of another kind."
        ) from None
    arrays = {
        key: np.frombuffer(bytearray(tensor["data"]), kinds[tensor["dtype"]]).reshape(tensor["shape"])
        for key, tensor in tensors.items()
        if tensor["dtype"] in kinds
    }
    if header is not None:
        arrays["header"] = np.frombuffer(header.encode(), np.uint8)
    return arrays


def _write_at_once(path: Path, content: bytes) -> None:
    """Write beside the target, then rename."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OptionError(f"{path} cannot be written: {error.strerror}.") from None
