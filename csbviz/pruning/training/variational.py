"""Variational dropout: each weight learns a variance, and goes when it is mostly noise.

The approximate posterior of a weight is normal with mean θ and variance σ² = α θ². Both are trained: the
additive-noise parametrisation keeps log σ² as a parameter of its own, so that the noise of the gradient does
not grow with α, and the outputs of a layer are drawn instead of its weights (local reparametrisation). The
penalty is the divergence from the log-uniform prior, which Molchanov et al. approximate by

    KL = -k₁ sigmoid(k₂ + k₃ log α) + ½ log(1 + 1/α) + k₁,    k = (0.63576, 1.87320, 1.48695).

References
----------
Molchanov, Ashukha, Vetrov: Variational Dropout Sparsifies Deep Neural Networks, ICML 2017.
Gale, Elsen, Hooker: The State of Sparsity in Deep Neural Networks, 2019.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from csbviz.pruning.training.noisy import product_of, replace_forward
from csbviz.pruning.training.sparsifier import Sparsifier

if TYPE_CHECKING:
    import torch

    from csbviz.pruning.training.settings import TrainSettings

__all__ = ["VariationalDropout", "divergence"]

_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
_FIRST_LOG_VARIANCE = -10.0
_SMALL = 1e-8
_LIMIT = 10.0  # of log alpha: beyond it the divergence is flat


def divergence(log_alpha: torch.Tensor) -> torch.Tensor:
    """Approximate the divergence of a weight from the log-uniform prior, elementwise; ≥ 0 and falling."""
    import torch
    from torch.nn.functional import softplus

    return _K1 * (1 - torch.sigmoid(_K2 + _K3 * log_alpha)) + 0.5 * softplus(-log_alpha)


class VariationalDropout(Sparsifier):
    """Noise with a learned variance on each chosen weight; the network is used with the means alone."""

    reads_products = True

    def __init__(self, task, network, settings: TrainSettings, steps: int, examples: int) -> None:
        import torch

        super().__init__(task, network, settings, steps, examples)
        self._log_variance = {
            name: torch.nn.Parameter(torch.full_like(weight, _FIRST_LOG_VARIANCE))
            for name, weight in self.weights.items()
        }
        for name, weight in self.weights.items():
            layer, product = product_of(network, name, "variational dropout")
            replace_forward(layer, self._drawn(layer, weight, self._log_variance[name], product))

    @staticmethod
    def _drawn(layer, mean, log_variance, product):
        import torch

        def forward(inputs):
            outputs = product(inputs, mean, layer.bias)
            variance = product(inputs * inputs, log_variance.exp(), None)
            return outputs + (variance + _SMALL).sqrt() * torch.randn_like(outputs)

        return forward

    def parameters(self) -> list[dict[str, Any]]:
        rate = self.settings.extra_rate
        return [{"params": list(self._log_variance.values()), "highest": rate, "weight_decay": 0.0}]

    def log_alpha(self, name: str) -> torch.Tensor:
        """log σ² - log θ² of each weight of a layer."""
        weight = self.weights[name]
        found = self._log_variance[name] - (weight * weight + _SMALL).log()
        return found.clamp(-_LIMIT, _LIMIT)

    def penalty(self, step: int) -> torch.Tensor:
        rise = self.settings.warmup * self.steps
        share = min(1.0, step / rise) if rise else 1.0
        total = sum(divergence(self.log_alpha(name)).sum() for name in self.weights)
        return self.settings.strength * share / self.examples * total

    def gone(self) -> dict[str, torch.Tensor]:
        import torch

        with torch.no_grad():
            return {
                name: (self.log_alpha(name) > self.settings.threshold) | self._gone[name]
                for name in self.weights
            }

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        import torch

        means = {name: weight.detach().clone() for name, weight in self.weights.items()}
        with torch.no_grad():
            for name, gone in self.gone().items():
                self.weights[name].masked_fill_(gone, 0.0)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self.weights.items():
                    weight.copy_(means[name])

    def state(self) -> dict[str, torch.Tensor]:
        return super().state() | {f"extra.{name}": x.detach() for name, x in self._log_variance.items()}

    def load(self, state) -> None:
        import torch

        super().load(state)
        with torch.no_grad():
            for name, values in self._log_variance.items():
                values.copy_(state[f"extra.{name}"])
