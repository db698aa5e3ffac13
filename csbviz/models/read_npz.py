"""Read NumPy archives: each array is checked against its header before memory is taken; no pickle is read."""

import math
import zipfile
import zlib

import numpy as np

from csbviz.errors import FileFormatError
from csbviz.models.content import reason_of, shown
from csbviz.models.tensors import MAX_UNPACKED, StoredTensor

__all__ = ["read"]

_SCIPY_SPARSE = {"format", "shape", "data"}


def read(content):
    """Read the arrays of an .npz file.

    Parameters
    ----------
    content : Content

    Returns
    -------
    tensors : list of StoredTensor
        Text and structured arrays are left out: they are no tensors.
    metadata : dict
        Empty.

    Raises
    ------
    FileFormatError
        Truncated, damaged, too large, with Python objects, or a sparse matrix.
    """
    try:
        with content.stream() as file, zipfile.ZipFile(file) as archive:
            return _read_members(content, archive), {}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(
            f"{content.name} is truncated or damaged as a NumPy archive ({reason_of(error)})."
        ) from error


def _read_members(content, archive):
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    if len(set(names)) != len(names):
        raise FileFormatError(f"{content.name} holds two arrays of the same name.")
    if set(names) >= _SCIPY_SPARSE:
        raise FileFormatError(
            f"{content.name} is a single sparse matrix saved by SciPy, not a model; load it as a matrix file."
        )
    total = sum(member.file_size for member in members)
    if total > MAX_UNPACKED:
        raise FileFormatError(
            f"{content.name} would unpack to {total / 2**30:,.1f} GiB; at most {MAX_UNPACKED >> 30} GiB are "
            "read from an .npz file, so use safetensors for such a model."
        )
    arrays = (
        (name, _read_array(content, archive, member, name))
        for name, member in zip(names, members, strict=True)
    )
    return [StoredTensor.of(name, array) for name, array in arrays if array is not None]


def _read_array(content, archive, member, name):
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version == (3, 0):  # written only for structured types with names outside of Latin-1
            return None
        header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = header(file)
        begin = file.tell()
    if dtype.hasobject:
        raise FileFormatError(
            f"{content.name} holds Python objects in {shown(name)} (a pickle, which could run code); "
            "only plain arrays are read."
        )
    if dtype.kind not in "fiubc":
        return None
    needed = math.prod(shape) * dtype.itemsize
    if needed != member.file_size - begin:
        raise FileFormatError(
            f"{content.name} is damaged: {shown(name)} claims {needed:,} bytes (shape {shape}, {dtype}), "
            f"{member.file_size - begin:,} are there."
        )
    with archive.open(member) as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)
