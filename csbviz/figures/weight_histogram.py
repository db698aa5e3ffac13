"""How large the weights of a layer are, and which of them pruning takes away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import MatrixError
from . import text
from .theme import figure, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["WeightHistogramInfo", "caption", "get_weight_histogram_info", "plot_weight_histogram"]

BINS = 90


class WeightHistogramInfo(NamedTuple):
    """Counts of weights by value; zeros are counted apart, since their bar would hide all others.

    Attributes
    ----------
    edges : float64[bins + 1]
    kept, pruned : int64[bins]
        Nonzero weights as loaded that stay and that become zero; all are kept where nothing is pruned.
    size, zeros, outside, not_finite : int
        All weights; those zero as loaded; nonzeros beyond the edges; NaN and infinities.
    kept_total, pruned_total : int
        Nonzeros that stay and that become zero, also those beyond the edges.
    threshold : float or None
        The least magnitude kept, when every weight pruned is smaller or equal: magnitude pruning.
    mean, std : float
        Of the finite nonzero weights as loaded.
    """

    edges: np.ndarray
    kept: np.ndarray
    pruned: np.ndarray
    size: int
    zeros: int
    outside: int
    not_finite: int
    kept_total: int
    pruned_total: int
    threshold: float | None
    mean: float
    std: float


def get_weight_histogram_info(
    values: np.ndarray, after: np.ndarray | None = None, bins: int = BINS
) -> WeightHistogramInfo:
    """Count weights by value.

    Parameters
    ----------
    values : array of float
        The weights as loaded, of any shape.
    after : array of float, optional
        The weights after pruning, of the same shape: those that are zero here and were not before are pruned.
    bins : int

    Returns
    -------
    WeightHistogramInfo

    Raises
    ------
    MatrixError
        If the shapes differ.
    """
    values = np.asarray(values)
    if after is not None and np.shape(after) != values.shape:
        raise MatrixError(
            f"the pruned weights are {text.shape(np.shape(after))}; they need {text.shape(values.shape)} "
            "as before pruning"
        )
    flat = values.ravel()
    finite = np.isfinite(flat)
    nonzero = finite & (flat != 0)
    every = flat if nonzero.all() else flat[nonzero]
    kept, pruned = every, every[:0]
    if after is not None:
        gone = np.asarray(after).ravel()[nonzero] == 0
        kept, pruned = every[~gone], every[gone]
    low, high = _range(every)
    edges = np.linspace(low, high, bins + 1)
    # A number of bins and a range: with edges NumPy would sort the weights, which takes ten times as long.
    kept_counts, pruned_counts = (
        np.histogram(part, bins, range=(low, high))[0].astype(np.int64) for part in (kept, pruned)
    )
    mean, std = _mean_std(every)
    return WeightHistogramInfo(
        edges,
        kept_counts,
        pruned_counts,
        flat.size,
        int(flat.size - nonzero.sum() - (~finite).sum()),
        int(every.size - kept_counts.sum() - pruned_counts.sum()),
        int((~finite).sum()),
        kept.size,
        pruned.size,
        _threshold(kept, pruned),
        mean,
        std,
    )


def _mean_std(values: np.ndarray, chunk: int = 1 << 20) -> tuple[float, float]:
    """Mean and standard deviation in float64, without a float64 copy of all."""
    if values.size == 0:
        return 0.0, 0.0
    mean = float(values.mean(dtype=np.float64))
    squares = 0.0
    for begin in range(0, values.size, chunk):
        offset = values[begin : begin + chunk].astype(np.float64) - mean
        squares += float(offset @ offset)
    return mean, (squares / values.size) ** 0.5


def _range(values: np.ndarray) -> tuple[float, float]:
    """Ends of the axis: the extremes, or less when a few far weights would squeeze all others together."""
    if values.size == 0:
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    sample = values[:: max(1, values.size // 200_000)]
    inner = np.quantile(sample, (0.0005, 0.9995))
    reach = 0.25 * float(inner[1] - inner[0])
    if 0 < 8 * reach < high - low:  # the extremes are twice as far apart as all but 1 in 1,000
        low, high = max(low, float(inner[0]) - reach), min(high, float(inner[1]) + reach)
    if low == high:
        reach = abs(low) * 0.1 or 1.0
        low, high = low - reach, high + reach
    return low, high


def _threshold(kept: np.ndarray, pruned: np.ndarray) -> float | None:
    if kept.size == 0 or pruned.size == 0:
        return None
    largest_pruned = max(float(pruned.max()), -float(pruned.min()))
    least = float(np.abs(kept).min())
    return least if largest_pruned <= least else None


def plot_weight_histogram(
    info: WeightHistogramInfo, dark: bool = False, log_counts: bool = False
) -> go.Figure:
    """Draw kept weights with the pruned ones on top of them, in another shade and hatched."""
    theme = look(dark)
    centres = (info.edges[:-1] + info.edges[1:]) / 2
    width = float(info.edges[1] - info.edges[0])
    fig = figure(dark, 320, barmode="stack", bargap=0)
    parts = [("Kept", info.kept, theme.data, "")]
    if info.pruned_total:
        parts.append(("Pruned: becomes zero", info.pruned, theme.soft, "/"))
    for name, counts, color, pattern in parts:
        fig.add_bar(
            x=centres,
            y=counts,
            width=width,
            name=name,
            marker={
                "color": color,
                "line": {"color": theme.background, "width": 0.5},
                "pattern": {
                    "shape": pattern,
                    "size": 5,
                    "solidity": 0.3,
                    "fgcolor": theme.background,
                    "fillmode": "overlay",
                },
            },
            hovertemplate=f"around %{{x:.4g}}: %{{y:,}} weights<extra>{name}</extra>",
        )
    if info.threshold is not None:
        _add_threshold(fig, info.threshold, dark)
    head = 44 if info.pruned_total else 16
    fig.update_layout(
        showlegend=bool(info.pruned_total),
        legend={"traceorder": "normal"},
        margin={"t": head, "b": 44, "l": 8, "r": 12},
    )
    fig.update_xaxes(title_text="Weight", showgrid=False, range=[float(info.edges[0]), float(info.edges[-1])])
    fig.update_yaxes(title_text="Weights per bin" + (", log scale" if log_counts else ""))
    if log_counts:
        fig.update_yaxes(type="log", dtick=1)
    else:
        fig.update_yaxes(rangemode="tozero")
    return fig


def _add_threshold(fig: go.Figure, threshold: float, dark: bool) -> None:
    theme = look(dark)
    for sign in (-1, 1):
        fig.add_vline(x=sign * threshold, line={"color": theme.accent, "width": 1.5, "dash": "dash"})
    fig.add_annotation(
        x=threshold,
        y=1,
        yref="paper",
        text=f"|w| = {text.significant(threshold)}",
        font={"color": theme.accent, "size": 12},
        xanchor="left",
        yanchor="top",
        xshift=4,
    )


def caption(info: WeightHistogramInfo) -> str:
    """What is shown and what is not: the zeros, the pruned part, and weights beyond the axis."""
    if info.size == 0:
        return "There are no values to count: none is stored."
    parts = [_zeros(info)]
    if info.pruned_total:
        parts.append(_pruned(info))
    if info.outside:
        parts.append(
            f"{text.plural(info.outside, 'weight')} {'lies' if info.outside == 1 else 'lie'} beyond the axis."
        )
    if info.not_finite:
        parts.append(
            f"{text.plural(info.not_finite, 'weight')} {'is' if info.not_finite == 1 else 'are'} not finite."
        )
    return " ".join(parts)


def _zeros(info: WeightHistogramInfo) -> str:
    nonzero = info.kept_total + info.pruned_total
    mean = "near 0" if abs(info.mean) < 0.01 * info.std else text.significant(info.mean, 2)
    spread = f"mean {mean}, standard deviation {text.significant(info.std, 2)}"
    if not info.zeros:
        return f"{text.count(nonzero)} weights, none of them zero as loaded; {spread}."
    zeros, share = text.count(info.zeros), text.percent(info.zeros / info.size)
    return (
        f"{zeros} of {text.count(info.size)} weights ({share}) are zero as loaded and have no bar; "
        f"the others have {spread}."
    )


def _pruned(info: WeightHistogramInfo) -> str:
    nonzero = info.kept_total + info.pruned_total
    share = f"{text.percent(info.pruned_total / nonzero)} of the nonzeros are pruned"
    if info.threshold is not None:
        return f"{share}: those with a magnitude under {text.significant(info.threshold)}, in the middle."
    if info.kept_total == 0:
        return f"{share}: none stays."
    return f"{share}, of every size: small magnitudes do not go first."
