"""Attention heads: a head's rows of queries, keys and values go with its columns of the output projection.

Where several heads share their keys and values (grouped-query attention), the heads that share are one unit:
without keys none of them works.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from csbviz.errors import OptionError
from csbviz.pruning.units import Family, Part, Units, View

__all__ = ["default_heads", "units"]

# How models name (queries, keys, values, output projection); one name for the first three when fused.
_NAMES = (
    ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("in_proj", "out_proj"),
    ("attn.qkv", "attn.proj"),
    ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
    ("SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o"),
)
_NO_HEADS = (
    "it belongs to no attention whose queries, keys, values and output projection are all chosen (they are "
    "told by their names)."
)
_ENDING = re.compile(r"[._]weight$")


def units(views: Iterable[View], options: Mapping[str, Any]) -> Units:
    """Find the attention modules by the names of their weights, and make every head a unit.

    Raises
    ------
    OptionError
        The rows of the queries cannot be shared by that many heads.
    """
    views = list(views)
    by_name = {_ENDING.sub("", view.name): view for view in views if view.kind == "linear"}
    families, used = [], set()
    for name in by_name:
        for queries, *others in _NAMES:
            if not (name == queries or name.endswith(f".{queries}")) or name in used:
                continue
            stem = name.removesuffix(queries)
            found = [by_name.get(stem + part) for part in (queries, *others)]
            family = None if None in found else _family(found, options.get("heads"))
            if family is not None:
                families.append(family)
                used.update(_ENDING.sub("", part.view.name) for part in family.parts)
                break
    skipped = {view.name: _NO_HEADS for view in views if _ENDING.sub("", view.name) not in used}
    return Units(tuple(families), skipped)


def default_heads(width: int) -> int | None:
    """How many heads an attention of this width most often has; None when no usual number fits.

    Twelve where they get 32 or 64 features each (the small and base sizes of BERT's relatives), else heads of
    64 features, else of 32.
    """
    if width in (12 * 32, 12 * 64):
        return 12
    return next((width // size for size in (64, 32) if width % size == 0), None)


def _family(views: list[View], heads: int | None) -> Family | None:
    """The heads of one attention module; None when the shapes are not those of an attention."""
    *inputs, output = views
    fused = len(inputs) == 1
    if fused and inputs[0].rows % 3:
        return None
    width = inputs[0].rows // 3 if fused else inputs[0].rows
    shared = width if fused else inputs[1].rows
    if output.cols != width or (not fused and inputs[2].rows != shared):
        return None
    count = heads or default_heads(width)
    if count is None or width % count:
        raise OptionError(
            f"{inputs[0].name} has {width} rows for its queries, which "
            + (f"{count} heads cannot share" if count else "no usual number of heads can share")
            + "; give a number of heads that divides them."
        )
    size = width // count
    if shared % size or count % (shared // size):
        raise OptionError(
            f"{inputs[1].name} has {shared} rows, which heads of {size} rows cannot share; give the number "
            "of heads of the queries."
        )
    count = shared // size  # heads that share their keys go together
    rows = [(view.rows // (3 * count if fused else count), view.cols) for view in inputs]
    parts = [Part(view, block) for view, block in zip(inputs, rows, strict=True)]
    return Family((*parts, Part(output, (output.rows, width // count))), count)
