"""The benchmark script of the CPU kernel: its numbers are computed from the times, and it runs to the end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "cpu_spmm.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cpu_spmm", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def case(n, **microseconds):
    names = ("csb", "csb_t", "mkl", "mkl_copy_t", "scipy", "scipy_t", "dense", "dense_t")
    kernels = {name: {"median_us": microseconds.get(name, 10.0)} for name in names}
    return {"matrix": f"m{n}", "sparsity": 0.9, "n": n, "kernels": kernels}


def test_summary_takes_geometric_means_and_names_the_worst_case(script):
    cases = [case(32, csb=5.0, csb_t=20.0), case(128, csb=20.0, csb_t=20.0)]
    rows = {row["comparison"]: row for row in script.summarize(cases)}
    mkl = rows["A·B: MKL CSR / CSB"]
    assert mkl["geomean"] == pytest.approx(1.0)  # of 2 and 1/2
    assert mkl["reached"]
    assert mkl["by_n"] == {"32": 2.0, "128": 0.5}
    assert (mkl["worst"], mkl["worst_case"]) == (0.5, "m128, N = 128")
    assert not rows["A·B: SciPy / CSB"]["reached"]
    transposed = rows["Aᵀ·B / A·B of CSB (lower is better)"]
    assert (transposed["geomean"], transposed["worst"], transposed["reached"]) == (2.0, 4.0, False)
    assert rows["A·B: dense / CSB at 90 %, N ≥ 128"]["cases"] == 1


def test_a_wrong_kernel_is_not_timed(script):
    S = sp.eye(4, format="csr", dtype=np.float32)
    B = np.ones((4, 2), np.float32)
    script.verify({"right": lambda: S @ B, "right_t": lambda: S.T @ B}, S, B, B)
    with pytest.raises(SystemExit, match="off is wrong"):
        script.verify({"off": lambda: S @ B * 1.001}, S, B, B)
    with pytest.raises(SystemExit, match="nan is wrong"):
        script.verify({"nan": lambda: S @ B * np.nan}, S, B, B)


def test_runs_to_the_end(tmp_path):
    folder = tmp_path / "kind" / "0.9"
    folder.mkdir(parents=True)
    (folder / "layer.smtx").write_text(
        "64, 32, 128\n" + " ".join(map(str, range(0, 130, 2))) + "\n" + "3 17 " * 64
    )
    output = tmp_path / "out.json"
    command = [
        sys.executable,
        SCRIPT,
        "--folder",
        tmp_path,
        "--output",
        output,
        "--seconds",
        "0.001",
        "--rounds",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert [c["n"] for c in result["cases"]] == [32, 128, 512]
    assert result["cases"][0]["nnz"] == 128
    assert all(0 <= k["rel_error"] < 2e-6 for c in result["cases"] for k in c["kernels"].values())
    assert len(result["summary"]) == 7
    assert result["machine"]["versions"]["numba"]
    assert "A·B: MKL CSR / CSB" in done.stdout
