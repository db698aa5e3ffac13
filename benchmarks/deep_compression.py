"""Compress the sample CNN as Deep Compression does, and record size and accuracy after each stage.

    python -m benchmarks.deep_compression --output docs/data/pruning_compression.json

compresses each case of `CASES`: pruned at once, or trained on the way by `csbviz.pruning.training` with the
seed 0, on the 60,000 images of Debian's package dataset-fashion-mnist or, without it, on the 12,000 of
sample_models. Every accuracy is that of the 10,000 test images, every size that of a whole file. A case that
the output holds already is not measured again. About two minutes of one processor for a trained case.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csbviz.models import load_sample
from csbviz.pruning.compression import compress_stages
from csbviz.pruning.training import train
from csbviz.tasks import task_named

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "one-shot 80": ("", {}, {"sparsity": 0.8}),
    "one-shot 80, 4 bits": ("", {}, {"sparsity": 0.8, "linear_bits": 4}),
    "gradual 90": ("gradual", {"sparsity": 0.9}, {}),
    "gradual 90, 4 bits": ("gradual", {"sparsity": 0.9}, {"conv_bits": 6, "linear_bits": 4}),
}
"""Name → how it is trained, the settings of that, and what differs from the usual compression."""


def measure(known: list[dict[str, Any]], wanted: str, threads: int) -> Iterator[dict[str, Any]]:
    """Records of the cases that are not known yet."""
    task = task_named("fashion")
    dense = load_sample("fashion_cnn")
    trained: dict[str, Any] = {}
    for case, (method, settings, compression) in CASES.items():
        if any(record["case"] == case for record in known) or not case.startswith(wanted):
            continue
        model, training, options = dense, None, dict(compression)
        if method:
            settings = {**settings, "seed": 0, "threads": threads}
            key = json.dumps([method, settings], sort_keys=True)
            if key not in trained:
                begun = time.process_time()
                result = train(task, task.weights_of(dense), method, settings)
                trained[key] = result, time.process_time() - begun
            result, seconds = trained[key]
            model = result.model(dense)
            options |= {"sparsity": None, "dense": dense}
            training = {
                "method": method,
                "settings": result.settings,
                "sparsity_reached": result.sparsity,
                "epochs": result.epochs,
                "cpu_seconds": round(seconds, 1),
                "data": result.data,
            }
        found = compress_stages(model, **options)
        del found["file"]
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        yield {"case": case, "training": training, **found, "when": when}


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| case | stage | bytes | smaller by | top-1 | change |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for record in records:
        first = record["stages"][0]["metrics"]["top1"]
        for stage in record["stages"]:
            top1 = stage["metrics"]["top1"]
            yield (
                f"| {record['case']} | {stage['stage']} | {stage['bytes']:,} | {stage['ratio']:.1f}x "
                f"| {100 * top1:.2f} % | {100 * (top1 - first):+.2f} |"
            )


def main() -> None:
    """Measure what is missing, keep it after each case, and print the table."""
    parser = argparse.ArgumentParser(description="Compress the sample CNN as Deep Compression does.")
    parser.add_argument("--output", type=Path, default=Path("docs/data/pruning_compression.json"))
    parser.add_argument("--cases", default="", help="those whose name begins so")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    records = json.loads(args.output.read_text(encoding="utf-8")) if args.output.is_file() else []
    for record in measure(records, args.cases, args.threads):
        records.append(record)
        records.sort(key=lambda x: list(CASES).index(x["case"]))
        args.output.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(records)))


if __name__ == "__main__":
    main()
