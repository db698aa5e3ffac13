"""The methods and granularities of pruning. A new one is one module and one entry here."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from csbviz.pruning.granularity import weight as by_weight
from csbviz.pruning.methods import magnitude, random

__all__ = ["GRANULARITIES", "METHODS", "Granularity", "Method"]


@dataclass(frozen=True)
class Method:
    """A criterion: what makes a weight worth keeping.

    Attributes
    ----------
    name, title, summary : str
        For settings, for menus, and one sentence for people.
    scores : callable
        scores(weight, rng) → array of the weight's shape, floats or unsigned integers ≥ 0, no NaN. The
        lowest go first. A weight that is zero already must score 0, and only such a weight should.
    seeded : bool
        The scores depend on the seed.
    reference : str
        The paper to read.
    """

    name: str
    title: str
    summary: str
    scores: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    seeded: bool = False
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
