"""Turn the measured JSON files in docs/data into the tables of README and docs/measuring.md.

``python -m benchmarks.report`` prints the tables; ``--write`` puts them between the results markers of both
files. A test holds the files equal to what this prints, so that no number is there that no file holds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import gpu_data, gpu_report
from benchmarks.gpu_tables import geomean, table
from benchmarks.user_speed import AIMS

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
OPS = {"A@B": "A·B", "A.T@B": "Aᵀ·B"}


def load(name: str) -> dict:
    """One of the committed measurements."""
    return json.loads((DATA / name).read_text())


def load_if_there(name: str) -> dict | None:
    """A measurement that need not have been made, or None."""
    return load(name) if (DATA / name).is_file() else None


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
    gpu = gpu_report.Report(gpu_data.read(DATA / "gpu_spmm.json"), load_if_there("choice.json"))
    speed = speed_table(load("user_speed.json"))
    readme = f"""
CPU, Deep Learning Matrix Collection at 80 to 95 % sparsity, N = 32, 128, 512:

{cpu_short}

{gpu.short()}
"""
    measuring = f"""
### CPU

`python benchmarks/cpu_spmm.py --output docs/data/cpu_spmm.json` over the matrices of `DLMC_DIR` at 80, 90 and
95 % sparsity. Geometric means over all cases, and the worst single case; the first name of a ratio is above.

{cpu_full}

### GPU

{gpu.full()}

### The same with the command line

`python -m csbviz bench FILES --device cpu --n 128,512 --json docs/data/bench_cpu.json`, and the same with
`--device cuda`, for the files of the collection at 90 %: geometric means over the layers, against the best
CSR of one copy and the best dense of the same precision. Each contender had 0.01 s on the GPU
(`--min-time 0.01`). The committed files leave the samples out.

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
