"""`Trained`: what a training run gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from csbviz.models import Model

__all__ = ["Trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained sparse network and how it came about.

    Attributes
    ----------
    task, method : str
    settings : dict
        Complete and JSON-safe: the same task, first weights and settings give the same weights on the same
        machine with the same number of threads.
    weights : dict of str to numpy.ndarray
        All tensors of the model, float32, by their names in the file; what is pruned is exactly 0.
    masks : dict of str to numpy.ndarray
        Boolean, True where a weight stays, for each weight that was to be pruned.
    curve : list of dict
        Points of the training: "step", "epoch", "loss" (mean since the point before), "train_accuracy"
        (likewise; None where the task has no classes), "accuracy" (first metric on some held-out examples),
        "sparsity", "rate", "seconds".
    before, after : dict of str to float
        Metrics on all held-out examples of the first and of the final weights, and "examples".
    sparsity : float
        Share of zeros over the weights that were to be pruned, 0 to 1.
    per_layer : dict of str to float
        The same for each of them.
    steps : int
    epochs : float
    seconds : float
        Of training and measuring, pauses left out.
    data : str
        Which data was used.
    versions : dict of str to str
    """

    task: str
    method: str
    settings: dict[str, Any]
    weights: Mapping[str, np.ndarray] = field(repr=False)
    masks: Mapping[str, np.ndarray] = field(repr=False)
    curve: list[dict[str, Any]] = field(repr=False)
    before: dict[str, float]
    after: dict[str, float]
    sparsity: float
    per_layer: dict[str, float]
    steps: int
    epochs: float
    seconds: float
    data: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Give all but the arrays, JSON-safe."""
        names = [
            "task",
            "method",
            "settings",
            "curve",
            "before",
            "after",
            "sparsity",
            "per_layer",
            "steps",
            "epochs",
            "seconds",
            "data",
            "versions",
        ]
        return {name: getattr(self, name) for name in names}

    def digest(self) -> str:
        """SHA-256 of the weights, in hexadecimal."""
        sha = hashlib.sha256()
        for name in sorted(self.weights):
            sha.update(name.encode() + b"\0")
            sha.update(np.ascontiguousarray(self.weights[name]).reshape(-1).view(np.uint8).data)
        return sha.hexdigest()

    def model(self, original: Model) -> Model:
        """Put the weights into the model that they came from; its history tells of the training.

        Raises
        ------
        InputError
            `original` has other layers.
        """
        step = {
            "step": "train",
            "task": self.task,
            "method": self.method,
            "settings": self.settings,
            "weights": self.digest(),  # another machine may train other bits by the same settings
        }
        return original.with_weights(self.weights, made_by=step)
