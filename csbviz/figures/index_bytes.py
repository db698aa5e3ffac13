"""What finding a nonzero costs: bytes of indices and pointers per nonzero over the block side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from . import text
from .labels import Label, add_end_labels
from .theme import figure, format_color, look, readable

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from scipy.sparse import csr_matrix

__all__ = ["IndexBytesInfo", "Reference", "caption", "get_index_bytes_info", "plot_index_bytes"]

_PLOT_PIXELS, _TOP, _BOTTOM = 260, 16, 48


class Reference(NamedTuple):
    """Another format's bytes per nonzero, which no block side changes."""

    name: str
    title: str
    value: float


class IndexBytesInfo(NamedTuple):
    """CSB's index bytes per nonzero and those of other formats.

    Attributes
    ----------
    betas : tuple of int
        Block sides, ascending.
    values : tuple of float
        Bytes of indices and block pointers per nonzero for square blocks of these sides.
    references : tuple of Reference
    selected : int or None
        The block side in use, when it is among `betas`.
    best : int or None
        The (smallest) side with the fewest bytes; None without nonzeros.
    top : float
        End of the axis: curves may leave it where blocks are far too small.
    """

    betas: tuple[int, ...]
    values: tuple[float, ...]
    references: tuple[Reference, ...]
    selected: int | None
    best: int | None
    top: float


def get_index_bytes_info(
    S: csr_matrix, curve: Mapping[int, float], selected: int | None = None
) -> IndexBytesInfo:
    """Compare CSB at each block side with CSR and a bitmap.

    Parameters
    ----------
    S : sparse matrix
        Its shape and number of nonzeros matter.
    curve : mapping of int to float
        As `csbviz.formats.index_bytes_per_nonzero` gives it.
    selected : int, optional
        The block side to mark.

    Returns
    -------
    IndexBytesInfo
    """
    (rows, cols), nnz = S.shape, int(S.nnz)
    betas = tuple(sorted(curve))
    values = tuple(float(curve[beta]) for beta in betas)
    if not nnz or not betas:
        return IndexBytesInfo(betas, values, (), None, None, 1.0)
    pointers = 4 * (rows + 1) / nnz
    references = [Reference("csr", "CSR, int32", 4 + pointers)]
    if cols <= 65536:
        references.append(Reference("csr16", "CSR, int16", 2 + pointers))
    references.append(Reference("bitmap", "Bitmap", rows * -(-cols // 8) / nnz + pointers))
    least = min(values)
    return IndexBytesInfo(
        betas,
        values,
        tuple(references),
        selected if selected in curve else None,
        betas[values.index(least)],
        1.25 * max(references[0].value, least),
    )


def plot_index_bytes(info: IndexBytesInfo, dark: bool = False) -> go.Figure:
    """Draw the curve with the other formats as level lines, all labelled at their ends."""
    theme = look(dark)
    fig = figure(dark, _PLOT_PIXELS + _TOP + _BOTTOM)
    x = [math.log2(beta) for beta in info.betas]
    labels = []
    for reference in info.references:
        color = format_color(reference.name)
        dash = "dot" if reference.name == "csr16" else "dash"
        fig.add_hline(y=reference.value, line={"color": color, "width": 1.75, "dash": dash})
        labels.append(_end_label(reference.title, reference.value, info.top, readable(color, dark)))
    color = format_color("csb")
    sizes = [13 if beta == info.selected else 7 for beta in info.betas]
    fig.add_scatter(
        x=x,
        y=info.values,
        mode="lines+markers",
        line={"color": color, "width": 2.5},
        marker={
            "size": sizes,
            "color": color,
            "opacity": 1,
            "line": {"color": theme.text, "width": [2.5 if s > 7 else 0 for s in sizes]},
        },
        customdata=list(info.betas),
        hovertemplate="β = %{customdata}: %{y:.3f} B per nonzero<extra>CSB</extra>",
        showlegend=False,
    )
    if info.best is not None:
        labels.append(_end_label("CSB", info.values[-1], info.top, readable(color, dark)))
    add_end_labels(fig, labels, (0, info.top), _PLOT_PIXELS)
    fig.update_xaxes(
        title_text="Block side β", tickvals=x, ticktext=[text.count(b) for b in info.betas], showgrid=False
    )
    fig.update_yaxes(title_text="Index bytes per nonzero", range=[0, info.top], nticks=6)
    fig.update_layout(margin={"t": _TOP, "b": _BOTTOM, "l": 8, "r": 124})
    return fig


def _end_label(title: str, value: float, top: float, color: str) -> Label:
    arrow = " ↑" if value > top else ""
    return Label(min(value, top), f"{title} {text.bytes_per_nonzero(value)}{arrow}", color)


def caption(info: IndexBytesInfo) -> str:
    """The best block side, and what it saves against CSR."""
    if info.best is None:
        return "Without nonzeros there are no index bytes to compare."
    value = info.values[info.betas.index(info.best)]
    csr = next(r.value for r in info.references if r.name == "csr")
    parts = [
        f"CSB is smallest at β = {info.best}: {text.bytes_per_nonzero(value)} per nonzero beside its value, "
        f"{text.ratio(value / csr)} that of CSR."
    ]
    if info.selected is not None and info.selected != info.best:
        chosen = info.values[info.betas.index(info.selected)]
        parts.append(f"The chosen β = {info.selected} (ringed) takes {text.bytes_per_nonzero(chosen)}.")
    if max(info.values) > info.top:
        parts.append("Small blocks leave the picture: their pointers outnumber the nonzeros.")
    cheapest = min(info.references, key=lambda r: r.value)
    if cheapest.value < value:
        parts.append(f"{cheapest.title} needs less still, {text.bytes_per_nonzero(cheapest.value)}.")
    return " ".join(parts)
