"""``csbviz bench``: verify and time the kernels on matrices and layers, and judge each case."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict

from csbviz.commands.output import emit, table, wrapped
from csbviz.commands.sources import open_source
from csbviz.errors import OptionError, UnavailableError
from csbviz.figures.text import percent, plural

__all__ = ["run"]

WRONG_RESULT = 1
"""Exit code when a kernel computed a wrong result or failed."""


def run(args: argparse.Namespace) -> int:
    """Measure every matrix in turn; a file that cannot be read stops the run before anything is timed."""
    from csbviz.bench import BenchRequest, bench_matrix, verdict
    from csbviz.formats import CSBMatrix, choose_block_shape

    request = BenchRequest(
        ops=tuple(args.op),
        ns=tuple(args.n),
        device=args.device,
        kernels=args.kernels and tuple(args.kernels),
        balances=(args.balance,),
        threads=args.threads,
        mode=args.mode,
        seed=args.seed,
    ).checked()
    _check_dtype(request, args.dtype)
    sources = [open_source(file, seed=args.seed) for file in args.files]
    cases = [(source, layer.name) for source in sources for layer in source.layers(args.layer)]
    result: dict = {"records": [], "verdicts": []}
    to_stdout = args.json != "-"
    for index, (source, layer) in enumerate(cases):
        name = f"{source.name}:{layer}" if source.is_model else layer
        csr = source.opened.csr(layer).astype(args.dtype)
        block_shape = args.block_size or choose_block_shape(csr.shape, csr.nnz, device=request.device)
        A = CSBMatrix.from_scipy(csr, block_shape=block_shape)
        progress = _progress(index, len(cases), name)
        records = bench_matrix(A, request, name=name, progress=progress)
        progress(None, "")
        judged = verdict(records)
        result["records"] += [record.to_dict() for record in records]
        result["verdicts"].append({"matrix": name} | asdict(judged))
        if to_stdout:  # a long run shows each case when it is done
            emit(None, None, _lines(name, records, judged))
    if args.json is not None:
        emit(args.json, result, ())
    return WRONG_RESULT if any(record["status"] in ("wrong", "failed") for record in result["records"]) else 0


def _check_dtype(request, dtype: str) -> None:
    """Raise unless some chosen kernel multiplies such values and can run here."""
    from csbviz.ops.registry import availability, get_kernel, kernels

    known = sorted({name for kernel in kernels(device=request.device) for name in kernel.dtypes})
    if dtype not in known:
        raise OptionError(
            f"No kernel on {request.device} multiplies {dtype!r} values; known are {', '.join(known)}."
        )
    chosen = [get_kernel(name) for name in request.kernels] if request.kernels else kernels(request.device)
    chosen = [kernel for kernel in chosen if dtype in kernel.dtypes]
    if not chosen:
        raise OptionError(f"None of the chosen kernels multiplies {dtype} values.")
    reasons = [state.reason for state in map(availability, chosen) if not state.ok]
    if len(reasons) == len(chosen):
        raise UnavailableError(f"No chosen kernel can run on {request.device} here: {reasons[0]}")


def _progress(index: int, count: int, name: str):
    """A function that keeps one line of progress on a terminal's stderr, and does nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda fraction, message: None

    def show(fraction: float | None, message: str) -> None:
        text = "" if fraction is None else f"[{index + 1}/{count}] {100 * fraction:3.0f} % {name}: {message}"
        print(f"\r\x1b[K{text[:99]}", end="", file=sys.stderr, flush=True)

    return show


def _lines(name: str, records: list, judged) -> Iterator[str]:
    if not records:
        yield f"{name}: no chosen kernel computes the chosen operations"
        return
    first = records[0]
    threads = max((record.threads or 0) for record in records)
    yield from wrapped(
        "",
        f"{name}: {first.m} x {first.k}, {first.nnz:,} nonzeros, {percent(first.sparsity)} sparse, "
        f"{first.dtype}, blocks {first.block_shape[0]}x{first.block_shape[1]}",
        indent=0,
    )
    shared = f", {plural(threads, 'thread')}" if threads else ""
    yield from wrapped("", f"{first.device_name}{shared}, {first.mode}", indent=0)
    header = ("kernel", "op", "N", "median µs", "25 %", "75 %", "GFLOP/s", "error", "vs CSR", "vs dense")
    yield from table(header, [_cells(record, threads) for record in records], left=2)
    if threads > 1 and any(record.threads == 1 for record in records):
        yield "* always runs on one thread"
    for record in records:
        if not record.ok:
            yield from wrapped(
                "", f"{record.kernel}, {record.op}, N = {record.n}: {record.status}. {record.message}", 2
            )
    yield from wrapped("Verdict", judged.sentence, 9)
    if judged.reason:
        yield from wrapped("Reason", judged.reason, 9)
    if judged.caution:
        yield from wrapped("Caution", judged.caution, 9)
    yield ""


def _cells(record, threads: int) -> tuple[str, ...]:
    if not record.ok:
        return (record.kernel, record.op, str(record.n), record.status, *[""] * 6)
    one_thread = "*" if record.threads == 1 < threads else ""
    return (
        record.kernel + one_thread,
        record.op,
        str(record.n),
        f"{record.median_us:,.1f}",
        f"{record.p25_us:,.1f}",
        f"{record.p75_us:,.1f}",
        f"{1000 * record.tflops:,.1f}",
        f"{record.rel_error:.0e}",
        *(
            "-" if ratio is None else f"{ratio:.2f}x"
            for ratio in (record.speedup_vs_csr, record.speedup_vs_dense)
        ),
    )
