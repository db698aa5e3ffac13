"""Write tensors of any type as a safetensors file, one after the other, without a second copy of them.

The layout (https://github.com/huggingface/safetensors, "Format"): eight bytes with the length of the header,
little-endian; the header, a JSON object of dtype, shape and data_offsets per tensor, padded with spaces to a
multiple of eight; then the bytes of the tensors.
"""

import io
import json
from pathlib import Path

import numpy as np

from csbviz.errors import OptionError
from csbviz.models.tensors import DTYPES, SAFETENSORS_CODES
from csbviz.models.write_file import new_file

__all__ = ["save", "to_bytes"]

_CODES = {name: code for code, name in SAFETENSORS_CODES.items()}


def to_bytes(tensors, metadata):
    """Give a safetensors file as bytes.

    Parameters
    ----------
    tensors : sequence of StoredTensor
    metadata : mapping of str to str

    Returns
    -------
    bytes
    """
    buffer = io.BytesIO()
    _write(buffer, tensors, metadata)
    return buffer.getvalue()


def save(path, tensors, metadata):
    """Write a safetensors file beside `path`, then move it there in one step.

    Raises
    ------
    OptionError
        `path` does not end in .safetensors.
    InputError
        The system refuses to write there.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise OptionError(
            f"{path.name} cannot be written: models are saved as .safetensors, so give that ending."
        )
    with new_file(path) as temporary, temporary.open("xb") as file:
        _write(file, tensors, metadata)


def _write(file, tensors, metadata):
    header = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    # The header keeps the order of the layers; the data starts with the widest types, so that all are
    # aligned.
    by_width = sorted(tensors, key=lambda tensor: -DTYPES[tensor.dtype].itemsize)
    offsets, end = {}, 0
    for tensor in by_width:
        begin, end = end, end + tensor.nbytes
        offsets[tensor.name] = [begin, end]
    for tensor in tensors:
        header[tensor.name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": offsets[tensor.name],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for tensor in by_width:
        file.write(np.ascontiguousarray(tensor.data).reshape(-1).view(np.uint8).data)
