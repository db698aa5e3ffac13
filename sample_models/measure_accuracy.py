"""Measure the sample CNN dense and pruned in one shot, without any training after it.

    python -m sample_models.measure_accuracy        # prints the table of README.md, writes the JSON beside it

Every value is the share of the 10,000 test images that are named rightly (top-1). Random pruning depends on
its seed: mean and standard deviation over three.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

from csbviz.models import load_sample
from csbviz.pruning import prune_model
from csbviz.tasks.accuracy import accuracy

SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
CASES = (("magnitude", "global", 1), ("magnitude", "layer", 1), ("random", "global", 3))
SEEDS = (0, 1, 2)


def main():
    """Measure every method and scope at every sparsity; print Markdown, write JSON."""
    parser = argparse.ArgumentParser(description="Measure the accuracy of the pruned sample CNN.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("fashion_cnn_accuracy.json"))
    args = parser.parse_args()
    model = load_sample("fashion_cnn")
    dense = accuracy(model)["top1"]
    rows = []
    print("| method | scope | dense | " + " | ".join(f"{sparsity:.0%}" for sparsity in SPARSITIES) + " |")
    print("| --- | --- |" + " ---: |" * (len(SPARSITIES) + 1))
    for method, scope, runs in CASES:
        cells = []
        for sparsity in SPARSITIES:
            values = [
                accuracy(prune_model(model, method, scope, sparsity, seed=seed).model)["top1"]
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
        print(f"| {method} | {scope} | {dense:.1%} | " + " | ".join(cells) + " |", flush=True)
    record = {"model": model.name, "digest": model.digest, "dense": dense, "pruned": rows}
    args.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
