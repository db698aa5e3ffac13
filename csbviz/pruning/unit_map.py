"""Which units of one layer stayed, and what each was worth: what the picture of a mask shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from csbviz.errors import OptionError
from csbviz.models.opened import Opened
from csbviz.pruning.masks import Ranking, block_sums, view_of
from csbviz.pruning.options import granularity_and_options
from csbviz.pruning.registry import METHODS
from csbviz.pruning.units import Family, Part, View

__all__ = ["MOST_POSITIONS", "UnitMap", "unit_map"]

MOST_POSITIONS = 1 << 27
"""Positions of a sparse matrix up to which it is written out with its zeros (512 MB in float32)."""


@dataclass(frozen=True, eq=False)
class UnitMap:
    """The units of one layer on the grid of its matrix.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the matrix.
    block : (int, int)
        Rows and columns of a unit's block; those at the lower and right edge may be smaller.
    kept : numpy.ndarray
        Boolean, (block rows, block columns): the block has nonzeros left.
    scores : numpy.ndarray
        Floating point of the same shape, ≥ 0: what the unit was worth before.
    count : int
        Number of units. Block b belongs to unit ``b % count``: a head may have several blocks in a layer.
    noun : str
        What a unit is, in the singular: "weight", "block", "filter", …
    score : str
        What the scores are, for people: "|w|", "mean |w|" or "mean w²".
    group : (int, int) or None
        With N:M, how many of how many neighbours in a row stay.
    """

    shape: tuple[int, int]
    block: tuple[int, int]
    kept: np.ndarray
    scores: np.ndarray
    count: int
    noun: str
    score: str
    group: tuple[int, int] | None = None


def unit_map(
    opened: Opened,
    pruned: Opened,
    layer: str,
    method: str = "magnitude",
    granularity: str | Mapping[str, Any] = "weight",
    options: Mapping[str, Any] | None = None,
    locked: Collection[str] = (),
) -> UnitMap:
    """Compare a layer before and after pruning, unit by unit.

    Parameters
    ----------
    opened, pruned : Opened
        Before and after `csbviz.pruning.opened.prune_opened`.
    layer : str
        Name of a prunable layer.
    method, granularity, options, locked
        As they were given then. Scores are magnitudes for methods that draw or need data.

    Returns
    -------
    UnitMap

    Raises
    ------
    OptionError
        The layer was locked, has no such units, or is a matrix too large to be written out with its zeros.
    """
    found, chosen = granularity_and_options(granularity, options)
    if layer in locked:
        raise OptionError(f"{layer} is locked: it keeps all its weights.")
    scorer = METHODS.get(method, METHODS["magnitude"])
    if scorer.needs or scorer.of_units:
        scorer = METHODS["magnitude"]
    views = [_view(opened, info.name) for info in opened.layers if info.name not in set(locked)]
    ranking = Ranking(
        views, lambda view: _tensor(opened, view), scorer, found, chosen, "global", 0.0, 0, None
    )
    if layer in ranking.skipped:
        raise OptionError(f"{layer} stays as it is, because {ranking.skipped[layer]}")
    family, part = _home(ranking, layer)
    matrix, after = (_matrix(each, layer) for each in (opened, pruned))
    if family.of_single_weights:
        kept, scores, name = after != 0, np.abs(matrix), "|w|"
    else:
        kept = block_sums(after, part) > 0
        scores = np.resize(ranking.unit_scores(family), part.blocks).reshape(part.grid)
        name = "mean w²" if scorer.power == 2 else "mean |w|"
    noun = "weight" if family.of_single_weights else found.name
    group = found.groups(chosen) if found.groups is not None else None
    shape = part.view.rows, part.view.cols
    return UnitMap(shape, part.block, kept, scores, family.count, noun, name, group)


def _home(ranking: Ranking, layer: str) -> tuple[Family, Part]:
    return next(
        (family, part) for family in ranking.families for part in family.parts if part.view.name == layer
    )


def _view(opened: Opened, name: str) -> View:
    if opened.model is None:
        return view_of(name, opened.matrix.shape, "linear")
    layer = opened.model.layer(name)
    return view_of(name, layer.shape, layer.kind, layer.tensor.op == "matmul")


def _tensor(opened: Opened, view: View) -> np.ndarray:
    return _matrix(opened, view.name) if opened.model is None else opened.model.layer(view.name).weight()


def _matrix(opened: Opened, name: str) -> np.ndarray:
    if opened.model is not None:
        return opened.model.layer(name).matrix()
    rows, cols = opened.matrix.shape
    if rows * cols > MOST_POSITIONS:
        raise OptionError(
            f"a matrix of {rows:,} x {cols:,} is too large to look at single units: at most "
            f"{MOST_POSITIONS:,} positions are possible."
        )
    return opened.matrix.toarray()
