"""``csbviz bench``: verify and time the kernels on matrices and layers, and judge each case."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict

from csbviz.bench.names import VECTOR_OPS, class_name
from csbviz.commands.measure import measure
from csbviz.commands.output import emit, joined, table, wrapped
from csbviz.figures.text import percent, plural

__all__ = ["run"]

WRONG_RESULT = 1
"""Exit code when a kernel computed a wrong result or failed."""


def run(args: argparse.Namespace) -> int:
    """Measure every matrix in turn; a file that cannot be read stops the run before anything is timed."""
    result: dict = {"records": [], "verdicts": []}
    to_stdout = args.json != "-"
    for measured in measure(args, args.files):
        result["records"] += [record.to_dict() for record in measured.records]
        result["verdicts"].append({"matrix": measured.name} | asdict(measured.verdict))
        if to_stdout:  # a long run shows each case when it is done
            emit(None, None, _lines(measured.name, measured.records, measured.verdict))
    if args.json is not None:
        emit(args.json, result, ())
    return WRONG_RESULT if any(record["status"] in ("wrong", "failed") for record in result["records"]) else 0


def _lines(name: str, records: list, judged) -> Iterator[str]:
    if not records:
        yield f"{name}: no chosen kernel computes the chosen operations"
        return
    first = records[0]
    threads = max((record.threads or 0) for record in records)
    yield from wrapped(
        "",
        f"{name}: {first.m} x {first.k}, {first.nnz:,} nonzeros, {percent(first.sparsity)} sparse, "
        f"{joined(dict.fromkeys(record.dtype for record in records))}, "
        f"blocks {first.block_shape[0]}x{first.block_shape[1]}",
        indent=0,
    )
    shared = f", {plural(threads, 'thread')}" if threads else ""
    yield from wrapped("", f"{first.device_name}{shared}, {first.mode}", indent=0)
    header = ("kernel", "class", "op", "N", "median µs", "25 %", "75 %", "GFLOP/s", "error", "/CSR", "/dense")
    yield from table(header, [_cells(record, threads) for record in records if record.ok], left=3)
    yield "/CSR, /dense: speed over the best CSR of one copy and the best dense of the same class"
    if threads > 1 and any(record.threads == 1 for record in records):
        yield "* always runs on one thread"
    yield from _not_timed(records)
    yield from wrapped("Verdict", judged.sentence, 9)
    if judged.less_exact:
        yield from wrapped("", judged.less_exact, 9)
    if judged.reason:
        yield from wrapped("Reason", judged.reason, 9)
    if judged.caution:
        yield from wrapped("Caution", judged.caution, 9)
    yield ""


def _not_timed(records: list) -> Iterator[str]:
    """One paragraph a reason, with every kernel and operation that it kept from being timed."""
    kept: dict[str, list[str]] = {}
    for record in records:
        if not record.ok:
            n = "" if record.op in VECTOR_OPS else f", N = {record.n}"
            where = f"{record.kernel} ({record.op}{n})"
            kept.setdefault(f"{record.status}. {record.message}", []).append(where)
    for reason, names in kept.items():
        yield from wrapped("", f"{joined(names)}: {reason}", 2)


def _cells(record, threads: int) -> tuple[str, ...]:
    one_thread = "*" if record.threads == 1 < threads else ""
    return (
        record.kernel + one_thread,
        class_name(record.precision),
        record.op,
        str(record.n),
        *(
            f"{us:,.1f}" if us < 1000 else f"{us:,.0f}"
            for us in (record.median_us, record.p25_us, record.p75_us)
        ),
        "-" if record.tflops is None else f"{1000 * record.tflops:,.1f}",
        "-" if record.rel_error is None else f"{record.rel_error:.0e}",
        *(
            "-" if ratio is None else f"{ratio:.2f}x"
            for ratio in (record.speedup_vs_csr, record.speedup_vs_dense)
        ),
    )
