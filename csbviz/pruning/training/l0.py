"""L0 regularisation: each weight has a gate that can close, and every open gate has its price.

A gate is drawn from the hard concrete distribution: s = sigmoid((log u - log(1 - u) + log a) / β) with u
uniform, stretched to (γ, ζ) and cut to [0, 1], so that it is exactly 0 or 1 with some probability and still
has a gradient. The penalty is the expected number of gates that are not 0,

    Σ sigmoid(log a - β log(-γ / ζ)),    β = 2/3, γ = -0.1, ζ = 1.1,

and the network is used with the gates min(1, max(0, sigmoid(log a)(ζ - γ) + γ)).

References
----------
Louizos, Welling, Kingma: Learning Sparse Neural Networks through L0 Regularization, ICLR 2018.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from csbviz.pruning.training.noisy import product_of, replace_forward
from csbviz.pruning.training.sparsifier import Sparsifier

if TYPE_CHECKING:
    import torch

    from csbviz.pruning.training.settings import TrainSettings

__all__ = ["L0Gates", "chance_open", "drawn_gate", "settled_gate"]

_BETA, _GAMMA, _ZETA = 2 / 3, -0.1, 1.1
_FIRST_LOG_A = 2.0  # nearly all gates begin open
_SMALL = 1e-6


def drawn_gate(log_a: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Draw hard concrete gates from uniform numbers between 0 and 1; elementwise, 0 to 1."""
    import torch

    noise = torch.logit(uniform, eps=_SMALL)
    return (torch.sigmoid((noise + log_a) / _BETA) * (_ZETA - _GAMMA) + _GAMMA).clamp(0.0, 1.0)


def settled_gate(log_a: torch.Tensor) -> torch.Tensor:
    """Give the gates without noise that the network is used with; elementwise, 0 to 1."""
    import torch

    return (torch.sigmoid(log_a) * (_ZETA - _GAMMA) + _GAMMA).clamp(0.0, 1.0)


def chance_open(log_a: torch.Tensor) -> torch.Tensor:
    """Give the probability that a gate is not 0; elementwise."""
    import torch

    return torch.sigmoid(log_a - _BETA * math.log(-_GAMMA / _ZETA))


class L0Gates(Sparsifier):
    """A hard concrete gate on each chosen weight, drawn anew for each batch."""

    reads_products = True

    def __init__(self, task, network, settings: TrainSettings, steps: int, examples: int) -> None:
        import torch

        super().__init__(task, network, settings, steps, examples)
        self._log_a = {
            name: torch.nn.Parameter(torch.full_like(weight, _FIRST_LOG_A))
            for name, weight in self.weights.items()
        }
        for name, weight in self.weights.items():
            layer, product = product_of(network, name, "L0 regularisation")
            replace_forward(layer, self._gated(layer, weight, self._log_a[name], product))

    @staticmethod
    def _gated(layer, weight, log_a, product):
        import torch

        def forward(inputs):
            gate = drawn_gate(log_a, torch.rand_like(log_a))
            return product(inputs, weight * gate, layer.bias)

        return forward

    def parameters(self) -> list[dict[str, Any]]:
        rate = self.settings.extra_rate
        return [{"params": list(self._log_a.values()), "highest": rate, "weight_decay": 0.0}]

    def penalty(self, step: int) -> torch.Tensor:
        rise = self.settings.warmup * self.steps
        share = min(1.0, step / rise) if rise else 1.0
        total = sum(chance_open(log_a).sum() for log_a in self._log_a.values())
        return self.settings.strength * share / self.examples * total

    def gone(self) -> dict[str, torch.Tensor]:
        import torch

        with torch.no_grad():
            return {
                name: (settled_gate(log_a) == 0) | self._gone[name] for name, log_a in self._log_a.items()
            }

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        import torch

        free = {name: weight.detach().clone() for name, weight in self.weights.items()}
        with torch.no_grad():
            for name, gone in self.gone().items():
                self.weights[name].mul_(settled_gate(self._log_a[name])).masked_fill_(gone, 0.0)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(free[name])

    def state(self) -> dict[str, torch.Tensor]:
        return super().state() | {f"extra.{name}": x.detach() for name, x in self._log_a.items()}

    def load(self, state) -> None:
        import torch

        super().load(state)
        with torch.no_grad():
            for name, values in self._log_a.items():
                values.copy_(state[f"extra.{name}"])
