"""A row of numbers with labels, units and explanations."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

__all__ = ["numbers"]


def numbers(entries: Sequence[tuple[str, str, str | None]], per_row: int | None = None) -> None:
    """Show (label, value, help) entries side by side.

    Parameters
    ----------
    entries : sequence of (str, str, str or None)
        The label and value are Markdown of the app's own.
    per_row : int, optional
        Entries a row; all of them by default.
    """
    per_row = per_row or len(entries)
    for first in range(0, len(entries), per_row):
        columns = st.columns(per_row)
        for column, (label, value, explanation) in zip(
            columns, entries[first : first + per_row], strict=False
        ):
            column.metric(label, value, help=explanation)
