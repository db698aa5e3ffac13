"""What a granularity says of a model: which weights go together, as blocks of the layers' matrices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Family", "Part", "Units", "View"]


@dataclass(frozen=True)
class View:
    """A weight as the matrix of its product: outputs by inputs.

    Attributes
    ----------
    name, kind : str
        As of the layer.
    shape : tuple of int
        In the file.
    rows, cols : int
        Of the matrix.
    turned : bool
        The file keeps the matrix as (inputs, outputs).
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rows: int
    cols: int
    turned: bool = False

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.rows * self.cols


@dataclass(frozen=True)
class Part:
    """The units' share of one weight: blocks of its matrix, in block-row order.

    Attributes
    ----------
    view : View
    block : (int, int)
        Rows and columns of a block; blocks at the lower and right edge may be smaller.
    """

    view: View
    block: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        """Block rows and block columns."""
        return -(-self.view.rows // self.block[0]), -(-self.view.cols // self.block[1])

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return math.prod(self.grid)


@dataclass(frozen=True)
class Family:
    """Units that are told apart by a number from 0; they lie in one weight, or across several.

    Attributes
    ----------
    parts : tuple of Part
        Block b of every part belongs to unit ``b % count``.
    count : int
        Number of units.
    """

    parts: tuple[Part, ...]
    count: int

    @classmethod
    def of_blocks(cls, view: View, block: tuple[int, int]) -> Family:
        """Every block of one weight is a unit; sides are cut to those of the matrix."""
        part = Part(view, (min(block[0], view.rows), min(block[1], view.cols)))
        return cls((part,), part.blocks)

    @property
    def name(self) -> str:
        """The name of the first weight, which the draws of seeded methods depend on."""
        return self.parts[0].view.name

    @property
    def of_single_weights(self) -> bool:
        """Every unit is one weight."""
        return len(self.parts) == 1 and self.parts[0].block == (1, 1)


@dataclass(frozen=True)
class Units:
    """All units of the chosen layers.

    Attributes
    ----------
    families : tuple of Family
        In the model's order; every weight is in one family at most.
    skipped : mapping of str to str
        Layers that this granularity leaves as they are, and one sentence why.
    """

    families: tuple[Family, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_each(cls, views: Iterable[View], block_of) -> Units:
        """Units within single weights: block_of(view) → (rows, columns) of a unit, or a sentence why none."""
        families, skipped = [], {}
        for view in views:
            found = block_of(view)
            if isinstance(found, str):
                skipped[view.name] = found
            else:
                families.append(Family.of_blocks(view, found))
        return cls(tuple(families), skipped)
