"""Bytes of a file or file object within a bound, gunzipped when its name says so."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from pathlib import Path

from ..errors import FileFormatError

__all__ = ["MAX_BYTES", "MAX_DIMENSION", "read_bytes"]

MAX_BYTES = 2**30  # of one file, unpacked: a pruned layer as text takes some MB
CHUNK = 2**20
MAX_DIMENSION = 2**24  # of a matrix in a file: a header alone must not make us allocate gigabytes of pointers


def read_bytes(path_or_file, name: str | None = None) -> tuple[str, bytes]:
    """Read a file in full.

    Parameters
    ----------
    path_or_file : str, os.PathLike or binary file object
    name : str, optional
        What the file is called; default is the path's last part or the file object's own name.

    Returns
    -------
    name, content : str, bytes
        The name without ".gz"; the content, unpacked.

    Raises
    ------
    FileFormatError
        If the file cannot be read, holds more than `MAX_BYTES` or is broken gzip data.
    """
    is_file = hasattr(path_or_file, "read")
    own = getattr(path_or_file, "name", None) if is_file else os.fspath(path_or_file)
    name = name or (os.path.basename(own) if isinstance(own, str) else "the file")
    try:
        if is_file:
            content = _limited(path_or_file, name)
        else:
            with Path(path_or_file).open("rb") as file:
                content = _limited(file, name)
    except OSError as error:
        raise FileFormatError(f"{name} cannot be read: {error.strerror or error}.") from None
    return (name[:-3], _gunzip(content, name)) if name.lower().endswith(".gz") else (name, content)


def _limited(file, name: str) -> bytes:
    parts, size = [], 0
    while size <= MAX_BYTES and (part := file.read(CHUNK)):  # one large read would allocate the bound at once
        if not isinstance(part, bytes):
            raise FileFormatError(f"{name} is opened as text; open it in binary mode.")
        parts.append(part)
        size += len(part)
    if size > MAX_BYTES:
        raise FileFormatError(
            f"{name} holds more than {MAX_BYTES / 2**20:,.0f} MiB; a matrix file may hold that much."
        )
    return b"".join(parts)


def _gunzip(content: bytes, name: str) -> bytes:
    """Unpack in bounded memory: the output is cut off as soon as it exceeds the limit."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return _limited(file, f"{name}, unpacked,")
    except EOFError:
        raise FileFormatError(f"{name} is truncated: its gzip data ends too early.") from None
    except (OSError, zlib.error):
        raise FileFormatError(f"{name} is named .gz but is no sound gzip data.") from None
