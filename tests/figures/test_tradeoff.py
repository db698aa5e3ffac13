"""The trade-off picture: points in their series, times joined to them, the front, control and baseline."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz import figures


def row(method="magnitude", granularity="weight", sparsity=0.9, mean=0.8, options=None, **more):
    return {
        "task": "fashion",
        "method": method,
        "granularity": granularity,
        "options": options or {},
        "scope": "global",
        "layers": None,
        "retrained": "",
        "sparsity": sparsity,
        "sparsity_reached": sparsity,
        "mean": mean,
        "std": 0.01,
        "runs": 3,
        "compression": 1 / (1 - sparsity),
        "speedup": 2.0,
    } | more


def time(csb, sparsity=0.9, layer="fc1.weight", seed=0, dense=90.0, **more):
    return {
        "method": "magnitude",
        "granularity": "weight",
        "options": {},
        "scope": "global",
        "sparsity": sparsity,
        "seed": seed,
        "layer": layer,
        "n": 128,
        "device": "cpu",
        "csb_us": csb,
        "dense_us": dense,
    } | more


ROWS = [
    row(method="dense", sparsity=0.0, mean=0.92),
    row(sparsity=0.5, mean=0.91),
    row(sparsity=0.9, mean=0.85),
    row(method="random", sparsity=0.9, mean=0.2),
    row(granularity="block", options={"block": [8, 8]}, sparsity=0.9, mean=0.7),
]


def test_the_dense_control_is_a_level_and_no_series():
    info = figures.get_tradeoff_info(ROWS)
    assert info.dense == 0.92
    assert "dense" not in [series.method for series in info.series]
    assert [series.title for series in info.series] == [
        "Single weights · Magnitude (L1)",
        "Single weights · Random",
        "Blocks 8 × 8 · Magnitude (L1)",
    ]


def test_without_times_the_front_is_of_sparsity_and_accuracy():
    info = figures.get_tradeoff_info(ROWS)
    front = {(s.method, s.granularity, p.sparsity) for s in info.series for p in s.points if p.front}
    assert front == {("magnitude", "weight", 0.5), ("magnitude", "weight", 0.9)}
    assert not info.timed


def test_times_are_added_over_layers_and_averaged_over_seeds():
    times = [time(10.0), time(20.0, layer="conv2.weight"), time(30.0, seed=1), time(20.0, "x", seed=1)]
    times[3] = time(20.0, layer="conv2.weight", seed=1)
    info = figures.get_tradeoff_info(ROWS, times)
    points = {p.sparsity: p.time for p in info.series[0].points}
    assert points == {0.5: None, 0.9: pytest.approx(40.0)}
    assert info.dense_time == pytest.approx(180.0)
    assert "fc1 and conv2" in info.timed
    assert "N = 128" in info.timed


def test_with_times_the_fast_point_is_on_the_front_and_the_untimed_are_not():
    info = figures.get_tradeoff_info(ROWS, [time(10.0), time(50.0, sparsity=0.5)])
    front = {p.sparsity for s in info.series for p in s.points if p.front}
    assert front == {0.5, 0.9}
    assert all(p.time is not None for s in info.series for p in s.points if p.front)


def test_all_n_to_m_points_make_one_series():
    rows = [row(granularity="nm", sparsity=1 - n / m, options={"nm": [n, m]}) for n, m in ((2, 4), (1, 4))]
    assert len(figures.get_tradeoff_info(rows).series) == 1


@pytest.mark.parametrize(("dark", "timed"), list(product((False, True), repeat=2)))
def test_the_figure_has_both_panels_and_the_baseline(dark, timed):
    info = figures.get_tradeoff_info(ROWS, [time(10.0)] if timed else [], "Top-1 accuracy", 0.1)
    figure = figures.plot_tradeoff(info, dark)
    named = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert named == [*(series.title for series in info.series), "Pareto front"]
    random = next(trace for trace in figure.data if "Random" in trace.name)
    assert random.line.dash == "dot"
    notes = [note.text for note in figure.layout.annotations]
    assert "Dense control 92.0 %" in notes
    assert "Chance 10.0 %" in notes
    assert ("Dense kernels 90.0 µs" in notes) == timed
    assert ("µs" in str(figure.layout.to_plotly_json().get("xaxis2"))) == timed
    assert list(figure.data[0].error_y.array) == [0.01, 0.01]


def test_nothing_to_show_is_said():
    info = figures.get_tradeoff_info([])
    assert "no operating points" in figures.tradeoff_caption(info)
    assert len(figures.plot_tradeoff(info).data) == 0


@given(st.lists(st.tuples(st.integers(1, 99), st.integers(0, 100)), min_size=1, max_size=20))
def test_no_point_beats_one_of_the_front(pairs):
    rows = [row(sparsity=s / 100, mean=a / 100) for s, a in pairs]
    points = [p for series in figures.get_tradeoff_info(rows).series for p in series.points]
    assert any(point.front for point in points)
    for best in (point for point in points if point.front):
        assert not any(
            p.sparsity >= best.sparsity
            and p.mean >= best.mean
            and (p.sparsity, p.mean) != (best.sparsity, best.mean)
            for p in points
        )
