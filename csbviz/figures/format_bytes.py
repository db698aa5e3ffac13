"""Bytes of one matrix in each format, the smallest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from . import text
from .theme import FORMAT_TITLES, blend, figure, format_color, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..formats.sizes import Size

__all__ = ["PARTS", "FormatBar", "FormatBytesInfo", "caption", "get_format_bytes_info", "plot_format_bytes"]

PARTS = ("values", "indices", "pointers", "padding")
"""What a format's bytes are spent on, in the order of the stack."""

_PART_TITLES = {
    "values": "Values of nonzeros",
    "indices": "Indices",
    "pointers": "Pointers",
    "padding": "Padding: stored zeros",
}
_STRENGTH = {"values": 1.0, "indices": 0.62, "pointers": 0.36, "padding": 0.14}
_BAR_PIXELS = 30


class FormatBar(NamedTuple):
    """One format.

    Attributes
    ----------
    name, title : str
    values, indices, pointers, padding, total : int
        Bytes; the first four add up to the total.
    ratio : float
        Total over that of dense, NaN without dense.
    note : str
        What the count contains.
    """

    name: str
    title: str
    values: int
    indices: int
    pointers: int
    padding: int
    total: int
    ratio: float
    note: str


class FormatBytesInfo(NamedTuple):
    """Formats by size, and those that cannot hold the matrix as (title, reason)."""

    bars: tuple[FormatBar, ...]
    left_out: tuple[tuple[str, str], ...]


def get_format_bytes_info(sizes: Mapping[str, Size | None]) -> FormatBytesInfo:
    """Sort formats by their total.

    Parameters
    ----------
    sizes : mapping of str to Size
        As `csbviz.formats.format_bytes` gives them.

    Returns
    -------
    FormatBytesInfo
    """
    dense = sizes.get("dense")
    whole = dense.total if dense is not None and dense.total else float("nan")
    bars, left_out = [], []
    for name, size in sizes.items():
        title = FORMAT_TITLES.get(name, name)
        if size is None or size.total is None:
            left_out.append((title, "" if size is None else size.note))
        else:
            bars.append(_bar(name, title, size, whole))
    return FormatBytesInfo(tuple(sorted(bars, key=lambda bar: bar.total)), tuple(left_out))


def _bar(name: str, title: str, size: Size, whole: float) -> FormatBar:
    padded_values = round(size.values * size.padding)
    # ELL stores an index with every padded value, too; BSR has one a block.
    padded_indices = round(size.indices * size.padding) if name == "ell" else 0
    return FormatBar(
        name,
        title,
        size.values - padded_values,
        size.indices - padded_indices,
        size.pointers,
        padded_values + padded_indices,
        size.total,
        size.total / whole,
        size.note,
    )


def plot_format_bytes(info: FormatBytesInfo, dark: bool = False) -> go.Figure:
    """Draw one bar a format in the format's colour, with the parts in shades of it."""
    theme = look(dark)
    bars = info.bars[::-1]  # Plotly's first category is the lowest
    fig = figure(dark, len(bars) * _BAR_PIXELS + 92, barmode="stack", bargap=0.34)
    largest = max((bar.total for bar in bars), default=1) or 1
    scale, unit = _byte_scale(largest)
    for part in PARTS:
        if not any(getattr(bar, part) for bar in bars):
            continue
        _add_part(fig, bars, part, scale, dark)
    fig.add_scatter(
        x=[bar.total / scale for bar in bars],
        y=[bar.title for bar in bars],
        mode="text",
        text=[f" {text.size(bar.total)}" + _against_dense(bar) for bar in bars],
        textposition="middle right",
        textfont={"size": 12, "color": theme.text},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
    fig.update_layout(margin={"t": 44, "b": 48, "l": 8, "r": 8}, legend={"traceorder": "normal"})
    fig.update_xaxes(
        title_text=f"Bytes ({unit})",
        range=[0, 1.42 * largest / scale],
        showgrid=False,
        ticks="outside",
        showline=True,
    )
    fig.update_yaxes(tickfont={"color": theme.text, "size": 13}, showgrid=False, ticklabelstandoff=4)
    return fig


def _add_part(fig: go.Figure, bars: tuple[FormatBar, ...], part: str, scale: float, dark: bool) -> None:
    theme = look(dark)
    pattern = "/" if part == "padding" else ""

    def fill(color: str) -> dict:
        shade = blend(color, theme.background, _STRENGTH[part])
        return {
            "color": shade,
            "line": {"color": theme.background, "width": 1},
            "pattern": {
                "shape": pattern,
                "fgcolor": blend(color, theme.background, 0.7),
                "size": 6,
                "solidity": 0.3,
                "fillmode": "overlay",
            },
        }

    colors = [format_color(bar.name) for bar in bars]
    marker = fill(colors[0])
    marker["color"] = [blend(color, theme.background, _STRENGTH[part]) for color in colors]
    marker["pattern"]["fgcolor"] = [blend(color, theme.background, 0.7) for color in colors]
    fig.add_bar(
        orientation="h",
        y=[bar.title for bar in bars],
        x=[getattr(bar, part) / scale for bar in bars],
        marker=marker,
        customdata=[[text.size(getattr(bar, part)), bar.note] for bar in bars],
        hovertemplate=f"%{{y}}, {_PART_TITLES[part].lower()}: %{{customdata[0]}}<br>%{{customdata[1]}}"
        "<extra></extra>",
        showlegend=False,
    )
    # The legend shows the shades in grey, since they mean the same in every format's colour.
    fig.add_bar(
        orientation="h",
        y=[None],
        x=[None],
        name=_PART_TITLES[part],
        marker=fill(theme.muted),
        hoverinfo="skip",
    )


def _byte_scale(largest: float) -> tuple[float, str]:
    """Bytes of the unit of the axis, and its name."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if largest >= 1024**power:
            return 1024.0**power, unit
    return 1.0, "B"


def _against_dense(bar: FormatBar) -> str:
    if bar.name == "dense" or bar.ratio != bar.ratio:
        return ""
    return f" · {text.ratio(bar.ratio)} dense"


def caption(info: FormatBytesInfo) -> str:
    """Which format is smallest, what CSB costs against CSR, and what cannot be shown."""
    if not info.bars:
        return "No format can hold this matrix."
    best = info.bars[0]
    parts = [f"{best.title} is smallest at {text.size(best.total)}" + _share_of_dense(best) + "."]
    by_name = {bar.name: bar for bar in info.bars}
    if "csb" in by_name and "csr" in by_name and by_name["csr"].total:
        csb, csr = by_name["csb"], by_name["csr"]
        more = csb.total / csr.total
        word = f"{text.percent(1 - more, 0)} less" if more < 1 else f"{text.percent(more - 1, 0)} more"
        serves = "one copy of it serves both A·B and Aᵀ·B"
        parts.append(
            f"CSB takes {'as much as' if csb.total == csr.total else word + ' than'} CSR, and {serves}."
        )
    if by_name.get("csb") and by_name["csb"].pointers > by_name["csb"].indices:
        parts.append("Its block pointers weigh more than its indices: larger blocks would shrink it.")
    if info.left_out:
        parts.append(
            "Left out: "
            + "; ".join(f"{title} ({note})" if note else title for title, note in info.left_out)
            + "."
        )
    return " ".join(parts)


def _share_of_dense(bar: FormatBar) -> str:
    if bar.ratio != bar.ratio or bar.name == "dense":
        return ""
    return f", {text.ratio(bar.ratio)} dense"
