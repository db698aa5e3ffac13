"""Figures on a page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from csbviz import figures
from csbviz.ui.text import escape

__all__ = ["chart", "draw", "is_dark"]

_BUTTONS_LEFT_OUT = ["lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"]


def is_dark() -> bool:
    """True when the browser shows the dark theme."""
    return st.context.theme.type == "dark"


def chart(figure: Any, key: str, alt: str, toolbar: bool = False, **options: Any) -> Any:
    """Show a figure in its own theme; with ``on_select`` it returns the selection.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    key : str
        Key of the element; a change of it drops the selection.
    alt : str
        What the figure shows, for screen readers.
    toolbar : bool
        Always show the figure's buttons, instead of under the pointer alone.
    """
    config = {
        "displaylogo": False,
        "modeBarButtonsToRemove": _BUTTONS_LEFT_OUT,
        "displayModeBar": True if toolbar else "hover",
    }
    return st.plotly_chart(figure, key=key, theme=None, config=config, alt=alt, **options)


def draw(name: str, info: Any, key: str | None = None) -> None:
    """Show a figure of `csbviz.figures` with its caption.

    Parameters
    ----------
    name : str
        Name of the figure, as in ``plot_<name>``.
    info : NamedTuple
        From ``get_<name>_info``.
    key : str, optional
        Key of the element; the name by default.
    """
    caption = getattr(figures, f"{name}_caption")(info)
    chart(getattr(figures, f"plot_{name}")(info, dark=is_dark()), key or name, caption)
    st.caption(escape(caption))
