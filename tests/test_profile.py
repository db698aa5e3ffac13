"""The profile of the kernels: ncu's output is read rightly, and docs/kernels.md holds what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import profile_kernels, profile_report

METRICS = [metric for metric, _ in profile_kernels.METRICS.values()]
HEADER = ",".join(f'"{name}"' for name in ("ID", "Process ID", "Kernel Name", *METRICS))
UNITS = ",".join('""' for _ in range(3 + len(METRICS)))


def line(name: str, *values) -> str:
    """A row of ncu's raw page."""
    return ",".join(f'"{cell}"' for cell in ("0", "77", name, *values))


def raw_page(*rows: str) -> str:
    """What ncu prints: its own messages, the header, units, rows, and what the program itself says."""
    return "\n".join(["==PROF== Connected to process 77", HEADER, UNITS, *rows, "==PROF== Disconnected"])


FULL = ("12,345.0", "1,000,000", "4,000,000", "25", "50,000", "40", "10", "55.5", "64", "132")
CASES = [
    {"name": "a", "op": "A@B", "sparsity": 0.8, "n": 512, "compulsory_bytes": 2_000_000},
    {"name": "b", "op": "A@B", "sparsity": 0.8, "n": 512, "compulsory_bytes": 2_000_000},
]


def test_launches_belong_to_the_case_that_was_marked_before_them():
    first = line("spmm(float const*)", *FULL)
    second = line("add_partials<float>(float*)", "655.0", *FULL[1:])
    none = line("csbviz_mark_1()", *["0"] * len(METRICS))
    text = raw_page(line("csbviz_mark_0()", *["0"] * len(METRICS)), first, second, none, first)
    a, b = profile_kernels.read_profile(text, CASES)
    assert [launch["kernel"] for launch in a["launches"]] == ["spmm", "add_partials<float>"]
    assert [launch["kernel"] for launch in b["launches"]] == ["spmm"]
    launch = a["launches"][0]
    assert launch["us"] == pytest.approx(12.345)
    assert (launch["dram_bytes"], launch["l2_bytes"], launch["shared_wavefronts"]) == (1e6, 4e6, 5e4)
    assert (launch["l1_hit"], launch["issue"], launch["occupancy"]) == (0.25, 0.4, 0.555)
    assert (launch["registers"], launch["ctas"]) == (64, 132)


def test_what_a_device_does_not_count_is_left_open():
    text = raw_page(line("csbviz_mark_0", *FULL), line("spmm", *FULL[:6], "n/a", *FULL[7:]))
    (case, _) = profile_kernels.read_profile(text, CASES)
    assert case["launches"][0]["tensor"] is None
    assert profile_report.row(case)[9] == ""
    assert profile_kernels.read_profile("==ERROR== nothing", CASES)[0]["launches"] == []


def test_launches_of_a_case_add_up_and_shares_are_weighted_by_time():
    base = dict.fromkeys(profile_kernels.METRICS, 1.0)
    long = base | {"us": 30.0, "issue": 0.5, "registers": 128, "l2_bytes": 5.0}
    short = base | {"us": 10.0, "issue": 0.1, "registers": 16, "l2_bytes": 2.0}
    found = profile_report.combined([short, long])
    assert (found["us"], found["l2_bytes"], found["registers"]) == (40.0, 7.0, 128)
    assert found["issue"] == pytest.approx(0.4)
    assert profile_report.row(CASES[0] | {"launches": [short, long]})[0] == "`a` (2 launches)"


def test_the_sample_is_the_same_every_time_and_as_sparse_as_it_says():
    for sparsity in profile_kernels.SPARSITIES:
        first, again = (profile_kernels.sample_matrix.__wrapped__(sparsity) for _ in range(2))
        assert first.shape == profile_kernels.SHAPE
        assert np.array_equal(first.data, again.data)
        assert 1 - first.nnz / np.prod(first.shape) == pytest.approx(sparsity, abs=2e-3)


def test_every_kernel_that_is_profiled_is_in_the_registry():
    from csbviz.ops.registry import kernels

    known = {kernel.name for kernel in kernels(device="cuda")}
    named = {case.name for case in profile_kernels.all_cases()} - {"convert", "sddmm"}
    assert named <= known


def test_the_document_holds_the_tables_of_the_data():
    text = profile_report.DOCUMENT.read_text()
    assert text == profile_report.renewed(text), "run: python -m benchmarks.profile_report --write"


def test_the_ladder_tells_what_each_version_gained_over_the_one_before():
    base = dict.fromkeys(profile_kernels.METRICS, 1.0)

    def case(name: str, us: float, sparsity: float = 0.8, **params) -> dict:
        shared = {"op": "A@B", "n": 512, "compulsory_bytes": 1, "params": params}
        return {"name": name, "sparsity": sparsity, "launches": [base | {"us": us}]} | shared

    cases = [case("csb_simple", 90.0), case("csb_simple", 30.0, 0.95), case("csb_gather", 30.0)]
    cases += [case("csb_rows", 5.0, form="pieces"), case("csb_rows", 20.0, form="panel")]
    lines = profile_report.ladder({"cases": cases}).splitlines()
    assert lines[0].startswith("| version | N | what changed | µs, 80 % | µs, 95 % | L2 MB |")
    assert [line.split(" | ")[3] for line in lines[2:]] == ["90.0", "30.0 (3.0x)", "20.0 (1.5x)"]
    assert [line.split(" | ")[4].strip() for line in lines[2:]] == ["30.0", "", ""]
