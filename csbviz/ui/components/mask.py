"""The picture of a mask: which units of the layer stayed; drag a box to zoom in."""

from __future__ import annotations

import streamlit as st

from csbviz import figures
from csbviz.errors import CSBVizError
from csbviz.ui import data, state
from csbviz.ui.components.charts import chart, is_dark
from csbviz.ui.pruned import locked_layers, options_of
from csbviz.ui.settings import TRAINED
from csbviz.ui.text import count, escape

__all__ = ["CLOSE_UP", "mask"]

CLOSE_UP = (48, 64)
"""Rows and columns of a window in which single weights can be told apart."""
_PIXELS = 400


def mask(view: data.View, width: int) -> None:
    """Draw the units of the layer, or those in the window, with a caption.

    Parameters
    ----------
    view : View
    width : int
        About how many pixels the picture has across on a usual screen.
    """
    if not view.is_pruned:
        st.caption("As loaded, every weight is there: choose a criterion to see what goes.")
        return
    rows, cols = view.settings.rows, view.settings.cols
    try:
        info = view.kept("mask", lambda: _info(view, rows, cols), rows, cols)
    except CSBVizError as error:
        st.info(escape(str(error)), icon=":material/lock:")
        return
    key = f"mask.{view.layer.name}.{rows}.{cols}"

    def select() -> None:
        if boxes := st.session_state[key]["selection"]["box"]:
            _zoom(info, *_window(info, boxes[0]["x"], boxes[0]["y"]))

    _zoom_bar(info)
    figure = figures.plot_mask(info, is_dark(), dragmode="select")
    _fit(figure, info, width)
    caption = figures.mask_caption(info)
    chart(figure, key, caption, toolbar=False, on_select=select, selection_mode="box")
    st.caption(escape(caption))


def _info(view: data.View, rows, cols):
    from csbviz.pruning.unit_map import unit_map

    chosen = view.settings
    trained = chosen.method == TRAINED
    units = unit_map(
        view.opened,
        view.pruned,
        view.layer.name,
        "magnitude" if trained else chosen.method,
        "weight" if trained else chosen.granularity,
        {} if trained else options_of(chosen),
        () if trained else locked_layers(view.opened, chosen),
    )
    return figures.get_mask_info(units, rows, cols, _PIXELS)


def _window(info, x, y) -> tuple[tuple[int, int], tuple[int, int]]:
    """The window that a dragged box covers; at least one unit."""
    found = []
    for ends, length in ((y, info.shape[0]), (x, info.shape[1])):
        low = min(max(round(min(ends)), 0), length - 1)
        found.append((low, max(min(round(max(ends)) + 1, length), low + 1)))
    return tuple(found)


def _zoom(info, rows: tuple[int, int], cols: tuple[int, int]) -> None:
    state.update(
        rows=None if rows == (0, info.shape[0]) else rows,
        cols=None if cols == (0, info.shape[1]) else cols,
    )


def _zoom_bar(info) -> None:
    shown = [f"**{count(low)}–{count(high - 1)}**" for low, high in (info.rows, info.cols)]
    near = tuple((0, min(side, length)) for side, length in zip(CLOSE_UP, info.shape, strict=True))
    whole = tuple((0, length) for length in info.shape)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(
            f"Rows {shown[0]}, columns {shown[1]}",
            help="Drag a box in the picture to zoom in.",
            width="stretch",
        )
        for label, icon, window in (
            ("Close-up", ":material/zoom_in:", near),
            ("Whole layer", ":material/zoom_out_map:", whole),
        ):
            st.button(
                label,
                key=f"mask.{label}",
                icon=icon,
                disabled=(info.rows, info.cols) == window,
                on_click=_zoom,
                args=(info, *window),
            )


def _fit(figure, info, width: int) -> None:
    """Take away the height that a picture of fixed proportions would leave empty in its column."""
    layout = figure.layout
    around = layout.margin.t + layout.margin.b
    inside = layout.height - around
    down, across = info.rows[1] - info.rows[0], info.cols[1] - info.cols[0]
    drawn = inside * across / (down * (layout.yaxis.scaleratio or 1))
    room = width - layout.margin.l - layout.margin.r
    if drawn > room:
        layout.height = around + round(inside * room / drawn)
