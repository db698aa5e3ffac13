"""`Task`: what a model must be able to do, so that pruning can be judged; `Network`: its weights at work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from csbviz.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from csbviz.models import Model

__all__ = ["Metric", "Network", "Task", "judging", "missing_data", "picks"]

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Metric:
    """A share of right answers.

    Attributes
    ----------
    name : str
        Key of the results, such as "top1".
    title : str
        Name for people, such as "Top-1 accuracy".
    chance : float
        What guessing reaches, 0 to 1.
    """

    name: str
    title: str
    chance: float = 0.0


@dataclass(frozen=True, eq=False)
class Network:
    """A model as a PyTorch module, with the file's tensor names still known.

    Attributes
    ----------
    module : torch.nn.Module
        Called with the inputs of a batch, gives what `Task.loss` and `Task.evaluate` want.
    parameters : mapping of str to torch.nn.Parameter
        Every tensor of the file by its name there, in the file's shape.
    readers : mapping of str to torch.nn.Module
        For each prunable weight the submodule (`Linear`, `Conv2d`, …) whose forward input the weight
        multiplies: where calibration listens. A weight that no product reads (an embedding) is absent.
    products : mapping of str to int
        For each prunable weight the number of columns N of its matrix product for one example: output
        positions of a convolution, tokens of a sentence, 1 for a plain linear layer. FLOPs are 2 * nnz * N.
    """

    module: torch.nn.Module
    parameters: Mapping[str, torch.nn.Parameter]
    readers: Mapping[str, torch.nn.Module]
    products: Mapping[str, int]

    def weights(self) -> dict[str, np.ndarray]:
        """Copies of all tensors, by their names in the file."""
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.parameters.items()}


@dataclass(frozen=True, eq=False)
class Task:
    """Data, forward pass, loss and accuracy for one kind of model. A new task is one module and one entry.

    Attributes
    ----------
    name, title, summary : str
    sample : str
        Id of the sample model that it is for; "" when it is for a user's own file.
    metrics : tuple of Metric
        What `evaluate` measures; the first is the one that figures show.
    shapes : mapping of str to tuple of int
        Names and shapes of the tensors that a model must have.
    network : callable
        network(weights) → Network; `weights` maps the file's names to arrays, which are copied.
    evaluate : callable
        evaluate(network, progress=None, limit=None) → dict of metric name → share, and "examples": how many.
        `limit` takes the first so many test examples. Always the held-out test data.
    batches : callable or None
        batches(seed, size) → an endless iterator of (inputs, targets) of training data in a seeded order,
        augmented as training wants; None when there is no training data.
    loss : callable or None
        loss(network, inputs, targets) → scalar tensor.
    calibration : callable
        calibration(count, seed) → list of (inputs, targets) batches, `count` examples of training data.
    available : callable
        available() → "" or one sentence: what is missing on this machine and how to get it.
    steps_an_epoch : callable or None
        steps_an_epoch(size) → batches of `size` in one pass over the training data.
    data : callable
        data() → a sentence or two for people: which data training, calibration and `evaluate` use here.
    """

    name: str
    title: str
    summary: str
    sample: str
    metrics: tuple[Metric, ...]
    shapes: Mapping[str, tuple[int, ...]]
    network: Callable[[Mapping[str, np.ndarray]], Network]
    evaluate: Callable[..., dict[str, float]]
    batches: Callable[[int, int], Iterator[tuple[Any, Any]]] | None = None
    loss: Callable[[Network, Any, Any], torch.Tensor] | None = None
    calibration: Callable[[int, int], list[tuple[Any, Any]]] | None = None
    available: Callable[[], str] = field(default=lambda: "")
    steps_an_epoch: Callable[[int], int] | None = None
    data: Callable[[], str] = field(default=lambda: "")

    @property
    def metric(self) -> Metric:
        """The metric that figures show."""
        return self.metrics[0]

    def fits(self, model: Model) -> bool:
        """Tell whether a model has the tensors of this task, by name and shape."""
        return {layer.name: layer.shape for layer in model.layers} == dict(self.shapes)

    def weights_of(self, model: Model) -> dict[str, np.ndarray]:
        """Give the model's tensors as plain float32 arrays, to hand them to another process.

        Raises
        ------
        InputError
            The model is not one of this task.
        MatrixError
            A weight holds NaN or infinity.
        """
        import numpy as np

        if not self.fits(model):
            raise InputError(f"{model.name} does not have the tensors of the {self.title}.")
        return {layer.name: layer.weight().astype(np.float32, copy=False) for layer in model.layers}


@contextmanager
def judging(network: Network) -> Iterator[None]:
    """Let a network answer without dropout and gradients in the block; it trains on as before after it."""
    import torch

    was_training = network.module.training
    network.module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.module.train(was_training)


def missing_data(*loads: Callable[[], Any]) -> str:
    """What stops the first of these from loading its data, in one sentence; "" when all can."""
    try:
        for load in loads:
            load()
    except UnavailableError as error:
        return str(error)
    return ""


def picks(rng: np.random.Generator, count: int, size: int) -> Iterator[np.ndarray]:
    """Give `size` of `count` indices without end, each pass in a new order; a rest is left out."""
    while True:
        order = rng.permutation(count)
        for begin in range(0, count - size + 1, size):
            yield order[begin : begin + size]
