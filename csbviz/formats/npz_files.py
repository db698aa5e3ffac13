"""Arrays out of .npz files from anywhere: nothing is unpickled, no size is believed unchecked."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib

import numpy as np

from ..errors import FileFormatError
from . import file_bytes

__all__ = ["read_npz"]

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(content: bytes, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file, as writable arrays in native byte order.

    Parameters
    ----------
    content : bytes
        Of the whole file.
    name : str
        What to call the file in messages.

    Raises
    ------
    FileFormatError
        If it is no zip file, is truncated, unpacks to more than `file_bytes.MAX_BYTES`, or holds an array of
        Python objects, which only a pickle could restore.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
            if sum(member.file_size for member in members) > file_bytes.MAX_BYTES:
                limit = file_bytes.MAX_BYTES / 2**20
                raise FileFormatError(
                    f"{name} unpacks to more than {limit:,.0f} MiB; a matrix file may hold that much."
                )
            return {member.filename[:-4]: _read_array(archive, member, name) for member in members}
    except FileFormatError:
        raise
    except (NotImplementedError, RuntimeError):  # an unknown compression, a password
        raise FileFormatError(f"{name} is packed in a way that .npz files are not.") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, KeyError, struct.error):
        # zipfile meets damaged offsets and lengths in many ways
        raise FileFormatError(f"{name} is no sound .npz file: it is truncated or of another kind.") from None


def _read_array(archive, member, name: str) -> np.ndarray:
    array_name = member.filename[:-4]
    with archive.open(member) as file:
        try:
            read_header = _HEADERS[np.lib.format.read_magic(file)]
            shape, fortran_order, dtype = read_header(file)
            count = math.prod(shape)
        except (zipfile.BadZipFile, zlib.error):
            raise
        except Exception:  # the header is Python text that NumPy parses: whatever that meets, it is no header
            raise FileFormatError(f"{name} holds {array_name!r}, which is no NumPy array.") from None
        if dtype.hasobject:
            raise FileFormatError(
                f"{name} holds {array_name!r} as Python objects; a pickle can run code and is never loaded."
            )
        size = count * dtype.itemsize
        held = member.file_size - file.tell()
        if min(shape, default=0) < 0 or size != held:
            raise FileFormatError(
                f"{name} says that {array_name!r} has {size:,} bytes but holds {held:,} of them."
            )
        data = file.read(size)
    if len(data) != size:
        raise FileFormatError(f"{name} is truncated inside {array_name!r}.")
    array = np.frombuffer(data, dtype) if dtype.itemsize else np.zeros(count, dtype)
    array = array.reshape(shape, order="F" if fortran_order else "C")
    return array.astype(dtype.newbyteorder("="))  # a copy, since an array over bytes cannot be written
