"""What the costs of the choice are fitted to: the times of a sweep, and what the model asks of its matrices.

`read_sweeps` takes it from files of ``gpu_spmm --sweep`` and the collection; `write` keeps it in a small file
beside the other measurements, from which anybody can repeat the fit without a GPU and without the matrices.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import gpu_data
from benchmarks.gpu_sets import collection, held_out
from csbviz.formats import CSBMatrix
from csbviz.ops.choice_terms import Structure, structure_of
from csbviz.ops.registry import SPMM_OPS, get_kernel, is_transposed

__all__ = ["Sweep", "Timing", "read", "read_sweeps", "write"]

_FACTS = ("matrix", "model", "method", "target")
BLOCK = 64
"""Side of the blocks of a sweep, which decides how rows are cut."""

_TILES = (16, 32, 64, 128, 256, 512)
_LENGTHS = (4, 8, 16)
"""Heights of tiles and lengths of pieces that the kept file can answer for."""


class Timing(NamedTuple):
    """A verified variant of a product.

    Attributes
    ----------
    matrix : tuple of str
        Name, model, method and target of the matrix.
    op, n
        The product.
    kernel, params
        The variant: a kernel and its tunables.
    structure : Structure
        Of the matrix in the direction of the product.
    time : float
        Microseconds.
    run : int
        Which of the runs took it.
    """

    matrix: tuple[str, ...]
    op: str
    n: int
    kernel: str
    params: dict[str, Any]
    structure: Structure
    time: float
    run: int = 0


@dataclass
class Sweep:
    """Timings, the device they are of, when the last run began, and the arguments of each run."""

    device: dict[str, Any]
    when: str
    runs: list[list[str]]
    timings: list[Timing]


def read_sweeps(files: list[Path], folder: Path) -> Sweep:
    """The timings of float32 products in runs of the benchmark, sweeps or not.

    Parameters
    ----------
    files : list of Path
        What ``gpu_spmm --json`` wrote, the oldest first: a variant that was timed again has its last time.
    folder : Path
        The collection.
    """
    found, records = Sweep({}, "", [], []), []
    for file in files:
        data = gpu_data.read(file)
        found.device, found.when = data["device"], data["when"]
        found.runs.append(_without_places(data.get("arguments", [])))
        number = len(found.runs) - 1
        records += [record | {"run": number} for record in data["records"] if _is_timing(record)]
    structures = _structures(folder, {_facts(record) for record in records})
    timings = {}
    for record in records:
        # In a run that is no sweep the automatic kernels say which one they took.
        kernel = record["params"].get("kernel", record["kernel"])
        tunables = get_kernel(kernel).tunables
        params = {name: value for name, value in record["params"].items() if name in tunables}
        matrix, op, n = _facts(record), record["op"], record["n"]
        structure, time = structures[matrix][is_transposed(op)], record["median_us"]
        timing = Timing(matrix, op, n, kernel, params, structure, time, record["run"])
        timings[matrix, op, n, kernel, json.dumps(params)] = timing
    found.timings = list(timings.values())
    return found


def _is_timing(record: dict) -> bool:
    """Whether it is a product of a CSB kernel with the matrix as it is, not with a stored transpose."""
    fits = record["status"] == "ok" and record["nnz"] and record["op"] in ("A@B", "A.T@B")
    stored = record["kernel"].startswith("csb_") and "params" in record and "stored" not in record
    return bool(fits and stored and record["dtype"] == "float32")


def _without_places(arguments: list[str]) -> list[str]:
    """Arguments of a run without those that are of the machine, not of what was measured."""
    found = list(arguments)
    for name in ("--dlmc", "--json", "--budget"):
        if name in found:
            place = found.index(name)
            del found[place : place + 2]
    return found


def _facts(record: dict) -> tuple[str, ...]:
    return tuple(record[name] for name in _FACTS)


def _structures(folder: Path, needed: set) -> dict[tuple, dict[bool, Structure]]:
    """Structure in both directions of each matrix, by what its records say of it."""
    found = {}
    for layer in [*collection(folder), *held_out()]:
        key = tuple(layer.facts()[name] for name in _FACTS)
        if key in needed:
            A = CSBMatrix.from_scipy(layer.load(), block_shape=BLOCK)
            found[key] = {is_transposed(op): structure_of(A, op) for op in SPMM_OPS}
    return found


def write(path: Path, sweep: Sweep) -> None:
    """Keep a sweep: columns of numbers, sorted, each matrix and each variant once, compressed."""
    structures, variants, rows = {}, {}, []
    for timing in sweep.timings:
        side = (timing.matrix, timing.op)
        structures[side] = timing.structure
        variant = (timing.kernel, json.dumps(timing.params))
        rows.append((side, timing.n, variant, timing.time, timing.run))
        variants[variant] = 0
    sides, names = sorted(structures), sorted(variants)
    places = {side: number for number, side in enumerate(sides)}
    variants = {name: number for number, name in enumerate(names)}
    rows = sorted((places[side], n, variants[variant], *rest) for side, n, variant, *rest in rows)
    data = {
        "device": sweep.device,
        "when": sweep.when,
        "runs": sweep.runs,
        "sides": [[*matrix, op, *_counts(structures[matrix, op])] for matrix, op in sides],
        "variants": [[kernel, json.loads(params)] for kernel, params in names],
        "times": [list(column) for column in zip(*rows, strict=True)],
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))  # the same bytes for the same data


def _counts(structure: Structure) -> list:
    return [
        structure.rows,
        structure.inner,
        structure.nnz,
        structure.longest,
        [structure.heaviest(tile) for tile in _TILES],
        [structure.pieces(length) for length in _LENGTHS],
    ]


def read(path: Path) -> Sweep:
    """A sweep that `write` kept."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    sides = []
    for *matrix, op, rows, inner, nnz, longest, heaviest, pieces in data["sides"]:
        heaviest = dict(zip(_TILES, heaviest, strict=True))
        pieces = dict(zip(_LENGTHS, map(tuple, pieces), strict=True))
        turned = is_transposed(op)
        structure = Structure.summed(rows, inner, turned, nnz, longest, heaviest, pieces)
        sides.append((tuple(matrix), op, structure))
    timings = []
    for side, n, variant, time, run in zip(*data["times"], strict=True):
        (matrix, op, structure), (kernel, params) = sides[side], data["variants"][variant]
        timings.append(Timing(matrix, op, n, kernel, params, structure, time, run))
    return Sweep(data["device"], data["when"], data["runs"], timings)
