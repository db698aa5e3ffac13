"""What this machine has: processors, GPUs, and the versions that a timing depends on."""

from __future__ import annotations

import functools
import platform
from importlib import metadata

from csbviz.ops.threads import cpu_count

__all__ = ["cpu_name", "device_name", "gpu_state", "versions"]

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
    """Name of the first CUDA device, or None, and one sentence on why there is none.

    Never raises: a broken driver is a reason like any other.
    """
    try:
        import cupy
    except ImportError:
        return None, "CuPy is not installed (pip install -r requirements-gpu.txt)."
    except Exception as error:  # a CuPy that cannot find its libraries fails in many ways at import
        return None, f"CuPy cannot be imported: {error}"
    try:
        if cupy.cuda.runtime.getDeviceCount() == 0:
            return None, "No CUDA device is visible to this process."
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        return properties["name"].decode(), ""
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return None, f"The CUDA driver does not answer: {error}"


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
