"""Fit the costs of the choice among CSB kernels to a sweep, and say what the choice loses.

    python -m benchmarks.fit_choice                              # from the times that are kept in docs/data
    python -m benchmarks.gpu_spmm --dlmc FOLDER --sweep --json sweep.json
    python -m benchmarks.fit_choice sweep.json --dlmc FOLDER --write            # from new ones, and keep them

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
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from benchmarks import fit_data
from benchmarks.gpu_tables import HELD_OUT, geomean
from csbviz.ops.choice_costs import COSTS, FACTORS, SOURCE
from csbviz.ops.choice_model import in_order
from csbviz.ops.choice_terms import TERMS, Structure, Variant, terms, variant_of
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.registry import get_kernel

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

CAUTION = 3.0
"""How much more the square of an error counts where the prediction is too low: such a variant is chosen
although it is slow, while one that is thought too slow only leaves its place to the next."""

DATA = Path(__file__).resolve().parent.parent / "docs" / "data"
KEPT, KEPT_BESIDE, LOSSES = (
    DATA / name for name in ("choice_sweep.json.gz", "choice_sweep_mma.json.gz", "choice.json")
)
"""The times that the costs are fitted to; times of the kernels of other GPUs, of a sweep of their own, since
they are never the fastest where the first run; and what the choice loses."""


class Point(NamedTuple):
    """A verified variant of a sweep with its time in microseconds; of some kernels the model knows none."""

    kernel: str
    variant: Variant | None
    structure: Structure
    n: int
    time: float


class Guess(NamedTuple):
    """What the model expects of a variant, and what was measured, in microseconds."""

    predicted_us: float
    time: float


class Costs(NamedTuple):
    """What a fit gives: see `csbviz.ops.choice_costs`."""

    costs: dict[str, dict[str, tuple]]
    factors: dict[str, dict[str, float]]

    def predict(self, point: Point, device: DeviceLimits) -> float | None:
        """Microseconds that the model expects; None for launches that were not fitted."""
        variant = point.variant
        known = None if variant is None else self.costs.get(point.kernel, {}).get(variant.group)
        if known is None or len(known) != 1 + TERMS[point.variant.form]:
            return None  # not fitted, or to other terms
        counted = terms(point.structure, point.variant, point.n, device, known[0])
        factor = self.factors.get(point.kernel, {}).get(point.variant.config, 1.0)
        return float(np.dot(known[1:], counted)) * factor


class Measured:
    """The variants of a sweep by product.

    Parameters
    ----------
    sweep : fit_data.Sweep
    classes : tuple of str
        Precision classes of the kernels that count.

    Attributes
    ----------
    cases : dict
        (matrix, op, n) → list of `Point`.
    whole : set
        Cases that the last run measured, with all kernels as they are; only what the choice loses there is
        stated.
    limits : DeviceLimits
        Of the device that was measured.
    """

    def __init__(self, sweep: fit_data.Sweep, classes: tuple[str, ...]):
        self.limits = limits_of(sweep.device)
        self.cases: dict[tuple, list[Point]] = defaultdict(list)
        self.whole: set[tuple] = set()
        for timing in sweep.timings:
            if timing.run == len(sweep.runs) - 1:
                self.whole.add((timing.matrix, timing.op, timing.n))
            if get_kernel(timing.kernel).precision["float32"] in classes:
                variant = variant_of(timing.kernel, timing.params)
                point = Point(timing.kernel, variant, timing.structure, timing.n, timing.time)
                self.cases[timing.matrix, timing.op, timing.n].append(point)

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
            if point.variant is None:
                continue
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
        squares = np.ones(times.size)
        for _ in range(3):
            each = weights * np.sqrt(squares)
            # A weak pull towards zero keeps terms out that the data cannot tell apart.
            system = np.vstack((counted / scale * (each / times)[:, None], 1e-3 * np.eye(count)))
            costs, residual = nnls(system, np.concatenate((each, np.zeros(count))))
            squares = np.where(counted / scale @ costs < times, CAUTION, 1.0)
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


def losses(measured: Measured, cases: list[tuple], costs: Costs) -> tuple[list[float], list[float]]:
    """For each case the time of the chosen variant over the least; and predicted over measured, for all."""
    lost, off = [], []
    for case in cases:
        found = []
        for point in measured.cases[case]:
            guess = costs.predict(point, measured.limits)
            if guess is not None:
                alike = point._replace(structure=point.structure.unturned())
                found.append((costs.predict(alike, measured.limits), Guess(guess, point.time)))
        off += [one.predicted_us / one.time for _, one in found]
        if found:
            lost.append(in_order(found)[0].time / min(point.time for point in measured.cases[case]))
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
    fitted = measured.chosen(False)
    stated, held = ([case for case in measured.chosen(h) if case in measured.whole] for h in (False, True))
    costs = fit(measured, fitted)
    rows = [describe("matrices of the fit", *losses(measured, stated, costs))]
    crossed: tuple[list, list] = ([], [])
    for fold in range(FOLDS):
        # All sparsities of a layer fall into one fold: near relatives do not vouch for each other.
        inside = {case: zlib.crc32(case[0][0].encode()) % FOLDS == fold for case in fitted}
        part = fit(measured, [case for case in fitted if not inside[case]])
        for total, found in zip(
            crossed, losses(measured, [case for case in stated if inside[case]], part), strict=True
        ):
            total += found
    rows.append(describe("each fifth of the layers, fitted to the others", *crossed))
    rows.append(describe("held-out set", *losses(measured, held, costs)))
    return costs, rows + single_losses(measured, held)


CLASSES = {"fp32": ("fp32",), "tf32": ("tf32", "fp32")}
"""What is fitted and stated, and the precision classes whose kernels the choice may take there."""


def fit_all(sweep: fit_data.Sweep, beside: fit_data.Sweep | None) -> tuple[Costs, dict[str, list[dict]]]:
    """The costs of all kernels, and what the choice loses in each class.

    Parameters
    ----------
    sweep : fit_data.Sweep
    beside : fit_data.Sweep or None
        Times of kernels that `sweep` has none of.
    """
    costs, rows = Costs({}, {}), {}
    for name, classes in CLASSES.items():
        found = []
        if beside is not None:
            other = Measured(beside, classes)
            found.append(fit(other, other.chosen(False)))
        fitted, rows[name] = evaluate(Measured(sweep, classes))
        for part in (*found, fitted):
            costs.costs.update(part.costs)
            costs.factors.update(
                {kernel: part.factors[kernel] for kernel in part.costs if part.factors[kernel]}
            )
    return costs, rows


def costs_text(found: Costs, fitted_on: str) -> str:
    """The file that the choice reads: a line for each group and configuration."""

    def lines(of: dict[str, dict]) -> str:
        kernels = []
        for kernel, entries in sorted(of.items()):
            inside = ",\n".join(
                f"      {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(entries.items())
            )
            kernels.append(f"    {json.dumps(kernel)}: {{\n{inside}\n    }}")
        return "{\n" + ",\n".join(kernels) + "\n  }"

    return (
        f'{{\n  "fitted_on": {json.dumps(fitted_on)},\n  "costs": {lines(found.costs)},\n'
        f'  "factors": {lines(found.factors)}\n}}\n'
    )


def losses_text(sweep: fit_data.Sweep, rows: dict[str, list[dict]]) -> str:
    """The file that the tables of what the choice loses are made of."""
    header = {"when": sweep.when, "device": sweep.device, "runs": sweep.runs}
    return json.dumps(header | {"losses": rows}, indent=1) + "\n"


def place_of(sweep: fit_data.Sweep) -> str:
    """Device and date of a sweep."""
    return f"{sweep.device['name']}, {sweep.when[:10]}"


def main() -> None:
    """Fit, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweeps", type=Path, nargs="*", help="files of gpu_spmm --sweep, the oldest first")
    parser.add_argument("--dlmc", type=Path, default=os.environ.get("DLMC_DIR"), help="folder of .smtx files")
    parser.add_argument(
        "--write",
        action="store_true",
        help=f"write the costs, the losses and {KEPT.name}, if sweeps are named",
    )
    args = parser.parse_args()
    if args.sweeps and args.dlmc is None:
        parser.error("name the folder of matrices with --dlmc or DLMC_DIR")
    sweep = fit_data.read_sweeps(args.sweeps, args.dlmc) if args.sweeps else fit_data.read(KEPT)
    before = Costs(COSTS, FACTORS)
    for name, classes in CLASSES.items():
        measured = Measured(sweep, classes)
        for held in (False, True):
            row = describe(f"costs as they were, {held=}", *losses(measured, measured.chosen(held), before))
            print(name, row)
    costs, rows = fit_all(sweep, fit_data.read(KEPT_BESIDE))
    for name, found in rows.items():
        for row in found:
            print(name, row)
    text = costs_text(costs, place_of(sweep))
    print("These are the costs as they are." if text == SOURCE.read_text() else "The costs differ.")
    if args.write:
        if args.sweeps:
            fit_data.write(KEPT, sweep)
        SOURCE.write_text(text, encoding="utf-8")
        LOSSES.write_text(losses_text(sweep, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
