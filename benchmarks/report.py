"""Turn the measured JSON files in docs/data into the tables of README and docs/measuring.md.

``python -m benchmarks.report`` prints the tables; ``--write`` puts them between the results markers of both
files. A test holds the files equal to what this prints, so that no number is there that no file holds.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

from benchmarks.user_speed import AIMS

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
OPS = {"A@B": "A·B", "A.T@B": "Aᵀ·B"}


def geomean(values) -> float:
    """Geometric mean of positive numbers."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    align = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, align, *rows])


def load(name: str) -> dict:
    """One of the committed measurements."""
    return json.loads((DATA / name).read_text())


def cpu_tables(data: dict) -> tuple[str, str]:
    """Short and full table of the CPU benchmark."""
    machine = data["machine"]
    rows, short = [], []
    for row in data["summary"]:
        by_n = [f"{row['by_n'].get(str(n), 0):.2f}" if str(n) in row["by_n"] else "" for n in (32, 128, 512)]
        mean = f"**{row['geomean']:.2f}**"
        rows.append([row["comparison"], mean, row["aim"], *by_n, f"{row['worst']:.2f} ({row['worst_case']})"])
        short.append([row["comparison"], mean, f"{row['worst']:.2f}"])
    versions = machine["versions"]
    place = (
        f"{machine['device']}, {machine['threads']} threads (SciPy's products have one), float32, warm, "
        f"{machine['when'][:10]}, PyTorch {versions['torch']}, SciPy {versions['scipy']}; "
        f"{len(data['cases'])} cases."
    )
    header = ["time ratio", "geomean", "aim", "N = 32", "N = 128", "N = 512", "worst case"]
    return table(["time ratio", "geomean", "worst"], short) + f"\n\n{place}", table(
        header, rows
    ) + f"\n\n{place}"


def gpu_cases(data: dict) -> dict[tuple, dict[str, float]]:
    """Best verified median of each contender in each case; matrices without an entry do not count."""
    cases: dict[tuple, dict[str, float]] = defaultdict(dict)
    for record in data["records"]:
        if record["status"] != "ok" or not record["nnz"]:
            continue
        kernel = record["kernel"]
        who = "csr" if kernel.startswith("cusparse") else kernel
        key = (
            record["model"],
            record["method"],
            record["target"],
            record["matrix"],
            record["n"],
            record["op"],
        )
        known = cases[key].get(who, math.inf)
        cases[key][who] = min(known, record["median_us"])
    return cases


def _gpu_row(label: str, found: list[dict[str, float]], transposed: list[dict[str, float]]) -> list[str]:
    def mean(cases, peer):
        return f"{geomean(case[peer] / case['csb_cuda'] for case in cases):.2f}"

    worst = min(case["csr"] / case["csb_cuda"] for case in found)
    ratios = [mean(found, peer) for peer in ("csr", "cublas_fp32", "cublas_tf32")]
    return [
        label,
        str(len(found)),
        *ratios,
        f"{worst:.2f}",
        mean(transposed, "csr"),
        mean(transposed, "cublas_fp32"),
    ]


def gpu_tables(data: dict) -> tuple[str, str]:
    """Short table by sparsity, and full table by sparsity and N, of the GPU benchmark."""
    cases = gpu_cases(data)
    header = ["sparsity", "cases", "A·B vs cuSPARSE", "vs cuBLAS fp32", "vs TF32 (less exact)"]
    header += ["worst vs cuSPARSE", "Aᵀ·B vs cuSPARSE", "vs cuBLAS fp32"]
    short, full = [], []
    targets = sorted({key[2] for key in cases}, key=float)
    for target in targets:
        pick = lambda op, n=None, t=target: [  # noqa: E731  (a filter of two lines, used only here)
            case for key, case in cases.items() if key[2] == t and key[5] == op and n in (None, key[4])
        ]
        name = f"{float(target):.0%}"
        short.append(_gpu_row(name, pick("A@B"), pick("A.T@B")))
        for n in sorted({key[4] for key in cases}):
            full.append(_gpu_row(f"{name}, N = {n}", pick("A@B", n), pick("A.T@B", n)))
    short.append(
        _gpu_row(
            "all",
            [case for key, case in cases.items() if key[5] == "A@B"],
            [case for key, case in cases.items() if key[5] == "A.T@B"],
        )
    )
    device = data["device"]
    place = (
        f"{device['name']}, driver {device['driver']}, CuPy {device['cupy']}, float32, {data['mode']}, "
        f"{data['when'][:10]}; cuSPARSE's best algorithm in each case; sparsity is the pruning target."
    )
    return table(header, short) + f"\n\n{place}", table(header, full) + f"\n\n{place}"


def bench_table(data: dict) -> str:
    """What ``python -m csbviz bench`` wrote: CSB against the best CSR and dense, by operation and N."""
    found = [r for r in data["records"] if r["kernel"].startswith("csb_") and r["status"] == "ok"]
    rows = []
    for op, n in sorted({(record["op"], record["n"]) for record in found}):
        part = [record for record in found if (record["op"], record["n"]) == (op, n)]
        csr = [record["speedup_vs_csr"] for record in part]
        dense = [record["speedup_vs_dense"] for record in part]
        numbers = [
            geomean(record["median_us"] for record in part),
            geomean(csr),
            min(csr),
            geomean(dense),
            min(dense),
        ]
        error = max(record["rel_error"] for record in part)
        rows.append([f"{OPS[op]}, N = {n}", str(len(part)), *[f"{x:.2f}" for x in numbers], f"{error:.0e}"])
    header = ["product", "layers", "CSB, µs", "vs CSR", "worst", "vs dense", "worst", "largest error"]
    record = found[0]
    threads = f", {record['threads']} threads" if record["threads"] else ""
    return (
        f"{table(header, rows)}\n\n{record['device_name']}{threads}, {record['mode']}, {record['when'][:10]}."
    )


def speed_table(data: dict) -> str:
    """The speed a user feels, beside its aims."""
    rows = [[name, f"{data['figures'][name]:.2f}", f"≤ {aim:g}"] for name, aim in AIMS.items()]
    return table(["what", "measured", "aim"], rows) + f"\n\n{data['device']}, {data['when'][:10]}."


def blocks() -> dict[Path, str]:
    """What stands between the markers of each file."""
    cpu_short, cpu_full = cpu_tables(load("cpu_spmm.json"))
    gpu_short, gpu_full = gpu_tables(load("gpu_spmm.json"))
    speed = speed_table(load("user_speed.json"))
    readme = f"""
CPU, Deep Learning Matrix Collection at 80 to 95 % sparsity, N = 32, 128, 512:

{cpu_short}

GPU, the same collection at 70 to 98 %, N = 128 and 512 (ResNet-50: 196 and 1568); above 1 CSB is faster:

{gpu_short}
"""
    measuring = f"""
### CPU

`python benchmarks/cpu_spmm.py --output docs/data/cpu_spmm.json` over the matrices of `DLMC_DIR` at 80, 90 and
95 % sparsity. Geometric means over all cases, and the worst single case; the first name of a ratio is above.

{cpu_full}

### GPU

`python benchmarks/gpu_spmm.py --dlmc DIR --json docs/data/gpu_spmm.json`. Ratios of the competitor's time
over CSB's: above 1 CSB is faster. Matrices that pruning left without a single entry are not counted.

{gpu_short}

By number of columns:

{gpu_full}

This is the first version of the GPU kernels, on CUDA cores only: TF32 on tensor cores is ahead of it up to
about 95 % sparsity, and dense fp32 at 70 %.

### The same with the command line

`python -m csbviz bench FILES --device cpu --n 128,512 --json docs/data/bench_cpu.json`, and the same with
`--device cuda`, for the files of the collection at 90 %: geometric means over the layers, against the best
CSR of one copy and the best dense of the same precision. The committed files leave the samples out.

{bench_table(load("bench_cpu.json"))}

{bench_table(load("bench_cuda.json"))}

### The speed a user feels

`python -m benchmarks.user_speed --json docs/data/user_speed.json`, in headless Chromium with the sample
transformer. Its largest layer, the word embeddings, holds 11.7 million nonzeros while it is not pruned, and
takes longer than the others.

{speed}
"""
    return {ROOT / "README.md": readme, ROOT / "docs" / "measuring.md": measuring}


def with_block(text: str, block: str) -> str:
    """The text with what stands between its markers replaced."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{block.strip()}\n{END}{tail}"


def main() -> None:
    """Print the tables, or write them into the documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", action="store_true", help="put the tables into README.md and docs/measuring.md"
    )
    options = parser.parse_args()
    for path, block in blocks().items():
        if options.write:
            path.write_text(with_block(path.read_text(), block))
        else:
            print(f"## {path.relative_to(ROOT)}\n{block}")


if __name__ == "__main__":
    main()
