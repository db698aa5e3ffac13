"""The dense operands of a product: which device they live on, their layout, and the kind to give back."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from csbviz.errors import MatrixError, OptionError

__all__ = ["Operand", "as_operand", "current_stream_of", "give_back", "output_buffer"]


@dataclass(frozen=True)
class Operand:
    """A dense operand made ready for a kernel.

    Attributes
    ----------
    array : numpy.ndarray or cupy.ndarray
        C-contiguous, two-dimensional; bfloat16, which neither library has, as its bits (uint16).
    kind : str
        What the caller handed in and gets back: "numpy", "torch" or "cupy".
    vector : bool
        True when the caller handed in one dimension.
    device : str
        "cpu" or "cuda".
    dtype : str
        Type of the values.
    """

    array: Any
    kind: str
    vector: bool
    device: str
    dtype: str = "float32"


def _is_torch(value) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_cupy(value) -> bool:
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, cupy.ndarray)


def current_stream_of(B) -> AbstractContextManager:
    """A context in which CuPy works on the GPU of B and on the stream that B's library works on.

    Without it a product of PyTorch tensors would not wait for what PyTorch has under way on its own stream.
    For operands on the CPU the context does nothing.
    """
    if _is_torch(B) and B.device.type == "cuda":
        import cupy
        import torch

        context = ExitStack()
        context.enter_context(cupy.cuda.Device(B.device.index))
        context.enter_context(_as_cupy_stream(torch.cuda.current_stream(B.device)))
        return context
    return B.device if _is_cupy(B) else nullcontext()


def _as_cupy_stream(stream):
    """CuPy's object for a stream of PyTorch."""
    import cupy

    if not stream.cuda_stream:
        return cupy.cuda.Stream.null
    if hasattr(stream, "__cuda_stream__") and hasattr(cupy.cuda.Stream, "from_external"):
        return cupy.cuda.Stream.from_external(stream)
    return cupy.cuda.ExternalStream(stream.cuda_stream)  # PyTorch or CuPy from before that protocol


def as_operand(B, rows: int, dtype: str, name: str = "B") -> Operand:
    """Check an operand and bring it into row-major order on its own device.

    Parameters
    ----------
    B : numpy.ndarray, torch.Tensor or cupy.ndarray
        One or two dimensions, `rows` rows. A transposed view is copied into row-major order on its device.
    rows : int
        Rows that the product needs.
    dtype : str
        Type of the matrix's values; B must have the same.
    name : str
        How messages call it.

    Raises
    ------
    MatrixError
        If the kind, the dimensions, the rows or the dtype do not fit.
    """
    if _is_torch(B):
        kind, device = "torch", B.device.type
        found = str(B.dtype).removeprefix("torch.")
        # A gradient through the product belongs to csbviz.nn; here the tensor's values are what counts.
        B = B.detach()
    elif _is_cupy(B):
        kind, device, found = "cupy", "cuda", str(B.dtype)
    else:
        if not isinstance(B, np.ndarray):
            raise MatrixError(
                f"{name} must be a NumPy array, a PyTorch tensor or a CuPy array, not {type(B).__name__}."
            )
        kind, device, found = "numpy", "cpu", str(B.dtype)
    if device not in ("cpu", "cuda"):
        raise MatrixError(f"{name} lives on device {device!r}; a CPU or CUDA array is needed.")
    if kind == "torch" and B.layout is not sys.modules["torch"].strided:
        raise MatrixError(f"{name} is a sparse tensor; a dense one is needed, as {name}.to_dense() gives.")
    if B.ndim not in (1, 2):
        raise MatrixError(f"{name} has {B.ndim} dimensions; 1 or 2 are needed.")
    if B.shape[0] != rows:
        raise MatrixError(f"{name} has {B.shape[0]} rows; the product needs {rows}.")
    if found != dtype:
        raise MatrixError(
            f"{name} is {found} but the matrix holds {dtype} values; convert one, as by A.astype."
        )
    vector = B.ndim == 1
    if vector:
        B = B[:, None]
    return Operand(_row_major(B, kind, device), kind, vector, device, found)


def _row_major(B, kind: str, device: str):
    if kind == "torch":
        return _array_of(B.contiguous(), device)
    if kind == "cupy":
        import cupy

        return cupy.ascontiguousarray(B)
    return np.ascontiguousarray(B)


def _array_of(tensor, device: str):
    """A PyTorch tensor's memory as an array of the device's library."""
    import torch

    bits = tensor.dtype is torch.bfloat16
    if bits:
        tensor = tensor.view(torch.int16)
    if device == "cpu":
        array = tensor.numpy()
    else:
        import cupy

        array = cupy.from_dlpack(tensor)
    return array.view(np.uint16) if bits else array


def output_buffer(operand: Operand, rows: int, out=None):
    """An array for the result, or the caller's `out` as the kernel sees it.

    Raises
    ------
    OptionError
        If `out` has another kind, shape, dtype, layout or device than the result, or shares memory with B.
    """
    columns = operand.array.shape[1]
    if out is None:
        if operand.device == "cuda":
            import cupy

            return cupy.empty((rows, columns), operand.array.dtype)
        return np.empty((rows, columns), operand.array.dtype)
    needed = (rows,) if operand.vector else (rows, columns)
    if tuple(out.shape) != needed:
        raise OptionError(f"out has shape {tuple(out.shape)}; the result has shape {needed}.")
    if (_is_torch(out), _is_cupy(out)) != (operand.kind == "torch", operand.kind == "cupy"):
        raise OptionError(f"out is a {type(out).__name__}; it must be of the same kind as B.")
    if str(out.dtype).removeprefix("torch.") != operand.dtype:
        raise OptionError(f"out is {out.dtype}; the result is {operand.dtype}.")
    contiguous = out.is_contiguous() if operand.kind == "torch" else out.flags.c_contiguous
    if not contiguous:
        raise OptionError("out must be contiguous in row-major order.")
    if operand.kind == "torch" and out.device.type != operand.device:
        raise OptionError(f"out lives on {out.device.type}; B lives on {operand.device}.")
    view = out[:, None] if operand.vector else out
    array = _array_of(view, operand.device) if operand.kind == "torch" else view
    if operand.device == "cuda" and array.device != operand.array.device:
        raise OptionError(f"out lives on GPU {array.device.id}; B lives on GPU {operand.array.device.id}.")
    if _overlap(array, operand.array):
        raise OptionError("out shares memory with B, which the product still reads; give another array.")
    return array


def _overlap(a, b) -> bool:
    """Whether two contiguous arrays of one device have bytes in common."""
    first, second = _address(a), _address(b)
    return bool(a.nbytes and b.nbytes) and first < second + b.nbytes and second < first + a.nbytes


def _address(array) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def give_back(result, operand: Operand):
    """The kernel's result in the kind and number of dimensions that the caller handed in."""
    if operand.vector:
        result = result[:, 0]
    if operand.kind == "torch":
        import torch

        bits = operand.dtype == "bfloat16"
        result = result.view(np.int16) if bits else result
        tensor = torch.from_dlpack(result) if operand.device == "cuda" else torch.from_numpy(result)
        return tensor.view(torch.bfloat16) if bits else tensor
    return result
