"""The methods and granularities of pruning. A new one is one module and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from csbviz.pruning.granularity import (
    blocks,
    columns,
    filters,
    heads,
    kernels,
    layers,
    nm,
    rows,
    weight,
)
from csbviz.pruning.methods import l2, magnitude, random, sparsegpt, taylor, wanda
from csbviz.pruning.units import Units, View

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
        scores(weight, rng, evidence) → array of the weight's shape, floats or unsigned integers, no NaN.
        Their absolute values are compared, and the lowest go first. A weight that is zero already should
        score 0.
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
    signed : bool
        A unit is worth the absolute sum of its scores instead: they may cancel each other.
    within_rows : bool
        Where single weights of each layer are ranked by themselves, those of each row compete alone.
    choose : callable or None
        choose(weight, evidence, count, group=None) → boolean mask: which single weights of one layer stay,
        for a method that chooses while it changes what is kept. `count` go, or of every M neighbours N stay
        where `group` is (N, M). None when scores decide. Not used where layers or units are ranked together.
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
    signed: bool = False
    within_rows: bool = False
    choose: Callable[..., np.ndarray] | None = None
    reference: str = ""


@dataclass(frozen=True)
class Granularity:
    """The units in which weights go.

    Attributes
    ----------
    name, title, summary : str
    units : callable
        units(views, options) → Units: which weights of the chosen layers go together, and which layers have
        no such units.
    options : mapping
        Names of its options and their usual values; `csbviz.pruning.options` says what they may be.
    groups : callable or None
        groups(options) → (N, M) where N of every M neighbours stay, whatever the sparsity asked for; None
        when the units of all layers, or of each layer, are ranked.
    """

    name: str
    title: str
    summary: str
    units: Callable[[Iterable[View], Mapping[str, Any]], Units]
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: Callable[[Mapping[str, Any]], tuple[int, int]] | None = None


METHODS = {
    method.name: method
    for method in (
        Method(
            name="magnitude",
            title="Magnitude (L1)",
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
            of_units=True,
            reference="Blalock et al.: What is the State of Neural Network Pruning?, MLSys 2020",
        ),
        Method(
            name="l2",
            title="Magnitude (L2)",
            summary="Units with the least mean square go: few large weights save a unit sooner than with L1.",
            scores=l2.scores,
            power=2,
            reference="Li et al.: Pruning Filters for Efficient ConvNets, ICLR 2017",
        ),
        Method(
            name="taylor",
            title="Gradient × weight (Taylor)",
            summary="What would change the loss on training data least goes, by its slope at each weight.",
            scores=taylor.scores,
            needs=("gradients",),
            signed=True,
            reference="Molchanov et al.: Importance Estimation for Neural Network Pruning, CVPR 2019",
        ),
        Method(
            name="wanda",
            title="Weight × input (Wanda)",
            summary="Small weights behind weak inputs go; with the scope layer, each output's by themselves.",
            scores=wanda.scores,
            needs=("input_norms",),
            within_rows=True,
            reference="Sun et al.: A Simple and Effective Pruning Approach for LLMs, ICLR 2024",
        ),
        Method(
            name="sparsegpt",
            title="Second order (SparseGPT)",
            summary="What costs the layer's outputs least goes, and the weights that stay make up for it.",
            scores=sparsegpt.scores,
            power=2,
            needs=("second_moments",),
            update=sparsegpt.update,
            choose=sparsegpt.choose,
            reference="Frantar, Alistarh: SparseGPT, ICML 2023",
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
            units=weight.units,
        ),
        Granularity(
            name="nm",
            title="N:M",
            summary="Of every M neighbouring inputs N stay; 2:4 is what sparse tensor cores of GPUs read.",
            units=nm.units,
            options={"nm": (2, 4)},
            groups=nm.groups,
        ),
        Granularity(
            name="block",
            title="Blocks",
            summary="Rectangles of the matrix go whole, on the grid of CSB: dense work for what is left.",
            units=blocks.units,
            options={"block": (8, 8)},
        ),
        Granularity(
            name="kernel",
            title="Kernels",
            summary="The weights from one input channel of a convolution to one output channel go together.",
            units=kernels.units,
        ),
        Granularity(
            name="filter",
            title="Filters",
            summary="An output channel goes with all its weights, and with it a feature map.",
            units=filters.units,
        ),
        Granularity(
            name="row",
            title="Rows",
            summary="A row of the matrix goes: one output, or one entry of a look-up table.",
            units=rows.units,
        ),
        Granularity(
            name="column",
            title="Columns",
            summary="A column of the matrix goes: one input for all outputs.",
            units=columns.units,
        ),
        Granularity(
            name="head",
            title="Attention heads",
            summary="A head goes with its queries, keys, values and its share of the output projection.",
            units=heads.units,
            options={"heads": None},
        ),
        Granularity(
            name="layer",
            title="Layers",
            summary="A whole weight goes: the coarsest cut, to see which layers a model can do without.",
            units=layers.units,
        ),
    )
}
