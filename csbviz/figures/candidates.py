"""The coarse search: the misclassification rate of every random mask, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import text
from .theme import figure, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["CandidatesInfo", "caption", "get_candidates_info", "plot_candidates"]

_HEIGHT, _TOP, _BOTTOM = 220, 30, 48


class CandidatesInfo(NamedTuple):
    """What the figure shows.

    Attributes
    ----------
    errors : tuple of float
        Misclassification rate of each candidate in the order of the search, 0 to 1.
    seeds : tuple of int
        What each was drawn with.
    best : int or None
        Index of the candidate with the least error.
    """

    errors: tuple[float, ...]
    seeds: tuple[int, ...]
    best: int | None


def get_candidates_info(candidates: Sequence[Mapping[str, Any]]) -> CandidatesInfo:
    """Take errors and seeds of the candidates, as `csbviz.pruning.search.search` gives them."""
    errors = tuple(float(candidate["error"]) for candidate in candidates)
    best = min(range(len(errors)), key=errors.__getitem__) if errors else None
    return CandidatesInfo(errors, tuple(int(candidate["seed"]) for candidate in candidates), best)


def plot_candidates(info: CandidatesInfo, dark: bool = False) -> go.Figure:
    """Draw a strip of points, spread a little in height so that equal ones are seen, and ring the best."""
    theme = look(dark)
    fig = figure(dark, _HEIGHT, showlegend=False, margin={"t": _TOP, "b": _BOTTOM, "l": 8, "r": 12})
    heights = np.random.default_rng(0).uniform(-0.8, 0.8, len(info.errors))
    shown = [100 * error for error in info.errors]
    fig.add_scatter(
        x=shown,
        y=heights,
        mode="markers",
        marker={"color": theme.data, "size": 8, "opacity": 0.7},
        customdata=list(enumerate(info.seeds, start=1)),
        hovertemplate="candidate %{customdata[0]}, seed %{customdata[1]}: %{x:.2f} % wrong<extra></extra>",
    )
    if info.best is not None:
        fig.add_scatter(
            x=[shown[info.best]],
            y=[heights[info.best]],
            mode="markers",
            marker={"symbol": "circle-open", "color": theme.accent, "size": 16, "line": {"width": 2.5}},
            hoverinfo="skip",
        )
        fig.add_annotation(
            text=f"best {text.percent(info.errors[info.best])}",
            x=shown[info.best],
            y=1.0,
            yanchor="bottom",
            xanchor="left",
            font={"color": theme.accent},
        )
    fig.update_layout(
        xaxis={"title": {"text": "Misclassification rate on training examples (%)"}},
        yaxis={"range": [-1.1, 1.1], "showticklabels": False, "showgrid": False},
    )
    return fig


def caption(info: CandidatesInfo) -> str:
    """How far apart the candidates lie."""
    if info.best is None:
        return "No candidate was tried yet."
    errors = sorted(info.errors)
    middle = float(np.median(errors))
    return (
        f"{text.plural(len(errors), 'random mask')}: the best gets {text.percent(errors[0])} wrong, "
        f"the middle one {text.percent(middle)}, the worst {text.percent(errors[-1])}. A wide strip means "
        "that the choice of units matters; the height of a point means nothing."
    )
