"""Deep Compression: bytes and accuracy of a model after each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import text
from .theme import figure, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["StagesInfo", "caption", "get_stages_info", "plot_stages"]

_ROW, _TOP, _BOTTOM = 46, 8, 48


class StagesInfo(NamedTuple):
    """What the figure shows, one entry a stage from dense to coded.

    Attributes
    ----------
    titles : tuple of str
    bytes : tuple of int
        Of real files; of the first stage those of the tensors.
    accuracies : tuple of (float or None)
        Shares, 0 to 1; None where there is no data for the model.
    """

    titles: tuple[str, ...]
    bytes: tuple[int, ...]
    accuracies: tuple[float | None, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times smaller than dense each stage is."""
        return tuple(self.bytes[0] / size for size in self.bytes)


def get_stages_info(stages: Sequence[Mapping[str, Any]], metric: str | None = None) -> StagesInfo:
    """Take what `csbviz.pruning.compression.compress_stages` says of its stages, with one of the metrics."""
    return StagesInfo(
        tuple(stage["title"] for stage in stages),
        tuple(int(stage["bytes"]) for stage in stages),
        tuple(stage["metrics"].get(metric) for stage in stages),
    )


def plot_stages(info: StagesInfo, dark: bool = False) -> go.Figure:
    """Draw a bar of bytes for each stage, with factor and accuracy at its end."""
    theme = look(dark)
    rows = len(info.titles)
    fig = figure(dark, _TOP + _ROW * rows + _BOTTOM, showlegend=False, margin={"t": _TOP, "b": _BOTTOM})
    # Kilobytes, as tick labels with a unit prefix would mix them with those of 1,024 bytes.
    sizes = [size / 1000 for size in info.bytes]
    words = [
        f"{text.size(size)} · {text.ratio(ratio)} smaller"
        + ("" if share is None else f" · {text.percent(share, 2)}")
        for size, ratio, share in zip(info.bytes, info.ratios, info.accuracies, strict=True)
    ]
    words[:1] = [word.replace(" · 1.00× smaller", "") for word in words[:1]]
    fig.add_bar(
        x=sizes,
        y=list(info.titles),
        orientation="h",
        marker={"color": [theme.soft] + [theme.data] * (rows - 1)},
        text=words,
        textposition=["inside"] + ["outside"] * (rows - 1),
        insidetextanchor="start",
        textfont={"color": [theme.background] + [theme.text] * (rows - 1), "size": 12},
        cliponaxis=False,
        hovertemplate="%{y}: %{x:,.1f} kB<extra></extra>",
    )
    fig.update_layout(
        xaxis={"title": {"text": "Size (kB, 1,000 bytes)"}, "range": [0, 1.02 * max(sizes)]},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
    return fig


def caption(info: StagesInfo) -> str:
    """What was won, and what it cost."""
    won = (
        f"{text.size(info.bytes[0])} became {text.size(info.bytes[-1])}, {text.ratio(info.ratios[-1])} "
        "smaller: real files, with indices, code books and headers."
    )
    first, last = info.accuracies[0], info.accuracies[-1]
    if first is None or last is None:
        return f"{won} There is no data here to measure the accuracy of this model."
    change = f"{100 * (last - first):+.2f}".replace("-", "−")
    return f"{won} The accuracy changed by {change} points: look which stage it went in."
