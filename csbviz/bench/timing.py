"""Timing of CPU kernels, warm and cold, with every contender on the same number of threads."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from csbviz.ops.threads import use_threads

__all__ = ["MODES", "last_cache_bytes", "time_cpu"]

MODES = ("warm", "cold")
"""warm: operands stay in the caches between runs. cold: the caches are emptied before each run."""

_MAX_SAMPLES = 200
_COLD_SAMPLES = (15, 100)


@functools.cache
def last_cache_bytes() -> int:
    """Size of the processor's last cache; 64 MiB where the system does not tell."""
    best = 0
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 0)
        if unit and text[:-1].isdigit():
            best = max(best, int(text[:-1]) * unit)
    return best or 64 << 20


def time_cpu(
    run: Callable, B: np.ndarray, out: np.ndarray, *, mode: str, threads: int, min_time: float
) -> np.ndarray:
    """Microseconds a call, one number a sample.

    Parameters
    ----------
    run : callable
        ``run(B, out)``.
    mode : str
        One of `MODES`. A warm sample is the mean of a block of calls long enough for the clock; a cold
        sample is one call.
    threads : int
        Threads that PyTorch and Numba get.
    min_time : float
        Seconds of warm timing; cold timing takes as many samples as fit, within 15 to 100.

    Returns
    -------
    samples : numpy.ndarray of float64
    """
    with use_threads(threads):
        run(B, out)
        if mode == "warm":
            return _warm(run, B, out, threads, min_time)
        return _cold(run, B, out, min_time)


def _warm(run, B, out, threads: int, min_time: float) -> np.ndarray:
    from torch.utils.benchmark import Timer

    timer = Timer("run(B, out)", globals={"run": run, "B": B, "out": out}, num_threads=threads)
    times = np.asarray(timer.blocked_autorange(min_run_time=min_time).times) * 1e6
    if len(times) > _MAX_SAMPLES:
        times = times[np.linspace(0, len(times) - 1, _MAX_SAMPLES).astype(int)]
    return times


def _cold(run, B, out, min_time: float) -> np.ndarray:
    # Writing twice the last cache evicts the operands whatever the replacement policy does.
    sweeper = np.zeros(min(2 * last_cache_bytes(), 1 << 30), dtype=np.uint8)
    samples = []
    deadline = time.perf_counter() + max(min_time, 0.05) * 5
    least, most = _COLD_SAMPLES
    while len(samples) < least or (len(samples) < most and time.perf_counter() < deadline):
        sweeper += 1
        start = time.perf_counter_ns()
        run(B, out)
        samples.append((time.perf_counter_ns() - start) / 1e3)
    return np.asarray(samples)
