"""The course of a training: held-out accuracy and sparsity over the steps, and the loss below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import text
from .labels import Label, add_end_labels
from .theme import figure, look, readable

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["TrainingCurveInfo", "caption", "get_training_curve_info", "plot_training_curve"]

_UPPER, _LOWER, _GAP, _TOP, _BOTTOM = 250, 110, 26, 12, 48
_SPARSITY = "#af8318"


class TrainingCurveInfo(NamedTuple):
    """What the figure shows; the columns have one entry a point.

    Attributes
    ----------
    steps : tuple of int
    length : int
        Steps of the whole training.
    accuracy, sparsity : tuple of float
        Shares, 0 to 1.
    loss : tuple of (float or None)
        Mean since the point before.
    before : float or None
        Accuracy of the first weights on all test examples.
    target : float or None
        The sparsity that was asked for.
    """

    steps: tuple[int, ...]
    length: int
    accuracy: tuple[float, ...]
    sparsity: tuple[float, ...]
    loss: tuple[float | None, ...]
    before: float | None
    target: float | None


def get_training_curve_info(
    curve: Sequence[Mapping[str, Any]],
    length: int | None = None,
    before: float | None = None,
    target: float | None = None,
) -> TrainingCurveInfo:
    """Take the columns that are drawn from the points of a training.

    Parameters
    ----------
    curve : sequence of mapping
        Points with "step", "accuracy", "sparsity" and "loss", as in `Trained.curve`.
    length : int, optional
        Steps of the whole training; those so far by default.
    before, target : float, optional
        As in `TrainingCurveInfo`.
    """
    columns = {
        name: tuple(point[name] for point in curve) for name in ("step", "accuracy", "sparsity", "loss")
    }
    steps = columns["step"]
    return TrainingCurveInfo(
        steps,
        max(length or 0, *steps, 1),
        columns["accuracy"],
        columns["sparsity"],
        columns["loss"],
        before,
        target,
    )


def plot_training_curve(info: TrainingCurveInfo, dark: bool = False) -> go.Figure:
    """Draw both panels over one axis of steps, which is as long as the whole training from the start."""
    theme = look(dark)
    height = _TOP + _UPPER + _GAP + _LOWER + _BOTTOM
    inner = _UPPER + _GAP + _LOWER
    fig = figure(dark, height, showlegend=False, margin={"t": _TOP, "b": _BOTTOM, "l": 8, "r": 116})
    lines = (
        ("Accuracy", info.accuracy, theme.data, "solid", "y"),
        ("Sparsity", info.sparsity, _SPARSITY, "dash", "y"),
        ("Loss", info.loss, theme.muted, "solid", "y2"),
    )
    for name, values, color, dash, axis in lines:
        shown = ":.4f" if axis == "y2" else ":.2%"
        fig.add_scatter(
            x=info.steps,
            y=values,
            yaxis=axis,
            name=name,
            mode="lines+markers" if len(info.steps) < 3 else "lines",
            line={"color": color, "width": 2.5, "dash": dash},
            connectgaps=False,
            hovertemplate=f"step %{{x:,}}: %{{y{shown}}}<extra>{name}</extra>",
        )
    labels = []
    if info.steps:
        labels = [
            Label(info.accuracy[-1], "Accuracy", readable(theme.data, dark)),
            Label(info.sparsity[-1], "Sparsity", readable(_SPARSITY, dark)),
        ]
    if info.before is not None:
        line = {"color": theme.muted, "width": 1.25, "dash": "dot"}
        fig.add_shape(type="line", x0=0, x1=1, xref="paper", y0=info.before, y1=info.before, line=line)
        labels.append(Label(info.before, "Before training", theme.muted))
    low, high = -0.02, 1.03
    add_end_labels(fig, labels, (low, high), _UPPER)
    fig.update_layout(
        xaxis={"title": {"text": "Training step"}, "range": [0, info.length], "anchor": "y2"},
        yaxis={
            "title": {"text": "Share"},
            "range": [low, high],
            "tickformat": ".0%",
            "domain": [(_LOWER + _GAP) / inner, 1],
        },
        yaxis2={"title": {"text": "Loss"}, "rangemode": "tozero", "domain": [0, _LOWER / inner]},
    )
    return fig


def caption(info: TrainingCurveInfo) -> str:
    """How far the training is, and what to look for."""
    if not info.steps:
        return "The curve begins with the first measurement."
    parts = [
        f"After step {text.count(info.steps[-1])} of {text.count(info.length)}: accuracy "
        f"{text.percent(info.accuracy[-1])} on a part of the test data, "
        f"{text.percent(info.sparsity[-1])} of the weights are zero."
    ]
    lost = min(info.accuracy)
    if lost < info.accuracy[-1] - 0.005:
        parts.append(f"Look how far the cuts threw it back ({text.percent(lost)}) and how fast it recovered.")
    else:
        parts.append("Look whether the accuracy falls where the sparsity rises.")
    return " ".join(parts)
