"""Where the nonzeros of the layer are: the picture, and nonzeros per row and per column."""

from __future__ import annotations

import streamlit as st

from csbviz import figures
from csbviz.ui.components.charts import draw
from csbviz.ui.components.columns import split
from csbviz.ui.components.header import open_page
from csbviz.ui.components.numbers import numbers
from csbviz.ui.components.picture import picture
from csbviz.ui.text import count, percent, significant

_COV = (
    "Standard deviation / mean: 0 when all are equal. "
    "A random pattern of density d in n places has √((1 − d) / (d · n))."
)


def _per_line(title: str, facts, length: int) -> None:
    st.markdown(f"**Nonzeros per {title}**")
    numbers(
        [
            ("Mean", significant(facts.mean), f"Of {count(length)} places in a {title}."),
            ("Std", significant(facts.std), "Standard deviation."),
            (
                "Max",
                count(facts.maximum),
                f"In the fullest {title}; a kernel that gives a worker one {title} waits for it.",
            ),
            ("CoV", significant(facts.variation, 2), _COV),
        ]
    )


def _page() -> None:
    view = open_page(
        "Sparsity", "Where are the nonzeros, and are some rows or columns much fuller than others?"
    )
    left, right = split("picture", [3, 2])
    with left:
        picture(view, "spy", 810)
    with right:
        info = view.kept("row_col_nnz", lambda: figures.get_row_col_nnz_info(view.csr))
        numbers(
            [
                ("Nonzeros", count(view.layer.nnz), None),
                ("Sparsity", percent(view.layer.sparsity), None),
                (
                    "Empty rows",
                    count(info.rows.empty),
                    "Rows without a nonzero: outputs that are always zero.",
                ),
                (
                    "Empty columns",
                    count(info.cols.empty),
                    "Columns without a nonzero: inputs that are never read.",
                ),
            ]
        )
        _per_line("row", info.rows, view.layer.cols)
        _per_line("column", info.cols, view.layer.rows)
        draw("row_col_nnz", info)


_page()
