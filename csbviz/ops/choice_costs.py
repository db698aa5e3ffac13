"""The costs of `choice_model`, in microseconds, from the file that ``benchmarks/fit_choice.py`` writes."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["COSTS", "FACTORS", "FITTED_ON", "SOURCE"]

SOURCE = Path(__file__).with_name("choice_costs.json")

_FITTED = json.loads(SOURCE.read_text(encoding="utf-8"))

FITTED_ON: str = _FITTED["fitted_on"]
"""Device and date of the measurements."""

COSTS: dict[str, dict[str, list[float]]] = _FITTED["costs"]
"""Kernel → group of launches → CTAs that a multiprocessor runs at once, then the cost of each term."""

FACTORS: dict[str, dict[str, float]] = _FITTED["factors"]
"""Kernel → configuration → factor on its group's prediction."""
