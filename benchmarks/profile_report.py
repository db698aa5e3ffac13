"""Turn docs/data/ncu.json into the tables of docs/kernels.md.

``python -m benchmarks.profile_report`` prints them; ``--write`` puts them between the markers. A test holds
the document equal to what this prints.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from benchmarks.gpu_tables import table
from benchmarks.profile_kernels import SAMPLED

ROOT = Path(__file__).resolve().parent.parent
DATA, DOCUMENT = ROOT / "docs" / "data" / "ncu.json", ROOT / "docs" / "kernels.md"
BEGIN, END = "<!-- profile: begin -->", "<!-- profile: end -->"
LADDER = "<!-- ladder: begin -->", "<!-- ladder: end -->"
STEPS = (
    ("csb_simple", {}, 512, "1", "sums in shared memory, entries one by one"),
    ("csb_gather", {}, 512, "2", "entries gathered by row, sums in registers, 16 bytes of B a lane"),
    ("csb_rows", {"form": "panel"}, 512, "3", "a panel of B in shared memory for all rows of a tile"),
    ("csb_mma", {}, 512, "4", "blocks decompressed into tiles for tensor cores, three products"),
    ("csb_wgmma", {}, 512, "5", "other warps decompress while `wgmma` multiplies from shared memory"),
    ("csb_wgmma", {}, 128, "5", "the same with few columns"),
    ("csb_few", {}, 128, "6", "no pipeline: everything is asked for at once"),
)
"""Kernel, what is set of it, columns, version, and what it does otherwise than the one before."""
OPS = {"A@B": "A·B", "A.T@B": "Aᵀ·B", "A@x": "A·x", "A.T@x": "Aᵀ·x"}
COLUMNS = (
    "kernel",
    "operation",
    "µs, cold",
    "compulsory MB",
    "DRAM MB",
    "L2 MB",
    "L1 hits",
    "shared wavefronts",
    "issue slots",
    "tensor pipe",
    "occupancy",
    "registers",
    "CTAs",
)


def combined(launches: list[dict]) -> dict:
    """One case's launches as one: sums of what adds up; shares weighted by time; resources of the longest."""
    total = sum(launch["us"] for launch in launches)
    longest = max(launches, key=lambda launch: launch["us"])
    found = {"us": total}
    for name in ("dram_bytes", "l2_bytes", "shared_wavefronts"):
        found[name] = sum(launch[name] or 0 for launch in launches)
    for name in ("l1_hit", "issue", "tensor", "occupancy"):
        parts = [(launch[name], launch["us"]) for launch in launches if launch[name] is not None]
        weight = sum(us for _, us in parts)
        found[name] = sum(value * us for value, us in parts) / weight if weight else None
    return found | {name: longest[name] for name in ("registers", "ctas")}


def _mega(value: float) -> str:
    return f"{value / 1e6:.2f}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _group(case: dict) -> str:
    """What the cases of a table have in common."""
    if case["op"] == "SDDMM":
        return f"sampled product, N = {case['n']}"
    return f"N = {case['n']}" if case["n"] > 1 else "one vector, and the conversion"


def _order(entry: tuple) -> tuple:
    """Products before sampled ones before the rest, most columns first."""
    (sparsity, group), cases = entry
    return sparsity, "N =" not in group, group.startswith("sampled"), -cases[0]["n"]


def _variant(case: dict) -> str:
    params = case.get("params") or {}
    if "version" in params:
        return f", version {SAMPLED.index(params) + 2}"
    return f", {params['form']}" if "form" in params else ""


def row(case: dict) -> list[str]:
    """A case as a row of `COLUMNS`."""
    found = combined(case["launches"])
    launches = len(case["launches"])
    name = f"`{case['name']}`{_variant(case)}" + (f" ({launches} launches)" if launches > 1 else "")
    return [
        name,
        OPS.get(case["op"], case["op"]),
        f"{found['us']:.1f}",
        _mega(case["compulsory_bytes"]),
        _mega(found["dram_bytes"]),
        _mega(found["l2_bytes"]),
        _share(found["l1_hit"]),
        f"{found['shared_wavefronts'] / 1e3:,.0f} k",
        _share(found["issue"]),
        _share(found["tensor"]),
        _share(found["occupancy"]),
        f"{found['registers']:.0f}",
        f"{found['ctas']:,.0f}",
    ]


def block(data: dict) -> str:
    """What stands between the markers."""
    parts = []
    rows, cols = data["shape"]
    groups: dict[tuple, list] = defaultdict(list)
    for case in data["cases"]:
        groups[case["sparsity"], _group(case)].append(case)
    for (sparsity, group), cases in sorted(groups.items(), key=_order):
        parts.append(f"{rows} × {cols}, {100 * sparsity:.0f} % sparse, {group}:")
        parts.append(table(list(COLUMNS), [row(case) for case in cases]))
    device = data["device"]
    parts.append(f"{device['name']}, driver {device.get('driver', '?')}, {data['when'][:10]}; float32.")
    return "\n\n".join(parts)


def ladder(data: dict) -> str:
    """From version to version: what changed, what it gained, and what moved in the profile."""
    lowest = min(case["sparsity"] for case in data["cases"])
    found = {
        (case["name"], json.dumps(case.get("params") or {}), case["n"], case["sparsity"]): case
        for case in data["cases"]
        if case["op"] == "A@B"
    }
    sparsities = sorted({case["sparsity"] for case in data["cases"]})
    head = ["version", "N", "what changed", *(f"µs, {100 * s:.0f} %" for s in sparsities)]
    head += ["L2 MB", "shared wavefronts", "issue slots", "tensor pipe", "occupancy"]
    rows, before = [], {}
    for name, params, n, version, change in STEPS:
        key = name, json.dumps(params), n
        if (*key, lowest) not in found:
            continue
        times = []
        for sparsity in sparsities:
            case = found.get((*key, sparsity))
            us = combined(case["launches"])["us"] if case else None
            last = before.get((n, sparsity))
            gain = f" ({last / us:.1f}x)" if us and last else ""
            times.append(f"{us:.1f}{gain}" if us else "")
            before[n, sparsity] = us
        shown = dict(zip(COLUMNS, row(found[*key, lowest]), strict=True))
        rest = [shown[name] for name in head[-5:]]
        rows.append([f"{version} `{name}`", str(n), change, *times, *rest])
    return table(head, rows)


def with_block(text: str, between: str, begin: str = BEGIN, end: str = END) -> str:
    """The text with what stands between two markers replaced."""
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    return f"{head}{begin}\n{between.strip()}\n{end}{tail}"


def renewed(text: str) -> str:
    """The document with both tables as the committed profile has them."""
    if not DATA.is_file():
        return text
    data = json.loads(DATA.read_text())
    return with_block(with_block(text, block(data)), ladder(data), *LADDER)


def main() -> None:
    """Print the tables, or write them into the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/kernels.md")
    options = parser.parse_args()
    if options.write:
        DOCUMENT.write_text(renewed(DOCUMENT.read_text()))
    else:
        print(renewed(f"{LADDER[0]}{LADDER[1]}\n{BEGIN}{END}"))


if __name__ == "__main__":
    main()
