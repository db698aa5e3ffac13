"""Linear layers and convolutions whose products are computed in another way while they train."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from csbviz.errors import OptionError

if TYPE_CHECKING:
    import torch

    from csbviz.tasks import Network

__all__ = ["Product", "product_of", "replace_forward"]

Product = Callable[..., Any]


def product_of(network: Network, name: str, method: str) -> tuple[torch.nn.Module, Product]:
    """Find the layer that multiplies by a weight, and its product with any weight of that shape.

    Returns
    -------
    layer : torch.nn.Module
    product : callable
        product(inputs, weight, bias) → outputs.

    Raises
    ------
    OptionError
        The weight is not that of a plain linear layer or convolution.
    """
    import torch
    from torch.nn import functional as F

    layer = network.readers.get(name)
    plain = isinstance(layer, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d))
    if (
        not plain
        or layer.weight is not network.parameters[name]
        or getattr(layer, "padding_mode", "zeros") != "zeros"
    ):
        raise OptionError(
            f"{method} needs plain linear layers and convolutions, and {name!r} is neither; leave it out of "
            "the layers, or take another training method."
        )
    if isinstance(layer, torch.nn.Linear):
        return layer, F.linear
    convolve = F.conv1d if isinstance(layer, torch.nn.Conv1d) else F.conv2d
    shape = (layer.stride, layer.padding, layer.dilation, layer.groups)

    def product(inputs, weight, bias):
        return convolve(inputs, weight, bias, *shape)

    return layer, product


def replace_forward(layer: torch.nn.Module, train: Callable[[Any], Any]) -> None:
    """Have a layer compute `train(inputs)` in training mode, and what it always does in evaluation."""
    usual = type(layer).forward

    def forward(inputs):
        return train(inputs) if layer.training else usual(layer, inputs)

    layer.forward = forward
