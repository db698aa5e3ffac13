"""Schedules: how sparse a network is to be at which step of its training.

A schedule is a frozen object with two questions: `updates()`, the steps at which masks are chosen anew, and
`at(step)`, the sparsity that holds at a step, which changes at those steps alone.

References
----------
Zhu, Gupta: To prune, or not to prune: exploring the efficacy of pruning for model compression, 2017.
Han, Pool, Tran, Dally: Learning both Weights and Connections for Efficient Neural Networks, 2015.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from numbers import Integral, Real

from csbviz.errors import OptionError

__all__ = ["Gradual", "Iterative", "OneShot", "cubic_sparsity"]


def cubic_sparsity(step: float, initial: float, final: float, begin: int, count: int, every: int) -> float:
    """Give the sparsity of Zhu & Gupta's law: fast first, while there is much to spare, then ever slower.

    Parameters
    ----------
    step : float
        t, in training steps.
    initial, final : float
        s_i and s_f.
    begin, count, every : int
        t₀, n and Δt: the masks change at t₀, t₀ + Δt, …, t₀ + n Δt.

    Returns
    -------
    float
        s_f + (s_i - s_f)(1 - (t - t₀)/(n Δt))³ between t₀ and t₀ + n Δt; s_i before, s_f after.
    """
    if step <= begin:
        return initial
    if step >= begin + count * every:
        return final
    left = 1.0 - (step - begin) / (count * every)
    return _between(final + (initial - final) * left**3, initial, final)


@dataclass(frozen=True)
class OneShot:
    """All at once.

    Attributes
    ----------
    final : float
        Sparsity from `begin` on, 0 ≤ final < 1.
    begin : int
        Step of the cut, ≥ 0; before it nothing is pruned.
    """

    final: float
    begin: int = 0

    def __post_init__(self) -> None:
        _check_share("final sparsity", self.final)
        _check_whole("first step", self.begin, 0)

    def updates(self) -> tuple[int, ...]:
        """Steps at which masks are chosen."""
        return (self.begin,)

    def at(self, step: int) -> float:
        """Sparsity that holds at a step."""
        return self.final if step >= self.begin else 0.0


@dataclass(frozen=True)
class Gradual:
    """Zhu & Gupta's cubic law, while training goes on: `cubic_sparsity` at t₀, t₀ + Δt, …, t₀ + n Δt.

    Attributes
    ----------
    initial, final : float
        s_i and s_f, 0 ≤ s_i ≤ s_f < 1.
    begin, count, every : int
        t₀ ≥ 0, n ≥ 1 and Δt ≥ 1.
    """

    initial: float
    final: float
    begin: int
    count: int
    every: int

    def __post_init__(self) -> None:
        _check_range(self.initial, self.final)
        _check_whole("first step", self.begin, 0)
        _check_whole("number of pruning steps", self.count, 1)
        _check_whole("distance of pruning steps", self.every, 1)

    def updates(self) -> tuple[int, ...]:
        """Steps at which masks are chosen: n + 1 of them."""
        return tuple(self.begin + k * self.every for k in range(self.count + 1))

    def at(self, step: int) -> float:
        """Sparsity that holds at a step: that of the last update before it, or the initial one."""
        done = (step - self.begin) // self.every
        return cubic_sparsity(
            self.begin + done * self.every, self.initial, self.final, self.begin, self.count, self.every
        )


@dataclass(frozen=True)
class Iterative:
    """Prune, fine-tune, and again: each round keeps the same share of what is left.

    Attributes
    ----------
    initial, final : float
        Sparsity before the first and after the last round, 0 ≤ initial ≤ final < 1.
    rounds : int
        Number of cuts, ≥ 1.
    every : int
        Training steps of a round, ≥ 1.
    begin : int
        Step of the first cut, ≥ 0.
    """

    initial: float
    final: float
    rounds: int
    every: int
    begin: int = 0

    def __post_init__(self) -> None:
        _check_range(self.initial, self.final)
        _check_whole("number of rounds", self.rounds, 1)
        _check_whole("length of a round", self.every, 1)
        _check_whole("first step", self.begin, 0)

    def updates(self) -> tuple[int, ...]:
        """Steps at which masks are chosen."""
        return tuple(self.begin + k * self.every for k in range(self.rounds))

    def at(self, step: int) -> float:
        """Sparsity that holds at a step."""
        cuts = bisect.bisect_right(self.updates(), step)
        if cuts == 0:
            return self.initial
        if cuts == self.rounds:
            return self.final
        kept = (1 - self.initial) * ((1 - self.final) / (1 - self.initial)) ** (cuts / self.rounds)
        return _between(1 - kept, self.initial, self.final)


def _between(value: float, initial: float, final: float) -> float:
    """Take off what rounding put beyond the ends."""
    return min(max(value, initial), final)


def _check_range(initial: float, final: float) -> None:
    _check_share("initial sparsity", initial)
    _check_share("final sparsity", final)
    if initial > final:
        raise OptionError(
            f"the initial sparsity {initial:g} is above the final one, {final:g}; pruning only adds zeros."
        )


def _check_share(what: str, value: object) -> None:
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not 0 <= value < 1:
        raise OptionError(f"the {what} is {value!r}; it must be a number with 0 ≤ sparsity < 1.")


def _check_whole(what: str, value: object, least: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise OptionError(f"the {what} is {value!r}; it must be a whole number ≥ {least}.")
