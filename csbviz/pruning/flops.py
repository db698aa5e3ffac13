"""What pruning saves: fewer numbers to store (compression) and fewer multiplications (theoretical speed-up).

The two are told apart because they differ: a convolution's weight is used at every position of the image, so
that a zero there saves more work than one in a large linear layer. Neither is a measured time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Cost", "cost_of"]


@dataclass(frozen=True)
class Cost:
    """Numbers stored and work done by a model, with and without its zeros.

    Attributes
    ----------
    parameters : int
        Elements of all tensors.
    kept : int
        Those that are not zero.
    dense_flops : int
        Floating-point operations of all matrix products for one example: 2 · rows · cols · N.
    flops : int
        The same with the nonzeros alone: 2 · nnz · N.

    References
    ----------
    Blalock, Gonzalez Ortiz, Frankle, Guttag: What is the State of Neural Network Pruning?, MLSys 2020.
    """

    parameters: int
    kept: int
    dense_flops: int
    flops: int

    @property
    def compression(self) -> float:
        """Parameters over those that are not zero; infinite when nothing is left."""
        return _ratio(self.parameters, self.kept)

    @property
    def speedup(self) -> float:
        """Theoretical speed-up: FLOPs over those of the nonzeros; infinite when nothing is left to do."""
        return _ratio(self.dense_flops, self.flops)


def cost_of(weights: Mapping[str, np.ndarray], products: Mapping[str, int]) -> Cost:
    """Count what a model stores and computes.

    Parameters
    ----------
    weights : mapping of str to numpy.ndarray
        All tensors of the model by name.
    products : mapping of str to int
        `Network.products`: columns N of each weight's matrix product for one example. A weight that is not
        there (a bias, an embedding) counts as parameters only.

    Returns
    -------
    Cost
    """
    kept = {name: int(np.count_nonzero(weight)) for name, weight in weights.items()}
    multiplied = [name for name in weights if name in products]
    return Cost(
        parameters=sum(int(weight.size) for weight in weights.values()),
        kept=sum(kept.values()),
        dense_flops=sum(2 * int(weights[name].size) * int(products[name]) for name in multiplied),
        flops=sum(2 * kept[name] * int(products[name]) for name in multiplied),
    )


def _ratio(dense: int, sparse: int) -> float:
    if sparse:
        return dense / sparse
    return math.inf if dense else 1.0
