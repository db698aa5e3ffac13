"""What a weight is for, told from its name, shape and, in a graph, the operation that uses it."""

import math
import re

from csbviz.models.tensors import FLOATS

__all__ = ["PRUNABLE_KINDS", "kind_of", "matrix_shape"]

PRUNABLE_KINDS = ("linear", "conv", "recurrent", "embedding")

_NORM = re.compile(
    r"(layer|batch|group|instance|rms)_?norm|(^|[._/])(ln|bn|gn|norm)_?\w{0,3}([._/]|$)|running_", re.I
)
_BIAS = re.compile(r"(^|[._/])(b|bias|biases|bias_\w+|b_ih|b_hh)$|bias(_ih|_hh)?(_l\d+)?(_reverse)?$", re.I)
_RECURRENT = re.compile(r"(weight|w|kernel)_(ih|hh|hr)|(^|[._/])(\w*_)?(lstm|gru|rnn)\d*([._/]|$)", re.I)
_EMBEDDING = re.compile(
    r"embed|(^|[._/])(emb|wte|wpe|cls_token|pos_\w+)([._/]|$)|relative_attention_bias", re.I
)
# Convolutions and linear maps whose names speak of embedding: a patch embedding, ALBERT's projection.
_EMBEDDING_MAP = re.compile(r"proj|mapping|(^|[._/])(dense|linear|fc)", re.I)
_EXPERTS = re.compile(r"expert", re.I)

_KIND_OF_OP = {
    "conv": "conv",
    "matmul": "linear",
    "linear": "linear",
    "recurrent": "recurrent",
    "gather": "embedding",
    "bias": "bias",
    "norm": "norm",
    "other": "other",
}


def kind_of(name, shape, dtype, op=""):
    """Classify one tensor.

    Parameters
    ----------
    name : str
    shape : tuple of int
    dtype : str
    op : str
        What a graph uses it for; "" when only the name is known.

    Returns
    -------
    str
        "linear", "conv", "embedding", "recurrent", "bias", "norm" or "other". Only the first four are weights
        that can be pruned, and only with two dimensions or more.
    """
    if dtype not in FLOATS:
        return "other"
    if op and len(shape) >= 2:
        return _KIND_OF_OP[op]
    if len(shape) < 2 or math.prod(shape) == 0:
        if _BIAS.search(name):
            return "bias"
        return "norm" if op == "norm" or _NORM.search(name) else "other"
    return _kind_of_weight(name, shape)


def _kind_of_weight(name, shape):
    if _EMBEDDING.search(name) and not _EMBEDDING_MAP.search(name):
        return "embedding"
    if "bias" in name.lower() and _BIAS.search(name):  # a matrix that is called b alone is no bias
        return "bias"
    if _RECURRENT.search(name):
        return "recurrent"
    if len(shape) == 2 or _EXPERTS.search(name):
        return "linear"
    return "conv"


def matrix_shape(shape, kind, op=""):
    """Rows and columns of the matrix of a weight.

    A convolution (out, in, kh, kw) is (out, in·kh·kw); anything else with more than two dimensions (the
    directions of a recurrent layer, the experts of a mixture) stacks its leading dimensions into rows. A
    graph's x·W keeps W as (in, out): it is turned, so that rows are outputs everywhere.

    Returns
    -------
    tuple of int
        (rows, columns); (1, size) for fewer than two dimensions.
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    if kind == "conv":
        return shape[0], math.prod(shape[1:])
    rows, cols = math.prod(shape[:-1]), shape[-1]
    return (cols, rows) if op == "matmul" else (rows, cols)
