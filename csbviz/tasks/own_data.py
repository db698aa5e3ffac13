"""The .npz of a user's inputs and labels: read with care, and held against what the model takes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from csbviz.errors import FileFormatError, InputError
from csbviz.models.content import shown
from csbviz.tasks.onnx_runner import Port

__all__ = ["MAX_UNPACKED", "OwnData", "check_data", "read_data"]

MAX_UNPACKED = 512 << 20
"""Bytes that the arrays of a data file may have: 850 images of 224 x 224 x 3 as float32."""


_TYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
_TYPES += ("float16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class OwnData:
    """Inputs and labels of a user.

    Attributes
    ----------
    name : str
        File name.
    digest : str
        SHA-256 of the file, in hexadecimal.
    inputs : mapping of str to numpy.ndarray
        Name → values, examples along the first axis; "inputs" stands for a model's only input.
    labels : numpy.ndarray
        Class ids, int64, (examples,).
    """

    name: str
    digest: str
    inputs: Mapping[str, np.ndarray] = field(repr=False)
    labels: np.ndarray = field(repr=False)


def read_data(content: bytes, name: str) -> OwnData:
    """Read an .npz with `inputs`, or one array for each input of the model by its name, and `labels`.

    Parameters
    ----------
    content : bytes
        Of the whole file.
    name : str
        File name, for messages.

    Returns
    -------
    OwnData

    Raises
    ------
    FileFormatError
        No sound .npz, too large when unpacked, or with Python objects in it.
    InputError
        Arrays are missing or are not what they must be.
    """
    from csbviz.formats.npz_files import read_npz

    _check_size(content, name)
    arrays = read_npz(content, name)
    if "labels" not in arrays:
        held = ", ".join(shown(key) for key in list(arrays)[:6]) or "nothing"
        raise InputError(f"{name} holds no array 'labels' with the class of each example; it holds {held}.")
    labels = _labels(arrays.pop("labels"), name)
    if not arrays:
        raise InputError(f"{name} holds no array 'inputs' with the examples of its labels.")
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(
                f"{name} holds {shown(key)} of type {array.dtype.name}; numbers or truth values are needed."
            )
        if array.ndim == 0 or len(array) != len(labels):
            held = f"{len(array):,} examples" if array.ndim else "a single number"
            raise InputError(
                f"{name} holds {held} in {shown(key)} and {len(labels):,} labels; as many are needed."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{name} holds NaN or infinity in {shown(key)}; finite numbers are needed.")
    return OwnData(name, hashlib.sha256(content).hexdigest(), arrays, labels)


def check_data(data: OwnData, inputs: tuple[Port, ...], name: str) -> dict[str, np.ndarray]:
    """Hold data against the inputs of a model.

    Parameters
    ----------
    data : OwnData
    inputs : tuple of Port
    name : str
        What to call the model in messages.

    Returns
    -------
    dict of str to numpy.ndarray
        Name of each input → its values in the type that the model takes.

    Raises
    ------
    InputError
        An array is missing, too many, of another shape or of a type that does not become the model's.
    """
    if not inputs:
        raise InputError(f"{name} takes no inputs, so there is nothing to measure on data.")
    arrays = dict(data.inputs)
    if len(inputs) == 1 and "inputs" in arrays and inputs[0].name not in arrays:
        arrays[inputs[0].name] = arrays.pop("inputs")
    wanted = {port.name for port in inputs}
    missing, more = sorted(wanted - set(arrays)), sorted(set(arrays) - wanted)
    if missing or more:
        takes = ", ".join(shown(port.name) for port in inputs[:6])
        what = f"holds no array {shown(missing[0])}" if missing else f"holds {shown(more[0])} too"
        raise InputError(f"{data.name} {what}; {name} takes {takes}.")
    return {port.name: _fitting(arrays[port.name], port, data.name) for port in inputs}


def _check_size(content: bytes, name: str) -> None:
    """Believe no archive that says itself that it is too large; what it says is checked array by array."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise FileFormatError(f"{name} is no sound .npz file: it is truncated or of another kind.") from error
    if unpacked > MAX_UNPACKED:
        raise FileFormatError(
            f"{name} unpacks to {unpacked / 2**20:,.0f} MiB; at most {MAX_UNPACKED / 2**20:,.0f} MiB of data "
            "are taken: leave out examples."
        )


def _labels(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.ndim != 1:
        hint = "; of one-hot rows, labels.argmax(axis=1) are the ids" if labels.ndim == 2 else ""
        raise InputError(
            f"{name} holds labels of shape {labels.shape}; one class id for each example is needed{hint}."
        )
    if labels.dtype.kind not in "iu":
        raise InputError(
            f"{name} holds labels of type {labels.dtype.name}; class ids are needed, integers from 0 on."
        )
    if not len(labels):
        raise InputError(f"{name} holds no labels; at least one example is needed.")
    if (least := int(labels.min())) < 0:
        raise InputError(f"{name} holds the label {least}; class ids are integers from 0 on.")
    if int(labels.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{name} holds labels too large for class ids.")
    return labels.astype(np.int64)


def _fitting(array: np.ndarray, port: Port, file: str) -> np.ndarray:
    """The array in the input's type; shapes must agree but for the number of examples."""
    if not port.dtype:
        raise InputError(
            f"the model's input {shown(port.name)} is no tensor of numbers; data can be nothing else."
        )
    if port.shape is not None:
        if not port.shape:
            raise InputError(
                f"the model's input {shown(port.name)} is a single number; an axis of examples is needed."
            )
        fits = array.ndim == len(port.shape) and all(
            want is None or want == have for want, have in zip(port.shape[1:], array.shape[1:], strict=True)
        )
        if not fits:
            want = ", ".join("any" if size is None else str(size) for size in ("examples", *port.shape[1:]))
            raise InputError(
                f"{file} holds {shown(port.name)} of shape {array.shape}; the model takes ({want})."
            )
    if port.dtype not in _TYPES:
        raise InputError(
            f"the model's input {shown(port.name)} is of type {port.dtype}, which an .npz cannot hold."
        )
    target = np.dtype(port.dtype)
    same_kind = array.dtype.kind == target.kind or {array.dtype.kind, target.kind} == {"i", "u"}
    if not same_kind:
        hint = " (scaled as the model was trained)" if target.kind == "f" else ""
        raise InputError(
            f"{file} holds {shown(port.name)} as {array.dtype.name}; the model takes {target.name}: convert "
            f"it{hint} before saving."
        )
    with np.errstate(over="ignore"):
        converted = array.astype(target, copy=False)
    lost = not np.isfinite(converted).all() if target.kind == "f" else not np.array_equal(converted, array)
    if lost:
        raise InputError(f"{file} holds numbers in {shown(port.name)} that {target.name} cannot hold.")
    return converted
