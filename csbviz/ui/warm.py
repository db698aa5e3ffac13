"""Load the heavy libraries once, in the background, while the user reads the first page."""

from __future__ import annotations

import importlib
import threading
import time

__all__ = ["start", "start_worker"]

_MODULES = (
    "plotly.graph_objects",
    "scipy.sparse",
    "csbviz.formats",
    "csbviz.balance",
    "csbviz.ops.registry",
    "csbviz.service",
)
_FIRST_DRAW_SECONDS = 1.0
_started = threading.Lock()
_workers: set[str] = set()
_workers_lock = threading.Lock()


def start() -> None:
    """Begin loading, if nobody in this process has yet; returns at once."""
    if _started.acquire(blocking=False):
        threading.Thread(target=_load, name="csbviz-warm", daemon=True).start()


def start_worker(device: str) -> None:
    """Start the worker process of a device in the background, so that the first run need not wait for it."""
    with _workers_lock:
        if device in _workers:
            return
        _workers.add(device)
    from csbviz.service import get_service

    get_service().warm_up(device)


def _load() -> None:
    time.sleep(_FIRST_DRAW_SECONDS)  # the page that is being drawn needs the interpreter more
    for module in _MODULES:
        importlib.import_module(module)
    _convert_once()
    _ask_driver_once()
    _prune_once()


def _ask_driver_once() -> None:
    """Where there is a GPU, the driver's first answer takes most of a second."""
    from csbviz.ops.cuda.driver import read_driver

    read_driver()


def _prune_once() -> None:
    """Have the loops that rank weights, groups and blocks read from their cache."""
    from numpy import ones

    from csbviz.pruning import prune_array

    for granularity in ("weight", "nm", "block"):
        prune_array(ones((8, 8), dtype="float32"), granularity=granularity)


def _convert_once() -> None:
    """Have the loops of conversion and pictures compiled, or read from their cache, beforehand."""
    from numpy import eye

    from csbviz.formats import CSBMatrix
    from csbviz.formats.cells import count_cells
    from csbviz.formats.convert import dense_to_csr

    weights = eye(8, dtype="float32")
    weights.flags.writeable = False  # as those of a layer are: Numba compiles for it
    small = dense_to_csr(weights)
    CSBMatrix.from_scipy(small, block_shape=(4, 4)).block_nnz()
    count_cells(small, (0, 8), (0, 8), (1, 1))
