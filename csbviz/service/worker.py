"""What runs in a Dask worker process, and in the nanny that watches it."""

from __future__ import annotations

import asyncio
import math
import pickle
import time
import traceback
from typing import Any

from ..errors import CSBVizError, JobCancelled
from .gpu_fault import gpu_fault
from .jobs import Paused, resolve, sentence_of

__all__ = ["ask_to_give_way", "end_worker_process", "run_job"]

_REPORT_INTERVAL = 0.05  # seconds between two reports with the same message
_PARTIAL_INTERVAL = 0.25  # seconds between two results on the way
_END_SECONDS = 10  # how long a killed process may take to go
_POLL_SECONDS = 0.02
_FAULT = "A CUDA kernel of this job failed ({}) and ended the job; the next one gets a new process."


_asked: dict[str, tuple[int, bool]] = {}  # run → number of the last request to give way, and what it says


def ask_to_give_way(run_id: str, number: int, wanted: bool) -> None:
    """Ask a run to pause, or take that back; requests may arrive in another order than they were made."""
    if number > _asked.get(run_id, (0, False))[0]:
        _asked[run_id] = number, wanted


class _Progress:
    """Sends what a job reports to whoever follows the topic, not more often than is of use."""

    def __init__(self, worker: Any, topic: str, run_id: str) -> None:
        self._worker, self._topic, self._run_id = worker, topic, run_id
        self._fraction, self._message, self._last = 0.0, "", -math.inf
        self._partial, self._partial_sent = None, -math.inf

    def __call__(self, fraction: float, message: str = "", partial: Any = None) -> None:
        if partial is not None:
            self._partial = partial  # one that comes too soon goes with a later report
        now = time.monotonic()
        self._fraction = fraction
        if message == self._message and fraction < 1 and now - self._last < _REPORT_INTERVAL:
            return
        self._message, self._last = message, now
        self._send(with_partial=fraction >= 1 or now - self._partial_sent >= _PARTIAL_INTERVAL)

    def wanted(self) -> bool:
        """Tell whether another job waits, so that this one should save what it has and pause."""
        return _asked.get(self._run_id, (0, False))[1]

    def paused(self, kwargs: dict[str, Any] | None = None) -> Paused:
        """Give what to return then: go on later, with new arguments or with those of this run."""
        return Paused(kwargs)

    def flush(self) -> None:
        """Send the last result on the way if it was kept back."""
        if self._partial is not None:
            self._send(with_partial=True)

    def _send(self, with_partial: bool) -> None:
        report = {"run": self._run_id, "fraction": float(self._fraction), "message": str(self._message)}
        if with_partial and self._partial is not None:
            report["partial"] = pickle.dumps(self._partial, protocol=pickle.HIGHEST_PROTOCOL)
            self._partial, self._partial_sent = None, time.monotonic()
        self._worker.log_event(self._topic, report)


def run_job(function: str, kwargs: bytes, run_id: str, topic: str) -> dict[str, Any]:
    """Run a job and answer with plain data, so that no exception or result has to travel through Dask.

    Parameters
    ----------
    function : str
        "module:callable".
    kwargs : bytes
        Its pickled arguments.
    run_id, topic : str
        Under which progress is reported and requests come.

    Returns
    -------
    dict
        "state": "done", "paused", "failed" or "cancelled"; "result": pickled, when done; "kwargs": pickled
        arguments to go on with, or None for the same, when paused; "error": a sentence otherwise;
        "worn_out": true when this process cannot serve another job, because the GPU is lost to it.
    """
    outcome = _outcome(function, kwargs, run_id, topic)
    _asked.pop(run_id, None)
    fault = gpu_fault()
    if fault and outcome["state"] == "done":  # a kernel that was still running when the function returned
        outcome = {"state": "failed", "error": _FAULT.format(fault)}
    return outcome | {"worn_out": fault is not None}


def _outcome(function: str, kwargs: bytes, run_id: str, topic: str) -> dict[str, Any]:
    from distributed import get_worker

    try:
        target = resolve(function)
        progress = _Progress(get_worker(), topic, run_id)
        result = target(**pickle.loads(kwargs), progress=progress)
        progress.flush()
    except JobCancelled as error:
        return {"state": "cancelled", "error": sentence_of(error)}
    except CSBVizError as error:
        return {"state": "failed", "error": sentence_of(error)}
    except BaseException as error:  # also SystemExit: a job must not end the worker
        traceback.print_exc()
        fault = gpu_fault()
        return {"state": "failed", "error": _FAULT.format(fault) if fault else sentence_of(error)}
    try:
        if isinstance(result, Paused):
            rest = None if result.kwargs is None else pickle.dumps(result.kwargs, pickle.HIGHEST_PROTOCOL)
            return {"state": "paused", "kwargs": rest}
        return {"state": "done", "result": pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)}
    except Exception as error:
        why = f"The job's result, a {type(result).__name__}, cannot be sent back ({sentence_of(error)})."
        return {"state": "failed", "error": why}


async def end_worker_process(dask_worker: Any) -> None:
    """End the worker process of the nanny in which this runs, and all that it started; wait until it is gone.

    Dask passes the nanny as `dask_worker`. A kernel in full run answers to nothing gentler; the nanny then
    starts a new process. A process that used a GPU takes a while to go, as the driver clears the GPU first.
    """
    import psutil

    pid = dask_worker.pid
    if pid is None:
        return  # it ended by itself
    try:
        worker = psutil.Process(pid)
        family = [*worker.children(recursive=True), worker]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    deadline = time.monotonic() + _END_SECONDS
    while worker.is_running() and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_SECONDS)  # the nanny goes on meanwhile, which buries the process
