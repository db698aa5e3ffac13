"""Load of every worker, before and after balancing: who is waited for, and who waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import OptionError
from . import text
from .theme import figure, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..balance import Timeline, WorkPlan

__all__ = ["BalanceStripInfo", "StripPanel", "caption", "get_balance_strip_info", "plot_balance_strip"]


class StripPanel(NamedTuple):
    """The loads of one plan.

    Attributes
    ----------
    name : str
    loads : float64[workers]
        Nonzeros (times tiles of columns) of each worker, or microseconds that it was busy.
    mean : float
    imbalance : float
        λ = max / mean; 1 without work.
    idle : float
        Share of the workers' time that is spent waiting for the last, 1 − 1/λ.
    """

    name: str
    loads: np.ndarray
    mean: float
    imbalance: float
    idle: float


class BalanceStripInfo(NamedTuple):
    """Plans side by side, on one scale; what a worker is called; loads in "nonzeros" or "µs"."""

    panels: tuple[StripPanel, ...]
    worker: str
    unit: str = "nonzeros"


def get_balance_strip_info(
    before: WorkPlan | Timeline | np.ndarray,
    after: WorkPlan | Timeline | np.ndarray,
    names: tuple[str, str] = ("Before", "After"),
    worker: str = "worker",
    unit: str = "nonzeros",
) -> BalanceStripInfo:
    """Collect the loads of two plans.

    Parameters
    ----------
    before, after : Timeline, or WorkPlan with workers fixed beforehand, or float64[workers]
        The last are loads that were measured.
    names : (str, str)
    worker : str
        What a worker is, such as "thread" or "multiprocessor".
    unit : str
        Of the loads: "nonzeros" or "µs".

    Returns
    -------
    BalanceStripInfo

    Raises
    ------
    OptionError
        For a plan whose items are taken by whoever is free: only its timeline has loads.
    """
    panels = tuple(_panel(*pair) for pair in zip(names, (before, after), strict=True))
    return BalanceStripInfo(panels, worker, unit)


def _panel(name: str, plan: WorkPlan | Timeline | np.ndarray) -> StripPanel:
    loads = plan if isinstance(plan, np.ndarray) else getattr(plan, "loads", None)
    if loads is None:
        loads = getattr(plan, "worker_loads", None)
    if loads is None:
        raise OptionError(f"the plan “{name}” leaves open who does what; simulate it and give its timeline")
    loads = np.asarray(loads, dtype=np.float64)
    mean = float(loads.mean()) if loads.size else 0.0
    imbalance = float(loads.max()) / mean if mean else 1.0
    return StripPanel(name, loads, mean, imbalance, 1 - 1 / imbalance)


def plot_balance_strip(info: BalanceStripInfo, dark: bool = False) -> go.Figure:
    """Draw one panel a plan with a shared scale; what lies above the mean is in the accent colour."""
    from plotly.subplots import make_subplots

    most = max((panel.loads.size for panel in info.panels), default=0)
    fig = figure(dark, 290, barmode="stack", bargap=0.25 if most <= 64 else 0)
    count = len(info.panels)
    make_subplots(rows=1, cols=count, shared_yaxes=True, horizontal_spacing=0.05, figure=fig)
    top = max((float(panel.loads.max(initial=0)) for panel in info.panels), default=0) or 1.0
    for col, panel in enumerate(info.panels, start=1):
        _add_panel(fig, panel, col, info, dark)
    fig.update_xaxes(title_text=info.worker.capitalize(), showgrid=False)
    fig.update_yaxes(range=[0, 1.1 * top], nticks=5)
    fig.update_yaxes(title_text="Load (nonzeros)" if info.unit == "nonzeros" else "Busy (µs)", row=1, col=1)
    fig.update_layout(margin={"t": 56, "b": 44, "l": 8, "r": 8}, showlegend=False)
    return fig


def _add_panel(fig: go.Figure, panel: StripPanel, col: int, info: BalanceStripInfo, dark: bool) -> None:
    theme = look(dark)
    counted = info.unit == "nonzeros"
    load = "%{customdata:,} nonzeros" if counted else "%{customdata:.3g} µs"
    mean = text.count(panel.mean) if counted else text.time_us(panel.mean)
    workers = np.arange(panel.loads.size)
    suffix = "" if col == 1 else str(col)
    usual, excess = np.minimum(panel.loads, panel.mean), np.maximum(panel.loads - panel.mean, 0)
    line = {"color": theme.background, "width": 1 if panel.loads.size <= 64 else 0}
    gap = {"width": 0.5} if panel.loads.size <= 3 else {}
    for y, color in ((usual, theme.data), (excess, theme.accent)):
        fig.add_bar(
            x=workers,
            y=y,
            marker={"color": color, "line": line},
            customdata=panel.loads,
            hovertemplate=f"{info.worker} %{{x}}: {load}<extra></extra>",
            row=1,
            col=col,
            **gap,
        )
    fig.add_hline(y=panel.mean, line={"color": theme.text, "width": 1.5, "dash": "dash"}, row=1, col=col)
    place = {"xref": f"x{suffix} domain", "yref": f"y{suffix} domain", "x": 0, "y": 1, "xanchor": "left"}
    fig.add_annotation(
        **place,
        text=f"<b>{text.html_escape(panel.name)}</b><br>λ = {panel.imbalance:.2f}, "
        f"{text.percent(panel.idle, 0)} idle, mean {mean}",
        align="left",
        yanchor="bottom",
        yshift=4,
    )
    fig.update_xaxes(dtick=1 if panel.loads.size <= 16 else None, row=1, col=col)


def caption(info: BalanceStripInfo) -> str:
    """How the waiting changes from the first plan to the last, and what limits it."""
    first, last = info.panels[0], info.panels[-1]
    if not first.mean and not last.mean:
        return "There is no work to share."
    workers = text.plural(last.loads.size, info.worker)
    does = "does" if info.unit == "nonzeros" else "is busy for"
    result = (
        f"The fullest of {workers} {does} {text.ratio(last.imbalance)} the mean, "
        f"after {text.ratio(first.imbalance)} before"
    )
    change = first.imbalance / last.imbalance
    if max(change, 1 / change) >= 1.01:
        word = "shortens" if change > 1 else "lengthens"
        result += f": balance alone {word} the wait for it by {text.percent(abs(1 - 1 / change), 0)}"
    empty = int((last.loads == 0).sum())
    tail = f" {text.plural(empty, info.worker)} {'has' if empty == 1 else 'have'} no work." if empty else ""
    return f"{result}. What rises above the dashed mean is what the others wait for.{tail}"
