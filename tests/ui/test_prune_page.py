"""The page Prune: units, criteria that need data, weights made here; the cards below it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz.pruning.evidence import Evidence
from csbviz.pruning.registry import GRANULARITIES, METHODS
from csbviz.ui.components import jobs
from csbviz.ui.settings import MAX_GROUP, MAX_UNIT, Settings, from_query, to_query
from tests.ui.conftest import App, matrix_bytes

CNN = {"model": "fashion_cnn", "method": "magnitude"}


def values(test) -> dict[str, str]:
    return {metric.label: metric.value for metric in test.metric}


@given(
    st.builds(
        Settings,
        method=st.sampled_from([*METHODS, "trained", "none"]),
        granularity=st.sampled_from(list(GRANULARITIES)),
        nm=st.integers(1, MAX_GROUP).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m))),
        unit=st.none() | st.tuples(st.integers(1, MAX_UNIT), st.integers(1, MAX_UNIT)),
    )
)
def test_units_and_criteria_are_in_the_link(settings):
    assert from_query(to_query(settings)) == (settings, [])


@pytest.mark.parametrize(
    ("query", "field", "used"),
    [
        ({"nm": "9:4"}, "nm", (4, 4)),
        ({"nm": "0:4"}, "nm", (1, 4)),
        ({"nm": "2:4000"}, "nm", (2, MAX_GROUP)),
        ({"nm": "two"}, "nm", (2, 4)),
        ({"unit": "0x9"}, "unit", (1, 9)),
        ({"unit": "8"}, "unit", None),
        ({"granularity": "atoms"}, "granularity", "weight"),
        ({"method": "magic"}, "method", None),
    ],
)
def test_units_that_cannot_be_are_one_sentence(query, field, used):
    settings, notes = from_query(query)
    assert getattr(settings, field) == used
    assert len(notes) == 1


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_granularity_shows_a_mask_or_says_why_not(granularity):
    scope = "global" if granularity == "layer" else "layer"
    app = App(CNN | {"granularity": granularity, "layer": "conv2.weight", "sparsity": "60", "scope": scope})
    test = app.open("prune")
    if granularity == "head":
        assert "cannot be pruned like this" in test.warning[0].value
    else:
        assert " stayed " in app.words
        assert len(test.get("plotly_chart")) == 2
        assert not test.warning


def test_n_to_m_decides_the_sparsity_and_is_seen_from_near():
    app = App(CNN)
    test = app.open("prune")
    test.selectbox(key="w.granularity").set_value("nm")
    test = app.run()
    assert test.slider(key="w.sparsity").disabled
    assert values(test)["Pruned layers"] == "50.0 %"
    assert "Rows **0–47**" in app.words
    test.number_input(key="w.nm.0").set_value(1)
    test = app.run()
    assert values(test)["Pruned layers"] == "75.0 %"
    assert app.query()["nm"] == "1:4"
    test.selectbox(key="w.granularity").set_value("weight")
    app.run()
    assert "rows" not in app.query()


def test_blocks_follow_the_csb_layout_until_they_are_chosen():
    app = App(CNN | {"granularity": "block", "block": "16x32"})
    test = app.open("prune")
    assert "As the CSB layout: 16 × 32" in test.toggle(key="w.unit.auto").label
    assert test.number_input(key="w.unit.0").disabled
    test.toggle(key="w.unit.auto").set_value(False)
    app.run()
    test.number_input(key="w.unit.0").set_value(4)
    test = app.run()
    assert app.query()["unit"] == "4x32"
    assert "in blocks 4 × 32" in app.words


def test_the_units_follow_to_the_layout():
    app = App(CNN | {"granularity": "filter", "scope": "layer", "sparsity": "50", "layer": "conv2.weight"})
    app.open("layout")
    assert "50.0 % sparse · pruned by magnitude in filters, each layer" in app.words


def test_a_criterion_that_needs_data_asks_for_it_and_then_prunes(monkeypatch):
    taken = []
    monkeypatch.setattr(jobs, "hand_in", lambda *args, **more: taken.append((args, more)))
    app = App(CNN | {"method": "wanda", "scope": "layer"})
    test = app.open("prune")
    assert values(test)["Weights kept"] == "421,408"
    test.button(key="collect").click()
    test = app.run()
    (name, _, function, kwargs, _), more = taken[0]
    assert function == "csbviz.pruning.evidence:collect_for"
    assert kwargs["task"] == "fashion"
    norms = {layer: np.ones(w.reshape(len(w), -1).shape[1]) for layer, w in kwargs["weights"].items()}
    outcome = {"about": more["about"], "result": Evidence({}, norms, {}, 512, "x")}
    test.session_state[f"csbviz.job.{name}.done"] = outcome
    test = app.run()
    assert not test.warning
    assert values(test)["Pruned layers"] == "90.0 %"


def test_a_criterion_without_data_for_the_model_says_so(app):
    app.open("model")
    app.upload("tiny.npz", matrix_bytes())
    test = app.open("prune")
    test.selectbox(key="w.method").set_value("taylor")
    test = app.run()
    assert "there is no data for this model" in app.words
    app.open("sparsity")
    assert "must look at data first" in app.words


def test_a_link_to_weights_of_another_session_is_explained():
    app = App(CNN | {"method": "trained"})
    app.open("layout")
    assert "No network was trained from this model in this session" in app.words
    assert "as loaded" in app.words


@pytest.mark.parametrize("method", ["finetune", "variational"])
def test_training_is_handed_in_and_its_weights_reach_the_other_pages(method, monkeypatch):
    from csbviz.pruning.training import Trained

    taken = []
    monkeypatch.setattr(jobs, "hand_in", lambda *args, **more: taken.append((args, more)))
    app = App(CNN | {"sparsity": "80"})
    test = app.open("prune")
    test.selectbox(key="w.training.method").set_value(method)
    app.run()
    test.button(key="train").click()
    test = app.run()
    (name, _, function, kwargs, _), more = taken[0]
    assert function == "csbviz.pruning.training:train"
    assert more["background"]
    assert kwargs["checkpoint"]
    assert kwargs["settings"].get("sparsity") == (0.8 if method == "finetune" else None)
    weights = {
        layer: np.where(np.arange(w.size).reshape(w.shape) % 2, w, 0)
        for layer, w in kwargs["weights"].items()
    }
    curve = [{"step": 0, "loss": None, "accuracy": 0.9, "sparsity": 0.5}]
    facts = {"top1": 0.9, "examples": 10}
    trained = Trained("fashion", method, {}, weights, {}, curve, facts, facts, 0.5, {}, 1, 1.0, 1.0)
    test.session_state[f"csbviz.job.{name}.done"] = {"about": more["about"], "result": trained}
    test = app.run()
    test.button(key="use.trained").click()
    test = app.run()
    assert app.query()["method"] == "trained"
    assert values(test)["Whole model"] == "50.0 %"
    app.open("layout")
    assert "sparse · trained here" in app.words


def test_the_compressed_file_can_be_had(monkeypatch):
    taken = []
    monkeypatch.setattr(jobs, "hand_in", lambda *args, **more: taken.append((args, more)))
    app = App(CNN)
    test = app.open("prune")
    test.button(key="compress").click()
    test = app.run()
    (name, _, function, kwargs, _), more = taken[0]
    assert function == "csbviz.pruning.compression:compress_stages"
    assert kwargs["sparsity"] is None
    assert kwargs["linear_bits"] == 5
    layer = dict.fromkeys(("nnz", "centroids", "code_bits", "gap_bits", "bytes_dense", "bytes"), 1)
    stages = [{"title": t, "bytes": b, "metrics": {}} for t, b in (("Dense", 1000), ("Huffman-coded", 50))]
    result = {"model": "m", "metric": None, "stages": stages, "layers": [{"name": "a", **layer}]}
    outcome = {"about": more["about"], "result": {**result, "exact": True, "file": b"x"}}
    test.session_state[f"csbviz.job.{name}.done"] = outcome
    app.run()
    assert "20\\.0× smaller" in app.words
    assert "bit for bit" in app.words
