"""Background jobs: they give way to others and go on by themselves, and nothing is done twice or left out."""

from __future__ import annotations

import os
import time

import pytest

from csbviz.errors import OptionError
from csbviz.service import JobSpec, MeasurementService, Paused, run_here

JOBS = "tests.service.sample_jobs"
LONG = 60  # seconds within which anything here ends, also on a busy machine


def spec(
    function: str, device: str = "cpu", background: bool = False, restarts: int = 0, **kwargs
) -> JobSpec:
    return JobSpec(function, f"{JOBS}:{function}", kwargs, device, background, restarts)


def until(condition, what: str, seconds: float = LONG):
    """Wait until `condition()` is true, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.005)
    return value


@pytest.fixture(scope="module")
def service():
    with MeasurementService() as running:
        running.wait(running.submit(spec("add", a=0, b=0)), LONG)
        yield running


@pytest.fixture
def training(service, tmp_path):
    """A background job under way that ends when ``training.gate`` is touched."""

    class Training:
        path, gate = tmp_path / "numbers", tmp_path / "gate"
        id = service.submit(spec("count_up", background=True, path=str(path), until=20, gate=str(gate)))

        def status(self):
            return service.status(self.id)

        def numbers(self):
            return [int(line) for line in self.path.read_text().split()]

    training = Training()
    until(lambda: training.path.exists() and training.status().partial, "the job's first numbers")
    yield training
    service.cancel(training.id)
    service.wait(training.id, LONG)


def test_it_pauses_for_another_job_and_goes_on_by_itself(service, training, tmp_path):
    door = tmp_path / "door"
    other = service.submit(spec("wait_for_file", path=str(door)))
    until(lambda: service.status(other).state == "running", "the other job")
    paused = training.status()
    assert (paused.state, paused.position, paused.background) == ("paused", 1, True)
    assert paused.message == "Paused: a measurement runs"
    assert not paused.finished
    assert paused.partial == training.numbers()  # what was reported last came along
    assert [job.id for job in service.jobs()[:2]] == [other, training.id]
    size, spent = training.path.stat().st_size, paused.seconds
    time.sleep(0.1)
    assert (training.path.stat().st_size, training.status().seconds) == (size, spent)
    training.gate.touch()
    door.touch()
    assert service.wait(other, LONG).result == "found"
    done = service.wait(training.id, LONG)
    assert (done.state, done.result) == ("done", list(range(20)))
    assert training.numbers() == list(range(20))
    assert done.seconds > spent


def test_it_gives_way_again_and_again(service, training):
    for turn in range(3):
        assert service.wait(service.submit(spec("add", a=turn, b=1)), LONG).result == turn + 1
        assert not training.status().finished
    training.gate.touch()
    assert service.wait(training.id, LONG).result == list(range(20))


def test_a_job_for_the_gpu_takes_the_place_of_one_for_the_cpu(service, training):
    """The two share the machine, so that neither disturbs the other's timing."""
    other = service.wait(service.submit(spec("add", device="cuda", a=1, b=2)), LONG)
    assert other.result == 3
    assert not training.status().finished
    training.gate.touch()
    assert service.wait(training.id, LONG).result == list(range(20))


def test_jobs_of_the_background_come_after_all_others(service, tmp_path):
    door, log = tmp_path / "door", tmp_path / "log"
    first = service.submit(spec("wait_for_file", path=str(door)))
    until(lambda: service.status(first).state == "running", "the first job")
    late = [service.submit(spec("append", background=True, path=str(log), text=text)) for text in ("c", "d")]
    early = [service.submit(spec("append", path=str(log), text=text)) for text in ("a", "b")]
    assert [service.status(i).position for i in (*early, *late)] == [1, 2, 3, 4]
    door.touch()
    for job in (first, *early, *late):
        service.wait(job, LONG)
    assert log.read_text() == "abcd"


def test_a_background_job_does_not_interrupt_another(service, training):
    other = service.submit(spec("add", background=True, a=1, b=2))
    time.sleep(0.2)
    assert (training.status().state, service.status(other).state) == ("running", "queued")
    # A job that interrupts leaves the first in its place, ahead of the other.
    assert service.wait(service.submit(spec("add", a=1, b=2)), LONG).result == 3
    assert not service.status(other).finished
    training.gate.touch()
    assert service.wait(training.id, LONG).result == list(range(20))
    assert service.wait(other, LONG).result == 3


def test_a_request_is_taken_back_when_the_other_job_is_cancelled(service, tmp_path):
    numbers = str(tmp_path / "numbers")
    stubborn = service.submit(spec("count_up", background=True, path=numbers, until=40, refuse_to_pause=True))
    entry = service._find(stubborn)
    until(lambda: service.status(stubborn).partial, "the job's first numbers")
    other = service.submit(spec("add", a=1, b=2))
    until(lambda: entry.wanted, "the request")
    service.cancel(other)
    assert entry.wanted is False
    assert service.wait(stubborn, LONG).result == list(range(40))


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
def test_cancel_in_every_state(service, training, tmp_path, state):
    door = tmp_path / "door"
    if state == "running":
        pid = service.wait(service.submit(spec("environment")), LONG).result["pid"]
        until(lambda: training.status().state == "running", "the job to go on")
        service.cancel(training.id)
        status = service.wait(training.id, LONG)
        assert status.state == "cancelled"
        assert status.partial == training.numbers()
        # It saved and stopped by itself: the process is still there for the next job.
        assert service.wait(service.submit(spec("environment")), LONG).result["pid"] == pid
        return
    other = service.submit(spec("wait_for_file", path=str(door)))
    until(lambda: service.status(other).state == "running", "the other job")
    job = training.id
    if state == "queued":
        job = service.submit(spec("add", background=True, a=1, b=2))
    assert service.status(job).state == state
    service.cancel(job)
    assert service.status(job).state == "cancelled"
    door.touch()
    assert service.wait(other, LONG).result == "found"
    size = training.path.stat().st_size
    assert service.wait(service.submit(spec("add", a=1, b=2)), LONG).result == 3
    if state == "paused":
        assert training.path.stat().st_size == size


def test_a_job_that_does_not_stop_is_ended(service, tmp_path, monkeypatch):
    monkeypatch.setattr("csbviz.service.attend.SAVE_SECONDS", 0.2)
    job = service.submit(spec("spin", background=True, path=str(tmp_path / "marks")))
    until((tmp_path / "marks").exists, "the job's first mark")
    service.cancel(job)
    assert service.wait(job, LONG).state == "cancelled"
    assert service.wait(service.submit(spec("add", a=1, b=2)), LONG).result == 3


def test_a_lost_worker_is_replaced_and_the_job_starts_again_as_often_as_it_says(service, tmp_path):
    job = service.submit(spec("die_once", background=True, restarts=1, path=str(tmp_path / "pid")))
    status = service.wait(job, LONG)
    assert status.state == "done"
    assert status.result not in (os.getpid(), None)
    assert status.partial == "saved"
    dying = service.wait(service.submit(spec("die", restarts=1)), LONG)
    assert dying.state == "failed"
    assert dying.error.startswith("The worker process ended while the job ran")


def test_without_a_service_nothing_waits(tmp_path):
    job = spec("count_up", path=str(tmp_path / "numbers"), until=3)
    assert run_here(job) == [0, 1, 2]


def test_a_paused_job_keeps_its_arguments_unless_it_names_others():
    assert Paused().kwargs is None
    assert Paused({"a": 1}).kwargs == {"a": 1}


@pytest.mark.parametrize("restarts", [-1, 1.5, True])
def test_restarts_that_cannot_be(restarts):
    with pytest.raises(OptionError, match="whole number"):
        JobSpec("x", "a:b", restarts=restarts)
