"""The dtypes that a CSB matrix may hold: names, bits, casts. PyTorch is loaded for bfloat16 alone."""

from __future__ import annotations

import numpy as np

from ..errors import MatrixError, OptionError

__all__ = [
    "VALUE_BYTES",
    "VALUE_DTYPES",
    "as_numpy",
    "bits_of",
    "cast_values",
    "dtype_name",
    "float_values",
    "is_torch",
    "normal_dtype",
    "values_from_bits",
]

VALUE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
VALUE_DTYPES = tuple(VALUE_BYTES)

# NumPy builds a dtype's name anew each time, which small matrices would feel.
_NAMES = {np.dtype(name): name for name in ("float16", "float32", "float64")}
_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def is_torch(thing) -> bool:
    """Tell whether `thing` comes from PyTorch, without importing PyTorch."""
    return type(thing).__module__.partition(".")[0] == "torch"


def normal_dtype(dtype) -> str:
    """Return the name of a value dtype given as a name, a NumPy dtype or a PyTorch dtype.

    Raises
    ------
    OptionError
        If it is none of `VALUE_DTYPES`.
    """
    if is_torch(dtype):
        name = str(dtype).removeprefix("torch.")
    elif isinstance(dtype, str):
        name = dtype
    else:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = repr(dtype)
    if name not in VALUE_BYTES:
        raise OptionError(f"The value dtype is {name}; a CSB matrix holds one of {', '.join(VALUE_DTYPES)}.")
    return name


def dtype_name(values) -> str:
    """Return the dtype's name of a NumPy array or a PyTorch tensor."""
    return _NAMES.get(values.dtype) or str(values.dtype).removeprefix("torch.")


def as_numpy(values) -> np.ndarray:
    """Return values as a NumPy array that SciPy can compute with: bfloat16 becomes float32, exactly.

    A tensor on the CPU of another dtype shares its memory; one on a GPU is copied.
    """
    if not is_torch(values):
        return values
    values = values.detach().cpu()
    return (values.float() if dtype_name(values) == "bfloat16" else values).numpy()


def bits_of(values) -> np.ndarray:
    """Return the same memory as unsigned integers, so that one kernel serves all dtypes of a width.

    A tensor on a GPU is copied.
    """
    if is_torch(values):
        values = values.detach().cpu()
        if dtype_name(values) == "bfloat16":
            import torch

            return values.view(torch.int16).numpy().view(np.uint16)
        values = values.numpy()
    return values.view(_BITS[values.dtype.itemsize])


def values_from_bits(bits: np.ndarray, dtype: str):
    """Return the same memory as values of `dtype`: the inverse of `bits_of`."""
    if dtype == "bfloat16":
        import torch

        return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    return bits.view(dtype)


def cast_values(values, dtype: str):
    """Return values as `dtype`, rounded to nearest, refusing finite values that would become infinite.

    Raises
    ------
    MatrixError
        If a finite value does not fit `dtype`.
    """
    source = dtype_name(values)
    if source == dtype:
        return values
    numbers = as_numpy(values)
    if dtype == "bfloat16":
        import torch

        cast = torch.from_numpy(np.ascontiguousarray(numbers)).to(torch.bfloat16)
        finite = torch.isfinite(cast).numpy()
    else:
        with np.errstate(over="ignore"):
            cast = numbers.astype(dtype)
        finite = np.isfinite(cast)
    if not finite.all():
        lost = np.flatnonzero(~finite & np.isfinite(numbers))
        if lost.size:
            value = float(numbers[lost[0]])
            raise MatrixError(
                f"The value {value:.6g} does not fit {dtype}; scale the matrix or keep {source}."
            )
    return cast


def float_values(values: np.ndarray) -> np.ndarray:
    """Return numbers of any real NumPy dtype as one that CSB holds: integers and bools become floats.

    Raises
    ------
    MatrixError
        If the dtype is complex, longdouble, object or no number at all.
    """
    if values.dtype in _NAMES:
        return values
    if values.dtype.kind in "biu":
        return values.astype(np.result_type(values.dtype, np.float32))
    if values.dtype.name not in VALUE_BYTES:
        raise MatrixError(
            f"The values are {values.dtype.name}; a CSB matrix holds {', '.join(VALUE_DTYPES)}."
        )
    return values.astype(values.dtype.newbyteorder("="))
