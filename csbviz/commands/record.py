"""``csbviz record``: measure like ``bench``, and keep the run as a recording that the app shows anywhere."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from csbviz.commands.bench import WRONG_RESULT
from csbviz.commands.measure import Measured, layers_of, measure, request_of
from csbviz.commands.output import emit, table, wrapped
from csbviz.commands.sources import SAMPLE_PREFIX
from csbviz.errors import InputError, OptionError, UnavailableError
from csbviz.figures.text import plural, size

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Measure every layer, and write the recording at the end."""
    from csbviz.bench.recordings import RecordedRun, device_facts, make_recording, save_recording

    output = _checked_output(args.output)
    files = [*args.files, *(SAMPLE_PREFIX + name for name in args.sample or ())]
    if not files:
        raise InputError("There is nothing to record: a FILE or --sample ID is needed.")
    if args.strategies:
        return _record_strategies(args, files, output)
    request = request_of(args)
    runs = []
    for measured in measure(args, files, args.prune):
        if args.json != "-":
            emit(None, None, _lines(measured))
        source = measured.source if measured.source.startswith(SAMPLE_PREFIX) else Path(measured.source).name
        runs.append(RecordedRun(measured.layer, tuple(measured.records), source, measured.weights))
    settings = {
        "ops": list(request.ops),
        "ns": list(request.ns),
        "dtypes": list(args.dtype),
        "kernels": request.kernels and list(request.kernels),
        "balance": args.balance,
        "threads": request.threads,
        "mode": request.mode,
        "seed": request.seed,
        "prune": args.prune,
    }
    title = args.title or ", ".join(dict.fromkeys(run.source for run in runs))
    recording = make_recording(title, runs, settings, device_facts(args.device))
    save_recording(recording, output)
    records = [record for run in runs for record in run.records]
    result = {
        "output": str(output),
        "bytes": output.stat().st_size,
        "title": title,
        "device": recording.device,
        "runs": len(runs),
        "records": len(records),
    }
    emit(args.json, result, [f"Saved {output} ({size(result['bytes'])}): {plural(len(records), 'record')}"])
    return WRONG_RESULT if any(record.status in ("wrong", "failed") for record in records) else 0


def _record_strategies(args: argparse.Namespace, files: list[str], output: Path) -> int:
    """Record every balance strategy on one product."""
    from csbviz.bench.jobs import build
    from csbviz.bench.strategy_runs import record_strategies, save_strategies
    from csbviz.ops.registry import SPMM_OPS, availability, get_kernel

    if args.device != "cuda":
        raise OptionError("The strategies are recorded by a GPU's clock: --strategies needs --device cuda.")
    if len(args.op) != 1 or args.op[0] not in SPMM_OPS or len(args.n) != 1 or args.dtype != ["float32"]:
        raise OptionError(
            "--strategies records one float32 product: choose one --n and one operation, "
            "--op A@B or --op A.T@B."
        )
    state = availability(get_kernel("csb_gather"))
    if not state.ok:
        raise UnavailableError(f"The strategies cannot be recorded here: {state.reason}")
    cases = list(layers_of(args, files, args.prune))
    if len(cases) != 1:
        raise OptionError(
            f"--strategies records one layer, and {len(cases)} were named: choose one with --layer NAME."
        )
    (case,) = cases
    A = build(case.csr, "cuda", args.block_size)
    matrix = {"set": Path(case.source).name, "method": case.weights, "name": case.layer}
    matrix["sparsity"] = f"{A.sparsity:.3g}"
    title = args.title or f"{case.name}, {case.weights}"
    recording, problems = record_strategies(
        A, args.op[0], args.n[0], title, matrix, min_time=args.min_time, progress=case.progress
    )
    case.progress(None, "")
    runs = sorted(recording["runs"], key=lambda run: run["median_us"])
    if runs:
        save_strategies(recording, output)
    result = {"output": str(output) if runs else None, "title": title, "device": recording["device"]}
    result |= {"runs": len(runs), "problems": problems}
    emit(args.json, result, _strategy_lines(recording, runs, problems, output))
    return WRONG_RESULT if problems else 0


def _strategy_lines(recording: dict, runs: list[dict], problems: list[str], output: Path) -> Iterator[str]:
    rows = [
        (
            run["strategy"],
            run["execution"],
            f"{run['median_us']:.2f}",
            f"{run['planned_imbalance']:.2f}",
            f"{run['measured_imbalance']:.2f}",
            str(len(run["start_ns"])),
        )
        for run in runs
    ]
    yield recording["title"]
    yield from table(("strategy", "execution", "µs", "λ planned", "λ measured", "jobs"), rows)
    for problem in problems:
        yield from wrapped("", problem, 2)
    if runs:
        yield f"Saved {output} ({size(output.stat().st_size)}): {plural(len(runs), 'run')}"


def _checked_output(output: str) -> Path:
    """The path to write, before anything is measured for it."""
    path = Path(output)
    if path.suffix != ".json":
        raise InputError(f"{output} does not end in .json, the format of recordings.")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{output} cannot be written; a file in an existing folder is needed.")
    return path


def _lines(measured: Measured) -> Iterator[str]:
    statuses = [record.status for record in measured.records]
    counts = [(status, str(statuses.count(status))) for status in dict.fromkeys(statuses)]
    yield from table((measured.name, "records"), counts)
    for record in measured.records:
        if record.status in ("wrong", "failed"):
            yield from wrapped("", f"{record.kernel}, {record.op}, N = {record.n}: {record.message}", 2)
    yield from wrapped("Verdict", measured.verdict.sentence, 9)
    yield ""
