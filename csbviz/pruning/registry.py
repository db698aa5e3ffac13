"""The methods and granularities of pruning. A new one is one module and one entry here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from csbviz.pruning.granularity import weight as by_weight
from csbviz.pruning.methods import magnitude, random

__all__ = ["GRANULARITIES", "METHODS", "Granularity", "Method"]


@dataclass(frozen=True)
class Method:
    """A criterion: what makes a weight worth keeping.

    A unit of several weights is worth the mean of |score|**power over its weights, so that units of unequal
    size compare.

    Attributes
    ----------
    name, title, summary : str
        For settings, for menus, and one sentence for people.
    scores : callable
        scores(weight, rng, evidence) → array of the weight's shape, floats or unsigned integers, no NaN. Their
        absolute values are compared, and the lowest go first. A weight that is zero already should score 0.
        `weight` is the read-only matrix (rows, cols) of the layer's product, outputs by inputs, and must not
        be changed. `evidence` maps each name in `needs` to this layer's array: "gradients" (rows, cols),
        "input_norms" (cols,), "second_moments" (cols, cols).
    power : int
        Of the absolute scores that a unit averages: 1 for L1, 2 for L2.
    seeded : bool
        The scores depend on the seed.
    of_units : bool
        `scores` is asked once for whole units: it gets their mean absolute weights, not the weights.
    needs : tuple of str
        Names among "gradients", "input_norms" and "second_moments": what must be known of the data.
    update : callable or None
        update(weight, mask, evidence) → array of the same shape: new values for what is kept, when the method
        makes up for what went. None when kept values stay bit for bit.
    reference : str
        The paper to read.
    """

    name: str
    title: str
    summary: str
    scores: Callable[[np.ndarray, np.random.Generator, Mapping[str, np.ndarray]], np.ndarray]
    power: int = 1
    seeded: bool = False
    of_units: bool = False
    needs: tuple[str, ...] = ()
    update: Callable[[np.ndarray, np.ndarray, Mapping[str, np.ndarray]], np.ndarray] | None = None
    reference: str = ""


@dataclass(frozen=True)
class Granularity:
    """The units in which weights go.

    Attributes
    ----------
    name, title, summary : str
    unit_scores : callable
        unit_scores(scores) → one score per unit, any shape; the units of a layer are of equal size.
    expand : callable
        expand(kept, shape) → boolean mask of the weight's shape, from a mask of units.
    """

    name: str
    title: str
    summary: str
    unit_scores: Callable[[np.ndarray], np.ndarray]
    expand: Callable[[np.ndarray, tuple[int, ...]], np.ndarray]


METHODS = {
    method.name: method
    for method in (
        Method(
            name="magnitude",
            title="Magnitude",
            summary="The weights nearest to zero go: the plain criterion that is hard to beat.",
            scores=magnitude.scores,
            reference="Gale, Elsen, Hooker: The State of Sparsity in Deep Neural Networks, 2019",
        ),
        Method(
            name="random",
            title="Random",
            summary="Any weights go, drawn by the seed: the baseline that every criterion must beat.",
            scores=random.scores,
            seeded=True,
            reference="Blalock et al.: What is the State of Neural Network Pruning?, MLSys 2020",
        ),
    )
}

GRANULARITIES = {
    granularity.name: granularity
    for granularity in (
        Granularity(
            name="weight",
            title="Single weights",
            summary="Every weight goes or stays by itself: keeps the most accuracy, leaves no structure.",
            unit_scores=by_weight.unit_scores,
            expand=by_weight.expand,
        ),
    )
}
