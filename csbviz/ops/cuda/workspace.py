"""Memory that a launch writes besides its result: partial sums and counters, once for each stream.

Two calls on one stream follow each other and may use the same workspace; calls on two streams may run at the
same time and must not. A graph remembers the addresses that were there when it was captured, and may be
replayed on any stream later: each capture gets a workspace of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["PerStream", "new_array"]

_PER_THREAD_STREAM = 2  # CU_STREAM_PER_THREAD: one handle, a stream for each thread
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


@functools.cache
def _library():
    library = ctypes.CDLL("libcuda.so.1")
    library.cuStreamGetCaptureInfo.argtypes = (ctypes.c_void_p,) * 3
    return library


def _capture_id(stream: int) -> int:
    """Number of the capture that is under way on a stream, unique in the process; 0 when there is none."""
    if stream == 0:  # the legacy default stream cannot be captured
        return 0
    status, number = ctypes.c_int(0), ctypes.c_uint64(0)
    _library().cuStreamGetCaptureInfo(stream, ctypes.addressof(status), ctypes.addressof(number))
    return number.value if status.value else 0


@contextlib.contextmanager
def _allocations_allowed() -> Iterator[None]:
    """Let this thread allocate while a stream is being captured."""
    mode = ctypes.c_int(_RELAXED)
    exchange = _library().cuThreadExchangeStreamCaptureMode
    exchange(ctypes.byref(mode))
    try:
        yield
    finally:
        exchange(ctypes.byref(mode))


def new_array(size: int, dtype: str, zeroed: bool = False):
    """A CuPy array that is ready for every stream, also while a stream is being captured.

    Parameters
    ----------
    size : int
    dtype : str
    zeroed : bool
        Whether all elements are 0; otherwise they are undefined.
    """
    import cupy

    with _allocations_allowed(), cupy.cuda.Stream(non_blocking=True) as side:
        array = (cupy.zeros if zeroed else cupy.empty)(size, dtype)
        side.synchronize()
    return array


class PerStream:
    """What each stream, and each capture of a graph, has for itself: a workspace, and launches that use it.

    Parameters
    ----------
    first : object
        Made beforehand for the first stream to come, so that it waits for nothing.

    Notes
    -----
    All are kept as long as this object: a graph may be replayed at any time.
    """

    def __init__(self, first: Any):
        self._kept, self._spare, self._lock = {}, [first], threading.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._kept) + len(self._spare)

    def get(self, stream: int, make: Callable[[], Any]) -> Any:
        """The one for a stream, by its handle; `make` makes it when the stream has none yet."""
        key = (stream, _capture_id(stream))
        if stream == _PER_THREAD_STREAM:
            key += (threading.get_ident(),)
        found = self._kept.get(key)
        if found is None:
            with self._lock:
                found = self._kept[key] = self._spare.pop() if self._spare else make()
        return found
