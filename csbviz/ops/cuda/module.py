"""The CUDA sources: where they lie, which instantiations exist, and how CuPy compiles them on demand.

Nothing here needs CuPy or a GPU until `get_kernel` is called, so the sources can be compiled by NVRTC alone.
"""

from __future__ import annotations

import functools
from itertools import product
from pathlib import Path
from typing import NamedTuple

from csbviz.errors import UnavailableError
from csbviz.ops.cuda.driver import obstacle

__all__ = [
    "COMPILE_OPTIONS",
    "LANES",
    "SOURCES",
    "Function",
    "current_device",
    "get_kernel",
    "instantiations",
    "missing_reason",
    "read_source",
]

SOURCES = ("csb_spmm.cu",)
"""The files of kernels/cuda, one an operation."""

COMPILE_OPTIONS = ("-std=c++17", "-lineinfo")
"""Options of NVRTC besides the architecture. No fast math: NaN, Inf and rounding stay IEEE's."""

LANES = (1, 8, 16, 32)
"""Lanes that share a row in version 2; a tile is four times as many columns."""

_CTYPES = {
    "float32": "float",
    "float64": "double",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "int32": "int",
    "int64": "long long",
}


class Function(NamedTuple):
    """A kernel of a source file, with the template arguments that name one instantiation."""

    source: str
    name: str
    arguments: tuple

    @property
    def expression(self) -> str:
        """The C++ name, e.g. ``csb_add_partials<float>``; dtypes are given by their NumPy names."""
        return f"{self.name}<{', '.join(str(_CTYPES.get(a, a)) for a in self.arguments)}>"


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that a launcher can ask for."""
    dtypes, indices, pointers = ("float32", "float64"), ("uint8", "uint16"), ("int32", "int64")
    source = "csb_spmm.cu"
    first = [Function(source, "csb_spmm_v1", a) for a in product(dtypes, indices, indices, pointers)]
    second = [Function(source, "csb_spmm_v2", a) for a in product(dtypes, indices, pointers, LANES, (1, 4))]
    return (*first, *second, *(Function(source, "csb_add_partials", (dtype,)) for dtype in dtypes))


@functools.cache
def read_source(name: str) -> str:
    """The text of a file of kernels/cuda.

    Raises
    ------
    UnavailableError
        If the file was not installed.
    """
    package = Path(__file__).parents[2]
    for folder in (package / "_kernels" / "cuda", package.parent / "kernels" / "cuda"):
        path = folder / name
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise UnavailableError(f"The CUDA source {name} is missing from this installation of csbviz.")


@functools.cache
def missing_reason(capability: tuple[int, int] | None = None) -> str | None:
    """Why CUDA kernels cannot run in this process, in one sentence, or None; it loads CuPy to find out.

    Parameters
    ----------
    capability : tuple of int, optional
        Least compute capability that the kernel needs.
    """
    reason = obstacle(capability)
    if reason is not None:
        return reason
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # a CuPy that cannot find its libraries fails in many ways at import
        return f"CuPy cannot be used ({type(error).__name__}: {' '.join(str(error).split())})."
    return None


class DeviceLimits(NamedTuple):
    """What a launcher asks of the current device."""

    id: int
    multiprocessors: int
    shared_bytes: int  # most dynamic shared memory of a CTA


def current_device() -> DeviceLimits:
    """Limits of the device that is current in this thread."""
    import cupy

    return _device_limits(cupy.cuda.runtime.getDevice())


@functools.cache
def _device_limits(device: int) -> DeviceLimits:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(device)
    return DeviceLimits(
        device,
        properties["multiProcessorCount"],
        properties["sharedMemPerBlockOptin"],
    )


def get_kernel(function: Function):
    """The compiled kernel for the current device, a `cupy.RawKernel`; compiled at the first call.

    Raises
    ------
    UnavailableError
        If the source does not compile for this device.
    """
    return _compiled(function, current_device().id)


@functools.cache
def _compiled(function: Function, device: int):
    import cupy

    module = cupy.RawModule(
        code=read_source(function.source), options=COMPILE_OPTIONS, name_expressions=(function.expression,)
    )
    try:
        kernel = module.get_function(function.expression)
    except cupy.cuda.compiler.CompileException as error:
        first = next((line for line in str(error).splitlines() if "error" in line), "no reason given")
        raise UnavailableError(
            f"{function.source} does not compile for this GPU: {first.strip()}."
        ) from error
    # Allow as much dynamic shared memory as the device has beside what the kernel takes statically.
    limit = _device_limits(device).shared_bytes - kernel.shared_size_bytes
    kernel.max_dynamic_shared_size_bytes = limit
    return kernel
