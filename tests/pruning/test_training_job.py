"""Training as a job of the service: it gives way, survives its process, and is cancelled without loss."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from csbviz.models import load_sample
from csbviz.pruning.training import saved_step, train
from csbviz.service import JobSpec, MeasurementService
from csbviz.tasks import task_named
from tests.pruning.toy_task import first_weights, slow_loss, toy_task

LONG = 120  # seconds within which anything here ends, also on a busy machine
SETTINGS = {"epochs": 15, "batch": 16, "threads": 1, "sparsity": 0.8, "checkpoint_seconds": 0.1}
STEPS = 180


@pytest.fixture(scope="module")
def service():
    with MeasurementService() as running:
        running.warm_up()
        yield running


@pytest.fixture
def job(service, tmp_path):
    kwargs = {
        "task": toy_task(slow_loss),
        "weights": first_weights(),
        "method": "gradual",
        "settings": SETTINGS,
        "checkpoint": str(tmp_path / "run"),
    }
    spec = JobSpec("Training", "csbviz.pruning.training:train", kwargs, background=True, restarts=1)
    return service.submit(spec)


def until(condition, what: str):
    deadline = time.monotonic() + LONG
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {LONG} s for {what}"
        time.sleep(0.005)
    return value


def step_of(service, job):
    status = service.status(job)
    return status.partial["step"] if status.partial else -1


def other(service):
    spec = JobSpec("environment", "tests.service.sample_jobs:environment")
    return service.wait(service.submit(spec), LONG).result


def test_pauses_and_a_killed_process_change_nothing(service, job, tmp_path):
    until(lambda: step_of(service, job) > 5, "the first steps")
    pid = other(service)["pid"]
    reached = step_of(service, job)
    assert service.status(job).state in ("paused", "running")
    until(lambda: step_of(service, job) > max(reached, 20), "it to go on")
    until(lambda: (saved_step(tmp_path / "run") or 0) > reached, "a checkpoint")
    assert step_of(service, job) < STEPS
    os.kill(pid, signal.SIGKILL)
    status = service.wait(job, LONG)
    assert (status.state, status.error) == ("done", None)
    whole = train(toy_task(), first_weights(), "gradual", SETTINGS)
    assert status.result.digest() == whole.digest()
    assert [p["loss"] for p in status.result.curve] == [p["loss"] for p in whole.curve]
    assert status.partial["curve"] == status.result.curve[:-1]
    assert not (tmp_path / "run").exists()


def test_cancel_keeps_the_last_step_and_the_same_job_goes_on(service, job, tmp_path):
    until(lambda: step_of(service, job) > 5, "the first steps")
    service.cancel(job)
    status = service.wait(job, LONG)
    assert status.state == "cancelled"
    step = saved_step(tmp_path / "run")
    assert step == status.partial["step"] == status.partial["saved_step"]
    left = []

    def progress(fraction, message):
        left.append(message)

    trained = train(
        toy_task(), first_weights(), "gradual", SETTINGS, str(tmp_path / "run"), progress=progress
    )
    assert left[0] == f"Going on from step {step}"
    assert left[1].startswith(f"Step {step + 1} of {STEPS} ")
    assert trained.digest() == train(toy_task(), first_weights(), "gradual", SETTINGS).digest()


def test_the_sample_network_trains(service):
    """A few steps with the real data: enough to see it pruned and still right."""
    task = task_named("fashion")
    weights = task.weights_of(load_sample("fashion_cnn"))
    epochs = 10 / task.steps_an_epoch(64)
    settings = {"epochs": epochs, "batch": 64, "sparsity": 0.7, "eval_examples": 200, "threads": 1}
    seen = []
    trained = train("fashion", weights, "gradual", settings, progress=lambda *x: seen.append(x))
    assert trained.steps == 10
    assert trained.before["examples"] == trained.after["examples"] == 10_000
    assert trained.before["top1"] == pytest.approx(0.9211, abs=0.002)
    assert trained.after["top1"] > 0.88
    assert trained.sparsity == pytest.approx(0.7, abs=1e-5)
    size = sum(mask.size for mask in trained.masks.values())
    assert sum(int((~mask).sum()) for mask in trained.masks.values()) == round(0.7 * size)
    assert seen[-1][0] == 1.0
    assert all(np.isfinite(array).all() for array in trained.weights.values())


@pytest.mark.slow
def test_gradual_pruning_keeps_the_accuracy_within_a_point():
    task = task_named("fashion")
    epochs = 936 / task.steps_an_epoch(128)  # 2 with all 60,000 images, 10 with the extract
    trained = train("fashion", task.weights_of(load_sample("fashion_cnn")), "gradual", {"epochs": epochs})
    assert round(trained.sparsity * 421_408) == round(0.9 * 421_408)  # 90 %, exact to one weight
    assert trained.after["top1"] >= trained.before["top1"] - 0.01
