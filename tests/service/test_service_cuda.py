"""The measurement service with a GPU: faults, a kernel that does not end, and what the worker holds."""

from __future__ import annotations

import os
import time

import psutil
import pytest
import scipy.sparse

from csbviz.ops.cuda.driver import read_driver
from csbviz.service import JobSpec, JobStatus, MeasurementService

pytestmark = pytest.mark.gpu

JOBS = "tests.service.cuda_jobs"
LONG = 90  # seconds within which anything here ends
SPIN = 60  # seconds that the long kernel takes when it is not stopped


@pytest.fixture(scope="module")
def service():
    with MeasurementService() as running:
        yield running


def job(service: MeasurementService, function: str, **kwargs) -> JobStatus:
    """The ended job; functions without a module are those of the tests."""
    name = function if ":" in function else f"{JOBS}:{function}"
    return service.wait(service.submit(JobSpec(function, name, kwargs, "cuda")), LONG)


def bench_arguments() -> dict:
    """Arguments of a short run of the benchmark."""
    csr = scipy.sparse.random(512, 384, 0.1, "csr", "float32", random_state=1)
    return {"csr": csr, "request": {"ops": ["A@B"], "ns": [32], "device": "cuda", "min_time": 0.02}}


def test_the_worker_uses_the_gpu_that_the_driver_names(service):
    seen = job(service, "environment").result
    assert seen["pid"] != os.getpid()
    assert seen["visible"] == os.environ.get("CUDA_VISIBLE_DEVICES")
    assert seen["name"] == read_driver().gpus[0].name
    assert seen["sum"] == 0
    assert seen["imported"] == []
    assert not seen["monitored"]


def test_a_run_gives_the_memory_of_the_gpu_back(service):
    found = job(service, "csbviz.bench.jobs:run_bench", **bench_arguments())
    assert (found.state, found.error) == ("done", None)
    assert all(record["status"] == "ok" for record in found.result["records"])
    assert job(service, "held_bytes").result < 1 << 20


FAULTS = {
    "write_out_of_bounds": "A CUDA kernel of this job failed (an illegal memory access was encountered)",
    "write_out_of_bounds_unnoticed": "A CUDA kernel of this job failed (an illegal memory access was",
    "bench_a_faulty_kernel": "Faulty, A@B, N = 32: the kernel failed and took the GPU from its process (cuda",
}


@pytest.mark.parametrize("function", FAULTS)
def test_a_gpu_fault_is_one_sentence_and_the_next_job_works(service, function):
    before = job(service, "environment").result["pid"]
    failed = job(service, function, **(bench_arguments() if function.startswith("bench") else {}))
    assert (failed.state, failed.result) == ("failed", None)
    assert failed.error.startswith(FAULTS[function])
    assert failed.error.endswith(".")
    assert "\n" not in failed.error
    after = job(service, "environment").result
    assert after["sum"] == 0
    assert after["pid"] not in (before, os.getpid())


def test_a_kernel_in_full_run_is_cancelled_and_the_gpu_is_free_again(service):
    running = service.submit(JobSpec("spin", f"{JOBS}:spin", {"seconds": SPIN}, "cuda"))
    deadline = time.monotonic() + LONG
    while not service.status(running).message.startswith("pid "):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(service.status(running).message.removeprefix("pid "))
    time.sleep(0.5)
    start = time.monotonic()
    service.cancel(running)
    assert service.wait(running, LONG).state == "cancelled"
    assert not psutil.pid_exists(pid)
    print(f"from cancel to cancelled: {time.monotonic() - start:.2f} s")
    assert job(service, "environment").result["sum"] == 0
    seconds = time.monotonic() - start
    print(f"from cancel to the end of the next job: {seconds:.1f} s")
    assert seconds < SPIN / 2
