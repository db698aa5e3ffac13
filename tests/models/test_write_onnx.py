"""Pruned weights in the ONNX file that they came from: exact in every field, and nothing else changes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from csbviz.cli import main
from csbviz.errors import FileFormatError, InputError, OptionError
from csbviz.models import load_model, write_onnx
from csbviz.pruning import prune_model
from tests.models.model_files import external_onnx_bytes, graph_bytes
from tests.models.onnx_networks import FORMS, cnn, tensor

TYPES = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.FLOAT16: "int32_data",
    TensorProto.BFLOAT16: "int32_data",
}


def without_values(data: bytes) -> bytes:
    """The file with the values of its float tensors taken out."""
    proto = onnx.load_model_from_string(data)
    held = list(proto.graph.initializer)
    held += [node.attribute[0].t for node in proto.graph.node if node.op_type == "Constant"]
    for one in held:
        if one.data_type in TYPES:
            for field in ("raw_data", "float_data", "double_data", "int32_data"):
                one.ClearField(field)
    return proto.SerializeToString()


def same(first, second) -> bool:
    """Equal tensors bit for bit."""
    pairs = zip(first.layers, second.layers, strict=True)
    return all(
        (a.name, a.dtype, a.shape, a.tensor.data.tobytes())
        == (b.name, b.dtype, b.shape, b.tensor.data.tobytes())
        for a, b in pairs
    )


@pytest.mark.parametrize("form", FORMS)
def test_a_pruned_network_comes_back_bit_for_bit_and_the_rest_is_kept(form):
    data = cnn(form)
    model = load_model(data, "net.onnx")
    pruned = prune_model(model, "magnitude", "global", 0.9).model
    written = write_onnx.to_bytes(data, pruned)
    assert same(load_model(written, "net.onnx"), pruned)
    assert not same(load_model(written, "net.onnx"), model)
    assert without_values(written) == without_values(data)
    onnx.checker.check_model(onnx.load_model_from_string(written))
    fields = {"raw": "raw_data", "typed": "float_data"}
    for one in onnx.load_model_from_string(written).graph.initializer:
        assert one.HasField("raw_data") == (fields[form] == "raw_data")


def test_a_model_that_did_not_change_gives_the_same_file():
    data = cnn()
    assert write_onnx.to_bytes(data, load_model(data, "net.onnx")) == data


@settings(max_examples=40, deadline=None)
@given(
    data_type=st.sampled_from(list(TYPES)),
    form=st.sampled_from(["raw", "typed"]),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    constant=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_type_field_and_number_of_dimensions(data_type, form, shape, constant, seed):
    rng = np.random.default_rng(seed)
    old, new = rng.standard_normal((2, *shape))
    new[rng.random(shape) < 0.5] = -0.0
    held = tensor(old, "w", form, data_type)
    assert held.HasField("raw_data") == (form == "raw")
    other = tensor(np.ones((2, 2), np.float32), "other.weight", "raw")
    nodes = [helper.make_node("Constant", [], ["w"], value=held)] if constant else []
    data = graph_bytes(nodes, [other] if constant else [held, other])
    changed = load_model(data, "net.onnx").with_weights({"w": new})
    written = write_onnx.to_bytes(data, changed)
    assert same(load_model(written, "net.onnx"), changed)
    proto = onnx.load_model_from_string(written)
    back = proto.graph.node[0].attribute[0].t if constant else proto.graph.initializer[0]
    filled = {
        name for name in ("raw_data", "float_data", "double_data", "int32_data") if len(getattr(back, name))
    }
    assert filled == {"raw_data" if form == "raw" else TYPES[data_type]}


def test_lists_of_floats_of_constant_nodes_are_weights_of_one_dimension():
    node = helper.make_node("Constant", [], ["w"], value_floats=[1.5, 0.0, -2.0])
    data = graph_bytes([node], [tensor(np.ones((2, 2), np.float32), "other.weight", "raw")])
    model = load_model(data, "net.onnx")
    np.testing.assert_array_equal(model.layer("w").weight(), [1.5, 0, -2])
    changed = model.with_weights({"w": [0.0, 3.5, -2.0]})
    assert same(load_model(write_onnx.to_bytes(data, changed), "net.onnx"), changed)


def test_sparse_weights_keep_their_places():
    values = tensor(np.array([5, 7], np.float32), "w", "raw")
    sparse = helper.make_sparse_tensor(values, tensor(np.array([1, 11]), "i", "raw"), [3, 4])
    data = graph_bytes([], [], [sparse])
    dense = np.zeros((3, 4), np.float32)
    dense[2, 3] = 7
    changed = load_model(data, "net.onnx").with_weights({"w": dense})
    assert same(load_model(write_onnx.to_bytes(data, changed), "net.onnx"), changed)
    with pytest.raises(InputError, match="no place for the new nonzeros"):
        write_onnx.to_bytes(data, changed.with_weights({"w": np.ones((3, 4), np.float32)}))


def test_what_cannot_be_written_is_said(tmp_path):
    model = load_model(cnn(), "net.onnx")
    with pytest.raises(InputError, match="the ONNX file that they came from"):
        write_onnx.to_bytes(cnn(), other())
    with pytest.raises(FileFormatError, match="in another file"):
        write_onnx.to_bytes(external_onnx_bytes("weights.bin"), model)
    with pytest.raises(FileFormatError, match="damaged"):
        write_onnx.to_bytes(cnn()[:-40], model)
    with pytest.raises(OptionError, match=r"\.onnx"):
        write_onnx.save(tmp_path / "net.pt", cnn(), model)
    with pytest.raises(InputError, match="cannot be written"):
        write_onnx.save(tmp_path / "nowhere" / "net.onnx", cnn(), model)
    assert list(tmp_path.iterdir()) == []


def test_changed_integers_are_refused():
    whole = tensor(np.arange(4), "steps", "raw")
    data = graph_bytes([], [whole, tensor(np.ones((2, 2), np.float32), "other.weight", "raw")])
    changed = load_model(data, "net.onnx").with_weights({"steps": np.zeros(4, np.int64)})
    with pytest.raises(InputError, match="int64"):
        write_onnx.to_bytes(data, changed)


@pytest.mark.parametrize("form", FORMS)
def test_the_command_prunes_an_onnx_file(tmp_path, capsys, form):
    source, out = tmp_path / "net.onnx", tmp_path / "pruned.onnx"
    source.write_bytes(cnn(form))
    assert main(["prune", str(source), "-o", str(out), "--sparsity", "0.75", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    before, after = load_model(source), load_model(out)
    assert sum(layer.nnz for layer in after.prunable_layers()) == result["nnz"] == (36 + 12 * 256) // 4
    for layer in after.prunable_layers():
        kept = layer.weight() != 0
        assert np.array_equal(layer.weight()[kept], before.layer(layer.name).weight()[kept])
    assert source.read_bytes() == cnn(form)


def other():
    """A model of another file."""
    return load_model(graph_bytes([], [tensor(np.ones((2, 2), np.float32), "w", "raw")]), "other.onnx")
