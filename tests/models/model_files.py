"""Model files of every kind with the same weights, written by the libraries that define the kinds."""

import io

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save as save_safetensors

SUFFIXES = (".safetensors", ".pt", ".onnx", ".npz")


def weights(seed=0):
    """A convolution, a linear layer and its bias, float32."""
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "fc.weight": rng.standard_normal((5, 16)).astype(np.float32),
        "fc.bias": rng.standard_normal(5).astype(np.float32),
    }


def file_bytes(suffix, named=None):
    """The bytes of a model file of the kind that the suffix names."""
    named = weights() if named is None else named
    return {".safetensors": save_safetensors, ".pt": torch_bytes, ".onnx": onnx_bytes, ".npz": npz_bytes}[
        suffix
    ](named)


def torch_bytes(named, **options):
    """A state dict saved by torch; arrays become tensors, anything else stays as it is."""
    buffer = io.BytesIO()
    torch.save(_tensors(named), buffer, **options)
    return buffer.getvalue()


def _tensors(value):
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return {key: _tensors(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def npz_bytes(named, save=np.savez):
    """A NumPy archive."""
    buffer = io.BytesIO()
    save(buffer, **named)
    return buffer.getvalue()


def onnx_bytes(named):
    """A graph whose initialisers nobody uses, so that names alone tell what they are."""
    return graph_bytes([], [numpy_helper.from_array(array, name) for name, array in named.items()])


def graph_bytes(nodes, initializers, sparse=()):
    """An ONNX model of these nodes and initialisers."""
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(
        nodes, "graph", [shape], [out], list(initializers), sparse_initializer=list(sparse)
    )
    return helper.make_model(graph).SerializeToString()


def external_onnx_bytes(location):
    """An ONNX model that says its weight lies in another file."""
    tensor = numpy_helper.from_array(np.ones((3, 2), np.float32), "fc.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return graph_bytes([], [tensor])


__all__ = [
    "SUFFIXES",
    "external_onnx_bytes",
    "file_bytes",
    "graph_bytes",
    "npz_bytes",
    "onnx",
    "onnx_bytes",
    "torch_bytes",
    "weights",
]
