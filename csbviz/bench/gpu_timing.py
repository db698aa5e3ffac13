"""Timing of CUDA kernels: replays of a CUDA graph, so that the time Python takes to launch stays out."""

from __future__ import annotations

import contextlib
import functools
import gc
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from csbviz.errors import OptionError

__all__ = ["SAMPLE_US", "clocks", "device_info", "release_memory", "time_cuda"]

SAMPLE_US = 200.0
"""Length of a warm sample: long against the 0.5 µs resolution of events and the start of a replay."""

_MAX_CALLS = 200
_SPACER_SAMPLES, _SPACER_CALLS, _SPACER_SECONDS = 15, 100, 2.0
_spacer_times: dict[int, tuple[float, float]] = {}
_WARM_SAMPLES = (11, 200)
_COLD_SAMPLES = (15, 100)
_COLD_CALLS = 6
"""Cold calls of a replay: enough for the resolution of the clock."""


def time_cuda(
    run: Callable, B, out, *, mode: str = "warm", min_time: float = 0.2, sample_us: float = SAMPLE_US
) -> np.ndarray:
    """Microseconds a call, one number a sample.

    Parameters
    ----------
    run : callable
        ``run(B, out)``; launches on CuPy's current stream and allocates nothing.
    B, out : cupy.ndarray
        Its operands.
    mode : str
        "warm": a sample is the mean over the calls of one graph replay, operands stay in the caches; an
        empty kernel between the calls keeps them from overlapping, and its time is taken off.
        "cold": before each call something larger than the L2 cache is read; a sample is the mean over the
        calls of one graph replay, less what the reading takes alone.
    min_time : float
        Seconds of device time to spend, within 11 to 200 samples (15 to 100 cold).
    sample_us : float
        Length of a warm sample in microseconds.

    Returns
    -------
    samples : numpy.ndarray of float64

    Raises
    ------
    OptionError
        If the mode is unknown.

    Notes
    -----
    A call that cannot be captured is timed by events around a loop of launches instead.
    """
    import cupy

    if mode not in ("warm", "cold"):
        raise OptionError(f"There is no mode {mode!r}; known are warm, cold.")
    # A stream of its own: the default stream cannot be captured.
    with cupy.cuda.Stream(non_blocking=True) as stream:
        cupy.cuda.Device().synchronize()
        for _ in range(3):
            run(B, out)
        stream.synchronize()
        samples = (
            _cold(run, B, out, stream, min_time)
            if mode == "cold"
            else _warm(run, B, out, stream, min_time, sample_us)
        )
        stream.synchronize()
    return samples


def _capture(run: Callable, B, out, stream, calls: int) -> Callable[[], None]:
    """A function that launches `calls` calls: a graph replay, or a loop where the call cannot be captured."""
    import cupy

    stream.begin_capture()
    try:
        for _ in range(calls):
            run(B, out)
    except RuntimeError:
        _abandon_capture(stream)
        return lambda: [run(B, out) for _ in range(calls)]
    try:
        graph = stream.end_capture()
    except cupy.cuda.runtime.CUDARuntimeError:
        return lambda: [run(B, out) for _ in range(calls)]
    graph.upload(stream)
    return lambda: graph.launch(stream)


def _abandon_capture(stream) -> None:
    import cupy

    # The failed call may already have ended the capture.
    with contextlib.suppress(cupy.cuda.runtime.CUDARuntimeError):
        stream.end_capture()


def _elapsed(launch: Callable[[], Any], stream) -> float:
    """Microseconds from before to after what `launch` puts on the stream."""
    import cupy

    start, stop = cupy.cuda.Event(), cupy.cuda.Event()
    start.record(stream)
    launch()
    stop.record(stream)
    stop.synchronize()
    return cupy.cuda.get_elapsed_time(start, stop) * 1e3


def _warm(run: Callable, B, out, stream, min_time: float, sample_us: float) -> np.ndarray:
    """Replays of (spacer, call) pairs, less what the spacers take alone.

    A call that may start before its predecessor has ended (programmatic dependent launch) would otherwise
    overlap with the call before it, which no program that needs its result could do. The spacer, a kernel
    that does nothing, stands for the other kernels of such a program; all contenders have it between them.
    """
    spacer = _spacer()

    def pair(B, out) -> None:
        spacer()
        run(B, out)

    probe = _capture(pair, B, out, stream, 8)
    probe()
    estimate = max(0.5, _elapsed(probe, stream) / 8)
    calls = int(min(_MAX_CALLS, max(1, round(sample_us / estimate))))
    replay = _capture(pair, B, out, stream, calls)
    replay()
    least, most = _WARM_SAMPLES
    count = int(min(most, max(least, min_time * 1e6 / (calls * estimate))))
    samples = np.array([_elapsed(replay, stream) for _ in range(count)]) / calls
    return np.maximum(samples - _spacer_us(stream), 0.0)


_SPACER_SOURCE = 'extern "C" __global__ void spacer() {}'


def _spacer() -> Callable[[], None]:
    """A launch of a kernel that does nothing."""
    kernel = _spacer_kernel()
    return lambda: kernel((1,), (32,), ())


def _spacer_us(stream) -> float:
    """What a spacer takes among others of its kind; measured anew after some seconds, as clocks change."""
    import cupy

    device = cupy.cuda.runtime.getDevice()
    measured, when = _spacer_times.get(device, (0.0, -np.inf))
    if time.monotonic() - when > _SPACER_SECONDS:
        spacer = _spacer()
        replay = _capture(lambda B, out: spacer(), None, None, stream, _SPACER_CALLS)
        replay()
        measured = (
            float(np.median([_elapsed(replay, stream) for _ in range(_SPACER_SAMPLES)])) / _SPACER_CALLS
        )
        _spacer_times[device] = measured, time.monotonic()
    return measured


@functools.cache
def _spacer_kernel():
    import cupy

    return cupy.RawKernel(_SPACER_SOURCE, "spacer")


def _cold(run: Callable, B, out, stream, min_time: float) -> np.ndarray:
    """Replays of (sweep, call) pairs, less what the sweeps take alone."""
    sweep = _sweep()

    def pair(B, out) -> None:
        sweep()
        run(B, out)

    both = _capture(pair, B, out, stream, _COLD_CALLS)
    alone = _capture(lambda B, out: sweep(), B, out, stream, _COLD_CALLS)
    for _ in range(2):
        both()
        alone()
    estimate = _elapsed(both, stream) + _elapsed(alone, stream)
    least, most = _COLD_SAMPLES
    count = int(min(most, max(least, min_time * 1e6 / estimate)))
    samples = np.array([(_elapsed(both, stream), _elapsed(alone, stream)) for _ in range(count)])
    # The sweep is as long in every replay: its median has less noise than the one beside the sample.
    return np.maximum(samples[:, 0] - np.median(samples[:, 1]), 0.0) / _COLD_CALLS


_SWEEP_SOURCE = """
extern "C" __global__ void __launch_bounds__(1024) sweep(const float4* data, long long count, float* never) {
    float sum = 0;
    for (long long i = blockIdx.x * 1024ll + threadIdx.x; i < count; i += gridDim.x * 1024ll) {
        const float4 x = data[i];
        sum += x.x + x.y + x.z + x.w;
    }
    if (sum < 0) *never = sum;  // the data are zeros: nothing is written, so no line has to be written back
}
"""


def _sweep() -> Callable[[], None]:
    """A launch that reads four times what the L2 cache holds, whose replacement is not strictly by age."""
    import cupy

    device = cupy.cuda.runtime.getDevice()
    kernel, data, count = _sweep_parts(device)
    ctas = 2 * cupy.cuda.runtime.getDeviceProperties(device)["multiProcessorCount"]
    return lambda: kernel((ctas,), (1024,), (data, np.int64(count), data))


@functools.cache
def _sweep_parts(device: int) -> tuple:
    import cupy

    count = 4 * l2_bytes() // 16
    return cupy.RawKernel(_SWEEP_SOURCE, "sweep"), cupy.zeros(4 * count, cupy.float32), count


def l2_bytes() -> int:
    """Size of the current device's L2 cache."""
    import cupy

    device = cupy.cuda.runtime.getDevice()
    return int(cupy.cuda.runtime.getDeviceProperties(device)["l2CacheSize"])


@functools.cache
def _static_info(device: int) -> dict[str, Any]:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(device)
    info = {
        "name": properties["name"].decode(),
        "capability": [properties["major"], properties["minor"]],
        "multiprocessors": properties["multiProcessorCount"],
        "l2_bytes": properties["l2CacheSize"],
        "memory_bytes": properties["totalGlobalMem"],
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
    }
    reading = _nvidia_smi("driver_version")
    return info | ({"driver": reading[0]} if reading else {})


def device_info() -> dict[str, Any]:
    """What a timing depends on, JSON-safe: name, capability, multiprocessors, L2, memory, versions, clocks.

    Clocks (MHz, at the moment of the call) and the driver's version are missing where nvidia-smi is.
    """
    import cupy

    return _static_info(cupy.cuda.runtime.getDevice()) | {"clocks": clocks()}


def clocks() -> dict[str, float]:
    """Clocks of multiprocessors and memory in MHz at this moment, and the highest; empty where unreadable."""
    names = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
    reading = _nvidia_smi(",".join(names))
    try:
        return {name: float(value) for name, value in zip(names, reading, strict=True)} if reading else {}
    except ValueError:  # "[N/A]" on devices that do not tell
        return {}


def release_memory() -> None:
    """Give the memory that CuPy keeps for later back to others, if this process has loaded CuPy."""
    cupy = sys.modules.get("cupy")
    if cupy is not None:
        _sweep_parts.cache_clear()
        gc.collect()  # matrices and what was made ready for them refer to each other
        cupy.get_default_memory_pool().free_all_blocks()
        cupy.get_default_pinned_memory_pool().free_all_blocks()


def _nvidia_smi(query: str) -> list[str] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    import cupy

    bus = cupy.cuda.runtime.deviceGetPCIBusId(cupy.cuda.runtime.getDevice())
    command = [program, f"--query-gpu={query}", "--format=csv,noheader,nounits", f"--id={bus}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [value.strip() for value in answer.stdout.strip().split(",")]
