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


def tables() -> str:
    """The tables of the committed profile, or a word where there is none."""
    return block(json.loads(DATA.read_text())) if DATA.is_file() else "Not profiled yet."


def with_block(text: str, between: str) -> str:
    """The text with what stands between its markers replaced."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{between.strip()}\n{END}{tail}"


def main() -> None:
    """Print the tables, or write them into the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/kernels.md")
    options = parser.parse_args()
    if options.write:
        DOCUMENT.write_text(with_block(DOCUMENT.read_text(), tables()))
    else:
        print(tables())


if __name__ == "__main__":
    main()
