"""The GPU part of the measured tables: text around what `gpu_tables` computes from a run."""

from __future__ import annotations

from collections import defaultdict

from benchmarks import gpu_tables
from benchmarks.gpu_tables import HEADER, HELD_OUT, table

__all__ = ["Report"]

README_ROWS = 8
"""Rows of the main table that the README shows: the products in full precision and the TF32 class."""


class Report:
    """The tables of one run of the benchmark.

    Parameters
    ----------
    data : dict
        What `gpu_data.read` gave.
    choice : dict or None
        What ``benchmarks.fit_choice`` wrote.
    """

    def __init__(self, data: dict, choice: dict | None = None):
        self._data, self._choice = data, choice
        self._cases = gpu_tables.cases_of(data)

    def place(self) -> str:
        """Device, versions and date, under every table."""
        device = self._data["device"]
        return (
            f"{device['name']}, driver {device['driver']}, CuPy {device['cupy']}, warm unless cold is said, "
            f"{self._data['when'][:10]}; sparsity is the pruning target."
        )

    def _arguments(self, data: dict) -> str:
        words = list(data.get("arguments", ("--sweep",)))
        for name in ("--dlmc", "--json", "--budget"):  # of the machine, not of what was measured
            if name in words:
                del words[words.index(name) : words.index(name) + 2]
        return " ".join(["--dlmc DIR", *words])

    def _left_out(self) -> str:
        """What the command measures besides, where the run was told to leave it out."""
        parts = []
        if not any(key.model == HELD_OUT for key in self._cases):
            parts.append("a held-out set of seeded matrices")
        if not any(key.dtype == "float16" for key in self._cases):
            parts.append("half-precision products")
        if not any(key.mode.startswith("call: ") for key in self._cases):
            parts.append("what calls cost from Python")
        if not parts:
            return ""
        return f"\nNot in this run, though the command can measure it: {', '.join(parts)}."

    def _columns(self) -> str:
        by_model: dict[str, set] = defaultdict(set)
        for key in self._cases:
            if key.op == "A@B" and key.model != HELD_OUT:
                by_model[key.model == "rn50"].add(key.n)
        others, convolutions = (", ".join(map(str, sorted(by_model[kind]))) for kind in (False, True))
        return f"N = {others}" + (f" (ResNet-50: {convolutions})" if convolutions else "")

    def _main(self) -> list[list[str]]:
        return gpu_tables.reach_rows(self._cases, lambda key: key.model != HELD_OUT)

    def short(self) -> str:
        """The README's table."""
        return (
            f"GPU, the same collection at 70 to 98 %, {self._columns()}: time of the other over "
            "CSB's, geometric\n"
            "means / aim, bold where the aim is reached; one stored copy serves A·B and Aᵀ·B:\n\n"
            f"{table(HEADER, self._main()[:README_ROWS])}\n\n{self.place()}"
        )

    def full(self) -> str:
        """The tables of docs/measuring.md."""
        by_columns = ["", "cases", "A·B vs cuSPARSE", "vs cuBLAS fp32", "Aᵀ·B vs cuSPARSE"]
        parts = [
            f"`python -m benchmarks.gpu_spmm {self._arguments(self._data)}`\n"
            "(`make bench-gpu`). Ratios are the other's time over CSB's: above 1 CSB is faster. "
            "Geometric means over\n"
            f"the matrices and {self._columns()}, then the aim; bold where it is reached.\n"
            "In rows of times lower is better, and the worst case stands in brackets. Every "
            "library has its best\n"
            "algorithm in each case. Matrices that pruning left without a single entry are not counted."
            f"{self._left_out()}",
            table(HEADER, self._main()),
            gpu_tables.missed(self._cases, lambda key: key.model != HELD_OUT) or "Every aim is reached.",
            self.place(),
            "By sparsity and number of columns, `csb_cuda`:",
            table([*by_columns, "worst A·B vs cuSPARSE"], gpu_tables.by_columns_rows(self._cases)),
            self.place(),
        ]
        held = gpu_tables.held_out_rows(self._cases)
        if held:
            parts += [
                "#### Held-out matrices",
                "Seeded matrices of other shapes and patterns (`benchmarks/gpu_sets.py`), with N = "
                "64, 100, 256 "
                "and 1024;\nno constant was fitted to them.",
                table(HEADER, held),
                self.place(),
            ]
        parts += self._families() + self._calls() + self._choice_part()
        return "\n\n".join(parts)

    def _families(self) -> list[str]:
        """Which kernel the choice takes, and how often."""
        counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for record in self._data["records"]:
            if record["kernel"] != "csb_cuda" or record["status"] != "ok" or not record["nnz"]:
                continue
            chosen = (record.get("params") or {}).get("kernel")
            if chosen and record["op"] in ("A@B", "A.T@B") and record["dtype"] == "float32":
                counts[chosen][record["target"]] += 1
        if not counts:
            return []
        rows = [
            [f"`{name}`", *(str(found.get(target, 0)) for target in gpu_tables.TARGETS)]
            for name, found in sorted(counts.items())
        ]
        return ["What `csb_cuda` chose, products of float32 values:", table(HEADER, rows)]

    def _calls(self) -> list[str]:
        rows = [
            [record["mode"].removeprefix("call: "), f"{record['median_us']:.1f}"]
            for record in self._data["records"]
            if record.get("mode", "").startswith("call: ")
        ]
        if not rows:
            return []
        return [
            "What a call costs the Python program, which does not wait for the GPU:",
            table(["call", "µs"], rows),
        ]

    def _sweeps(self) -> str:
        runs = dict.fromkeys(" ".join(run) for run in self._choice["runs"])
        return ",\n".join(f"`python -m benchmarks.gpu_spmm --dlmc DIR {run} --json FILE`" for run in runs)

    def _choice_part(self) -> list[str]:
        if self._choice is None:
            return []
        names = {"fp32": "fp32", "tf32": "TF32"}
        rows = []
        for name, losses in self._choice["losses"].items():
            for row in losses:
                p95 = f"{row['p95']:.2f}" if row.get("p95") else ""
                worst = f"{row['worst']:.2f}" if row.get("worst") else ""
                off = f"{row['prediction_off']:.0%}" if "prediction_off" in row else ""
                rows.append(
                    [f"{names[name]}: {row['set']}", str(row["cases"]), f"{row['mean']:.3f}", p95, worst, off]
                )
        return [
            "#### What the choice loses",
            f"{self._sweeps()}, then\n"
            "`python -m benchmarks.fit_choice SWEEPS --write`: time of the variant that the model "
            "chooses over the best of\nall measured variants of all families, and how far the "
            "predicted times are from the measured ones (root mean\nsquare of the log). Measured were the "
            "variants that the costs before put within that factor of the best, and\nthose that had no costs "
            "yet. The times are kept in `docs/data/choice_sweep.json.gz`; `python -m\nbenchmarks.fit_choice` "
            "repeats the fit from them, without a GPU and without the matrices.",
            table(["", "cases", "mean", "95 %", "worst", "prediction off"], rows),
            f"{self._choice['device']['name']}, {self._choice['when'][:10]}.",
        ]
