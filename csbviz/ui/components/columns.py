"""Columns that become rows on narrow screens."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

__all__ = ["STYLE", "split"]

_NARROW = 1000
"""Screens with fewer pixels across show the columns below each other."""

STYLE = f"""
@media (max-width: {_NARROW}px) {{
  [class*="st-key-split"] > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"] {{
    flex-wrap: wrap;
  }}
  [class*="st-key-split"] > [data-testid="stLayoutWrapper"] > [data-testid="stHorizontalBlock"]
    > [data-testid="stColumn"] {{
    flex: 1 1 100%; min-width: 100%; width: 100%;
  }}
}}
"""


def split(name: str, spec: Sequence[int] | int) -> Sequence:
    """Columns of a page's main parts.

    Parameters
    ----------
    name : str
        Unique on its page.
    spec : sequence of int, or int
        Relative widths, or the number of equal columns.
    """
    with st.container(key=f"split-{name}"):
        return st.columns(spec, gap="medium")
