"""Panels of measured cases: one per operation and N, two beside each other, with names above the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..bench.names import OP_NAMES, VECTOR_OPS, class_name
from . import text
from .theme import figure, look

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from ..bench import Record

__all__ = ["Grid", "add_row_titles", "case_title", "make_grid"]

_TITLE, _AXIS = 34, 58
_COLUMNS = 2


class Grid(NamedTuple):
    """A figure with panels in reading order."""

    fig: go.Figure
    columns: int

    def place(self, number: int) -> dict[str, int]:
        """Row and column of a panel, as Plotly's methods take them."""
        return {"row": number // self.columns + 1, "col": number % self.columns + 1}

    def axes(self, number: int) -> tuple[str, str]:
        """Names of a panel's axes in references, such as "x3" and "y3"."""
        suffix = "" if number == 0 else str(number + 1)
        return f"x{suffix}", f"y{suffix}"


def make_grid(titles: Sequence[str], counts: Sequence[int], dark: bool, row_pixels: int = 42) -> Grid:
    """Lay out a panel for each title, high enough for its number of rows of `row_pixels`."""
    from plotly.subplots import make_subplots

    columns = min(_COLUMNS, max(len(titles), 1))
    lines = max(1, -(-len(titles) // columns))
    most = [max(counts[i * columns : (i + 1) * columns], default=1) for i in range(lines)]
    plots = [max(row_pixels * count, row_pixels) for count in most]
    gap = _TITLE + _AXIS
    height = sum(plots) + gap * lines
    fig = figure(dark, height)
    inner = height - gap
    make_subplots(
        rows=lines,
        cols=columns,
        row_heights=plots,
        vertical_spacing=gap / inner if lines > 1 else 0.0,
        horizontal_spacing=0.06,
        figure=fig,
    )
    fig.update_layout(margin={"t": _TITLE, "b": _AXIS, "l": 4, "r": 8})
    grid = Grid(fig, columns)
    for number, title in enumerate(titles):
        x, y = grid.axes(number)
        fig.add_annotation(
            text=f"<b>{text.html_escape(title)}</b>",
            x=0,
            xref=f"{x} domain",
            xanchor="left",
            y=1,
            yref=f"{y} domain",
            yanchor="bottom",
            yshift=6,
        )
        rows = most[number // columns]
        fig.update_yaxes(
            range=[rows - 0.4, -0.75],
            showticklabels=False,
            showgrid=False,
            automargin=False,
            **grid.place(number),
        )
    return grid


def add_row_titles(grid: Grid, number: int, titles: Sequence[str], dark: bool) -> None:
    """Write each row's name above it, from the panel's left border: long names need no margin."""
    x, y = grid.axes(number)
    for row, title in enumerate(titles):
        grid.fig.add_annotation(
            text=text.html_escape(title),
            x=0,
            xref=f"{x} domain",
            xanchor="left",
            y=row - 0.24,
            yref=y,
            yanchor="bottom",
            font={"size": 12},
            bgcolor=look(dark).background,
            borderpad=0,
            xshift=1,
        )


def case_title(record: Record, cases: Iterable[tuple]) -> str:
    """Operation and N, and of the rest of the case what tells it from the others.

    A precision class says more than the dtype of the operands, so it is named in its place.
    """
    cases = list(cases)
    name = OP_NAMES.get(record.op, record.op)
    parts = [name[:1].upper() + name[1:]]
    if record.op not in VECTOR_OPS:
        parts.append(f"N = {text.count(record.n)}")
    places = {"matrix": 0, "device_name": 6, "dtype": 7, "mode": 8, "precision": 9}
    differ = [field for field, place in places.items() if len({case[place] for case in cases}) > 1]
    if "precision" in differ and "dtype" in differ:
        differ.remove("dtype")
    for field in differ:
        value = getattr(record, field)
        parts.append(class_name(value) if field == "precision" else value)
    return " · ".join(parts)
