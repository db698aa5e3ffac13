"""A small ONNX CNN with its weights kept in the ways that ONNX files keep them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES, SIDE = 12, 8
FORMS = ("raw", "typed", "constant")


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a convolution and a linear layer, (out, in)."""
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.standard_normal((4, 1, 3, 3)).astype(np.float32),
        "conv.bias": rng.standard_normal(4).astype(np.float32),
        "fc.weight": rng.standard_normal((CLASSES, 4 * SIDE * SIDE)).astype(np.float32),
        "fc.bias": rng.standard_normal(CLASSES).astype(np.float32),
    }


def tensor(array: np.ndarray, name: str, form: str, data_type: int | None = None) -> TensorProto:
    """A tensor with its values as bytes ("raw") or in the field of its type ("typed")."""
    data_type = data_type or helper.np_dtype_to_tensor_dtype(array.dtype)
    if form == "typed":
        return helper.make_tensor(name, data_type, array.shape, array.reshape(-1).tolist())
    raw = helper.make_tensor(name, data_type, array.shape, array.reshape(-1).tolist())
    return numpy_helper.from_array(numpy_helper.to_array(raw), name)


def cnn(form: str = "raw", batch: int | str = "batch", named: dict[str, np.ndarray] | None = None) -> bytes:
    """A CNN for images of (1, 8, 8) and twelve classes."""
    named = named or arrays()
    kept = [tensor(array, name, "typed" if form == "typed" else "raw") for name, array in named.items()]
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["h"], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["logits"], transB=1, name="fc"),
    ]
    if form == "constant":
        nodes = [helper.make_node("Constant", [], [one.name], value=one) for one in kept] + nodes
        kept = []
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        kept,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="tests")
    model.ir_version = 9
    helper.set_model_props(model, {"author": "somebody"})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def logits(named: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """What the CNN gives, computed by PyTorch."""
    import torch
    from torch.nn import functional as F

    w = {name: torch.from_numpy(np.array(array)) for name, array in named.items()}
    h = torch.relu(F.conv2d(torch.from_numpy(images), w["conv.weight"], w["conv.bias"], padding=1))
    return F.linear(h.flatten(1), w["fc.weight"], w["fc.bias"]).numpy()
