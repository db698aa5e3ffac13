"""A model is immutable; changed weights make a new one with a new digest; saving keeps every tensor."""

import io
import json
import pickle
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load as load_safetensors_torch
from safetensors.torch import save as save_safetensors_torch

from csbviz.errors import InputError, OptionError
from csbviz.models import load_model
from csbviz.models.kinds import kind_of
from csbviz.models.tensors import narrow, widen
from tests.models.model_files import file_bytes, weights


@pytest.fixture
def model():
    return load_model(file_bytes(".safetensors"), "net.safetensors")


def test_nothing_can_be_assigned(model):
    for thing, attribute in (
        (model, "name"),
        (model, "layers"),
        (model.layers[0], "name"),
        (model.layers[0], "kind"),
    ):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(thing, attribute, "other")
    with pytest.raises(TypeError):
        model.metadata["a"] = "b"


def test_an_unknown_layer_is_named_with_some_that_exist(model):
    with pytest.raises(InputError, match=r"no layer 'fc9'.*conv\.weight"):
        model.layer("fc9")


def test_with_weights_leaves_the_first_model_alone(model):
    new = np.zeros((5, 16), np.float32)
    changed = model.with_weights({"fc": new})
    new[:] = 9  # the caller's array stays the caller's
    assert changed.layer("fc").nnz == 0
    assert model.layer("fc").nnz == 80
    np.testing.assert_array_equal(changed.layer("conv").weight(), model.layer("conv").weight())
    assert (changed.name, changed.source) == (model.name, model.source)


def test_a_read_only_array_is_taken_without_a_copy(model):
    new = np.zeros((5, 16), np.float32)
    new.flags.writeable = False
    assert np.shares_memory(model.with_weights({"fc": new}).layer("fc").weight(), new)


def test_digests_follow_content_and_settings(model):
    first, second = np.zeros((5, 16)), np.ones((5, 16))
    digests = [
        model.digest,
        model.with_weights({"fc": first}).digest,
        model.with_weights({"fc": second}).digest,
        model.with_weights({"fc": first}, made_by={"a": 1}).digest,
        model.with_weights({"fc": first}, made_by={"a": 2}).digest,
    ]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)
    assert model.with_weights({"fc": first}).digest == digests[1]
    assert model.with_weights({"fc": second}, made_by={"a": 1}).digest == digests[3]


@pytest.mark.parametrize(
    ("replacement", "words"),
    [({"nope": np.zeros(3)}, "no layer"), ({"fc": np.zeros((16, 5))}, "shape"), ([1], "mapping")],
)
def test_with_weights_refuses_what_does_not_fit(model, replacement, words):
    with pytest.raises(InputError, match=words):
        model.with_weights(replacement)


def test_history_is_kept_in_the_file(model, tmp_path):
    changed = model.with_weights({"fc": np.zeros((5, 16))}, made_by={"step": "one"})
    changed = changed.with_weights({"fc": np.ones((5, 16))}, made_by={"step": "two", "n": 2})
    changed.save(tmp_path / "out.safetensors")
    again = load_model(tmp_path / "out.safetensors")
    assert again.history == ({"step": "one"}, {"step": "two", "n": 2})
    assert model.history == ()


@pytest.mark.parametrize("remark", ["not json", "3", '[1, {"a": 2}]', "[" * 100_000])
def test_a_strange_remark_about_history_is_no_obstacle(remark):
    data = save_safetensors_torch({"w": torch.ones(2, 2)}, {"csbviz.history": remark})
    model = load_model(data, "x.safetensors")
    assert model.history in ((), ({"a": 2},))
    assert model.metadata["csbviz.history"] == remark


def test_saved_files_are_read_by_the_library_of_the_format(tmp_path):
    tensors = {
        "flag": torch.tensor([True, False, True]),
        "half": torch.randn(3, 5).half(),
        "brain": torch.randn(2, 3).bfloat16(),
        "double": torch.randn(2, 2).double(),
        "number": torch.tensor(7),
        "none": torch.ones(0, 4),
    }
    model = load_model(save_safetensors_torch(tensors, {"format": "pt"}), "x.safetensors")
    path = tmp_path / "out.safetensors"
    model.save(path)
    assert path.read_bytes() == model.to_bytes()
    for name, tensor in load_safetensors_torch(path.read_bytes()).items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor, tensors[name])
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
        assert sorted(file.keys()) == sorted(tensors)
    again = load_model(path)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert again.to_bytes() == model.to_bytes()


def test_saved_tensors_are_aligned(model):
    data = model.to_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    for name, place in json.loads(data[8 : 8 + length]).items():
        assert place["data_offsets"][0] % 4 == 0, name


def test_saving_over_the_file_that_is_open(tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(file_bytes(".safetensors"))
    model = load_model(path)
    model.with_weights({"fc": np.zeros((5, 16))}).save(path)
    np.testing.assert_array_equal(model.layer("fc").weight(), weights()["fc.weight"])
    assert load_model(path).layer("fc").nnz == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.safetensors"]


def test_where_it_cannot_be_saved(model, tmp_path):
    with pytest.raises(OptionError, match=r"\.safetensors"):
        model.save(tmp_path / "net.pt")
    with pytest.raises(InputError, match="cannot be written"):
        model.save(tmp_path / "none" / "net.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        model.save(tmp_path / "folder.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.safetensors"]


def test_a_model_travels_to_another_process(model):
    changed = model.with_weights({"fc": np.zeros((5, 16))}, made_by={"step": "one"})
    copy = pickle.loads(pickle.dumps(changed))
    assert (copy.digest, copy.name, copy.history) == (changed.digest, changed.name, changed.history)
    assert copy.to_bytes() == changed.to_bytes()


@given(hnp.arrays(np.uint16, hnp.array_shapes(max_dims=2)))
def test_bfloat16_bits_survive_widening(bits):
    wide = widen(bits)
    np.testing.assert_array_equal(wide, bits.view(ml_dtypes.bfloat16).astype(np.float32))
    kept = ~np.isnan(wide)
    np.testing.assert_array_equal(narrow(wide)[kept], bits[kept])
    assert np.isnan(widen(narrow(wide))[~kept]).all()


@given(hnp.arrays(np.float32, 20, elements=st.floats(width=32)))
def test_rounding_to_bfloat16_is_to_nearest_even(values):
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(widen(narrow(values)), expected)


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("encoder.layer.0.attention.self.query.weight", (384, 384), "linear"),
        ("encoder.layer.0.attention.output.LayerNorm.weight", (384,), "norm"),
        ("embeddings.word_embeddings.weight", (30522, 384), "embedding"),
        ("transformer.wte.weight", (500, 64), "embedding"),
        ("encoder.albert_embedding_hidden_mapping_in.weight", (768, 128), "linear"),
        ("vit.patch_embed.proj.weight", (64, 3, 16, 16), "conv"),
        ("vit.pos_embed", (1, 197, 64), "embedding"),
        ("features.0.0.weight", (32, 3, 3, 3), "conv"),
        ("bn1.running_mean", (64,), "norm"),
        ("lstm.weight_ih_l0", (64, 16), "recurrent"),
        ("lstm.weight_hh_l0_reverse", (64, 16), "recurrent"),
        ("lstm.bias_ih_l0", (64,), "bias"),
        ("enc_w_ih", (768, 256), "recurrent"),
        ("dec_gru/kernel", (768, 256), "recurrent"),
        ("fc.bias", (10,), "bias"),
        ("b", (10,), "bias"),
        ("b", (10, 10), "linear"),
        ("model.experts.w1", (8, 64, 32), "linear"),
        ("attention.relative_position_bias", (4, 8), "bias"),
        ("classifier.weight", (10, 128), "linear"),
        ("scale", (), "other"),
    ],
)
def test_kinds_from_names(name, shape, kind):
    assert kind_of(name, shape, "float32") == kind
    assert kind_of(name, shape, "int32") == "other"


def test_reading_from_the_bytes_of_a_download(model):
    assert load_model(io.BytesIO(model.to_bytes()), "a.safetensors").to_bytes() == model.to_bytes()
