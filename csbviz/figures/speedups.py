"""How many times faster each kernel is than CSR and than dense, in the same run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..bench.names import class_name
from . import text
from .panels import Grid, add_row_titles, case_title, make_grid
from .run_times import distinct_titles
from .theme import base_format, format_color, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..bench import Record

__all__ = ["SpeedupPanel", "SpeedupRow", "SpeedupsInfo", "caption", "get_speedups_info", "plot_speedups"]


class SpeedupRow(NamedTuple):
    """One kernel: its speed over the best CSR and over the best dense kernel, None where there is none."""

    kernel: str
    title: str
    format: str
    vs_csr: float | None
    vs_dense: float | None


class SpeedupPanel(NamedTuple):
    """The kernels of one case, the fastest first."""

    title: str
    op: str
    n: int
    rows: tuple[SpeedupRow, ...]
    precision: str = ""


class SpeedupsInfo(NamedTuple):
    """Cases, and the least and largest factor in them."""

    panels: tuple[SpeedupPanel, ...]
    low: float
    high: float


def get_speedups_info(records: Iterable[Record]) -> SpeedupsInfo:
    """Collect the factors of verified records.

    Parameters
    ----------
    records : iterable of Record
        A CSR kernel is not compared with CSR, nor a dense one with dense; kernels without a factor are left
        out.

    Returns
    -------
    SpeedupsInfo
    """
    cases: dict[tuple, list[Record]] = {}
    for record in records:
        if record.ok:
            cases.setdefault(record.case, []).append(record)
    panels = []
    for members in cases.values():
        pairs = sorted(
            zip(members, distinct_titles(members), strict=True), key=lambda pair: pair[0].median_us
        )
        rows = tuple(
            row for row in (_row(*pair) for pair in pairs) if (row.vs_csr or row.vs_dense) is not None
        )
        if rows:
            first = members[0]
            panels.append(SpeedupPanel(case_title(first, cases), first.op, first.n, rows, first.precision))
    factors = [
        f for panel in panels for row in panel.rows for f in (row.vs_csr, row.vs_dense) if f is not None
    ]
    return SpeedupsInfo(tuple(panels), min(factors, default=1.0), max(factors, default=1.0))


def _row(record: Record, title: str) -> SpeedupRow:
    form = base_format(record.format)
    return SpeedupRow(
        record.kernel,
        title,
        form,
        None if form == "csr" else record.speedup_vs_csr,
        None if form == "dense" else record.speedup_vs_dense,
    )


def plot_speedups(info: SpeedupsInfo, dark: bool = False) -> go.Figure:
    """Draw factors as dots on a log scale, on stalks from the line of equal speed.

    Dots have the colour of the format they compare with; right of the line the kernel of the row is faster.
    """
    grid = make_grid([p.title for p in info.panels], [len(p.rows) for p in info.panels], dark, row_pixels=52)
    for place, panel in enumerate(info.panels):
        _add_panel(grid, place, panel, info, dark)
    grid.fig.update_layout(showlegend=False)
    return grid.fig


def _add_panel(grid: Grid, place: int, panel: SpeedupPanel, info: SpeedupsInfo, dark: bool) -> None:
    theme, at = look(dark), grid.place(place)
    for field, form, symbol, shift in (
        ("vs_csr", "csr", "circle", -0.06),
        ("vs_dense", "dense", "diamond", 0.22),
    ):
        found = [(i + shift, getattr(row, field), row.title) for i, row in enumerate(panel.rows)]
        found = [entry for entry in found if entry[1] is not None]
        if not found:
            continue
        y, x, titles = zip(*found, strict=True)
        color, name = format_color(form), "CSR" if form == "csr" else "dense"
        grid.fig.add_scatter(
            x=[value for factor in x for value in (1, factor, None)],
            y=[value for row in y for value in (row, row, None)],
            mode="lines",
            line={"color": color, "width": 2.5},
            hoverinfo="skip",
            **at,
        )
        grid.fig.add_scatter(
            x=x,
            y=y,
            mode="markers+text",
            marker={"symbol": symbol, "size": 10, "color": color},
            text=[f"  {text.significant(factor, 3 if factor >= 0.1 else 2)}× {name}  " for factor in x],
            textposition=["middle right" if factor >= 1 else "middle left" for factor in x],
            textfont={"size": 12, "color": theme.text},
            customdata=[text.html_escape(title) for title in titles],
            hovertemplate=f"%{{customdata}}: %{{x:.3g}}× the speed of {name}<extra></extra>",
            cliponaxis=False,
            **at,
        )
    grid.fig.add_vline(x=1, line={"color": theme.text, "width": 1.5}, **at)
    add_row_titles(grid, place, [row.title for row in panel.rows], dark)
    low, high = math.log10(min(info.low, 0.8)), math.log10(max(info.high, 1.25))
    span = high - low
    ticks = _ticks(10**low, 10**high)
    grid.fig.update_xaxes(
        type="log",
        # Labels take about a quarter of a narrow panel, on the side of the line that their dot is on.
        range=[low - (0.06 if info.low >= 1 else 0.7) * span, high + (0.06 if info.high < 1 else 0.7) * span],
        tickvals=ticks,
        ticktext=[f"{tick:g}×" for tick in ticks],
        tickangle=0,
        title_text="Speed of the kernel / speed of CSR, of dense (log scale)",
        **at,
    )


def _ticks(low: float, high: float) -> list[float]:
    """Powers of two, four, or ten over a wide range, that cover the factors; always with 1."""
    base = 2 if high / low <= 10 else 4 if high / low <= 70 else 10
    first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
    return [float(base) ** power for power in range(min(first, 0), max(last, 0) + 1)]


def caption(info: SpeedupsInfo) -> str:
    """How the fastest CSB kernel of each case compares."""
    if not info.panels:
        return "Nothing was timed beside CSR or dense, so there is no speed-up to show."
    best = [(panel, row) for panel in info.panels for row in [_best_csb(panel)] if row is not None]
    parts = ["Right of the line at 1× a kernel is faster than the format named beside its dot."]
    if 0 < len(best) <= 2:
        parts += [f"{panel.title}: {row.title} runs {_against(row)}." for panel, row in best]
    elif best:
        classes = dict.fromkeys(panel.precision for panel, _ in best)
        for precision in classes:
            rows = [row for panel, row in best if panel.precision == precision]
            where = f" in {class_name(precision)}" if len(classes) > 1 else ""
            ranges = [_range(name, [getattr(row, field) for row in rows]) for name, field in _FIELDS]
            cases = text.plural(len(rows), "case")
            parts.append(
                f"Over {cases}{where} the fastest CSB kernel runs {text.list_of(filter(None, ranges))}."
            )
    return " ".join(parts)


_FIELDS = (("CSR", "vs_csr"), ("dense", "vs_dense"))


def _best_csb(panel: SpeedupPanel) -> SpeedupRow | None:
    return next((row for row in panel.rows if row.format == "csb"), None)


def _against(row: SpeedupRow) -> str:
    pairs = ((name, getattr(row, field)) for name, field in _FIELDS)
    return text.list_of(
        f"{text.ratio(value)} as fast as {name}" for name, value in pairs if value is not None
    )


def _range(name: str, factors: list[float | None]) -> str:
    known = [factor for factor in factors if factor is not None]
    ends = dict.fromkeys(text.ratio(end) for end in (min(known), max(known))) if known else ()
    return f"{' to '.join(ends)} as fast as {name}" if known else ""
