"""What is collected of the data equals what NumPy finds, however the examples are cut into batches."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import InputError, MatrixError, OptionError
from csbviz.pruning import evidence
from csbviz.pruning.evidence import KINDS, collect, collect_for, inputs_of
from csbviz.tasks import Network, task_named
from tests.pruning import toy_task


def network(seed=0):
    return toy_task.network(toy_task.first_weights(seed))


def in_batches(size):
    """The toy task with its examples in batches of this size."""

    def calibration(count, seed):
        ((inputs, targets),) = toy_task.calibration(count, seed)
        return list(zip(inputs.split(size), targets.split(size), strict=True))

    return dataclasses.replace(toy_task.toy_task(), calibration=calibration)


def inputs_by_hand(network, images):
    """The inputs of both layers as matrices, by loops over the windows."""
    padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
    windows = [padded[:, r : r + 3, c : c + 3].reshape(-1, 9) for r in range(6) for c in range(6)]
    with torch.no_grad():
        hidden = torch.relu(network.module.conv(torch.from_numpy(images))).flatten(1).numpy()
    return {"conv.weight": np.concatenate(windows), "fc.weight": hidden}


@pytest.mark.parametrize("size", [1, 7, 64])
def test_norms_and_moments_equal_those_of_numpy(size):
    net, images = network(), toy_task.data(0)[0][:20]
    found = collect(in_batches(size), net, ("input_norms", "second_moments"), count=20)
    assert found.examples == 20
    assert found.gradients == {}
    for name, x in inputs_by_hand(net, images).items():
        x = x.astype(np.float64)
        norms, moments = found.input_norms[name], found.second_moments[name]
        assert norms.dtype == moments.dtype == np.float32
        np.testing.assert_allclose(norms, np.linalg.norm(x, axis=0), rtol=1e-5)
        np.testing.assert_allclose(moments, x.T @ x, rtol=1e-4, atol=1e-5 * np.abs(x.T @ x).max())
        np.testing.assert_allclose(moments, moments.T, rtol=1e-5, atol=1e-5 * moments.max())


def test_gradients_are_those_of_the_mean_loss_whatever_the_batches():
    one, several = (collect(in_batches(size), network(), ("gradients",), 20) for size in (20, 6))
    assert set(one.gradients) == set(toy_task.NAMES)
    for name in toy_task.NAMES:
        assert one.gradients[name].shape == toy_task.SHAPES[name]
        scale = np.abs(one.gradients[name]).max()
        np.testing.assert_allclose(one.gradients[name], several.gradients[name], atol=1e-5 * scale)


def test_the_network_is_left_as_it_was_and_the_evidence_is_the_same_again():
    task, net = in_batches(16), network()
    net.module.train()
    before = net.weights()
    seen = []
    first = collect(task, net, KINDS, 40, progress=lambda *step: seen.append(step))
    again = collect(task, net, KINDS, 40)
    assert net.module.training
    assert all(parameter.grad is None for parameter in net.parameters.values())
    assert not net.module.conv._forward_pre_hooks
    for name, array in net.weights().items():
        np.testing.assert_array_equal(array, before[name])
    for kind in KINDS:
        for name, array in getattr(first, kind).items():
            np.testing.assert_array_equal(array, getattr(again, kind)[name])
            assert not array.flags.writeable
    assert seen == [
        (0.4, "16 of 40 examples"),
        (0.8, "32 of 40 examples"),
        (1.0, "40 of 40 examples"),
    ]
    assert "40 training examples" in first.source
    copy = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(copy.gradients["fc.weight"], first.gradients["fc.weight"])


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@given(
    st.integers(1, 3),
    st.sampled_from([(2, 2, 1), (2, 4, 2), (4, 4, 4)]),
    st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)),
    st.sampled_from([0, 1, "same", "valid"]),
    st.sampled_from(["zeros", "circular", "reflect"]),
    st.integers(1, 300),
    st.integers(0, 1000),
)
def test_windows_times_weight_is_the_convolution(dims, channels, sizes, padding, mode, piece, seed):
    (into, out, groups), (size, step, apart) = channels, sizes
    if padding == "same":
        step = 1
    torch.manual_seed(seed)
    kind = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[dims - 1]
    conv = kind(into, out, size, step, padding, apart, groups, bias=False, padding_mode=mode).double()
    x = torch.randn(2, into, *(7 - dim for dim in range(dims)), dtype=torch.float64)
    before, evidence._PIECE = evidence._PIECE, piece
    try:
        rows = torch.cat(list(inputs_of(conv, x)))
    finally:
        evidence._PIECE = before
    right = conv(x)
    weight = conv.weight.detach().reshape(groups, out // groups, -1)
    made = torch.einsum("pgc,goc->pgo", rows.reshape(-1, groups, rows.shape[1]), weight).reshape(-1, out)
    np.testing.assert_allclose(made, right.detach().movedim(1, -1).reshape(-1, out), atol=1e-12)


def test_what_no_product_reads_has_no_norms():
    module = torch.nn.ModuleDict({"table": torch.nn.Embedding(5, 3), "out": torch.nn.Linear(3, 2)})
    module.forward = lambda x: module["out"](module["table"](x))
    unused = torch.nn.Parameter(torch.ones(2, 2))
    named = {"table": module["table"].weight, "out": module["out"].weight, "unused": unused}
    net = Network(module, named, {"out": module["out"]}, {"out": 1})
    task = dataclasses.replace(
        toy_task.toy_task(lambda net, x, y: net.module(x).square().mean()),
        calibration=lambda count, seed: [(torch.arange(5), torch.zeros(5))],
    )
    found = collect(task, net, KINDS)
    assert set(found.input_norms) == set(found.second_moments) == {"out"}
    assert set(found.gradients) == {"table", "out"}


def test_a_layer_of_too_many_inputs_has_no_moments(monkeypatch):
    monkeypatch.setattr(evidence, "MOST_INPUTS", 100)
    found = collect(toy_task.toy_task(), network(), ("second_moments", "input_norms"), 8)
    assert set(found.second_moments) == {"conv.weight"}
    assert set(found.input_norms) == set(toy_task.NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needs": ("luck",)}, "'luck' cannot be collected"),
        ({"count": 0}, "count of the examples is 0"),
        ({"count": 2.5}, "count of the examples is 2.5"),
        ({"seed": -1}, "seed of the examples is -1"),
    ],
)
def test_what_cannot_be_asked(change, message):
    with pytest.raises(OptionError, match=message):
        collect(toy_task.toy_task(), network(), **{"needs": ("gradients",), **change})


def test_a_task_without_training_data_or_loss_says_so():
    task = toy_task.toy_task()
    with pytest.raises(InputError, match="no training data for Toy network"):
        collect(dataclasses.replace(task, calibration=None), network(), ("input_norms",))
    with pytest.raises(InputError, match="no loss for Toy network"):
        collect(dataclasses.replace(task, loss=None), network(), ("gradients",))
    assert collect(dataclasses.replace(task, loss=None), network(), ("input_norms",), 8).input_norms


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_are_not_finite_are_refused_and_the_network_stays_usable(kind):
    net = network()
    with torch.no_grad():
        net.module.conv.weight.mul_(1e30)
        net.module.fc.weight.mul_(1e30)
    with pytest.raises(MatrixError, match="are not finite on the calibration data"):
        collect(toy_task.toy_task(), net, (kind,), 8)
    assert not net.module.fc._forward_pre_hooks


def test_a_job_names_the_task():
    task = task_named("fashion")
    if task.available():
        pytest.skip(task.available())
    weights = {name: np.full(shape, 0.01, np.float32) for name, shape in task.shapes.items()}
    found = collect_for("fashion", weights, ("input_norms",), 16, 1, lambda *step: None)
    assert {name: array.shape for name, array in found.input_norms.items()} == {
        "conv1.weight": (9,),
        "conv2.weight": (288,),
        "fc1.weight": (3136,),
        "fc2.weight": (128,),
    }
    assert found.source == "16 training examples of Fashion-MNIST CNN, drawn with the seed 1."
