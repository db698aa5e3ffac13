"""Every page draws with the sample model, follows the selection, and survives bad input."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from csbviz.balance import STRATEGIES
from csbviz.ui import data
from tests.ui.conftest import App, matrix_bytes, weights_bytes

MTX = b"%%MatrixMarket matrix coordinate real general\n"
PAGES = {
    "model": "Model",
    "prune": "Prune",
    "accuracy": "Accuracy",
    "sparsity": "Sparsity",
    "layout": "CSB layout",
    "balance": "Balance",
    "run": "Run",
}


def figures(test) -> list[dict]:
    """The Plotly figures on a page, as the browser gets them."""
    return [json.loads(element.proto.spec) for element in test.get("plotly_chart")]


@pytest.mark.parametrize("page", PAGES)
def test_page_draws(app, page):
    test = app.open(page)
    assert test.header[0].value == PAGES[page]
    assert "Fashion" in app.words
    assert test.selectbox(key="w.layer").value == "fc1.weight"
    assert not test.error
    assert not test.warning


def test_the_layer_follows_to_every_page(app):
    test = app.open("model")
    test.selectbox(key="w.layer").select("conv2.weight")
    app.run()
    for page in PAGES:
        test = app.open(page)
        assert test.selectbox(key="w.layer").value == "conv2.weight"
        assert "64 × 288 weights" in app.words
        assert app.query()["layer"] == "conv2.weight"


def test_pruning_shows_on_every_page_and_in_the_link(app):
    test = app.open("prune")
    test.slider(key="w.sparsity").set_value(80.0)
    test = app.run()
    assert "80.0 %" in [metric.value for metric in test.metric]
    assert app.query()["sparsity"] == "80"
    assert "sparse · pruned by magnitude" in "".join(
        markdown.value for markdown in app.open("sparsity").markdown
    )


def test_a_quick_slider_outruns_the_address(app):
    """While a slider moves quickly, the browser still sends the address of a step before."""
    test = app.open("prune")
    before = app.query()
    test.slider(key="w.sparsity").set_value(89.5)
    app.run()
    test.query_params.clear()
    for name, value in before.items():
        test.query_params[name] = value
    test.slider(key="w.sparsity").set_value(89.0)
    app.run()
    assert test.slider(key="w.sparsity").value == 89.0
    assert app.query()["sparsity"] == "89"


def test_an_address_that_was_edited_is_read(app):
    test = app.open("prune")
    test.slider(key="w.sparsity").set_value(80.0)
    app.run()
    test.query_params["sparsity"] = "70"
    app.run()
    assert test.slider(key="w.sparsity").value == 70.0


def test_a_locked_layer_keeps_its_weights(app):
    test = app.open("prune")
    test.multiselect(key="w.locked").set_value(["conv1.weight"])
    test = app.run()
    table = test.dataframe[0].value.set_index("Layer")
    assert table.loc["conv1", "Kept"] == table.loc["conv1", "Weights"]
    assert table.loc["fc1", "Kept"] < table.loc["fc1", "Weights"]


def test_random_pruning_takes_a_seed(app):
    test = app.open("prune")
    test.selectbox(key="w.method").set_value("random")
    test = app.run()
    assert not test.number_input(key="w.seed").disabled
    before = figures(test)
    test.number_input(key="w.seed").set_value(7)
    assert figures(app.run()) != before


def test_as_loaded_is_not_pruned(app):
    test = app.open("prune")
    test.selectbox(key="w.method").set_value("none")
    test = app.run()
    assert "as loaded" in app.words
    assert test.slider(key="w.sparsity").disabled


def test_block_shape_linked_and_rectangular(app):
    test = app.open("layout")
    test.toggle(key="w.block.auto").set_value(False)
    app.run()
    test.toggle(key="w.linked").set_value(True)
    app.run()
    test.select_slider(key="w.block.0").set_value(64)
    test = app.run()
    assert test.select_slider(key="w.block.1").value == 64
    assert app.query()["block"] == "64x64"
    test.toggle(key="w.linked").set_value(False)
    app.run()
    test.select_slider(key="w.block.1").set_value(256)
    app.run()
    assert app.query()["block"] == "64x256"
    test.toggle(key="w.block.auto").set_value(True)
    app.run()
    assert "block" not in app.query()


def test_a_block_can_be_chosen_by_number(app):
    test = app.open("layout")
    test.number_input(key="w.at.1").set_value(3)
    test = app.run()
    assert app.query()["at"].endswith(",3")
    assert "**Block 0, 3**" in app.words


def test_balance_changes_the_simulated_load(app):
    query = {"model": "fashion_cnn", "workers": "7", "block": "8x64", "balance": "in_order"}
    app = App(query)
    test = app.open("balance")
    before = {metric.label: metric.value for metric in test.metric}
    test.radio(key="w.balance").set_value("equal_nnz")
    after = {metric.label: metric.value for metric in app.run().metric}
    assert float(after["λ, imbalance"]) < float(before["λ, imbalance"])
    assert float(after["λ, imbalance"]) == pytest.approx(1.0, abs=0.01)


def test_balance_for_multiprocessors_starts_with_those_of_a_real_gpu(app):
    test = app.open("balance")
    test.segmented_control(key="w.units").set_value("cuda")
    test = app.run()
    assert test.number_input(key="w.workers").value == 132
    assert not test.number_input(key="w.tiles").disabled


def test_a_link_opens_everything_it_names():
    app = App({"model": "fashion_cnn", "layer": "conv2.weight", "block": "16x16", "rows": "0-32"})
    test = app.open("layout")
    assert "blocks 16 × 16" in app.words
    assert "Rows **0–31**" in app.words
    assert test.selectbox(key="w.layer").value == "conv2.weight"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"sparsity": "150"}, "so 99\\.9 is used"),
        ({"block": "48x48"}, "powers of two"),
        ({"layer": "<script>"}, "There is no layer"),
        ({"model": "nothing"}, "cannot be opened"),
        ({"model": "file-0123456789abcdef"}, "upload it here"),
        ({"rows": "0-99999"}, "reach past"),
        ({"rows": "5000-9999"}, "lie outside of the layer's 128, so all are shown"),
        ({"at": "999,999"}, "There is no block"),
        ({"locked": "nothing"}, "does not have"),
        ({"colour": "red"}, "not a setting"),
    ],
)
def test_a_bad_link_is_explained_and_the_page_draws(query, sentence):
    app = App({"model": "fashion_cnn"} | query)
    test = app.run()
    shown = " ".join(warning.value for warning in test.warning)
    assert sentence in shown
    assert "<script>" not in shown
    app.open("layout")
    assert "Fashion" in app.words


def test_an_uploaded_matrix_is_shown_as_loaded(app):
    app.open("model")
    app.upload("tiny.npz", matrix_bytes())
    for page in PAGES:
        test = app.open(page)
        assert "300 × 200 weights" in app.words
        assert "as loaded" in app.words
        assert not test.error


def test_an_uploaded_matrix_can_be_pruned(app):
    app.open("model")
    app.upload("tiny.npz", matrix_bytes())
    test = app.open("prune")
    test.selectbox(key="w.method").set_value("magnitude")
    app.run()
    test.slider(key="w.sparsity").set_value(95.0)
    test = app.run()
    assert [metric.value for metric in test.metric if metric.label == "Weights kept"] == ["3,000"]


def test_names_from_files_are_never_markup(app):
    name = "<img src=x onerror=alert(1)> **b** :red[r]"
    app.open("model")
    app.upload("<b>w</b>.npz", weights_bytes(**{name: np.ones((8, 6), np.float32)}))
    for page in PAGES:
        test = app.open(page)
        spoken = [*test.markdown, *test.caption, *test.success, *test.warning, *test.subheader, *test.header]
        for element in spoken:
            if not element.value.strip().startswith("<style"):
                assert "<img" not in element.value
                assert "<b>" not in element.value
        for figure in figures(test):
            assert "<img" not in json.dumps(figure["layout"])


@pytest.mark.parametrize("page", PAGES)
def test_without_any_model_a_page_says_what_to_do(app, page, monkeypatch):
    missing = tuple(
        dataclasses.replace(sample, available=False, reason="not here") for sample in data.samples()
    )
    monkeypatch.setattr(data, "samples", lambda: missing)
    test = app.open(page)
    assert "No model is open" in [subheader.value for subheader in test.subheader]
    if page == "model":
        assert "not here" in app.words
        app.upload("tiny.npz", matrix_bytes())
        assert "300 × 200 weights" in app.words


def bad_files() -> dict[str, tuple[str, bytes]]:
    """Files that cannot be used, each with what the sentence must speak of."""
    good = matrix_bytes()
    nan = np.ones((4, 4), np.float32)
    nan[0, 0] = np.nan
    return {
        "picture.png": ("endings", b"\x89PNG"),
        "other.safetensors": ("other", b"this is no model at all"),
        "cut.npz": ("cut", good[: len(good) // 2]),
        "evil.pt": ("evil", pickle.dumps(print)),
        "far.mtx": ("far", MTX + b"3 3 1\n9 9 1.0\n"),
        "nan.mtx": ("nan", MTX + b"3 3 1\n1 1 nan\n"),
        "flat.npz": ("flat", weights_bytes(bias=np.ones(4, np.float32))),
        "empty.smtx": ("empty", b""),
    }


@pytest.mark.parametrize("name", bad_files())
def test_a_bad_file_is_one_sentence_and_nothing_is_lost(app, name):
    word, content = bad_files()[name]
    app.open("model")
    app.upload("tiny.npz", matrix_bytes())
    test = app.upload(name, content)
    assert len(test.error) == 1
    sentence = test.error[0].value
    assert word in sentence
    assert "\n" not in sentence
    assert "stays open" in sentence
    assert "300 × 200 weights" in app.words
    assert app.query()["model"].startswith("file-")


def test_a_layer_with_nan_is_explained_and_another_can_be_chosen(app):
    bad = np.ones((40, 30), np.float32)
    bad[0, 0] = np.nan
    app.open("model")
    app.upload("half.npz", weights_bytes(**{"bad.weight": bad, "good.weight": np.eye(20, dtype=np.float32)}))
    test = app.open("sparsity")
    assert any("NaN" in element.value for element in (*test.error, *test.warning))
    test.selectbox(key="w.layer").select("good.weight")
    app.run()
    assert "20 × 20 weights" in app.words


def test_a_huge_sparse_matrix_is_cut_into_blocks_that_a_table_can_hold(app):
    app.open("model")
    app.upload("huge.mtx", MTX + b"3000000 2000000 2\n1 1 1.0\n9 9 1.0\n")
    for page in PAGES:
        app.open(page)
        assert "3,000,000 × 2,000,000 weights" in app.words
    test = app.open("layout")
    test.toggle(key="w.block.auto").set_value(False)
    app.run()
    test.toggle(key="w.linked").set_value(True)
    app.run()
    test.select_slider(key="w.block.0").set_value(4)
    test = app.run()
    assert "too many" in test.warning[0].value


def test_run_page_without_products_says_what_is_missing(app):
    test = app.open("run")
    test.pills(key="w.ops").set_value([])
    test = app.run()
    assert test.button(key="run").disabled
    assert "Choose at least one operation" in app.words


def test_gpu_kernels_are_shown_with_the_reason_why_they_cannot_run(app):
    from csbviz.ops.devices import gpu_state

    name, reason = gpu_state()
    if name:
        pytest.skip(f"this machine has a GPU: {name}")
    test = app.open("run")
    test.segmented_control(key="w.device").set_value("cuda")
    test = app.run()
    assert test.button(key="run").disabled
    assert reason.split(" (")[0].rstrip(".") in app.words.replace("\\", "")


@pytest.mark.parametrize("units", ["cpu", "cuda"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_simulated_for_threads_and_multiprocessors(strategy, units):
    app = App(
        {"model": "fashion_cnn", "layer": "conv2.weight", "units": units, "tiles": "4", "balance": strategy}
    )
    test = app.open("balance")
    assert not test.error
    values = {metric.label: metric.value for metric in test.metric}
    assert float(values["λ, imbalance"]) >= 1
    assert len(figures(test)) == 2
    assert f"Simulated timeline: {STRATEGIES[strategy].title}" in app.words
