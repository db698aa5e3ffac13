"""Labels at the ends of lines and bars, moved apart where they would cover each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Label", "add_end_labels", "spread"]

LINE_PIXELS = 17
"""Height of a line of text."""


class Label(NamedTuple):
    """A text beside the value it belongs to."""

    value: float
    text: str
    color: str


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions as little as needed to lie `gap` apart within `low` and `high`, keeping their order.

    When there is no room for all, they are laid out evenly.
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    if not order:
        return []
    gap = min(gap, (high - low) / max(len(order) - 1, 1))
    placed = [min(max(positions[i], low), high) for i in order]
    # Clusters that touch move as one, centred on where their members want to be.
    clusters = [[value, 1] for value in placed]  # centre, members
    merged: list[list[float]] = []
    for centre, members in clusters:
        merged.append([centre, members])
        while len(merged) > 1 and _overlap(merged[-2], merged[-1], gap):
            last, before = merged.pop(), merged.pop()
            total = before[1] + last[1]
            centre = (before[0] * before[1] + last[0] * last[1]) / total
            reach = gap * (total - 1) / 2
            merged.append([min(max(centre, low + reach), high - reach), total])
    result = [0.0] * len(order)
    spots = (
        centre + gap * (k - (members - 1) / 2) for centre, members in merged for k in range(int(members))
    )
    for i, spot in zip(order, spots, strict=True):
        result[i] = spot
    return result


def _overlap(before: list[float], after: list[float], gap: float) -> bool:
    """True when the members of two clusters come closer than `gap`."""
    return after[0] - before[0] < gap * (before[1] + after[1]) / 2 * (1 - 1e-9)


def add_end_labels(
    fig: go.Figure, labels: Sequence[Label], y_range: tuple[float, float], pixels: float, axis: int = 1
) -> None:
    """Write labels at the right border of a subplot, beside their values.

    Parameters
    ----------
    fig : Figure
    labels : sequence of Label
    y_range : (float, float)
        Bottom and top of the linear axis.
    pixels : float
        Height of the subplot on the screen.
    axis : int
        Number of the subplot.
    """
    low, high = y_range
    suffix = "" if axis == 1 else str(axis)
    gap = LINE_PIXELS * (high - low) / pixels
    for label, y in zip(labels, spread([label.value for label in labels], gap, low, high), strict=True):
        fig.add_annotation(
            x=1,
            xref=f"x{suffix} domain",
            y=y,
            yref=f"y{suffix}",
            text=label.text,
            xanchor="left",
            yanchor="middle",
            xshift=6,
            align="left",
            font={"color": label.color, "size": 12},
        )
