"""Files of every kind, from paths and from memory, give the weights that were written."""

import hashlib
import io
import mmap
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save as save_safetensors_torch

from csbviz.models import load_model
from tests.models.model_files import SUFFIXES, file_bytes, npz_bytes, torch_bytes, weights


def assert_same_weights(model, named):
    assert sorted(layer.name for layer in model.layers) == sorted(named)
    for name, array in named.items():
        layer = model.layer(name)
        assert layer.shape == array.shape
        np.testing.assert_array_equal(layer.weight(), array, strict=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_path_bytes_and_file_objects_give_the_same_model(tmp_path, suffix):
    data = file_bytes(suffix)
    path = tmp_path / f"net{suffix}"
    path.write_bytes(data)
    uploaded = io.BytesIO(data)
    uploaded.name = f"net{suffix}"
    uploaded.read(3)  # an upload that somebody has looked at already
    with path.open("rb") as opened:
        models = [
            load_model(path),
            load_model(str(path)),
            load_model(data, f"net{suffix}"),
            load_model(bytearray(data), f"net{suffix}"),
            load_model(uploaded),
            load_model(opened),
        ]
    for model in models:
        assert_same_weights(model, weights())
        assert (model.name, model.source) == ("net", f"net{suffix}")
        assert model.digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_without_a_name_are_told_by_their_first_bytes(suffix):
    assert_same_weights(load_model(file_bytes(suffix)), weights())


def test_a_given_name_names_the_model(tmp_path):
    path = tmp_path / "x.npz"
    path.write_bytes(file_bytes(".npz"))
    assert load_model(path, name="My net").name == "My net"


def test_upper_case_endings_are_known(tmp_path):
    path = tmp_path / "NET.SAFETENSORS"
    path.write_bytes(file_bytes(".safetensors"))
    assert_same_weights(load_model(path), weights())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_weights_are_read_only(suffix):
    model = load_model(file_bytes(suffix), f"x{suffix}")
    for layer in model.prunable_layers():
        for array in (layer.weight(), layer.matrix()):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


def test_changing_an_uploaded_buffer_does_not_change_the_model():
    buffer = bytearray(file_bytes(".safetensors"))
    model = load_model(buffer, "x.safetensors")
    buffer[-8:] = bytes(8)
    np.testing.assert_array_equal(model.layer("fc.weight").weight(), weights()["fc.weight"])


def test_a_safetensors_file_on_disk_is_mapped_not_copied(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(file_bytes(".safetensors"))
    base = load_model(path).layer("fc.weight").weight()
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    assert isinstance(base, mmap.mmap)


def test_a_matrix_has_outputs_as_rows():
    model = load_model(file_bytes(".safetensors"), "x.safetensors")
    conv, linear = model.layer("conv.weight"), model.layer("fc")
    assert (conv.kind, conv.rows, conv.cols) == ("conv", 4, 12)
    assert (linear.kind, linear.rows, linear.cols, linear.label) == ("linear", 5, 16, "fc")
    np.testing.assert_array_equal(conv.matrix(), weights()["conv.weight"].reshape(4, 12), strict=True)
    np.testing.assert_array_equal(linear.matrix(), weights()["fc.weight"], strict=True)


def test_one_dimension_is_never_prunable():
    model = load_model(file_bytes(".npz"), "x.npz")
    assert [layer.name for layer in model.prunable_layers()] == ["conv.weight", "fc.weight"]
    assert model.layer("fc.bias").kind == "bias"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_every_float_type_keeps_its_values(tmp_path, suffix, dtype):
    tensor = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    tensor[0, :3] = torch.tensor([0.0, -0.0, 1.5])
    path = tmp_path / f"net{suffix}"
    named = {
        "w": tensor,
        "odd": torch.tensor([True, False, True]),
    }  # three bytes: what follows is not aligned
    if suffix == ".pt":
        torch.save(named, path)
    else:
        path.write_bytes(save_safetensors_torch(named))
    layer = load_model(path).layer("w")
    assert layer.dtype == dtype
    assert layer.nbytes == tensor.numel() * tensor.element_size()
    assert layer.nnz == int(torch.count_nonzero(tensor))
    wide = torch.float64 if dtype == "float64" else torch.float32
    np.testing.assert_array_equal(layer.matrix(), tensor.to(wide).numpy(), strict=True)
    assert np.signbit(layer.weight()[0, 1])
    assert layer.weight().flags.aligned


def test_a_tensor_at_an_odd_byte_is_read_and_aligned():
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    header = (
        b'{"flags":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]},'
        b'"w":{"dtype":"F32","shape":[2,3],"data_offsets":[3,27]}}'
    )
    data = len(header).to_bytes(8, "little") + header + b"\1\0\1" + values.tobytes()
    layer = load_model(data, "x.safetensors").layer("w")
    np.testing.assert_array_equal(layer.matrix(), values, strict=True)
    assert layer.weight().flags.aligned


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_takes_any_order_and_byte_order_and_leaves_out_text(save):
    named = {"w": np.arange(12.0).reshape(3, 4)}
    stored = {
        "w": np.asfortranarray(named["w"]).astype(">f8"),
        "note": np.array(["text"]),
        "records": np.zeros(2, [("a", "f4")]),
    }
    assert_same_weights(load_model(npz_bytes(stored, save), "x.npz"), named)


def test_types_without_a_number_of_their_own_survive_a_round_trip():
    named = {"w": torch.ones(2, 2), "tiny": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn)}
    first = load_model(torch_bytes(named), "x.pt")
    second = load_model(first.to_bytes(), "x.safetensors")
    assert second.layer("tiny").dtype == "float8_e4m3fn"
    assert not second.layer("tiny").prunable
    np.testing.assert_array_equal(first.layer("tiny").tensor.data, second.layer("tiny").tensor.data)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {0: torch.ones(4, 4)}}},
        lambda state: {"model": {"state_dict": state}, "args": {"lr": 0.1}},
        lambda state: {"module." + name: value for name, value in state.items()},
        lambda state: {
            "model_state_dict": {"_orig_mod.module." + name: value for name, value in state.items()}
        },
        lambda state: {
            **state,
            "optimizer_state": {"m": torch.ones(5, 5)},
            "lr_scheduler": {"t": torch.ones(2, 2)},
        },
    ],
    ids=["state_dict", "nested twice", "data parallel", "compiled", "beside the optimiser"],
)
def test_checkpoints_are_unwrapped(wrap):
    state = {name: torch.from_numpy(array) for name, array in weights().items()}
    assert_same_weights(load_model(torch_bytes(wrap(state)), "x.pt"), weights())


def test_containers_become_dotted_names_and_loops_end():
    loop = {"w": torch.ones(2, 2), "list": [torch.zeros(3, 2), {"deep": torch.ones(1, 4)}]}
    loop["self"] = loop
    buffer = io.BytesIO()
    torch.save(loop, buffer)
    model = load_model(buffer, "x.pt")
    assert [layer.name for layer in model.layers] == ["w", "list.0", "list.1.deep"]


def test_a_bare_tensor_is_a_model_of_one_weight():
    assert load_model(torch_bytes(torch.ones(2, 3)), "x.pth").layer("weight").shape == (2, 3)


def test_old_torch_files_views_and_sparse_tensors():
    tensor = torch.arange(12.0).reshape(3, 4)
    named = {"turned": tensor.T, "part": tensor[1:, ::2], "sparse": (tensor * (tensor > 8)).to_sparse()}
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        model = load_model(torch_bytes(named, **options), "x.pt")
        np.testing.assert_array_equal(model.layer("turned").weight(), tensor.T.numpy())
        np.testing.assert_array_equal(model.layer("part").weight(), tensor[1:, ::2].numpy())
        assert model.layer("sparse").nnz == 3


def test_parameters_that_want_gradients_are_read():
    linear = torch.nn.Linear(3, 2)
    model = load_model(torch_bytes(dict(linear.named_parameters())), "x.pt")
    np.testing.assert_array_equal(model.layer("weight").weight(), linear.weight.detach().numpy())


def test_no_file_is_left_open(tmp_path):
    for suffix in SUFFIXES:
        path = tmp_path / f"net{suffix}"
        path.write_bytes(file_bytes(suffix))
        load_model(path)  # an open handle would be a ResourceWarning, which is an error here
    assert zipfile.is_zipfile(tmp_path / "net.npz")
