"""See one run of a job through, from its start at a worker to whatever end it takes."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from typing import Any

from .entry import Entry

__all__ = ["LOST", "attend"]

CHECK_SECONDS = 2.0  # how often a running job's worker is looked for
SAVE_SECONDS = 5.0  # how long a cancelled background job may take to save what it has
LOST = "The worker process ended while the job ran (out of memory, a crash, or killed from outside)."


def attend(job: Entry, cluster: Any, place: Any, closed: Callable[[], bool]) -> dict[str, Any]:
    """Run a job at a place and pass on the requests to give way or to stop.

    Parameters
    ----------
    job : Entry
    cluster : Cluster
    place : Place
    closed : callable
        Whether the service is being closed, when nothing may take time any more.

    Returns
    -------
    dict
        As `worker.run_job` returns it, the result unpickled; "lost" is true when the worker process ended.
    """
    future = cluster.submit(job.function, job.kwargs, job.run_id, job.device, place)
    future.add_done_callback(lambda _: job.wake.set())
    try:
        if not _until_done(future, job, cluster, place, closed):
            return {"state": "cancelled"}
        if future.status != "finished":
            return {"state": "failed", "error": LOST, "lost": True}
        outcome = future.result()
    finally:
        future.release()
    if outcome["state"] == "done":
        outcome["result"] = pickle.loads(outcome["result"])
    return outcome


def _until_done(future: Any, job: Entry, cluster: Any, place: Any, closed: Callable[[], bool]) -> bool:
    """Wait until the future is done or its worker is gone; False when a cancel ended the worker instead."""
    told, kill_at = False, None
    while not future.done():
        job.wake.wait(CHECK_SECONDS if kill_at is None else max(0.0, kill_at - time.monotonic()))
        job.wake.clear()
        if future.done():
            break
        if job.cancelling:
            now = time.monotonic()
            if kill_at is None and job.background:
                kill_at = now + SAVE_SECONDS
            if kill_at is None or now >= kill_at or closed():
                cluster.end_worker(place)
                return False
        if told != (job.wanted or job.cancelling):
            told = not told
            cluster.tell(place, job.run_id, told)
        if not cluster.alive() or (not cluster.has(place) and not future.done()):
            break
    return True
