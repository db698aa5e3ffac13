"""Measure what pruning costs in accuracy and brings in time, by method and granularity, for docs/pruning.md.

    python -m benchmarks.pruning_study --measure cnn units g2p minilm times search
    python -m benchmarks.pruning_study --write

The first line measures the named parts, each into docs/data/pruning_<part>.json, with one thread and seeds
from 0; the second puts the tables into docs/pruning.md. A test holds the document equal to the data.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from benchmarks.pruning_tables import DATA, PAGE, blocks, with_blocks
from csbviz.models import load_sample
from csbviz.pruning.study import SPARSITIES, study
from csbviz.tasks import task_named

CONVOLUTIONS = ("conv1.weight", "conv2.weight")
METHODS = ("magnitude", "taylor", "wanda", "random", "sparsegpt")
PARTS: dict[str, dict[str, Any]] = {
    "cnn": {"sample": "fashion_cnn", "task": "fashion", "methods": METHODS, "seeds": (0, 1, 2)},
    "units": {
        "sample": "fashion_cnn",
        "task": "fashion",
        "methods": ("magnitude", "random"),
        "seeds": (0, 1, 2),
        "layers": CONVOLUTIONS,
        "granularities": (
            "weight",
            *({"nm": pair} for pair in ((4, 8), (2, 4), (2, 8), (1, 4), (1, 8), (1, 16))),
            {"block": (8, 8)},
            "kernel",
            "filter",
            "column",
        ),
    },
    "g2p": {"sample": "g2p_gru", "task": "g2p", "methods": METHODS, "seeds": (0,)},
    "minilm": {"sample": "minilm_l6", "task": "spam", "methods": METHODS, "seeds": (0,)},
}
SEARCHES = (
    {"granularity": "kernel", "sparsity": 0.86, "layers": CONVOLUTIONS},
    {"granularity": "kernel", "sparsity": 0.87, "layers": ("conv2.weight",)},
    {
        "granularity": "kernel",
        "sparsity": 0.87,
        "layers": ("conv2.weight",),
        "count": 100,
        "retrain": {"epochs": 3.0, "threads": 1},
    },
    {
        "granularity": "kernel",
        "sparsity": 0.865,
        "layers": ("conv2.weight",),
        "count": 100,
        "retrain": {"epochs": 4.0, "threads": 1},
    },
)


class Shown:
    """A progress that keeps what is measured so far in the file, so that nothing is lost on the way."""

    def __init__(self, part: str) -> None:
        self._part, self._count = part, 0

    def __call__(self, fraction: float, message: str = "", partial: Any = None) -> None:
        count = len((partial or {}).get("records", ()))
        if count > self._count:
            self._count = count
            save(self._part, partial)
            print(f"{self._part}: {100 * fraction:3.0f} % {message}", flush=True)

    def wanted(self) -> bool:
        return False


def path_of(part: str):
    """The file of a part."""
    return DATA / f"pruning_{part}.json"


def save(part: str, found: Mapping[str, Any]) -> None:
    """Write a part, one record a line, with what all its records share told once."""
    head = {name: value for name, value in found.items() if name not in ("records", "times")}
    lines = json.dumps(head, ensure_ascii=False)[:-1]
    for name in ("records", "times"):
        if name in found:
            rows = ",\n".join(json.dumps(_short(row), ensure_ascii=False) for row in found[name])
            lines += f', "{name}": [\n{rows}]'
    path_of(part).write_text(lines + "}\n", encoding="utf-8")


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {name: _short(item) for name, item in value.items()}
    return value


def measure_study(part: str, limit: int | None) -> dict[str, Any]:
    """One study; records that the file holds already, of as many examples, are not measured again."""
    given = dict(PARTS[part]) | {"limit": limit}
    sample, task = given.pop("sample"), task_named(given.pop("task"))
    weights = task.weights_of(load_sample(sample))
    layers = given.pop("layers", None) or tuple(
        name for name in task.network(weights).readers if name in weights
    )
    before = json.loads(path_of(part).read_text(encoding="utf-8")) if path_of(part).is_file() else {}
    done = before.get("records", ()) if before.get("limit", limit) == limit else ()
    settings = {"granularities": ("weight",), "sparsities": SPARSITIES, "calibration": 128} | given
    return study(task, weights, layers=layers, done=done, progress=Shown(part), **settings)


def measure_times() -> dict[str, Any]:
    """The part "units" with kernel times of its points, those of the seed 0."""
    from csbviz.bench.study_times import measure_points

    task = task_named("fashion")
    units = json.loads(path_of("units").read_text(encoding="utf-8"))
    records = [r for r in units["records"] if r["seed"] == 0 and r["method"] != "random"]
    weights = task.weights_of(load_sample("fashion_cnn"))
    found = measure_points(
        task, weights, records, layers=("conv2.weight",), ns=(1024,), threads=1, min_time=0.03
    )
    return units | found


def measure_search() -> dict[str, Any]:
    """The coarse searches, with retraining; those that the file holds already are not made again."""
    from csbviz.pruning.search import search

    task = task_named("fashion")
    weights = task.weights_of(load_sample("fashion_cnn"))
    path = path_of("search")
    found = json.loads(path.read_text(encoding="utf-8"))["records"] if path.is_file() else []
    for attempt in SEARCHES[len(found) :]:
        given = {"count": 30, "seed": 0, "examples": 500, "retrain": {"epochs": 1.0, "threads": 1}}
        done = search(task, weights, **given | attempt)
        zeros = sum(int((done.weights[name] == 0).sum()) for name in CONVOLUTIONS)
        share = zeros / sum(weights[name].size for name in CONVOLUTIONS)
        found.append(done.record() | {"convolution_sparsity": share})
        save("search", {"task": "fashion", "records": found})
    return {"task": "fashion", "records": found}


def main() -> None:
    """Measure parts, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--measure", nargs="+", default=[], choices=(*PARTS, "times", "search"), metavar="PART"
    )
    parser.add_argument("--limit", type=int, help="only the first test examples: a quick look")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/pruning.md")
    args = parser.parse_args()
    if args.measure:
        import torch

        torch.set_num_threads(1)
    for part in args.measure:
        if part == "times":
            save("units", measure_times())
        else:
            save(part, measure_search() if part == "search" else measure_study(part, args.limit))
    if args.write:
        PAGE.write_text(with_blocks(PAGE.read_text(encoding="utf-8"), blocks()), encoding="utf-8")


if __name__ == "__main__":
    main()
