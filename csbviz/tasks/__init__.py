"""What a model is for: its data, its forward pass, its loss and its accuracy."""

from csbviz.tasks.registry import TASKS, task_named, task_of
from csbviz.tasks.task import Metric, Network, Task

__all__ = ["TASKS", "Metric", "Network", "Task", "task_named", "task_of"]
