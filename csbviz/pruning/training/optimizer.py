"""The optimizer of a training run: which parameters, at which rates, and its state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from csbviz.pruning.training.settings import TrainSettings
    from csbviz.pruning.training.sparsifier import Sparsifier
    from csbviz.tasks import Network

__all__ = ["load_state", "make_optimizer", "rate_factor", "set_rates", "state_of"]

_RISE = 0.05  # share of a round over which the learning rate rises


def make_optimizer(
    network: Network, sparsifier: Sparsifier, settings: TrainSettings
) -> torch.optim.Optimizer:
    """Make the optimizer for all trainable parameters; only weights of two dimensions or more decay."""
    import torch

    free = {id(x): x for x in network.parameters.values() if x.requires_grad}.values()
    groups = [
        {"params": [x for x in free if x.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [x for x in free if x.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [{"highest": settings.learning_rate, **group} for group in groups + sparsifier.parameters()]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def rate_factor(schedule: str, step: int, begin: int, length: int) -> float:
    """Give the share of the highest learning rate at a step of a round, 0 to 1."""
    done = step - begin
    rise = max(1, round(_RISE * length))
    if done < rise:
        return (done + 1) / rise
    if schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1, length - rise)))


def set_rates(
    optimizer: torch.optim.Optimizer, settings: TrainSettings, step: int, begin: int, length: int
) -> None:
    """Set the learning rate of every group for a step."""
    factor = rate_factor(settings.rate_schedule, step, begin, length)
    for group in optimizer.param_groups:
        group["lr"] = group["highest"] * factor


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Give the optimizer's memory as tensors named "parameter's number.what"."""
    import torch

    return {
        f"{index}.{what}": torch.as_tensor(value)
        for index, parameter in enumerate(_parameters(optimizer))
        for what, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, torch.Tensor]) -> None:
    """Take back what `state_of` gave."""
    parameters = _parameters(optimizer)
    for name, value in state.items():
        index, _, what = name.partition(".")
        optimizer.state[parameters[int(index)]][what] = value


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
