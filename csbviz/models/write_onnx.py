"""Write changed weights back into the ONNX file that they came from; everything else of it is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import FileFormatError, InputError, OptionError
from csbviz.models import read_onnx
from csbviz.models.content import Content, open_content, shown
from csbviz.models.tensors import DTYPES, FLOATS, StoredTensor
from csbviz.models.write_file import new_file

if TYPE_CHECKING:
    from csbviz.models import Model

__all__ = ["save", "to_bytes", "with_arrays"]

Original = bytes | str | os.PathLike


def to_bytes(original: Original, model: Model) -> bytes:
    """Give an ONNX file in which the weights are those of a model.

    Each weight stays where the file keeps it (initialisers, `Constant` nodes, branches, sparse tensors) and
    in the field that holds it. Weights that did not change, the graph, and fields unknown to this version of
    ONNX are kept as they are.

    Parameters
    ----------
    original : bytes, str or os.PathLike
        The file that the model was loaded from.
    model : Model
        Loaded from that file, with any weights changed.

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        The model did not come from this file, or an integer tensor was changed.
    FileFormatError
        The file is damaged, keeps weights in other files, or would be larger than an ONNX file can be.
    """
    content = open_content(original, None if isinstance(original, (str, os.PathLike)) else "the ONNX model")
    return _written(content, {layer.name: layer.tensor for layer in model.layers})


def with_arrays(original: bytes, arrays: dict[str, np.ndarray]) -> bytes:
    """Give an ONNX file in which some weights are replaced: names as `load_model` gives them → values.

    Values have the weight's shape; they are converted to its type. Errors are those of `to_bytes`.
    """
    from csbviz.models import load_model

    if not arrays:
        return original
    return to_bytes(original, load_model(original, "model.onnx").with_weights(arrays))


def save(path: str | os.PathLike, original: Original, model: Model) -> None:
    """Write the file of `to_bytes` beside `path`, then move it there in one step.

    Raises
    ------
    OptionError
        `path` does not end in .onnx.
    InputError, FileFormatError
        As in `to_bytes`, or the system refuses to write there.
    """
    path = Path(path)
    if path.suffix.lower() != ".onnx":
        raise OptionError(f"{path.name} cannot be written as an ONNX model: give it the ending .onnx.")
    data = to_bytes(original, model)
    with new_file(path) as temporary:
        temporary.write_bytes(data)


def _written(content: Content, wanted: dict[str, StoredTensor]) -> bytes:
    import onnx

    proto = read_onnx.parse(content)
    found = read_onnx.tensors_of(content, proto)
    if {old.name: (old.dtype, old.shape) for old, _ in found} != {
        name: (new.dtype, new.shape) for name, new in wanted.items()
    }:
        raise InputError(
            f"the weights are not those of {content.name} by name, type and shape; pruned weights can only "
            "be written into the ONNX file that they came from."
        )
    for old, message in found:
        new = wanted[old.name].data
        if np.array_equal(_bits(old.data), _bits(new)):
            continue
        if old.dtype not in FLOATS:
            raise InputError(
                f"{shown(old.name)} is of type {old.dtype}; only weights of {', '.join(FLOATS)} can be "
                "changed in an ONNX file."
            )
        _put(message, old, np.ascontiguousarray(new, DTYPES[old.dtype]), onnx)
    try:
        return proto.SerializeToString()
    except Exception as error:  # protobuf's limit of 2 GiB has a class of its own in each implementation
        raise FileFormatError(
            f"{content.name} cannot be written as one ONNX file, which holds at most 2 GiB; write "
            ".safetensors instead."
        ) from error


def _bits(data: np.ndarray) -> np.ndarray:
    """The bytes of an array: zeros of both signs differ, NaNs of equal bits do not."""
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8)


def _put(message: Any, old: StoredTensor, new: np.ndarray, onnx: Any) -> None:
    """Replace the values that a message holds, in the field that holds them."""
    flat = new.reshape(-1)
    if isinstance(message, onnx.AttributeProto):
        message.floats[:] = flat.tolist()
    elif isinstance(message, onnx.SparseTensorProto):
        _put_sparse(message, old, flat, onnx)
    elif message.HasField("raw_data"):
        message.raw_data = flat.astype(flat.dtype.newbyteorder("<"), copy=False).tobytes()
    elif old.dtype == "float32":
        message.float_data[:] = flat.tolist()
    elif old.dtype == "float64":
        message.double_data[:] = flat.tolist()
    else:  # 16-bit floats: their bits, each in an integer of its own
        message.int32_data[:] = flat.view(np.uint16).tolist()


def _put_sparse(message: Any, old: StoredTensor, flat: np.ndarray, onnx: Any) -> None:
    """Replace the stored entries; an entry that the file does not store must stay zero."""
    indices = onnx.numpy_helper.to_array(message.indices)
    where = np.ravel_multi_index(tuple(indices.T), old.shape) if indices.ndim == 2 else indices
    rest = flat.copy()
    rest[where] = 0
    if np.count_nonzero(rest):
        raise InputError(
            f"{shown(old.name)} is stored sparse in the ONNX file, which has no place for the new nonzeros."
        )
    values = flat[where]
    part = StoredTensor(old.name, old.dtype, values.shape, values)
    _put(message.values, part, values, onnx)
