"""Times that a busy host disturbs are taken in turn, unsteady ones more often, and every sample counts."""

from __future__ import annotations

import pytest

from benchmarks import in_turn

UNCOUNTED = in_turn._UNCOUNTED


@pytest.fixture
def clock(monkeypatch):
    """Names of the timed calls in order; each takes what its function of the number of its samples says."""
    order, takes = [], {}
    monkeypatch.setattr(in_turn.time, "sleep", lambda seconds: order.append("pause"))

    def sample(call):
        name = call()
        order.append(name)
        return takes[name](order.count(name) - UNCOUNTED)

    return order, takes, sample


def calls(*names):
    return {name: lambda name=name: name for name in names}


def test_steady_calls_take_turns_and_no_more(clock):
    order, takes, sample = clock
    takes |= {"a": lambda number: 100.0 + number % 2, "b": lambda number: 50.0}
    found = in_turn.in_turn(calls("a", "b"), sample)
    assert found["b"] == (50.0, 50.0, 50.0)
    assert 100.0 <= found["a"][1] <= 101.0
    order = order[2 * UNCOUNTED :]
    turns = [name for number, name in enumerate(order) if number == 0 or order[number - 1] != name]
    assert turns == ["a", "b"] * 3
    assert order.count("a") == order.count("b")


def test_a_disturbed_host_costs_further_rounds_until_the_times_are_steady(clock):
    order, takes, sample = clock
    # The first 20 samples of a fall into a disturbance.
    takes |= {"a": lambda number: 400.0 + 10 * number if number <= 20 else 100.0, "b": lambda number: 50.0}
    found = in_turn.in_turn(calls("a", "b"), sample)
    assert found["a"][1] == 100.0
    assert order.count("a") > order.count("b") == 27 + UNCOUNTED
    assert "pause" in order


def test_times_that_stay_unsteady_are_reported_as_they_are(clock):
    order, takes, sample = clock
    takes["a"] = lambda number: 100.0 * (1 + number % 3)
    p25, median, p75 = in_turn.in_turn(calls("a"), sample)["a"]
    assert (p25, median, p75) == (100.0, 200.0, 300.0)
    assert order.count("a") == 9 * (3 + 6) + UNCOUNTED
