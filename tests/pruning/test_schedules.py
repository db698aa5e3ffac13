"""Laws of the schedules: exact ends, never back, and the shape that each promises."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import OptionError
from csbviz.pruning.schedules import Gradual, Iterative, OneShot, cubic_sparsity

SHARES = st.floats(0, 0.999)
ENDS = st.tuples(SHARES, SHARES).map(sorted)
STEPS = st.integers(0, 10_000)


@st.composite
def graduals(draw):
    initial, final = draw(ENDS)
    return Gradual(initial, final, draw(STEPS), draw(st.integers(1, 60)), draw(st.integers(1, 500)))


@st.composite
def iteratives(draw):
    initial, final = draw(ENDS)
    return Iterative(initial, final, draw(st.integers(1, 30)), draw(st.integers(1, 500)), draw(STEPS))


@st.composite
def one_shots(draw):
    return OneShot(draw(SHARES), draw(STEPS))


SCHEDULES = st.one_of(graduals(), iteratives(), one_shots())


@given(SCHEDULES, st.lists(st.integers(0, 50_000), min_size=2))
def test_sparsity_never_falls(schedule, steps):
    values = [schedule.at(step) for step in sorted(steps)]
    assert all(earlier <= later for earlier, later in itertools.pairwise(values))
    assert all(0 <= value < 1 for value in values)


@given(SCHEDULES)
def test_the_ends_are_exact(schedule):
    first, last = schedule.updates()[0], schedule.updates()[-1]
    initial = getattr(schedule, "initial", 0.0)
    assert schedule.at(first - 1) == schedule.at(-1) == initial
    assert schedule.at(last) == schedule.at(last + 12_345) == schedule.final


@given(SCHEDULES)
def test_it_changes_at_updates_alone(schedule):
    updates = schedule.updates()
    assert list(updates) == sorted(set(updates))
    for here, following in itertools.pairwise(updates):
        assert schedule.at(here) == schedule.at((here + following) // 2) == schedule.at(following - 1)


@given(graduals())
def test_the_cubic_law_at_each_update(schedule):
    """Against the law in exact arithmetic."""
    span = schedule.count * schedule.every
    s_i, s_f = Fraction(schedule.initial), Fraction(schedule.final)
    assert schedule.updates() == tuple(range(schedule.begin, schedule.begin + span + 1, schedule.every))
    for step in schedule.updates():
        law = s_f + (s_i - s_f) * (1 - Fraction(step - schedule.begin, span)) ** 3
        assert schedule.at(step) == pytest.approx(float(law), abs=1e-12)


@given(graduals())
def test_what_is_kept_is_convex(schedule):
    """Each cut takes no more than the one before: the pruning slows down."""
    kept = 1 - np.array([schedule.at(step) for step in schedule.updates()])
    assert (np.diff(kept, 2) >= -1e-12).all()


@given(iteratives())
def test_each_round_keeps_the_same_share(schedule):
    kept = [1 - schedule.initial] + [1 - schedule.at(step) for step in schedule.updates()]
    ratios = np.divide(kept[1:], kept[:-1])
    assert ratios == pytest.approx(((1 - schedule.final) / (1 - schedule.initial)) ** (1 / schedule.rounds))


def test_a_known_course():
    """Half way through time the cubic law has done seven eighths of the way."""
    assert cubic_sparsity(150, 0.0, 0.8, 100, 10, 10) == pytest.approx(0.7)
    assert [Iterative(0, 0.875, 3, 10).at(step) for step in (0, 9, 10, 20, 99)] == [
        0.5,
        0.5,
        0.75,
        0.875,
        0.875,
    ]
    assert [OneShot(0.9, 5).at(step) for step in (4, 5)] == [0.0, 0.9]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: OneShot(1.0), "final sparsity is 1.0"),
        (lambda: OneShot(float("nan")), "final sparsity is nan"),
        (lambda: OneShot(0.5, -1), "first step is -1"),
        (lambda: Gradual(0.9, 0.5, 0, 1, 1), "initial sparsity 0.9 is above the final one, 0.5"),
        (lambda: Gradual(-0.1, 0.5, 0, 1, 1), "initial sparsity is -0.1"),
        (lambda: Gradual(0, 0.5, 0, 0, 1), "number of pruning steps is 0"),
        (lambda: Gradual(0, 0.5, 0, 1, 2.5), "distance of pruning steps is 2.5"),
        (lambda: Iterative(0, 0.5, 0, 1), "number of rounds is 0"),
        (lambda: Iterative(0, 0.5, 1, True), "length of a round is True"),
        (lambda: Iterative(0, "half", 1, 1), "final sparsity is 'half'"),
    ],
)
def test_schedules_that_cannot_be(make, sentence):
    with pytest.raises(OptionError, match=sentence):
        make()
