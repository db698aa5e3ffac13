"""The tables of docs/balance.md on what a GPU executed, from docs/data/balance_gpu.json and recordings."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.gpu_tables import geomean
from csbviz.balance import STRATEGIES
from csbviz.balance.recording import BalanceRecording, load_recording, recordings

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "docs" / "data" / "balance_gpu.json"
DOCUMENT = ROOT / "docs" / "balance.md"
BEGIN, END = "<!-- balance on the GPU: begin -->", "<!-- balance on the GPU: end -->"
BEFORE = ("in_order", "grid")
WHOLE = "64"  # height of an item that is a whole block row
KINDS = {
    "even": "Transformer, magnitude pruning: even",
    "uneven": "Transformer, variational dropout: uneven",
    "few": "ResNet-50, magnitude pruning: two or four block rows",
}


def cases(data: dict) -> dict[tuple, dict[tuple, dict]]:
    """Verified records by strategy and execution, for each (kind, matrix, target, op, n)."""
    found: dict[tuple, dict] = defaultdict(dict)
    for record in data["records"]:
        if record["status"] == "ok":
            key = tuple(record[name] for name in ("kind", "matrix", "target", "op", "n"))
            found[key][record["strategy"], record["execution"]] = record
    return {key: group for key, group in found.items() if BEFORE in group}


def name_of(variant: tuple[str, str]) -> str:
    """Strategy and execution in a few characters."""
    strategy, execution = variant
    mark = "\\*" if STRATEGIES[strategy].deterministic else ""
    return f"`{strategy}`{' with tickets' if execution == 'ticket' else ''}{mark}"


def time_table(data: dict, kind: str) -> str:
    """Time against block rows in order, by N, and what each strategy costs."""
    groups = {key: group for key, group in cases(data).items() if key[0] == kind}
    columns = sorted({key[-1] for key in groups})
    head = [f"N = {n}" for n in columns]
    head += ["all", "fastest in", "λ planned", "λ measured", "jobs", "partials, KiB"]
    whole = all("by_height" in record for group in groups.values() for record in group.values())
    head += ["whole block rows"] if whole else []
    lines = [f"| strategy | {' | '.join(head)} |", "| --- |" + " ---: |" * len(head)]
    fastest = [min(group, key=lambda v: group[v]["median_us"]) for group in groups.values()]
    for variant in dict.fromkeys(v for group in groups.values() for v in group):
        own = {key: group for key, group in groups.items() if variant in group}

        def median(field, variant=variant, own=own):
            return float(np.median([group[variant][field] for group in own.values()]))

        cells = [f"{gain(own, variant, n):.2f}" for n in columns] + [f"**{gain(own, variant):.2f}**"]
        cells += [f"{fastest.count(variant)} of {len(groups)}"]
        cells += [f"{median('planned'):.2f}", f"{median('measured'):.2f}", f"{median('jobs'):.0f}"]
        cells += [f"{median('partial_bytes') / 1024:.0f}"]
        cells += [f"{gain(own, variant, height=WHOLE):.2f}"] if whole else []
        lines.append(f"| {name_of(variant)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sparsity_table(data: dict) -> str:
    """Every strategy at every sparsity: its speed over block rows in order, λ before and after, and wins."""
    found = cases(data)
    targets = sorted({key[2] for key in found}, key=float)
    head = [f"{100 * float(target):.0f} %" for target in targets]
    lines = [f"| strategy | {' | '.join(head)} |", "| --- |" + " --- |" * len(head)]
    for variant in dict.fromkeys(v for group in found.values() for v in group):
        if variant == BEFORE:
            continue
        cells = []
        for target in targets:
            own = {key: group for key, group in found.items() if key[2] == target and variant in group}
            if not own:
                cells.append("")
                continue
            wins = sum(min(group, key=lambda v: group[v]["median_us"]) == variant for group in own.values())
            before, after = (
                float(np.median([group[which]["measured"] for group in own.values()]))
                for which in (BEFORE, variant)
            )
            cells.append(f"{gain(own, variant):.2f}, λ {before:.2f} → {after:.2f}, {wins} of {len(own)}")
        lines.append(f"| {name_of(variant)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gain(groups: dict, variant: tuple, n: int | None = None, height: str | None = None) -> float:
    """How many times as fast as block rows in order, geometric mean over the products with N columns."""

    def time_of(record: dict) -> float:
        return record["by_height"][height] if height else record["median_us"]

    chosen = [group for key, group in groups.items() if n in (None, key[-1])]
    return geomean(time_of(group[BEFORE]) / time_of(group[variant]) for group in chosen)


def layer_table(data: dict) -> str:
    """Every product without tickets: speed-ups over block rows in order; the best is bold from 2 % on."""
    groups = cases(data)
    variants = [v for v in dict.fromkeys(v for group in groups.values() for v in group) if v[1] != "ticket"]
    head = ["sparsity", "nonzeros", "N", "λ in order", "µs in order", *(f"`{v[0]}`" for v in variants[1:])]
    lines = [f"| layer | {' | '.join(head)} |", "| --- |" + " ---: |" * len(head)]
    for (kind, _, target, _, n), group in sorted(groups.items(), key=_by_shape):
        before = group[BEFORE]
        gains = {v: before["median_us"] / group[v]["median_us"] for v in variants if v in group}
        cells = [
            target,
            f"{before['nnz']:,}",
            str(n),
            f"{before['planned']:.2f}",
            f"{before['median_us']:.1f}",
        ]
        for v in variants[1:]:
            text = f"{gains[v]:.2f}" if v in gains else ""
            cells.append(f"**{text}**" if v in gains and gains[v] == max(gains.values()) >= 1.02 else text)
        lines.append(f"| {kind} {before['m']} x {before['k']} | {' | '.join(cells)} |")
    return "\n".join(lines)


_SPARSITY = (
    "All layers of a sparsity together: speed over block rows in order, measured λ of those and of the "
    "strategy (medians), and in how many products the strategy is the fastest of all."
)
_BOLD = "Speed-ups over block rows in order, without tickets. Bold: the fastest, where it gains 2 % or more."


def _by_shape(entry: tuple) -> tuple:
    (kind, _, target, _, n), group = entry
    return group[BEFORE]["m"], group[BEFORE]["k"], kind, target, n


def tables(data: dict) -> str:
    """What was measured over many layers: by kind and strategy, and product by product."""
    device = data["device"]
    parts = []
    for kind, title in KINDS.items():
        keys = [key for key in cases(data) if key[0] == kind]
        if not keys:
            continue
        targets = ", ".join(sorted({key[2] for key in keys}))
        parts.append(f"#### {title}\n\n{time_table(data, kind)}")
        parts.append(f"{len(keys)} products at sparsity {targets}.")
    heights = ", ".join(map(str, data["heights"]))
    place = (
        f"{device['name']}, {data['when'][:10]}, float32, warm; kernel `csb_gather`; blocks "
        f"{' x '.join(map(str, data['block_shape']))}; each strategy with the best of items of {heights} "
        "rows. N = … and *all* are speed-ups over block rows in order (geometric means), *whole block rows* "
        "the same with items of 64 rows; λ, jobs and partials are medians over the products."
    )
    if not any("by_height" in record for record in data["records"]):
        place = place.replace(", *whole block rows* the same with items of 64 rows", "")
    parts += [place, *filter(None, [data.get("note")])]
    parts += ["#### By sparsity", _SPARSITY, sparsity_table(data)]
    return "\n\n".join((*parts, "#### Product by product", _BOLD, layer_table(data)))


def recorded_table(recording: BalanceRecording) -> str:
    """Time and λ of every run of a recording."""
    head = ["µs", "λ planned", "λ measured", "jobs", "longest job / mean"]
    lines = [f"| strategy | {' | '.join(head)} |", "| --- |" + " ---: |" * len(head)]
    for run in recording.runs:
        length = run.end_ns - run.start_ns
        cells = [f"{run.median_us:.1f}", f"{run.planned_imbalance:.2f}", f"{run.imbalance:.2f}"]
        cells += [str(run.item.size), f"{length.max() / length.mean():.2f}"]
        lines.append(f"| {name_of((run.strategy, run.execution))} | {' | '.join(cells)} |")
    shape = " x ".join(map(str, recording.matrix["shape"]))
    place = f"{shape}, {recording.matrix['nnz']:,} nonzeros, N = {recording.n}, recorded {recording.date}"
    return f"**{recording.title}** ({place})\n\n" + "\n".join(lines)


def all_tables() -> str:
    """What the document shows: the recorded runs, and the measurements over many layers."""
    parts = [recorded_table(load_recording(path)) for path in recordings().values()]
    if DATA.exists():
        parts.append(tables(json.loads(DATA.read_text(encoding="utf-8"))))
    return "\n\n".join(parts)


def write_tables() -> None:
    """Put the tables between the markers of the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    DOCUMENT.write_text(f"{text[:begin]}\n\n{all_tables()}\n\n{text[end:]}", encoding="utf-8")
