"""The CUDA sources: where they lie, which instantiations exist, and the compiled kernels of a device.

Nothing here needs CuPy or a GPU until `get_kernel` is called, so the sources can be compiled by NVRTC alone.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from csbviz.errors import UnavailableError
from csbviz.ops.cuda.compiler import COMPILE_OPTIONS, architecture, compile_source
from csbviz.ops.cuda.driver import obstacle

__all__ = [
    "COMPILE_OPTIONS",
    "SOURCES",
    "CompiledKernel",
    "DeviceLimits",
    "Function",
    "Source",
    "current_device",
    "get_kernel",
    "instantiations",
    "missing_reason",
    "read_source",
]


class Source(NamedTuple):
    """A file of kernels/cuda.

    Attributes
    ----------
    launcher : str
        Module whose ``instantiations()`` lists every instantiation that it can ask for.
    capability : tuple of int
        Least compute capability that the file compiles for.
    exact : bool
        Whether it runs on that very capability only (``sm_90a``).
    """

    launcher: str
    capability: tuple[int, int] = (7, 5)
    exact: bool = False

    def fits(self, capability: tuple[int, int]) -> bool:
        """Whether a device of that compute capability can run it."""
        return capability == self.capability if self.exact else capability >= self.capability


SOURCES = {
    "csb_spmm.cu": Source("csbviz.ops.cuda.rows_launch"),
    "csb_spmm_rows.cu": Source("csbviz.ops.cuda.panel_launch"),
    "csb_spmm_pieces.cu": Source("csbviz.ops.cuda.panel_launch"),
    "csb_spmm_mma.cu": Source("csbviz.ops.cuda.mma_launch"),
    "csb_sddmm.cu": Source("csbviz.ops.cuda.sddmm"),
    "csb_sddmm_mma.cu": Source("csbviz.ops.cuda.sddmm_tiles", (8, 0)),
    "csb_sddmm_wgmma.cu": Source("csbviz.ops.cuda.sddmm_tiles", (9, 0), exact=True),
    "csb_transpose.cu": Source("csbviz.ops.cuda.transpose"),
    "csb_convert.cu": Source("csbviz.ops.cuda.convert"),
    "csb_spmv.cu": Source("csbviz.ops.cuda.spmv"),
    "csb_spmm_wgmma.cu": Source("csbviz.ops.cuda.wgmma_plan", (9, 0), exact=True),
    "csb_spmm_few.cu": Source("csbviz.ops.cuda.few_plan", (9, 0), exact=True),
}
"""The files of kernels/cuda. A file may include others of the folder by ``#include "name"``."""

_CTYPES = {
    "float32": "float",
    "float64": "double",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "int32": "int",
    "int64": "long long",
    True: "true",
    False: "false",
}


class Function(NamedTuple):
    """A kernel of a source file, with the template arguments that name one instantiation."""

    source: str
    name: str
    arguments: tuple = ()

    @property
    def expression(self) -> str:
        """The C++ name, e.g. ``csb_add_partials<float>``; dtypes are given by their NumPy names."""
        if not self.arguments:
            return self.name
        # True == 1 in a dictionary: look booleans up by type.
        names = (
            _CTYPES[a] if isinstance(a, bool) else _CTYPES.get(a, a) if isinstance(a, str) else a
            for a in self.arguments
        )
        return f"{self.name}<{', '.join(map(str, names))}>"


def instantiations() -> tuple[Function, ...]:
    """Every instantiation that a launcher can ask for."""
    launchers = dict.fromkeys(source.launcher for source in SOURCES.values())
    return tuple(f for launcher in launchers for f in importlib.import_module(launcher).instantiations())


@functools.cache
def read_source(name: str) -> str:
    """The text of a file of kernels/cuda, with the files that it includes put in their places.

    Raises
    ------
    UnavailableError
        If the file was not installed.
    """
    package = Path(__file__).parents[2]
    for folder in (package / "_kernels" / "cuda", package.parent / "kernels" / "cuda"):
        path = folder / name
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            return "".join(map(_with_included, lines))
    raise UnavailableError(f"The CUDA source {name} is missing from this installation of csbviz.")


def _with_included(line: str) -> str:
    if not line.startswith('#include "'):
        return line
    return read_source(line.split('"')[1])


@functools.cache
def missing_reason(capability: tuple[int, int] | None = None, source: str | None = None) -> str | None:
    """Why CUDA kernels cannot run in this process, in one sentence, or None; it loads CuPy to find out.

    Parameters
    ----------
    capability : tuple of int, optional
        Least compute capability that the kernel needs.
    source : str, optional
        A key of `SOURCES`; what it needs is asked for too.
    """
    needed = SOURCES[source] if source else None
    reason = obstacle(
        capability or (needed.capability if needed else None), needed is not None and needed.exact
    )
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
    capability: tuple[int, int] = (7, 5)
    l2_bytes: int = 0
    shared_per_multiprocessor: int = 65536
    threads_per_multiprocessor: int = 1024
    name: str = ""


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
        (properties["major"], properties["minor"]),
        properties["l2CacheSize"],
        properties["sharedMemPerMultiprocessor"],
        properties["maxThreadsPerMultiProcessor"],
        properties["name"].decode(),
    )


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel loaded on one device.

    Attributes
    ----------
    pointer : int
        The driver's CUfunction.
    registers, local_bytes, static_shared : int
        Of a thread, of a thread (spills), of a CTA.
    max_dynamic_shared : int
        Dynamic shared memory that a launch may ask for, in bytes.
    """

    pointer: int
    registers: int
    local_bytes: int
    static_shared: int
    max_dynamic_shared: int
    _function: Any = field(repr=False)  # keeps the module loaded

    def __call__(self, grid: tuple, block: tuple, arguments: tuple, shared_mem: int = 0) -> None:
        """Launch on CuPy's current stream, arguments as for `cupy.RawKernel`."""
        self._function(grid, block, arguments, shared_mem)


def get_kernel(function: Function, target: str | None = None) -> CompiledKernel:
    """The compiled kernel for the current device; compiled at the first call.

    Parameters
    ----------
    function : Function
        The instantiation.
    target : str, optional
        An architecture other than the device's own: ``compute_75`` runs what a Turing GPU would run.

    Raises
    ------
    UnavailableError
        If the device cannot run the source, or it does not compile.
    """
    return _loaded(function, current_device().id, target)


@functools.cache
def _loaded(function: Function, device: int, target: str | None) -> CompiledKernel:
    from cupy.cuda.function import Module
    from cupy_backends.cuda.libs import nvrtc

    source, limits = SOURCES[function.source], _device_limits(device)
    if not source.fits(limits.capability):
        needed = ".".join(map(str, source.capability))
        found = ".".join(map(str, limits.capability))
        only = "" if source.exact else " or newer"
        raise UnavailableError(
            f"{function.source} needs compute capability {needed}{only}; this GPU has {found}."
        )
    if target is None:
        target = architecture(limits.capability, max(nvrtc.getSupportedArchs()), source.exact)
    binary = compile_source(function.source, read_source(function.source), function.expression, target)
    module = Module()
    module.load(binary.code)
    return _inspect(module.get_function(binary.name), limits)


def _inspect(function, limits: DeviceLimits) -> CompiledKernel:
    """Read the kernel's resources and allow all the dynamic shared memory that the device has left."""
    library = ctypes.CDLL("libcuda.so.1")
    pointer = ctypes.c_void_p(function.ptr)

    def read(attribute: int) -> int:
        value = ctypes.c_int()
        status = library.cuFuncGetAttribute(ctypes.byref(value), attribute, pointer)
        if status:
            raise UnavailableError(f"The driver does not describe a kernel (CUDA error {status}).")
        return value.value

    static, local, registers = read(1), read(3), read(4)  # CUfunction_attribute
    dynamic = limits.shared_bytes - static
    status = library.cuFuncSetAttribute(pointer, 8, dynamic)  # MAX_DYNAMIC_SHARED_SIZE_BYTES
    if status:
        raise UnavailableError(
            f"The driver grants no {dynamic} bytes of shared memory (CUDA error {status})."
        )
    return CompiledKernel(function.ptr, registers, local, static, dynamic, function)
