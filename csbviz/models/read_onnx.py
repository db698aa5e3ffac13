"""Read the weights of ONNX models: initialisers and Constant nodes, told apart by the nodes that use them."""

import math
import re
from collections import defaultdict

import numpy as np

from csbviz.errors import FileFormatError
from csbviz.models.content import shown
from csbviz.models.tensors import MAX_UNPACKED, StoredTensor

__all__ = ["read"]

# Names that exporters make up; the name of the node that uses the weight says more.
_MADE_UP = re.compile(r"^(onnx::\w+|\d+|_?v_?\d+|val_\d+|.*Constant(_\d+)?_output_\d+|.*const_fold.*)$")
_NODE_ENDING = re.compile(r"\.(MatMul|Gemm|Conv|Gather)(_\d+)?$")
_THROUGH = ("Identity", "Cast")  # a weight stays the same weight behind these


def read(content):
    """Read the weights of an .onnx file.

    Parameters
    ----------
    content : Content

    Returns
    -------
    tensors : list of StoredTensor
        Each knows its use (`op`): the weight of x·W is stored as (in, out), that of a Gemm with transB as
        (out, in).
    metadata : dict
        Empty.

    Raises
    ------
    FileFormatError
        Truncated, damaged, or with weights in other files, which are never opened.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(content.data.tobytes())
    except (DecodeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{content.name} is truncated or damaged as an ONNX model.") from error
    if not proto.HasField("graph"):
        raise FileFormatError(f"{content.name} is truncated or damaged as an ONNX model: it holds no graph.")
    constants, users = _collect(proto, onnx)
    tensors, taken = [], set()
    for value_name, tensor in constants:
        array, dtype = _array(content, value_name, tensor, onnx)
        if array is None:
            continue
        op, node = _use(value_name, users, onnx)
        name = _unique(_readable(_as_text(value_name), node), taken)
        tensors.append(StoredTensor.of(name, array, dtype, op))
    return tensors, {}


def _collect(proto, onnx):
    """Give [(value name, TensorProto)] of all graphs and {value name: [(node, input position)]}."""
    constants, users = [], defaultdict(list)
    todo = [(proto.graph.node, proto.graph)] + [(function.node, None) for function in proto.functions]
    while todo:
        nodes, graph = todo.pop(0)
        if graph is not None:
            constants += [(tensor.name, tensor) for tensor in graph.initializer]
            constants += [(sparse.values.name, sparse) for sparse in graph.sparse_initializer]
        for node in nodes:
            for position, value in enumerate(node.input):
                users[value].append((node, position))
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR and node.op_type == "Constant":
                    constants.append((node.output[0] if node.output else node.name, attribute.t))
                elif attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                    constants.append((node.output[0] if node.output else node.name, attribute.sparse_tensor))
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    todo.append((attribute.g.node, attribute.g))
                elif attribute.type == onnx.AttributeProto.GRAPHS:
                    todo += [(graph.node, graph) for graph in attribute.graphs]
    return constants, users


def _array(content, name, tensor, onnx):
    """Convert one tensor; (None, None) for text, which is no weight."""
    parts = (tensor.values, tensor.indices) if isinstance(tensor, onnx.SparseTensorProto) else (tensor,)
    if any(part.data_location == onnx.TensorProto.EXTERNAL or part.external_data for part in parts):
        raise FileFormatError(
            f"{content.name} keeps {shown(name)} in another file, which is not opened; save the model as one "
            "file (onnx.save_model with save_as_external_data=False)."
        )
    if parts[0].data_type == onnx.TensorProto.STRING:
        return None, None
    try:
        array = _densified(tensor, onnx) if len(parts) == 2 else onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, IndexError, MemoryError, OverflowError, AttributeError) as error:
        raise FileFormatError(
            f"{content.name} is damaged: the data of {shown(name)} does not fit its shape "
            f"{shown(tuple(tensor.dims))}."
        ) from error
    dtype = array.dtype.name
    if dtype in ("int4", "uint4", "int2", "uint2"):
        return array.astype(np.int8 if dtype.startswith("int") else np.uint8), None
    return array, dtype if dtype in ("bfloat16", "float8_e4m3fn", "float8_e5m2") else None


def _densified(sparse, onnx):
    """Scatter a SparseTensorProto (linear or coordinate indices) into a dense array."""
    shape = tuple(sparse.dims)
    values = onnx.numpy_helper.to_array(sparse.values)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    if min(shape, default=0) < 0 or math.prod(shape) * values.itemsize > MAX_UNPACKED:
        raise ValueError("shape out of range")
    flat = np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[flat] = values
    return dense.reshape(shape)


def _use(value, users, onnx, depth=4):
    """How a constant is used, "" when nothing tells, and by which node."""
    for node, position in users.get(value, ()):
        if node.op_type in _THROUGH and depth and node.output:
            return _use(node.output[0], users, onnx, depth - 1)
        if node.op_type == "Transpose" and depth and node.output:
            op, inner = _use(node.output[0], users, onnx, depth - 1)
            return {"matmul": "linear", "linear": "matmul"}.get(op, op), inner
        op = _role(node, position, onnx)
        if op:
            return op, node
    used = users.get(value, ())
    return "", used[0][0] if used else None


def _role(node, position, onnx):
    kind = node.op_type
    if kind in ("MatMul", "FusedMatMul", "Gemm"):
        flags = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
        if position == 0:
            return "matmul" if flags.get("transA") else "linear"
        return "bias" if position == 2 else "linear" if flags.get("transB") else "matmul"
    if kind in ("Conv", "ConvTranspose", "ConvInteger"):
        return "conv" if position == 1 else "bias"
    if kind in ("LSTM", "GRU", "RNN"):
        return "recurrent" if position in (1, 2) else "bias" if position == 3 else "other"
    if kind in ("Gather", "GatherElements"):
        return "gather" if position == 0 else "other"
    if "Normalization" in kind:
        return "norm"
    if kind in ("Add", "Sub", "Mul", "Div", "Pow", "Where", "Concat", "Reshape", "PRelu", "Sum", "Equal"):
        return "bias" if kind == "Add" else "other"
    return ""


def _as_text(name):
    """Protobuf gives a name that is no valid UTF-8 as bytes."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def _readable(value, node):
    if node is None or not node.name or not _MADE_UP.match(value):
        return value or "unnamed"
    name = _as_text(node.name).strip("/").replace("/", ".")
    return _NODE_ENDING.sub("", name) + ".weight"


def _unique(name, taken):
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}#{number}", number + 1
    taken.add(candidate)
    return candidate
