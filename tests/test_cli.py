"""The command line: every command on good and bad input, its JSON, exit codes and one-line complaints."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from safetensors.numpy import load_file, save_file

from csbviz import CSBMatrix
from csbviz.balance import STRATEGIES
from csbviz.cli import main
from csbviz.ops import registry
from csbviz.ops.registry import Kernel, Prepared
from tests.imports import ROOT


@pytest.fixture
def weights():
    """Two layers and a bias, dense, and a third layer that is already sparse."""
    generator = np.random.default_rng(7)
    sparse = generator.standard_normal((48, 64)).astype(np.float32)
    sparse[generator.random(sparse.shape) < 0.75] = 0
    return {
        "conv.weight": generator.standard_normal((16, 4, 3, 3)).astype(np.float32),
        "fc.bias": np.zeros(64, np.float32),
        "fc.weight": generator.standard_normal((64, 40)).astype(np.float32),
        "head.weight": sparse,
    }


@pytest.fixture
def model(weights, tmp_path):
    """A model file."""
    path = tmp_path / "net.safetensors"
    save_file(weights, path)
    return path


@pytest.fixture
def matrix(weights, tmp_path):
    """A matrix file in SciPy's format."""
    path = tmp_path / "head.npz"
    scipy.sparse.save_npz(path, scipy.sparse.csr_matrix(weights["head.weight"]))
    return path


@pytest.fixture
def run(capsys):
    """Run the command line and return (exit code, standard output, standard error)."""

    def call(*argv):
        code = main([str(word) for word in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def complaint(result) -> str:
    """The one line of a refused call."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert err.startswith("csbviz")
    return err


def as_json(result):
    code, out, err = result
    assert (code, err) == (0, "")
    return json.loads(out)


def lines(result) -> list[str]:
    """Printed lines of a call that went well; they fit 100 columns."""
    code, out, err = result
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 100
    return out.splitlines()


# ---- doctor ------------------------------------------------------------------------------------------------


def test_doctor_names_every_kernel_and_why_it_cannot_run(run):
    found = as_json(run("doctor", "--json", "-"))
    assert [kernel["name"] for kernel in found["kernels"]] == [kernel.name for kernel in registry.kernels()]
    assert all(kernel["available"] != bool(kernel["reason"]) for kernel in found["kernels"])
    assert found["versions"]["torch"].startswith("2.")
    assert found["cpu"]["threads"] >= 1
    text = "\n".join(lines(run("doctor")))
    for kernel in found["kernels"]:
        assert kernel["name"] in text
    assert (found["gpu"]["name"] or "none: ") in text
    assert "fashion_cnn" in text


# ---- info --------------------------------------------------------------------------------------------------


def test_info_counts_the_layers_of_a_model(run, model, weights):
    found = as_json(run("info", model, "--json", "-"))
    layers = {layer["name"]: layer for layer in found["layers"]}
    assert list(layers) == ["conv.weight", "fc.weight", "head.weight"]
    assert (layers["conv.weight"]["rows"], layers["conv.weight"]["cols"]) == (16, 36)
    head = weights["head.weight"]
    per_row, per_col = np.count_nonzero(head, axis=1), np.count_nonzero(head, axis=0)
    assert layers["head.weight"]["nnz"] == np.count_nonzero(head)
    assert layers["head.weight"]["sparsity"] == pytest.approx(np.mean(head == 0))
    assert layers["head.weight"]["row_mean"] == pytest.approx(per_row.mean())
    assert layers["head.weight"]["row_std"] == pytest.approx(per_row.std())
    assert layers["head.weight"]["col_std"] == pytest.approx(per_col.std())
    assert layers["head.weight"]["col_max"] == per_col.max()


def test_info_prints_a_table_and_a_total(run, model):
    text = lines(run("info", model))
    assert any(line.startswith("head.weight") and "48 x 64" in line for line in text)
    assert any("3 prunable layers" in line for line in text)


def test_info_takes_one_layer_and_patterns(run, model):
    def named(*options):
        return [layer["name"] for layer in as_json(run("info", model, *options, "--json", "-"))["layers"]]

    assert named("--layer", "fc.weight") == ["fc.weight"]
    assert named("--layer", "*c*.weight") == ["conv.weight", "fc.weight"]
    assert named("--layer", "head.weight", "--layer", "conv*") == ["conv.weight", "head.weight"]


def test_info_tells_the_three_kinds_of_npz_apart_by_content(run, matrix, weights, tmp_path):
    np.savez(tmp_path / "model.npz", **weights)
    CSBMatrix.from_dense(weights["head.weight"], block_shape=(16, 8)).T.save(tmp_path / "blocks.npz")
    found = {
        name: as_json(run("info", tmp_path / f"{name}.npz", "--json", "-"))
        for name in ("head", "model", "blocks")
    }
    assert {name: value["kind"] for name, value in found.items()} == {
        "head": "matrix",
        "model": "model",
        "blocks": "matrix",
    }
    assert found["blocks"]["csb"]["block_shape"] == [8, 16]
    assert found["blocks"]["csb"]["transposed"]
    assert found["blocks"]["layers"][0]["nnz"] == found["head"]["layers"][0]["nnz"]
    assert "transposed view" in "\n".join(lines(run("info", tmp_path / "blocks.npz")))


def test_info_reads_a_csb_matrix_from_safetensors(run, weights, tmp_path):
    CSBMatrix.from_dense(weights["head.weight"], block_shape=16).save(tmp_path / "blocks.safetensors")
    assert as_json(run("info", tmp_path / "blocks.safetensors", "--json", "-"))["csb"]["block_shape"] == [
        16,
        16,
    ]


def test_info_reads_pattern_files_packed_or_not(run, tmp_path):
    text = "3, 4, 5\n0 2 3 5\n0 3 1 0 2\n"
    (tmp_path / "a.smtx").write_text(text)
    (tmp_path / "a.smtx.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.smtx", "a.smtx.gz"):
        (layer,) = as_json(run("info", tmp_path / name, "--json", "-"))["layers"]
        assert (layer["rows"], layer["cols"], layer["nnz"]) == (3, 4, 5)


def test_info_reads_a_sample(run):
    found = as_json(run("info", "sample:fashion_cnn", "--json", "-"))
    assert "fc1.weight" in [layer["name"] for layer in found["layers"]]


def test_names_from_a_file_cannot_steer_the_terminal(run, tmp_path):
    save_file({"a\x1b[31m\nb.weight": np.ones((4, 4), np.float32)}, tmp_path / "odd.safetensors")
    code, out, _ = run("info", tmp_path / "odd.safetensors")
    assert code == 0
    assert "\x1b" not in out
    assert "b.weight" in out


def test_long_names_are_printed_in_full(run, tmp_path):
    names = [f"encoder.layer.{index}.attention.self.query.projection.weight" for index in (10, 11)]
    save_file({name: np.ones((400, 400), np.float32) for name in names}, tmp_path / "long.safetensors")
    text = lines(run("info", tmp_path / "long.safetensors"))
    assert [line for line in text if line.startswith("encoder")] == names


# ---- files that cannot be used, for every command that takes one -------------------------------------------


class Wicked:
    """What a pickle could do: create a file while it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def bad_file(model, tmp_path):
    """A file of each kind that no command can use, by name."""

    def make(kind):
        path = tmp_path / kind
        if kind == "truncated.safetensors":
            path.write_bytes(model.read_bytes()[:-100])
        elif kind == "wicked.pt":
            path.write_bytes(pickle.dumps(Wicked(tmp_path / "owned")))
        elif kind in (
            "text.npz",
            "text.onnx",
            "text.safetensors",
            "text.mtx",
            "text.smtx",
            "text.smtx.gz",
            "notes.txt",
        ):
            path.write_text("this is a shopping list\n")
        elif kind == "out_of_range.smtx":
            path.write_text("2, 2, 2\n0 1 2\n0 7\n")
        elif kind == "nan.mtx":
            path.write_text("%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 nan\n")
        elif kind == "empty.npz":
            path.write_bytes(b"")
        elif kind == "biases.safetensors":
            save_file({"bias": np.zeros(3, np.float32)}, path)
        elif kind == "folder.npz":
            path.mkdir()
        else:
            assert kind == "missing.npz"
        return path

    return make


BAD_FILES = (
    "truncated.safetensors",
    "wicked.pt",
    "text.npz",
    "text.onnx",
    "text.safetensors",
    "text.mtx",
    "text.smtx",
    "text.smtx.gz",
    "notes.txt",
    "out_of_range.smtx",
    "nan.mtx",
    "empty.npz",
    "biases.safetensors",
    "folder.npz",
    "missing.npz",
)


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("command", ["info", "prune", "layout", "bench"])
def test_a_file_that_cannot_be_used_gives_one_line(run, bad_file, tmp_path, command, kind):
    path = bad_file(kind)
    output = ["-o", tmp_path / "out.safetensors"] if command == "prune" else []
    assert kind in complaint(run(command, path, *output))
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("command", ["info", "layout", "bench"])
def test_a_layer_that_is_not_there_is_named_with_those_that_are(run, model, command):
    line = complaint(run(command, model, "--layer", "fc2*"))
    assert "'fc2*'" in line
    assert "fc.weight" in line


@pytest.mark.parametrize("command", ["info", "layout", "bench"])
def test_a_matrix_has_no_layers(run, matrix, command):
    assert "--layer needs a model" in complaint(run(command, matrix, "--layer", "x"))


def test_an_unknown_sample_is_refused(run):
    assert "fashion_cnn" in complaint(run("info", "sample:resnet900"))


# ---- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["dance"], "'dance'"),
        (["info"], "FILE"),
        (["info", "a.npz", "b.npz"], "b.npz"),
        (["prune", "a.npz"], "-o"),
        (["prune", "a.npz", "-o", "b.safetensors", "--sparsity", "1"], "'1'"),
        (["prune", "a.npz", "-o", "b.safetensors", "--sparsity", "nan"], "'nan'"),
        (["prune", "a.npz", "-o", "b.safetensors", "--sparsity", "90%"], "'90%'"),
        (["prune", "a.npz", "-o", "b.safetensors", "--seed", "-1"], "'-1'"),
        (["layout", "a.npz", "--block-size", "48"], "48 is not a power of two"),
        (["layout", "a.npz", "--block-size", "64x"], "'64x'"),
        (["layout", "a.npz", "--block-size", "0"], "0 is not a power of two"),
        (["layout", "a.npz", "--block-size", "8x8x8"], "'8x8x8'"),
        (["layout", "a.npz", "--order", "spiral"], "'spiral'"),
        (["layout", "a.npz", "--workers", "0"], "'0'"),
        (["bench"], "FILE"),
        (["bench", "a.npz", "--n", "128,x"], "'x'"),
        (["bench", "a.npz", "--n", ","], "list separated by commas"),
        (["bench", "a.npz", "--device", "tpu"], "'tpu'"),
        (["bench", "a.npz", "--mode", "tepid"], "'tepid'"),
        (["bench", "a.npz", "--threads", "two"], "'two'"),
    ],
)
def test_arguments_that_make_no_sense_give_one_line(run, words, said):
    assert said in complaint(run(*words))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--op", "B@A"], "'B@A'"),
        (["--kernels", "csb_cpu,magic"], "'magic'"),
        (["--kernels", "cublas_fp32"], "cublas_fp32"),
        (["--balance", "seesaw"], "'seesaw'"),
        (["--threads", "100000"], "100000"),
        (["--dtype", "int8"], "'int8'"),
        (["--n", "1000000"], "1000000"),
        (["--block-size", "1048576"], "1048576"),
    ],
)
def test_options_of_bench_that_are_not_offered_give_one_line(run, matrix, options, said):
    assert said in complaint(run("bench", matrix, *options))


def test_a_device_that_is_not_there_gives_one_line_with_the_reason(run, matrix):
    from csbviz.ops.devices import gpu_state

    if gpu_state()[0]:
        pytest.skip("this machine has a GPU")
    for options in ([], ["--kernels", "cublas_fp32"]):
        line = complaint(run("bench", matrix, "--device", "cuda", *options))
        assert line.startswith("csbviz: No chosen kernel can run on cuda here: ")


@pytest.mark.parametrize("where", ["missing/out.json", "."])
def test_json_that_cannot_be_written_is_refused_before_the_work(run, matrix, tmp_path, where):
    assert "--json" in complaint(run("bench", matrix, "--json", tmp_path / where))


def test_help_and_version_end_well(run):
    for words in (["--help"], ["bench", "--help"], ["--version"]):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        assert "csbviz" in out


# ---- prune -------------------------------------------------------------------------------------------------


def test_prune_saves_the_model_with_the_sparsity_asked_for(run, model, weights, tmp_path):
    out = tmp_path / "pruned.safetensors"
    found = as_json(run("prune", model, "-o", out, "--sparsity", "0.8", "--json", "-"))
    saved = load_file(out)
    assert saved.keys() == weights.keys()
    prunable = [name for name in weights if name != "fc.bias"]
    nnz = sum(np.count_nonzero(saved[name]) for name in prunable)
    total = sum(weights[name].size for name in prunable)
    assert abs(nnz - 0.2 * total) <= 1
    assert found["nnz"] == nnz
    assert found["values"] == total
    for name in prunable:
        kept = saved[name] != 0
        assert np.array_equal(saved[name][kept], weights[name][kept])
    assert np.array_equal(saved["fc.bias"], weights["fc.bias"])


def test_prune_leaves_other_layers_alone(run, model, weights, tmp_path):
    out = tmp_path / "pruned.safetensors"
    text = lines(
        run("prune", model, "-o", out, "--sparsity", "0.5", "--scope", "layer", "--layer", "fc.weight")
    )
    saved = load_file(out)
    assert np.count_nonzero(saved["fc.weight"]) == weights["fc.weight"].size // 2
    assert np.array_equal(saved["conv.weight"], weights["conv.weight"])
    assert any("50.00 %" in line for line in text)


def test_prune_is_repeatable_and_random_depends_on_the_seed(run, model, tmp_path):
    def pruned(seed):
        out = tmp_path / "pruned.safetensors"
        lines(run("prune", model, "-o", out, "--method", "random", "--seed", seed))
        return load_file(out)["fc.weight"]

    assert np.array_equal(pruned(1), pruned(1))
    assert not np.array_equal(pruned(1), pruned(2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "wishful"], "wishful"),
        (["--granularity", "atom"], "atom"),
        (["--scope", "galaxy"], "galaxy"),
        (["--layer", "nothing"], "'nothing'"),
    ],
)
def test_prune_refuses_what_it_does_not_offer(run, model, tmp_path, options, said):
    assert said in complaint(run("prune", model, "-o", tmp_path / "o.safetensors", *options))
    assert not (tmp_path / "o.safetensors").exists()


def test_prune_refuses_a_matrix_and_places_where_it_cannot_write(run, model, matrix, tmp_path):
    assert "is a matrix" in complaint(run("prune", matrix, "-o", tmp_path / "o.safetensors"))
    assert ".safetensors" in complaint(run("prune", model, "-o", tmp_path / "o.pt"))
    assert "no folder" in complaint(run("prune", model, "-o", tmp_path / "nowhere" / "o.safetensors"))
    before = model.read_bytes()
    assert "the model itself" in complaint(run("prune", model, "-o", model))
    assert model.read_bytes() == before


# ---- layout ------------------------------------------------------------------------------------------------


def test_layout_counts_blocks_bytes_and_balance(run, matrix, weights):
    (found,) = as_json(run("layout", matrix, "--block-size", "16x8", "--workers", "3", "--json", "-"))[
        "layouts"
    ]
    head = weights["head.weight"]
    counts = np.count_nonzero(head.reshape(3, 16, 8, 8), axis=(1, 3))
    nnz = int(counts.sum())
    assert found["grid"] == [3, 8]
    assert found["block_nnz"]["max"] == counts.max()
    assert found["block_nnz"]["mean"] == pytest.approx(counts.mean())
    assert found["bytes"]["dense"]["total"] == head.nbytes
    assert found["bytes"]["csr"]["total"] == 8 * nnz + 4 * 49
    assert found["bytes"]["csb"]["total"] == (4 + 2) * nnz + 4 * 25
    loads = counts.sum(axis=1)  # three block rows, three workers
    assert found["imbalance"]["A@B"]["in_order"] == pytest.approx(loads.max() / loads.mean())
    assert set(found["imbalance"]["A.T@B"]) == set(STRATEGIES)
    curve = found["index_bytes_per_nonzero"]  # one byte an entry up to 16 x 16, else two
    assert curve["16"] == pytest.approx(1 + 4 * (3 * 4 + 1) / nnz)
    assert curve["32"] == pytest.approx(2 + 4 * (2 * 2 + 1) / nnz)


def test_layout_prints_one_layer_in_full_and_several_in_a_table(run, model):
    full = "\n".join(lines(run("layout", model, "--layer", "head.weight", "--block-size", "16")))
    for part in ("grid 3 x 4", "ell", "index bytes per nonzero", "equal_nnz"):
        assert part in full
    short = lines(run("layout", model))
    assert any(line.startswith("conv.weight") for line in short)
    assert any(line.startswith("head.weight") for line in short)


def test_layout_takes_every_order_and_the_automatic_block(run, matrix):
    for order in ("row", "col", "morton"):
        (found,) = as_json(run("layout", matrix, "--order", order, "--json", "-"))["layouts"]
        assert found["order"] == order
        rows, cols = found["block_shape"]
        assert found["grid"] == [-(-48 // rows), -(-64 // cols)]


# ---- bench -------------------------------------------------------------------------------------------------


def test_bench_verifies_times_and_judges(run, matrix, tmp_path):
    path = tmp_path / "records.json"
    kernels = ("csb_cpu", "csr_mkl", "dense_torch")
    options = ("--n", 8, "--kernels", ",".join(kernels), "--block-size", 16, "--json", path)
    text = "\n".join(lines(run("bench", matrix, *options)))
    result = json.loads(path.read_text())
    records = result["records"]
    assert {(r["kernel"], r["op"], r["n"]) for r in records} == {
        (kernel, op, 8) for kernel in kernels for op in ("A@B", "A.T@B")
    }
    for record in records:
        assert record["status"] == "ok"
        assert 0 < record["p25_us"] <= record["median_us"] <= record["p75_us"]
        assert record["rel_error"] < 2e-6
        assert record["block_shape"] == [16, 16]
    (judged,) = result["verdicts"]
    assert judged["matrix"] == "head.npz"
    assert "CSB is" in judged["sentence"]
    assert " ".join(judged["sentence"].split()[:6]) in " ".join(text.split())
    assert "csr_mkl" in text


@pytest.mark.parametrize(("options", "shape"), [([], [64, 64]), (["--block-size", "16x8"], [16, 8])])
def test_bench_cuts_blocks_that_suit_the_device(run, matrix, monkeypatch, options, shape):
    monkeypatch.setattr("csbviz.commands.measure.check_dtypes", lambda *rest: None)  # also without a GPU
    options = [*options, "--device", "cuda", "--kernels", "csb_cuda", "--n", "4", "--json", "-"]
    found = as_json(run("bench", matrix, *options))
    assert [record["block_shape"] for record in found["records"]] == [shape, shape]


def test_bench_takes_several_files_columns_dtypes_and_modes(run, matrix, weights, tmp_path):
    save_file(
        {"a.weight": weights["fc.weight"], "b.weight": weights["head.weight"]}, tmp_path / "net.safetensors"
    )
    options = ("--n", "2,4", "--op", "A@B", "--kernels", "csb_cpu", "--balance", "swizzle", "--json", "-")
    files = (matrix, tmp_path / "net.safetensors")
    found = as_json(run("bench", *files, "--dtype", "float64", "--mode", "cold", *options))
    names = ["head.npz", "net.safetensors:a.weight", "net.safetensors:b.weight"]
    assert [judged["matrix"] for judged in found["verdicts"]] == names
    assert [(r["matrix"], r["n"]) for r in found["records"]] == [(name, n) for name in names for n in (2, 4)]
    for record in found["records"]:
        assert (record["dtype"], record["mode"], record["status"]) == ("float64", "cold", "ok")
        assert record["balance"] == "swizzle"


def test_bench_never_times_a_wrong_kernel_and_ends_with_1(run, matrix, monkeypatch):
    def prepare(A, op, n, *, threads, balance="auto"):
        def multiply(B, out):
            out[:] = A.to_scipy() @ B
            out[0] += 1
            return out

        return Prepared(multiply, 0)

    wrong = Kernel(
        name="off_by_one",
        title="Off by one",
        format="csr",
        device="cpu",
        ops=("A@B",),
        dtypes=("float32",),
        precision={"float32": "fp32"},
        prepare=prepare,
        summary="A kernel that is wrong in its first row.",
    )
    registry.kernels()
    monkeypatch.setitem(registry._KERNELS, wrong.name, wrong)
    options = ("--op", "A@B", "--n", "4", "--kernels", "csb_cpu,off_by_one")
    code, out, _ = run("bench", matrix, *options)
    assert code == 1
    assert "off_by_one (A@B, N = 4): wrong." in out
    code, out, _ = run("bench", matrix, *options, "--json", "-")
    assert code == 1
    (record,) = (r for r in json.loads(out)["records"] if r["kernel"] == "off_by_one")
    assert (record["status"], record["median_us"]) == ("wrong", None)


def test_bench_reads_real_matrices(run, dlmc):
    path = sorted(dlmc.rglob("*.smtx*"))[0]
    found = as_json(
        run("bench", path, "--n", "32", "--op", "A.T@B", "--kernels", "csb_cpu,csr_scipy", "--json", "-")
    )
    assert {record["status"] for record in found["records"]} == {"ok"}


# ---- the process -------------------------------------------------------------------------------------------


def module(*words, **options):
    """Run ``python -m csbviz`` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "csbviz", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        **options,
    )


def test_the_module_runs_as_a_program(matrix):
    done = module("info", matrix, "--json", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["layers"][0]["rows"] == 48


def test_the_module_complains_in_one_line_and_ends_with_2():
    done = module("info", "no/such/file.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_a_terminal_without_unicode_still_gets_its_table(matrix):
    import os

    done = module("info", matrix, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "48 x 64" in done.stdout


def test_a_reader_that_has_enough_ends_the_program_quietly(model):
    command = f"{sys.executable} -m csbviz info {model} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stderr == ""
