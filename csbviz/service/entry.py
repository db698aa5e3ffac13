"""`Entry`: a job in the service, with its place in the queue and all that is known of its runs."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
import uuid
from typing import Any

from ..errors import JobError
from .jobs import JobSpec, JobStatus, sentence_of

__all__ = ["Entry"]

_numbers = itertools.count()


class Entry:
    """A job and all that is known of it; the service's lock guards the fields.

    A job runs more than once when it pauses, or when it lost its worker and may start again.
    """

    def __init__(self, spec: JobSpec) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.name, self.function, self.device = spec.name, spec.function, spec.device
        self.background, self.restarts = spec.background, spec.restarts
        self.kwargs = _pickled(spec)
        self.turn = (spec.background, next(_numbers))  # a paused job keeps its place before later ones
        self.state, self.fraction, self.message = "queued", 0.0, ""
        self.result: Any = None
        self.partial: Any = None
        self.error: str | None = None
        self.runs = 0
        self.began: float | None = None  # this run
        self.spent = 0.0  # seconds of the runs before
        self.ended: float | None = None
        self.missing_since: float | None = None  # when it was first found that no worker has its device
        self.wanted = False  # a job that must not wait needs its host
        self.cancelling = False
        self.wake = threading.Event()  # set when its future is done, or the two flags above changed

    @property
    def run_id(self) -> str:
        """Names the current run: what an earlier one still has to say is not taken for this one's."""
        return f"{self.id}.{self.runs}"

    @property
    def waiting(self) -> bool:
        return self.state in ("queued", "paused")

    @property
    def seconds(self) -> float:
        return self.spent + (time.monotonic() - self.began if self.began is not None else 0.0)

    def start(self) -> None:
        self.runs += 1
        self.state, self.began, self.message = "running", time.monotonic(), "Starting"
        self.wanted, self.missing_since = False, None
        self.wake.clear()

    def stop(self) -> None:
        """Note that no run is under way."""
        self.spent, self.began = self.seconds, None

    def pause(self, message: str, kwargs: bytes | None = None) -> None:
        """Wait for another run, with new arguments if there are any."""
        self.stop()
        self.state, self.message = "paused", message
        self.kwargs = kwargs or self.kwargs

    def finish(self, state: str, result: Any = None, error: str | None = None) -> None:
        self.stop()
        self.state, self.result, self.error, self.ended = state, result, error, time.monotonic()
        self.kwargs = b""  # the arguments can be large
        if state == "cancelled":
            self.message = "Cancelled"
        if state == "done":
            self.fraction = 1.0

    def take(self, report: dict[str, Any]) -> None:
        """Take in what the current run says of its progress."""
        if self.state != "running" or report["run"] != self.run_id:
            return
        if "partial" in report:
            self.partial = pickle.loads(report["partial"])
        if not self.cancelling:
            self.fraction = min(1.0, max(0.0, report["fraction"]))
            self.message = report["message"]

    def status(self, position: int) -> JobStatus:
        return JobStatus(
            id=self.id,
            name=self.name,
            state=self.state,
            fraction=self.fraction,
            message=self.message,
            position=position,
            result=self.result,
            error=self.error,
            seconds=self.seconds,
            partial=self.partial,
            background=self.background,
        )


def _pickled(spec: JobSpec) -> bytes:
    try:
        return pickle.dumps(spec.kwargs, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise JobError(f"The arguments of job {spec.name!r} cannot be sent: {sentence_of(error)}") from error
