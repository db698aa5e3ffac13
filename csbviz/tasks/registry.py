"""The tasks by name, and the one that a model is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csbviz.errors import OptionError
from csbviz.tasks import fashion, g2p, spam

if TYPE_CHECKING:
    from csbviz.models import Model
    from csbviz.tasks.task import Task

__all__ = ["TASKS", "task_named", "task_of"]

TASKS: dict[str, Task] = {task.name: task for task in (fashion.TASK, spam.TASK, g2p.TASK)}


def task_named(name: str) -> Task:
    """Give a task by its name.

    Raises
    ------
    OptionError
        There is none of this name.
    """
    if name not in TASKS:
        raise OptionError(f"there is no task {name!r}; there are {', '.join(TASKS)}.")
    return TASKS[name]


def task_of(model: Model) -> Task | None:
    """Give the task that a model is for, by names and shapes; None when there is no data for it."""
    return next((task for task in TASKS.values() if task.fits(model)), None)
