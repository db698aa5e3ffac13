"""What ``bench`` and ``record`` share: the layers that the arguments name, measured one after the other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from csbviz.commands.sources import open_source
from csbviz.errors import OptionError, UnavailableError
from csbviz.figures.text import list_of

if TYPE_CHECKING:
    from csbviz.bench import BenchRequest, Record, Verdict

__all__ = ["Case", "Measured", "check_dtypes", "layers_of", "measure", "request_of"]


@dataclass(frozen=True)
class Measured:
    """What was measured on one layer or matrix.

    Attributes
    ----------
    name : str
        Name in the records.
    source, layer : str
        What the FILE argument was, and the layer's own name.
    weights : str
        How it was pruned, in words.
    """

    name: str
    source: str
    layer: str
    weights: str
    records: list[Record]
    verdict: Verdict


@dataclass(frozen=True)
class Case:
    """A layer or matrix that the arguments name.

    Attributes
    ----------
    name, source, layer, weights : str
        As in `Measured`.
    csr : scipy.sparse.csr_matrix
    progress : callable
        ``progress(fraction, message)``, for this layer among all.
    """

    name: str
    source: str
    layer: str
    weights: str
    csr: Any
    progress: Callable[[float | None, str], None]


def request_of(args: argparse.Namespace) -> BenchRequest:
    """What the arguments ask for, checked.

    Raises
    ------
    OptionError
        If an option is unknown or does not fit.
    UnavailableError
        If nothing that was asked for can run here.
    """
    from csbviz.bench import BenchRequest

    request = BenchRequest(
        ops=tuple(args.op),
        ns=tuple(args.n),
        device=args.device,
        kernels=args.kernels and tuple(args.kernels),
        balances=(args.balance,),
        threads=args.threads,
        mode=args.mode,
        min_time=args.min_time,
        seed=args.seed,
    ).checked()
    check_dtypes(request, args.dtype)
    return request


def check_dtypes(request: BenchRequest, dtypes: list[str]) -> None:
    """Raise unless for each dtype some chosen kernel multiplies such values and can run here."""
    from csbviz.ops.registry import availability, get_kernel, kernels

    known = sorted({name for kernel in kernels(device=request.device) for name in kernel.dtypes})
    for dtype in dtypes:
        if dtype not in known:
            raise OptionError(
                f"No kernel on {request.device} multiplies {dtype!r} values; known are {', '.join(known)}."
            )
        chosen = (
            [get_kernel(name) for name in request.kernels] if request.kernels else kernels(request.device)
        )
        chosen = [kernel for kernel in chosen if dtype in kernel.dtypes]
        if not chosen:
            raise OptionError(f"None of the chosen kernels multiplies {dtype} values.")
        reasons = [state.reason for state in map(availability, chosen) if not state.ok]
        if len(reasons) == len(chosen):
            raise UnavailableError(f"No chosen kernel can run on {request.device} here: {reasons[0]}")


def measure(args: argparse.Namespace, files: list[str], prune: float | None = None) -> Iterator[Measured]:
    """Measure every layer in turn; a file that cannot be read stops the run before anything is timed.

    Parameters
    ----------
    args : argparse.Namespace
        Of ``bench`` or ``record``.
    files : list of str
        FILE arguments.
    prune : float, optional
        Prune the models by magnitude to this sparsity first, with one threshold for all layers.
    """
    from csbviz.bench import bench_matrix, verdict
    from csbviz.bench.jobs import build

    request = request_of(args)
    for case in layers_of(args, files, prune):
        records = []
        for dtype in args.dtype:
            A = build(case.csr, request.device, args.block_size, dtype=dtype)
            records += bench_matrix(A, request, name=case.name, progress=case.progress)
        case.progress(None, "")
        yield Measured(case.name, case.source, case.layer, case.weights, records, verdict(records))


def layers_of(args: argparse.Namespace, files: list[str], prune: float | None = None) -> Iterator[Case]:
    """The layers that the arguments name, pruned; every file is read before the first is given.

    Parameters
    ----------
    args, files, prune
        As in `measure`.
    """
    sources = [(file, open_source(file, seed=args.seed)) for file in files]
    cases = [(file, source, layer.name) for file, source in sources for layer in source.layers(args.layer)]
    pruned: dict[str, Any] = {file: _opened(source, prune) for file, source in sources}
    for index, (file, source, layer) in enumerate(cases):
        name = f"{source.name}:{layer}" if source.is_model else layer
        progress = _progress(index, len(cases), name)
        yield Case(name, file, layer, _weights(source, prune), pruned[file].csr(layer), progress)


def _opened(source, prune: float | None):
    if prune is None:
        return source.opened
    from csbviz.pruning.opened import prune_opened

    return prune_opened(source.opened, "magnitude", "global", prune, locked=source.opened.spared)


def _weights(source, prune: float | None) -> str:
    """How the weights were pruned, as the app words it."""
    if prune is None:
        return "as loaded"
    locked = source.opened.spared
    return f"magnitude {100 * prune:g} %, whole model" + (f", locked: {list_of(locked)}" if locked else "")


def _progress(index: int, count: int, name: str):
    """A function that keeps one line of progress on a terminal's stderr, and does nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda fraction, message: None

    def show(fraction: float | None, message: str) -> None:
        text = "" if fraction is None else f"[{index + 1}/{count}] {100 * fraction:3.0f} % {name}: {message}"
        print(f"\r\x1b[K{text[:99]}", end="", file=sys.stderr, flush=True)

    return show
