"""Measured variants that stay with a matrix: later products of the same operation and N take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["forget", "recall", "remember"]


def remember(A: CSBMatrix, op: str, n: int, device: str, kernel: str, params: dict[str, Any]) -> None:
    """Let later products take a variant.

    Parameters
    ----------
    A : CSBMatrix
        The matrix, or a transposed view of it; `op` speaks of the stored one.
    op : str
        One of `csbviz.ops.OPS`.
    n : int
        Columns of B.
    device : str
        "cpu" or "cuda".
    kernel : str
        Name in the registry.
    params : dict
        Keyword arguments of its `prepare`.
    """
    cache = A.stored.cache
    cache.setdefault("tuned", {})[op, n, device] = (kernel, dict(params))
    _drop_plans(cache)


def recall(A: CSBMatrix, op: str, n: int, device: str) -> tuple[str, dict[str, Any]] | None:
    """Kernel and parameters that `remember` kept, or None."""
    return A.stored.cache.get("tuned", {}).get((op, n, device))


def forget(A: CSBMatrix) -> None:
    """Let products of a matrix choose by themselves again."""
    if A.stored.cache.pop("tuned", None):
        _drop_plans(A.stored.cache)


def _drop_plans(cache: dict) -> None:
    """Plans and short cuts that an earlier choice left would go on to be used."""
    cache.pop("plans", None)
    cache.pop("direct", None)
