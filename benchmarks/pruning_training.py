"""Train the sample CNN until it is sparse, by every method, and record accuracy, sparsity and time.

    python -m benchmarks.pruning_training --output docs/data/pruning_training.json

trains each case of `CASES` on the 60,000 images of Debian's package dataset-fashion-mnist, or on the 12,000
of sample_models with ``--extract``, with the seed 0, and prints a table for the docs. Every accuracy is that
of the 10,000 test images. A case that the file holds already is not trained again; ``--cases gradual`` takes
those whose name begins so. One to three minutes a case.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from csbviz.models import load_sample
from csbviz.pruning.training import TRAINING, Trained, train
from csbviz.tasks import Task, fashion, task_named

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "dense control": ("finetune", {"sparsity": 0.0}),
    "finetune 90": ("finetune", {"sparsity": 0.9}),
    "iterative 90": ("iterative", {"sparsity": 0.9}),
    "gradual 90": ("gradual", {"sparsity": 0.9}),
    "gradual 91, longer": ("gradual", {"sparsity": 0.91, "epochs": 4.0}),
    "gradual 95": ("gradual", {"sparsity": 0.95}),
    "gradual 98": ("gradual", {"sparsity": 0.98}),
    "gradual 90, random": ("gradual", {"sparsity": 0.9, "criterion": "random"}),
    "variational": ("variational", {}),
    "l0": ("l0", {}),
}
"""Name → method and what differs from its usual settings."""


def record_of(task: Task, case: str, trained: Trained, cpu_seconds: float) -> dict[str, Any]:
    """A study's record of one training, with its curve.

    Sparsity is that of the pruned layers, compression the parameters over those that are not zero, and the
    speed-up the theoretical one: multiplications with and without the zeros.
    """
    asked = TRAINING[trained.method].asks_sparsity
    settings = trained.settings
    products = task.network(trained.weights).products
    size = sum(array.size for array in trained.weights.values())
    kept = sum(np.count_nonzero(array) for array in trained.weights.values())
    dense = sum(trained.weights[name].size * n for name, n in products.items())
    sparse = sum(np.count_nonzero(trained.weights[name]) * n for name, n in products.items())
    return {
        "case": case,
        "task": trained.task,
        "method": settings["criterion"] if asked else trained.method,
        "granularity": settings["granularity"],
        "options": settings["options"],
        "scope": settings["scope"],
        "seed": settings["seed"],
        "sparsity": settings["sparsity"] if asked else None,
        "sparsity_reached": trained.sparsity,
        "compression": size / int(kept),
        "speedup": dense / int(sparse),
        "metrics": trained.after,
        "before": trained.before,
        "per_layer": trained.per_layer,
        "retrained": trained.method,
        "epochs": trained.epochs,
        "steps": trained.steps,
        "seconds": round(trained.seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "curve": [_rounded(point) for point in trained.curve],
        "settings": settings,
        "data": trained.data,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": trained.versions,
    }


def _rounded(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in point.items()}


def measure(args: argparse.Namespace, known: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Records of the cases that are not known yet."""
    task = task_named("fashion")
    weights = task.weights_of(load_sample("fashion_cnn"))
    for case, (method, settings) in CASES.items():
        if any(record["case"] == case for record in known) or not case.startswith(args.cases):
            continue
        settings = settings | {"threads": args.threads, "seed": 0}
        if args.epochs:
            settings["epochs"] = args.epochs
        begun = time.process_time()
        trained = train(task, weights, method, settings, progress=_shown(case))
        yield record_of(task, case, trained, time.process_time() - begun)


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| training | sparsity | compression | speed-up in theory | top-1 | change | epochs | CPU seconds |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for record in records:
        change = 100 * (record["metrics"]["top1"] - record["before"]["top1"])
        yield (
            f"| {record['case']} | {100 * record['sparsity_reached']:.1f} % | {record['compression']:.1f}x "
            f"| {record['speedup']:.1f}x | {100 * record['metrics']['top1']:.2f} % | {change:+.2f} "
            f"| {record['epochs']:g} | {record['cpu_seconds']:.0f} |"
        )


def _shown(case: str):
    def progress(fraction: float, message: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{case}: {100 * fraction:3.0f} %, {message:70}", end="", file=sys.stderr)

    return progress


def main() -> None:
    """Train what is asked for, keep it after each case, and print the table."""
    parser = argparse.ArgumentParser(description="Train the sample CNN until it is sparse, by every method.")
    parser.add_argument("--output", type=Path, default=Path("docs/data/pruning_training.json"))
    parser.add_argument("--cases", default="", help="those whose name begins so")
    parser.add_argument("--epochs", type=float, default=0.0, help="another number than usual")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--extract", action="store_true", help="train on the 12,000 images of sample_models")
    args = parser.parse_args()
    if args.extract:
        fashion.TRAINING_FOLDER = Path(os.devnull)
    records = json.loads(args.output.read_text(encoding="utf-8")) if args.output.is_file() else []
    for record in measure(args, records):
        records.append(record)
        records.sort(key=lambda x: list(CASES).index(x["case"]))
        args.output.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(records)))


if __name__ == "__main__":
    main()
