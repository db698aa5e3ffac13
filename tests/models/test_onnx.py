"""ONNX weights: where they can be kept, and what the nodes that use them say about them."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from csbviz.errors import FileFormatError
from csbviz.models import load_model
from tests.models.model_files import graph_bytes


def array(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def initializer(values, name="w"):
    return numpy_helper.from_array(values, name)


def load(nodes, initializers=(), sparse=()):
    return load_model(graph_bytes(nodes, initializers, sparse), "net.onnx")


def used_by(op_type, position, *, name="node", **attributes):
    inputs = ["x"] * 8
    inputs[position] = "w"
    return helper.make_node(op_type, inputs[: max(position + 1, 2)], ["y"], name=name, **attributes)


@pytest.mark.parametrize(
    ("node", "shape", "kind", "rows", "cols"),
    [
        (used_by("Conv", 1), (8, 3, 5, 5), "conv", 8, 75),
        (used_by("Conv", 1), (8, 3, 5), "conv", 8, 15),
        (used_by("MatMul", 1), (16, 4), "linear", 4, 16),
        (used_by("MatMul", 0), (4, 16), "linear", 4, 16),
        (used_by("MatMul", 1), (2, 16, 4), "linear", 4, 32),
        (used_by("Gemm", 1, transB=1), (4, 16), "linear", 4, 16),
        (used_by("Gemm", 1, transB=0), (16, 4), "linear", 4, 16),
        (used_by("Gather", 0), (30, 4), "embedding", 30, 4),
        (used_by("LSTM", 1), (1, 32, 4), "recurrent", 32, 4),
        (used_by("GRU", 2), (2, 24, 8), "recurrent", 48, 8),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else None,
)
def test_the_node_tells_kind_and_direction(node, shape, kind, rows, cols):
    layer = load([node], [initializer(array(*shape))]).layer("w")
    assert (layer.kind, layer.rows, layer.cols, layer.prunable) == (kind, rows, cols, True)
    assert layer.matrix().shape == (rows, cols)
    assert layer.weight().shape == shape


@pytest.mark.parametrize(
    "node",
    [used_by("LSTM", 3), used_by("Add", 1), used_by("Mul", 1), used_by("Reshape", 1), used_by("Gather", 1)],
    ids=lambda node: node.op_type,
)
def test_other_uses_are_no_weights(node):
    layers = [initializer(array(2, 8)), initializer(array(4, 4), "fc.weight")]
    assert [layer.name for layer in load([node], layers).prunable_layers()] == ["fc.weight"]


def test_the_matrix_of_a_product_with_the_weight_on_the_right_is_turned():
    weight = array(16, 4)
    layer = load([used_by("MatMul", 1)], [initializer(weight)]).layer("w")
    np.testing.assert_array_equal(layer.matrix(), weight.T)
    np.testing.assert_array_equal(layer.weight(), weight)


def test_a_transpose_before_the_product_turns_it_back():
    nodes = [
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("Transpose", ["same"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    weight = array(4, 16)
    np.testing.assert_array_equal(load(nodes, [initializer(weight)]).layer("w").matrix(), weight)


@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 3), (6, 5, 3, 3)])
def test_constant_nodes_of_one_to_four_dimensions(shape):
    weight = array(*shape)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=initializer(weight)),
        helper.make_node("Constant", [], ["three"], value_int=3),
    ]
    model = load(nodes, [initializer(array(2, 2), "other.weight")])
    np.testing.assert_array_equal(model.layer("w").weight(), weight)
    assert model.layer("w").prunable == (len(shape) > 1)
    assert len(model.layers) == 2


def test_weights_inside_branches_are_found():
    def branch(name):
        constant = helper.make_node("Constant", [], ["inner"], value=initializer(array(3, 2, seed=len(name))))
        return helper.make_graph([constant], name, [], [helper.make_tensor_value_info("inner", 1, [3, 2])])

    node = helper.make_node("If", ["x"], ["y"], then_branch=branch("a"), else_branch=branch("bb"))
    model = load([node])
    assert [layer.name for layer in model.layers] == ["inner", "inner#2"]
    assert not np.array_equal(model.layers[0].weight(), model.layers[1].weight())


@pytest.mark.parametrize(
    ("value", "node_name", "name"),
    [
        ("onnx::MatMul_371", "/encoder/layer.0/query/MatMul", "encoder.layer.0.query.weight"),
        ("371", "/fc/Gemm_1", "fc.weight"),
        ("/block/Constant_3_output_0", "/block/conv/Conv", "block.conv.weight"),
        ("block.conv.weight", "/block/conv/Conv", "block.conv.weight"),
        ("onnx::MatMul_371", "", "onnx::MatMul_371"),
    ],
)
def test_names_made_up_by_exporters_give_way_to_those_of_the_nodes(value, node_name, name):
    node = helper.make_node("MatMul", ["x", value], ["y"], name=node_name)
    assert load([node], [initializer(array(3, 3), value)]).layers[0].name == name


@pytest.mark.parametrize("coordinates", [False, True])
def test_sparse_initializers_become_dense(coordinates):
    dense = np.zeros((3, 4), np.float32)
    dense[0, 1], dense[2, 3] = 5, 7
    indices = np.array([[0, 1], [2, 3]] if coordinates else [1, 11], np.int64)
    sparse = helper.make_sparse_tensor(
        initializer(np.array([5, 7], np.float32)), initializer(indices, "indices"), [3, 4]
    )
    np.testing.assert_array_equal(load([], sparse=[sparse]).layer("w").weight(), dense)


@pytest.mark.parametrize(("dims", "indices"), [([1 << 30, 1 << 30], [1]), ([2, 2], [9]), ([-2, -2], [0])])
def test_damaged_sparse_initializers(dims, indices):
    sparse = helper.make_sparse_tensor(
        initializer(np.array([5], np.float32)), initializer(np.array(indices, np.int64), "indices"), dims
    )
    with pytest.raises(FileFormatError, match="does not fit"):
        load([], sparse=[sparse])


@pytest.mark.parametrize(
    ("data_type", "dtype"),
    [(TensorProto.BFLOAT16, "bfloat16"), (TensorProto.FLOAT16, "float16"), (11, "float64")],
)
def test_float_types(data_type, dtype):
    tensor = helper.make_tensor("w", data_type, [2, 2], [1.0, -0.5, 0.0, 3.0])
    layer = load([], [tensor]).layer("w")
    assert (layer.dtype, layer.nnz, layer.prunable) == (dtype, 3, True)
    np.testing.assert_array_equal(layer.matrix(), [[1, -0.5], [0, 3]])


def test_small_integers_and_text_are_no_obstacle():
    tensors = [
        helper.make_tensor("q", TensorProto.INT4, [4], [1, -2, 3, 4]),
        helper.make_tensor("note", TensorProto.STRING, [1], [b"text"]),
        initializer(array(2, 2)),
    ]
    model = load([], tensors)
    assert [(layer.name, layer.dtype) for layer in model.layers] == [("q", "int8"), ("w", "float32")]


def test_names_that_are_no_text_become_text():
    data = graph_bytes([], [initializer(array(2, 2), "QQQQ")]).replace(b"QQQQ", b"Q\xff\xfeQ")
    name = load_model(data, "net.onnx").layers[0].name
    assert name == "Q\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}Q"
