"""`train`: the job that all training methods are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import UnavailableError
from csbviz.pruning.training.checkpoint import discard
from csbviz.pruning.training.settings import settings_of
from csbviz.pruning.training.trained import Trained
from csbviz.tasks import Task, task_named

if TYPE_CHECKING:
    from csbviz.pruning.training.settings import TrainSettings

__all__ = ["train"]


def train(
    task: str | Task,
    weights: Mapping[str, np.ndarray],
    method: str = "gradual",
    settings: Mapping[str, Any] | TrainSettings | None = None,
    checkpoint: str | None = None,
    progress: Callable[..., None] | None = None,
) -> Trained | Any:
    """Train a network until it is sparse.

    Parameters
    ----------
    task : str or Task
        A task with training data, or its name.
    weights : mapping of str to numpy.ndarray
        The first weights, as `Task.weights_of` gives them; they are not changed. What is zero there stays
        zero.
    method : str
        A name in `TRAINING`.
    settings : mapping or TrainSettings, optional
        What differs from the method's usual settings; see `TrainSettings`.
    checkpoint : str, optional
        A folder. The run saves there every few seconds, goes on from what it finds there, with the same
        result as without the interruption, and clears it up at its end. Without a folder nothing is saved,
        and the job never gives way to another one.
    progress : callable, optional
        ``progress(fraction, message)``. The service's own also takes live results (``partial``: "task",
        "method", "metric", "step", "steps", "epoch", "epochs", "sparsity", "target", "seconds",
        "seconds_left", "saved_step", "before" and "curve") and tells whether another job waits.

    Returns
    -------
    Trained
        Or what ``progress.paused()`` gives, when another job waits.

    Raises
    ------
    OptionError, InputError
        A setting, layer or checkpoint that cannot be, or a training that diverged.
    UnavailableError
        There is no data for this task on this machine.
    """
    import torch

    from csbviz.pruning.training.run import GiveWay, Run

    task = task if isinstance(task, Task) else task_named(task)
    chosen = settings_of(method, settings)
    missing = task.available()
    if missing:
        raise UnavailableError(missing)
    wanted = getattr(progress, "wanted", None)
    threads = torch.get_num_threads()
    try:
        if chosen.threads:
            torch.set_num_threads(chosen.threads)
        with torch.random.fork_rng(devices=[]):
            run = Run(task, weights, method, chosen, checkpoint, _reporter(progress), wanted or _never)
            trained = run.go()
    except GiveWay:
        return progress.paused()
    finally:
        torch.set_num_threads(threads)
    if checkpoint is not None:
        discard(checkpoint)
    return trained


def _reporter(progress: Callable[..., None] | None) -> Callable[[float, str, Any], None]:
    live = hasattr(progress, "wanted")

    def report(fraction: float, message: str, partial: Any) -> None:
        if live:
            progress(fraction, message, partial=partial)
        elif progress is not None:
            progress(fraction, message)

    return report


def _never() -> bool:
    return False
