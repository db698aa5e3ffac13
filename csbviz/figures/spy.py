"""The spy picture: where the nonzeros are. Each pixel is the density of its cell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from ..formats.cells import count_cells
from . import text
from .blocks import (
    MAX_TARGETS,
    MIN_BLOCK_PIXELS,
    Targets,
    add_grid,
    add_selection,
    add_targets,
    block_edges,
    colour_bar,
    frame_for,
    frame_layout,
    make_targets,
)
from .raster import (
    Raster,
    check_block_shape,
    check_window,
    colour_top,
    rasterise,
    round_ticks,
    smallest_unsigned,
)
from .theme import density_scale, figure

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from scipy.sparse import csr_matrix

__all__ = ["SpyInfo", "caption", "get_spy_info", "plot_spy", "window_from_box"]


class SpyInfo(NamedTuple):
    """What the spy picture shows.

    Attributes
    ----------
    shape : (int, int)
    nnz : int
        Nonzeros of the whole matrix.
    raster : Raster
        The visible window in cells, with their counts and densities.
    top : float
        Density at the end of the colour scale; denser cells have the same colour.
    block_shape : (int, int) or None
    grid : bool
        True when the blocks are large enough on the screen for borders.
    targets : Targets or None
        Blocks that can be clicked; None without blocks, or with too many of them.
    selected : (int, int) or None
        Block row and block column that is framed.
    """

    shape: tuple[int, int]
    nnz: int
    raster: Raster
    top: float
    block_shape: tuple[int, int] | None
    grid: bool
    targets: Targets | None
    selected: tuple[int, int] | None


def get_spy_info(
    S: csr_matrix,
    rows: tuple[int, int] | None = None,
    cols: tuple[int, int] | None = None,
    block_shape: tuple[int, int] | None = None,
    pixels: int = 512,
    selected: tuple[int, int] | None = None,
) -> SpyInfo:
    """Count the nonzeros of a window of `S` per pixel.

    Parameters
    ----------
    S : csr_matrix
        Stored entries count as nonzeros.
    rows, cols : (int, int), optional
        Half-open window; all of the matrix by default.
    block_shape : (int, int), optional
        Show blocks of this many rows and columns.
    pixels : int
        Most pixels along either side.
    selected : (int, int), optional
        Block row and block column to frame.

    Returns
    -------
    SpyInfo

    Raises
    ------
    OptionError
        If the window, the block shape or the selected block does not fit the matrix.
    """
    rows = check_window(rows, S.shape[0], "rows")
    cols = check_window(cols, S.shape[1], "columns")
    raster = rasterise(S, rows, cols, pixels)
    grid, targets = False, None
    if block_shape is not None:
        block_shape = check_block_shape(block_shape)
        frame = frame_for(rows[1] - rows[0], cols[1] - cols[0])
        sides = block_shape[0] * frame.row_pixels, block_shape[1] * frame.col_pixels
        grid = min(sides) >= MIN_BLOCK_PIXELS
        targets = _targets(S, rows, cols, block_shape)
    selected = _check_selected(selected, S.shape, block_shape)
    return SpyInfo(
        tuple(S.shape), int(S.nnz), raster, colour_top(raster.density), block_shape, grid, targets, selected
    )


def _targets(
    S: csr_matrix, rows: tuple[int, int], cols: tuple[int, int], block_shape: tuple[int, int]
) -> Targets | None:
    """Count whole blocks, also those that the window cuts."""
    first = rows[0] // block_shape[0], cols[0] // block_shape[1]
    whole = [
        (begin * side, min(-(-window[1] // side) * side, length))
        for begin, side, window, length in zip(first, block_shape, (rows, cols), S.shape, strict=True)
    ]
    blocks = math.prod(
        -(-(end - begin) // side) for (begin, end), side in zip(whole, block_shape, strict=True)
    )
    if blocks > MAX_TARGETS:
        return None
    return make_targets(count_cells(S, *whole, block_shape), first, block_shape, rows, cols, S.shape)


def _check_selected(selected, shape, block_shape) -> tuple[int, int] | None:
    if selected is None or block_shape is None:
        return None
    i, j = (int(k) for k in selected)
    down, across = -(-shape[0] // block_shape[0]), -(-shape[1] // block_shape[1])
    if not (0 <= i < down and 0 <= j < across):
        raise OptionError(f"block ({i}, {j}) was selected; the matrix has {down} × {across} blocks")
    return i, j


def plot_spy(info: SpyInfo, dark: bool = False, dragmode: str = "pan") -> go.Figure:
    """Draw the picture.

    Clicks on blocks come from the points of the trace "blocks", whose ``customdata`` begins with block row,
    block column and nonzeros. A box selection gives ranges for `window_from_box`; clicks work while
    `dragmode` is "pan" or "zoom".
    """
    raster = info.raster
    frame = frame_for(raster.rows[1] - raster.rows[0], raster.cols[1] - raster.cols[0])
    y_border = raster.rows[0] - 0.5, raster.rows[1] - 0.5
    x_border = raster.cols[0] - 0.5, raster.cols[1] - 0.5
    fig = figure(dark, frame.height, dragmode=dragmode)
    _add_picture(fig, info, dark)
    if info.grid:
        add_grid(
            fig,
            block_edges(raster.rows, info.block_shape[0]) - 0.5,
            block_edges(raster.cols, info.block_shape[1]) - 0.5,
            y_border,
            x_border,
            dark,
            min(info.block_shape[0] * frame.row_pixels, info.block_shape[1] * frame.col_pixels),
        )
    if info.targets is not None:
        add_targets(fig, info.targets, frame, info.block_shape)
    if info.selected is not None:
        (i, j), (down, across) = info.selected, info.block_shape
        x = j * across - 0.5, min((j + 1) * across, info.shape[1]) - 0.5
        y = i * down - 0.5, min((i + 1) * down, info.shape[0]) - 0.5
        add_selection(fig, x, y, dark)
    fig.update_layout(frame_layout(frame, y_border, x_border, dark, ("Row", "Column"), _bar_title(raster)))
    return fig


def _add_picture(fig: go.Figure, info: SpyInfo, dark: bool) -> None:
    raster = info.raster
    if raster.counts.size == 0:
        fig.add_annotation(text="The matrix has no entries", x=0.5, y=0.5, xref="paper", yref="paper")
        return
    area = raster.cell[0] * raster.cell[1]
    if raster.uniform:  # whole numbers are smaller to send, and the pointer can show them
        z, unit, end = smallest_unsigned(raster.counts), area, info.top * area
        what = "%{z}" + f" of {text.plural(area, 'entry')[:-1]}ies" if area > 1 else "%{z}"
    else:
        z, unit, end = raster.density, 1.0, info.top
        what = "%{z:.1%}"
    ticks = round_ticks(info.top)
    fig.add_heatmap(
        z=z,
        x=_cell_edges(raster.cols, raster.cell[1]),
        y=_cell_edges(raster.rows, raster.cell[0]),
        zmin=0,
        zmax=end,
        colorscale=density_scale(dark, 1 / (area * info.top), binary=area == 1),
        showscale=area > 1,
        colorbar=colour_bar(
            dark,
            tickvals=[tick * unit for tick in ticks],
            ticktext=[text.percent_tick(tick) for tick in ticks],
        ),
        hovertemplate=_hover_range("row", "y", raster.cell[0])
        + _hover_range("column", "x", raster.cell[1])
        + what
        + (" nonzero<extra></extra>" if area > 1 else " (1: nonzero)<extra></extra>"),
        hoverinfo="skip" if info.targets is not None else None,
    )


def _bar_title(raster: Raster) -> str:
    """Title of the colour bar; pixels of one entry need none."""
    if raster.cell == (1, 1):
        return ""
    return f"Share of nonzeros in a pixel ({raster.cell[0]} × {raster.cell[1]} entries)"


def _cell_edges(window: tuple[int, int], side: int) -> np.ndarray:
    return np.append(np.arange(window[0], window[1], side), window[1]) - 0.5


def _hover_range(what: str, axis: str, side: int) -> str:
    """A line for the pointer's cell; its centre and reach say exactly which rows it covers."""
    if side == 1:
        return f"{what} %{{{axis}}}<br>"
    return f"{what}s %{{{axis}}} ± {(side - 1) / 2:g}<br>"


def window_from_box(
    info: SpyInfo, x: tuple[float, float], y: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The window of whole entries that a box selected on the picture touches.

    Parameters
    ----------
    info : SpyInfo
    x, y : (float, float)
        Ends of the box in plot coordinates, in any order: an entry reaches 0.5 to either side of its number.

    Returns
    -------
    rows, cols : (int, int)
        Half-open, never empty, within the matrix.
    """
    return _whole(y, info.shape[0]), _whole(x, info.shape[1])


def _whole(ends: tuple[float, float], length: int) -> tuple[int, int]:
    low, high = min(ends), max(ends)
    begin = min(max(math.floor(low + 0.5), 0), max(length - 1, 0))
    return begin, max(begin + 1, min(math.ceil(high + 0.5), length))


def caption(info: SpyInfo) -> str:
    """What to look for in the picture."""
    raster = info.raster
    if raster.size == 0:
        return "The matrix has no entries."
    whole = (raster.rows, raster.cols) == ((0, info.shape[0]), (0, info.shape[1]))
    where = (
        f"{text.count(info.nnz)} nonzeros in {text.shape(info.shape)}"
        if whole
        else f"Rows {text.span(*raster.rows)} and columns {text.span(*raster.cols)}: "
        f"{text.plural(raster.nnz, 'nonzero')}"
    )
    parts = [f"{where}, {text.percent(raster.nnz / raster.size)} of the entries."]
    if raster.cell != (1, 1):
        parts.append(
            f"Each pixel is the share of nonzeros in its {raster.cell[0]} × {raster.cell[1]} entries; "
            "a single nonzero already gets the first visible colour, so only the background is truly empty."
        )
        if float(raster.density.max()) > info.top:
            parts.append(f"Colours end at {text.percent(info.top)}; a few pixels are denser.")
    parts.append(_pattern(raster))
    if info.block_shape is not None and not info.grid:
        parts.append("Blocks are too small here for borders: zoom in to see them.")
    return " ".join(part for part in parts if part)


def _pattern(raster: Raster) -> str:
    """Say what stands out: cells much denser than a random scatter of as many nonzeros would give."""
    area = raster.cell[0] * raster.cell[1]
    mean = raster.nnz / max(raster.size, 1)
    if raster.counts.size < 16 or area < 16 or mean in (0, 1):
        return ""
    expected = mean * (1 - mean) / area
    spread = float(raster.density.var()) / expected
    if spread > 2:
        return (
            f"Look for bands and clusters: densities vary {text.ratio(spread**0.5)} as much as those of "
            "a random scatter."
        )
    return "The nonzeros lie as evenly as a random scatter: no rows, columns or blocks stand out."
