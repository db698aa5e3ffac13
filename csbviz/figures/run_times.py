"""Measured times of the kernels: medians with quartiles, the fastest first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from . import text
from .panels import Grid, add_row_titles, case_title, make_grid
from .theme import PATTERNS, base_format, format_color, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..bench import Record

__all__ = [
    "RunTimesInfo",
    "TimeBar",
    "TimePanel",
    "caption",
    "get_run_times_info",
    "log_ticks",
    "plot_run_times",
]

LOG_RATIO = 25
"""Times further apart than this are drawn as dots on a log scale: a bar would be too short to see."""


class TimeBar(NamedTuple):
    """One kernel's time in microseconds.

    Attributes
    ----------
    kernel, title, format : str
    pattern : str
        Fill pattern that tells kernels of one format apart, "" for the first.
    median, p25, p75 : float
    samples : int
    """

    kernel: str
    title: str
    format: str
    pattern: str
    median: float
    p25: float
    p75: float
    samples: int


class TimePanel(NamedTuple):
    """The kernels of one case, the fastest first."""

    title: str
    op: str
    n: int
    bars: tuple[TimeBar, ...]


class RunTimesInfo(NamedTuple):
    """Cases to compare within, and what could not be timed.

    Attributes
    ----------
    panels : tuple of TimePanel
    left_out : tuple of (str, str)
        Title and reason of kernels without a time.
    log : bool
        True when the times of a panel lie too far apart for bars.
    """

    panels: tuple[TimePanel, ...]
    left_out: tuple[tuple[str, str], ...]
    log: bool


def get_run_times_info(records: Iterable[Record]) -> RunTimesInfo:
    """Group records by what may be compared and sort them by median.

    Parameters
    ----------
    records : iterable of Record
        Those without a verified time are listed apart.

    Returns
    -------
    RunTimesInfo
    """
    records = list(records)
    cases: dict[tuple, list[Record]] = {}
    left_out = []
    for record in records:
        if record.ok:
            cases.setdefault(record.case, []).append(record)
        else:
            left_out.append((record.title, record.message or record.status))
    styles = kernel_styles(records)
    panels = []
    for members in cases.values():
        titles = distinct_titles(members)
        bars = [
            TimeBar(
                r.kernel,
                title,
                base_format(r.format),
                styles[r.kernel, r.balance],
                float(r.median_us),
                float(r.median_us if r.p25_us is None else r.p25_us),
                float(r.median_us if r.p75_us is None else r.p75_us),
                r.count,
            )
            for r, title in zip(members, titles, strict=True)
        ]
        bars.sort(key=lambda bar: bar.median)
        panels.append(TimePanel(case_title(members[0], cases), members[0].op, members[0].n, tuple(bars)))
    log = any(p.bars[-1].median > LOG_RATIO * p.bars[0].median for p in panels)
    return RunTimesInfo(tuple(panels), tuple(dict.fromkeys(left_out)), log)


def kernel_styles(records: Sequence[Record]) -> dict[tuple[str, str | None], str]:
    """A fill pattern for each kernel and balance: the first of a format is plain, the next is hatched."""
    styles: dict[tuple[str, str | None], str] = {}
    used: Counter[str] = Counter()
    for record in records:
        key = record.kernel, record.balance
        if key not in styles:
            styles[key] = PATTERNS[used[base_format(record.format)] % len(PATTERNS)]
            used[base_format(record.format)] += 1
    return styles


def distinct_titles(members: Sequence[Record]) -> list[str]:
    """Titles of one case's records, with the balance strategy where a kernel ran with several."""
    repeated = Counter(record.kernel for record in members)
    return [
        f"{record.title}, {record.balance}"
        if repeated[record.kernel] > 1 and record.balance
        else record.title
        for record in members
    ]


def plot_run_times(info: RunTimesInfo, dark: bool = False) -> go.Figure:
    """Draw one panel a case; each kernel has the colour of its format."""
    grid = make_grid([p.title for p in info.panels], [len(p.bars) for p in info.panels], dark)
    scale, unit = text.time_scale(bar.median for panel in info.panels for bar in panel.bars)
    for place, panel in enumerate(info.panels):
        _add_panel(grid, place, panel, info.log, scale, unit, dark)
    grid.fig.update_layout(bargap=0, showlegend=False)
    return grid.fig


def _add_panel(
    grid: Grid, place: int, panel: TimePanel, log: bool, scale: float, unit: str, dark: bool
) -> None:
    theme, at = look(dark), grid.place(place)
    rows = list(range(len(panel.bars)))
    colors = [format_color(bar.format) for bar in panel.bars]
    medians = [bar.median / scale for bar in panel.bars]
    whiskers = {
        "type": "data",
        "array": [(bar.p75 - bar.median) / scale for bar in panel.bars],
        "arrayminus": [(bar.median - bar.p25) / scale for bar in panel.bars],
        "color": theme.text,
        "thickness": 1.5,
        "width": 4,
    }
    common = {
        "y": rows,
        "x": medians,
        "error_x": whiskers,
        "customdata": [
            [text.time_us(bar.p25), text.time_us(bar.p75), bar.samples, text.html_escape(bar.title)]
            for bar in panel.bars
        ],
        "hovertemplate": "%{customdata[3]}<br>median %{x:.4g} "
        + unit
        + "<br>quartiles %{customdata[0]} to %{customdata[1]}<br>%{customdata[2]} samples<extra></extra>",
    }
    if log:
        marker = {"size": 11, "color": colors, "line": {"color": theme.background, "width": 1}}
        grid.fig.add_scatter(mode="markers", marker=marker, **common, **at)
    else:
        pattern = {
            "shape": [bar.pattern for bar in panel.bars],
            "fgcolor": theme.background,
            "solidity": 0.3,
            "fillmode": "overlay",
            "size": 6,
        }
        grid.fig.add_bar(
            orientation="h", width=0.42, marker={"color": colors, "pattern": pattern}, **common, **at
        )
    ends = [max(bar.p75, bar.median) / scale for bar in panel.bars]
    grid.fig.add_scatter(
        x=ends,
        y=rows,
        mode="text",
        text=[f"  {text.time_us(bar.median)}" for bar in panel.bars],
        textposition="middle right",
        textfont={"size": 12, "color": theme.text},
        hoverinfo="skip",
        cliponaxis=False,
        **at,
    )
    add_row_titles(grid, place, [bar.title for bar in panel.bars], dark)
    _set_axis(grid, at, min(medians), max(ends), log, unit)


def _set_axis(grid: Grid, at: dict, low: float, high: float, log: bool, unit: str) -> None:
    style = {"showgrid": log, "ticks": "outside", "showline": True, "tickangle": 0, **at}
    if not log:
        grid.fig.update_xaxes(range=[0, 1.3 * high], nticks=5, title_text=f"Median time ({unit})", **style)
        return
    span = math.log10(high / low)
    ticks = log_ticks(low, high)
    grid.fig.update_xaxes(
        type="log",
        range=[math.log10(low) - 0.08 * span, math.log10(high) + 0.35 * span],
        tickvals=ticks,
        ticktext=[text.significant(tick, 1) for tick in ticks],
        title_text=f"Median time ({unit}, log scale)",
        **style,
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to a little over `high`: 1, 2, 5 of each decade, decades alone when wide."""
    steps = (1, 2, 5) if high / low < 30 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [
        step * 10.0**power
        for power in powers
        for step in steps
        if low / 1.3 <= step * 10.0**power <= 1.5 * high
    ]


def caption(info: RunTimesInfo) -> str:
    """The fastest of each case, the widest quartiles, and what was not timed."""
    if not info.panels:
        return "No kernel was timed." + _left_out(info)
    raced = [panel for panel in info.panels if len(panel.bars) > 1]
    parts = [_fastest(panel) for panel in raced] if len(raced) <= 2 else [_winners(raced)]
    widest = max(
        (bar for panel in info.panels for bar in panel.bars), key=lambda bar: (bar.p75 - bar.p25) / bar.median
    )
    share = (widest.p75 - widest.p25) / widest.median
    parts.append(
        "Whiskers run from the first to the third quartile"
        + (
            f"; {widest.title} varies most, by {text.percent(share, 0)} of its median."
            if share >= 0.005
            else "."
        )
    )
    return " ".join(parts) + _left_out(info)


def _fastest(panel: TimePanel) -> str:
    first, second = panel.bars[:2]
    ahead = text.ratio(second.median / first.median)
    return f"{panel.title}: {first.title} is fastest, {ahead} as fast as {second.title}."


def _winners(panels: Sequence[TimePanel]) -> str:
    wins = Counter(panel.bars[0].title for panel in panels)
    if len(wins) == 1:
        return f"{panels[0].bars[0].title} is fastest in all {len(panels)} cases."
    listed = text.list_of(f"{title} in {count}" for title, count in wins.most_common())
    return f"Fastest in {len(panels)} cases: {listed}."


def _left_out(info: RunTimesInfo) -> str:
    if not info.left_out:
        return ""
    return (
        " Not timed: " + "; ".join(f"{title} ({reason.rstrip('.')})" for title, reason in info.left_out) + "."
    )
