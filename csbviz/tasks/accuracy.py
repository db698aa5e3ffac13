"""The accuracy of a model, and of several versions of one as a job for the measurement service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from csbviz.errors import InputError, UnavailableError
from csbviz.tasks.registry import TASKS, task_named, task_of

if TYPE_CHECKING:
    import numpy as np

    from csbviz.models import Model
    from csbviz.tasks.task import Progress

__all__ = ["accuracy", "measurable_task", "measure_versions"]


def measurable_task(model: Model):
    """Give the task of a model when all that its accuracy needs is on this machine, else None.

    Parameters
    ----------
    model : Model

    Returns
    -------
    Task or None
    """
    task = task_of(model)
    return task if task is not None and not task.available() else None


def accuracy(model: Model, progress: Progress | None = None, limit: int | None = None) -> dict[str, float]:
    """Measure a model on the test data of its task.

    Parameters
    ----------
    model : Model
        Pruned or not.
    progress : callable, optional
        Called as progress(fraction, message) between batches; whatever it raises ends the measurement.
    limit : int, optional
        Take only so many test examples, the first ones: a quick look, not the accuracy to report.

    Returns
    -------
    dict of str to float
        The task's metrics, shares from 0 to 1, and "examples": how many were tested.

    Raises
    ------
    InputError
        There is no data for this model.
    MatrixError
        A weight holds NaN or infinity.
    UnavailableError
        The test data is not on this machine; the message says how to get it.
    """
    task = task_of(model)
    if task is None:
        titles = ", ".join(task.title for task in TASKS.values())
        raise InputError(
            f"the accuracy of {model.name} cannot be measured: that needs data for it, and there is data for "
            f"{titles} only."
        )
    missing = task.available()
    if missing:
        raise UnavailableError(missing)
    return task.evaluate(task.network(task.weights_of(model)), progress, limit)


def measure_versions(
    task: str,
    versions: Mapping[str, Mapping[str, np.ndarray]],
    progress: Callable[[float, str], None],
    limit: int | None = None,
) -> dict[str, dict[str, float]]:
    """Measure each version of one model.

    Parameters
    ----------
    task : str
        A name in `TASKS`.
    versions : mapping of str to (mapping of str to numpy.ndarray)
        Name of the version → what `Task.weights_of` gives.
    progress : callable
        ``progress(fraction, message)``.
    limit : int, optional
        As in `accuracy`.

    Returns
    -------
    dict of str to dict
        Name of the version → metrics as of `accuracy`.

    Raises
    ------
    OptionError
        There is no such task.
    UnavailableError
        Its test data is not on this machine.
    """
    chosen = task_named(task)
    found = {}
    for index, (name, weights) in enumerate(versions.items()):

        def step(fraction: float, message: str, index: int = index, name: str = name) -> None:
            progress((index + fraction) / len(versions), f"{name}: {message}")

        found[name] = chosen.evaluate(chosen.network(weights), step, limit)
    return found
