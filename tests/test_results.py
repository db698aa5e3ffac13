"""Every measured number in README and docs/measuring.md comes from a committed file of measurements."""

import pytest

from benchmarks import report


@pytest.mark.parametrize("path", ["README.md", "docs/measuring.md"])
def test_documents_hold_the_tables_of_the_data(path):
    target = report.ROOT / path
    text = target.read_text()
    assert text == report.with_block(text, report.blocks()[target]), (
        "run: python -m benchmarks.report --write"
    )


def test_the_means_are_geometric():
    assert report.geomean([1.0, 4.0]) == pytest.approx(2.0)


def test_a_case_takes_the_best_of_each_library():
    base = {
        "model": "m",
        "method": "p",
        "target": "0.9",
        "matrix": "x",
        "n": 8,
        "op": "A@B",
        "status": "ok",
        "nnz": 5,
    }
    records = [
        base | {"kernel": "cusparse_csr_alg1", "median_us": 9.0},
        base | {"kernel": "cusparse_csr_alg3", "median_us": 4.0},
        base | {"kernel": "csb_cuda", "median_us": 2.0},
        base | {"kernel": "csb_cuda", "median_us": 1.0, "status": "wrong"},
        base | {"kernel": "csb_cuda", "median_us": 1.0, "nnz": 0, "matrix": "empty"},
    ]
    assert list(report.gpu_cases({"records": records}).values()) == [{"csr": 4.0, "csb_cuda": 2.0}]
