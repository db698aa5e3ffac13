"""`Curve`: the points of a training, and the sums since the last one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Curve"]


class Curve:
    """Collects loss and accuracy of training steps into points.

    Attributes
    ----------
    points : list of dict
    loss : float or None
        Of the last step.
    """

    def __init__(self) -> None:
        self.points: list[dict[str, Any]] = []
        self.loss: float | None = None
        self._total, self._count, self._right, self._seen = 0.0, 0, 0, 0

    def add(self, loss: float, outputs: Any, targets: Any) -> None:
        """Count a step; its accuracy too if it has scores (batch, classes) and a class for each example."""
        import torch

        self.loss = loss
        self._total += loss
        self._count += 1
        tensors = isinstance(outputs, torch.Tensor) and isinstance(targets, torch.Tensor)
        if not tensors or outputs.dim() != 2 or targets.shape != outputs.shape[:1]:
            return
        if not targets.is_floating_point():
            self._right += int((outputs.detach().argmax(1) == targets).sum())
            self._seen += len(targets)

    def point(self, step: int, **facts: float) -> None:
        """Make a point of what was counted since the last one."""
        loss = self._total / self._count if self._count else None
        right = self._right / self._seen if self._seen else None
        self.points.append({"step": step, "loss": loss, "train_accuracy": right, **facts})
        self._total, self._count, self._right, self._seen = 0.0, 0, 0, 0

    def as_dict(self) -> dict[str, Any]:
        """Give everything, JSON-safe."""
        sums = [self._total, self._count, self._right, self._seen]
        return {"points": self.points, "loss": self.loss, "sums": sums}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Curve:
        """Take back what `as_dict` gave."""
        curve = cls()
        curve.points, curve.loss = list(facts["points"]), facts["loss"]
        curve._total, curve._count, curve._right, curve._seen = facts["sums"]
        return curve
