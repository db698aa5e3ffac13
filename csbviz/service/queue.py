"""The queue in front of the cluster: jobs in turn, their progress, their cancellation."""

from __future__ import annotations

import atexit
import bisect
import contextlib
import os
import threading
import time
from collections import OrderedDict
from typing import Any

from ..errors import JobError
from .attend import CHECK_SECONDS, attend
from .entry import Entry
from .jobs import JobSpec, JobStatus, sentence_of

__all__ = ["MeasurementService", "get_service"]

_WORKER_SECONDS = 90  # how long a job waits for a worker of its device to come up
_CLOSE_SECONDS = 30  # how long a close waits for what runs to stop
_DEVICE_SECONDS = 0.1  # how often a worker that starts is looked for


class MeasurementService:
    """Runs jobs in worker processes: on one machine one job at a time, in the order in which they came.

    Jobs in the background (`JobSpec.background`) come after all others. One that runs is asked to give way as
    soon as another job waits for its machine, and goes on by itself when none is left.

    The workers start with the first job (or `warm_up`). A job that crashes ends its own worker process alone;
    a new one is started before the next job runs.

    Set the environment variable CSBVIZ_SCHEDULER to ``tls://host:port`` or ``tcp://host:port`` to use an
    existing Dask cluster instead, whose workers have csbviz installed and were started with a nanny, one
    thread, and ``--resources "cpu=1"`` or ``--resources "cuda=1"``. Jobs then run at the same time on
    different machines. **Plain tcp runs the code of anyone who reaches the scheduler or a worker**: use it on
    a trusted network only.

    Parameters
    ----------
    history : int
        How many finished jobs are remembered; those not asked for longest are forgotten first.

    Notes
    -----
    All methods may be called from any thread.
    """

    def __init__(self, history: int = 50) -> None:
        self._history = history
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Entry] = OrderedDict()  # finished ones least recently asked for first
        self._queue: list[Entry] = []
        self._busy: dict[str, Entry] = {}  # host → the job that runs there, or whose worker is being replaced
        self._places: list[Any] = []  # the workers that the dispatcher last saw
        self._threads: set[threading.Thread] = set()
        self._cluster_lock = threading.Lock()
        self._cluster: Any = None
        self._dispatcher: threading.Thread | None = None
        self._stop = threading.Event()

    # ---- for callers ------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._stop.is_set()

    def submit(self, spec: JobSpec) -> str:
        """Put a job at the end of the queue, before those in the background unless it is one of them.

        Returns
        -------
        str
            The job's id.

        Raises
        ------
        JobError
            When the arguments cannot be sent to another process, or the service is closed.
        """
        job = Entry(spec)
        with self._changed:
            if self.closed:
                raise JobError("The measurement service is closed and takes no more jobs.")
            self._jobs[job.id] = job
            bisect.insort(self._queue, job, key=_turn)
            if self._dispatcher is None:
                self._dispatcher = threading.Thread(target=self._dispatch, name="csbviz-jobs", daemon=True)
                self._dispatcher.start()
            self._changed.notify_all()
        return job.id

    def status(self, job_id: str) -> JobStatus:
        """Return a job as it is now.

        Raises
        ------
        JobError
            When the id is unknown, or the job has been forgotten.
        """
        with self._changed:
            self._jobs.move_to_end(self._find(job_id).id)
            return self._status(self._jobs[job_id])

    def wait(self, job_id: str, timeout: float | None = None) -> JobStatus:
        """Return the job once it has finished, or after `timeout` seconds as it then is."""
        with self._changed:
            job = self._find(job_id)
            self._changed.wait_for(lambda: job.ended is not None, timeout)
            return self._status(job)

    def cancel(self, job_id: str) -> None:
        """Cancel a job: a waiting one is taken out, a running one is stopped by ending its worker process.

        A running job of the background is first asked to save what it has, and given five seconds for it.
        Nothing here waits: the state becomes "cancelled" once the job has stopped. Nothing happens to a
        finished job.

        Raises
        ------
        JobError
            When the id is unknown, or the job has been forgotten.
        """
        with self._changed:
            job = self._find(job_id)
            if job.waiting:
                self._queue.remove(job)
                self._finish(job, "cancelled")
                self._ask_to_give_way()
            elif job.state == "running":
                job.cancelling, job.message = True, "Stopping"
                job.wake.set()

    def jobs(self) -> tuple[JobStatus, ...]:
        """Return the jobs that run, those that wait or pause in their order, and the finished ones."""
        with self._changed:
            running = [job for job in self._jobs.values() if job.state == "running"]
            finished = sorted((j for j in self._jobs.values() if j.ended is not None), key=lambda j: j.ended)
            return tuple(self._status(job) for job in (*running, *self._queue, *finished))

    def warm_up(self, device: str = "cpu") -> None:
        """Start the worker process in the background, which takes seconds, before the first job comes."""
        threading.Thread(target=self._start_quietly, args=(device,), name="csbviz-start", daemon=True).start()

    def close(self) -> None:
        """Cancel all jobs and end all processes that the service started. Closing twice is fine."""
        with self._changed:
            self._stop.set()
            for job in self._queue:
                self._finish(job, "cancelled")
            self._queue.clear()
            for job in self._jobs.values():
                job.cancelling = True
                job.wake.set()
            self._changed.notify_all()
            threads = [*self._threads, *([self._dispatcher] if self._dispatcher else [])]
        for thread in threads:
            thread.join(_CLOSE_SECONDS)  # one that waits for a dead network must not hold up the caller's end
        with self._cluster_lock:
            cluster, self._cluster = self._cluster, None
            if cluster is not None:
                cluster.close()

    def __enter__(self) -> MeasurementService:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- the queue --------------------------------------------------------------------------------------

    def _find(self, job_id: str) -> Entry:
        job = self._jobs.get(job_id)
        if job is None:
            raise JobError(
                f"There is no job {job_id!r}; finished jobs are forgotten after {self._history} others."
            )
        return job

    def _status(self, job: Entry) -> JobStatus:
        return job.status(self._queue.index(job) + 1 if job.waiting else 0)

    def _finish(self, job: Entry, state: str, result: Any = None, error: str | None = None) -> None:
        job.finish(state, result, error)
        self._jobs.move_to_end(job.id)
        finished = [j.id for j in self._jobs.values() if j.ended is not None]
        for old in finished[: max(0, len(finished) - self._history)]:
            del self._jobs[old]
        self._changed.notify_all()

    def _report(self, report: dict[str, Any]) -> None:
        """Take in what a running job says of its progress."""
        with self._changed:
            job = self._jobs.get(report["run"].partition(".")[0])
            if job is not None:
                job.take(report)

    def _dispatch(self) -> None:
        """Hand queued jobs to free places, until the service is closed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self.closed)
                if self.closed:
                    return
                devices = {job.device for job in self._queue}
                for job in self._queue:
                    job.message = job.message or "Waiting"
            cluster = None
            try:
                cluster = self._connect(devices)
                places = cluster.places()
            except Exception as error:
                if cluster is None or cluster.alive():
                    self._fail_queue(error)
                continue  # a cluster that was lost meanwhile is replaced
            with self._changed:
                self._places = places
                self._start_jobs(cluster, places)
                self._ask_to_give_way()
                if self._queue and not self.closed:
                    self._changed.wait(CHECK_SECONDS if self._busy else _DEVICE_SECONDS)

    def _start_jobs(self, cluster: Any, places: list[Any]) -> None:
        blocked = set()
        for job in list(self._queue):
            fitting = [place for place in places if job.device in place.devices]
            free = [place for place in fitting if place.host not in self._busy]
            if not fitting:
                self._wait_for_device(job, cluster)
            if not free or job.device in blocked:
                blocked.add(job.device)
                continue
            self._queue.remove(job)
            self._busy[free[0].host] = job
            job.start()
            thread = threading.Thread(
                target=self._run, args=(job, cluster, free[0]), name=f"csbviz-{job.id}", daemon=True
            )
            self._threads.add(thread)
            thread.start()
            self._changed.notify_all()

    def _ask_to_give_way(self) -> None:
        """Ask a running background job to pause for each job that waits for its host; take back the rest."""
        asked: list[Entry] = []
        for job in self._queue:
            if not job.background:
                hosts = {place.host for place in self._places if job.device in place.devices}
                asked += [
                    running
                    for host, running in self._busy.items()
                    if host in hosts and running.background and running not in asked
                ][:1]
        for running in self._busy.values():
            if running.wanted != (running in asked):
                running.wanted = not running.wanted
                running.wake.set()

    def _wait_for_device(self, job: Entry, cluster: Any) -> None:
        """Note that no worker offers the job's device, and give up after a while."""
        now = time.monotonic()
        job.missing_since = job.missing_since or now
        job.message = "Starting the worker process"
        if now - job.missing_since > _WORKER_SECONDS:
            self._queue.remove(job)
            error = f"No worker of {cluster.address} offered {job.device!r} within {_WORKER_SECONDS} s."
            self._finish(job, "failed", error=error)

    def _fail_queue(self, error: Exception) -> None:
        with self._changed:
            for job in self._queue:
                self._finish(job, "failed", error=sentence_of(error))
            self._queue.clear()

    # ---- one job ----------------------------------------------------------------------------------------

    def _run(self, job: Entry, cluster: Any, place: Any) -> None:
        """See a job through at its place, then free the place once a worker is there again."""
        try:
            outcome = attend(job, cluster, place, self._stop.is_set)
        except Exception as error:
            outcome = {"state": "failed", "error": sentence_of(error), "lost": not cluster.alive()}
        with self._changed:
            if not self._put_back(job, outcome):
                self._finish(job, outcome["state"], outcome.get("result"), outcome.get("error"))
        try:
            if outcome.get("worn_out"):  # its nanny starts a new one; without a nanny the next job will tell
                with contextlib.suppress(Exception):
                    cluster.end_worker(place)
            self._wait_for_worker(job.device, cluster, place)
        finally:
            with self._changed:
                del self._busy[place.host]
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def _put_back(self, job: Entry, outcome: dict[str, Any]) -> bool:
        """Queue a job again that paused, or that may start again after its worker was lost."""
        if job.cancelling:
            if outcome["state"] == "paused" or outcome.get("lost"):
                outcome["state"] = "cancelled"
            return False
        if outcome["state"] == "paused":
            job.pause("Paused: a measurement runs", outcome["kwargs"])
        elif outcome.get("lost") and job.restarts:
            job.restarts -= 1
            job.pause("Starting again: the worker process was lost")
        else:
            return False
        bisect.insort(self._queue, job, key=_turn)
        return True

    def _wait_for_worker(self, device: str, cluster: Any, place: Any) -> None:
        """After a worker process ended, wait until its nanny has brought a new one."""
        deadline = time.monotonic() + _WORKER_SECONDS
        try:
            if cluster.has(place):
                return
            while not self.closed and cluster.alive() and time.monotonic() < deadline:
                if any(device in p.devices and p.host == place.host for p in cluster.places()):
                    return
                self._stop.wait(_DEVICE_SECONDS)
        except Exception:
            return  # the connection is lost; the dispatcher makes a new one

    # ---- the cluster ------------------------------------------------------------------------------------

    def _connect(self, devices: set[str]) -> Any:
        """Return the cluster, started if need be, with a worker requested for each device."""
        from .cluster import LocalCluster, RemoteCluster

        with self._cluster_lock:
            if self.closed:
                raise JobError("The measurement service is closed.")
            if self._cluster is not None and not self._cluster.alive():
                lost, self._cluster = self._cluster, None
                lost.close()
            if self._cluster is None:
                address = os.environ.get("CSBVIZ_SCHEDULER")
                if address:
                    self._cluster = RemoteCluster(address, self._report)
                else:
                    self._cluster = LocalCluster(self._report, self._stop)
            for device in devices:
                self._cluster.request(device)
            return self._cluster

    def _start_quietly(self, device: str) -> None:
        try:
            self._connect({device})
        except Exception:
            return  # the first job will say what is wrong


def _turn(job: Entry) -> tuple[bool, int]:
    return job.turn


_service: MeasurementService | None = None
_service_lock = threading.Lock()


def get_service() -> MeasurementService:
    """Return the service of this process, shared by all its threads; it is closed when the process ends."""
    global _service
    with _service_lock:
        if _service is None or _service.closed:
            _service = MeasurementService()
            atexit.register(_service.close)
        return _service
