"""Check what a caller asks of pruning: every complaint is one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from csbviz.errors import OptionError
from csbviz.pruning.registry import GRANULARITIES, METHODS, Granularity

__all__ = ["SCOPES", "check_options", "granularity_and_options"]

SCOPES = {
    "global": "one threshold over all chosen layers, so that layers end with different sparsities",
    "layer": "a threshold for each chosen layer, so that all end with the same sparsity",
}


def check_options(method: str, scope: str, sparsity: float, seed: int) -> None:
    """Refuse an unknown method or scope, a sparsity outside of [0, 1), a seed that is no whole number ≥ 0.

    Raises
    ------
    OptionError
    """
    for what, value, known in (("method", method, METHODS), ("scope", scope, SCOPES)):
        if not isinstance(value, str) or value not in known:
            raise OptionError(f"the {what} {value!r} is not known; there is {', '.join(known)}.")
    number = isinstance(sparsity, Real) and not isinstance(sparsity, (bool, np.bool_))
    if not number or not math.isfinite(sparsity) or not 0 <= sparsity < 1:
        raise OptionError(f"the sparsity {sparsity!r} is outside of what is possible; give 0 ≤ sparsity < 1.")
    if not _is_whole(seed) or seed < 0:
        raise OptionError(f"the seed {seed!r} is no whole number ≥ 0.")


def granularity_and_options(
    granularity: str | Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> tuple[Granularity, dict[str, Any]]:
    """Look a granularity up and complete its options.

    Parameters
    ----------
    granularity : str or mapping
        A name in `GRANULARITIES`, or one option by its name, such as ``{"block": (8, 8)}``, which says the
        granularity too.
    options : mapping, optional
        The granularity's own options: ``{"nm": (2, 4)}``, ``{"block": (8, 8)}`` or ``{"heads": 12}``; text
        such as "2:4" and "8x8" is understood.

    Returns
    -------
    granularity : Granularity
    options : dict
        All the options of the granularity, JSON-safe.

    Raises
    ------
    OptionError
    """
    given = dict(options or {})
    if isinstance(granularity, Mapping):
        given |= granularity
        named = [g.name for g in GRANULARITIES.values() if set(granularity) & set(g.options)]
        granularity = named[0] if len(granularity) == len(named) == 1 else dict(granularity)
    if not isinstance(granularity, str) or granularity not in GRANULARITIES:
        raise OptionError(
            f"the granularity {granularity!r} is not known; there is {', '.join(GRANULARITIES)}."
        )
    found = GRANULARITIES[granularity]
    foreign = [str(name) for name in given if name not in found.options]
    if foreign:
        known = f"only {', '.join(found.options)}" if found.options else "none"
        raise OptionError(f"the granularity {granularity} has no option {foreign[0]!r}; it has {known}.")
    return found, {name: _PARSERS[name](given.get(name, usual)) for name, usual in found.options.items()}


def _nm(value: Any) -> list[int]:
    pair = _pair(value, ":")
    if pair is None or not 1 <= pair[0] <= pair[1]:
        raise OptionError(f"N:M is {value!r}; two whole numbers with 1 ≤ N ≤ M are needed, such as 2:4.")
    return pair


def _block(value: Any) -> list[int]:
    pair = _pair((value, value) if _is_whole(value) else value, "x")
    if pair is None or min(pair) < 1:
        raise OptionError(f"the block is {value!r}; rows and columns of at least 1 are needed, such as 8x8.")
    return pair


def _heads(value: Any) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value is not None and (not _is_whole(value) or value < 1):
        raise OptionError(f"the number of heads is {value!r}; a whole number of at least 1 is needed.")
    return None if value is None else int(value)


def _pair(value: Any, sign: str) -> list[int] | None:
    """Two whole numbers from a pair or from text; None when it is neither."""
    if isinstance(value, str):
        match = re.fullmatch(rf"\s*(\d{{1,9}})\s*{sign}\s*(\d{{1,9}})\s*", value)
        return [int(part) for part in match.groups()] if match else None
    if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(_is_whole, value)):
        return None
    return [int(part) for part in value]


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


_PARSERS = {"nm": _nm, "block": _block, "heads": _heads}
