"""The process that hosts the scheduler and a nanny per device, started by the first job.

It is a process of its own because a process that starts a worker has it import its own main script: started
inside Streamlit, a worker would run the app a second time. It ends when its standard input does, thus also
when the caller is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from typing import Any

__all__ = ["QUIET_SETTINGS", "main"]

QUIET_SETTINGS = {
    "distributed.admin.tick.interval": "500ms",  # wake up rarely while a kernel is timed
    "distributed.admin.large-graph-warning-threshold": "100 GiB",  # a job's matrix travels with the job
}
"""Settings of Dask for the caller and the host."""

_HOST_SETTINGS = {
    **QUIET_SETTINGS,
    "distributed.scheduler.allowed-failures": 0,  # a job that killed its worker is not tried again
    "distributed.scheduler.worker-ttl": None,  # a job may hold the interpreter for long
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.active-memory-manager.start": False,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,  # it would sample the job's stack 100 times a second
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.admin.system-monitor.disk": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.diagnostics.nvml": False,
    # By default Dask gives workers OMP_NUM_THREADS=1 and its like: kernels choose their threads themselves.
    "distributed.nanny.pre-spawn-environ": {},
}


def main(ready_file: str) -> None:
    """Serve until standard input ends.

    Parameters
    ----------
    ready_file : str
        Where to write ``{"address": …}`` once the scheduler listens. Each line of standard input names a
        device to start a worker for.
    """
    import dask
    import distributed  # noqa: F401  before the settings: the import brings Dask's defaults

    dask.config.set(_HOST_SETTINGS)
    with tempfile.TemporaryDirectory(prefix="csbviz-", ignore_cleanup_errors=True) as scratch:
        asyncio.run(_serve(ready_file, scratch))


async def _serve(ready_file: str, scratch: str) -> None:
    from distributed import Nanny, Scheduler

    lines = _lines_of_stdin()
    nannies: list[Any] = []
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "dashboard": False}
    async with Scheduler(port=0, **here) as scheduler:
        _write_whole(ready_file, json.dumps({"address": scheduler.address}))
        try:
            while device := await lines.get():
                nanny = Nanny(
                    scheduler.address,
                    nthreads=1,  # one job at a time, which has the whole process
                    name=device,
                    resources={device: 1},
                    memory_limit=0,  # the operating system's limits are enough: never pause or spill a timing
                    local_directory=scratch,
                    **here,
                )
                nannies.append(nanny)
                await nanny
        finally:
            await asyncio.gather(*(nanny.close(timeout=1) for nanny in nannies), return_exceptions=True)


def _lines_of_stdin() -> asyncio.Queue[str]:
    """Queue the lines of standard input as they come; an empty string says that it ended."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line.strip())
        loop.call_soon_threadsafe(lines.put_nowait, "")

    threading.Thread(target=read, name="csbviz-stdin", daemon=True).start()
    return lines


def _write_whole(path: str, text: str) -> None:
    """Write a file that others see complete or not at all."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".part", path)
