"""A plan played on its workers: who does what when, in waves, and the tail at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import text
from .blocks import bar_title, colour_bar
from .theme import figure, look, rgba

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..balance import Timeline

__all__ = ["MAX_BARS", "TimelineInfo", "caption", "get_timeline_info", "plot_timeline"]

MAX_BARS = 2000
"""Most bars in one picture; more items are merged with their neighbours on the same worker."""


class TimelineInfo(NamedTuple):
    """Bars on workers; time is counted in nonzeros, or measured in microseconds.

    Attributes
    ----------
    worker : int32[bars]
    start, length : float64[bars]
    items : int32[bars]
        Items (CTAs) that the bar joins.
    first_item : int32[bars]
        The plan's number of the first of them.
    workers, ctas : int
    makespan, mean : float
        End of the last worker; Σw / P, the end if work could be shared evenly.
    tail_begin : float
        When the first worker has nothing left.
    imbalance : float
        λ = max / mean of the workers' loads.
    waves : int
        ⌈CTAs / workers⌉.
    merged : bool
        True when bars join several items.
    unit : str
        "nonzeros" or "µs".
    until : float
        Where the time axis ends at least, so that two pictures can be compared.
    """

    worker: np.ndarray
    start: np.ndarray
    length: np.ndarray
    items: np.ndarray
    first_item: np.ndarray
    workers: int
    ctas: int
    makespan: float
    mean: float
    tail_begin: float
    imbalance: float
    waves: int
    merged: bool
    unit: str = "nonzeros"
    until: float = 0.0

    @property
    def tail_share(self) -> float:
        """Share of the time during which at least one worker has nothing left."""
        return 1 - self.tail_begin / self.makespan if self.makespan else 0.0


def get_timeline_info(
    timeline: Timeline, max_bars: int = MAX_BARS, unit: str = "nonzeros", until: float = 0.0
) -> TimelineInfo:
    """Turn a timeline, simulated or recorded, into bars.

    Parameters
    ----------
    timeline : Timeline
    max_bars : int
        More than this many CTAs with work are merged with neighbours on their worker. Every worker keeps at
        least one bar.
    unit : str
        What the timeline counts time in: "nonzeros" or "µs".
    until : float
        Least end of the time axis.

    Returns
    -------
    TimelineInfo
    """
    start, end = np.asarray(timeline.start, np.float64), np.asarray(timeline.end, np.float64)
    worker, item = np.asarray(timeline.worker), np.asarray(timeline.item)
    finished = np.zeros(timeline.workers)
    np.maximum.at(finished, worker, end)
    busy = end > start
    worker, item, start, end = worker[busy], item[busy], start[busy], end[busy]
    order = np.lexsort((start, worker))
    worker, item, start, end = worker[order], item[order], start[order], end[order]
    begin = _group_begins(worker, max_bars)
    last = np.append(begin[1:], worker.size) - 1 if begin.size else begin
    return TimelineInfo(
        worker[begin].astype(np.int32),
        start[begin],
        end[last] - start[begin],
        (last - begin + 1).astype(np.int32),
        item[begin].astype(np.int32),
        int(timeline.workers),
        int(timeline.ctas),
        float(timeline.makespan),
        float((end - start).sum() / timeline.workers),
        float(finished.min(initial=timeline.makespan)),
        float(timeline.imbalance),
        int(timeline.waves),
        bool((last > begin).any()),
        unit,
        until,
    )


def _group_begins(worker: np.ndarray, max_bars: int) -> np.ndarray:
    """Positions at which bars begin, for items sorted by worker and time."""
    if worker.size == 0:
        return np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.r_[True, worker[1:] != worker[:-1]])
    rank = np.arange(worker.size) - np.repeat(first, np.diff(np.append(first, worker.size)))
    group = 1
    if worker.size > max_bars:  # each worker may have one bar that is not full
        group = -(-worker.size // max(max_bars - first.size, 1))
    return np.flatnonzero(rank % group == 0)


def plot_timeline(info: TimelineInfo, dark: bool = False) -> go.Figure:
    """Draw one row a worker, bars coloured by their work, the tail shaded."""
    rows = min(max(20 * info.workers, 120), 400)
    fig = figure(dark, rows + 66 + 46, bargap=0.12 if rows / max(info.workers, 1) >= 6 else 0)
    if info.length.size:
        _add_bars(fig, info, rows, dark)
    if info.makespan:
        _add_marks(fig, info, dark)
    if info.length.size and float(np.ptp(info.length / info.items)) > 0:
        what = "Nonzeros" if info.unit == "nonzeros" else "Microseconds"
        title = f"{what} of an item" + (", mean of the bar" if info.merged else "")
        fig.add_annotation(bar_title(title, dark))
    fig.update_layout(margin={"t": 66, "b": 46, "l": 60, "r": 16, "autoexpand": False}, showlegend=False)
    fig.update_xaxes(
        title_text="Time (nonzeros worked through)" if info.unit == "nonzeros" else f"Time ({info.unit})",
        range=[0, 1.02 * max(info.makespan, info.until) or 1],
        showgrid=False,
    )
    fig.update_yaxes(
        title_text="Worker",
        range=[info.workers - 0.5, -0.5],
        showgrid=False,
        automargin=False,
        dtick=1 if info.workers <= 12 else None,
    )
    return fig


def _add_bars(fig: go.Figure, info: TimelineInfo, rows: int, dark: bool) -> None:
    theme = look(dark)
    per_item = info.length / info.items
    low, high = float(per_item.min()), float(per_item.max())
    ticks = sorted({low, (low + high) / 2, high})
    # A hairline of the background keeps neighbours apart where there is room for it.
    outline = 1 if rows / info.workers >= 6 and info.length.size <= 600 else 0
    fig.add_bar(
        orientation="h",
        y=info.worker,
        base=info.start,
        x=info.length,
        marker={
            "color": per_item,
            "colorscale": [[i / 4, color] for i, color in enumerate(theme.ramp[:5])],
            "cmin": low - (low == high),
            "cmax": high,
            "line": {"color": theme.background, "width": outline},
            "showscale": low < high,
            "colorbar": colour_bar(
                dark,
                tickvals=ticks,
                ticktext=[_amount(tick, info.unit) for tick in ticks],
            ),
        },
        customdata=np.column_stack([info.first_item, info.items]),
        hovertemplate="worker %{y}<br>"
        + ("%{x:,} nonzeros from %{base:,}" if info.unit == "nonzeros" else "%{x:.3g} µs from %{base:.3g} µs")
        + "<br>item %{customdata[0]}"
        + (", %{customdata[1]} items" if info.merged else "")
        + "<extra></extra>",
    )


def _amount(value: float, unit: str) -> str:
    return text.count(value) if unit == "nonzeros" else text.significant(value)


def _add_marks(fig: go.Figure, info: TimelineInfo, dark: bool) -> None:
    theme = look(dark)
    if info.tail_begin < info.makespan:
        fig.add_vrect(
            x0=info.tail_begin,
            x1=info.makespan,
            fillcolor=rgba(theme.accent, 0.14),
            line_width=0,
            layer="below",
        )
        fig.add_annotation(
            x=info.makespan,
            y=1,
            yref="paper",
            text=f"tail {text.percent(info.tail_share, 0)}",
            font={"color": theme.accent, "size": 12},
            xanchor="right",
            yanchor="bottom",
        )
    fig.add_vline(x=info.mean, line={"color": theme.text, "width": 1.5, "dash": "dash"})


def caption(info: TimelineInfo) -> str:
    """Waves, tail and the distance to an even share."""
    if not info.makespan:
        return "There is no work to play."
    lost = 1 - info.mean / info.makespan
    head = f"{text.plural(info.ctas, 'item')} on {text.plural(info.workers, 'worker')}"
    waves = f"in {text.plural(info.waves, 'wave')}" if info.waves > 1 else "in one wave"
    if info.ctas < info.workers:
        waves = f"and so {text.plural(info.workers - info.ctas, 'worker')} get nothing: cut the work finer"
    parts = [f"{head}, {waves}."]
    if lost < 0.01:
        parts.append("All workers end together, at the dashed even share.")
    else:
        parts.append(
            f"The last worker ends {text.percent(lost / (1 - lost), 0)} after the dashed even share; "
            f"in the shaded tail, {text.percent(info.tail_share, 0)} of the time, someone waits."
        )
    if info.merged:
        parts.append(f"Bars join up to {text.count(int(info.items.max()))} neighbouring items.")
    return " ".join(parts)
