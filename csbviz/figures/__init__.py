"""Figures: for each a pure ``get_x_info`` that computes what is shown, a thin ``plot_x``, and a caption.

=================  ===========================================================================================
module             names, as they are also found in this package
=================  ===========================================================================================
spy                get_spy_info, plot_spy, spy_caption, window_from_box
block_nnz          get_block_nnz_info, plot_block_nnz, block_nnz_caption
row_col_nnz        get_row_col_nnz_info, plot_row_col_nnz, row_col_nnz_caption
mask               get_mask_info, plot_mask, mask_caption
weight_histogram   get_weight_histogram_info, plot_weight_histogram, weight_histogram_caption
format_bytes       get_format_bytes_info, plot_format_bytes, format_bytes_caption
index_bytes        get_index_bytes_info, plot_index_bytes, index_bytes_caption
balance_strip      get_balance_strip_info, plot_balance_strip, balance_strip_caption
timeline           get_timeline_info, plot_timeline, timeline_caption
run_times          get_run_times_info, plot_run_times, run_times_caption
speedups           get_speedups_info, plot_speedups, speedups_caption
stages             get_stages_info, plot_stages, stages_caption
candidates         get_candidates_info, plot_candidates, candidates_caption
tradeoff           get_tradeoff_info, plot_tradeoff, tradeoff_caption
training_curve     get_training_curve_info, plot_training_curve, training_curve_caption
=================  ===========================================================================================

Each module has its caption as ``caption``. `theme` holds the look and the colours of formats, `text` writes
numbers. Plotly is imported when the first figure is drawn; everything else does without it.
"""

from __future__ import annotations

import importlib
from typing import Any

_FIGURES = (
    "balance_strip",
    "block_nnz",
    "candidates",
    "format_bytes",
    "index_bytes",
    "mask",
    "row_col_nnz",
    "run_times",
    "speedups",
    "spy",
    "stages",
    "timeline",
    "tradeoff",
    "training_curve",
    "weight_histogram",
)
_HOMES = {
    **{f"get_{name}_info": (name, f"get_{name}_info") for name in _FIGURES},
    **{f"plot_{name}": (name, f"plot_{name}") for name in _FIGURES},
    **{f"{name}_caption": (name, "caption") for name in _FIGURES},
    "window_from_box": ("spy", "window_from_box"),
    **{name: ("theme", name) for name in ("FORMAT_COLORS", "FORMAT_TITLES", "format_color", "look")},
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a figure's module when one of its names is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)
