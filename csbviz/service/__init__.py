"""The measurement service: jobs run in turn in a worker process, so that nothing else disturbs a timing."""

from .jobs import JobSpec, JobStatus, Paused, run_here
from .queue import MeasurementService, get_service

__all__ = ["JobSpec", "JobStatus", "MeasurementService", "Paused", "get_service", "run_here"]
