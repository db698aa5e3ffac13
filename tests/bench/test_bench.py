"""The benchmark verifies before it times, and never times a wrong kernel."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from csbviz.bench import BenchRequest, Record, bench_matrix, verdict
from csbviz.bench.timing import last_cache_bytes
from csbviz.bench.verify import to_float, unwritten
from csbviz.errors import InputError, JobError, OptionError
from csbviz.formats import CSBMatrix
from csbviz.formats.dtypes import bits_of
from csbviz.ops import Kernel, Prepared, registry


@pytest.fixture
def A():
    csr = sp.random(96, 80, density=0.15, format="csr", dtype=np.float32, random_state=1)
    return CSBMatrix.from_scipy(csr, block_shape=(16, 16))


@pytest.fixture
def broken_kernel():
    """A kernel that leaves its last row unwritten."""

    def prepare(A, op, n, *, threads, balance="auto"):
        csr = A.to_scipy() if op == "A@B" else A.to_scipy().T.tocsr()

        def run(B, out):
            out[:-1] = (csr @ B)[:-1]
            return out

        return Prepared(run, 0)

    registry.kernels()
    kernel = registry.register(
        Kernel(
            name="broken",
            title="Broken",
            format="coo",
            device="cpu",
            ops=("A@B",),
            dtypes=("float32",),
            precision={"float32": "fp32"},
            prepare=prepare,
            summary="Forgets its last row.",
        )
    )
    yield kernel
    del registry._KERNELS["broken"]


def quick(**changes):
    return BenchRequest(**({"ns": (8,), "min_time": 0.01} | changes))


def test_every_cpu_kernel_is_verified_and_timed(A):
    messages = []
    records = bench_matrix(A, quick(), name="layer", progress=lambda f, m: messages.append((f, m)))
    assert {(r.kernel, r.op) for r in records} >= {
        (kernel, op)
        for kernel in ("csb_cpu", "csr_mkl", "csr_scipy", "dense_torch")
        for op in ("A@B", "A.T@B")
    }
    for r in records:
        assert r.ok, (r.kernel, r.status, r.message)
        assert r.p25_us <= r.median_us <= r.p75_us
        assert r.rel_error < 2e-6
        assert r.speedup_vs_csr > 0
        assert r.bytes > 0
        assert r.when
        assert r.versions["numpy"]
    fractions = [fraction for fraction, _ in messages]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert "CSB is" in verdict(records).sentence


def test_best_baseline_has_a_ratio_of_one(A):
    records = bench_matrix(A, quick(ops=("A@B",)))
    assert max(r.speedup_vs_csr for r in records if r.format == "csr") == pytest.approx(1.0)
    assert max(r.speedup_vs_dense for r in records if r.format == "dense") == pytest.approx(1.0)


def test_a_wrong_kernel_is_reported_and_not_timed(A, broken_kernel):
    (record,) = bench_matrix(A, quick(ops=("A@B",), kernels=("broken",)))
    assert record.status == "wrong"
    assert record.median_us is None
    assert record.samples == []
    assert "no time is stated" in record.message
    json.dumps(record.to_dict(), allow_nan=False)


def test_every_strategy_gets_a_record(A):
    balances = ("in_order", "swizzle", "chunks", "equal_nnz")
    records = bench_matrix(A, quick(ops=("A@B",), kernels=("csb_cpu",), balances=balances))
    assert [r.balance for r in records] == list(balances)
    assert all(r.ok and r.imbalance >= 1.0 for r in records)


def test_cold_runs_are_timed_one_by_one(A):
    (record,) = bench_matrix(A, quick(ops=("A@B",), kernels=("csr_scipy",), mode="cold"))
    assert record.ok
    assert len(record.samples) >= 15
    assert record.threads == 1
    assert last_cache_bytes() > 1 << 20


def test_cuda_kernels_without_a_gpu_say_why(A):
    from csbviz.ops.devices import gpu_state

    if gpu_state()[0] is not None:
        pytest.skip("this machine has a GPU")
    records = bench_matrix(A, quick(ops=("A@B",), device="cuda"))
    assert records
    assert all(r.status == "unavailable" and r.message for r in records)


@pytest.fixture
def cuda_kernel(monkeypatch):
    """A CUDA kernel that runs out of memory, on a machine that seems to have a GPU."""
    from csbviz.ops import registry

    def prepare(A, op, n, *, threads, balance="auto"):
        raise MemoryError("Out of memory\nallocating 8 bytes")

    entry = registry.Kernel(
        "stand_in", "Stand-in", "csb", "cuda", ("A@B",), ("float32",), {"float32": "fp32"}, prepare, "Fails."
    )
    monkeypatch.setitem(registry._KERNELS, entry.name, entry)
    monkeypatch.setattr("csbviz.ops.dispatch._gpu", lambda kernel: 0)
    return entry


def test_a_cuda_kernel_that_fails_is_one_record(A, cuda_kernel, monkeypatch):
    monkeypatch.setattr("csbviz.bench.contender.gpu_fault", lambda: None)
    (found,) = bench_matrix(A, quick(ops=("A@B",), device="cuda", kernels=("stand_in",)))
    assert (found.status, found.message) == ("failed", "MemoryError: Out of memory allocating 8 bytes")


def test_a_cuda_kernel_that_takes_the_gpu_along_ends_the_run(A, cuda_kernel, monkeypatch):
    monkeypatch.setattr("csbviz.bench.contender.gpu_fault", lambda: "an illegal memory access")
    with pytest.raises(
        JobError, match=r"Stand-in, A@B, N = \d+: the kernel failed and took the GPU .* \(an ill"
    ):
        bench_matrix(A, quick(ops=("A@B",), device="cuda", kernels=("stand_in",)))


def test_a_kernel_that_fails_while_it_is_timed_is_one_record(A, monkeypatch):
    from csbviz.bench import run

    def time_one(contender, *rest):
        if contender.kernel.name == "csr_scipy":
            raise MemoryError("too large")
        return np.ones(5)

    monkeypatch.setattr(run, "_time_one", time_one)
    request = quick(ops=("A@B",), kernels=("csr_scipy", "dense_torch"))
    found = {record.kernel: record for record in bench_matrix(A, request)}
    assert (found["csr_scipy"].status, found["csr_scipy"].median_us) == ("failed", None)
    assert found["csr_scipy"].message == "MemoryError: too large"
    assert found["dense_torch"].median_us == 1.0


@pytest.mark.parametrize(("asked", "shape"), [(None, [64, 64]), ((16, 32), [16, 32])])
def test_a_job_cuts_blocks_that_suit_its_device(A, asked, shape):
    from csbviz.bench.jobs import run_bench

    request = {"ops": ["A@B"], "ns": [8], "device": "cuda", "kernels": ["csb_cuda"], "min_time": 0.01}
    found = run_bench(A.to_scipy(), request, lambda fraction, message: None, block_shape=asked)
    assert [record["block_shape"] for record in found["records"]] == [shape]


def test_a_product_with_a_vector_is_measured_once_whatever_n_is(A):
    records = bench_matrix(A, quick(ops=("A@x", "A.T@x"), ns=(8, 16), kernels=("csb_cpu", "csr_mkl")))
    assert [(r.op, r.n, r.kernel, r.status) for r in records] == [
        ("A@x", 1, "csb_cpu", "ok"),
        ("A@x", 1, "csr_mkl", "ok"),
        ("A.T@x", 1, "csb_cpu", "ok"),
        ("A.T@x", 1, "csr_mkl", "ok"),
    ]


def test_a_kernel_that_refuses_the_matrix_says_why_and_is_no_fault(A, broken_kernel, monkeypatch):
    picky = dataclasses.replace(broken_kernel, name="picky", accepts=lambda A, op, n: "It takes no nonzeros.")
    monkeypatch.setitem(registry._KERNELS, "picky", picky)
    (found,) = bench_matrix(A, quick(ops=("A@B",), kernels=("picky",)))
    assert found.status == "unavailable"
    assert found.message.endswith("It takes no nonzeros.")
    assert verdict([found]).problems == ()


@pytest.fixture
def gpu_classes(monkeypatch):
    """Kernels of four precision classes on a GPU that is not there: NumPy computes what they would."""
    ours = [("csb", "fp32", "float32"), ("csb_tf32", "tf32", "float32")]
    dense = [
        ("dense", "fp32", "float32"),
        ("dense_tf32", "tf32", "float32"),
        ("dense_fp16", "fp16", "float16"),
    ]
    dense.append(("dense_bf16", "bf16", "bfloat16"))

    def prepare(A, op, n, *, threads, balance="auto"):
        values = A.to_scipy().astype(np.float32)

        def run(B, out):
            if A.dtype == "bfloat16":
                out[:] = bits_of(torch.from_numpy(values @ to_float(B, "bfloat16")).to(torch.bfloat16))
            else:
                out[:] = values @ B.astype(np.float32)
            return out

        return Prepared(run, 8)

    kernels = {
        name: Kernel(
            name, name, name.split("_")[0], "cuda", ("A@B",), (dtype,), {dtype: precision}, prepare, "Fake."
        )
        for name, precision, dtype in ours + dense
    }
    registry.kernels()
    monkeypatch.setattr(registry, "_KERNELS", kernels)
    monkeypatch.setattr("csbviz.ops.dispatch._gpu", lambda kernel: 0)
    monkeypatch.setattr(
        "csbviz.bench.contender.prepare_kernel", lambda A, k, *rest, **o: k.prepare(A, *rest, **o)
    )
    monkeypatch.setattr(
        "csbviz.bench.contender._operands", lambda device, ref, dtype: (ref.B, unwritten(ref.C.shape, dtype))
    )
    monkeypatch.setattr("csbviz.bench.run.time_cuda", lambda *args, **kwargs: np.array([9.0, 9.0]))
    monkeypatch.setattr("csbviz.bench.run.clocks", dict)
    return kernels


def test_classes_are_verified_by_their_own_bound_and_never_compared(A, gpu_classes):
    records = bench_matrix(A, quick(ops=("A@B",), device="cuda"))
    found = {record.kernel: record for record in records}
    assert [record.precision for record in records] == ["fp32", "fp32", "tf32", "tf32", "fp16", "bf16"]
    assert {record.status for record in records} == {"ok"}, [record.message for record in records]
    assert 1e-5 < found["dense_fp16"].rel_error < 2e-3
    assert 2e-4 < found["dense_bf16"].rel_error < 1e-2
    assert (found["dense_fp16"].dtype, found["dense_bf16"].dtype) == ("float16", "bfloat16")
    assert len({record.case for record in records}) == 4
    assert found["csb"].speedup_vs_dense == 1.0
    assert "in fp16 dense 9 µs, in bf16 dense 9 µs" in verdict(records).less_exact


def test_a_strategy_is_named_only_where_it_was_executed(A, gpu_classes):
    request = quick(ops=("A@B",), device="cuda", kernels=("csb",), balances=("equal_nnz",))
    (record,) = bench_matrix(A, request)  # this kernel makes no plan
    assert (record.status, record.balance) == ("ok", "auto")


def test_a_kernel_with_a_plan_names_its_strategy(A):
    (record,) = bench_matrix(A, quick(ops=("A@B",), kernels=("csb_cpu",), balances=("equal_nnz",)))
    assert record.balance == "equal_nnz"


def test_a_chosen_less_exact_dense_kernel_runs_beside_float32(A, gpu_classes):
    records = bench_matrix(A, quick(ops=("A@B",), device="cuda", kernels=("csb", "dense_fp16")))
    assert [(r.kernel, r.dtype, r.status) for r in records] == [
        ("csb", "float32", "ok"),
        ("dense_fp16", "float16", "ok"),
    ]


def test_values_too_large_for_half_precision_are_no_fault(gpu_classes):
    large = CSBMatrix.from_scipy(sp.eye(16, format="csr", dtype=np.float32) * 1e6, block_shape=(16, 16))
    found = {r.kernel: r for r in bench_matrix(large, quick(ops=("A@B",), device="cuda"))}
    assert found["dense"].ok
    assert found["dense_fp16"].status == "unavailable"
    assert "does not fit float16" in found["dense_fp16"].message


def test_a_half_precision_matrix_has_its_own_class(A, gpu_classes):
    records = bench_matrix(A.astype("float16"), quick(ops=("A@B",), device="cuda"))
    assert [(r.kernel, r.dtype, r.precision, r.status) for r in records] == [
        ("dense_fp16", "float16", "fp16", "ok")
    ]


def test_records_survive_json(A):
    records = bench_matrix(A, quick(ops=("A@B",), kernels=("csr_scipy",)))
    text = json.dumps([r.to_dict() for r in records], allow_nan=False)
    assert [Record.from_dict(values) for values in json.loads(text)] == records
    with pytest.raises(InputError, match="no bench record"):
        Record.from_dict({"kernel": "x"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ops": ("B@A",)}, "no operation 'B@A'"),
        ({"ns": (0,)}, "N must be between 1 and"),
        ({"mode": "lukewarm"}, "no mode 'lukewarm'"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"balances": ("luck",)}, "no balance strategy 'luck'"),
        ({"kernels": ("magic",)}, "no kernel named 'magic'"),
        ({"kernels": ("csr_mkl",), "device": "cuda"}, "does not run on cuda"),
        ({"threads": 10_000}, "Threads must be between 1 and"),
    ],
)
def test_bad_requests_get_one_sentence(A, changes, message):
    with pytest.raises(OptionError, match=message):
        bench_matrix(A, quick(**changes))


def test_unsteady_times_are_taken_again(A, monkeypatch):
    """A disturbed round becomes a minority of the samples, and no sample is dropped."""
    from csbviz.bench import run

    rounds = iter([[10.0], [900.0], [800.0], [10.1] * 2, [9.9] * 8])
    monkeypatch.setattr(run, "time_cpu", lambda *args, **kwargs: np.array(next(rounds)))
    monkeypatch.setattr(run, "_PAUSE_SECONDS", 0.0)
    (record,) = bench_matrix(A, quick(ops=("A@B",), kernels=("csr_scipy",)))
    assert record.median_us == pytest.approx(10.0, abs=0.2)
    assert record.samples[:3] == [10.0, 900.0, 800.0]
    assert len(record.samples) == 13


def test_steady_times_are_taken_once(A, monkeypatch):
    from csbviz.bench import run

    calls = []
    monkeypatch.setattr(run, "time_cpu", lambda *args, **kwargs: calls.append(1) or np.array([5.0, 5.1]))
    bench_matrix(A, quick(ops=("A@B",), kernels=("csr_scipy",)))
    assert len(calls) == run.ROUNDS
