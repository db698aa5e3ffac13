"""The verdict follows the measurements: other times give another sentence and another reason."""

import pytest

from csbviz.bench import Record, verdict


def record(kernel, fmt, us, *, op="A@B", n=128, status="ok", **changes):
    values = {
        "kernel": kernel,
        "title": kernel,
        "format": fmt,
        "matrix": "layer",
        "op": op,
        "device": "cpu",
        "device_name": "test CPU",
        "dtype": "float32",
        "precision": "fp32",
        "m": 2048,
        "k": 512,
        "n": n,
        "nnz": 104_858,
        "sparsity": 0.9,
        "block_shape": (64, 64),
        "balance": "swizzle" if fmt == "csb" else None,
        "params": {},
        "threads": 2,
        "mode": "warm",
        "status": status,
        "median_us": us if status == "ok" else None,
        "bytes": {"csb": 640_000, "csr": 850_000, "dense": 4_194_304}[fmt],
        "imbalance": 1.02 if fmt == "csb" else None,
    }
    return Record(**(values | changes))


def test_csb_wins_and_says_by_how_much():
    judged = verdict([record("csb", "csb", 200.0), record("mkl", "csr", 500.0), record("mm", "dense", 800.0)])
    assert "2.5× faster than CSR" in judged.sentence
    assert "4.0× faster than dense" in judged.sentence
    assert "90.0 % sparse" in judged.sentence
    assert judged.cases[0].winner == "csb"
    assert "6.1 bytes against 8.1 in CSR" in judged.reason


def test_a_choice_that_was_not_the_fastest_is_told():
    peers = [record("mkl", "csr", 500.0), record("mm", "dense", 800.0)]
    own = record("csb_cuda", "csb", 230.0, title="CSB (CUDA)")
    other = record("csb_rows", "csb", 200.0, title="CSB (CUDA cores)")
    judged = verdict([own, other, *peers])
    assert "CSB (CUDA cores) is the fastest kernel of CSB here" in judged.reason
    assert "takes 230 µs, 1.15× as long" in judged.reason
    assert "2.5× faster than CSR" in judged.sentence
    for others in ([], [record("csb_rows", "csb", 225.0)], [record("csb_rows", "csb", 200.0, n=64)]):
        assert "the library would choose" not in verdict([own, *others, *peers]).reason


def test_a_time_that_does_not_follow_the_nonzeros_breaks_even_nowhere():
    """Tensor cores multiply the zeros of a block too: no sparsity is named at which dense would win."""
    peers = [record("mkl", "csr", 500.0), record("mm", "dense", 800.0)]
    chosen = {"params": {"kernel": "csb_wgmma", "tile_m": 64}}
    for csb in (record("csb_cuda", "csb", 200.0, **chosen), record("csb_mma_tf32", "csb", 200.0)):
        judged = verdict([csb, *peers])
        assert "in 25 % of dense's time, which hardly follows the sparsity" in judged.reason
        assert "dense would win" not in judged.reason
        assert judged.cases[0].break_even is None
    slow = verdict([record("csb_cuda", "csb", 1600.0, **chosen), record("mm", "dense", 800.0)])
    assert "its time hardly follows the sparsity; dense takes 50 % of it" in slow.reason
    layer = {"op": "layer", "params": {"A@B": "csb_rows", "A.T@B": "csb_wgmma"}}
    judged = verdict(
        [record("csb_layer", "csb", 200.0, **layer), record("dense", "dense", 800.0, op="layer")]
    )
    assert "hardly follows the sparsity" in judged.reason
    rows = verdict([record("csb_cuda", "csb", 200.0, params={"kernel": "csb_rows"}), *peers])
    assert "dense would win below about" in rows.reason


def test_other_measurements_change_sentence_and_reason():
    fast = verdict([record("csb", "csb", 200.0), record("mkl", "csr", 500.0), record("mm", "dense", 800.0)])
    slow = verdict([record("csb", "csb", 400.0), record("mkl", "csr", 500.0), record("mm", "dense", 100.0)])
    assert slow.sentence != fast.sentence
    assert slow.reason != fast.reason
    assert slow.cases[0].winner == "dense"
    assert "4.0× slower than dense" in slow.sentence
    # At 400 us for 10 % density, 100 us are reached at 2.5 % density.
    assert slow.cases[0].break_even == pytest.approx(0.975, abs=1e-3)
    assert "98 % sparsity" in slow.reason
    assert "10× as many numbers" in slow.reason


def test_csr_wins_and_uneven_work_is_the_reason_when_it_is():
    even = verdict([record("csb", "csb", 600.0), record("mkl", "csr", 500.0)])
    uneven = verdict([record("csb", "csb", 600.0, imbalance=1.8), record("mkl", "csr", 500.0)])
    assert even.cases[0].winner == uneven.cases[0].winner == "csr"
    assert "holds 410 nonzeros on average" in even.reason
    assert "busiest thread has 1.80× the average work" in uneven.reason


def test_tiny_products_are_launch_bound():
    judged = verdict([record("csb", "csb", 3.0, n=1), record("mkl", "csr", 3.2, n=1)])
    assert "cost of starting it" in judged.reason


def test_both_operations_are_in_the_sentence_and_the_copy_is_named():
    judged = verdict(
        [
            record("csb", "csb", 200.0),
            record("mkl", "csr", 300.0),
            record("csb", "csb", 210.0, op="A.T@B"),
            record("mkl", "csr", 21_000.0, op="A.T@B"),
            record("copy", "csr", 300.0, op="A.T@B", copies=2, bytes=1_700_000),
        ]
    )
    assert "For A·B CSB is 1.5× faster than CSR" in judged.sentence
    assert "; for Aᵀ·B CSB is 100× faster than CSR" in judged.sentence
    assert "CSB is 1.4× faster than CSR with a second, transposed copy (2.7× the bytes)." in judged.reason


def test_the_largest_n_makes_the_headline():
    judged = verdict(
        [record(k, f, us, n=n) for n in (32, 512) for k, f, us in (("csb", "csb", n), ("mkl", "csr", 2 * n))]
    )
    assert "N = 512" in judged.sentence
    assert [case.n for case in judged.cases] == [32, 512]


def test_equal_times_are_called_equal():
    for csr in (490.0, 510.0):
        judged = verdict(
            [record("csb", "csb", 500.0), record("mkl", "csr", csr), record("mm", "dense", 900.0)]
        )
        assert "as fast as CSR" in judged.sentence
        assert "within 5 % of each other" in judged.reason
        assert "faster" not in judged.reason
        (case,) = judged.cases
        assert {case.winner, *case.level} == {"csb", "csr"}


def test_uneven_work_is_the_whole_reason_only_when_it_is_as_large_as_the_gap():
    judged = verdict([record("csb", "csb", 900.0, imbalance=1.2), record("mkl", "csr", 300.0)])
    assert "explains the difference" not in judged.reason
    assert "holds 410 nonzeros" in judged.reason
    # Loads 1.2 and 0.8 of the average: one of two threads waits a third of the time, both a sixth on average.
    assert "idle for about 17 % of the time" in judged.reason


def test_more_bytes_do_not_speak_for_the_winner():
    csr = record("mkl", "csr", 500.0)
    assert "and a nonzero costs 6.1 bytes" in verdict([record("csb", "csb", 200.0), csr]).reason
    heavy = verdict([record("csb", "csb", 200.0, bytes=943_722), csr])
    assert "though a nonzero costs 9.0 bytes against 8.1 in CSR" in heavy.reason
    lost = verdict([record("csb", "csb", 800.0, bytes=943_722), csr])
    assert "CSR is faster and reads 0.9× the bytes" in lost.reason


def test_less_exact_classes_are_named_beside_the_exact_one_and_not_compared_with_it():
    exact = [record("csb", "csb", 200.0), record("mm", "dense", 400.0)]
    tf32 = [
        record("csb_tf32", "csb", 150.0, precision="tf32"),
        record("mm_tf32", "dense", 100.0, precision="tf32"),
    ]
    fp16 = [record("mm_fp16", "dense", 50.0, precision="fp16", dtype="float16")]
    judged = verdict([*fp16, *tf32, *exact])
    assert judged.sentence.startswith("For A·B CSB is 2.0× faster than dense (")
    assert judged.less_exact == (
        "Less exact, A·B: in TF32 dense 100 µs and CSB 150 µs, in fp16 dense 50 µs, "
        "against 200 µs of CSB in fp32."
    )
    assert {(case.precision, case.winner) for case in judged.cases} == {("fp32", "csb"), ("tf32", "dense")}
    assert "another format" not in judged.reason
    assert verdict(exact).less_exact == ""
    only = verdict(tf32)
    assert only.sentence.startswith("For A·B CSB is 1.5× slower than dense (")
    assert "float32 in TF32" in only.sentence


def test_products_with_a_vector_have_no_n_and_a_layer_counts_three_products():
    vectors = [
        record(k, f, us, op=op, n=1)
        for op in ("A@x", "A.T@x")
        for k, f, us in (("csb", "csb", 10.0), ("mkl", "csr", 20.0))
    ]
    judged = verdict(vectors)
    assert judged.sentence.startswith("For A·x CSB is 2.0× faster than CSR; for Aᵀ·x CSB is 2.0×")
    assert "N =" not in judged.sentence
    layer = verdict(
        [
            record("csb", "csb", 300.0, op="layer"),
            record("torch", "csr", 450.0, op="layer", copies=2),
            record("linear", "dense", 900.0, op="layer"),
        ]
    )
    assert layer.sentence.startswith(
        "For a layer (forward and backward) CSB is 1.5× faster than CSR with both copies and 3.0× faster"
    )
    assert layer.reason.startswith("Layer: ")
    parts = [
        record(k, f, us, op=op, copies=c)
        for op in ("layer", "layer.forward", "layer.backward")
        for k, f, us, c in (("csb", "csb", 300.0, 1), ("torch", "csr", 450.0, 2))
    ]
    assert "pass" not in verdict(parts).sentence
    assert [case.op for case in verdict(parts).cases] == ["layer", "layer.forward", "layer.backward"]
    assert "for its backward pass" in verdict(parts[2:]).sentence
    # 3 · 2 · 104,858 · 128 operations in 300 µs are 268 GFLOP/s.
    slow = verdict([record("csb", "csb", 300.0, op="layer"), record("linear", "dense", 100.0, op="layer")])
    assert "against 268 GFLOP/s" in slow.reason


def test_a_contender_of_one_thread_is_named():
    judged = verdict([record("csb", "csb", 200.0), record("scipy", "csr", 400.0, threads=1)])
    assert "The fastest CSR here, scipy, has one thread." in judged.reason
    alone = verdict([record("csb", "csb", 200.0, threads=1), record("scipy", "csr", 400.0, threads=1)])
    assert "one thread" not in alone.reason


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
@pytest.mark.parametrize("dense", [50.0, 900.0])
def test_full_and_empty_matrices_are_judged(sparsity, dense):
    nnz = 0 if sparsity else 2048 * 512
    changes = {"nnz": nnz, "sparsity": sparsity}
    judged = verdict([record("csb", "csb", 200.0, **changes), record("mm", "dense", dense, **changes)])
    assert ("holds no nonzero" in judged.reason) == (nnz == 0)
    assert "1.0× as many" not in judged.reason
    assert "one in 1.0" not in judged.reason


def test_only_one_precision_class_is_compared():
    judged = verdict(
        [
            record("csb", "csb", 200.0),
            record("tf32", "dense", 20.0, precision="tf32"),
            record("fp32", "dense", 400.0),
        ]
    )
    assert "2.0× faster than dense" in judged.sentence


def test_a_wrong_result_is_no_win():
    wrong = record("csb", "csb", 1.0, status="wrong", message="The result is off by 3.0e-01.")
    judged = verdict([wrong, record("mkl", "csr", 500.0)])
    assert judged.sentence.startswith("CSB gave a wrong result")
    assert judged.problems == ("csb (A·B, N = 128): The result is off by 3.0e-01.",)


def test_without_a_peer_there_is_nothing_to_compare():
    assert "nothing to compare" in verdict([record("csb", "csb", 200.0)]).sentence
    assert "no verdict" in verdict([record("mkl", "csr", 200.0)]).sentence
    assert "no verdict" in verdict([]).sentence


def test_a_machine_that_others_kept_busy_calls_for_caution():
    def judged(load):
        return verdict([record("csb", "csb", 200.0, others_load=load), record("mkl", "csr", 16_000.0)])

    assert judged(None).caution == judged(0.1).caution == ""
    assert judged(0.45).caution.startswith("Other programs used 45 % of the processors")


def test_the_reason_names_the_n_at_which_another_format_wins():
    times = {1: (90.0, 30.0), 32: (100.0, 102.0), 128: (200.0, 700.0)}
    records = [
        one
        for n, (csb, csr) in times.items()
        for one in (record("csb", "csb", csb, n=n), record("mkl", "csr", csr, n=n))
    ]
    assert "At N = 1 another format is the fastest." in verdict(records).reason
    assert "another format" not in verdict(records[2:]).reason
