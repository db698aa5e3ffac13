"""Read safetensors files: a JSON header of types, shapes and offsets, then the bytes.

The tensors are views of the file's bytes, so opening a large file reads its header only. (The safetensors
package copies the tensors of an upload and gives NumPy no bfloat16.)
"""

import json
import math

from csbviz.errors import FileFormatError
from csbviz.models.content import reason_of, shown
from csbviz.models.tensors import DTYPES, SAFETENSORS_CODES, StoredTensor

__all__ = ["read"]

_MAX_HEADER = 100 << 20  # the format's own limit


def read(content):
    """Read the tensors of a safetensors file.

    Parameters
    ----------
    content : Content

    Returns
    -------
    tensors : list of StoredTensor
        In the order of the header.
    metadata : dict of str to str

    Raises
    ------
    FileFormatError
        Truncated, or the header does not fit the bytes.
    """
    header, begin = _read_header(content)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(f"{content.name} has a damaged header: __metadata__ must map text to text.")
    size = content.size - begin
    placed = [_place(content, name, entry) for name, entry in header.items()]
    position = 0
    for name, _, shape, first, last in sorted(placed, key=lambda item: item[3:]):
        if last > size:
            raise FileFormatError(
                f"{content.name} is truncated: tensor {shown(name)} of shape {shape} ends at byte {last:,} "
                f"of the data, but only {size:,} bytes are there."
            )
        if first != position:
            raise FileFormatError(
                f"{content.name} has a damaged header: tensor {shown(name)} leaves a gap or overlaps."
            )
        position = last
    if position != size:
        raise FileFormatError(f"{content.name} has {size - position:,} bytes that belong to no tensor.")
    tensors = [
        StoredTensor.of(name, _view(content.data[begin + first : begin + last], dtype, shape), dtype)
        for name, dtype, shape, first, last in placed
    ]
    return tensors, metadata


def _read_header(content):
    length = int.from_bytes(content.head(8), "little")
    if content.size < 8 or length > content.size - 8:
        raise FileFormatError(
            f"{content.name} is truncated or no safetensors file: its header claims {length:,} bytes, "
            f"but {max(content.size - 8, 0):,} follow."
        )
    if length > _MAX_HEADER:
        raise FileFormatError(
            f"{content.name} has a header of {length:,} bytes; at most {_MAX_HEADER:,} are allowed."
        )
    try:
        header = json.loads(content.data[8 : 8 + length].tobytes(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{content.name} has a damaged header: it is not valid JSON ({reason_of(error)})."
        ) from error
    if not isinstance(header, dict):
        raise FileFormatError(f"{content.name} has a damaged header: a JSON object is needed.")
    return header, 8 + length


def _without_duplicates(pairs):
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name appears twice")
    return unique


def _place(content, name, entry):
    """Check one entry of the header; give (name, dtype, shape, first byte, one past the last byte)."""
    try:
        code, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{content.name} has a damaged header: tensor {shown(name)} needs dtype, shape and data_offsets."
        ) from error
    numbers = (*shape, first, last)
    if not all(type(number) is int and 0 <= number < 1 << 63 for number in numbers):
        raise FileFormatError(
            f"{content.name} has a damaged header: sizes of {shown(name)} must be whole numbers ≥ 0."
        )
    dtype = SAFETENSORS_CODES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise FileFormatError(
            f"{content.name} holds {shown(name)} as {str(code)[:40]}; "
            f"the types read are {', '.join(SAFETENSORS_CODES)}."
        )
    needed = math.prod(shape) * DTYPES[dtype].itemsize
    if last - first != needed:
        raise FileFormatError(
            f"{content.name} has a damaged header: {shown(name)} of shape {shape} and type {code} "
            f"needs {needed:,} bytes, its offsets span {last - first:,}."
        )
    return name, dtype, shape, first, last


def _view(data, dtype, shape):
    return data.view(DTYPES[dtype]).reshape(shape)
