"""Operations and precision classes as people write them. Imports nothing."""

from __future__ import annotations

__all__ = ["CLASSES", "OP_NAMES", "VECTOR_OPS", "class_name", "class_rank", "is_transposed", "op_in_words"]

OP_NAMES = {"A@B": "A·B", "A.T@B": "Aᵀ·B", "A@x": "A·x", "A.T@x": "Aᵀ·x", "layer": "layer"}
"""Operations as titles write them; x is a vector, a layer is one forward and one backward pass."""

VECTOR_OPS = ("A@x", "A.T@x")
"""Operations whose second operand has one column."""

CLASSES = {"fp64": "fp64", "fp32": "fp32", "tf32": "TF32", "fp16": "fp16", "bf16": "bf16"}
"""Precision classes, the most exact first: only kernels of one class are compared."""


def class_name(precision: str) -> str:
    """A precision class as people write it."""
    return CLASSES.get(precision, precision)


def class_rank(precision: str) -> int:
    """Place of a class in `CLASSES`; unknown ones come last."""
    return list(CLASSES).index(precision) if precision in CLASSES else len(CLASSES)


def is_transposed(op: str) -> bool:
    """Whether an operation multiplies with the transpose of the stored matrix alone."""
    return op.startswith("A.T")


def op_in_words(op: str) -> str:
    """An operation inside a sentence: "A·B", "a layer (forward and backward)"."""
    return "a layer (forward and backward)" if op == "layer" else OP_NAMES.get(op, op)
