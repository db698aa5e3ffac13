"""Operations and precision classes as people write them. Imports nothing heavy."""

from __future__ import annotations

__all__ = ["CLASSES", "LAYER_OPS", "OP_NAMES", "VECTOR_OPS", "class_name", "class_rank", "op_in_words"]

OP_NAMES = {
    "A@B": "A·B",
    "A.T@B": "Aᵀ·B",
    "A@x": "A·x",
    "A.T@x": "Aᵀ·x",
    "layer": "layer",
    "layer.forward": "layer, forward",
    "layer.backward": "layer, backward",
}
"""Operations as titles write them; x is a vector, a layer is its forward and backward pass in one."""

VECTOR_OPS = ("A@x", "A.T@x")
"""Operations whose second operand has one column."""

LAYER_OPS = ("layer", "layer.forward", "layer.backward")
"""What is timed where a layer is asked for."""

CLASSES = {"fp64": "fp64", "fp32": "fp32", "tf32": "TF32", "fp16": "fp16", "bf16": "bf16"}
"""Precision classes, the most exact first: only kernels of one class are compared."""


def class_name(precision: str) -> str:
    """A precision class as people write it."""
    return CLASSES.get(precision, precision)


def class_rank(precision: str) -> int:
    """Place of a class in `CLASSES`; unknown ones come last."""
    return list(CLASSES).index(precision) if precision in CLASSES else len(CLASSES)


_WORDS = {
    "layer": "a layer (forward and backward)",
    "layer.forward": "its forward pass",
    "layer.backward": "its backward pass",
}


def op_in_words(op: str) -> str:
    """An operation inside a sentence: "A·B", "a layer (forward and backward)"."""
    return _WORDS.get(op) or OP_NAMES.get(op, op)
