"""Load balance: who multiplies which blocks, and how long that would take."""

from .plan import WorkPlan
from .simulate import Timeline, simulate
from .strategies import STRATEGIES, Strategy, make_plan

__all__ = ["STRATEGIES", "Strategy", "Timeline", "WorkPlan", "make_plan", "simulate"]
