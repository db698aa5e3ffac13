"""The Dask cluster that runs the jobs: a local one with a worker per device, or an existing one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..errors import JobError
from .host import QUIET_SETTINGS
from .worker import ask_to_give_way, end_worker_process, run_job

__all__ = ["Cluster", "LocalCluster", "Place", "RemoteCluster"]

START_SECONDS = 90  # a cold start imports Dask three times, from a disk that may be slow
_CONNECT_SECONDS = 15
_END_SECONDS = 15  # for the host process to close what it started
_POLL_SECONDS = 0.03

# What the host process runs: the caller's import path, then main. It has no script for a worker to run again.
_HOST_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from csbviz.service.host import main; main(sys.argv[2])"
)


class Place(NamedTuple):
    """A worker process in which a job can run."""

    address: str
    host: str
    devices: frozenset[str]


class Cluster:
    """A connection to a scheduler. Its methods block and may be called from any thread."""

    def __init__(self, address: str, on_progress: Callable[[dict[str, Any]], None]) -> None:
        distributed = _import_distributed()
        self.address = address
        try:
            self._client = distributed.Client(
                address, timeout=_CONNECT_SECONDS, set_as_default=False, name="csbviz"
            )
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            why = " ".join(str(error).split())
            raise JobError(f"No connection to the scheduler at {address}: {why}.") from error
        self._numbers = itertools.count(1)
        self._topic = f"csbviz-{uuid.uuid4().hex}"
        self._client.subscribe_topic(self._topic, lambda event: on_progress(event[1]))

    def request(self, device: str) -> None:
        """Have a worker for `device` started, if this cluster can start one; do not wait for it."""

    def alive(self) -> bool:
        return self._client.status == "running"

    def places(self) -> list[Place]:
        """Return the workers that are up now."""
        workers = self._client.sync(self._client.scheduler.identity)["workers"]
        return [
            Place(address, worker["host"], frozenset(k for k, v in worker["resources"].items() if v >= 1))
            for address, worker in workers.items()
            if worker["status"] == "running"
        ]

    def has(self, place: Place) -> bool:
        return any(p.address == place.address for p in self.places())

    def submit(self, function: str, kwargs: bytes, run_id: str, device: str, place: Place) -> Any:
        """Start a run of a job at `place`; return Dask's future of what `run_job` returns."""
        return self._client.submit(
            run_job,
            function,
            kwargs,
            run_id,
            self._topic,
            key=f"csbviz-{run_id}",
            workers=[place.address],
            resources={device: 1},
            pure=False,
        )

    def tell(self, place: Place, run_id: str, wanted: bool) -> None:
        """Ask a run to give way, or take that back; do not wait until a busy worker has heard it."""

        def tell() -> None:
            with contextlib.suppress(Exception):  # whoever attends to the run notices when its worker is gone
                self._client.run(ask_to_give_way, run_id, number, wanted, workers=[place.address])

        number = next(self._numbers)
        threading.Thread(target=tell, name=f"csbviz-tell-{run_id}", daemon=True).start()

    def end_worker(self, place: Place) -> None:
        """End the worker process at `place`, with whatever runs in it, and wait until it is gone."""
        with contextlib.suppress(Exception):  # it may end by itself meanwhile; what counts is that it is gone
            self._client.run(end_worker_process, workers=[place.address], nanny=True)
        deadline = time.monotonic() + _END_SECONDS
        while self.has(place):
            if time.monotonic() > deadline:
                raise JobError(f"The worker process at {place.address} could not be ended; it needs a nanny.")
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        self._client.close()


class RemoteCluster(Cluster):
    """A cluster that somebody else started; its workers offer the resources "cpu" or "cuda".

    Dask runs whatever code reaches a scheduler. Give a ``tcp://`` address only where every machine of the
    network is trusted; ``tls://`` takes its certificates from Dask's settings (``distributed.comm.tls``).
    """

    local = False

    def __init__(self, address: str, on_progress: Callable[[dict[str, Any]], None]) -> None:
        if not address.startswith(("tcp://", "tls://")):
            raise JobError(f"CSBVIZ_SCHEDULER is {address!r}; it must begin with tcp:// or tls://.")
        super().__init__(address, on_progress)


class LocalCluster(Cluster):
    """A scheduler and a worker process per device on this machine, in a host process of their own.

    The scheduler listens on 127.0.0.1 alone. Like every Dask scheduler it runs the code of whoever reaches
    it, here the users logged in on this machine.

    Parameters
    ----------
    on_progress : callable
        Called with the reports of running jobs, in another thread.
    stop : threading.Event
        Ends a start that is under way.
    """

    local = True

    def __init__(self, on_progress: Callable[[dict[str, Any]], None], stop: threading.Event) -> None:
        self._requested: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="csbviz-service-", ignore_cleanup_errors=True)
        ready = Path(self._folder.name) / "scheduler.json"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOST_COMMAND, json.dumps(_import_path()), str(ready)],
            stdin=subprocess.PIPE,
            text=True,
            env={"DASK_LOGGING__DISTRIBUTED": "critical", **os.environ},  # its workers see it too
            start_new_session=True,  # Ctrl-C in a terminal is for the caller, who then ends this process
        )
        try:
            self.request("cpu")
            _import_distributed()  # while the host process does the same
            super().__init__(self._wait_for_address(ready, stop), on_progress)
        except BaseException:
            self._end_process()
            raise

    def request(self, device: str) -> None:
        if device in self._requested:
            return
        self._requested.add(device)
        try:
            self._process.stdin.write(device + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise JobError("The process that hosts the workers has ended.") from error

    def alive(self) -> bool:
        return self._process.poll() is None and super().alive()

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._end_process()

    def _wait_for_address(self, ready: Path, stop: threading.Event) -> str:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            if stop.is_set():
                raise JobError("The measurement service was closed while it started.")
            code = self._process.poll()
            if code is not None:
                raise JobError(f"The process that hosts the workers ended with code {code} while it started.")
            if time.monotonic() > deadline:
                raise JobError(f"The process that hosts the workers did not start within {START_SECONDS} s.")
            time.sleep(_POLL_SECONDS)
        return json.loads(ready.read_text(encoding="utf-8"))["address"]

    def _end_process(self) -> None:
        with contextlib.suppress(OSError):  # it is gone
            self._process.stdin.close()  # the host closes everything at the end of its input
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its workers end with it
            self._process.wait()
        self._folder.cleanup()


def _import_distributed() -> ModuleType:
    """Import Dask's distributed, which takes a second, and keep its logs off the caller's terminal."""
    import dask

    if "distributed" not in sys.modules:  # it sets up its loggers while it is imported
        dask.config.set({"logging": {"distributed": "critical", "distributed.client": "critical"}})
    import distributed

    dask.config.set(QUIET_SETTINGS)  # after the import, which brings the defaults
    return distributed


def _import_path() -> list[str]:
    """Return sys.path with absolute folders, so that the worker finds what the caller finds."""
    root = str(Path(__file__).resolve().parents[2])
    path = [os.path.abspath(folder) for folder in sys.path]
    return path if root in path else [root, *path]
