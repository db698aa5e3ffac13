"""What a sweep leaves out: never a variant without a prediction, only what is far from its class's best."""

from __future__ import annotations

import types

import numpy as np
import pytest
import scipy.sparse as sp

from benchmarks import gpu_case, gpu_spmm, gpu_sweep
from benchmarks.gpu_sets import HELD_OUT_COLUMNS
from csbviz.formats import CSBMatrix
from csbviz.ops import choice_candidates
from csbviz.ops.cuda import panel
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.registry import get_kernel

H100 = DeviceLimits(0, 132, 232448, (9, 0), 50 << 20, 233472, 2048)


@pytest.fixture
def matrix(monkeypatch):
    for module in (choice_candidates, panel, gpu_sweep):
        monkeypatch.setattr(module, "current_device", lambda: H100)
    return CSBMatrix.from_scipy(sp.random(512, 512, 0.1, "csr", dtype=np.float32, random_state=1), 64)


def setting(name, time):
    return gpu_sweep.Setting(get_kernel(name), {}, time)


def test_each_class_has_a_best_of_its_own():
    found = [setting("csb_wgmma", 8.0), setting("csb_rows", 17.0), setting("csb_wgmma_tf32", 4.0)]
    found += [setting("csb_wgmma_tf32", 9.0), setting("csb_gather", None)]
    kept = gpu_sweep.near(found, 2.0)
    assert [(s.kernel.name, s.predicted_us) for s in kept] == [
        ("csb_wgmma", 8.0),
        ("csb_wgmma_tf32", 4.0),
        ("csb_gather", None),
    ]


def test_the_predicted_best_is_measured_and_few_others(matrix):
    kernels = [
        get_kernel(name) for name in ("csb_cuda", "csb_wgmma", "csb_rows", "csb_gather", "cublas_fp32")
    ]
    every, few = (gpu_sweep.settings_of(kernels, matrix, "A@B", 512, within) for within in (1e9, 1.3))
    assert {s.kernel.name for s in every} == {"csb_wgmma", "csb_rows", "csb_gather"}
    least = min(s.predicted_us for s in every if s.predicted_us is not None)
    assert 2 < len(few) < len(every) / 2
    assert least in [s.predicted_us for s in few]
    assert [s.params for s in few if s.kernel.name == "csb_gather"] == [{}]  # has no candidates


def test_matrices_of_the_collection_take_columns_in_turn():
    assert {n for index in range(4) for n in gpu_sweep.sweep_columns(index, (128, 512, 2048))} >= {
        64,
        128,
        2048,
    }
    assert gpu_sweep.sweep_columns(1, HELD_OUT_COLUMNS) == HELD_OUT_COLUMNS


def test_a_sweep_hands_on_what_it_measured(matrix, monkeypatch):
    class Case:
        def __init__(self, A, dense, op, n):
            self.n = n

        def measure(self, kernel, mode, min_time, *, seen, sample_us, **params):
            status = "repeated" if kernel.name == "csb_rows" else "ok"
            return {"kernel": kernel.name, "n": self.n, "status": status}

    monkeypatch.setattr(gpu_case, "Case", Case)
    names = ("csb_rows", "csb_wgmma")
    monkeypatch.setattr(gpu_case, "contenders", lambda *_: [get_kernel(name) for name in names])
    said = []
    settings = types.SimpleNamespace(columns=(64, 128), kernels=names, both=False, within=1e9, min_time=0.001)
    run = gpu_spmm._Run(3, set(), lambda *what: said.append(what), settings, (128,))
    run.sweep(matrix, None)
    records = [value for kind, value in said if kind == "record"]
    assert records
    assert {record["kernel"] for record in records} == {"csb_wgmma"}
    assert {record["n"] for record in records} == {64, 128}
    assert all(record["layer"] == 3 and record["asked"]["tile_m"] for record in records)
