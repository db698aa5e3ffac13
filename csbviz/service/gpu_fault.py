"""Whether a GPU fault has made a process useless for CUDA.

A kernel that touches memory that is not its own, or that traps, ends the CUDA context of its process: every
later CUDA call of the process fails with the same error, also after Python has caught the first one.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["gpu_fault"]

_LIBRARY = "libcuda.so.1"


def gpu_fault() -> str | None:
    """Wait for the GPU work of this thread's context; return the driver's words for a fault, or None.

    It asks the driver itself, so it does not matter who used the GPU, and it loads nothing: in a process that
    has not used a GPU the answer is None.
    """
    try:
        library = ctypes.CDLL(_LIBRARY, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except (OSError, AttributeError):  # not loaded, or a system without such a mode
        return None
    context = ctypes.c_void_p()
    if library.cuCtxGetCurrent(ctypes.byref(context)) or not context.value:
        return None
    status = library.cuCtxSynchronize()
    if not status:
        return None
    text = ctypes.c_char_p()
    library.cuGetErrorString(status, ctypes.byref(text))
    return text.value.decode(errors="replace") if text.value else f"CUDA error {status}"
