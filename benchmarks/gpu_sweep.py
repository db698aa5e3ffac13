"""What a sweep measures of a matrix: the variants of CSB kernels that may be the fastest for a product."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.gpu_sets import HELD_OUT_COLUMNS
from csbviz.ops import choice_model
from csbviz.ops.choice import AUTOMATIC
from csbviz.ops.choice_candidates import choice_candidates
from csbviz.ops.choice_terms import structure_of, variant_of
from csbviz.ops.cuda.module import current_device
from csbviz.ops.registry import Kernel

__all__ = ["SWEEP_COLUMNS", "Setting", "near", "settings_of", "sweep_columns"]

SWEEP_COLUMNS = (
    (128, 512, 2048),
    (64, 256, 1568),
    (128, 512, 2048),
    (96, 196, 1024),
)
"""Columns of B by the number of a matrix of the collection, in turn. Those of the tables come most often;
the others let the model see sizes between them and tiles that are not full."""


class Setting(NamedTuple):
    """A kernel and parameters of its `prepare`; microseconds that the present costs predict, or None."""

    kernel: Kernel
    params: dict
    predicted_us: float | None


def sweep_columns(index: int, columns: tuple[int, ...]) -> tuple[int, ...]:
    """Columns of B that a sweep multiplies a matrix with, by its number and its own."""
    return columns if columns == HELD_OUT_COLUMNS else SWEEP_COLUMNS[index % len(SWEEP_COLUMNS)]


def settings_of(kernels: Iterable[Kernel], A, op: str, n: int, within: float) -> list[Setting]:
    """The settings of CSB kernels to measure for a product; a kernel without candidates gives its own.

    Parameters
    ----------
    kernels : iterable of Kernel
        Those of other formats, and those that only choose among others, are passed over.
    A : CSBMatrix
        The stored matrix.
    op : str
        "A@B" or "A.T@B".
    n : int
        Columns of B.
    within : float
        Leave settings out that should take so many times as long as the best; see `near`.
    """
    structure, device, found = structure_of(A, op), current_device(), []
    for kernel in kernels:
        if kernel.format != "csb" or kernel.name in AUTOMATIC or kernel.accepts(A, op, n) is not None:
            continue
        for params in list(choice_candidates(kernel.name, A, op, n)) or [{}]:
            variant = variant_of(kernel.name, params)
            time = (
                None
                if variant is None
                else choice_model.predict_us(kernel.name, variant, structure, n, device)
            )
            found.append(Setting(kernel, params, time))
    return near(found, within)


def near(settings: list[Setting], within: float) -> list[Setting]:
    """Settings that should take at most `within` times as long as the best of their class.

    What is far from the best tells a fit little that the choice needs. A setting without a prediction stays.
    """
    best: dict[bool, float] = {}
    for setting in settings:
        if setting.predicted_us is not None:
            rough = _is_rough(setting.kernel)
            best[rough] = min(best.get(rough, setting.predicted_us), setting.predicted_us)
    return [
        setting
        for setting in settings
        if setting.predicted_us is None or setting.predicted_us <= within * best[_is_rough(setting.kernel)]
    ]


def _is_rough(kernel: Kernel) -> bool:
    return kernel.precision.get("float32") != "fp32"
