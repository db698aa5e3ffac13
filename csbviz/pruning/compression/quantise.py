"""`quantise`: the weights that are left, each replaced by the nearest value of its layer's code book."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from csbviz.pruning.compression.codec import checked_bits
from csbviz.pruning.compression.kmeans import code_book

if TYPE_CHECKING:
    from csbviz.models import Model

__all__ = ["quantise"]


def quantise(model: Model, conv_bits: int = 8, linear_bits: int = 5) -> Model:
    """Let the weights of each layer share a few values.

    Zeros stay zero: one of the 2^bits indices is theirs, so a layer keeps at most 2^bits - 1 other values.
    Tensors that cannot be pruned (biases, norms, whole numbers) stay as they are.

    Parameters
    ----------
    model : Model
    conv_bits, linear_bits : int
        1 to 8: bits of an index, of convolutions and of all other weights.

    Returns
    -------
    Model

    Raises
    ------
    OptionError
        The bits are not from 1 to 8.
    MatrixError
        A weight holds NaN or infinity.
    """
    checked_bits("conv_bits", conv_bits)
    checked_bits("linear_bits", linear_bits)
    weights = {}
    for layer in model.prunable_layers():
        weight = layer.weight()
        kept = np.flatnonzero(weight)
        values = weight.reshape(-1)[kept]
        book = code_book(values, (1 << (conv_bits if layer.kind == "conv" else linear_bits)) - 1)
        shared = np.zeros(weight.size, weight.dtype)
        if kept.size:
            shared[kept] = (book.centroids.astype(weight.dtype) + weight.dtype.type(0))[book.nearest(values)]
        weights[layer.name] = shared.reshape(weight.shape)
        weights[layer.name].flags.writeable = False
    made_by = {"step": "quantise", "conv_bits": int(conv_bits), "linear_bits": int(linear_bits)}
    return model.with_weights(weights, made_by=made_by)
