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
from .jobs import resolve, sentence_of

__all__ = ["end_worker_process", "run_job"]

_REPORT_INTERVAL = 0.05  # seconds between two reports with the same message
_END_SECONDS = 10  # how long a killed process may take to go
_POLL_SECONDS = 0.02
_FAULT = "A CUDA kernel of this job failed ({}) and ended the job; the next one gets a new process."


class _Progress:
    """Sends ``progress(fraction, message)`` to whoever follows the topic, not more often than is of use."""

    def __init__(self, worker: Any, topic: str, job_id: str) -> None:
        self._worker, self._topic, self._job_id = worker, topic, job_id
        self._message, self._last = "", -math.inf

    def __call__(self, fraction: float, message: str = "") -> None:
        now = time.monotonic()
        if message == self._message and fraction < 1 and now - self._last < _REPORT_INTERVAL:
            return
        self._message, self._last = message, now
        report = {"job": self._job_id, "fraction": float(fraction), "message": str(message)}
        self._worker.log_event(self._topic, report)


def run_job(function: str, kwargs: bytes, job_id: str, topic: str) -> dict[str, Any]:
    """Run a job and answer with plain data, so that no exception or result has to travel through Dask.

    Parameters
    ----------
    function : str
        "module:callable".
    kwargs : bytes
        Its pickled arguments.
    job_id, topic : str
        Under which progress is reported.

    Returns
    -------
    dict
        "state": "done", "failed" or "cancelled"; "result": pickled, when done; "error": a sentence otherwise;
        "worn_out": true when this process cannot serve another job, because the GPU is lost to it.
    """
    outcome = _outcome(function, kwargs, job_id, topic)
    fault = gpu_fault()
    if fault and outcome["state"] == "done":  # a kernel that was still running when the function returned
        outcome = {"state": "failed", "error": _FAULT.format(fault)}
    return outcome | {"worn_out": fault is not None}


def _outcome(function: str, kwargs: bytes, job_id: str, topic: str) -> dict[str, Any]:
    from distributed import get_worker

    try:
        target = resolve(function)
        result = target(**pickle.loads(kwargs), progress=_Progress(get_worker(), topic, job_id))
    except JobCancelled as error:
        return {"state": "cancelled", "error": sentence_of(error)}
    except CSBVizError as error:
        return {"state": "failed", "error": sentence_of(error)}
    except BaseException as error:  # also SystemExit: a job must not end the worker
        traceback.print_exc()
        fault = gpu_fault()
        return {"state": "failed", "error": _FAULT.format(fault) if fault else sentence_of(error)}
    try:
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
