"""One tensor of a model file: its type, its shape and its bytes, read when they are needed."""

import math
from dataclasses import dataclass, field

import numpy as np

from csbviz.errors import FileFormatError

__all__ = ["DTYPES", "FLOATS", "MAX_UNPACKED", "SAFETENSORS_CODES", "StoredTensor", "narrow", "widen"]

# name -> NumPy type of the stored elements. NumPy has no 16-bit brain float and no 8-bit floats: their bits
# are kept as unsigned integers, so that every tensor of a file can be written back unchanged.
DTYPES = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
    "float8_e4m3fn": np.dtype("u1"),
    "float8_e5m2": np.dtype("u1"),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
    "complex64": np.dtype("<c8"),
}
FLOATS = ("float64", "float32", "float16", "bfloat16")
SAFETENSORS_CODES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}

# Bytes that a compressed or sparse file may unpack to: a small file must not fill the memory.
MAX_UNPACKED = 4 << 30


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A named tensor as a file keeps it.

    Attributes
    ----------
    name : str
        The name in the file.
    dtype : str
        One of `DTYPES`.
    shape : tuple of int
    data : numpy.ndarray
        Read-only, of the storage type (bfloat16: the bits as uint16). Of a safetensors or PyTorch file on
        disk it is a view of mapped memory: the pages are read when the tensor is used.
    op : str
        How a graph uses the tensor ("conv", "matmul", …), "" when the file does not say.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray = field(repr=False)
    op: str = ""

    @classmethod
    def of(cls, name, array, dtype=None, op=""):
        """Keep `array` under `name`; `dtype` names the type when `array` holds bits only.

        Raises
        ------
        FileFormatError
            The type is none of `DTYPES`.
        """
        kind = dtype or array.dtype.name
        if kind not in DTYPES:
            raise FileFormatError(f"tensor {name!r} has the type {kind}, which no csbviz model can hold.")
        storage = DTYPES[kind]
        data = array.view(storage) if array.dtype.itemsize == storage.itemsize and dtype else array
        # A file may place a tensor at any byte; compiled kernels want it at a multiple of its width.
        data = np.require(data, storage, ("C", "A")).reshape(array.shape)
        if data.flags.writeable:
            data = data.view()
            data.flags.writeable = False
        return cls(name, kind, tuple(int(s) for s in array.shape), data, op)

    @property
    def size(self):
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self):
        """Bytes in the file."""
        return self.size * DTYPES[self.dtype].itemsize


def widen(bits):
    """bfloat16 bits (uint16) → float32, exactly.

    Parameters
    ----------
    bits : numpy.ndarray
        uint16, any shape.

    Returns
    -------
    numpy.ndarray
        float32 of the same shape.
    """
    out = bits.astype(np.uint32)
    out <<= 16
    return out.view(np.float32)


def narrow(values):
    """float32 → bfloat16 bits (uint16), rounded to nearest, ties to even; NaN stays NaN.

    Parameters
    ----------
    values : numpy.ndarray
        Convertible to float32, any shape.

    Returns
    -------
    numpy.ndarray
        uint16 of the same shape; values that came from `widen` come back bit for bit.
    """
    values = np.ascontiguousarray(values, dtype=np.float32)
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40  # adding to a NaN's bits could carry it into infinity
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)
