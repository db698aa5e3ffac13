"""The tables of a GPU benchmark run: CSB against the best of each library, by sparsity, beside the aims.

A ratio compares times of one case in one run: the same matrix, operation, N, type of values, and mode.
Matrices that pruning left without a single entry do not count.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["Comparison", "cases_of", "geomean", "held_out_rows", "missed", "reach_rows", "summary", "table"]

HELD_OUT = "held out"


def is_family(name: str) -> bool:
    """Whether a contender of a float32 case is a kernel of the fp32 class among which `csb_cuda` chooses."""
    return name.startswith("csb_") and not name.startswith("csb_cuda") and not name.endswith("_tf32")


def geomean(values: Iterable[float]) -> float:
    """Geometric mean of positive numbers; NaN of none."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    align = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, align, *rows])


class Key(NamedTuple):
    """What must be equal before two times may be compared."""

    model: str
    method: str
    target: str
    matrix: str
    n: int
    op: str
    dtype: str
    stored: str
    mode: str


def cases_of(data: dict) -> dict[Key, dict[str, float]]:
    """Verified median of each contender in each case, in microseconds; of several the least."""
    cases: dict[Key, dict[str, float]] = defaultdict(dict)
    for record in data["records"]:
        if record["status"] != "ok" or not record["nnz"]:
            continue
        key = Key(
            *(record[name] for name in ("model", "method", "target", "matrix", "n", "op")),
            record.get("dtype", "float32"),
            record.get("stored", "matrix"),
            record.get("mode", "warm"),
        )
        kernel = record["kernel"]
        cases[key][kernel] = min(record["median_us"], cases[key].get(kernel, math.inf))
    return cases


def best(case: dict[str, float], prefix: str) -> float | None:
    """The least time of the contenders whose names begin so; None without any."""
    return min((time for name, time in case.items() if name.startswith(prefix)), default=None)


class Comparison(NamedTuple):
    """A row of the main table.

    Attributes
    ----------
    label, peer : str
        The product, and what CSB is compared with.
    aims : dict
        Aimed ratio by sparsity.
    ratio : callable
        ``ratio(cases, key)`` gives the ratio of a case, or None where the case is not one of the row.
    most : bool
        Whether the aim is a highest value; then the worst case is shown too.
    """

    label: str
    peer: str
    aims: dict[str, float]
    ratio: Callable[[dict, Key], float | None]
    most: bool = False


def _against(op: str, ours: str, theirs: str, dtype: str = "float32", mode: str = "warm") -> Callable:
    def ratio(cases: dict, key: Key) -> float | None:
        if (key.op, key.dtype, key.stored, key.mode) != (op, dtype, "matrix", mode):
            return None
        csb, peer = cases[key].get(ours), best(cases[key], theirs)
        return peer / csb if csb and peer else None

    return ratio


def _copied(cases: dict, key: Key) -> float | None:
    """cuSPARSE's product of a second, transposed copy over the transposed product from the one copy."""
    if (key.op, key.dtype, key.stored) != ("A.T@B", "float32", "matrix"):
        return None
    forward = cases.get(key._replace(op="A@B", stored="transpose"), {})
    csb, peer = cases[key].get("csb_cuda"), best(forward, "cusparse")
    return peer / csb if csb and peer else None


def _equal_shape(cases: dict, key: Key) -> float | None:
    """Time of the transposed product over that of a stored transpose."""
    if (key.op, key.dtype, key.stored) != ("A.T@B", "float32", "matrix"):
        return None
    forward = cases.get(key._replace(op="A@B", stored="transpose"), {}).get("csb_cuda")
    backward = cases[key].get("csb_cuda")
    return backward / forward if forward and backward else None


def _vector_ratio(cases: dict, key: Key) -> float | None:
    """Time of A.T@x over that of A@x."""
    if (key.op, key.mode) != ("A.T@x", "cold"):
        return None
    forward, backward = best(cases.get(key._replace(op="A@x"), {}), "csb"), best(cases[key], "csb")
    return backward / forward if forward and backward else None


def _chosen(cases: dict, key: Key) -> float | None:
    """Time of the automatic choice over that of the fastest kernel of the class with its own launch."""
    if (key.op, key.dtype, key.stored, key.mode) != ("A@B", "float32", "matrix", "warm"):
        return None
    case = cases[key]
    others = [time for name, time in case.items() if is_family(name)]
    return case["csb_cuda"] / min(case["csb_cuda"], *others) if others and "csb_cuda" in case else None


def _vector(op: str) -> Callable:
    def ratio(cases: dict, key: Key) -> float | None:
        if (key.op, key.mode) != (op, "cold"):
            return None
        csb, peer = best(cases[key], "csb"), best(cases[key], "cusparse")
        return peer / csb if csb and peer else None

    return ratio


def _conversion(ours: str) -> Callable:
    def ratio(cases: dict, key: Key) -> float | None:
        csb, peer = cases[key].get(ours), cases[key].get("cusparse_csr2csc")
        return csb / peer if csb and peer else None

    return ratio


TARGETS = ("0.7", "0.8", "0.9", "0.95", "0.98")


def _aims(*values: float) -> dict[str, float]:
    return dict(zip(TARGETS, values, strict=True))


ROWS = (
    Comparison(
        "A·B, fp32", "cuSPARSE, best", _aims(2.7, 2.4, 1.8, 1.6, 1.4), _against("A@B", "csb_cuda", "cusparse")
    ),
    Comparison(
        "A·B, fp32", "cuBLAS fp32", _aims(1.9, 2.2, 2.6, 3.0, 3.7), _against("A@B", "csb_cuda", "cublas_fp32")
    ),
    Comparison(
        "Aᵀ·B, fp32", "cuSPARSE, best", _aims(11, 8, 4.8, 3.5, 3), _against("A.T@B", "csb_cuda", "cusparse")
    ),
    Comparison("Aᵀ·B, fp32", "cuBLAS fp32", {}, _against("A.T@B", "csb_cuda", "cublas_fp32")),
    Comparison("Aᵀ·B, fp32", "cuSPARSE on a second, transposed copy", {}, _copied),
    Comparison("time of Aᵀ·B", "A·B of a stored Aᵀ", _aims(1.1, 1.1, 1.1, 1.1, 1.1), _equal_shape, most=True),
    Comparison(
        "time of A·B as chosen", "the fastest CSB kernel", _aims(1.1, 1.1, 1.1, 1.1, 1.1), _chosen, most=True
    ),
    Comparison(
        "A·B, TF32",
        "cuBLAS TF32",
        _aims(0.95, 1.1, 1.3, 1.35, 1.8),
        _against("A@B", "csb_cuda_tf32", "cublas_tf32"),
    ),
    Comparison("Aᵀ·B, TF32", "cuBLAS TF32", {}, _against("A.T@B", "csb_cuda_tf32", "cublas_tf32")),
    Comparison("A·B, fp16", "cuBLAS fp16", {}, _against("A@B", "csb_cuda", "cublas_fp16", "float16")),
    Comparison("A·B, bf16", "cuBLAS bf16", {}, _against("A@B", "csb_cuda", "cublas_bf16", "bfloat16")),
    Comparison("A·x, fp32, cold", "cuSPARSE, best", _aims(1.3, 1.3, 1.3, 1.2, 1.2), _vector("A@x")),
    Comparison("Aᵀ·x, fp32, cold", "cuSPARSE, best", _aims(1.3, 1.3, 1.3, 1.2, 1.2), _vector("A.T@x")),
    Comparison("time of Aᵀ·x, cold", "A·x", _aims(1.2, 1.2, 1.2, 1.2, 1.2), _vector_ratio, most=True),
    Comparison(
        "time of CSR → CSB",
        "cuSPARSE CSR → CSC",
        _aims(2, 2, 2, 2, 2),
        _conversion("csb_from_csr"),
        most=True,
    ),
    Comparison("time of dense → CSB", "cuSPARSE CSR → CSC", {}, _conversion("csb_from_dense"), most=True),
)


def _cell(values: list[float], aim: float | None, most: bool) -> str:
    if not values:
        return "–"
    mean = geomean(values)
    text = f"{mean:.2f}" + (f" (≤ {max(values):.2f})" if most else "")
    if aim is None:
        return text
    reached = mean <= aim if most else mean >= aim
    return f"**{text}** / {aim:g}" if reached else f"{text} / {aim:g}"


def reach_rows(cases: dict, chosen: Callable[[Key], bool]) -> list[list[str]]:
    """The main table: mean ratio / aim by sparsity, bold where it is reached; rows without a case drop."""
    rows = []
    for row in ROWS:
        found: dict[str, list[float]] = defaultdict(list)
        for key in cases:
            if chosen(key):
                ratio = row.ratio(cases, key)
                if ratio is not None:
                    found[key.target].append(ratio)
        if found:
            cells = [_cell(found[target], row.aims.get(target), row.most) for target in TARGETS]
            rows.append([f"{row.label} vs {row.peer}", *cells])
    return rows


def missed(cases: dict, chosen: Callable[[Key], bool]) -> str:
    """A sentence on each aim that is missed: by the mean, or where an aim is a highest value, by a case."""
    means, worst = [], []
    for row in (row for row in ROWS if row.aims):
        found: dict[str, list[float]] = defaultdict(list)
        for key in cases:
            ratio = row.ratio(cases, key) if chosen(key) else None
            if ratio is not None:
                found[key.target].append(ratio)
        sign = -1 if row.most else 1
        at = [t for t in TARGETS if found[t] and sign * geomean(found[t]) < sign * row.aims[t]]
        single = [t for t in TARGETS if row.most and t not in at and max(found[t], default=0) > row.aims[t]]
        for where, targets in ((means, at), (worst, single)):
            if targets:
                where.append(
                    f"{row.label} vs {row.peer} at {', '.join(f'{float(target):.0%}' for target in targets)}"
                )
    sentences = []
    if means:
        sentences.append(f"Not reached: {'; '.join(means)}.")
    if worst:
        sentences.append(f"Reached in the mean but not in every case: {'; '.join(worst)}.")
    return "\n".join(sentences)


HEADER = ["", *(f"{float(target):.0%}" for target in TARGETS)]


def held_out_rows(cases: dict) -> list[list[str]]:
    """The main table for the held-out set."""
    return reach_rows(cases, lambda key: key.model == HELD_OUT)


def by_columns_rows(cases: dict) -> list[list[str]]:
    """A·B and Aᵀ·B against cuSPARSE and cuBLAS by sparsity and N."""
    rows = []
    ratios = [ROWS[index].ratio for index in (0, 1, 2)]
    for target in TARGETS:
        mine = [key for key in cases if key.target == target and key.model != HELD_OUT]
        for n in sorted({key.n for key in mine if key.op == "A@B"}):
            found = [
                [r for key in mine if key.n == n and (r := ratio(cases, key)) is not None] for ratio in ratios
            ]
            if found[0]:
                cells = [f"{geomean(values):.2f}" for values in found]
                rows.append(
                    [f"{float(target):.0%}, N = {n}", str(len(found[0])), *cells, f"{min(found[0]):.2f}"]
                )
    return rows


def summary(data: dict) -> str:
    """What the benchmark prints at its end."""
    cases = cases_of(data)
    parts = []
    for name, chosen in (
        ("collection", lambda key: key.model != HELD_OUT),
        ("held out", lambda key: key.model == HELD_OUT),
    ):
        rows = reach_rows(cases, chosen)
        if rows:
            parts.append(f"{name}\n{table(HEADER, rows)}")
    counts: dict[tuple, int] = defaultdict(int)
    for record in data["records"]:
        counts[record["kernel"], record["status"]] += 1
    parts.append(" ".join(f"{kernel}:{status}={count}" for (kernel, status), count in sorted(counts.items())))
    for status in ("wrong", "failed"):
        bad = [record for record in data["records"] if record["status"] == status]
        parts += [
            f"{status}: {r['kernel']} {r['op']} N={r['n']} {r['matrix']} {r.get('params')} "
            f"{r.get('message', r.get('rel_error'))}"
            for r in bad[:8]
        ]
    parts.append(f"{len(cases)} cases, {len(data['records'])} records, {data['seconds']} s")
    return "\n".join(parts)
