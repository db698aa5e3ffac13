"""The worker of the GPU benchmark: what it says arrives, and a kernel that ends it does not end the run."""

from __future__ import annotations

import os

from benchmarks.gpu_worker import in_worker


def measure(index, skip, say, breaking):
    """Two kernels at three matrices; one ends the process at matrix 1."""
    for kernel in ("good", "bad"):
        if kernel in skip:
            continue
        say("kernel", kernel)
        if kernel == "bad" and index == breaking:
            os._exit(3)
        say("record", (index, kernel))


def test_everything_said_arrives_in_order():
    assert list(in_worker(measure, 2, None)) == [
        ("record", (index, kernel)) for index in (0, 1) for kernel in ("good", "bad")
    ]


def test_a_kernel_that_ends_its_process_is_left_out_from_there_on():
    said = list(in_worker(measure, 3, 1))
    assert ("lost", (1, "bad")) in said
    after = said[said.index(("lost", (1, "bad"))) + 1 :]
    assert after == [("record", (1, "good")), ("record", (2, "good"))]


def test_the_caller_may_stop_in_between():
    said = in_worker(measure, 3, None)
    assert next(said) == ("record", (0, "good"))
    said.close()
