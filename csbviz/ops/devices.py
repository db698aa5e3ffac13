"""What this machine has: processors, GPUs, and the versions that a timing depends on."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

from csbviz.ops.cuda.driver import read_driver
from csbviz.ops.cuda.module import missing_reason
from csbviz.ops.threads import cpu_count

__all__ = ["cpu_name", "device_name", "gpu_fault", "gpu_state", "versions"]

_PACKAGES = ("numpy", "scipy", "torch", "numba", "cupy-cuda12x", "cupy-cuda13x")


@functools.cache
def cpu_name() -> str:
    """Model name of the processor, with the number of processors that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    name = line.split(":", 1)[1].strip()
                    break
    except OSError:
        pass  # not Linux: the platform's own name has to do
    return f"{name} ({cpu_count()} cores)"


def gpu_state() -> tuple[str | None, str]:
    """Name of the first CUDA device, or None, and one sentence on why CUDA kernels cannot run here.

    Never raises: a broken driver is a reason like any other.
    """
    reason = missing_reason()
    return (None, reason) if reason else (read_driver().gpus[0].name, "")


def gpu_fault() -> str | None:
    """What ended this process's use of the GPU, such as an illegal address, or None while it can be used.

    A CUDA context that has met such a fault answers every later call with it.
    """
    import cupy

    try:
        cupy.cuda.runtime.deviceSynchronize()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return str(error)
    return None


def device_name(device: str) -> str:
    """Name of the device that kernels for `device` ("cpu" or "cuda") run on."""
    if device == "cpu":
        return cpu_name()
    name, reason = gpu_state()
    return name or f"no CUDA device ({reason})"


@functools.cache
def versions() -> dict[str, str]:
    """Versions of csbviz, Python and the packages whose kernels are timed."""
    from csbviz import __version__

    found = {"csbviz": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
