"""Coarse pruning search: draw random masks, keep the one with the fewest errors, and retrain.

Whole kernels or feature maps go, so that what is left is dense work. Which ones is left to chance: of N
drawn masks the one that misclassifies the least stays. No candidate is ever judged by test data.

References
----------
Anwar, Sung: Coarse Pruning of Convolutional Neural Networks with Random Masks, 2016.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from csbviz.errors import InputError, OptionError, UnavailableError
from csbviz.pruning.study_points import RANDOM, Point, layers_of, pruned_weights
from csbviz.tasks.registry import task_named
from csbviz.tasks.task import Network, Task

__all__ = ["GRANULARITIES", "Searched", "search"]

GRANULARITIES = ("kernel", "filter")
"""Kernels (from one input channel to one output channel), or filters, each of which makes a feature map."""

_SEARCH_SHARE = 0.3  # of the progress, when a training follows


@dataclass(frozen=True, eq=False)
class Searched:
    """What a search found.

    Attributes
    ----------
    task, granularity : str
    sparsity, seed
        As asked for.
    layers : list of str
    candidates : list of dict
        Of every mask that was drawn: "index", "seed", "error" (misclassification rate on training examples,
        0 to 1) and "sparsity" (share of zeros of the layers).
    best : int
        Index of the one with the lowest error; of equal ones the first.
    masks : dict of str to numpy.ndarray
        Of the best one; boolean, True where a weight stays.
    weights : dict of str to numpy.ndarray
        All tensors, pruned, and retrained where that was asked for.
    sparsity_reached : float
        Share of zeros of the layers at the end.
    before, pruned : dict
        Metrics of the test data, of the given weights and of the best candidate.
    after : dict or None
        After retraining.
    curve : list of dict
        Of the retraining; see `Trained`.
    seconds : float
    examples : int
        Training examples that judged the candidates.
    retrain : dict or None
    versions : dict of str to str
    """

    task: str
    granularity: str
    sparsity: float
    seed: int
    layers: list[str]
    candidates: list[dict[str, Any]]
    best: int
    masks: Mapping[str, np.ndarray] = field(repr=False)
    weights: Mapping[str, np.ndarray] = field(repr=False)
    sparsity_reached: float
    before: dict[str, float]
    pruned: dict[str, float]
    after: dict[str, float] | None
    curve: list[dict[str, Any]] = field(repr=False)
    seconds: float
    examples: int
    retrain: dict[str, Any] | None
    versions: dict[str, str]

    def record(self) -> dict[str, Any]:
        """Give all but the arrays, JSON-safe."""
        return {name: value for name, value in vars(self).items() if name not in ("masks", "weights")}


class _GiveWay(Exception):
    """Another job waits."""


def search(
    task: str | Task,
    weights: Mapping[str, np.ndarray],
    granularity: str = "kernel",
    sparsity: float = 0.85,
    count: int = 100,
    seed: int = 0,
    layers: Sequence[str] | None = None,
    examples: int = 1000,
    retrain: Mapping[str, Any] | None = None,
    checkpoint: str | None = None,
    candidates: Sequence[Mapping[str, Any]] = (),
    progress: Callable[..., None] | None = None,
) -> Searched | Any:
    """Draw masks, keep the best, retrain.

    Parameters
    ----------
    task : str or Task
        One whose network gives a score for each class, and that has training data.
    weights : mapping of str to numpy.ndarray
        What `Task.weights_of` gives.
    granularity : {"kernel", "filter"}
    sparsity : float
        Share of the kernels or filters of the layers that go.
    count : int
        Masks to draw, at least 1. The mask i is that of the method "random" with the seed `seed` + i.
    seed : int
    layers : sequence of str, optional
        Every convolution otherwise.
    examples : int
        Training examples on which candidates are judged.
    retrain : mapping, optional
        Settings of the training method "finetune"; the masks stay as they are. Without it nothing is trained.
    checkpoint : str, optional
        A folder for the retraining's checkpoints; the service's usual one otherwise.
    candidates : sequence of mapping
        Those that are judged already, when a paused search goes on.
    progress : callable, optional
        As in `csbviz.pruning.study.study`.

    Returns
    -------
    Searched
        Or what ``progress.paused(…)`` gives, when another job waits.

    Raises
    ------
    OptionError, InputError
        What is asked for cannot be.
    UnavailableError
        The task's data is not on this machine.
    """
    task = task if isinstance(task, Task) else task_named(task)
    _check(task, granularity, count, examples)
    if layers is None:
        layers = [name for name, kind in layers_of(weights).items() if kind == "conv"]
    if not layers:
        raise InputError("the coarse search prunes convolutions, and this model has none.")
    layers = list(layers_of(weights, layers))
    if missing := task.available():
        raise UnavailableError(missing)
    work = _Search(task, weights, granularity, float(sparsity), count, int(seed), layers, examples, progress)
    work.candidates = [dict(candidate) for candidate in candidates]
    try:
        work.draw(retrain is not None)
        return work.finish(None if retrain is None else dict(retrain), checkpoint)
    except _GiveWay:
        given = {"task": task, "weights": weights, "granularity": granularity, "sparsity": sparsity}
        given |= {"count": count, "seed": seed, "layers": layers, "examples": examples, "retrain": retrain}
        return progress.paused(given | {"checkpoint": checkpoint, "candidates": work.candidates})


class _Search:
    """The work of one search."""

    def __init__(self, task, weights, granularity, sparsity, count, seed, layers, examples, progress) -> None:
        self._task, self._weights, self._granularity = task, weights, granularity
        self._sparsity, self._count, self._seed = sparsity, count, seed
        self._layers, self._examples = layers, examples
        self._progress, self._live = progress, hasattr(progress, "wanted")
        self._begun = time.monotonic()
        self.candidates: list[dict[str, Any]] = []

    def pruned_with(self, seed: int) -> dict[str, np.ndarray]:
        """Give all weights with the mask of this seed."""
        point = Point(RANDOM, self._granularity, {}, self._sparsity, seed)
        return pruned_weights(self._weights, point, "global", self._layers)[0]

    def draw(self, training_follows: bool) -> None:
        """Judge every mask that is not judged yet."""
        data = self._task.calibration(self._examples, self._seed)
        share = _SEARCH_SHARE if training_follows else 1.0
        for index in range(len(self.candidates), self._count):
            self._say(share * index / self._count, f"Mask {index + 1:,} of {self._count:,}", "candidates")
            pruned = self.pruned_with(self._seed + index)
            self.candidates.append(
                {
                    "index": index,
                    "seed": self._seed + index,
                    "error": _misclassified(self._task.network(pruned), data),
                    "sparsity": self._share_of_zeros(pruned),
                }
            )

    @property
    def best(self) -> int | None:
        """Index of the best candidate so far."""
        return min(range(len(self.candidates)), key=lambda i: self.candidates[i]["error"], default=None)

    def finish(self, retrain: dict[str, Any] | None, checkpoint: str | None) -> Searched:
        """Measure the best one, and retrain it."""
        from csbviz.pruning.training.versions import versions

        pruned = self.pruned_with(self._seed + self.best)
        masks = {name: pruned[name] != 0 for name in self._layers}
        before = self._task.evaluate(self._task.network(self._weights))
        at_once = self._task.evaluate(self._task.network(pruned))
        trained = None if retrain is None else self._trained(pruned, retrain, checkpoint)
        weights = pruned if trained is None else dict(trained.weights)
        return Searched(
            task=self._task.name,
            granularity=self._granularity,
            sparsity=self._sparsity,
            seed=self._seed,
            layers=self._layers,
            candidates=self.candidates,
            best=self.best,
            masks=masks,
            weights=weights,
            sparsity_reached=self._share_of_zeros(weights),
            before=before,
            pruned=at_once,
            after=None if trained is None else trained.after,
            curve=[] if trained is None else trained.curve,
            seconds=round(time.monotonic() - self._begun, 1),
            examples=self._examples,
            retrain=retrain,
            versions=versions(),
        )

    def _trained(self, pruned: Mapping[str, np.ndarray], retrain: dict[str, Any], checkpoint: str | None):
        from csbviz.pruning.training import checkpoint_folder, train

        settings = {"seed": self._seed, **retrain, "sparsity": None, "layers": tuple(self._layers)}
        if self._live and checkpoint is None:
            checkpoint = checkpoint_folder(self._task.name, pruned, "finetune", settings)
        guard = _Guard(self) if self._live else None
        trained = train(self._task, pruned, "finetune", settings, checkpoint, guard)
        if trained is None:
            raise _GiveWay
        return trained

    def _share_of_zeros(self, weights: Mapping[str, np.ndarray]) -> float:
        size = sum(weights[name].size for name in self._layers)
        return 1 - sum(int(np.count_nonzero(weights[name])) for name in self._layers) / size

    def wanted(self) -> bool:
        """Whether another job waits."""
        return self._live and self._progress.wanted()

    def _say(self, fraction: float, message: str, stage: str) -> None:
        if self.wanted():
            raise _GiveWay
        self.say(fraction, message, stage)

    def say(self, fraction: float, message: str, stage: str, training: Any = None) -> None:
        """Report the candidates so far, and how the training stands."""
        if self._live:
            partial = {"stage": stage, "candidates": list(self.candidates), "best": self.best}
            self._progress(fraction, message, partial={**partial, "count": self._count, "training": training})
        elif self._progress is not None:
            self._progress(fraction, message)


class _Guard:
    """The progress of the retraining: it saves and stops when another job waits."""

    def __init__(self, work: _Search) -> None:
        self._work = work

    def __call__(self, fraction: float, message: str = "", partial: Any = None) -> None:
        whole = _SEARCH_SHARE + (1 - _SEARCH_SHARE) * fraction
        self._work.say(whole, f"Retraining: {message}", "retraining", partial)

    def wanted(self) -> bool:
        return self._work.wanted()

    def paused(self, kwargs: Any = None) -> None:
        return None


def _misclassified(network: Network, data: Sequence[tuple[Any, Any]]) -> float:
    """Share of examples whose class does not get the highest score."""
    import torch

    module, wrong, total = network.module, 0, 0
    module.eval()
    with torch.inference_mode():
        for inputs, targets in data:
            scores = module(inputs)
            if scores.dim() != 2 or scores.shape[0] != len(targets):
                raise InputError(
                    f"the coarse search needs a score for each class, and this network gives {scores.dim()} "
                    "dimensions."
                )
            wrong += int((scores.argmax(1) != targets).sum())
            total += len(targets)
    return wrong / total


def _check(task: Task, granularity: str, count: int, examples: int) -> None:
    if granularity not in GRANULARITIES:
        raise OptionError(
            f"the coarse search knows the granularities {' and '.join(GRANULARITIES)}, not {granularity!r}."
        )
    for what, value in (("count of masks", count), ("number of examples", examples)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise OptionError(f"the {what} is {value!r}; a whole number of at least 1 is needed.")
    if task.calibration is None:
        raise InputError(f"there is no training data for {task.title}, which judges the masks of a search.")
