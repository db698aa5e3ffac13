"""What the NVIDIA driver and the installed packages say of GPUs, without CuPy and without using a GPU.

A page must know whether CUDA kernels can run here long before one does, in a process that must never hold a
CUDA context: contexts belong to worker processes. The driver answers these questions without making one.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from importlib import metadata
from typing import Any, NamedTuple

__all__ = ["Driver", "Gpu", "obstacle", "read_driver"]

_LIBRARY = "libcuda.so.1"
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # CUdevice_attribute
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE
_CUPY_MAJORS = (11, 12, 13, 14)
"""CUDA versions whose CuPy wheel is looked for: cupy-cuda12x and so on."""


class Gpu(NamedTuple):
    """A GPU that this process may use."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int


class Driver(NamedTuple):
    """The driver: newest CUDA that it runs (12040 is 12.4; 0 without a driver), its GPUs, what is wrong."""

    version: int
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


class _DriverError(Exception):
    """A call of the driver that failed; the message is the driver's."""


@functools.cache
def read_driver() -> Driver:
    """Ask the driver, once a process: it does not look again itself."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return Driver(0)
    return _ask(library)


def _ask(library: Any) -> Driver:
    version, count = ctypes.c_int(), ctypes.c_int()
    try:
        _check(library, library.cuDriverGetVersion(ctypes.byref(version)))
        status = library.cuInit(0)
        if status == _NO_DEVICE:
            return Driver(version.value)
        _check(library, status)
        _check(library, library.cuDeviceGetCount(ctypes.byref(count)))
        return Driver(version.value, tuple(_gpu(library, number) for number in range(count.value)))
    except _DriverError as error:
        return Driver(version.value, (), str(error))


def _gpu(library: Any, number: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(library, library.cuDeviceGet(ctypes.byref(device), number))
    _check(library, library.cuDeviceGetName(name, len(name), device))
    values = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS):
        value = ctypes.c_int()
        _check(library, library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
        values.append(value.value)
    major, minor, multiprocessors = values
    return Gpu(name.value.decode(errors="replace"), (major, minor), multiprocessors)


def _check(library: Any, status: int) -> None:
    if status:
        text = ctypes.c_char_p()
        library.cuGetErrorString(status, ctypes.byref(text))
        said = text.value.decode(errors="replace") if text.value else "unknown error"
        raise _DriverError(f"CUDA error {status}: {said}")


def obstacle(capability: tuple[int, int] | None = None, exact: bool = False) -> str | None:
    """Why CUDA kernels cannot run here, in one sentence, or None, as far as it shows without loading CuPy.

    Parameters
    ----------
    capability : tuple of int, optional
        Least compute capability that the kernel needs.
    exact : bool
        Whether it needs that very one.
    """
    driver = read_driver()
    if driver.problem:
        return f"The NVIDIA driver does not answer ({driver.problem})."
    if not driver.version:
        return "No NVIDIA driver was found; CUDA kernels need an NVIDIA GPU and its driver."
    if not driver.gpus:
        return "The NVIDIA driver shows no GPU to this process."
    gpu = driver.gpus[0]
    if capability is not None and (gpu.capability < capability or (exact and gpu.capability != capability)):
        found, least = (".".join(map(str, pair)) for pair in (gpu.capability, capability))
        return f"{gpu.name} has compute capability {found}; {least}{'' if exact else ' or newer'} is needed."
    return _cupy_obstacle(driver.version)


def _cupy_obstacle(driver_version: int) -> str | None:
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed; install it with `pip install -r requirements-gpu.txt`."
    majors = _cupy_majors()
    newest = driver_version // 1000
    if majors and min(majors) > newest:
        version = f"{newest}.{driver_version % 1000 // 10}"
        return (
            f"The NVIDIA driver supports CUDA {version} but CuPy was built for CUDA {min(majors)}; "
            f"update the driver or install cupy-cuda{newest}x."
        )
    return None


@functools.cache
def _cupy_majors() -> tuple[int, ...]:
    """CUDA versions of the installed CuPy wheels; none where CuPy was built from source."""
    found = []
    for major in _CUPY_MAJORS:
        try:
            metadata.version(f"cupy-cuda{major}x")
        except metadata.PackageNotFoundError:
            continue
        found.append(major)
    return tuple(found)
