"""What the data says of a model's weights: gradients of the loss, and what the inputs of each layer are like.

`collect` runs the task's calibration examples through the network once. It listens at `Network.readers`, so
that a weight used at many places (the positions of an image, the steps of a recurrent network) sees all of
them. Nothing is kept of an example but its share in the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import InputError, MatrixError, OptionError
from csbviz.tasks.registry import task_named

if TYPE_CHECKING:
    import torch

    from csbviz.tasks import Network, Task

__all__ = ["KINDS", "MOST_INPUTS", "Evidence", "collect", "collect_for", "inputs_of"]

KINDS = ("gradients", "input_norms", "second_moments")
MOST_INPUTS = 8192  # of a layer whose second moments are kept: 268 MB in float32
_PIECE = 1 << 24  # numbers of an unfolded convolution's input at a time, 64 MB in float32


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen of each weight; plain arrays, so that it can be handed to another process.

    Attributes
    ----------
    gradients : dict of str to numpy.ndarray
        Name of the weight → gradient of the mean loss over all examples; float32, the weight's shape in the
        file.
    input_norms : dict of str to numpy.ndarray
        Name → ‖x_j‖₂ of each input j of the layer's matrix product, over all examples and positions; float32,
        (cols,).
    second_moments : dict of str to numpy.ndarray
        Name → Σ x xᵀ over all examples and positions; float32, (cols, cols), symmetric.
    examples : int
        How many training examples were seen.
    source : str
        One sentence for people: which data this is.
    """

    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)
    input_norms: Mapping[str, np.ndarray] = field(default_factory=dict)
    second_moments: Mapping[str, np.ndarray] = field(default_factory=dict)
    examples: int = 0
    source: str = ""


def collect(
    task: Task,
    network: Network,
    needs: Collection[str],
    count: int = 512,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Evidence:
    """Run training examples through a network, and sum up what a method needs to know.

    Parameters
    ----------
    task : Task
        Its `calibration` gives the examples; never the test data.
    network : Network
        It is run as for a measurement (no dropout), and left as it was.
    needs : collection of str
        Names among `KINDS`, such as `Method.needs`.
    count : int
        Examples, at least 1; fewer where the task has no more.
    seed : int
        Of the choice of examples, at least 0.
    progress : callable, optional
        Called as progress(fraction, message) after each batch; whatever it raises ends the work.

    Returns
    -------
    Evidence
        A weight that no product of the network reads (an embedding, an unused layer) has no norms and no
        moments; one that the loss does not depend on has no gradient; a layer of more than `MOST_INPUTS`
        inputs has no moments. The groups of a grouped convolution share their weights' columns, so their
        inputs are taken together.

    Raises
    ------
    OptionError
        An unknown name in `needs`, or a count or seed that is no such number.
    InputError
        The task has no training data, or no loss where gradients are needed.
    MatrixError
        The network gives NaN or infinity on these examples.
    UnavailableError
        The data is not on this machine.

    Notes
    -----
    The gradient is that of the mean of the batches' losses, weighted by their numbers of examples.
    """
    import torch

    _check(task, needs, count, seed)
    batches = task.calibration(count, seed)
    sizes = [len(targets) for _, targets in batches]
    total, done = sum(sizes), 0
    sums = _Sums(network, needs)
    module = network.module
    was_training = module.training
    module.eval()
    try:
        with sums.listening(), torch.set_grad_enabled("gradients" in needs):
            for (inputs, targets), size in zip(batches, sizes, strict=True):
                if "gradients" in needs:
                    sums.add_gradients(task.loss(network, inputs, targets), size / total)
                else:
                    module(inputs)
                done += size
                if progress is not None:
                    progress(done / total, f"{done:,} of {total:,} examples")
    finally:
        module.train(was_training)
    source = f"{total:,} training examples of {task.title}, drawn with the seed {seed}."
    return sums.evidence(total, source)


def collect_for(
    task: str,
    weights: Mapping[str, np.ndarray],
    needs: Collection[str],
    count: int = 512,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Evidence:
    """Do the same as a job: with the name of the task, and what `Task.weights_of` gives.

    Raises
    ------
    OptionError
        There is no such task; else as `collect`.
    """
    chosen = task_named(task)
    return collect(chosen, chosen.network(weights), needs, count, seed, progress)


class _Sums:
    """Running sums for every weight, and the hooks that feed them."""

    def __init__(self, network: Network, needs: Collection[str]):
        self._network, self._needs = network, needs
        self._squares: dict[str, torch.Tensor] = {}
        self._moments: dict[str, torch.Tensor] = {}
        self._gradients: dict[str, torch.Tensor] = {}
        self._leaves = {
            name: parameter
            for name, parameter in network.parameters.items()
            if parameter.dim() >= 2 and parameter.requires_grad
        }

    def listening(self):
        """Hear the inputs of all readers while the context lasts."""
        from contextlib import ExitStack

        stack = ExitStack()
        if {"input_norms", "second_moments"} & set(self._needs):
            for name, reader in self._network.readers.items():
                hook = reader.register_forward_pre_hook(self._hook(name))
                stack.callback(hook.remove)
        return stack

    def add_gradients(self, loss: torch.Tensor, share: float) -> None:
        """Add this batch's share of the gradient of the mean loss."""
        import torch

        found = torch.autograd.grad(loss, list(self._leaves.values()), allow_unused=True)
        for name, gradient in zip(self._leaves, found, strict=True):
            if gradient is None:
                continue
            if name in self._gradients:
                self._gradients[name].add_(gradient, alpha=share)
            else:
                self._gradients[name] = gradient.detach().mul(share)

    def evidence(self, examples: int, source: str) -> Evidence:
        """Give what was summed up.

        Raises
        ------
        MatrixError
            Some of it is NaN or infinite.
        """
        found = {
            "gradients": self._gradients,
            "input_norms": {name: squares.sqrt().float() for name, squares in self._squares.items()},
            "second_moments": self._moments,
        }
        arrays = {
            kind: {name: tensor.numpy() for name, tensor in tensors.items()} if kind in self._needs else {}
            for kind, tensors in found.items()
        }
        for kind, named in arrays.items():
            for name, array in named.items():
                if not np.isfinite(array).all():
                    raise MatrixError(
                        f"the {kind.replace('_', ' ')} of {name} are not finite on the calibration data; a "
                        "model whose values stay finite is needed."
                    )
                array.flags.writeable = False
        return Evidence(**arrays, examples=examples, source=source)

    def _hook(self, name: str):
        def hear(reader, arguments):
            import torch

            with torch.no_grad():
                for inputs in inputs_of(reader, arguments[0].detach()):
                    self._add(name, inputs.float())

        return hear

    def _add(self, name: str, inputs: torch.Tensor) -> None:
        import torch

        width = inputs.shape[1]
        if "input_norms" in self._needs:
            squares = inputs.square().sum(0, dtype=torch.float64)
            self._squares[name] = self._squares[name] + squares if name in self._squares else squares
        if "second_moments" in self._needs and width <= MOST_INPUTS:
            if name not in self._moments:
                self._moments[name] = torch.zeros(width, width)
            self._moments[name].addmm_(inputs.T, inputs)


def inputs_of(reader: torch.nn.Module, x: torch.Tensor):
    """Give what a layer's matrix is multiplied with, piece by piece.

    Parameters
    ----------
    reader : torch.nn.Module
        `Linear`, or a convolution of one to three dimensions. Any other kind gives nothing.
    x : torch.Tensor
        The input of its forward pass.

    Yields
    ------
    torch.Tensor
        (n, cols): one row for each example and position; of a convolution each window as the weight's
        (in, kh, kw) has it, and for each of its groups.
    """
    from torch import nn

    if isinstance(reader, nn.Linear):
        yield x.reshape(-1, x.shape[-1])
    elif isinstance(reader, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        if x.dim() == len(reader.kernel_size) + 1:
            x = x.unsqueeze(0)
        for begin, end in _pieces(reader, x):
            yield _windows(reader, x[begin:end])


def _pieces(conv: Any, x: torch.Tensor):
    """Ranges of examples whose windows together stay within the bound of memory."""
    out = math.prod(
        max(1, (length + 2 * size) // step)
        for length, size, step in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)
    )
    at_once = max(1, _PIECE // max(1, out * x.shape[1] * math.prod(conv.kernel_size)))
    for begin in range(0, len(x), at_once):
        yield begin, begin + at_once


def _windows(conv: Any, x: torch.Tensor) -> torch.Tensor:
    """All windows that a convolution looks at, (examples · positions · groups, in / groups · kernel)."""
    from torch.nn import functional as F

    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    x = F.pad(x, _padding(conv), mode=mode)
    dims = len(conv.kernel_size)
    for dim, (size, step, apart) in enumerate(
        zip(conv.kernel_size, conv.stride, conv.dilation, strict=True), start=2
    ):
        x = x.unfold(dim, apart * (size - 1) + 1, step)[..., ::apart]
    x = x.movedim(1, 1 + dims)  # (examples, positions…, channels, kernel…)
    return x.reshape(-1, conv.in_channels // conv.groups * math.prod(conv.kernel_size))


def _padding(conv: Any) -> list[int]:
    """What `torch.nn.functional.pad` wants: before and after, the last dimension first."""
    pads = []
    for index in reversed(range(len(conv.kernel_size))):
        if conv.padding == "same":
            both = conv.dilation[index] * (conv.kernel_size[index] - 1)
            pads += [both // 2, both - both // 2]
        else:
            pads += [0, 0] if conv.padding == "valid" else [conv.padding[index]] * 2
    return pads


def _check(task: Task, needs: Collection[str], count: int, seed: int) -> None:
    for need in needs:
        if need not in KINDS:
            raise OptionError(f"{need!r} cannot be collected of a weight; there is {', '.join(KINDS)}.")
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not whole or value < least:
            raise OptionError(f"the {name} of the examples is {value!r}; a whole number ≥ {least} is needed.")
    if task.calibration is None or ("gradients" in needs and task.loss is None):
        raise InputError(
            f"there is {'no loss' if task.calibration else 'no training data'} for {task.title}, which this "
            "method needs; choose magnitude, l2 or random."
        )
