"""Jobs that the service's tests run in the worker process."""

from __future__ import annotations

import os
import signal
import time

from csbviz.errors import JobError, MatrixError

ROWS = 3


def add(a, b, progress):
    progress(0.5, "Adding")
    return a + b


def environment(progress):
    """What the job's process looks like."""
    import sys

    import dask

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "pid": os.getpid(),
        "variables": {name: os.environ.get(name) for name in names},
        "imported": sorted(
            name for name in ("numba", "torch", "onnx", "plotly", "streamlit") if name in sys.modules
        ),
        "main": getattr(sys.modules["__main__"], "__file__", None),
        "profiled": dask.config.get("distributed.worker.profile.enabled", None),
    }


def wait_for_file(path, progress):
    """Run until the file exists; say the process id as message."""
    progress(0.25, f"pid {os.getpid()}")
    while not os.path.exists(path):
        time.sleep(0.01)
    return "found"


def spin(path, progress):
    """Append to a file for ever, as a kernel would run, deaf to everything."""
    progress(0.1, f"pid {os.getpid()}")
    while True:
        with open(path, "a") as file:
            file.write(".")
        time.sleep(0.01)


def append(path, text, progress):
    with open(path, "a") as file:
        file.write(text)
    return os.getpid()


def refuse(progress):
    raise MatrixError("the matrix has 3 rows; it needs 4")


def divide(progress):
    return 1 / 0


def leave(progress):
    raise SystemExit(3)


def die(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def lose_the_gpu(kind, progress):
    """End as a job does whose kernel took the GPU along: with an exception, a sentence, or unnoticed."""
    from csbviz.service import worker

    worker.gpu_fault = lambda: "an illegal memory access was encountered"
    if kind == "exception":
        raise RuntimeError("cudaErrorIllegalAddress")
    if kind == "sentence":
        raise JobError("the kernel failed")
    return os.getpid()


def not_picklable(progress):
    return lambda: None


def many_reports(count, progress):
    for i in range(count):
        progress(i / count, "Counting")
    progress(1.0, "Counted")
    return count


def numba_parallel(progress):
    import numba
    import numpy as np

    @numba.njit(parallel=True)
    def fill(out):
        for i in numba.prange(out.size):
            out[i] = i
        return out

    return float(fill(np.empty(1000)).sum())


def count_up(path, until, progress, begin=0, gate=None, refuse_to_pause=False):
    """Write a number a line from `begin` up to `until`, one each hundredth of a second; pause when asked.

    It stops before the last number until the file `gate` is there.
    """
    numbers = list(range(begin))
    for number in range(begin, until):
        while number == until - 1 and gate and not os.path.exists(gate) and not progress.wanted():
            time.sleep(0.01)
        if progress.wanted() and not refuse_to_pause:
            progress(number / until, "Saved", partial=numbers)
            return progress.paused({"path": path, "until": until, "begin": number, "gate": gate})
        append(path, f"{number}\n", progress)
        numbers.append(number)
        progress(number / until, f"Number {number}", partial=numbers)
        time.sleep(0.01)
    return numbers


def die_once(path, progress):
    """End the process the first time, and say afterwards what was written before."""
    if not os.path.exists(path):
        progress(0.5, "Saved", partial="saved")
        append(path, str(os.getpid()), progress)
        time.sleep(0.3)  # the report is on its way
        os.kill(os.getpid(), signal.SIGKILL)
    with open(path) as file:
        return int(file.read())
