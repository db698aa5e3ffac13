"""What a variant of a CSB kernel should cost on a GPU: a linear model fitted to measurements.

The time of a launch is a sum of non-negative terms: what a launch costs at all, rounds of CTAs that run at
once times what a CTA does, and what all CTAs read and write. `choice_terms` counts them; the microseconds of
each are in `choice_costs`, which ``benchmarks/fit_choice.py`` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from csbviz.ops.choice_candidates import choice_candidates
from csbviz.ops.choice_costs import COSTS, FACTORS
from csbviz.ops.choice_terms import Structure, Variant, structure_of, terms, variant_of
from csbviz.ops.cuda.module import DeviceLimits, current_device

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["Ranked", "in_order", "predict_us", "rank"]

CLEARLY_FASTER = 0.06
"""By which share another launch must be faster than the one for a stored transpose, so that Aᵀ·B takes it: as
much as the model is usually off."""


class Ranked(NamedTuple):
    """A kernel of the registry, parameters of its `prepare`, and microseconds that a product should take."""

    kernel: str
    params: dict[str, Any]
    predicted_us: float


def predict_us(
    costs_of: str, variant: Variant, structure: Structure, n: int, device: DeviceLimits
) -> float | None:
    """Microseconds that a variant should take; None where nothing like it was measured.

    Parameters
    ----------
    costs_of : str
        A key of `choice_costs.COSTS`.
    variant, structure, n, device
        See `choice_terms.terms`.
    """
    known = COSTS.get(costs_of, {}).get(variant.group)
    if known is None:
        return None
    resident, *costs = known
    counted = terms(structure, variant, n, device, resident)
    time = sum(cost * count for cost, count in zip(costs, counted, strict=True))
    return time * FACTORS.get(costs_of, {}).get(variant.config, 1.0)


def rank(A: CSBMatrix, op: str, n: int, names: Iterable[str]) -> list[Ranked]:
    """The variants of the kernels by predicted time, the fastest first; empty where the model knows none.

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
    """
    structure, device = structure_of(A, op), current_device()
    alike = structure.unturned()
    found: list[tuple[float, Ranked]] = []  # with the time for a stored matrix that equals the transpose
    for name, costs_of in _asked(names, A.dtype):
        for params in choice_candidates(name, A, op, n):
            variant = variant_of(name, params)
            time = None if variant is None else predict_us(costs_of, variant, structure, n, device)
            if time is not None:
                plain = predict_us(costs_of, variant, alike, n, device) if structure.turned else time
                found.append((plain, Ranked(name, params, time)))
    return in_order(found)


def in_order(found: list[tuple[float, Any]]) -> list[Any]:
    """Sort variants by time: of Aᵀ·B by the time of A·B for a stored Aᵀ, unless another is clearly faster.

    So both directions take the same launch where it matters little, and take the same time. It is also the
    better choice on measured products: what turned values cost is predicted less well than the rest.

    Parameters
    ----------
    found : list of (float, Ranked)
        The predicted time for a stored matrix that equals the transpose, and the variant with its own.

    Returns
    -------
    list of Ranked
        What should be taken first; then by the first of the two times.
    """
    if not found:
        return []
    ranked = [variant for _, variant in sorted(found, key=lambda pair: pair[0])]
    fastest = min(ranked, key=lambda variant: variant.predicted_us)
    if fastest.predicted_us < (1 - CLEARLY_FASTER) * ranked[0].predicted_us:
        ranked.remove(fastest)
        ranked.insert(0, fastest)
    return ranked


def _asked(names: Iterable[str], dtype: str) -> list[tuple[str, str]]:
    """The kernels to ask, and whose costs count for each.

    Half-precision products were not measured for the fit: they take one product of tensor cores as the TF32
    class does. Where wgmma runs, mma.sync is never the fastest.
    """
    names = list(names)
    if any(name.startswith("csb_wgmma") for name in names):
        names = [name for name in names if not name.startswith("csb_mma")]
    half = dtype in ("float16", "bfloat16")
    asked = [(name, f"{name}_tf32" if half else name) for name in names]
    return [(name, costs_of) for name, costs_of in asked if costs_of in COSTS]
