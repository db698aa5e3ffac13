"""Timing of whole layers: what is verified, what is recorded, and what happens to a layer that is wrong."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.bench import BenchRequest, Record, bench_matrix
from csbviz.bench.layer import bench_layer
from csbviz.bench.names import LAYER_OPS
from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix

KERNELS = ["csb_layer", "csr_layer", "dense_layer"]


def weights(rows: int = 96, columns: int = 64, density: float = 0.1):
    return sp.random(rows, columns, density, "csr", rng=np.random.default_rng(0))


@pytest.mark.parametrize("layout", ["tokens_first", "features_first"])
@pytest.mark.parametrize(
    ("dtype", "precision", "bound"), [("float32", "fp32", 2e-6), ("float64", "fp64", 1e-13)]
)
def test_every_layer_is_verified_and_timed(dtype, precision, bound, layout):
    csr = weights()
    records = bench_layer(csr, name="w", tokens=(5, 1), min_time=0.003, dtype=dtype, layout=layout)
    assert [(r.n, r.op, r.kernel) for r in records] == [
        (n, op, kernel) for n in (5, 1) for op in LAYER_OPS for kernel in KERNELS
    ]
    for record in records:
        assert record.ok, record.message
        assert record.rel_error <= bound
        assert record.median_us > 0
        assert (record.matrix, record.dtype, record.precision, record.mode) == ("w", dtype, precision, "warm")
        assert (record.m, record.k, record.nnz) == (96, 64, csr.nnz)
        assert record.params["layout"] == layout
        assert record.copies == (2 if record.kernel == "csr_layer" else 1)
        assert Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_times_and_bytes_are_consistent():
    csr = weights(512, 256).astype(np.float32)
    records = {(r.op, r.kernel): r for r in bench_layer(csr, tokens=(32,), min_time=0.01)}
    for op in LAYER_OPS:
        csb, peer, dense = (records[op, kernel] for kernel in KERNELS)
        assert csb.speedup_vs_csr == pytest.approx(peer.median_us / csb.median_us)
        assert csb.speedup_vs_dense == pytest.approx(dense.median_us / csb.median_us)
        assert dense.bytes == 4 * 512 * 256
        assert peer.bytes == 2 * 8 * csr.nnz + 4 * (512 + 256 + 2)
        assert 4 * csr.nnz < csb.bytes < peer.bytes
        products = {"layer.forward": 1, "layer.backward": 2, "layer": 3}[op]
        assert csb.tflops == pytest.approx(2e-6 * products * csr.nnz * 32 / csb.median_us)


def test_a_layer_is_one_more_operation_of_a_run():
    A = CSBMatrix.from_scipy(weights().astype(np.float32), block_shape=16)
    messages = []
    request = BenchRequest(ops=("A@B", "layer"), ns=(4, 8), min_time=0.002)
    records = bench_matrix(A, request, name="w", progress=lambda part, text: messages.append((part, text)))
    assert {(r.op, r.n) for r in records} == {(op, n) for op in ("A@B", *LAYER_OPS) for n in (4, 8)}
    assert all(r.block_shape == (16, 16) for r in records)
    parts = [part for part, _ in messages]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert any("8 tokens: timing" in text for _, text in messages)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("product", "Y"),
        ("transposed_product", "gradient of X"),
        ("sampled_product", "gradient of the weights"),
    ],
)
def test_a_wrong_layer_is_not_timed(what, name, monkeypatch):
    from csbviz.nn.product import CSBWeights

    real = getattr(CSBWeights, what)
    monkeypatch.setattr(CSBWeights, what, lambda *arguments: real(*arguments) * 1.0001)
    records = bench_layer(weights(), tokens=(4,), min_time=0.002)
    wrong = [record for record in records if record.kernel == "csb_layer"]
    assert len(wrong) == 3
    for record in wrong:
        assert record.status == "wrong"
        assert record.median_us is None
        assert not record.samples
        assert re.match(f"Its {name} is off by .*e-0[45] where 2e-06 is the bound", record.message)
    assert all(r.ok and r.speedup_vs_csr for r in records if r.kernel != "csb_layer")


def test_a_layer_that_fails_leaves_the_others(monkeypatch):
    from csbviz.nn.product import CSBWeights

    def fail(*_):
        raise RuntimeError("no\nmemory")

    monkeypatch.setattr(CSBWeights, "transposed_product", fail)
    records = bench_layer(weights(), tokens=(4,), min_time=0.002)
    failed = [record for record in records if not record.ok]
    assert {record.kernel for record in failed} == {"csb_layer"}
    assert {(record.status, record.message) for record in failed} == {("failed", "RuntimeError: no memory")}


def test_without_a_gpu_the_records_say_so(monkeypatch):
    import csbviz.bench.layer as layer

    monkeypatch.setattr(layer, "gpu_state", lambda: (None, "No NVIDIA driver was found."))
    monkeypatch.setattr(layer, "device_name", lambda device: "none")
    records = bench_layer(weights(), tokens=(4,), device="cuda", min_time=0.002)
    assert len(records) == 9
    assert {(r.status, r.message) for r in records} == {("unavailable", "No NVIDIA driver was found.")}


def test_float32_products_stay_float32():
    import torch

    torch.set_float32_matmul_precision("high")
    try:
        bench_layer(weights(), tokens=(4,), min_time=0.001)
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": (0,)}, "between 1 and 65536; 0 was asked for"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"layout": "sideways"}, "no layout 'sideways'"),
        ({"dtype": "float16"}, "float32 or float64 values; float16"),
        ({"threads": 10_000}, "Threads must be between"),
    ],
)
def test_bad_options_are_one_sentence(options, message):
    with pytest.raises(OptionError, match=message):
        bench_layer(weights(), **options)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["tokens_first", "features_first"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_on_a_gpu(dtype, layout):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch was installed without CUDA")
    records = bench_layer(
        weights(256, 192), tokens=(130, 1), device="cuda", min_time=0.005, dtype=dtype, layout=layout
    )
    assert len(records) == 18
    for record in records:
        assert record.ok, (record.kernel, record.op, record.message)
        assert record.threads is None
    times = {(r.op, r.kernel, r.n): r.median_us for r in records}
    for kernel in KERNELS:
        parts = times["layer.forward", kernel, 130] + times["layer.backward", kernel, 130]
        assert times["layer", kernel, 130] == pytest.approx(parts, rel=0.3)
