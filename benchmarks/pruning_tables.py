"""The tables of docs/pruning.md, made of the measurements in docs/data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_tables import table
from csbviz.bench.study_times import times_of
from csbviz.pruning.pareto import pareto_front
from csbviz.pruning.registry import GRANULARITIES, METHODS
from csbviz.pruning.study import summary

__all__ = ["DATA", "PAGE", "blocks", "with_blocks"]

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data"
PAGE = ROOT / "docs" / "pruning.md"
POINT = 0.01
"""The margin that "within one point" allows."""


def read(part: str) -> Any:
    """The measurements of a part, or None."""
    path = DATA / f"pruning_{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def blocks() -> dict[str, str]:
    """Name of each block in the document, and what stands there."""
    made = {
        "cnn": _methods_table,
        "units": _units_table,
        "times": _times_table,
        "g2p": _methods_table,
        "minilm": _methods_table,
        "training": _training_table,
        "compression": _compression_table,
        "search": _search_table,
    }
    found = {}
    for name, make in made.items():
        data = read("units" if name == "times" else name)
        if not data or (name == "times" and not data.get("times")):
            found[name] = f"Not measured yet: `python -m benchmarks.pruning_study --measure {name}`."
        else:
            found[name] = make(data)
    return found


def with_blocks(text: str, found: Mapping[str, str]) -> str:
    """The text with what stands between each pair of markers replaced.

    Raises
    ------
    ValueError
        The document does not have exactly one place for each block.
    """
    for name, block in found.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"the document needs one pair of markers for {name!r}")
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{block.strip()}\n{end}{rest.split(end)[1]}"
    return text


def _methods_table(data: Mapping[str, Any]) -> str:
    """Accuracy of each method at each sparsity: mean ± standard deviation over seeds."""
    rows = summary(data["records"], data["metric"])
    control = rows[0]
    rows = [row for row in rows if row["method"] != "dense"]
    sparsities = sorted({row["sparsity"] for row in rows})
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = {row["sparsity"]: row for row in rows if row["method"] == method}
        lines.append([METHODS[method].title, *(_accuracy(own.get(sparsity)) for sparsity in sparsities)])
    return f"{table(['method', *map(_percent, sparsities)], lines)}\n\n{_place(data, control)}"


def _units_table(data: Mapping[str, Any]) -> str:
    """Accuracy of each granularity, magnitude and random, with what it saves."""
    rows = summary(data["records"], data["metric"])
    control = rows[0]
    random = {_way(row): row for row in rows if row["method"] == "random"}
    lines = [
        [
            _words(row),
            _percent(row["sparsity_reached"], 1),
            _accuracy(row),
            _accuracy(random.get(_way(row))),
            f"{row['compression']:.2f}x",
            f"{row['speedup']:.2f}x",
        ]
        for row in rows
        if row["method"] == "magnitude"
    ]
    header = ["granularity", "sparsity", "magnitude", "random", "compression", "speed-up in theory"]
    return f"{table(header, lines)}\n\n{_place(data, control)}"


def _times_table(data: Mapping[str, Any]) -> str:
    """Accuracy and measured time side by side; what no other point beats in both is in bold."""
    records = [r for r in data["records"] if times_of(data["times"], r) is not None]
    times = [times_of(data["times"], record) for record in records]
    accuracies = [record["metrics"][data["metric"]] for record in records]
    front = pareto_front([found["csb_us"] for found in times], accuracies)
    lines = []
    for record, found, accuracy, best in zip(records, times, accuracies, front, strict=True):
        mark = "**" if best else ""
        lines.append(
            [
                "dense control" if record["method"] == "dense" else _words(record),
                _percent(record["sparsity_reached"], 1),
                f"{mark}{_percent(accuracy, 2)}{mark}",
                f"{mark}{found['csb_us']:.1f}{mark}",
                f"{found['csr_us']:.1f}",
                f"{found['dense_us']:.1f}",
                f"{found['dense_us'] / found['csb_us']:.2f}x",
            ]
        )
    header = ["granularity", "sparsity", "accuracy", "CSB µs", "CSR µs", "dense µs", "CSB over dense"]
    first = data["times"][0]
    loads = sorted(time["others_load"] for time in data["times"] if time["others_load"] is not None)
    load = (
        f" Other programs took {_percent(loads[len(loads) // 2])} of the machine (median)." if loads else ""
    )
    place = (
        f"{first['layer']} ({first['rows']} x {first['cols']}), {first['op']}, N = {first['n']}, float32, "
        f"{first['device_name']}, {first['threads']} thread, {first['when'][:10]}; the fastest verified "
        "kernel of each format, median. In bold: the Pareto front of accuracy and CSB time."
    )
    return f"{table(header, lines)}\n\n{place}{load}"


def _training_table(data: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            record["case"],
            _percent(record["sparsity_reached"], 2),
            f"{record['compression']:.1f}x",
            f"{record['speedup']:.1f}x",
            _percent(record["metrics"]["top1"], 2),
            f"{100 * (record['metrics']['top1'] - record['before']['top1']):+.2f}",
            f"{record['epochs']:g}",
            f"{record['cpu_seconds']:.0f}",
        ]
        for record in data
    ]
    header = ["training", "sparsity", "compression", "speed-up in theory", "top-1", "change in points"]
    first = data[0]
    place = f"{first['metrics']['examples']:,} test images, seed {first['seed']}; {first['data']}"
    place += f" {first['when'][:10]}, PyTorch {first['versions']['torch']}."
    return f"{table([*header, 'epochs', 'CPU seconds'], lines)}\n\n{place}"


def _compression_table(data: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            case["case"],
            *(
                f"{stage['ratio']:.1f}x, {_percent(stage['metrics'][case['metric']], 2)}"
                for stage in case["stages"]
            ),
        ]
        for case in data
    ]
    header = ["case", *(stage["title"] for stage in data[0]["stages"])]
    examples = data[0]["stages"][0]["metrics"]["examples"]
    place = f"Dense bytes over encoded bytes, and top-1 of {examples:,} test images; {data[0]['when'][:10]}."
    return f"{table(header, lines)}\n\n{place}"


def _search_table(data: Mapping[str, Any]) -> str:
    lines = []
    for found in data["records"]:
        errors = [candidate["error"] for candidate in found["candidates"]]
        after = found["after"]["top1"] if found["after"] else None
        lines.append(
            [
                f"{found['granularity']}, {len(errors)} masks, {', '.join(found['layers'])}",
                _percent(found["convolution_sparsity"], 1),
                f"{_percent(min(errors), 1)} to {_percent(max(errors), 1)}",
                _percent(1 - found["pruned"]["top1"], 2),
                "" if after is None else _percent(1 - after, 2),
                "" if after is None else f"{100 * (found['before']['top1'] - after):+.2f}",
                f"{found['retrain']['epochs']:g}",
                "yes" if after is not None and found["before"]["top1"] - after <= POINT else "no",
            ]
        )
    header = ["search", "convolution weights gone", "error of the candidates", "best, pruned", "retrained"]
    first = data["records"][0]
    place = (
        f"Misclassification rates. Candidates: {first['examples']:,} training images; the rest: "
        f"{first['before']['examples']:,} test images, dense {_percent(1 - first['before']['top1'], 2)}. "
        f"PyTorch {first['versions']['torch']}, {first['versions']['machine']}."
    )
    return f"{table([*header, 'change in points', 'epochs', 'within one point'], lines)}\n\n{place}"


def _place(data: Mapping[str, Any], control: Mapping[str, Any]) -> str:
    first, seeds = data["records"][0], {record["seed"] for record in data["records"]}
    examples = first["metrics"]["examples"]
    count, points = len(data["records"]), data["points"]
    partly = "" if count == points else f"**So far {count} of {points} points are measured.** "
    return (
        f"{partly}Dense control {_percent(control['mean'], 2)}; {examples:,} test examples, {len(seeds)} "
        f"{'seed' if len(seeds) == 1 else 'seeds'}, scope {first['scope']}, nothing retrained; "
        f"{first['when'][:10]}, PyTorch {first['versions']['torch']}, {first['versions']['machine']}. "
        "Accuracy in %, ± is the standard deviation over seeds; a method that draws nothing has none."
    )


def _way(row: Mapping[str, Any]) -> str:
    return repr([row["granularity"], row["options"], row["sparsity"]])


def _words(row: Mapping[str, Any]) -> str:
    title = GRANULARITIES[row["granularity"]].title
    for value in row["options"].values():
        title += " " + (":" if row["granularity"] == "nm" else " x ").join(map(str, value))
    return re.sub(r"^N:M ", "", title)


def _accuracy(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    spread = f" ± {100 * row['std']:.1f}" if row["distinct"] > 1 else ""
    return f"{100 * row['mean']:.1f}{spread}"


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"
