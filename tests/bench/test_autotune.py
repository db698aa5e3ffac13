"""`autotune`: what it tries, that wrong variants are not timed, that products use what it found."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import csbviz
from csbviz.bench.autotune import autotune, variants
from csbviz.bench.jobs import run_tune
from csbviz.errors import OptionError, UnavailableError
from csbviz.formats import CSBMatrix
from csbviz.ops import registry
from csbviz.ops.registry import Kernel, Prepared, get_kernel
from csbviz.ops.tuned import forget, recall

N = 8


@pytest.fixture
def A():
    return CSBMatrix.from_scipy(sp.random(96, 64, density=0.2, dtype=np.float32, random_state=1), 32)


@pytest.fixture
def with_kernel(monkeypatch):
    """Register a CPU kernel that computes right for good=True; a tunable that it ignores makes no variant."""

    def prepare(A, op, n, *, threads, balance="auto", good=True, idle=0):
        csr = A.to_scipy() if op == "A@B" else A.to_scipy().T.tocsr()

        def run(B, out):
            calls.append(good)
            out[...] = csr @ B if good else 0.0
            return out

        return Prepared(run, 0, params={"good": good})

    def add(name="csb_test", **options):
        kernel = Kernel(
            name=name,
            title=name,
            format="csb",
            device="cpu",
            ops=("A@B", "A.T@B"),
            dtypes=("float32",),
            precision={"float32": "fp32"},
            prepare=prepare,
            summary="For a test.",
            tunables={"good": (True, False), "idle": (1, 2)},
            **options,
        )
        registry.kernels()  # the others are registered first
        monkeypatch.setitem(registry._KERNELS, name, kernel)
        return kernel

    calls: list[bool] = []
    add.calls = calls
    return add


def test_the_fastest_comes_first_and_each_setting_once(A):
    found = autotune(A, "A@B", N, "cpu", kernels=["csb_cpu"], budget_s=60)
    times = [variant.median_us for variant in found]
    assert len(found) >= 2
    assert all(variant.status == "ok" and variant.rel_error < 1e-6 for variant in found)
    assert times[0] == min(times)
    settings = [repr(sorted(variant.used.items())) for variant in found]
    assert len(settings) == len(set(settings))


def test_a_wrong_variant_is_reported_and_not_timed(A, with_kernel):
    with_kernel()
    found = autotune(A, "A.T@B", N, "cpu", kernels=["csb_test"])
    assert [(variant.status, variant.used["good"]) for variant in found] == [("ok", True), ("wrong", False)]
    assert found[1].median_us is None
    assert "2e-06 is the bound of fp32" in found[1].message
    assert with_kernel.calls.count(False) == 1  # the check, and no run of a clock


def test_products_use_what_was_found(A, with_kernel):
    with_kernel()
    B = np.ones((64, N), np.float32)
    before = A @ B
    autotune(A, "A@B", N, "cpu", kernels=["csb_test"])
    assert recall(A, "A@B", N, "cpu") == ("csb_test", {})
    with_kernel.calls.clear()
    np.testing.assert_allclose(A @ B, before, rtol=1e-5, atol=1e-6)
    assert with_kernel.calls == [True]
    csbviz.spmm(A, B, kernel="csb_cpu")  # a named kernel stays the named one
    A @ np.ones((64, N + 1), np.float32)  # and another N its own
    assert with_kernel.calls == [True]
    forget(A)
    A @ B
    assert with_kernel.calls == [True]


def test_a_transposed_view_is_tuned_as_what_is_stored(A, with_kernel):
    with_kernel()
    autotune(A.T, "A@B", N, "cpu", kernels=["csb_test"])
    assert recall(A, "A.T@B", N, "cpu") is not None
    assert recall(A, "A@B", N, "cpu") is None
    with_kernel.calls.clear()
    np.testing.assert_allclose(
        A.T @ np.ones((96, N), np.float32), A.to_dense().T @ np.ones((96, N)), rtol=1e-5, atol=1e-5
    )
    assert with_kernel.calls == [True]


def test_nothing_is_kept_unless_asked_for(A, with_kernel):
    with_kernel()
    autotune(A, "A@B", N, "cpu", kernels=["csb_test"], use=False)
    assert recall(A, "A@B", N, "cpu") is None


def test_it_can_be_cancelled_between_variants(A, with_kernel):
    with_kernel()
    messages = []

    def progress(fraction, message):
        messages.append((fraction, message))

    answers = iter([False, True])
    found = autotune(
        A, "A@B", N, "cpu", kernels=["csb_test"], progress=progress, cancelled=lambda: next(answers)
    )
    assert len(found) == 1
    assert messages == [(0.0, "csb_test"), (1.0, "Done")]


def test_a_spent_budget_begins_no_variant(A, with_kernel):
    with_kernel()
    assert autotune(A, "A@B", N, "cpu", kernels=["csb_test"], budget_s=0.0) == []
    assert recall(A, "A@B", N, "cpu") is None


def test_kernels_take_turns_so_that_a_short_budget_sees_each(A, with_kernel):
    with_kernel("csb_one")
    with_kernel("csb_two")
    names = []
    answers = iter([False, False, True])
    autotune(
        A,
        "A@B",
        N,
        "cpu",
        kernels=["csb_one", "csb_two"],
        progress=lambda fraction, message: names.append(message.split()[0]),
        cancelled=lambda: next(answers),
    )
    assert names[:2] == ["csb_one", "csb_two"]


def test_the_own_choice_of_a_kernel_is_tried_first(A):
    kernel = get_kernel("csb_cpu")
    settings = list(variants(kernel, A, "A@B", N))
    assert settings[0] == {}
    assert settings[1:] == [{"tile_n": tile} for tile in kernel.tunables["tile_n"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "B@A"}, "There is no operation 'B@A'"),
        ({"n": 0}, "N must be at least 1"),
        ({"op": "A@x", "n": 2}, "A vector has one column"),
        ({"device": "tpu"}, "There is no device 'tpu'"),
        ({"kernels": ["csr_mkl"]}, "Kernel csr_mkl is no CSB kernel of cpu"),
        ({"kernels": ["csb_cuda"]}, "Kernel csb_cuda is no CSB kernel of cpu"),
        ({"kernels": ["none"]}, "There is no kernel named 'none'"),
    ],
)
def test_bad_requests_get_a_sentence(A, options, message):
    with pytest.raises(OptionError, match=message):
        autotune(A, **({"op": "A@B", "n": N, "device": "cpu"} | options))


def test_a_kernel_that_refuses_the_matrix_is_not_tried(A, with_kernel):
    with_kernel(accepts=lambda A, op, n: "It takes no matrix.")
    with pytest.raises(UnavailableError, match="It takes no matrix"):
        autotune(A, "A@B", N, "cpu", kernels=["csb_test"])


def test_the_job_takes_plain_arguments_and_gives_a_plain_dict():
    csr = sp.random(64, 48, density=0.2, format="csr", dtype=np.float32, random_state=2)
    messages = []
    request = {"op": "A@B", "n": N, "device": "cpu", "budget_s": 20}
    found = run_tune(csr, request, lambda fraction, message: messages.append(message))
    assert messages[0] == "Building the CSB matrix"
    assert {variant["kernel"] for variant in found["variants"]} == {"csb_cpu"}
    assert found["variants"][0]["median_us"] > 0
