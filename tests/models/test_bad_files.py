"""A file that cannot be used gives one sentence, runs nothing and opens no other file."""

import io
import itertools
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import CSBVizError, FileFormatError, InputError, MatrixError
from csbviz.models import load_model
from tests.models.model_files import (
    SUFFIXES,
    external_onnx_bytes,
    file_bytes,
    graph_bytes,
    npz_bytes,
    torch_bytes,
    weights,
)


def one_sentence(error):
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    assert 20 < len(text) < 400
    return text


def refusal(source, name=None, kind=FileFormatError):
    with pytest.raises(InputError) as caught:
        load_model(source, name)
    assert type(caught.value) is kind
    return one_sentence(caught.value)


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape=(2, 2), offsets=(0, 16), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


class Attack:
    """Unpickling it runs a command that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".pth"])
def test_an_empty_file(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    path.touch()
    assert "0 bytes" in refusal(path)
    assert "0 bytes" in refusal(b"", f"net{suffix}")
    assert "0 bytes" in refusal(io.BytesIO(), f"net{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file(tmp_path, suffix, share):
    data = file_bytes(suffix)
    path = tmp_path / f"net{suffix}"
    path.write_bytes(data[: max(int(len(data) * share), 1)])
    assert "net" in refusal(path)


@pytest.mark.parametrize(("suffix", "other"), list(itertools.permutations(SUFFIXES, 2)))
def test_a_file_of_another_kind_than_its_name_says(suffix, other):
    assert f"rename it to {other}" in refusal(file_bytes(other), f"net{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "PNG"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS"),
        (b"\x1f\x8b\x08\x00" + bytes(40), "gzip"),
        (b"10, 10, 3\n0 1 2 3\n1 2 3\n", "plain text"),
        (b"%%MatrixMarket matrix coordinate real general\n", "Matrix Market"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "HDF5"),
    ],
)
def test_a_stranger_under_a_known_ending(suffix, data, words):
    assert words in refusal(data, f"net{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_of_no_kind_at_all(suffix):
    refusal(bytes(range(128, 256)) * 8, f"net{suffix}")


@pytest.mark.parametrize("name", ["net.bin", "net", "net.h5", "net.safetensors.gz", ""])
def test_an_ending_that_is_not_known(name):
    assert ".safetensors" in refusal(b"\x00\x01\x02\x03" * 20, name)


def test_what_is_no_file(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.pt", kind=InputError)
    assert "folder" in refusal(tmp_path, kind=InputError)
    assert "list" in refusal([1, 2], kind=InputError)
    assert "str" in refusal(io.StringIO("text"), "net.pt", kind=InputError)
    refusal("\0.pt", kind=InputError)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x01", "truncated"),
        (struct.pack("<Q", 1 << 62) + b"{}", "claims"),
        (struct.pack("<Q", 90 << 20) + b"{" + bytes(50), "claims"),
        (safetensors(b"{not json"), "JSON"),
        (safetensors(b"{" + b'"a":{' * 5000 + b"}" * 5001), "JSON"),
        (safetensors(b"[1]  "), "damaged"),
        (safetensors(b'{"w":1,"w":2}'), "twice"),
        (safetensors({"w": entry(), "__metadata__": {"a": 1}}, bytes(16)), "__metadata__"),
        (safetensors({"w": entry(shape=(1 << 40, 1 << 20), offsets=(0, 1 << 62))}, bytes(16)), "truncated"),
        (safetensors({"w": entry(shape=(1 << 40, 1 << 40))}, bytes(16)), "needs"),
        (safetensors({"w": entry(shape=(-2, -2))}, bytes(16)), "whole numbers"),
        (safetensors({"w": entry(shape=(2.0, 2))}, bytes(16)), "whole numbers"),
        (safetensors({"w": entry(shape=("2", 2))}, bytes(16)), "whole numbers"),
        (safetensors({"w": {"dtype": "F32"}}, bytes(16)), "dtype"),
        (safetensors({"w": entry(offsets=(0, 16, 32))}, bytes(16)), "dtype"),
        (safetensors({"w": 3}, bytes(16)), "dtype"),
        (safetensors({"w": entry(dtype="X9")}, bytes(16)), "X9"),
        (safetensors({"w": entry(dtype=["F32"])}, bytes(16)), "types read"),
        (safetensors({"w": entry(), "v": entry(offsets=(8, 24))}, bytes(24)), "overlaps"),
        (safetensors({"w": entry(offsets=(16, 32))}, bytes(32)), "gap"),
        (safetensors({"w": entry()}, bytes(20)), "belong to no tensor"),
    ],
)
def test_a_damaged_safetensors_header(data, words):
    assert words in refusal(data, "net.safetensors")


@pytest.mark.parametrize("old", [False, True], ids=["archive", "old form"])
def test_a_pickle_that_wants_to_run_code_is_not_run(tmp_path, old):
    trace = tmp_path / "trace"
    data = torch_bytes({"w": torch.ones(2, 2), "x": Attack(trace)}, _use_new_zipfile_serialization=not old)
    assert "wants to run code" in refusal(data, "net.pt")
    path = tmp_path / "net.pth"
    path.write_bytes(data)
    assert "wants to run code" in refusal(path)
    assert not trace.exists()
    torch.load(io.BytesIO(data), weights_only=False)  # the attack is real: it works on an unguarded reader
    assert trace.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_is_not_run(tmp_path, protocol):
    trace = tmp_path / "trace"
    data = pickle.dumps(Attack(trace), protocol)
    refusal(data, "net.pt")
    assert not trace.exists()
    pickle.loads(data)
    assert trace.exists()


def test_a_pickled_array_in_an_npz_is_not_run(tmp_path):
    trace = tmp_path / "trace"
    data = npz_bytes({"w": np.ones((2, 2)), "x": np.array([Attack(trace)], dtype=object)})
    assert "Python objects" in refusal(data, "net.npz")
    assert not trace.exists()
    np.load(io.BytesIO(data), allow_pickle=True)["x"]
    assert trace.exists()


def test_a_whole_module_says_how_to_save_it_instead():
    assert "state_dict" in refusal(torch_bytes(torch.nn.Linear(2, 2)), "net.pt")


def test_a_torchscript_program():
    data = io.BytesIO(torch_bytes(weights()))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("archive/constants.pkl", b"")
    assert "TorchScript" in refusal(data.getvalue(), "net.pt")


def test_a_compressed_torch_archive():
    data = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_bytes(weights()))) as old, zipfile.ZipFile(data, "w") as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member), zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(data.getvalue(), "net.pt")


def test_torch_tensors_that_claim_more_than_they_store():
    expanded = torch.ones(1).expand(1 << 20, 1 << 20)
    assert "claims" in refusal(torch_bytes({"w": expanded}), "net.pt")
    assert "claims" in refusal(torch_bytes({"w": torch.ones(1).expand(8, 8)}), "net.pt")
    huge = torch.sparse_coo_tensor([[0], [0]], torch.ones(1), (1 << 30, 1 << 30), check_invariants=True)
    assert "claims" in refusal(torch_bytes({"w": huge}), "net.pt")


def test_torch_sparse_indices_outside_of_the_matrix():
    """PyTorch writes outside of its memory for these, so they must not reach it."""
    bad = torch.sparse_coo_tensor([[5], [1 << 40]], torch.ones(1), (2, 2), check_invariants=False)
    for old in (False, True):
        data = torch_bytes({"w": bad}, _use_new_zipfile_serialization=not old)
        refusal(data, "net.pt")


def test_torch_tensors_without_readable_data():
    assert "form" in refusal(torch_bytes({"w": torch.empty(2, 2, device="meta")}), "net.pt")


def npz_with(raw):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("w.npy", raw)
    return data.getvalue()


def npy_header(shape, descr="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        npy_header((1 << 30, 1 << 30)),
        npy_header((2, 2)) + bytes(3),
        npy_header((2, 2)) + bytes(99),
        b"",
        b"junk" * 20,
    ],
    ids=["huge", "short", "long", "empty", "no array"],
)
def test_a_damaged_npz_member(raw):
    refusal(npz_with(raw), "net.npz")


def test_an_npz_that_unpacks_to_more_than_is_allowed(monkeypatch):
    monkeypatch.setattr("csbviz.models.read_npz.MAX_UNPACKED", 1 << 20)
    data = npz_bytes({"w": np.zeros((1024, 1024), np.float32)}, np.savez_compressed)
    assert len(data) < 10_000
    assert "unpack" in refusal(data, "net.npz")


def test_an_npz_with_a_damaged_checksum():
    data = bytearray(npz_bytes({"w": np.ones((8, 8))}))
    data[300] ^= 1
    assert "damaged" in refusal(bytes(data), "net.npz")


def test_a_scipy_matrix_is_pointed_to_the_matrix_loader():
    data = io.BytesIO()
    scipy.sparse.save_npz(data, scipy.sparse.eye(4, format="csr"))
    assert "matrix" in refusal(data.getvalue(), "net.npz")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_npz_with_two_arrays_of_one_name():
    data = io.BytesIO(npz_bytes({"w": np.ones((2, 2))}))
    with zipfile.ZipFile(data, "a") as archive:
        archive.writestr("w.npy", b"")
    assert "same name" in refusal(data.getvalue(), "net.npz")


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd"])
def test_onnx_data_in_another_file_is_refused_and_not_opened(tmp_path, monkeypatch, location):
    path = tmp_path / "net.onnx"
    path.write_bytes(external_onnx_bytes(location))
    (tmp_path / "weights.bin").write_bytes(np.ones((3, 2), np.float32).tobytes())
    opened = []
    real_open = os.open
    monkeypatch.setattr(
        "os.open", lambda file, *rest, **more: (opened.append(file), real_open(file, *rest, **more))[1]
    )
    assert "another file" in refusal(path)
    assert not any("weights.bin" in str(file) or "passwd" in str(file) for file in opened)


def test_an_onnx_tensor_whose_data_does_not_fit():
    from onnx import TensorProto

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 20], raw_data=bytes(16))
    assert "does not fit" in refusal(graph_bytes([], [tensor]), "net.onnx")


def test_an_onnx_file_without_a_graph():
    assert "no graph" in refusal(b"\x08\x08", "net.onnx")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "named",
    [
        {"bias": np.ones(4, np.float32)},
        {"w": np.ones((4, 4), np.int64)},
        {"w": np.ones((0, 4), np.float32)},
        {"bn.running_mean": np.ones(3, np.float32), "scale": np.array(2, np.float32)},
    ],
    ids=["1-D", "integers", "empty", "scalars"],
)
def test_no_layer_that_can_be_pruned(suffix, named):
    text = refusal(file_bytes(suffix, named), f"net{suffix}", kind=InputError)
    assert "nothing to prune" in text


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_when_the_layer_is_used(suffix, bad):
    named = weights()
    named["fc.weight"][2, 3] = bad
    model = load_model(file_bytes(suffix, named), f"net{suffix}")
    model.layer("conv.weight").matrix()
    for use in (model.layer("fc.weight").weight, model.layer("fc.weight").matrix):
        with pytest.raises(MatrixError, match=r"'fc\.weight' holds 1 of 80 values") as caught:
            use()
        one_sentence(caught.value)


def test_a_bias_is_no_matrix():
    with pytest.raises(MatrixError, match="bias") as caught:
        load_model(file_bytes(".npz"), "x.npz").layer("fc.bias").matrix()
    one_sentence(caught.value)


FILES = {suffix: file_bytes(suffix) for suffix in SUFFIXES}


@given(suffix=st.sampled_from(SUFFIXES), data=st.data())
def test_damaged_bytes_load_or_give_a_sentence(suffix, data):
    """Any cut and any few changed bytes: a model or one of our errors, never another exception."""
    raw = bytearray(FILES[suffix])
    raw = raw[: data.draw(st.integers(1, len(raw)), label="length")]
    for _ in range(data.draw(st.integers(0, 4), label="changes")):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        model = load_model(bytes(raw), f"net{suffix}")
        for layer in model.prunable_layers():
            layer.matrix()
    except CSBVizError as error:
        one_sentence(error)


def test_importing_the_package_imports_no_heavy_reader():
    code = (
        "import sys, csbviz.models, csbviz.pruning; "
        "print([name for name in ('torch', 'onnx', 'safetensors', 'ml_dtypes') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_long_names_out_of_a_file_are_cut():
    name = "w" * 5000 + "\n"
    refusal(safetensors({name: entry(dtype="X9")}, bytes(16)), "net.safetensors")
    refusal(safetensors({name: entry(shape=(3, 3))}, bytes(16)), "net.safetensors")
    refusal(npz_bytes({name.strip(): np.array([object()])}), "net.npz")
