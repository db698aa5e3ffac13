"""The bytes of a model file, from a path (mapped) or from memory (an upload), and what they look like."""

import hashlib
import io
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from csbviz.errors import FileFormatError, InputError

__all__ = ["Content", "open_content", "reason_of", "shown", "sniff"]

# What people rename or download by mistake: first bytes -> what it is.
_STRANGERS = (
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"\x89HDF\r\n", "an HDF5 file (Keras)"),
    (b"\x93NUMPY", "a single NumPy array (.npy)"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"%%MatrixMarket", "a Matrix Market file (a matrix, not a model)"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"<", "HTML or XML text"),
    (b"\x7fELF", "a program"),
)


@dataclass(frozen=True, eq=False)
class Content:
    """A file's bytes.

    Attributes
    ----------
    name : str
        File name without folders, for messages.
    data : numpy.ndarray
        Read-only uint8; mapped when it comes from a path.
    path : Path or None
        Where it lies on disk.
    """

    name: str
    data: np.ndarray = field(repr=False)
    path: Path | None = None

    @property
    def size(self):
        """Bytes."""
        return self.data.size

    @property
    def suffix(self):
        """Lower-case ending of the name, with its dot."""
        return PurePath(self.name).suffix.lower()

    def digest(self):
        """SHA-256 of the bytes in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    def head(self, count):
        """First bytes."""
        return self.data[:count].tobytes()

    def stream(self):
        """Open the bytes as a binary file."""
        return self.path.open("rb") if self.path else io.BytesIO(self.data.data)


def open_content(source, name=None):
    """Open a path, bytes or a binary file object.

    Parameters
    ----------
    source : str, os.PathLike, bytes-like, or a file object with read()
    name : str, optional
        File name of bytes; a file object's own `name` is taken otherwise.

    Returns
    -------
    Content

    Raises
    ------
    InputError
        Nothing there, a folder, no permission, or a text file object.
    FileFormatError
        The file is empty.
    """
    if isinstance(source, (str, os.PathLike)):
        content = _from_path(Path(source))
    else:
        content = _from_memory(source, name)
    if content.size == 0:
        raise FileFormatError(f"{content.name} is empty (0 bytes); a model file is needed.")
    return content


def _from_path(path):
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise InputError(f"{path} {what}; a model file is needed.")
        if path.stat().st_size == 0:
            return Content(path.name, np.empty(0, np.uint8), path)
        return Content(path.name, np.memmap(path, np.uint8, "r").view(np.ndarray), path)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _from_memory(source, name):
    if hasattr(source, "read"):
        name = name or getattr(source, "name", None)
        if hasattr(source, "seek"):
            source.seek(0)
        source = source.read()
    try:
        data = np.frombuffer(source, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        if isinstance(source, (bytes, bytearray, memoryview)):  # NumPy refuses an empty buffer
            return Content(PurePath(str(name or "the upload")).name, np.empty(0, np.uint8))
        raise InputError(
            f"a model is loaded from a path, bytes or a binary file, not from {type(source).__name__}."
        ) from error
    if data.flags.writeable:
        data = data.copy()
        data.flags.writeable = False
    return Content(PurePath(str(name or "the upload")).name, data)


def sniff(content):
    """Tell the kind of a file from its bytes.

    Parameters
    ----------
    content : Content

    Returns
    -------
    kind : str or None
        "safetensors", "torch", "npz", "onnx", "csbz", or None when it is none of them.
    words : str
        What the file looks like, for a message.
    """
    head = content.head(32)
    if head[:4] == b"PK\x03\x04":
        return _sniff_zip(content)
    if head[:5] == b"\x89CSBZ":
        return "csbz", "a compressed model (.csbz)"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= max(content.size, 100 << 20):
        return "safetensors", "a safetensors file"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "torch", "a pickle, as PyTorch files are"
    for magic, words in _STRANGERS:
        if head.startswith(magic):
            return None, words
    if head[:1] == b"\x08" and 1 <= content.data[1:2].sum() <= 32:
        return "onnx", "an ONNX model"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return None, "plain text"
    return None, "data of an unknown kind"


def _sniff_zip(content):
    try:
        with content.stream() as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        # The directory stands at the end and is lost first: the first entry's own header still has its name.
        length = int.from_bytes(content.head(28)[26:28], "little")
        names = [content.head(30 + length)[30:].decode("utf-8", "replace")]
    if any(name.endswith("data.pkl") for name in names):
        return "torch", "a PyTorch archive"
    if names and all(name.endswith(".npy") for name in names):
        return "npz", "a NumPy archive (.npz)"
    return None, "a zip archive of neither PyTorch nor NumPy"


def shown(text, limit=60):
    """Quote a name out of a file for a message: one line, not longer than `limit`."""
    text = repr(str(text))
    return text if len(text) <= limit else f"{text[:limit]}…'"


def reason_of(error, limit=120):
    """First line of an error of a library, cut to `limit`, or its kind when it says nothing."""
    lines = str(error).strip().splitlines()
    line = lines[0].strip() if lines else type(error).__name__
    return (line if len(line) <= limit else line[:limit] + "…").rstrip(". ")
