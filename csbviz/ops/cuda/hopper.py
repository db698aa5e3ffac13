"""What the launchers for Hopper's tensor cores have in common besides their kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from csbviz.ops.cuda.module import current_device
from csbviz.ops.registry import SPMM_OPS, Kernel, Prepared, is_transposed, register

if TYPE_CHECKING:
    from csbviz.formats import CSBMatrix

__all__ = ["register_for_hopper", "without_launch"]


def without_launch(rows: int, inner: int, n: int, params: dict[str, Any]) -> Prepared | None:
    """The product where nothing has to be multiplied, or None.

    Parameters
    ----------
    rows, inner, n : int
        Of the product: C is rows x n, a sum has `inner` terms.
    params : dict
        What was chosen for the launch all the same.
    """
    if rows == 0 or n == 0:
        return Prepared(lambda operand, out: out, 0, params=params)
    if inner == 0:
        return Prepared(lambda operand, out: (out.fill(0), out)[1], 0, params=params)
    return None


def register_for_hopper(
    name: str,
    title: str,
    summary: str,
    classes: Mapping[str, str],
    precision: str | None,
    *,
    prepare: Callable,
    accepts: Callable,
    unavailable: Callable,
    candidates: Callable,
    tunables: Mapping[str, tuple],
) -> None:
    """Enter a kernel that runs on compute capability 9.0 exactly.

    Parameters
    ----------
    name, title, summary : str
        Of the entry.
    classes : mapping
        dtype → precision class.
    precision : str or None
        What `prepare` and `accepts` get as `precision`.
    prepare, accepts, unavailable : callable
        Of the launcher.
    candidates : callable
        ``candidates(rows, inner, n, multiprocessors)`` gives the shapes of launches that are worth trying.
    tunables : mapping
        Parameters of a launch and their values.
    """

    def settings(A: CSBMatrix, op: str, n: int) -> list[dict[str, int]]:
        rows, inner = A.shape[::-1] if is_transposed(op) else A.shape
        return [shape._asdict() for shape in candidates(rows, inner, n, current_device().multiprocessors)]

    register(
        Kernel(
            name=name,
            title=title,
            format="csb",
            device="cuda",
            ops=SPMM_OPS,
            dtypes=tuple(classes),
            precision=dict(classes),
            prepare=functools.partial(prepare, precision=precision),
            summary=summary,
            tunables=tunables,
            min_capability=(9, 0),
            exact_capability=True,
            requires=unavailable,
            accepts=functools.partial(accepts, precision=precision),
            candidates=settings,
        )
    )
