"""The measurement service: order, progress, cancellation, and jobs that end badly."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from csbviz.errors import JobError, OptionError
from csbviz.service import JobSpec, MeasurementService, get_service, run_here

JOBS = "tests.service.sample_jobs"
ROOT = Path(__file__).resolve().parents[2]
LONG = 60  # seconds within which anything here ends, also on a busy machine


def spec(function: str, device: str = "cpu", **kwargs) -> JobSpec:
    return JobSpec(function, f"{JOBS}:{function}", kwargs, device)


def until(condition, what: str, seconds: float = LONG):
    """Wait until `condition()` is true, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)
    return value


def pid_of(service: MeasurementService, job_id: str) -> int:
    """The process in which a job runs, which it says in its message."""
    message = until(
        lambda: service.status(job_id).message.removeprefix("pid ").isdigit(), "the job's pid"
    ) and (service.status(job_id).message)
    return int(message.removeprefix("pid "))


@pytest.fixture(scope="module")
def service():
    with MeasurementService() as running:
        yield running


@pytest.fixture
def gate(service, tmp_path):
    """A running job that holds the worker until ``gate.open()``."""

    class Gate:
        path = tmp_path / "gate"
        id = service.submit(spec("wait_for_file", path=str(path)))

        def open(self):
            self.path.touch()

    gate = Gate()
    until(lambda: service.status(gate.id).state == "running", "the first job")
    yield gate
    gate.open()
    service.wait(gate.id, LONG)


def test_a_job_returns_its_result(service):
    status = service.wait(service.submit(spec("add", a=1, b=2)), LONG)
    assert (status.state, status.result, status.error, status.position) == ("done", 3, None, 0)
    assert status.fraction == 1
    assert status.finished
    assert 0 < status.seconds < LONG


def test_progress_arrives_while_the_job_runs(service, gate):
    until(lambda: service.status(gate.id).fraction == 0.25, "the job's fraction")
    assert pid_of(service, gate.id) != os.getpid()
    first = service.status(gate.id).seconds
    assert until(lambda: service.status(gate.id).seconds > first, "time to pass")
    gate.open()
    assert service.wait(gate.id, LONG).result == "found"


def test_jobs_run_in_their_order_and_know_their_place(service, gate, tmp_path):
    log = tmp_path / "log"
    ids = [service.submit(spec("append", path=str(log), text=str(i))) for i in range(5)]
    assert [service.status(i).position for i in ids] == [1, 2, 3, 4, 5]
    assert {service.status(i).state for i in ids} == {"queued"}
    assert [job.id for job in service.jobs()[:6]] == [gate.id, *ids]
    gate.open()
    assert [service.wait(i, LONG).state for i in ids] == ["done"] * 5
    assert log.read_text() == "01234"


def test_a_cuda_job_waits_for_the_cpu_job_of_the_same_machine(service, gate, tmp_path):
    log = tmp_path / "log"
    cuda = service.submit(spec("append", device="cuda", path=str(log), text="g"))
    until(lambda: any("cuda" in p.devices for p in service._cluster.places()), "a worker for cuda")
    cpu = service.submit(spec("append", path=str(log), text="c"))
    time.sleep(0.3)  # long enough for a queue that does not wait to start one of them
    assert (service.status(cuda).state, service.status(cpu).state) == ("queued", "queued")
    gate.open()
    assert service.wait(cuda, LONG).state == service.wait(cpu, LONG).state == "done"
    assert log.read_text() == "gc"
    assert service.status(cuda).result != service.status(cpu).result  # a process for each device


def test_submitting_from_many_threads_loses_nothing(service, gate, tmp_path):
    ids = []
    threads = [
        threading.Thread(target=lambda i=i: ids.append(service.submit(spec("add", a=i, b=0))))
        for i in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.open()
    assert sorted(service.wait(i, LONG).result for i in ids) == list(range(20))


def test_cancel_stops_a_running_job_and_the_next_one_runs(service, tmp_path):
    marks = tmp_path / "marks"
    running = service.submit(spec("spin", path=str(marks)))
    pid = pid_of(service, running)
    following = service.submit(spec("add", a=3, b=4))
    until(marks.exists, "the job's first mark")
    service.cancel(running)
    assert service.wait(running, LONG).state == "cancelled"
    assert not psutil.pid_exists(pid)
    size = marks.stat().st_size
    assert service.wait(following, LONG).result == 7
    assert marks.stat().st_size == size
    service.cancel(running)  # nothing left to cancel
    assert service.status(running).state == "cancelled"


def test_cancel_takes_a_queued_job_out(service, gate, tmp_path):
    log = tmp_path / "log"
    first, second = (service.submit(spec("append", path=str(log), text=text)) for text in "ab")
    service.cancel(first)
    assert service.status(first).state == "cancelled"
    assert service.status(second).position == 1
    assert service.status(gate.id).state == "running"
    gate.open()
    assert service.wait(second, LONG).state == "done"
    assert log.read_text() == "b"


def test_cancel_right_after_submit(service, tmp_path):
    job = service.submit(spec("spin", path=str(tmp_path / "marks")))
    service.cancel(job)
    assert service.wait(job, LONG).state == "cancelled"
    assert service.wait(service.submit(spec("add", a=1, b=1)), LONG).result == 2


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("refuse", "the matrix has 3 rows; it needs 4"),
        ("divide", "ZeroDivisionError: division by zero"),
        ("leave", "SystemExit: 3"),
        ("absent", f"The job's function '{JOBS}:absent' does not exist in its module."),
        ("ROWS", f"The job's function '{JOBS}:ROWS' is a int and cannot be called."),
    ],
)
def test_a_job_that_fails_says_why_in_one_sentence(service, function, sentence):
    status = service.wait(service.submit(spec(function)), LONG)
    assert (status.state, status.error, status.result) == ("failed", sentence, None)


def test_a_module_that_is_absent(service):
    status = service.wait(service.submit(JobSpec("x", "csbviz.no_such:f")), LONG)
    assert status.error == "The job's function 'csbviz.no_such:f' names a module that cannot be imported."


def test_a_result_that_does_not_pickle(service):
    status = service.wait(service.submit(spec("not_picklable")), LONG)
    assert status.state == "failed"
    assert status.error.startswith("The job's result, a function, cannot be sent back (")


def test_arguments_that_do_not_pickle(service):
    with pytest.raises(JobError, match="The arguments of job 'add' cannot be sent"):
        service.submit(spec("add", a=lambda: 1, b=2))


def test_a_killed_worker_fails_its_job_alone(service):
    before = service.wait(service.submit(spec("environment")), LONG).result["pid"]
    dying = service.submit(spec("die"))
    following = service.submit(spec("environment"))
    status = service.wait(dying, LONG)
    assert status.state == "failed"
    assert status.error.startswith("The worker process ended while the job ran")
    assert service.wait(following, LONG).result["pid"] not in (before, os.getpid())


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (
            "exception",
            "A CUDA kernel of this job failed (an illegal memory access was encountered) and ended",
        ),
        (
            "unnoticed",
            "A CUDA kernel of this job failed (an illegal memory access was encountered) and ended",
        ),
        ("sentence", "the kernel failed"),
    ],
)
def test_a_worker_that_lost_the_gpu_is_replaced(service, kind, sentence):
    before = service.wait(service.submit(spec("environment", device="cuda")), LONG).result["pid"]
    status = service.wait(service.submit(spec("lose_the_gpu", device="cuda", kind=kind)), LONG)
    assert (status.state, status.result) == ("failed", None)
    assert status.error.startswith(sentence)
    after = service.wait(service.submit(spec("environment", device="cuda")), LONG).result["pid"]
    assert after not in (before, os.getpid())


def test_a_process_without_a_gpu_has_no_gpu_fault():
    code = "from csbviz.service.gpu_fault import gpu_fault; assert gpu_fault() is None"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=LONG)


def test_the_worker_is_left_as_the_caller_is(service):
    """No thread limits that Dask would set, nothing imported beforehand, and no script run a second time."""
    # A new worker, so that earlier jobs have imported nothing.
    service.wait(service.submit(spec("die")), LONG)
    seen = service.wait(service.submit(spec("environment")), LONG).result
    assert seen["variables"] == {name: os.environ.get(name) for name in seen["variables"]}
    assert seen["imported"] == []
    assert seen["main"] is None
    assert seen["profiled"] is False


def test_parallel_numba_kernels_run(service):
    for _ in range(2):
        assert service.wait(service.submit(spec("numba_parallel")), LONG).result == 499500


def test_many_reports_and_large_arguments(service):
    status = service.wait(service.submit(spec("many_reports", count=20_000)), LONG)
    assert (status.result, status.fraction) == (20_000, 1.0)
    data = bytes(20_000_000)  # Dask warns of what is larger than 10 MB
    status = service.wait(service.submit(spec("add", a=data, b=b"!")), LONG)
    assert status.result == data + b"!"


def test_unknown_jobs(service):
    for call in (service.status, service.cancel, service.wait):
        with pytest.raises(JobError, match="There is no job 'nobody'"):
            call("nobody")


def test_an_existing_cluster_is_used_and_left_running(service, monkeypatch):
    service.wait(service.submit(spec("add", a=0, b=0)), LONG)
    monkeypatch.setenv("CSBVIZ_SCHEDULER", service._cluster.address)
    with MeasurementService() as remote:
        assert remote.wait(remote.submit(spec("add", a=2, b=3)), LONG).result == 5
        assert remote._cluster.local is False
        dying = remote.submit(spec("die"))
        assert remote.wait(dying, LONG).state == "failed"
        assert remote.wait(remote.submit(spec("add", a=4, b=5)), LONG).result == 9
    assert service.wait(service.submit(spec("add", a=6, b=7)), LONG).result == 13


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("localhost:8786", "CSBVIZ_SCHEDULER is 'localhost:8786'; it must begin with tcp:// or tls://."),
        ("tcp://127.0.0.1:1", "No connection to the scheduler at tcp://127.0.0.1:1: "),
    ],
)
def test_a_scheduler_that_cannot_be_used(monkeypatch, address, sentence):
    monkeypatch.setenv("CSBVIZ_SCHEDULER", address)
    monkeypatch.setattr("csbviz.service.cluster._CONNECT_SECONDS", 0.5)
    with MeasurementService() as remote:
        status = remote.wait(remote.submit(spec("add", a=1, b=2)), LONG)
        assert status.state == "failed"
        assert status.error.startswith(sentence)
        assert "\n" not in status.error


def test_a_lost_host_process_is_replaced_and_close_leaves_no_process(tmp_path):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    started = MeasurementService(history=2)
    started.warm_up()
    with started:
        running = started.submit(spec("spin", path=str(tmp_path / "marks")))
        pid = pid_of(started, running)
        started._cluster._process.kill()
        assert started.wait(running, LONG).error.startswith("The worker process ended")
        until(lambda: not psutil.pid_exists(pid), "the worker to end with its host")
        ids = [started.submit(spec("add", a=i, b=0)) for i in range(3)]
        assert started.wait(ids[-1], LONG).result == 2
        with pytest.raises(JobError, match="forgotten after 2 others"):
            started.status(running)
        last, waiting = (started.submit(spec("spin", path=str(tmp_path / "marks"))) for _ in range(2))
        pid_of(started, last)
    assert {started.status(i).state for i in (last, waiting)} == {"cancelled"}
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert left == []
    with pytest.raises(JobError, match="closed"):
        started.submit(spec("add", a=1, b=2))
    started.close()  # twice is fine


ENDINGS = {
    "as a script does": "",
    "by a signal": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_caller_that_ends_takes_its_processes_along(tmp_path, ending):
    script = f"""
import psutil, time
from csbviz.service import JobSpec, get_service
service = get_service()
assert get_service() is service
job = service.submit(JobSpec("spin", "{JOBS}:spin", {{"path": r"{tmp_path / "marks"}"}}))
while not service.status(job).message.startswith("pid"):
    time.sleep(0.01)
print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
{ENDINGS[ending]}
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, timeout=LONG)
    pids = [int(word) for word in run.stdout.split()]
    assert len(pids) >= 2  # the host and its worker at least
    until(lambda: not any(psutil.pid_exists(pid) for pid in pids), "the processes to end")


def test_one_service_for_the_process():
    first = get_service()
    assert get_service() is first
    first.close()
    second = get_service()
    assert second is not first
    second.close()


def test_run_here_calls_the_function_in_this_process():
    reports = []
    assert run_here(spec("add", a=1, b=2), lambda *report: reports.append(report)) == 3
    assert reports == [(0.5, "Adding")]
    assert run_here(spec("environment"))["pid"] == os.getpid()
    with pytest.raises(ZeroDivisionError):
        run_here(spec("divide"))


@pytest.mark.parametrize(
    ("function", "device", "message"),
    [
        ("no_colon", "cpu", "module:callable"),
        ("a:", "cpu", "module:callable"),
        ("a:b", "tpu", "'cpu' or 'cuda'"),
    ],
)
def test_a_spec_that_cannot_be(function, device, message):
    with pytest.raises(OptionError, match=message):
        JobSpec("x", function, {}, device)


def test_import_is_light():
    code = "import sys, csbviz.service; assert not {'distributed', 'dask', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=LONG)
