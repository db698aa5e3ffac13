"""Which programs made a result."""

from __future__ import annotations

import platform

import numpy as np

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Give the versions of Python, PyTorch and NumPy, and the processor's kind."""
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
