"""The accuracies of several versions come from one job, in order and with progress."""

import numpy as np

from csbviz.models import load_sample
from csbviz.models.accuracy_job import accuracies
from csbviz.models.evaluate import weights_for_accuracy


def test_versions_are_told_apart():
    weights = weights_for_accuracy(load_sample("fashion_cnn"))
    blank = {name: np.zeros_like(values) for name, values in weights.items()}
    steps = []
    found = accuracies({"trained": weights, "blank": blank}, lambda part, text: steps.append((part, text)))
    assert found["trained"] > 0.85
    assert found["blank"] == 0.1
    parts = [part for part, _ in steps]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert steps[0][1].startswith("trained: ")
    assert steps[-1][1].startswith("blank: ")
