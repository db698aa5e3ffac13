"""The map of blocks: how many nonzeros each CSB block holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from . import text
from .blocks import (
    Frame,
    Targets,
    add_selection,
    add_targets,
    colour_bar,
    frame_for,
    frame_layout,
    make_targets,
)
from .raster import cell_areas, colour_top, round_ticks, smallest_unsigned
from .theme import contrast, density_scale, figure, scale_color

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..formats import CSBMatrix

__all__ = ["BlockNnzInfo", "caption", "get_block_nnz_info", "plot_block_nnz"]

MAX_CELLS = 512
"""Most cells along a side of the map; larger grids are merged."""

_INKS = ("#ffffff", "#101010")

MIN_LABEL_PIXELS = 34
"""Blocks at least this wide on the screen have their count written on them."""


class BlockNnzInfo(NamedTuple):
    """Nonzeros per block of one matrix.

    Attributes
    ----------
    shape, block_shape, grid : (int, int)
        Of the matrix as it is seen (a transposed one has them swapped).
    counts : int64[cell rows, cell columns]
        Nonzeros per cell; a cell is one block, or `merged` blocks of a large grid.
    areas : int64[cell rows, cell columns]
        Entries per cell, zeros included; blocks at the lower and right edge may be smaller.
    merged : (int, int)
        Block rows and block columns in one cell.
    blocks, empty, largest : int
        Blocks of the grid, those without nonzeros, and the most nonzeros of one.
    mean : float
        Nonzeros per block.
    fullest : (int, int)
        The (first) block with the most nonzeros.
    targets : Targets or None
    selected : (int, int) or None
    """

    shape: tuple[int, int]
    block_shape: tuple[int, int]
    grid: tuple[int, int]
    counts: np.ndarray
    areas: np.ndarray
    merged: tuple[int, int]
    blocks: int
    empty: int
    largest: int
    mean: float
    fullest: tuple[int, int]
    targets: Targets | None
    selected: tuple[int, int] | None

    @property
    def density(self) -> np.ndarray:
        """Share of nonzeros per cell, float64[cell rows, cell columns]."""
        return self.counts / np.maximum(self.areas, 1)


def get_block_nnz_info(A: CSBMatrix, selected: tuple[int, int] | None = None) -> BlockNnzInfo:
    """Count the nonzeros of every block of `A`.

    Parameters
    ----------
    A : CSBMatrix
    selected : (int, int), optional
        Block row and block column to frame.

    Returns
    -------
    BlockNnzInfo

    Raises
    ------
    OptionError
        If there is no such block.
    """
    per_block = np.asarray(A.block_nnz(), dtype=np.int64)
    grid, block_shape = per_block.shape, tuple(A.block_shape)
    if selected is not None:
        selected = tuple(int(k) for k in selected)
        if not all(0 <= k < length for k, length in zip(selected, grid, strict=True)):
            raise OptionError(f"block {selected} was selected; the matrix has {text.shape(grid)} blocks")
    merged = tuple(max(1, -(-length // MAX_CELLS)) for length in grid)
    sides = tuple(side * factor for side, factor in zip(block_shape, merged, strict=True))
    fullest = divmod(int(per_block.argmax()), grid[1]) if per_block.size else (0, 0)
    window = (0, A.shape[0]), (0, A.shape[1])
    return BlockNnzInfo(
        tuple(A.shape),
        block_shape,
        grid,
        _merge(per_block, merged),
        cell_areas(*A.shape, sides),
        merged,
        per_block.size,
        int((per_block == 0).sum()),
        int(per_block.max(initial=0)),
        float(per_block.mean()) if per_block.size else 0.0,
        fullest,
        make_targets(per_block, (0, 0), block_shape, *window, A.shape),
        selected,
    )


def _merge(counts: np.ndarray, factors: tuple[int, int]) -> np.ndarray:
    for axis, factor in enumerate(factors):
        if factor > 1:
            counts = np.add.reduceat(counts, np.arange(0, counts.shape[axis], factor), axis=axis)
    return counts


def plot_block_nnz(info: BlockNnzInfo, dark: bool = False, measure: str = "nnz") -> go.Figure:
    """Draw the map in block coordinates.

    Parameters
    ----------
    info : BlockNnzInfo
    dark : bool
    measure : {"nnz", "density"}
        Colour by nonzeros, which are the work, or by their share of the block, which suits ragged edges.

    Raises
    ------
    OptionError
        For another measure.
    """
    if measure not in ("nnz", "density"):
        raise OptionError(f"measure is {measure!r}; it must be 'nnz' or 'density'")
    frame = _block_frame(info)
    fig = figure(dark, frame.height)
    _add_map(fig, info, measure, frame, dark)
    if info.targets is not None:
        block_row, block_col = info.targets.data[:, 0], info.targets.data[:, 1]
        add_targets(fig, info.targets._replace(x=block_col, y=block_row), frame, (1, 1))
    if info.selected is not None:
        i, j = info.selected
        add_selection(fig, (j - 0.5, j + 0.5), (i - 0.5, i + 0.5), dark)
    borders = (-0.5, info.grid[0] - 0.5), (-0.5, info.grid[1] - 0.5)
    fig.update_layout(
        frame_layout(frame, *borders, dark, ("Block row", "Block column"), _bar_title(info, measure))
    )
    return fig


def _block_frame(info: BlockNnzInfo) -> Frame:
    """The frame of the matrix, with pixels per block instead of per row and column."""
    frame = frame_for(*info.shape)
    width = frame.col_pixels * max(info.shape[1], 1)
    return Frame(frame.height, frame.height / max(info.grid[0], 1), width / max(info.grid[1], 1))


def _add_map(fig: go.Figure, info: BlockNnzInfo, measure: str, frame: Frame, dark: bool) -> None:
    if info.counts.size == 0:
        fig.add_annotation(text="The matrix has no blocks", x=0.5, y=0.5, xref="paper", yref="paper")
        return
    by_density = measure == "density"
    z = info.density.astype(np.float32) if by_density else smallest_unsigned(info.counts)
    top = colour_top(z)
    smallest = float(z[z > 0].min(initial=top)) / top
    scale, ticks = density_scale(dark, smallest), round_ticks(top)
    if not by_density:
        ticks = [tick for tick in ticks if tick == int(tick)]
    fig.add_heatmap(
        z=z,
        x=_edges(info.grid[1], info.merged[1]),
        y=_edges(info.grid[0], info.merged[0]),
        zmin=0,
        zmax=top,
        colorscale=scale,
        xgap=1 if frame.col_pixels >= 8 else 0,
        ygap=1 if frame.row_pixels >= 8 else 0,
        colorbar=colour_bar(
            dark,
            tickvals=ticks,
            ticktext=[text.percent_tick(tick) if by_density else text.count(tick) for tick in ticks],
        ),
        hovertemplate="block row %{y}, block column %{x}<br>%{z}<extra></extra>",
        hoverinfo="skip" if info.targets is not None else None,
    )
    fits = frame.col_pixels >= MIN_LABEL_PIXELS and frame.row_pixels >= MIN_LABEL_PIXELS / 2
    if fits and info.merged == (1, 1):
        _add_numbers(fig, z, top, scale, by_density)


def _add_numbers(fig: go.Figure, z: np.ndarray, top: float, scale: list[list], by_density: bool) -> None:
    """Write each block's number on it, in white or black, whichever reads better on its colour."""
    row, col = (axis.ravel() for axis in np.indices(z.shape))
    values = z.ravel()
    grounds = [scale_color(scale, value / top) for value in values.tolist()]
    inks = np.array([max(_INKS, key=lambda ink: contrast(ink, ground)) for ground in grounds])
    for ink in _INKS:
        mine = inks == ink
        kept = {"textfont": {"color": ink}}  # a click would fade the numbers of all blocks
        fig.add_scatter(
            x=col[mine],
            y=row[mine],
            mode="text",
            text=[
                text.percent(value, 0) if by_density else text.count(value) for value in values[mine].tolist()
            ],
            textfont={"size": 11, "color": ink},
            selected=kept,
            unselected=kept,
            hoverinfo="skip",
            showlegend=False,
        )


def _bar_title(info: BlockNnzInfo, measure: str) -> str:
    unit = "block" if info.merged == (1, 1) else f"group of {text.shape(info.merged)} blocks"
    return f"{'Share of nonzeros' if measure == 'density' else 'Nonzeros'} per {unit}"


def _edges(length: int, factor: int) -> np.ndarray:
    return np.append(np.arange(0, length, factor), length) - 0.5


def caption(info: BlockNnzInfo) -> str:
    """How evenly the blocks are filled, and where the fullest is."""
    if info.blocks == 0:
        return "The matrix has no blocks."
    blocks = f"{text.shape(info.grid)} blocks of {text.shape(info.block_shape)}"
    if info.largest == 0:
        return f"{blocks}, all empty."
    i, j = info.fullest
    empty = f"{text.count(info.empty)} are empty" if info.empty else "none is empty"
    parts = [
        f"{blocks}: {empty}. A block holds {text.significant(info.mean)} nonzeros in the mean; "
        f"block ({i}, {j}) holds the most, {text.count(info.largest)} "
        f"({text.ratio(info.largest / info.mean)} the mean)."
    ]
    if info.merged != (1, 1):
        parts.append(f"Each cell of the picture joins {text.shape(info.merged)} blocks.")
    if info.mean < 8:
        parts.append("Blocks this empty cost more in block pointers than they save: larger ones need fewer.")
    return " ".join(parts)
