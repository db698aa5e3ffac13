"""The accuracy of a user's own ONNX model: upload both files, measure, keep what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from csbviz.models import load_model
from csbviz.tasks.own import measure_versions
from tests.models.onnx_networks import CLASSES, SIDE, cnn
from tests.ui.conftest import App, weights_bytes
from tests.ui.test_results import Service


class Running(Service):
    """Runs the job that is handed in, at once and here."""

    def submit(self, spec):
        assert spec.function == "csbviz.tasks.own:measure_versions"
        self.result = measure_versions(**spec.kwargs, progress=lambda fraction, message: None)
        return super().submit(spec)


@pytest.fixture
def service(monkeypatch):
    """The service of these tests."""
    running = Running()
    monkeypatch.setattr("csbviz.service.get_service", lambda: running)
    return running


def own(test):
    """The upload of data on the page."""
    return next(each for each in test.file_uploader if each.label == "Inputs and labels (.npz)")


def data_bytes(**changes):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((60, 1, SIDE, SIDE)).astype(np.float32)
    return weights_bytes(**{"inputs": images, "labels": rng.integers(0, CLASSES, 60)} | changes)


def opened(name="net.onnx", content=None):
    app = App()
    app.open("model")
    app.upload(name, content or cnn())
    return app, app.open("prune")


def test_both_files_give_the_accuracy_before_and_after(service):
    app, test = opened()
    assert not [button for button in test.button if button.key == "measure.own"]
    own(test).upload("data.npz", data_bytes())
    test = app.run()
    assert "60 examples" in app.words
    test.button(key="measure.own").click()
    test = app.run()
    values = {metric.label: metric.value for metric in test.metric}
    spec = service.specs[0]
    assert list(spec.kwargs["versions"]) == ["as loaded", "magnitude 90 %, whole model"]
    pruned = spec.kwargs["versions"]["magnitude 90 %, whole model"]
    whole = {layer.name for layer in load_model(cnn(), "net.onnx").prunable_layers()}
    assert set(pruned) == whole
    for version, title in (("as loaded", "As loaded"), ("magnitude 90 %, whole model", "Pruned")):
        for metric, words in (("top1", "top-1"), ("top5", "top-5")):
            assert values[f"{title}, {words}"] == f"{100 * service.result[version][metric]:.2f} %"
    assert test.button(key="measure.own").disabled
    own(test).upload("bad.npz", data_bytes(labels=np.zeros((60, CLASSES))))
    test = app.run()
    assert "argmax" in app.words
    assert "60 examples" in app.words


def test_data_that_does_not_fit_is_said_on_the_page(service):
    app, test = opened()
    own(test).upload("data.npz", data_bytes(inputs=np.zeros((60, 3, SIDE, SIDE), np.float32)))
    app.run()
    assert "the model takes (examples, 1, 8, 8)" in app.words.replace("\\", "")
    assert not service.specs


def test_other_models_are_told_what_is_needed():
    app, test = opened("net.npz", weights_bytes(**{"fc.weight": np.ones((8, 8), np.float32)}))
    assert "Open it as an .onnx file" in app.words
    assert not [each for each in test.file_uploader if each.label.startswith("Inputs")]


def test_samples_have_data_of_their_own():
    app = App({"model": "fashion_cnn"})
    app.open("prune")
    assert "Accuracy on your own data" not in app.words
