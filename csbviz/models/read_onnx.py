"""Read the weights of ONNX models: initialisers and Constant nodes, told apart by the nodes that use them."""

import math
import re
from collections import defaultdict

import numpy as np

from csbviz.errors import FileFormatError
from csbviz.models.content import shown
from csbviz.models.tensors import MAX_UNPACKED, StoredTensor

__all__ = ["parse", "read", "signature", "tensors_of", "working_bytes"]

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
    return [stored for stored, _ in tensors_of(content, parse(content))], {}


def parse(content):
    """Parse an .onnx file.

    Parameters
    ----------
    content : Content

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    FileFormatError
        Truncated or damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(content.data.tobytes())
    except (DecodeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{content.name} is truncated or damaged as an ONNX model.") from error
    if not proto.HasField("graph"):
        raise FileFormatError(f"{content.name} is truncated or damaged as an ONNX model: it holds no graph.")
    return proto


def tensors_of(content, proto):
    """Give the weights of a parsed file with the messages that hold them.

    Parameters
    ----------
    content : Content
        For its name.
    proto : onnx.ModelProto

    Returns
    -------
    list of (StoredTensor, onnx.TensorProto or onnx.SparseTensorProto or onnx.AttributeProto)
        In the order of `read`. The message is the part of `proto` that holds the values; an attribute holds
        them as its `floats`.

    Raises
    ------
    FileFormatError
        As in `read`.
    """
    import onnx

    constants, users = _collect(proto, onnx)
    tensors, taken = [], set()
    for value_name, message in constants:
        array, dtype = _array(content, value_name, message, onnx)
        if array is None:
            continue
        op, node = _use(value_name, users, onnx)
        name = _unique(_readable(_as_text(value_name), node), taken)
        tensors.append((StoredTensor.of(name, array, dtype, op), message))
    return tensors


def signature(content, proto):
    """Tell what a model takes and gives.

    Parameters
    ----------
    content : Content
        For its name.
    proto : onnx.ModelProto

    Returns
    -------
    inputs, outputs : dict of str to (str, tuple)
        Name → type ("float32", "int64", …; "" for what is no tensor) and shape, None for an axis of any
        length; a shape that the file does not tell is None. Inputs that have a value in the file are left
        out.

    Raises
    ------
    FileFormatError
        Any tensor of the file, be it a weight or not, lies in another file.
    """
    import onnx

    if _any_external(proto, onnx):
        raise FileFormatError(
            f"{content.name} keeps values in another file, which is not opened; save the model as one file "
            "(onnx.save_model with save_as_external_data=False)."
        )
    graph = proto.graph
    given = {tensor.name for tensor in graph.initializer}
    given |= {sparse.values.name for sparse in graph.sparse_initializer}
    inputs = {value.name: _typed(value, onnx) for value in graph.input if value.name not in given}
    return inputs, {value.name: _typed(value, onnx) for value in graph.output}


def working_bytes(proto, shapes):
    """Estimate the memory of all values between input and output, as if none were let go before the end.

    Parameters
    ----------
    proto : onnx.ModelProto
        Its inputs get these shapes.
    shapes : mapping of str to tuple of int
        Name of the input → shape.

    Returns
    -------
    int
        Bytes; values whose shape cannot be told beforehand are left out.
    """
    import onnx

    for value in proto.graph.input:
        if value.name in shapes:
            axes = value.type.tensor_type.shape.dim
            del axes[:]
            for size in shapes[value.name]:
                axes.add(dim_value=size)
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        graph = onnx.shape_inference.infer_shapes(proto).graph
    except Exception:  # shapes that contradict each other, or a file near 2 GiB: it is an estimate
        return 0
    total = 0
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dtype, shape = _typed(value, onnx)
        if dtype and shape is not None and None not in shape:
            total += math.prod(shape) * np.dtype(dtype).itemsize
    return total


def _typed(value, onnx):
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        return "", None
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except (KeyError, TypeError, ValueError):
        dtype = ""
    if not tensor.HasField("shape"):
        return dtype, None
    sizes = (axis.dim_value if axis.HasField("dim_value") else 0 for axis in tensor.shape.dim)
    return dtype, tuple(size if size > 0 else None for size in sizes)


def _any_external(message, onnx):
    """Look through all messages for a tensor that lies outside, also where no weight can be."""
    todo = [message]
    while todo:
        one = todo.pop()
        if isinstance(one, onnx.TensorProto):
            if one.data_location == onnx.TensorProto.EXTERNAL or one.external_data:
                return True
            continue
        for field, value in one.ListFields():
            if field.type == field.TYPE_MESSAGE:
                todo += [value] if hasattr(value, "ListFields") else value
    return False


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
                elif attribute.name == "value_floats" and node.op_type == "Constant" and node.output:
                    constants.append((node.output[0], attribute))
                elif attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
                    constants.append((node.output[0] if node.output else node.name, attribute.sparse_tensor))
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    todo.append((attribute.g.node, attribute.g))
                elif attribute.type == onnx.AttributeProto.GRAPHS:
                    todo += [(graph.node, graph) for graph in attribute.graphs]
    return constants, users


def _array(content, name, tensor, onnx):
    """Convert one tensor; (None, None) for text, which is no weight."""
    if isinstance(tensor, onnx.AttributeProto):
        return np.array(tensor.floats, np.float32), None
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
