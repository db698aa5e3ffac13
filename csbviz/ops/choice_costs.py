"""The costs of `choice_model`, in microseconds. Written by benchmarks/fit_choice.py; do not edit."""

from __future__ import annotations

__all__ = ["COSTS", "FITTED_ON"]

FITTED_ON = ""
"""Device and date of the measurements."""

COSTS: dict[str, dict[str, tuple[float, ...]]] = {}
"""Kernel → tile → CTAs that a multiprocessor runs at once, then the cost of each of `choice_model.TERMS`."""
