"""Unsteady times are found, worst first; records without a time never are."""

from csbviz.bench.noise import spread, unsteady
from csbviz.bench.record import Record


def record(name, p25, median, p75, status="ok"):
    """A record with these quartiles."""
    common = {
        "format": "csr",
        "matrix": "m",
        "op": "A@B",
        "device": "cpu",
        "device_name": "d",
        "mode": "warm",
    }
    shape = {"m": 1, "k": 1, "n": 1, "nnz": 1, "sparsity": 0.0, "block_shape": (4, 4), "balance": None}
    kinds = {"dtype": "float32", "precision": "fp32", "params": {}, "threads": 1}
    times = {"p25_us": p25, "median_us": median, "p75_us": p75}
    return Record(kernel=name, title=name, status=status, **common, **shape, **kinds, **times)


def test_only_wide_quartiles_count_and_the_worst_comes_first():
    records = [record("wide", 50, 100, 150), record("steady", 98, 100, 103), record("wild", 10, 100, 900)]
    assert [found.kernel for found in unsteady(records)] == ["wild", "wide"]
    assert spread(records[0]) == 1.0


def test_a_record_without_a_time_is_not_unsteady():
    assert unsteady([record("none", None, None, None, status="unavailable")]) == []
