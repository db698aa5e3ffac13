"""What pictures of blocks share: click targets, borders, the mark of a selection, true proportions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import text
from .theme import format_color, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = [
    "MAX_TARGETS",
    "MIN_BLOCK_PIXELS",
    "Frame",
    "Targets",
    "add_grid",
    "add_selection",
    "add_targets",
    "bar_title",
    "block_edges",
    "colour_bar",
    "frame_for",
    "frame_layout",
    "make_targets",
]

MAX_TARGETS = 4096
"""Most blocks that can be clicked in one picture."""

MIN_BLOCK_PIXELS = 4
"""Blocks smaller than this on the screen get no borders: they would cover the data."""

_ROOMY_PIXELS = 24
"""From this side of a block on the screen its borders are drawn in full strength."""

WIDEST, TALLEST = 900, 480
"""Most pixels of a picture across and down."""

FLATTEST, STEEPEST = 1 / 3, 1.6
"""Height over width of a picture: between these it is the matrix's, beyond them the matrix is squeezed."""

HEAD, HEAD_WITH_BAR, FOOT, LEFT = 32, 66, 48, 68
"""Pixels above a picture without and with a colour bar, below it and left of it."""


class Frame(NamedTuple):
    """Room for a picture on the screen: pixels of height, and of one row and one column at full size."""

    height: int
    row_pixels: float
    col_pixels: float


class Targets(NamedTuple):
    """Blocks that can be clicked.

    Attributes
    ----------
    x, y : float64[blocks]
        Centres of the visible part of each block, in matrix coordinates.
    data : int64[blocks, 7]
        Block row, block column, nonzeros, then the half-open ranges of rows and of columns.
    """

    x: np.ndarray
    y: np.ndarray
    data: np.ndarray


def frame_for(height: int, width: int) -> Frame:
    """Choose the pixels for a window of `height` rows and `width` columns."""
    height, width = max(height, 1), max(width, 1)
    aspect = min(max(height / width, FLATTEST), STEEPEST)
    pixels = min(WIDEST * aspect, TALLEST)
    return Frame(round(pixels), pixels / height, pixels / aspect / width)


def block_edges(window: tuple[int, int], side: int) -> np.ndarray:
    """Borders between blocks strictly inside a half-open window, as row or column numbers."""
    first = (window[0] // side + 1) * side
    return np.arange(first, window[1], side)


def make_targets(
    counts: np.ndarray,
    first: tuple[int, int],
    block_shape: tuple[int, int],
    rows: tuple[int, int],
    cols: tuple[int, int],
    shape: tuple[int, int],
) -> Targets | None:
    """Targets for a grid of blocks of which the upper left is `first`; None when there are too many.

    `rows` and `cols` are the visible window, `shape` the matrix's.
    """
    if not 0 < counts.size <= MAX_TARGETS:
        return None
    block_row, block_col = (axis.ravel() for axis in np.indices(counts.shape))
    block_row, block_col = block_row + first[0], block_col + first[1]
    top, left = block_row * block_shape[0], block_col * block_shape[1]
    bottom = np.minimum(top + block_shape[0], shape[0])
    right = np.minimum(left + block_shape[1], shape[1])
    y = (np.maximum(top, rows[0]) + np.minimum(bottom, rows[1]) - 1) / 2
    x = (np.maximum(left, cols[0]) + np.minimum(right, cols[1]) - 1) / 2
    data = np.column_stack([block_row, block_col, counts.ravel(), top, bottom, left, right])
    return Targets(x, y, data.astype(np.int64))


def add_targets(fig: go.Figure, targets: Targets, frame: Frame, block_shape: tuple[int, int]) -> None:
    """Lay invisible squares over the block centres: a picture itself reports no clicks.

    `block_shape` is a block's size on the axes. The nearest centre answers however far it is (hoverdistance
    -1): on a grid that is the block under the pointer.
    """
    side = min(block_shape[0] * frame.row_pixels, block_shape[1] * frame.col_pixels)
    hover = [
        f"Block ({i}, {j})<br>rows {text.span(top, bottom)}<br>columns {text.span(left, right)}<br>"
        f"{text.plural(nnz, 'nonzero')}, "
        f"{text.percent(nnz / ((bottom - top) * (right - left)))} of its entries"
        for i, j, nnz, top, bottom, left, right in targets.data.tolist()
    ]
    hidden = {"marker": {"opacity": 0}}
    fig.add_scatter(
        x=targets.x,
        y=targets.y,
        mode="markers",
        marker={"symbol": "square", "size": max(side, MIN_BLOCK_PIXELS), "opacity": 0},
        selected=hidden,
        unselected=hidden,
        # A list of lists: typed arrays of two dimensions come back from the browser as dicts.
        customdata=targets.data.tolist(),
        hovertext=hover,
        hoverinfo="text",
        showlegend=False,
        name="blocks",
    )
    fig.update_layout(hoverdistance=-1)


def add_grid(
    fig: go.Figure,
    row_edges: np.ndarray,
    col_edges: np.ndarray,
    rows: tuple[float, float],
    cols: tuple[float, float],
    dark: bool,
    block_pixels: float,
) -> None:
    """Draw borders at the edges given, from end to end of the window (all in plot coordinates).

    The lines are of CSB's colour on a line of the background, so that they show on any data; where blocks are
    small (`block_pixels`, their shorter side on the screen) the lines are thin, so that the data shows too.
    """
    across = [(cols[0], edge, cols[1], edge) for edge in row_edges.tolist()]
    down = [(edge, rows[0], edge, rows[1]) for edge in col_edges.tolist()]
    x, y = [], []
    for x0, y0, x1, y1 in across + down:
        x += [x0, x1, None]
        y += [y0, y1, None]
    if not x:
        return
    share = min(1.0, block_pixels / _ROOMY_PIXELS)
    for color, width in ((look(dark).background, 3.0 * share), (format_color("csb"), max(0.8, 1.4 * share))):
        fig.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": color, "width": width},
            opacity=max(0.75, 0.95 * share),
            hoverinfo="skip",
            showlegend=False,
        )


def add_selection(fig: go.Figure, x: tuple[float, float], y: tuple[float, float], dark: bool) -> None:
    """Frame the selected block: a bright line on a line of the background, so that it shows on any data."""
    theme = look(dark)
    box = {"type": "rect", "x0": x[0], "x1": x[1], "y0": y[0], "y1": y[1], "layer": "above"}
    fig.add_shape(**box, line={"color": theme.background, "width": 6})
    fig.add_shape(**box, line={"color": theme.accent, "width": 3})


def bar_title(title: str, dark: bool) -> dict:
    """An annotation with the title of a `colour_bar`, flush with its left end."""
    place = {
        "x": 0,
        "xref": "paper",
        "xanchor": "left",
        "y": 1,
        "yref": "paper",
        "yanchor": "bottom",
        "yshift": 39,
    }
    return {**place, "text": title, "font": {"color": look(dark).muted, "size": 12}}


def colour_bar(dark: bool, **options) -> dict:
    """A small horizontal colour bar above the picture's left edge: it stays there at any width."""
    theme = look(dark)
    return {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1,
        "yanchor": "bottom",
        "ypad": 6,
        "xpad": 0,
        "thickness": 10,
        "lenmode": "pixels",
        "len": 260,
        "outlinewidth": 1,
        "outlinecolor": theme.border,
        "tickfont": {"color": theme.muted, "size": 11},
        **options,
    }


def frame_layout(
    frame: Frame,
    rows: tuple[float, float],
    cols: tuple[float, float],
    dark: bool,
    titles: tuple[str, str],
    bar: str = "",
) -> dict:
    """Layout of a picture whose rows run downwards; `rows` and `cols` are its borders in plot coordinates.

    `bar` is the title of a colour bar above the picture, "" without one. Margins are fixed, and the lower
    title hangs on the picture itself: Plotly moves margins for the colour bar, and its own title then lands
    on the tick labels.
    """
    border = {
        "automargin": False,
        "showgrid": False,
        "showline": True,
        "mirror": True,
        "linecolor": look(dark).border,
        "ticks": "outside",
    }
    x = {
        **border,
        "range": list(cols),
        "constrain": "domain",
        "constraintoward": "left",
    }
    y = {
        **border,
        "title": {"text": titles[0]},
        "range": [rows[1], rows[0]],
        "constrain": "domain",
        "constraintoward": "top",
    }
    for axis, (low, high) in ((x, cols), (y, rows)):
        axis.update(minallowed=low, maxallowed=high)
        if high - low <= 12:
            axis["dtick"] = 1
    y.update(scaleanchor="x", scaleratio=frame.row_pixels / frame.col_pixels)
    head = HEAD_WITH_BAR if bar else HEAD
    below = {
        "text": titles[1],
        "x": 0.5,
        "xref": "x domain",
        "y": 0,
        "yref": "y domain",
        "yanchor": "top",
        "yshift": -22,
        "font": {"color": look(dark).muted},
    }
    return {
        "annotations": [below, bar_title(bar, dark)] if bar else [below],
        "xaxis": x,
        "yaxis": y,
        "height": frame.height + head + FOOT,
        "margin": {"t": head, "b": FOOT, "l": LEFT, "r": 12, "autoexpand": False},
        "modebar": {"add": ["select2d"], "remove": ["lasso2d", "autoScale2d"]},
    }
