"""What a variant of a CSB kernel should cost on a GPU: a linear model for each tile, fitted to measurements.

The time of a launch is a sum of non-negative terms: what a launch costs at all, rounds of CTAs that run at
once times what a CTA does, and what all CTAs read and write. The terms are counted here from the matrix, the
shape of the launch and the GPU; the microseconds of each are in `choice_costs`, which
``benchmarks/fit_choice.py`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from csbviz.ops.choice_candidates import choice_candidates
from csbviz.ops.choice_costs import COSTS
from csbviz.ops.cuda.module import current_device
from csbviz.ops.registry import get_kernel, is_transposed

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["TERMS", "Shape", "Structure", "predict_us", "rank", "shape_of", "structure_of", "terms"]

TERMS = (
    "launch",
    "rounds",
    "steps of a round",
    "entries of the heaviest tile in a round",
    "entries of a multiprocessor",
    "steps of a multiprocessor",
    "elements of B",
    "elements of C",
    "partial sums",
    "elements of B that tiles read",
    "entries that tiles read",
    "split",
    "longest row in a round",
)
"""What the model counts; the costs of a tile are microseconds for each, in this order."""

STEP = 64
"""Inner dimension of a step."""


class Structure:
    """What the model asks of a matrix in one direction.

    Attributes
    ----------
    rows, inner, nnz : int
        Rows of C, rows of B, entries.
    longest : int
        Entries of the longest row.
    """

    def __init__(self, rows: int, inner: int, lengths: np.ndarray):
        self.rows, self.inner = rows, inner
        self.nnz, self.longest = int(lengths.sum()), int(lengths.max(initial=0))
        self._lengths, self._heaviest = lengths, {}

    def heaviest(self, tile_m: int) -> int:
        """Entries of the fullest tile of `tile_m` rows."""
        if tile_m not in self._heaviest:
            begins = np.arange(0, self.rows, tile_m)
            sums = np.add.reduceat(self._lengths, begins) if begins.size else np.zeros(1, np.int64)
            self._heaviest[tile_m] = int(sums.max())
        return self._heaviest[tile_m]


def structure_of(A: CSBMatrix, op: str) -> Structure:
    """The structure for an operation, kept with the matrix."""
    transpose = is_transposed(op)
    key = ("structure", transpose)
    if key not in A.cache:
        coordinates = A.coordinates()
        for turned, view in ((False, A), (True, A.T)):
            lengths = np.bincount(coordinates[turned], minlength=view.shape[0])
            A.cache["structure", turned] = Structure(*view.shape, lengths)
    return A.cache[key]


class Shape(NamedTuple):
    """A launch as the model sees it: rows and columns of a tile, CTAs that share a sum, kind of tile."""

    tile_m: int
    tile_n: int
    split: int
    config: str


def shape_of(kernel: str, params: dict[str, Any]) -> Shape | None:
    """The shape of a variant, or None for parameters that the model does not understand.

    Parameters
    ----------
    kernel : str
        Name in the registry.
    params : dict
        Its tunables by name; others are passed over. Needed are ``tile_m`` and ``tile_n``, or ``tile`` as in
        "64x128"; ``split`` or ``splits`` says how many CTAs share a sum. What remains tells configurations
        apart, each of which has costs of its own.
    """
    known = {name: params[name] for name in get_kernel(kernel).tunables if name in params}
    if known.get("form") == "direct":  # warps, not CTAs, share a row
        return Shape(max(1, known["warps"] // known["split"]), known["tile_n"], 1, _config(known))
    split = known.pop("split", None) or known.pop("splits", None) or 1
    if "tile" in known:
        # What follows the columns, as in "64x128/32", belongs to the configuration only.
        tile_m, tile_n = (int(side) for side in known["tile"].partition("/")[0].split("x"))
    elif {"tile_m", "tile_n"} <= set(known):
        tile_m, tile_n = known["tile_m"], known["tile_n"]
    else:
        return None
    return Shape(tile_m, tile_n, split, _config(known))


def _config(known: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in known.items())


def terms(
    structure: Structure, shape: Shape, n: int, multiprocessors: int, resident: int
) -> tuple[float, ...]:
    """How often each of `TERMS` occurs in a launch.

    Parameters
    ----------
    structure : Structure
        Of the matrix in this direction.
    shape : Shape
        The launch.
    n : int
        Columns of B.
    multiprocessors : int
        Of the device.
    resident : int
        CTAs that a multiprocessor runs at once.
    """
    rows, inner, split = structure.rows, structure.inner, shape.split
    row_tiles, column_tiles = -(-rows // shape.tile_m), -(-n // shape.tile_n)
    ctas = row_tiles * column_tiles * split
    rounds = -(-ctas // (multiprocessors * resident))
    load = ctas / multiprocessors
    steps = -(-inner // STEP) / split
    wide = column_tiles * shape.tile_n
    mean = structure.nnz / max(1, row_tiles * split)
    return (
        1.0,
        rounds,
        rounds * steps,
        rounds * structure.heaviest(shape.tile_m) / split * 1e-3,
        load * mean * 1e-3,
        load * steps,
        inner * n * 1e-6,
        rows * n * 1e-6,
        (split - 1) * rows * n * 1e-6,
        row_tiles * inner * wide * 1e-6,
        column_tiles * structure.nnz * 1e-6,
        1.0 if split > 1 else 0.0,
        rounds * structure.longest * 1e-3,
    )


def predict_us(kernel: str, shape: Shape, structure: Structure, n: int, multiprocessors: int) -> float | None:
    """Microseconds that a variant should take; None where nothing like it was measured."""
    known = COSTS.get(kernel, {}).get(shape.config)
    if known is None:
        return None
    resident, *costs = known
    counted = terms(structure, shape, n, multiprocessors, resident)
    return sum(cost * count for cost, count in zip(costs, counted, strict=True))


def rank(A: CSBMatrix, op: str, n: int, names: Iterable[str]) -> tuple[str, dict[str, Any], float] | None:
    """The variant of the least predicted time: kernel, parameters, microseconds.

    Parameters
    ----------
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    names : iterable of str
        Kernels that take the product.

    Returns
    -------
    tuple or None
        None where the model knows no variant of any of them.
    """
    structure, best = structure_of(A, op), None
    multiprocessors = current_device().multiprocessors
    for name in names:
        if name not in COSTS:
            continue
        for params in choice_candidates(name, A, op, n):
            shape = shape_of(name, params)
            time = None if shape is None else predict_us(name, shape, structure, n, multiprocessors)
            if time is not None and (best is None or time < best[2]):
                best = name, params, time
    return best
