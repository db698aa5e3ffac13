"""MiniLM-L6, a BERT encoder with mean pooling, as a PyTorch module under the tensor names of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["HEADS", "LAYERS", "SHAPES", "WIDTH", "build"]

LAYERS, WIDTH, HEADS, WIDE = 6, 384, 12, 1536
_WORDS, _POSITIONS, _SEGMENTS = 30_522, 512, 2
_EPSILON = 1e-12  # of the layer norms, as BERT has it

_LINEARS = {
    "query": ("attention.self.query", WIDTH, WIDTH),
    "key": ("attention.self.key", WIDTH, WIDTH),
    "value": ("attention.self.value", WIDTH, WIDTH),
    "mixed": ("attention.output.dense", WIDTH, WIDTH),
    "widened": ("intermediate.dense", WIDTH, WIDE),
    "narrowed": ("output.dense", WIDE, WIDTH),
}  # attribute here → name in the file, inputs, outputs
_NORMS = {"norm1": "attention.output.LayerNorm", "norm2": "output.LayerNorm"}
_EMBEDDINGS = {"word": _WORDS, "position": _POSITIONS, "token_type": _SEGMENTS}


def _shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"embeddings.position_ids": (1, _POSITIONS)}
    for name, count in _EMBEDDINGS.items():
        shapes[f"embeddings.{name}_embeddings.weight"] = (count, WIDTH)
    norms = ["embeddings.LayerNorm"]
    linears = {"pooler.dense": (WIDTH, WIDTH)}
    for index in range(LAYERS):
        prefix = f"encoder.layer.{index}."
        norms += [prefix + name for name in _NORMS.values()]
        linears |= {prefix + name: (outputs, inputs) for name, inputs, outputs in _LINEARS.values()}
    for name in norms:
        shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes


SHAPES = _shapes()
"""Every tensor of the file by its name. The pooler and the position numbers have no part in an embedding."""


def build(
    weights: Mapping[str, np.ndarray],
) -> tuple[torch.nn.Module, dict[str, torch.nn.Parameter], dict[str, torch.nn.Module]]:
    """Build the encoder from arrays, which are copied.

    Parameters
    ----------
    weights : mapping of str to numpy.ndarray
        The tensors of `SHAPES`.

    Returns
    -------
    module : torch.nn.Module
        Called with token ids, int64 (batch, length ≤ 512), 0 where a text has ended; gives embeddings of
        length 1, float32 (batch, 384): the mean over a text's tokens, normalised.
    parameters : dict of str to torch.nn.Parameter
        By the file's names. What has no part in an embedding asks for no gradient.
    readers : dict of str to torch.nn.Module
        The linear layers by the names of their weights. They are given real tokens alone, (tokens, inputs):
        padding is nowhere multiplied.
    """
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            for attribute, (_, inputs, outputs) in _LINEARS.items():
                setattr(self, attribute, nn.Linear(inputs, outputs))
            for attribute in _NORMS:
                setattr(self, attribute, nn.LayerNorm(WIDTH, eps=_EPSILON))

        def forward(self, x, real):
            heads = []
            for linear in (self.query, self.key, self.value):
                spread = x.new_zeros(*real.shape, WIDTH)
                spread[real] = linear(x)
                heads.append(spread.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2))
            seen = F.scaled_dot_product_attention(*heads, attn_mask=real[:, None, None, :])
            x = self.norm1(x + self.mixed(seen.transpose(1, 2).flatten(2)[real]))
            return self.norm2(x + self.narrowed(F.gelu(self.widened(x))))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            for name, count in _EMBEDDINGS.items():
                setattr(self, name, nn.Embedding(count, WIDTH))
            self.norm = nn.LayerNorm(WIDTH, eps=_EPSILON)
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

        def forward(self, tokens):
            real = tokens != 0
            text, place = real.nonzero(as_tuple=True)
            x = self.norm(self.word(tokens[real]) + self.position(place) + self.token_type.weight[0])
            for layer in self.layers:
                x = layer(x, real)
            sums = x.new_zeros(len(tokens), WIDTH).index_add(0, text, x)
            return F.normalize(sums / real.sum(1, keepdim=True).clamp(min=1), dim=1)

    module = Encoder()
    parts = {f"embeddings.{name}_embeddings": getattr(module, name) for name in _EMBEDDINGS}
    parts["embeddings.LayerNorm"] = module.norm
    readers = {}
    for index, layer in enumerate(module.layers):
        prefix = f"encoder.layer.{index}."
        parts |= {prefix + name: getattr(layer, attribute) for attribute, name in _NORMS.items()}
        for attribute, (name, _, _) in _LINEARS.items():
            parts[prefix + name] = readers[f"{prefix}{name}.weight"] = getattr(layer, attribute)
    parameters = {}
    for name in SHAPES:
        owner, _, kind = name.rpartition(".")
        values = torch.tensor(np.asarray(weights[name]), dtype=torch.float32)
        parameters[name] = nn.Parameter(values, requires_grad=owner in parts)
        if owner in parts:
            setattr(parts[owner], kind, parameters[name])
    return module, parameters, readers
