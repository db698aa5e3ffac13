"""csbviz: pruned networks in Compressed Sparse Blocks, one stored copy for A·B and Aᵀ·B.

Everything named here is loaded on first use, so that ``import csbviz`` is fast and needs no GPU.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from csbviz.formats.csb import set_matmul_hook
from csbviz.formats.remote import set_conversion_hook

__version__ = "0.1.0"

if TYPE_CHECKING:
    from csbviz.balance import make_plan
    from csbviz.bench.autotune import autotune
    from csbviz.formats import CSBMatrix, choose_block_shape, load_matrix
    from csbviz.models import load_model, load_sample, sample_models
    from csbviz.ops.dispatch import spmm
    from csbviz.pruning import prune_model

_HOMES = {
    "CSBMatrix": "csbviz.formats",
    "autotune": "csbviz.bench.autotune",
    "choose_block_shape": "csbviz.formats",
    "load_matrix": "csbviz.formats",
    "load_model": "csbviz.models",
    "load_sample": "csbviz.models",
    "make_plan": "csbviz.balance",
    "prune_model": "csbviz.pruning",
    "sample_models": "csbviz.models",
    "spmm": "csbviz.ops.dispatch",
}

__all__ = [
    "CSBMatrix",
    "autotune",
    "choose_block_shape",
    "load_matrix",
    "load_model",
    "load_sample",
    "make_plan",
    "prune_model",
    "sample_models",
    "spmm",
]


def _matmul(A, B):
    from csbviz.ops.dispatch import matmul

    return matmul(A, B)


def _convert(thing, block_shape):
    from csbviz.ops.cuda.convert import convert

    return convert(thing, block_shape)


# `formats` knows nothing of `ops`: the product behind ``A @ B`` and the conversion on a GPU are handed to it.
set_matmul_hook(_matmul)
set_conversion_hook(_convert)


def __getattr__(name: str):
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'csbviz' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
