"""``csbviz tune``: measure every variant of the CSB kernels on a matrix, and name the fastest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from csbviz.commands.output import emit, table, wrapped
from csbviz.commands.sources import open_source

__all__ = ["run"]

WRONG_RESULT = 1
"""Exit code when a variant computed a wrong result or failed."""

_SHOWN = 8
"""Variants of a product that the table shows."""


def run(args: argparse.Namespace) -> int:
    """Tune every matrix in turn; a file that cannot be read stops the run before anything is timed."""
    from csbviz.bench.autotune import autotune
    from csbviz.formats import CSBMatrix, choose_block_shape

    sources = [open_source(file) for file in args.files]
    cases = [(source, layer.name) for source in sources for layer in source.layers(args.layer)]
    result = []
    for source, layer in cases:
        name = f"{source.name}:{layer}" if source.is_model else layer
        csr = source.opened.csr(layer).astype(args.dtype)
        shape = args.block_size or choose_block_shape(csr.shape, csr.nnz, device=args.device)
        A = CSBMatrix.from_scipy(csr, block_shape=shape)
        for op in args.op:
            for n in (1,) if op.endswith("x") else args.n:
                found = autotune(
                    A,
                    op,
                    n,
                    args.device,
                    budget_s=args.budget,
                    kernels=args.kernels,
                    progress=_progress(f"{name}, {op}, N = {n}"),
                )
                result.append(
                    {"matrix": name, "op": op, "n": n, "variants": [variant.to_dict() for variant in found]}
                )
                if args.json != "-":  # a long run shows each product when it is done
                    emit(None, None, _lines(name, A, op, n, found))
    if args.json is not None:
        emit(args.json, result, ())
    bad = any(variant["status"] != "ok" for product in result for variant in product["variants"])
    return WRONG_RESULT if bad else 0


def _progress(what: str):
    """A function that keeps one line of progress on a terminal's stderr, and does nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda fraction, message: None

    def show(fraction: float, message: str) -> None:
        text = "" if fraction >= 1.0 else f"{100 * fraction:3.0f} % {what}: {message}"
        print(f"\r\x1b[K{text[:99]}", end="", file=sys.stderr, flush=True)

    return show


def _lines(name: str, A, op: str, n: int, found: list) -> Iterator[str]:
    shape = f"{A.shape[0]} x {A.shape[1]}, {A.nnz:,} nonzeros"
    yield from wrapped("", f"{name}: {shape}, {A.dtype}, {op}, N = {n}", indent=0)
    good = [variant for variant in found if variant.status == "ok"]
    if not good:
        yield "No variant was measured: the budget was spent before the first."
    else:
        best = good[0].median_us
        rows = [
            (v.kernel, _in_words(v), f"{v.median_us:,.2f}", f"{v.median_us / best:.2f}", f"{v.rel_error:.0e}")
            for v in good[:_SHOWN]
        ]
        yield from table(("kernel", "parameters", "median µs", "of best", "error"), rows, left=2)
        own = [v.median_us / best for v in good if not v.params and v.kernel == good[0].kernel]
        if own:
            chosen = f"what {good[0].kernel} chooses by itself takes {own[0]:.2f}x the best"
            yield f"{len(good)} variants; {chosen}."
        else:
            yield f"{len(good)} variants."
    for variant in found:
        if variant.status != "ok":
            yield from wrapped("", f"{variant.kernel}, {_in_words(variant)}: {variant.message}", 2)
    yield ""


def _in_words(variant) -> str:
    said = {name: value for name, value in variant.used.items() if isinstance(value, (int, float, str))}
    if variant.balance:
        said["balance"] = variant.balance
    return ", ".join(f"{name}={value}" for name, value in said.items())
