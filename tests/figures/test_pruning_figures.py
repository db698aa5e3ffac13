"""The course of a training, the stages of Deep Compression, and the candidates of the coarse search."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz import figures

CURVE = [
    {"step": 0, "accuracy": 0.9, "sparsity": 0.0, "loss": None},
    {"step": 50, "accuracy": 0.6, "sparsity": 0.5, "loss": 0.8},
    {"step": 100, "accuracy": 0.88, "sparsity": 0.9, "loss": 0.5},
]
STAGES = [
    {"title": "Dense", "bytes": 100_000, "metrics": {"top1": 0.92}},
    {"title": "Pruned", "bytes": 20_000, "metrics": {"top1": 0.91}},
    {"title": "Huffman-coded", "bytes": 4_000, "metrics": {"top1": 0.905}},
]


@pytest.mark.parametrize("dark", [False, True])
def test_the_axis_of_steps_is_as_long_as_the_training_from_the_start(dark):
    info = figures.get_training_curve_info(CURVE[:1], 400, before=0.91)
    figure = figures.plot_training_curve(info, dark)
    assert list(figure.layout.xaxis.range) == [0, 400]
    assert [trace.name for trace in figure.data] == ["Accuracy", "Sparsity", "Loss"]
    assert "Before training" in [note.text for note in figure.layout.annotations]
    assert len({trace.line.dash for trace in figure.data[:2]}) == 2  # not told apart by colour alone


def test_the_caption_says_how_far_the_cuts_threw_it_back():
    words = figures.training_curve_caption(figures.get_training_curve_info(CURVE))
    assert "step 100 of 100" in words
    assert "60.0 %" in words
    assert "begins" in figures.training_curve_caption(figures.get_training_curve_info([]))


@pytest.mark.parametrize("dark", [False, True])
def test_stages_are_bars_of_bytes_with_factor_and_accuracy(dark):
    info = figures.get_stages_info(STAGES, "top1")
    assert info.ratios == (1.0, 5.0, 25.0)
    bar = figures.plot_stages(info, dark).data[0]
    assert list(bar.x) == [100.0, 20.0, 4.0]
    assert "25.0× smaller" in bar.text[-1]
    assert "90.50 %" in bar.text[-1]
    assert "−1.50 points" in figures.stages_caption(info)


def test_stages_without_data_say_so():
    info = figures.get_stages_info([stage | {"metrics": {}} for stage in STAGES], None)
    assert info.accuracies == (None, None, None)
    assert "no data" in figures.stages_caption(info)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_best_candidate_has_the_least_error_and_all_are_drawn(errors):
    info = figures.get_candidates_info([{"error": e, "seed": i} for i, e in enumerate(errors)])
    assert info.errors[info.best] == min(errors)
    strip, ring = figures.plot_candidates(info).data
    assert len(strip.x) == len(errors)
    assert ring.x[0] == pytest.approx(100 * min(errors))


def test_no_candidate_yet():
    info = figures.get_candidates_info([])
    assert info.best is None
    assert len(figures.plot_candidates(info).data) == 1
    assert "No candidate" in figures.candidates_caption(info)
