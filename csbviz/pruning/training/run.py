"""`Run`: one training run, from its first weights or its checkpoint to its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import InputError, UnavailableError
from csbviz.pruning.training import checkpoint as checkpoints
from csbviz.pruning.training.curve import Curve
from csbviz.pruning.training.l0 import L0Gates
from csbviz.pruning.training.masked import FineTuned, GraduallyPruned, IterativelyPruned
from csbviz.pruning.training.optimizer import load_state, make_optimizer, set_rates, state_of
from csbviz.pruning.training.settings import TrainSettings
from csbviz.pruning.training.trained import Trained
from csbviz.pruning.training.variational import VariationalDropout
from csbviz.pruning.training.versions import versions

if TYPE_CHECKING:
    from csbviz.tasks import Task

__all__ = ["GiveWay", "Run"]

_SPARSIFIERS = {
    "finetune": FineTuned,
    "gradual": GraduallyPruned,
    "iterative": IterativelyPruned,
    "variational": VariationalDropout,
    "l0": L0Gates,
}
_POINTS = 40  # of the curve, when the settings do not say otherwise
_SHARE_OF_TRAINING = 0.96  # of the whole job; the rest is measuring the result


class GiveWay(Exception):
    """Another job waits; what is needed to go on is saved."""


class Run:
    """A training run.

    Parameters
    ----------
    task : Task
    weights : mapping of str to numpy.ndarray
        The first weights.
    method : str
    settings : TrainSettings
    folder : str or None
        Where checkpoints go, and where the run goes on from if there is one.
    report : callable
        report(fraction, message, partial).
    wanted : callable
        Whether another job waits.

    Raises
    ------
    UnavailableError
        The task cannot be trained on this machine.
    InputError
        The folder holds the checkpoint of another run.
    """

    def __init__(
        self,
        task: Task,
        weights: Mapping[str, np.ndarray],
        method: str,
        settings: TrainSettings,
        folder: str | None,
        report: Callable[[float, str, Any], None],
        wanted: Callable[[], bool],
    ) -> None:
        if task.batches is None or task.loss is None or task.steps_an_epoch is None:
            raise UnavailableError(f"The {task.title} cannot be trained: there is no training data for it.")
        self._task, self._method, self._settings, self._folder = task, method, settings, folder
        self._report, self._wanted = report, wanted
        self._epoch_steps = task.steps_an_epoch(settings.batch)
        if self._epoch_steps < 1:
            raise InputError(
                f"a batch of {settings.batch:,} is more than the training data of the {task.title} has; "
                "take a smaller one."
            )
        self._steps = max(1, round(settings.epochs * self._epoch_steps))
        self._every = settings.eval_every or max(1, math.ceil(self._steps / _POINTS))
        self._fingerprint = checkpoints.fingerprint(task.name, weights, method, settings.as_dict())
        self._step, self._before = 0, None
        self._curve = Curve()
        self._began, self._spent, self._saved_at, self._saved_step = time.monotonic(), 0.0, -math.inf, None
        self._start(weights)

    # ---- the whole run ------------------------------------------------------------------------------------

    def go(self) -> Trained:
        """Train to the end.

        Raises
        ------
        GiveWay
            Another job waits.
        InputError
            The training diverged.
        """
        if self._before is None:
            self._before = self._measure("the accuracy before", 0.0, 0.0)
        first, begun = self._step, time.monotonic()
        while True:
            self._save_or_give_way()
            self._sparsifier.before(self._step)
            if self._step % self._every == 0 or self._step == self._steps:
                self._add_point()
            if self._step == self._steps:
                break
            self._train_step()
            self._step += 1
            pace = (time.monotonic() - begun) / (self._step - first)
            self._say(pace * (self._steps - self._step))
        return self._result()

    def _start(self, weights: Mapping[str, np.ndarray]) -> None:
        import torch

        torch.manual_seed(self._settings.seed)
        self._network = self._task.network(weights)
        make = _SPARSIFIERS[self._method]
        examples = self._epoch_steps * self._settings.batch
        self._sparsifier = make(self._task, self._network, self._settings, self._steps, examples)
        self._optimizer = make_optimizer(self._network, self._sparsifier, self._settings)
        self._batches = self._task.batches(self._settings.seed, self._settings.batch)
        self._outputs: Any = None
        self._network.module.register_forward_hook(self._keep_outputs)
        found = checkpoints.load(self._folder) if self._folder is not None else None
        if found is not None:
            self._go_on_from(*found)

    def _keep_outputs(self, module: Any, inputs: Any, outputs: Any) -> None:
        self._outputs = outputs

    # ---- one step -----------------------------------------------------------------------------------------

    def _train_step(self) -> None:
        inputs, targets = next(self._batches)
        module = self._network.module
        module.train()
        loss = self._task.loss(self._network, inputs, targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"the training diverged at step {self._step:,}: the loss is {value}; a lower learning rate "
                "is needed."
            )
        self._curve.add(value, self._outputs, targets)
        self._outputs = None
        penalty = self._sparsifier.penalty(self._step)
        self._optimizer.zero_grad(set_to_none=True)
        (loss if penalty is None else loss + penalty).backward()
        set_rates(self._optimizer, self._settings, self._step, *self._sparsifier.round_of(self._step))
        self._optimizer.step()
        self._sparsifier.after_step()

    def _add_point(self) -> None:
        with self._sparsifier.settled():
            found = self._task.evaluate(self._network, limit=self._settings.eval_examples)
        self._curve.point(
            step=self._step,
            epoch=self._step / self._epoch_steps,
            accuracy=found[self._task.metric.name],
            sparsity=self._sparsifier.sparsity(),
            rate=self._optimizer.param_groups[0]["lr"],
            seconds=self._seconds(),
        )

    def _measure(self, what: str, begin: float, end: float) -> dict[str, float]:
        def step(fraction: float, message: str) -> None:
            if self._wanted() and self._folder is not None:
                raise GiveWay
            self._report(begin + fraction * (end - begin), f"Measuring {what}: {message}", None)

        return self._task.evaluate(self._network, step)

    def _result(self) -> Trained:
        masks = self._sparsifier.masks()
        with self._sparsifier.settled():
            after = self._measure("the accuracy after", _SHARE_OF_TRAINING, 1.0)
            weights = self._network.weights()
        zeros = {name: int(weights[name].size - np.count_nonzero(weights[name])) for name in masks}
        size = sum(weights[name].size for name in masks)
        return Trained(
            task=self._task.name,
            method=self._method,
            settings=self._settings.as_dict(),
            weights=weights,
            masks=masks,
            curve=self._curve.points,
            before=self._before,
            after=after,
            sparsity=sum(zeros.values()) / size if size else 0.0,
            per_layer={name: zeros[name] / weights[name].size for name in masks},
            steps=self._steps,
            epochs=self._steps / self._epoch_steps,
            seconds=self._seconds(),
            data=self._task.data(),
            versions=versions(),
        )

    # ---- saving and going on ------------------------------------------------------------------------------

    def _save_or_give_way(self) -> None:
        if self._folder is None:
            return
        wanted = self._wanted()
        late = time.monotonic() - self._saved_at >= self._settings.checkpoint_seconds
        if wanted or late or self._step == self._steps:
            self._save()
        if wanted:
            self._say(None)
            raise GiveWay

    def _save(self) -> None:
        import torch

        if self._saved_step == self._step:
            return
        tensors = {f"weight.{name}": x for name, x in self._network.parameters.items()}
        tensors |= {f"method.{name}": x for name, x in self._sparsifier.state().items()}
        tensors |= {f"optimizer.{name}": x for name, x in state_of(self._optimizer).items()}
        tensors["rng"] = torch.get_rng_state()
        facts = {
            "fingerprint": self._fingerprint,
            "task": self._task.name,
            "method": self._method,
            "step": self._step,
            "steps": self._steps,
            "before": self._before,
            "seconds": self._seconds(),
            "curve": self._curve.as_dict(),
        }
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
        checkpoints.save(self._folder, arrays, facts)
        self._saved_at, self._saved_step = time.monotonic(), self._step

    def _go_on_from(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        import torch

        if facts["fingerprint"] != self._fingerprint or facts["steps"] != self._steps:
            raise InputError(
                f"The folder {self._folder} holds the checkpoint of another training (other first weights, "
                "settings or data); give another folder, or remove it."
            )
        share = _SHARE_OF_TRAINING * facts["step"] / self._steps
        self._report(share, f"Going on from step {facts['step']:,}", None)
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        part = {
            kind: {name.removeprefix(kind): x for name, x in tensors.items() if name.startswith(kind)}
            for kind in ("weight.", "method.", "optimizer.")
        }
        with torch.no_grad():
            for name, parameter in self._network.parameters.items():
                parameter.copy_(part["weight."][name])
        self._sparsifier.load(part["method."])
        load_state(self._optimizer, part["optimizer."])
        for _ in range(facts["step"]):  # the data comes in the order that it had
            next(self._batches)
        self._step, self._before, self._spent = facts["step"], facts["before"], facts["seconds"]
        self._curve = Curve.of(facts["curve"])
        self._saved_at, self._saved_step = time.monotonic(), self._step
        torch.set_rng_state(tensors["rng"])

    # ---- what is told -------------------------------------------------------------------------------------

    def _seconds(self) -> float:
        return self._spent + time.monotonic() - self._began

    def _say(self, left: float | None) -> None:
        """Report the step that was just done; `left` are the seconds that the training still takes."""
        sparsity = self._curve.points[-1]["sparsity"] if self._curve.points else 0.0
        words = [f"Step {self._step:,} of {self._steps:,}"]
        if self._curve.loss is not None:
            words.append(f"loss {self._curve.loss:.3f}")
        words.append(f"sparsity {100 * sparsity:.1f} %")
        if left is not None:
            words.append(f"{_duration(left)} left")
        partial = {
            "task": self._task.name,
            "method": self._method,
            "metric": self._task.metric.name,
            "step": self._step,
            "steps": self._steps,
            "epoch": self._step / self._epoch_steps,
            "epochs": self._steps / self._epoch_steps,
            "sparsity": sparsity,
            "target": self._sparsifier.target(self._step),
            "seconds": self._seconds(),
            "seconds_left": left,
            "saved_step": self._saved_step,
            "before": self._before,
            "curve": list(self._curve.points),
        }
        self._report(_SHARE_OF_TRAINING * self._step / self._steps, " · ".join(words), partial)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min"
