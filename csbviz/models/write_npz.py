"""Write tensors as a NumPy archive, one after the other, without a second copy of them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from numpy.lib.format import write_array

from csbviz.errors import OptionError
from csbviz.models.tensors import StoredTensor
from csbviz.models.write_file import new_file

__all__ = ["save"]

_BITS_ONLY = ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def save(path: str | Path, tensors: Sequence[StoredTensor]) -> None:
    """Write an .npz file beside `path`, then move it there in one step.

    Raises
    ------
    OptionError
        `path` does not end in .npz, or NumPy has no type for a tensor.
    InputError
        The system refuses to write there.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise OptionError(f"{path.name} cannot be written as a NumPy archive: give it the ending .npz.")
    for tensor in tensors:
        if tensor.dtype in _BITS_ONLY:
            raise OptionError(
                f"{tensor.name} has the type {tensor.dtype}, which a NumPy archive cannot hold; write "
                ".safetensors instead."
            )
    with (
        new_file(path) as temporary,
        zipfile.ZipFile(temporary, "x", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for tensor in tensors:
            with archive.open(f"{tensor.name}.npy", "w", force_zip64=True) as member:
                write_array(member, tensor.data, allow_pickle=False)
