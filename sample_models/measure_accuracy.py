"""Measure the sample models that there is data for, dense and pruned in one shot, without training after it.

    python -m sample_models.measure_accuracy            # all of them, some minutes on two cores
    python -m sample_models.measure_accuracy spam       # one task

It prints the tables of README.md and writes a JSON file for each sample beside it. Every value is the share
of test examples that are right by the task's first metric. Random pruning depends on its seed: mean and
standard deviation over three.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from csbviz.models import load_sample
from csbviz.pruning import prune_model
from csbviz.tasks import TASKS, task_named
from csbviz.tasks.accuracy import accuracy

SPARSITIES = {
    "fashion": (0.5, 0.7, 0.8, 0.9, 0.95),
    "spam": (0.3, 0.5, 0.6, 0.7, 0.8),
    "g2p": (0.3, 0.5, 0.6, 0.7, 0.8),
}
CASES = (("magnitude", "global", 1), ("magnitude", "layer", 1), ("random", "global", 3))
SEEDS = (0, 1, 2)


def measured(task):
    """Measure every method and scope at every sparsity; prints Markdown, gives what the JSON file holds."""
    model = load_sample(task.sample)
    metric, sparsities = task.metric.name, SPARSITIES[task.name]
    dense = accuracy(model)
    rows = []
    print("\n| method | scope | dense | " + " | ".join(f"{sparsity:.0%}" for sparsity in sparsities) + " |")
    print("| --- | --- |" + " ---: |" * (len(sparsities) + 1))
    for method, scope, runs in CASES:
        cells = []
        for sparsity in sparsities:
            values = [
                accuracy(prune_model(model, method, scope, sparsity, seed=seed).model)[metric]
                for seed in SEEDS[:runs]
            ]
            spread = stdev(values) if runs > 1 else None
            rows.append(
                {
                    "method": method,
                    "scope": scope,
                    "sparsity": sparsity,
                    "accuracy": round(mean(values), 6),
                    "std": None if spread is None else round(spread, 6),
                    "seeds": list(SEEDS[:runs]),
                }
            )
            cells.append(f"{mean(values):.1%}" + ("" if spread is None else f" ± {100 * spread:.1f}"))
        print(f"| {method} | {scope} | {dense[metric]:.1%} | " + " | ".join(cells) + " |", flush=True)
    return {
        "model": model.name,
        "digest": model.digest,
        "metric": metric,
        "examples": dense["examples"],
        "dense": dense[metric],
        "pruned": rows,
    }


def main():
    """Measure the tasks that are asked for, and write their files."""
    named = [task.name for task in TASKS.values() if task.sample]
    parser = argparse.ArgumentParser(description="Measure the accuracy of the pruned sample models.")
    parser.add_argument("tasks", nargs="*", default=named, metavar="TASK", help=f"of {', '.join(named)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the JSON files")
    args = parser.parse_args()
    for task in map(task_named, args.tasks):
        record = measured(task)
        (args.out / f"{task.sample}_accuracy.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
