"""Timing of PyTorch's forward and backward passes on a GPU: replays of a CUDA graph that PyTorch captured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

__all__ = ["GraphTimer"]

_SAMPLE_US = 300.0
_MAX_CALLS = 100
_SPACER_CALLS, _SPACER_SAMPLES = 100, 5
_LEAST_SAMPLES, _MOST_SAMPLES = 5, 100


class GraphTimer:
    """Microseconds a call of what was captured.

    Parameters
    ----------
    make : callable
        Makes the call, ``make() -> run``. It is called on the stream that the capture is made on, so that a
        forward pass that belongs to a timed backward pass runs there: autograd works on the stream of the
        forward pass.

    Notes
    -----
    Some kernels may start before the kernel ahead of them has ended. Between two calls that would be an
    overlap that no program that needs the result could have: a launch that fills one number stands between
    them, and its time is taken off, as in `csbviz.bench.gpu_timing`.
    """

    def __init__(self, make: Callable[[], Callable[[], object]]):
        self._stream = torch.cuda.Stream()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._run, self._number = make(), torch.zeros(1, device="cuda")
            for _ in range(3):  # plans, compiles and fills the allocator's pools
                self._call()
            self._stream.synchronize()
            spacers = self._capture(_SPACER_CALLS, self._space)
            self._elapsed(spacers)
            times = [self._elapsed(spacers) for _ in range(_SPACER_SAMPLES)]
            self._spacer = float(np.median(times)) / _SPACER_CALLS
            probe = self._capture(5, self._call)
            estimate = max(0.5, min(self._elapsed(probe) for _ in range(3)) / 5)
            self._calls = int(min(_MAX_CALLS, max(1, round(_SAMPLE_US / estimate))))
            self._estimate = estimate
            self._graph = self._capture(self._calls, self._call)
            self._elapsed(self._graph)

    def _space(self) -> None:
        self._number.fill_(0.0)

    def _call(self) -> None:
        self._space()
        self._run()

    def _capture(self, calls: int, call: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # Relaxed: a kernel may make itself a workspace for the graph meanwhile, on the thread of autograd.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="relaxed"):
            for _ in range(calls):
                call()
        return graph

    def _elapsed(self, graph: torch.cuda.CUDAGraph) -> float:
        """Microseconds of one replay."""
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record(self._stream)
        graph.replay()
        stop.record(self._stream)
        stop.synchronize()
        return start.elapsed_time(stop) * 1e3

    def __call__(self, seconds: float) -> np.ndarray:
        """Samples of the mean over one replay, for so many seconds of device time."""
        count = int(seconds * 1e6 / (self._calls * self._estimate))
        count = min(_MOST_SAMPLES, max(_LEAST_SAMPLES, count))
        with torch.cuda.stream(self._stream):
            samples = np.array([self._elapsed(self._graph) / self._calls for _ in range(count)])
        return np.maximum(samples - self._spacer, 0.0)
