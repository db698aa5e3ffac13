"""The accuracy of any model that there is data for, and of several versions of one in one job."""

import numpy as np
import pytest

from csbviz.errors import InputError, JobCancelled, OptionError, UnavailableError
from csbviz.models import load_model, load_sample
from csbviz.tasks import TASKS, fashion
from csbviz.tasks.accuracy import accuracy, measurable_task, measure_versions
from tests.models.model_files import file_bytes


@pytest.fixture(scope="module")
def cnn():
    return load_sample("fashion_cnn")


def test_versions_are_told_apart(cnn):
    weights = TASKS["fashion"].weights_of(cnn)
    blank = {name: np.zeros_like(values) for name, values in weights.items()}
    steps = []
    found = measure_versions(
        "fashion",
        {"trained": weights, "blank": blank},
        lambda part, text: steps.append((part, text)),
        limit=2000,
    )
    assert found["trained"]["top1"] > 0.85
    assert found["blank"]["top1"] == np.mean(fashion.load_test_set()[1][:2000] == 0)  # every guess is class 0
    assert {result["examples"] for result in found.values()} == {2000}
    parts = [part for part, _ in steps]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert steps[0][1].startswith("trained: ")
    assert steps[-1][1].startswith("blank: ")


def test_a_job_of_an_unknown_task_says_which_there_are(cnn):
    with pytest.raises(OptionError, match="fashion"):
        measure_versions("nope", {}, lambda *_: None)


def test_accuracy_ends_when_progress_says_so(cnn):
    def cancel(fraction, message):
        raise JobCancelled("The job was cancelled.")

    with pytest.raises(JobCancelled):
        accuracy(cnn, progress=cancel)


def test_other_models_have_no_accuracy(cnn):
    other = load_model(file_bytes(".npz"), "x.npz")
    assert measurable_task(cnn) is TASKS["fashion"]
    assert measurable_task(other) is None
    with pytest.raises(InputError, match="cannot be measured"):
        accuracy(other)


def test_missing_test_data_is_named(cnn, monkeypatch, tmp_path):
    monkeypatch.setattr(fashion, "SAMPLES_DIR", tmp_path)
    fashion.load_test_set.cache_clear()
    assert measurable_task(cnn) is None
    with pytest.raises(UnavailableError, match=r"fashion_mnist_test\.npz is missing"):
        accuracy(cnn)
