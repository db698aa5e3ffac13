"""Nonzeros per row and per column: which are empty, and how far the fullest is from the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import text
from .labels import Label, add_end_labels
from .theme import figure, look, rgba

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from scipy.sparse import csr_matrix

__all__ = ["Envelope", "LineCounts", "RowColInfo", "caption", "get_row_col_nnz_info", "plot_row_col_nnz"]

MAX_POINTS = 2000
"""More rows than this are drawn as an envelope."""

ENVELOPE_POINTS = 1000


class Envelope(NamedTuple):
    """Counts of groups of neighbouring rows (or columns); a group of one when there are few.

    Attributes
    ----------
    group : int
        Rows in a group; the last may have fewer.
    begin : int64[groups]
        First row of each group.
    low, high : int64[groups]
        Least and most nonzeros of a row in the group.
    mean : float64[groups]
    """

    group: int
    begin: np.ndarray
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray


class LineCounts(NamedTuple):
    """Nonzeros per row, or per column.

    Attributes
    ----------
    length, places : int
        Number of rows, and entries of one row, zeros included.
    mean, std : float
    minimum, maximum, fullest, empty : int
        Least and most nonzeros; the (first) row that has the most; rows that have none.
    envelope : Envelope
    """

    length: int
    places: int
    mean: float
    std: float
    minimum: int
    maximum: int
    fullest: int
    empty: int
    envelope: Envelope

    @property
    def variation(self) -> float:
        """CoV = σ / μ, 0 without nonzeros."""
        return self.std / self.mean if self.mean else 0.0

    @property
    def imbalance(self) -> float:
        """λ = max / mean, 1 without nonzeros."""
        return self.maximum / self.mean if self.mean else 1.0


class RowColInfo(NamedTuple):
    """Nonzeros per row and per column of one matrix."""

    rows: LineCounts
    cols: LineCounts


def get_row_col_nnz_info(S: csr_matrix) -> RowColInfo:
    """Count the stored entries of every row and column of `S`."""
    per_row = np.diff(S.indptr).astype(np.int64)
    per_col = np.bincount(S.indices[: S.indptr[-1]], minlength=S.shape[1]).astype(np.int64, copy=False)
    return RowColInfo(_line_counts(per_row, S.shape[1]), _line_counts(per_col, S.shape[0]))


def _line_counts(counts: np.ndarray, places: int) -> LineCounts:
    envelope = _envelope(counts)
    if counts.size == 0:
        return LineCounts(0, places, 0.0, 0.0, 0, 0, 0, 0, envelope)
    return LineCounts(
        counts.size,
        places,
        float(counts.mean()),
        float(counts.std()),
        int(counts.min()),
        int(counts.max()),
        int(counts.argmax()),
        int((counts == 0).sum()),
        envelope,
    )


def _envelope(counts: np.ndarray) -> Envelope:
    group = 1 if counts.size <= MAX_POINTS else -(-counts.size // ENVELOPE_POINTS)
    begin = np.arange(0, counts.size, group)
    if group == 1:
        return Envelope(1, begin, counts, counts.astype(np.float64), counts)
    sums = np.add.reduceat(counts, begin)
    sizes = np.diff(np.append(begin, counts.size))
    return Envelope(
        group, begin, np.minimum.reduceat(counts, begin), sums / sizes, np.maximum.reduceat(counts, begin)
    )


def plot_row_col_nnz(info: RowColInfo, dark: bool = False) -> go.Figure:
    """Draw nonzeros per row above those per column."""
    from plotly.subplots import make_subplots

    fig = figure(dark, 430)
    make_subplots(rows=2, cols=1, vertical_spacing=0.24, figure=fig)
    for row, (name, facts) in enumerate((("row", info.rows), ("column", info.cols)), start=1):
        _add_line(fig, row, name, facts, dark)
    fig.update_layout(margin={"t": 32, "b": 44, "l": 8, "r": 92}, showlegend=False)
    return fig


def _add_line(fig: go.Figure, row: int, name: str, facts: LineCounts, dark: bool) -> None:
    theme, env = look(dark), facts.envelope
    at = {"row": row, "col": 1}
    if env.group > 1:
        x = np.concatenate([env.begin, env.begin[::-1]])
        band = np.concatenate([env.high, env.low[::-1]])
        fig.add_scatter(
            x=x,
            y=band,
            fill="toself",
            fillcolor=rgba(theme.data, 0.3),
            line={"width": 0},
            hoverinfo="skip",
            **at,
        )
    where = (
        f"{name}s %{{x}} + {env.group - 1}: mean %{{y:.1f}}"
        if env.group > 1
        else f"{name} %{{x}}: %{{y}} nonzeros"
    )
    fig.add_scatter(
        x=env.begin,
        y=env.mean if env.group > 1 else env.low,
        mode="lines" if env.begin.size > 1 else "markers",
        line={"color": theme.data, "width": 1.25, "shape": "linear" if env.group > 1 else "hvh"},
        hovertemplate=where + "<extra></extra>",
        **at,
    )
    top = max(facts.maximum, 1) * 1.12
    fig.add_hline(y=facts.mean, line={"color": theme.text, "width": 1.25, "dash": "dash"}, **at)
    fig.add_hline(y=facts.maximum, line={"color": theme.accent, "width": 1.25, "dash": "dot"}, **at)
    labels = [
        Label(facts.mean, f"mean {text.significant(facts.mean)}", theme.text),
        Label(facts.maximum, f"max {text.count(facts.maximum)}", theme.accent),
    ]
    add_end_labels(fig, labels, (0, top), 140, axis=row)
    fig.update_xaxes(
        title_text=name.capitalize(), showgrid=False, range=[-0.5, max(facts.length, 1) - 0.5], **at
    )
    fig.update_yaxes(range=[0, top], nticks=5, **at)
    suffix = "" if row == 1 else str(row)
    fig.add_annotation(
        text=f"Nonzeros per {name}",
        x=0,
        xref=f"x{suffix} domain",
        xanchor="left",
        y=1,
        yref=f"y{suffix} domain",
        yanchor="bottom",
        yshift=4,
    )


def caption(info: RowColInfo) -> str:
    """What to look for: the fullest against the mean, and lines without a nonzero."""
    if not info.rows.length or not info.cols.length:
        return "The matrix has no entries."
    if not info.rows.mean:
        return "The matrix has no nonzeros."
    uneven = max((("row", info.rows), ("column", info.cols)), key=lambda pair: pair[1].imbalance)
    parts = [
        _spread(*uneven),
        *(_empty(name, facts) for name, facts in (("row", info.rows), ("column", info.cols))),
    ]
    groups = [
        f"{facts.envelope.group} {name}s"
        for name, facts in (("row", info.rows), ("column", info.cols))
        if facts.envelope.group > 1
    ]
    if groups:
        parts.append(
            f"The line is the mean of {text.list_of(groups)} at a time, "
            "the band runs from their least to their most."
        )
    return " ".join(part for part in parts if part)


def _spread(name: str, facts: LineCounts) -> str:
    random = ((1 - facts.mean / facts.places) * facts.mean) ** 0.5 / facts.mean if facts.places else 0.0
    verdict = (
        f"{name}s differ as little as in a random scatter"
        if facts.variation <= 1.3 * random
        else f"{name}s differ {text.ratio(facts.variation / random)} as much as in a random scatter"
        if random
        else f"all {name}s are full"
    )
    if facts.imbalance <= 1.005:
        return f"All {name}s hold as many nonzeros, {text.significant(facts.mean)}: none makes others wait."
    return (
        f"The fullest {name}, {text.count(facts.fullest)}, holds {text.ratio(facts.imbalance)} the mean: "
        f"who gets one {name} per worker waits that long. {verdict.capitalize()}."
    )


def _empty(name: str, facts: LineCounts) -> str:
    if not facts.empty:
        return ""
    return f"{text.plural(facts.empty, name)} {'has' if facts.empty == 1 else 'have'} no nonzero."
