"""Every measured number in README and docs/measuring.md comes from a committed file of measurements."""

import pytest

from benchmarks import gpu_data, gpu_tables, report


@pytest.mark.parametrize("path", ["README.md", "docs/measuring.md"])
def test_documents_hold_the_tables_of_the_data(path):
    target = report.ROOT / path
    text = target.read_text()
    assert text == report.with_block(text, report.blocks()[target]), (
        "run: python -m benchmarks.report --write"
    )


def test_the_means_are_geometric():
    assert report.geomean([1.0, 4.0]) == pytest.approx(2.0)


def record(kernel, median_us, **others):
    base = {"model": "m", "method": "p", "target": "0.9", "matrix": "x", "n": 8, "op": "A@B", "nnz": 5}
    return base | {"kernel": kernel, "median_us": median_us, "status": "ok"} | others


def ratios(*records):
    """Label → cell at 90 % of the main table."""
    rows = gpu_tables.reach_rows(gpu_tables.cases_of({"records": records}), lambda key: True)
    return {row[0]: row[1 + gpu_tables.TARGETS.index("0.9")] for row in rows}


def test_a_case_takes_the_best_of_each_library_and_verified_times_only():
    found = ratios(
        record("cusparse_csr_alg1", 9.0),
        record("cusparse_csr_alg3", 4.0),
        record("csb_cuda", 2.0),
        record("csb_cuda", 1.0, status="wrong"),
        record("csb_cuda", 1.0, nnz=0, matrix="empty"),
        record("cublas_fp32", 7.0),
    )
    assert found == {
        "A·B, fp32 vs cuSPARSE, best": "**2.00** / 1.8",
        "A·B, fp32 vs cuBLAS fp32": "**3.50** / 2.6",
    }


def test_means_are_over_cases_and_aims_are_told_apart():
    pairs = [(1.0, 1.0, "a"), (4.0, 1.0, "b")]
    found = ratios(
        *(record("cusparse_csr_alg3", peer, matrix=name) for peer, _, name in pairs),
        *(record("csb_cuda", own, matrix=name) for _, own, name in pairs),
    )
    assert found == {"A·B, fp32 vs cuSPARSE, best": "**2.00** / 1.8"}
    found = ratios(record("cusparse_csr_alg3", 1.5), record("csb_cuda", 1.0))
    assert found == {"A·B, fp32 vs cuSPARSE, best": "1.50 / 1.8"}


def test_what_is_missed_is_said_by_the_mean_and_by_single_cases():
    records = [
        record("cusparse_csr_alg3", 1.5),
        record("csb_cuda", 1.0),
        record("csb_rows", 0.8),  # the choice lost 1.25
        *(record(name, 1.0, matrix=f"even {i}") for i in range(5) for name in ("csb_cuda", "csb_rows")),
    ]
    said = gpu_tables.missed(gpu_tables.cases_of({"records": records}), lambda key: True)
    assert said == (
        "Not reached: A·B, fp32 vs cuSPARSE, best at 90%.\n"
        "Reached in the mean but not in every case: time of A·B as chosen vs the fastest CSB kernel at 90%."
    )
    few = [record("cusparse_csr_alg3", 5.0), record("csb_cuda", 1.0)]
    assert gpu_tables.missed(gpu_tables.cases_of({"records": few}), lambda key: True) == ""


def test_the_transposed_product_is_compared_with_a_stored_transpose():
    stored = {"op": "A@B", "stored": "transpose"}
    found = ratios(
        record("csb_cuda", 3.0, op="A.T@B"),
        record("csb_cuda", 2.0, **stored),
        record("cusparse_csr_alg3", 6.0, **stored),
        record("csb_cuda", 5.0),  # another shape: no peer of the transposed product
    )
    assert found == {
        "Aᵀ·B, fp32 vs cuSPARSE on a second, transposed copy": "2.00",
        "time of Aᵀ·B vs A·B of a stored Aᵀ": "1.50 (≤ 1.50) / 1.1",
    }


def test_classes_and_modes_are_never_mixed():
    found = ratios(
        record("csb_cuda", 1.0),
        record("cublas_tf32", 5.0),
        record("csb_cuda_tf32", 2.0),
        record("cublas_fp16", 1.0, dtype="float16"),
        record("csb_cuda", 1.0, op="A@x", n=1, mode="warm"),
        record("cusparse_spmv", 9.0, op="A@x", n=1, mode="cold"),
    )
    assert found == {"A·B, TF32 vs cuBLAS TF32": "**2.50** / 1.3"}


def test_vectors_are_compared_cold():
    found = ratios(
        record("csb_spmv", 2.0, op="A@x", n=1, mode="cold"),
        record("csb_spmv", 2.5, op="A.T@x", n=1, mode="cold"),
        record("cusparse_spmv", 3.0, op="A@x", n=1, mode="cold"),
        record("cusparse_spmv", 5.0, op="A.T@x", n=1, mode="cold"),
    )
    assert found == {
        "A·x, fp32, cold vs cuSPARSE, best": "**1.50** / 1.3",
        "Aᵀ·x, fp32, cold vs cuSPARSE, best": "**2.00** / 1.3",
        "time of Aᵀ·x, cold vs A·x": "1.25 (≤ 1.25) / 1.2",
    }


def test_a_file_of_measurements_comes_back_as_it_was(tmp_path):
    layers = [{"matrix": "x", "nnz": 5}, {"matrix": "y", "nnz": 6}]
    records = [{"layer": 1, "kernel": "csb_cuda"}, {"layer": 0, "kernel": "csb_rows", "params": {"warps": 8}}]
    gpu_data.write(tmp_path / "run.json", {"when": "today", "device": {"name": "g"}}, layers, records)
    data = gpu_data.read(tmp_path / "run.json")
    assert (data["when"], data["device"]) == ("today", {"name": "g"})
    assert data["records"] == [layers[record["layer"]] | record for record in records]


def test_the_choice_is_compared_with_the_fastest_family():
    found = ratios(
        record("csb_cuda", 3.0),
        record("csb_rows", 2.5),
        record("csb_wgmma", 4.0),
        record("csb_wgmma_tf32", 1.0, precision="tf32"),
    )
    assert found == {"time of A·B as chosen vs the fastest CSB kernel": "1.20 (≤ 1.20) / 1.1"}
