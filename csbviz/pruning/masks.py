"""Masks: which weights stay, from a method's scores and a granularity's units, with exact counts."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from csbviz.errors import InputError, MatrixError, OptionError
from csbviz.models.kinds import matrix_shape
from csbviz.pruning.options import check_options, granularity_and_options
from csbviz.pruning.parallel import cuts, in_threads
from csbviz.pruning.registry import METHODS, Granularity, Method
from csbviz.pruning.select import Cut, kept_in_groups, units_to_prune
from csbviz.pruning.units import Family, Part, Units, View

if TYPE_CHECKING:
    from csbviz.pruning.evidence import Evidence

__all__ = ["Ranking", "masks_for", "matrix_of", "tensor_of", "view_of"]

_EVIDENCE = {
    "gradients": "gradients",
    "input_norms": "the norms of its inputs",
    "second_moments": "the second moments of its inputs",
}


def masks_for(
    weights: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    method: str = "magnitude",
    granularity: str | Mapping[str, Any] = "weight",
    sparsity: float = 0.9,
    scope: str = "global",
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    evidence: Evidence | None = None,
    turned: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Say which weights stay, without a model: what training asks at every pruning step.

    Parameters
    ----------
    weights : mapping of str to numpy.ndarray
        Name → weight of two or more dimensions in the file's shape: floating point, finite. They are ranked
        in this order, which decides between equal scores.
    kinds : mapping of str to str
        Name → "linear", "conv", "recurrent" or "embedding".
    method, granularity, sparsity, scope, seed, options, evidence
        As in `prune_model`.
    turned : collection of str
        Names of weights that are kept as (inputs, outputs).

    Returns
    -------
    dict of str to numpy.ndarray
        Name → boolean mask of the weight's shape, True where a weight stays. A weight that the granularity
        has no units for stays whole.

    Raises
    ------
    OptionError
        As `prune_model`.
    InputError
        The method needs evidence that is not given.
    MatrixError
        A weight is not of floating point.
    """
    check_options(method, scope, sparsity, seed)
    found, chosen = granularity_and_options(granularity, options)
    weights = {name: _wide(name, weight) for name, weight in weights.items()}
    views = [view_of(name, weights[name].shape, kinds[name], name in turned) for name in weights]
    ranking = Ranking(
        views,
        lambda view: weights[view.name],
        METHODS[method],
        found,
        chosen,
        scope,
        sparsity,
        seed,
        evidence,
    )
    masks = {name: np.ones(weights[name].shape, bool) for name in ranking.skipped}
    masks.update((view.name, tensor_of(mask, view)) for view, mask in ranking.masks())
    return {name: masks[name] for name in weights}


def _wide(name: str, weight: np.ndarray) -> np.ndarray:
    """The weight in a type that NumPy knows: brain floats become float32, which is exact."""
    weight = np.asarray(weight)
    if weight.dtype.name == "bfloat16":
        return weight.astype(np.float32)
    if weight.dtype.kind != "f":
        raise MatrixError(f"{name} has the type {weight.dtype}; floating-point values are needed.")
    return weight


def view_of(name: str, shape: tuple[int, ...], kind: str, turned: bool = False) -> View:
    """See a weight of this shape as a matrix."""
    rows, cols = matrix_shape(tuple(shape), kind, "matmul" if turned else "")
    return View(name, kind, tuple(shape), rows, cols, turned)


def matrix_of(tensor: np.ndarray, view: View) -> np.ndarray:
    """Give a tensor of the file's shape as the matrix (rows, cols), C-contiguous; a view where it can be."""
    if view.turned:
        return np.ascontiguousarray(tensor.reshape(view.cols, view.rows).T)
    return np.ascontiguousarray(tensor).reshape(view.rows, view.cols)


def tensor_of(matrix: np.ndarray, view: View) -> np.ndarray:
    """Give a matrix (rows, cols) in the file's shape; the inverse of `matrix_of`."""
    return np.ascontiguousarray(matrix.T if view.turned else matrix).reshape(view.shape)


class Ranking:
    """Weights, how they are scored, and in which units they go.

    Parameters
    ----------
    views : iterable of View
        The chosen layers in the model's order.
    weight_of : callable
        weight_of(view) → the weight in the file's shape.
    method : Method
    granularity : Granularity
    options : mapping
        The granularity's, complete.
    scope : {"global", "layer"}
    sparsity : float
    seed : int
    evidence : Evidence or None

    Attributes
    ----------
    families : tuple of Family
        The units that compete.
    skipped : dict of str to str
        Layers that stay as they are, and one sentence why.

    Raises
    ------
    OptionError
        No layer has units of this granularity, or each layer alone is a single unit.
    InputError
        No layer has the evidence that the method needs.
    """

    def __init__(
        self,
        views: Iterable[View],
        weight_of: Callable[[View], np.ndarray],
        method: Method,
        granularity: Granularity,
        options: Mapping[str, Any],
        scope: str,
        sparsity: float,
        seed: int,
        evidence: Evidence | None = None,
    ):
        self._weight_of, self._method, self._granularity = weight_of, method, granularity
        self._options, self._scope, self._sparsity = options, scope, sparsity
        self._seed, self._evidence = seed, evidence
        units: Units = granularity.units(views, options)
        self.skipped = dict(units.skipped)
        if not units.families:
            name, why = next(iter(self.skipped.items()))
            raise OptionError(
                f"no chosen layer can be pruned with the granularity {granularity.name}: {name} is left as "
                f"it is, because {why}"
            )
        self.families = self._with_evidence(units.families)
        if scope == "layer" and granularity.groups is None and all(map(_is_whole, self.families)):
            raise OptionError(
                f"with the granularity {granularity.name} each layer alone is a single unit, and the last "
                'unit never goes; choose the scope "global".'
            )

    @property
    def reached(self) -> float:
        """The share of the units that goes, before it is rounded to whole units."""
        if self._granularity.groups is None:
            return self._sparsity
        kept, group = self._granularity.groups(self._options)
        return 1 - kept / group

    def masks(self) -> Iterator[tuple[View, np.ndarray]]:
        """Give each layer's mask as a matrix (rows, cols), one after the other.

        Yields
        ------
        view : View
        mask : numpy.ndarray
            Boolean, (rows, cols), C-contiguous; True where a weight stays.
        """
        if self._granularity.groups is not None:
            kept, group = self._granularity.groups(self._options)
            for family in self.families:
                view = family.parts[0].view
                if self._method.choose is not None:
                    yield view, self._chosen(view, 0, (kept, group))
                else:
                    yield view, kept_in_groups(self._weight_scores(view, self._rng(family)), kept, group)
            return
        for family, kept in self.kept_units():
            for part in family.parts:
                yield part.view, expanded(kept, family, part)

    def kept_units(self) -> Iterator[tuple[Family, np.ndarray]]:
        """Give for each family which of its units stay: boolean, any shape with `family.count` elements."""
        together = [self.families] if self._scope == "global" else [(family,) for family in self.families]
        for families in together:
            if self._method.choose is not None and self._alone(families):
                view = families[0].parts[0].view
                yield families[0], self._chosen(view, units_to_prune(view.size, self._sparsity))
                continue
            scores = self._scores(families)
            cut = Cut(scores, units_to_prune(sum(score.size for score in scores), self._sparsity))
            for family in families:
                yield family, cut.kept(scores.pop(0))

    def unit_scores(self, family: Family) -> np.ndarray:
        """Give what each unit is worth, float64[family.count]; a unit is all zero where it is 0."""
        if self._method.of_units:
            return self._method.scores(self._means(family, 1, weights=True), self._rng(family), {})
        return self._means(family, self._method.power)

    def evidence_of(self, view: View) -> dict[str, np.ndarray]:
        """Give what the method needs to know of one layer, as matrices."""
        found = {}
        for need in self._method.needs:
            array = np.asarray(getattr(self._evidence, need)[view.name])
            if need == "gradients" and array.shape == view.shape:
                array = matrix_of(array, view)
            found[need] = array
        return found

    def updated(self, view: View, mask: np.ndarray) -> np.ndarray | None:
        """Give new values for what is kept, (rows, cols); None when the method leaves them bit for bit."""
        if self._method.update is None:
            return None
        return self._method.update(matrix_of(self._weight_of(view), view), mask, self.evidence_of(view))

    def _with_evidence(self, families: tuple[Family, ...]) -> tuple[Family, ...]:
        left = []
        for family in families:
            reasons = [why for part in family.parts if (why := self._missing(part.view))]
            if reasons:
                self.skipped.update((part.view.name, reasons[0]) for part in family.parts)
            else:
                left.append(family)
        if not left:
            raise InputError(
                f"the method {self._method.name} must know of each layer "
                f"{' and '.join(_EVIDENCE[need] for need in self._method.needs)}: collect evidence on data "
                "first, and hand it over."
            )
        return tuple(left)

    def _missing(self, view: View) -> str:
        for need in self._method.needs:
            if view.name not in (getattr(self._evidence, need, None) or {}):
                return f"the method {self._method.name} needs {_EVIDENCE[need]}, which were not collected."
        return ""

    def _rng(self, family: Family) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(family.name.encode())])

    def _scores(self, families: tuple[Family, ...]) -> list[np.ndarray]:
        """Scores of all units that compete: as they are when every unit is one weight, else as means."""
        if all(family.of_single_weights for family in families):
            scores = [self._weight_scores(f.parts[0].view, self._rng(f)) for f in families]
            return (
                list(map(_places, scores)) if self._method.within_rows and self._alone(families) else scores
            )
        return [self.unit_scores(family) for family in families]

    def _alone(self, families: tuple[Family, ...]) -> bool:
        """Whether what competes are the single weights of one layer, and each layer is ranked like that."""
        apart = self._scope == "layer" or len(self.families) == 1
        return apart and families[0].of_single_weights

    def _chosen(self, view: View, count: int, group: tuple[int, int] | None = None) -> np.ndarray:
        weight = matrix_of(self._weight_of(view), view)
        return self._method.choose(weight, self.evidence_of(view), count, group)

    def _weight_scores(self, view: View, rng: np.random.Generator) -> np.ndarray:
        return self._method.scores(matrix_of(self._weight_of(view), view), rng, self.evidence_of(view))

    def _means(self, family: Family, power: int, weights: bool = False) -> np.ndarray:
        """Mean of |score|**power over each unit, or of the weights themselves; |sum| of signed scores."""
        sums, sizes, rng = np.zeros(family.count), np.zeros(family.count), self._rng(family)
        signed = np.zeros(family.count) if self._method.signed and not weights else None
        for part in family.parts:
            matrix = matrix_of(self._weight_of(part.view), part.view)
            scores = matrix if weights else self._method.scores(matrix, rng, self.evidence_of(part.view))
            sums += _folded(block_sums(scores, part, power == 2), family.count)
            sizes += _folded(block_sizes(part), family.count)
            if signed is not None:
                signed += _folded(signed_sums(scores, part), family.count)
        means = sums / sizes if signed is None else np.abs(signed)
        np.maximum(means, np.finfo(np.float64).tiny, out=means, where=sums > 0)  # what is not zero stays so
        return means


def block_sums(scores: np.ndarray, part: Part, squared: bool = False) -> np.ndarray:
    """Sum of the absolute scores (or of their squares) of each block, float64[block rows, block columns]."""
    from csbviz.pruning import _loops

    kept = np.float64 if scores.dtype.itemsize > 4 or scores.dtype.kind == "u" else np.float32
    scores = np.ascontiguousarray(scores, dtype=kept)  # Numba has no arithmetic for 16-bit floats
    scores = scores.view()
    scores.flags.writeable = False
    sums, (height, width) = np.zeros(part.grid), part.block
    in_threads(
        [
            functools.partial(
                _loops.sum_blocks, scores[begin:end], height, width, squared, sums[begin // height :]
            )
            for begin, end in cuts(scores.shape[0], scores.size, height)
        ]
    )
    return sums


def signed_sums(scores: np.ndarray, part: Part) -> np.ndarray:
    """Sum of the scores of each block with their signs, float64[block rows, block columns]."""
    begins = [np.arange(0, n, side) for n, side in zip(scores.shape, part.block, strict=True)]
    sums = np.add.reduceat(scores, begins[1], axis=1, dtype=np.float64)
    return np.add.reduceat(sums, begins[0], axis=0)


def block_sizes(part: Part) -> np.ndarray:
    """Weights in each block, float64[block rows, block columns]."""
    sides = []
    for length, side, count in zip((part.view.rows, part.view.cols), part.block, part.grid, strict=True):
        each = np.full(count, float(side))
        each[-1] = length - side * (count - 1)
        sides.append(each)
    return np.outer(*sides)


def expanded(kept: np.ndarray, family: Family, part: Part) -> np.ndarray:
    """The mask (rows, cols) of one part from the marks of its family's units."""
    from csbviz.pruning import _loops

    view, (height, width) = part.view, part.block
    if family.of_single_weights:
        return kept.reshape(view.rows, view.cols)
    marks = kept.reshape(-1)
    if part.blocks != family.count:
        marks = np.resize(marks, part.blocks)  # block b belongs to unit b % count
    marks = np.ascontiguousarray(marks.reshape(part.grid))
    mask = np.empty((view.rows, view.cols), bool)
    in_threads(
        [
            functools.partial(_loops.expand, marks[begin // height :], height, width, mask[begin:end])
            for begin, end in cuts(view.rows, view.size, height)
        ]
    )
    return mask


def _is_whole(family: Family) -> bool:
    """Whether a family is one unit of several weights."""
    return family.count == 1 and not family.of_single_weights


def _places(scores: np.ndarray) -> np.ndarray:
    """Each score's place in its row from 1, of equal ones the first first; 0 for what is zero."""
    scores = np.abs(scores)
    order = np.argsort(scores, axis=1, kind="stable")
    places = np.empty(scores.shape, np.uint32)
    np.put_along_axis(places, order, np.arange(1, scores.shape[1] + 1, dtype=np.uint32)[None], axis=1)
    places[scores == 0] = 0
    return places


def _folded(blocks: np.ndarray, count: int) -> np.ndarray:
    """Add up what belongs to the same unit: block b is of unit b % count."""
    return blocks.reshape(-1, count).sum(axis=0)
