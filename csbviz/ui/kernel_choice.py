"""Which kernels a run takes: the automatic choice against the best of the others, all, or chosen ones.

Nothing here imports Streamlit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from csbviz.bench.names import class_name

if TYPE_CHECKING:
    from csbviz.ops.registry import Kernel

__all__ = ["ALL", "FEW", "chosen_names", "default_names", "families", "found_kernels", "words"]

ALL = ("*",)
"""Stands for every kernel that can run."""

FEW = 6
"""Up to this many kernels are shown one beside the other, and all of them run by default."""

_RARELY_FASTEST = ("cusparse_csr_default", "cusparse_csr_alg1")
"""Algorithms of cuSPARSE that another of its algorithms beats nearly always."""

_FAMILY_TITLES = {"csb": "CSB", "csr": "CSR", "dense": "Dense"}


def found_kernels(device: str, dtype: str, ops: Sequence[str]) -> tuple[Kernel, ...]:
    """The kernels that compute one of the operations on values of a dtype.

    For float32 on a GPU dense kernels of less exact classes are among them: the verdict names their times.
    """
    from csbviz.bench.run import LESS_EXACT
    from csbviz.ops.registry import kernels

    found = list(kernels(device=device, dtype=dtype))
    if device == "cuda" and dtype == "float32":
        for less in LESS_EXACT:
            found += [
                kernel
                for kernel in kernels(device=device, dtype=less)
                if kernel.format == "dense" and dtype not in kernel.dtypes and kernel not in found
            ]
    return tuple(kernel for kernel in found if set(kernel.ops) & set(ops))


def default_names(ready: Sequence[Kernel], dtype: str, ops: Sequence[str]) -> list[str]:
    """The automatic choice of each class and operation, and the others that may be the fastest of theirs."""
    if len(ready) <= FEW:
        return [kernel.name for kernel in ready]
    from csbviz.ops.choice import AUTOMATIC

    automatic = [kernel for kernel in ready if kernel.name in AUTOMATIC]
    covered = {(kernel.precision.get(dtype), op) for kernel in automatic for op in kernel.ops}

    def is_wanted(kernel: Kernel) -> bool:
        if kernel.format != "csb":
            return kernel.name not in _RARELY_FASTEST
        cases = {(kernel.precision.get(dtype), op) for op in kernel.ops if op in ops}
        return kernel in automatic or not cases <= covered

    return [kernel.name for kernel in ready if is_wanted(kernel)]


def chosen_names(
    wanted: tuple[str, ...] | None, ready: Sequence[Kernel], dtype: str, ops: Sequence[str]
) -> list[str]:
    """Names of the kernels that a run takes, in the registry's order."""
    if wanted is None:
        return default_names(ready, dtype, ops)
    return [kernel.name for kernel in ready if wanted == ALL or kernel.name in wanted]


def families(ready: Iterable[Kernel]) -> dict[str, list[Kernel]]:
    """Kernels by the format that they read: CSB first, then CSR, dense, and what else there is."""
    found: dict[str, list[Kernel]] = {}
    for kernel in sorted(ready, key=lambda kernel: list(_FAMILY_TITLES).index(_base(kernel.format))):
        found.setdefault(_FAMILY_TITLES[_base(kernel.format)], []).append(kernel)
    return found


def _base(name: str) -> str:
    return next((known for known in _FAMILY_TITLES if name.startswith(known)), "dense")


def words(kernel: Kernel, dtype: str) -> str:
    """Class, least compute capability and summary of a kernel, for a tooltip."""
    classes = [kernel.precision[dtype]] if dtype in kernel.precision else list(kernel.precision.values())
    facts = [class_name(classes[0])] if classes else []
    if kernel.min_capability:
        only = "" if kernel.exact_capability else " or newer"
        facts.append(f"compute capability {'.'.join(map(str, kernel.min_capability))}{only}")
    return f"{', '.join(facts)}. {kernel.summary}" if facts else kernel.summary
