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
import textwrap
import zlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks import gpu_data
from benchmarks.gpu_sets import collection, held_out
from benchmarks.gpu_tables import HELD_OUT, geomean
from csbviz.ops.choice_costs import COSTS, FACTORS
from csbviz.ops.choice_terms import TERMS, Structure, Variant, terms, variant_of
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.registry import kernels

FOLDS = 5
RESIDENT = (1, 2, 3, 4, 6, 8)
"""CTAs that a multiprocessor may run at once: the number that explains the times best is taken."""

FEWEST = 24
"""Measurements that a group of launches needs to be fitted at all."""

DOUBT = 3
"""Weight of the measurements of a configuration by which its factor leaves half the way from 1."""

NEARNESS = 2.0
"""A variant weighs as much in the fit as the best time of its product over its own, to this power: what is
far from the best need not be predicted well, if only it is not chosen."""

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


class Point(NamedTuple):
    """A verified variant of a sweep with its time in microseconds."""

    kernel: str
    variant: Variant
    structure: Structure
    n: int
    time: float


class Costs(NamedTuple):
    """What a fit gives: see `csbviz.ops.choice_costs`."""

    costs: dict[str, dict[str, tuple]]
    factors: dict[str, dict[str, float]]

    def predict(self, point: Point, device: DeviceLimits) -> float | None:
        """Microseconds that the model expects; None for launches that were not fitted."""
        known = self.costs.get(point.kernel, {}).get(point.variant.group)
        if known is None or len(known) != 1 + TERMS[point.variant.form]:
            return None  # not fitted, or to other terms
        counted = terms(point.structure, point.variant, point.n, device, known[0])
        factor = self.factors.get(point.kernel, {}).get(point.variant.config, 1.0)
        return float(np.dot(known[1:], counted)) * factor


class Measured:
    """The verified variants of a sweep.

    Attributes
    ----------
    cases : dict
        (matrix, op, n) → list of `Point`.
    limits : DeviceLimits
        Of the device that was measured.
    arguments : list of str
        Of the last sweep.
    """

    def __init__(self, files: list[Path], folder: Path, classes: tuple[str, ...]):
        self.device, self.when, self.arguments, records = {}, "", [], []
        for file in files:
            data = gpu_data.read(file)
            self.device, self.when = data["device"], data["when"]
            self.arguments = data.get("arguments", [])
            records += data["records"]
        self.limits = limits_of(self.device)
        keys = ("matrix", "model", "method", "target")
        matrices = structures(folder, {tuple(record[name] for name in keys) for record in records})
        best: dict[tuple, dict] = defaultdict(dict)
        for record in records:
            if record["status"] != "ok" or not record["nnz"] or record.get("precision") not in classes:
                continue
            if "stored" in record:  # the product of another matrix
                continue
            # In a run that is no sweep the automatic kernels say which one they took.
            kernel = record["params"].get("kernel", record["kernel"])
            variant = variant_of(kernel, record["params"])
            if variant is None:
                continue
            matrix = tuple(record[name] for name in keys)
            structure = matrices[matrix][record["op"].startswith("A.T")]
            point = Point(kernel, variant, structure, record["n"], record["median_us"])
            case, key = (matrix, record["op"], record["n"]), (point.kernel, str(variant))
            if key not in best[case] or point.time < best[case][key].time:
                best[case][key] = point
        self.cases = {case: list(found.values()) for case, found in best.items()}

    def chosen(self, held: bool) -> list[tuple]:
        """Cases of the held-out set, or of the collection."""
        return [case for case in self.cases if (case[0][1] == HELD_OUT) == held]


def limits_of(device: dict) -> DeviceLimits:
    """What the model asks of the device of a run."""
    shared = device.get("shared_per_multiprocessor", 233472)  # of an H100
    return DeviceLimits(
        0, device["multiprocessors"], shared - 1024, tuple(device["capability"]), device["l2_bytes"], shared
    )


def is_rough(kernel: str) -> bool:
    """Whether a kernel computes float32 products in another class than fp32."""
    return kernel.endswith("_tf32")


def fit(measured: Measured, cases: list[tuple]) -> Costs:
    """The costs that explain the times of these cases."""
    groups = defaultdict(list)
    for case in cases:
        points = measured.cases[case]
        exact = min((point.time for point in points if not is_rough(point.kernel)), default=0.0)
        least = min(point.time for point in points)
        for point in points:
            weight = ((least if is_rough(point.kernel) else exact) / point.time) ** NEARNESS
            groups[point.kernel, point.variant.group].append((point, weight))
    found = Costs(defaultdict(dict), defaultdict(dict))
    for (kernel, group), pairs in sorted(groups.items()):
        if len(pairs) < FEWEST:
            continue
        points, weights = zip(*pairs, strict=True)
        found.costs[kernel][group] = _fit_group(points, np.array(weights), measured.limits)
        if points[0].variant.form != "blocks":  # whose groups are configurations
            _fit_factors(found, pairs, measured.limits)
    return found


def _fit_group(points: tuple[Point, ...], weights: np.ndarray, limits: DeviceLimits) -> tuple:
    """CTAs at once and the costs of a group: least squares of the relative error, no cost below zero."""
    times, form, best = np.array([point.time for point in points]), points[0].variant.form, None
    count = TERMS[form]
    for resident in RESIDENT if form == "blocks" else (1,):
        counted = np.array([terms(p.structure, p.variant, p.n, limits, resident) for p in points])
        scale = counted.max(axis=0)
        scale[scale == 0] = 1.0
        # A weak pull towards zero keeps terms out that the data cannot tell apart.
        system = np.vstack((counted / scale * (weights / times)[:, None], 1e-3 * np.eye(count)))
        costs, residual = nnls(system, np.concatenate((weights, np.zeros(count))))
        if best is None or residual < best[0]:
            best = residual, resident, costs / scale
    _, resident, costs = best
    return resident, *(float(f"{cost:.4g}") for cost in costs)


def _fit_factors(found: Costs, pairs: list[tuple[Point, float]], limits: DeviceLimits) -> None:
    """What the times of each configuration are of their group's prediction, the less trusted the fewer."""
    logs = defaultdict(list)
    for point, weight in pairs:
        logs[point.variant.config].append((np.log(point.time / found.predict(point, limits)), weight))
    for config, values in logs.items():
        off, weights = np.array(values).T
        factor = float(np.exp(off @ weights / (weights.sum() + DOUBT)))
        found.factors[pairs[0][0].kernel][config] = float(f"{factor:.4g}")


def correct(found: Costs, newer: Measured) -> None:
    """Scale each configuration to what it takes in a later sweep of the collection, after changes."""
    points = defaultdict(list)
    for case in newer.chosen(False):
        for point in newer.cases[case]:
            if found.predict(point, newer.limits) is not None:
                points[point.kernel, point.variant.config].append(point)
    for (kernel, config), mine in points.items():
        logs = [np.log(point.time / found.predict(point, newer.limits)) for point in mine]
        known = found.factors[kernel].get(config, 1.0)
        factor = known * float(np.exp(np.sum(logs) / (len(logs) + DOUBT)))
        found.factors[kernel][config] = float(f"{factor:.4g}")


def losses(measured: Measured, cases: list[tuple], costs: Costs) -> tuple[list[float], list[float]]:
    """For each case the time of the chosen variant over the least; and predicted over measured, for all."""
    lost, off = [], []
    for case in cases:
        predicted = [(costs.predict(point, measured.limits), point.time) for point in measured.cases[case]]
        found = [pair for pair in predicted if pair[0] is not None]
        off += [guess / time for guess, time in found]
        if found:
            lost.append(min(found)[1] / min(time for _, time in predicted))
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


def later_losses(newer: Measured, costs: Costs, which: str) -> list[dict]:
    """What a choice loses in a later sweep, on the collection and on the held-out set."""
    sets = (("the collection", False), ("held-out set", True))
    return [
        describe(f"a later sweep, {name}, {which}", *losses(newer, newer.chosen(held), costs))
        for name, held in sets
    ]


def single_losses(measured: Measured, cases: list[tuple]) -> list[dict]:
    """What the best variant of one kernel alone would lose."""
    names = sorted({point.kernel for found in measured.cases.values() for point in found})
    rows = []
    for name in names:
        lost = []
        for case in cases:
            mine = [point.time for point in measured.cases[case] if point.kernel == name]
            if mine:
                lost.append(min(mine) / min(point.time for point in measured.cases[case]))
        if lost:
            row = {"set": f"held-out set, the best variant of `{name}` alone", "cases": len(lost)}
            rows.append(row | {"mean": round(geomean(lost), 4)})
    return rows


def evaluate(measured: Measured) -> tuple[Costs, list[dict]]:
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


_INDENTED = {"initial_indent": " " * 12, "subsequent_indent": " " * 12}


def write_costs(found: Costs, fitted_on: str) -> None:
    """Put the costs of all classes into the module that the choice reads."""
    head = TARGET.read_text(encoding="utf-8").split("FITTED_ON = ")[0]
    lines = [
        f'{head}FITTED_ON = "{fitted_on}"',
        '"""Device and date of the measurements."""',
        "",
        "# fmt: off",
    ]
    lines.append("COSTS: dict[str, dict[str, tuple[float, ...]]] = {")
    for kernel, groups in sorted(found.costs.items()):
        lines.append(f'    "{kernel}": {{')
        for group, values in sorted(groups.items()):
            lines.append(f'        "{group}": (')
            lines += textwrap.wrap(" ".join(f"{value:g}," for value in values), 104, **_INDENTED)
            lines.append("        ),")
        lines.append("    },")
    lines.append("}")
    what = "Kernel → group of launches → CTAs that a multiprocessor runs at once, then the cost of each term."
    lines += [f'"""{what}"""', "", "FACTORS: dict[str, dict[str, float]] = {"]
    for kernel, factors in sorted(found.factors.items()):
        if not factors:
            continue
        lines.append(f'    "{kernel}": {{')
        for config, factor in sorted(factors.items()):
            line = f'        "{config}": {factor:g},'
            lines += [line] if len(line) <= 110 else line.replace(": ", ":\n            ").split("\n")
        lines.append("    },")
    lines += ["}", '"""Kernel → configuration → factor on its group\'s prediction."""', "# fmt: on"]
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Fit, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", type=Path, nargs="+", help="files of gpu_spmm --sweep")
    parser.add_argument("--newer", type=Path, nargs="+", help="later runs, sweeps or not: scale to them")
    parser.add_argument("--dlmc", type=Path, default=os.environ.get("DLMC_DIR"), help="folder of .smtx files")
    parser.add_argument("--json", type=Path, help="where the losses go")
    parser.add_argument("--write", action="store_true", help="write csbviz/ops/choice_costs.py")
    args = parser.parse_args()
    # What the sweep has no times of keeps its costs.
    known = {kernel.name for kernel in kernels(device="cuda")}
    costs, rows = Costs(*({k: v for k, v in old.items() if k in known} for old in (COSTS, FACTORS))), {}
    before = Costs(COSTS, FACTORS)
    for name, classes in (("fp32", ("fp32",)), ("tf32", ("tf32", "fp32"))):
        measured = Measured(args.sweeps, args.dlmc, classes)
        for held in (False, True):
            old = describe(f"costs as they were, {held=}", *losses(measured, measured.chosen(held), before))
            print(name, old)
        found, rows[name] = evaluate(measured)
        if args.newer:
            newer = Measured(args.newer, args.dlmc, classes)
            rows[name] += later_losses(newer, before, "by the costs before it")
            correct(found, newer)
            rows[name] += later_losses(newer, found, "by the present costs")
        costs.costs.update(found.costs)
        costs.factors.update({kernel: found.factors.get(kernel, {}) for kernel in found.costs})
        for row in rows[name]:
            print(name, row)
    if args.json:
        header = {"when": measured.when, "device": measured.device}
        header["arguments"] = [
            word for word in measured.arguments if not word.startswith("csb_") or word in known
        ]
        header["scaled_to"] = [path.name for path in args.newer or ()]
        args.json.write_text(json.dumps(header | {"losses": rows}, indent=1) + "\n", encoding="utf-8")
    if args.write:
        write_costs(costs, f"{measured.device['name']}, {measured.when[:10]}")


if __name__ == "__main__":
    main()
