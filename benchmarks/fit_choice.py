"""Fit the costs of the choice among CSB kernels to a sweep, and say what the choice loses.

    python -m benchmarks.gpu_spmm --dlmc FOLDER --sweep --json sweep.json
    python -m benchmarks.fit_choice sweep.json --dlmc FOLDER --json docs/data/choice.json --write

Only matrices of the collection are fitted. What the choice loses is stated three times: on the matrices of
the fit, on each fifth of them by a fit to the other four fifths, and on the held-out set.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks import gpu_data
from benchmarks.gpu_sets import collection, held_out
from benchmarks.gpu_tables import HELD_OUT, geomean
from csbviz.ops.choice_model import TERMS, Structure, shape_of, terms

FOLDS = 5
RESIDENT = (1, 2, 3, 4, 6, 8)
"""CTAs that a multiprocessor may run at once: the number that explains the times best is taken."""

FEWEST = 2 * len(TERMS)
"""Measurements that a tile needs to be fitted at all."""

TARGET = Path(__file__).resolve().parent.parent / "csbviz" / "ops" / "choice_costs.py"


def structures(folder: Path, needed: set) -> dict[tuple, dict[bool, Structure]]:
    """Structure in both directions of each matrix, by what its records say of it."""
    found = {}
    for layer in [*collection(folder), *held_out()]:
        key = tuple(layer.facts().values())
        if key in needed:
            csr = layer.load()
            columns = np.bincount(csr.indices, minlength=csr.shape[1])
            found[key] = {
                False: Structure(*csr.shape, np.diff(csr.indptr)),
                True: Structure(*csr.shape[::-1], columns),
            }
    return found


class Measured:
    """The verified variants of a sweep.

    Attributes
    ----------
    cases : dict
        (matrix, op, n) → list of (kernel, Shape, microseconds, structure).
    """

    def __init__(self, files: list[Path], folder: Path, classes: tuple[str, ...]):
        self.device, self.when, records = {}, "", []
        for file in files:
            data = gpu_data.read(file)
            self.device, self.when = data["device"], data["when"]
            records += data["records"]
        keys = ("matrix", "model", "method", "target")
        matrices = structures(folder, {tuple(record[name] for name in keys) for record in records})
        best: dict[tuple, dict] = defaultdict(dict)
        for record in records:
            if record["status"] != "ok" or not record["nnz"] or record["precision"] not in classes:
                continue
            shape = shape_of(record["kernel"], record["params"])
            if shape is None:
                continue
            matrix = tuple(record[name] for name in keys)
            case = matrix, record["op"], record["n"]
            variant = record["kernel"], shape
            least = min(record["median_us"], best[case].get(variant, (np.inf,))[0])
            best[case][variant] = least, matrices[matrix][record["op"].startswith("A.T")]
        self.cases = {
            case: [(kernel, shape, time, structure) for (kernel, shape), (time, structure) in found.items()]
            for case, found in best.items()
        }

    def chosen(self, held: bool) -> list[tuple]:
        """Cases of the held-out set, or of the collection."""
        return [case for case in self.cases if (case[0][1] == HELD_OUT) == held]


def fit(measured: Measured, cases: list[tuple]) -> dict[str, dict[str, tuple]]:
    """The costs that explain the times of these cases, by kernel and tile."""
    multiprocessors = measured.device["multiprocessors"]
    rows = defaultdict(list)
    for case in cases:
        for kernel, shape, time, structure in measured.cases[case]:
            rows[kernel, shape.config].append((structure, shape, case[2], time))
    costs: dict[str, dict[str, tuple]] = defaultdict(dict)
    for (kernel, config), found in sorted(rows.items()):
        if len(found) >= FEWEST:
            costs[kernel][config] = _fit_one(found, multiprocessors)
    return costs


def _fit_one(found: list[tuple], multiprocessors: int) -> tuple:
    """CTAs at once and the costs of one tile: least squares of the relative error, no cost below zero."""
    times = np.array([time for *_, time in found])
    best = None
    for resident in RESIDENT:
        counted = np.array([terms(s, shape, n, multiprocessors, resident) for s, shape, n, _ in found])
        scale = counted.max(axis=0)
        scale[scale == 0] = 1.0
        # A weak pull towards zero keeps terms out that the data cannot tell apart.
        system = np.vstack((counted / scale / times[:, None], 1e-3 * np.eye(len(TERMS))))
        costs, residual = nnls(system, np.concatenate((np.ones(len(times)), np.zeros(len(TERMS)))))
        if best is None or residual < best[0]:
            best = residual, resident, costs / scale
    _, resident, costs = best
    return resident, *(float(f"{cost:.4g}") for cost in costs)


def losses(measured: Measured, cases: list[tuple], costs: dict) -> tuple[list[float], list[float]]:
    """For each case the time of the chosen variant over the least; and predicted over measured, for all."""
    multiprocessors = measured.device["multiprocessors"]
    lost, off = [], []
    for case in cases:
        found = []
        for kernel, shape, time, structure in measured.cases[case]:
            known = costs.get(kernel, {}).get(shape.config)
            if known is not None:
                counted = terms(structure, shape, case[2], multiprocessors, known[0])
                predicted = float(np.dot(known[1:], counted))
                found.append((predicted, time))
                off.append(predicted / time)
        if found:
            least = min(time for *_, time, _ in measured.cases[case])
            lost.append(min(found)[1] / least)
    return lost, off


def describe(name: str, lost: list[float], off: list[float]) -> dict:
    """What the tables show of one set."""
    spread = float(np.sqrt(np.mean(np.log(off) ** 2))) if off else 0.0
    return {
        "set": name,
        "cases": len(lost),
        "mean": round(geomean(lost), 4),
        "p95": round(float(np.percentile(lost, 95)), 4) if lost else None,
        "worst": round(max(lost), 4) if lost else None,
        "prediction_off": round(spread, 4),
    }


def single_losses(measured: Measured, cases: list[tuple]) -> list[dict]:
    """What taking one variant always, or the best of one kernel, would lose."""
    kernels = sorted({kernel for found in measured.cases.values() for kernel, *_ in found})
    rows = []
    for name in kernels:
        lost = []
        for case in cases:
            mine = [time for kernel, _, time, _ in measured.cases[case] if kernel == name]
            if mine:
                lost.append(min(mine) / min(time for *_, time, _ in measured.cases[case]))
        rows.append(
            {"set": f"the best variant of {name} alone", "cases": len(lost), "mean": round(geomean(lost), 4)}
        )
    return rows


def evaluate(measured: Measured) -> tuple[dict, list[dict]]:
    """Costs fitted to the whole collection, and what the choice loses."""
    fitted, held = measured.chosen(False), measured.chosen(True)
    costs = fit(measured, fitted)
    rows = [describe("matrices of the fit", *losses(measured, fitted, costs))]
    crossed: tuple[list, list] = ([], [])
    for fold in range(FOLDS):
        # All sparsities of a layer fall into one fold: near relatives do not vouch for each other.
        inside = {case: zlib.crc32(case[0][0].encode()) % FOLDS == fold for case in fitted}
        part = fit(measured, [case for case in fitted if not inside[case]])
        for total, found in zip(
            crossed, losses(measured, [case for case in fitted if inside[case]], part), strict=True
        ):
            total += found
    rows.append(describe("each fifth of the layers, fitted to the others", *crossed))
    rows.append(describe("held-out set", *losses(measured, held, costs)))
    return costs, rows + single_losses(measured, held)


def write_costs(costs: dict, fitted_on: str) -> None:
    """Put the costs of all classes into the module that the choice reads."""
    lines = TARGET.read_text(encoding="utf-8").split("FITTED_ON = ")[0]
    body = [f'{lines}FITTED_ON = "{fitted_on}"', '"""Device and date of the measurements."""', ""]
    body.append("# fmt: off")
    body.append("COSTS: dict[str, dict[str, tuple[float, ...]]] = {")
    for kernel, tiles in sorted(costs.items()):
        body.append(f'    "{kernel}": {{')
        for config, values in sorted(tiles.items()):
            numbers = ", ".join(f"{value:g}" for value in values)
            body.append(f'        "{config}":\n            ({numbers}),')
        body.append("    },")
    body += ["}", "# fmt: on"]
    body.append(
        '"""Kernel → tile → CTAs that a multiprocessor runs at once, then the cost of each of '
        '`choice_model.TERMS`."""'
    )
    TARGET.write_text("\n".join(body) + "\n", encoding="utf-8")


def main() -> None:
    """Fit, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", type=Path, nargs="+", help="files of gpu_spmm --sweep")
    parser.add_argument("--dlmc", type=Path, default=os.environ.get("DLMC_DIR"), help="folder of .smtx files")
    parser.add_argument("--json", type=Path, help="where the losses go")
    parser.add_argument("--write", action="store_true", help="write csbviz/ops/choice_costs.py")
    args = parser.parse_args()
    costs, rows = {}, {}
    for name, classes in (("fp32", ("fp32",)), ("tf32", ("tf32", "fp32"))):
        measured = Measured(args.sweeps, args.dlmc, classes)
        found, rows[name] = evaluate(measured)
        costs |= found
        for row in rows[name]:
            print(name, row)
    if args.json:
        header = {"when": measured.when, "device": measured.device}
        args.json.write_text(json.dumps(header | {"losses": rows}, indent=1) + "\n", encoding="utf-8")
    if args.write:
        write_costs(costs, f"{measured.device['name']}, {measured.when[:10]}")


if __name__ == "__main__":
    main()
