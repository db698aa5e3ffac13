"""The trade-off of pruning: accuracy over sparsity, and the same points over the measured kernel time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from . import text
from .theme import OTHER_COLOR, figure, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = [
    "TradeoffInfo",
    "TradeoffPoint",
    "TradeoffSeries",
    "caption",
    "get_tradeoff_info",
    "plot_tradeoff",
]

GRANULARITY_COLORS = {
    "weight": "#1455ff",
    "nm": "#7d46bc",
    "block": "#ba3807",
    "kernel": "#af8318",
    "filter": "#1e7358",
    "row": "#4d98df",
    "column": "#93659f",
}
METHOD_SYMBOLS = {
    "magnitude": "circle",
    "l2": "square",
    "taylor": "diamond",
    "wanda": "triangle-up",
    "sparsegpt": "star",
    "random": "x-thin-open",
}
_LONGEST_TITLE = 17
METHOD_COLORS = {
    "magnitude": "#1455ff",
    "l2": "#4d98df",
    "taylor": "#ba3807",
    "wanda": "#1e7358",
    "sparsegpt": "#7d46bc",
    "random": "#6b7280",
    "variational": "#af8318",
    "l0": "#93659f",
}
"""For a picture of one granularity alone."""
_PLOT, _TOP, _BOTTOM, _LEGEND_ROW, _PER_ROW = 400, 30, 64, 22, 3


class TradeoffPoint(NamedTuple):
    """One operating point: shares 0 to 1, factors, and the time of its kernels in µs (None: not measured)."""

    sparsity: float
    mean: float
    std: float
    runs: int
    compression: float | None
    speedup: float | None
    time: float | None
    front: bool


class TradeoffSeries(NamedTuple):
    """The points of one criterion and granularity, by rising sparsity."""

    title: str
    method: str
    granularity: str
    points: tuple[TradeoffPoint, ...]


class TradeoffInfo(NamedTuple):
    """What the figure shows.

    Attributes
    ----------
    series : tuple of TradeoffSeries
    metric : str
        Name of the accuracy for people.
    dense : float or None
        Accuracy of the dense control.
    dense_time : float or None
        Time of the dense kernels in µs.
    chance : float
        What guessing reaches.
    timed : str
        What was timed, for people; "" when nothing was.
    """

    series: tuple[TradeoffSeries, ...]
    metric: str
    dense: float | None
    dense_time: float | None
    chance: float
    timed: str


def get_tradeoff_info(
    rows: Iterable[Mapping[str, Any]],
    times: Sequence[Mapping[str, Any]] = (),
    metric: str = "Accuracy",
    chance: float = 0.0,
) -> TradeoffInfo:
    """Sort the operating points of a study into series, join the times to them, and mark the Pareto front.

    Parameters
    ----------
    rows : iterable of mapping
        As `csbviz.pruning.study.summary` gives them. The method "dense" is the control.
    times : sequence of mapping
        Times of layers at these points, as of `csbviz.bench.study_times`; those of one point are added up and
        averaged over its seeds.
    metric : str
    chance : float

    Returns
    -------
    TradeoffInfo
        On the front lie the points that no other one beats in both accuracy and time; without any times, in
        both accuracy and sparsity.
    """
    from ..pruning.pareto import pareto_front

    rows = list(rows)
    control = next((row["mean"] for row in rows if row["method"] == "dense"), None)
    kernels = _times(times)
    rows = [row for row in rows if row["method"] != "dense"]
    known = [kernels.get(_point_key(row), (None, None)) for row in rows]
    costs = [
        csb if kernels else 1 - row["sparsity_reached"] for row, (csb, _) in zip(rows, known, strict=True)
    ]
    front = pareto_front(costs, [row["mean"] for row in rows])
    found: dict[tuple, list[TradeoffPoint]] = {}
    for row, (csb, _), is_best in zip(rows, known, front, strict=True):
        point = TradeoffPoint(
            row["sparsity_reached"],
            row["mean"],
            row["std"],
            row["runs"],
            row["compression"],
            row["speedup"],
            csb,
            bool(is_best),
        )
        found.setdefault(_series_key(row), []).append(point)
    order = list(GRANULARITY_COLORS)
    ranked = sorted(
        found, key=lambda key: (order.index(key[1]) if key[1] in order else 99, key[0] == "random")
    )
    series = [
        TradeoffSeries(_title(key), key[0], key[1], tuple(sorted(found[key], key=lambda p: p.sparsity)))
        for key in ranked
    ]
    dense = [time for _, time in known if time is not None]
    return TradeoffInfo(
        tuple(series),
        metric,
        control,
        sum(dense) / len(dense) if dense else None,
        chance,
        _what_was_timed(times),
    )


def _options(row: Mapping[str, Any]) -> str:
    return ", ".join(
        (":" if name == "nm" else " × ").join(map(str, value))
        if isinstance(value, (list, tuple))
        else str(value)
        for name, value in (row.get("options") or {}).items()
        if value is not None
    )


def _point_key(row: Mapping[str, Any]) -> tuple:
    asked = row["sparsity"]  # None: of N:M, and of training that is not asked for any
    sparsity = None if row["granularity"] == "nm" or asked is None else round(float(asked), 6)
    return row["method"], row["granularity"], _options(row), row.get("scope", "global"), sparsity


def _series_key(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    options = "" if row["granularity"] == "nm" else _options(row)
    return row["method"], row["granularity"], options, row.get("retrained") or ""


def _title(key: tuple[str, str, str, str]) -> str:
    from ..pruning.registry import GRANULARITIES, METHODS
    from ..pruning.training.settings import TRAINING

    method, granularity, options, retrained = key
    unit = GRANULARITIES[granularity].title if granularity in GRANULARITIES else granularity
    parts = f"{unit} {options}".strip()
    how = _short(method, METHODS if method in METHODS else TRAINING)
    if not retrained or retrained == method:
        return f"{parts} · {how}"
    return f"{parts} · {how}, {_short(retrained, TRAINING).lower()}"


def _short(name: str, known: Mapping[str, Any]) -> str:
    """The title of a method, or its name where that would be too long for a legend."""
    title = known[name].title if name in known else name
    return title if len(title) <= _LONGEST_TITLE else name.capitalize()


def _times(times: Iterable[Mapping[str, Any]]) -> dict[tuple, tuple[float, float | None]]:
    """Point → (CSB, dense) in µs: sums over the layers, means over the seeds."""
    sums: dict[tuple, dict[Any, list[float]]] = {}
    for row in times:
        if row.get("csb_us") is None:
            continue
        total = sums.setdefault(_point_key(row), {}).setdefault((row.get("seed"), row.get("n")), [0.0, 0.0])
        total[0] += row["csb_us"]
        total[1] += row.get("dense_us") or math.nan
    found = {}
    for key, runs in sums.items():
        csb, dense = (sum(part) / len(runs) for part in zip(*runs.values(), strict=True))
        found[key] = (csb, None if math.isnan(dense) else dense)
    return found


def _what_was_timed(times: Sequence[Mapping[str, Any]]) -> str:
    rows = [row for row in times if row.get("csb_us") is not None]
    if not rows:
        return ""
    layers = list(dict.fromkeys(row["layer"].removesuffix(".weight") for row in rows))
    where = rows[0].get("device_name") or rows[0].get("device", "")
    ns = text.list_of(str(n) for n in dict.fromkeys(row["n"] for row in rows))
    return f"{text.list_of(layers)}, N = {ns}, {where}"


def plot_tradeoff(info: TradeoffInfo, dark: bool = False) -> go.Figure:
    """Draw accuracy over sparsity and, where kernels were timed, over their time; one axis of accuracy."""
    theme = look(dark)
    legend = _LEGEND_ROW * (-(-(len(info.series) + 1) // _PER_ROW))
    fig = figure(dark, _TOP + _PLOT + _BOTTOM + legend)
    one = len({series.granularity for series in info.series}) == 1
    for series in info.series:
        key, colors = (series.method, METHOD_COLORS) if one else (series.granularity, GRANULARITY_COLORS)
        color = colors.get(key, OTHER_COLOR)
        _add_series(fig, series, "x", [point.sparsity for point in series.points], True, color)
        timed = series._replace(points=tuple(point for point in series.points if point.time is not None))
        if timed.points:
            _add_series(fig, timed, "x2", [point.time for point in timed.points], False, color)
    _add_front(fig, info, dark)
    for level, words in ((info.dense, "Dense control"), (info.chance or None, "Chance")):
        if level is not None:
            line = {"color": theme.muted, "width": 1.5, "dash": "dash" if level == info.dense else "dot"}
            fig.add_shape(type="line", x0=0, x1=1, xref="paper", y0=level, y1=level, line=line, layer="below")
            fig.add_annotation(
                text=f"{words} {text.percent(level)}",
                x=0.003,
                xref="paper",
                xanchor="left",
                y=level,
                yanchor="bottom" if level == info.dense else "top",
                font={"color": theme.muted, "size": 12},
            )
    both = bool(info.timed)
    top = max([1e-9, info.dense or 0, *(p.mean + p.std for s in info.series for p in s.points)])
    fig.update_layout(
        margin={"t": _TOP, "b": _BOTTOM + legend, "l": 8, "r": 12},
        legend={"y": -_BOTTOM / _PLOT, "yanchor": "top", "entrywidth": 225},
        yaxis={"title": {"text": info.metric}, "tickformat": ".0%", "range": [0, min(1.0, top) * 1.06]},
        xaxis={
            "title": {"text": "Sparsity of the pruned layers"},
            "tickformat": ".0%",
            "range": _sparsity_range(info),  # fixed, so that nothing moves while points are added
            "domain": [0, 0.48 if both else 1],
        },
    )
    if both:
        fig.update_layout(
            xaxis2={
                "title": {"text": "Measured time of the CSB kernels (µs, log scale)"},
                "type": "log",
                "tickvals": _time_ticks(info),
                "domain": [0.54, 1],
                "anchor": "y",
            }
        )
        if info.dense_time:
            line = {"color": theme.muted, "width": 1.5, "dash": "dash"}
            fig.add_shape(type="line", x0=info.dense_time, x1=info.dense_time, xref="x2", y0=0, y1=1,
                          yref="paper", line=line, layer="below")  # fmt: skip
            fig.add_annotation(
                text=f"Dense kernels {text.time_us(info.dense_time)}",
                x=math.log10(info.dense_time),
                xref="x2",
                y=1,
                yref="paper",
                yanchor="bottom",
                font={"color": theme.muted, "size": 12},
            )
    return fig


def _add_series(fig: go.Figure, series: TradeoffSeries, axis: str, x: list, named: bool, color: str) -> None:
    baseline = series.method == "random"
    points = series.points
    fig.add_scatter(
        x=x,
        y=[point.mean for point in points],
        xaxis=axis,
        name=text.html_escape(series.title),
        legendgroup=series.title,
        showlegend=named,
        # Points of N:M with one sparsity differ in N and M: no line leads from one to the next.
        mode="lines+markers" if named and series.granularity != "nm" else "markers",
        line={"color": color, "width": 1.5 if baseline else 2.25, "dash": "dot" if baseline else "solid"},
        marker={
            "symbol": METHOD_SYMBOLS.get(series.method, "hexagon"),
            "size": 8,
            "color": color,
            "line": {"width": 2 if baseline else 0, "color": color},
        },
        error_y={"type": "data", "array": [point.std for point in points], "width": 3, "thickness": 1.25},
        customdata=[(p.sparsity, p.std, p.runs, _factor(p.compression), _factor(p.speedup)) for p in points],
        hovertemplate="%{y:.2%} ± %{customdata[1]:.2%} (%{customdata[2]} seeds)<br>sparsity "
        "%{customdata[0]:.1%}<br>compression %{customdata[3]}, theoretical speed-up "
        "%{customdata[4]}"
        + ("" if named else "<br>%{x:.3g} µs measured")
        + "<extra>%{fullData.name}</extra>",
    )


def _time_ticks(info: TradeoffInfo) -> list[float]:
    """1, 2 and 5 of each power of ten among the times, in µs."""
    times = [p.time for series in info.series for p in series.points if p.time] + [info.dense_time or 1.0]
    first, last = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    return [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in (1, 2, 5)]


def _sparsity_range(info: TradeoffInfo) -> list[float]:
    least = min((point.sparsity for series in info.series for point in series.points), default=0.5)
    return [least - 0.01 if least > 0.85 else min(least, 0.5) - 0.02, 1.005]


def _factor(value: float | None) -> str:
    return "without bound" if value is None else text.ratio(value)


def _add_front(fig: go.Figure, info: TradeoffInfo, dark: bool) -> None:
    """Ring the points of the Pareto front and join them by a step."""
    best = [point for series in info.series for point in series.points if point.front]
    if not best:
        return
    axis = "x2" if info.timed else "x"
    pairs = sorted((point.time if info.timed else point.sparsity, point.mean) for point in best)
    accent = look(dark).accent
    fig.add_scatter(
        x=[x for x, _ in pairs],
        y=[y for _, y in pairs],
        xaxis=axis,
        name="Pareto front",
        mode="lines+markers",
        line={"color": accent, "width": 1.5, "shape": "hv" if info.timed else "vh"},
        marker={"symbol": "circle-open", "size": 14, "color": accent, "line": {"width": 2}},
        hoverinfo="skip",
    )


def caption(info: TradeoffInfo) -> str:
    """What to look for, and which points are worth having."""
    points = [(point, series) for series in info.series for point in series.points]
    if not points:
        return "There are no operating points to show yet."
    front = [(point, series) for point, series in points if point.front]
    granularities = list(dict.fromkeys(series.title.split(" · ")[0] for _, series in front))
    runs = max(point.runs for point, _ in points)
    parts = [f"Mean ± standard deviation over {text.plural(runs, 'seed')}; dotted: the random baseline."]
    if info.timed:
        parts.append(
            "Left: how long each kind of unit keeps the accuracy. Right: the same points over the time of "
            f"{info.timed}; up and to the left is better."
        )
    else:
        parts.append("Up and to the right is better. No kernel was timed at these points yet.")
    if granularities:
        parts.append(f"On the Pareto front (ringed): {text.list_of(granularities)}.")
    return " ".join(parts)
