"""`Sparsifier`: what a training method does to the weights around each training step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import InputError
from csbviz.models.kinds import kind_of

if TYPE_CHECKING:
    import torch

    from csbviz.pruning.training.settings import TrainSettings
    from csbviz.tasks import Network, Task

__all__ = ["Sparsifier", "chosen_layers"]

_BY_DEFAULT = ("linear", "conv", "recurrent")


def chosen_layers(network: Network, layers: tuple[str, ...] | None) -> dict[str, str]:
    """Give the names and kinds of the weights to prune, in the file's order.

    Raises
    ------
    InputError
        A layer is unknown, or no weight of two dimensions or more.
    """
    kinds = {
        name: kind_of(name, tuple(tensor.shape), "float32")
        for name, tensor in network.parameters.items()
        if tensor.dim() >= 2 and tensor.is_floating_point()
    }
    if layers is None:
        return {name: kind for name, kind in kinds.items() if kind in _BY_DEFAULT}
    for name in layers:
        if name not in kinds:
            known = ", ".join(list(kinds)[:4])
            raise InputError(f"there is no weight {name!r} to prune; there are {known}, …")
    return {name: kind for name, kind in kinds.items() if name in layers}


class Sparsifier:
    """The part of a training run that makes weights zero. This one keeps those zero that are so at first.

    Parameters
    ----------
    task : Task
    network : Network
        Its parameters are changed in place.
    settings : TrainSettings
    steps, examples : int
        Training steps of the whole run, and examples in one pass over the data.

    Attributes
    ----------
    weights : dict of str to torch.nn.Parameter
        The chosen weights.
    """

    reads_products = False
    """Whether weights that no product reads (an unused layer) are left out unless they are named."""

    def __init__(
        self, task: Task, network: Network, settings: TrainSettings, steps: int, examples: int
    ) -> None:
        self.task, self.network, self.settings = task, network, settings
        self.steps, self.examples = steps, examples
        self.kinds = chosen_layers(network, settings.layers)
        if self.reads_products and settings.layers is None:
            self.kinds = {name: kind for name, kind in self.kinds.items() if name in network.readers}
        self.weights = {name: network.parameters[name] for name in self.kinds}
        self._gone: dict[str, torch.Tensor] = {name: x.detach() == 0 for name, x in self.weights.items()}

    # ---- what the training loop calls, in this order ------------------------------------------------------

    def parameters(self) -> list[dict[str, Any]]:
        """Groups of further parameters for the optimizer."""
        return []

    def round_of(self, step: int) -> tuple[int, int]:
        """Give first step and length of the round in which the learning rate rises and falls once."""
        return 0, max(1, self.steps)

    def before(self, step: int) -> None:
        """Choose new masks if this step wants them."""

    def penalty(self, step: int) -> torch.Tensor | None:
        """What is added to the loss."""
        return None

    def after_step(self) -> None:
        """Set what is pruned to zero again."""
        import torch

        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.masked_fill_(self._gone[name], 0.0)

    # ---- what is asked in between -------------------------------------------------------------------------

    def target(self, step: int) -> float | None:
        """Sparsity asked for at a step, if one is."""
        return None

    def gone(self) -> dict[str, torch.Tensor]:
        """For each chosen weight a boolean tensor, True where it is pruned as things stand."""
        return self._gone

    def masks(self) -> dict[str, np.ndarray]:
        """For each chosen weight a boolean array, True where it stays."""
        return {name: ~gone.cpu().numpy() for name, gone in self.gone().items()}

    def sparsity(self) -> float:
        """Share of the chosen weights that are pruned, 0 to 1."""
        gone = self.gone().values()
        size = sum(x.numel() for x in gone)
        return sum(int(x.sum()) for x in gone) / size if size else 0.0

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Have the network hold the weights that it would be used with."""
        yield

    def state(self) -> dict[str, torch.Tensor]:
        """Tensors that a checkpoint needs beside the network's own."""
        return {f"gone.{name}": gone for name, gone in self._gone.items()}

    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back what `state` gave."""
        self._gone = {name: state[f"gone.{name}"] for name in self._gone}
