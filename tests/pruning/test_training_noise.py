"""Variational dropout and L0 gates against the integrals and distributions that they stand for."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from csbviz.errors import OptionError
from csbviz.pruning.training import settings_of, train
from csbviz.pruning.training.l0 import L0Gates, chance_open, drawn_gate, settled_gate
from csbviz.pruning.training.noisy import product_of
from csbviz.pruning.training.variational import VariationalDropout, divergence
from csbviz.tasks import Network
from tests.pruning.toy_task import NAMES, first_weights, network, toy_task

LOGS = st.floats(-9, 9)
QUICK = {"epochs": 6, "batch": 16, "threads": 1, "learning_rate": 0.01, "extra_rate": 0.2}


def exact_divergence(log_alpha: float) -> float:
    """KL of N(θ, α θ²) from the log-uniform prior, up to the constant that makes it 0 for endless noise."""
    scale = math.exp(-log_alpha / 2)

    def integrand(z):
        return math.log(abs(scale + z)) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    zero = max(-12.0, -scale)
    mean = quad(integrand, -12, zero, limit=200)[0] + quad(integrand, zero, 12, limit=200)[0]
    return mean + (np.euler_gamma + math.log(2)) / 2


@pytest.mark.parametrize("log_alpha", [-4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0])
def test_the_divergence_is_that_of_the_log_uniform_prior(log_alpha):
    found = float(divergence(torch.tensor(log_alpha, dtype=torch.float64)))
    assert found == pytest.approx(exact_divergence(log_alpha), abs=0.01)


@given(LOGS, LOGS)
def test_noise_never_costs(one, other):
    low, high = (float(divergence(torch.tensor(x, dtype=torch.float64))) for x in sorted((one, other)))
    assert low >= high >= 0


@given(LOGS)
def test_a_gate_is_open_with_the_chance_that_is_paid_for(log_a):
    """Against the exact distribution: a gate is 0 for all u below a threshold, and 1 above another."""
    uniform = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    gates = drawn_gate(torch.tensor(log_a, dtype=torch.float64), uniform)
    assert ((gates >= 0) & (gates <= 1)).all()
    assert (gates.diff() >= 0).all()
    share = float((gates > 0).double().mean())
    assert share == pytest.approx(float(chance_open(torch.tensor(log_a, dtype=torch.float64))), abs=2e-4)


@given(LOGS)
def test_a_settled_gate_closes_only_when_most_drawn_ones_do(log_a):
    settled = settled_gate(torch.tensor(log_a, dtype=torch.float64))
    assert 0 <= settled <= 1
    edge = math.log(1 / 11)  # where sigmoid(log a) * 1.2 = 0.1
    if abs(log_a - edge) > 1e-9:
        assert bool(settled == 0) == (log_a < edge)
    if settled == 0:
        assert drawn_gate(torch.tensor(log_a, dtype=torch.float64), torch.tensor(0.5)) == 0


def made(kind, method):
    toy = network(first_weights())
    return toy, kind(toy_task(), toy, settings_of(method), 100, 192)


@pytest.mark.parametrize("layer", ["conv", "fc"])
def test_variational_dropout_draws_outputs_as_noisy_weights_would(layer):
    """Mean and variance of the drawn outputs are those of a layer whose weights are drawn."""
    toy, method = made(VariationalDropout, "variational")
    part = getattr(toy.module, layer)
    weight, bias = part.weight.detach().double(), part.bias.detach().double()
    method._log_variance[f"{layer}.weight"].data.uniform_(-4, 0)
    variance = method._log_variance[f"{layer}.weight"].detach().exp().double()
    torch.manual_seed(0)
    inputs = torch.randn((1, 1, 6, 6) if layer == "conv" else (1, 144))
    count = 20_000
    with torch.no_grad():
        part.train()
        drawn = torch.cat([part(inputs.expand(500, *inputs.shape[1:])) for _ in range(count // 500)]).double()
        part.eval()
        usual = part(inputs).double()
    x = inputs.double()
    if layer == "conv":
        mean = torch.conv2d(x, weight, bias, padding=1)
        spread = torch.conv2d(x * x, variance, padding=1)
    else:
        mean, spread = x @ weight.T + bias, (x * x) @ variance.T
    assert torch.allclose(usual, mean, atol=1e-5)
    error = (drawn.mean(0) - mean[0]) / (spread[0] / count).sqrt()
    assert error.abs().max() < 5.5
    assert torch.allclose(drawn.var(0), spread[0], rtol=0.06)


def test_a_weight_goes_when_its_noise_is_e_cubed_times_its_square():
    toy, method = made(VariationalDropout, "variational")
    with torch.no_grad():
        toy.parameters["fc.weight"].fill_(0.5)
        log_variance = method._log_variance["fc.weight"]
        log_variance.fill_(math.log(0.25) + 2.99)
        log_variance[0].fill_(math.log(0.25) + 3.01)
    gone = method.gone()["fc.weight"]
    assert gone[0].all()
    assert not gone[1:].any()
    before = toy.parameters["fc.weight"].detach().clone()
    with method.settled():
        assert not toy.parameters["fc.weight"][0].any()
        assert (toy.parameters["fc.weight"][1:] == 0.5).all()
    assert torch.equal(toy.parameters["fc.weight"], before)


def test_gates_multiply_the_weights_and_settle_to_their_means():
    toy, method = made(L0Gates, "l0")
    inputs = torch.ones(1, 144)
    log_a = method._log_a["fc.weight"]
    with torch.no_grad():
        log_a.fill_(50.0)
        log_a[1].fill_(-50.0)
        toy.module.train()
        outputs = toy.module.fc(inputs)[0]
    weight, bias = first_weights()["fc.weight"], first_weights()["fc.bias"]
    wanted = np.where([1, 0, 1], weight.sum(1), 0) + bias
    np.testing.assert_allclose(outputs.numpy(), wanted, rtol=1e-4)
    with method.settled():
        assert not toy.parameters["fc.weight"][1].any()
        np.testing.assert_array_equal(toy.parameters["fc.weight"][0].detach(), weight[0])
    np.testing.assert_array_equal(toy.parameters["fc.weight"].detach(), weight)
    assert method.gone()["fc.weight"][1].all()
    with torch.no_grad():
        log_a.zero_()
    with method.settled():
        np.testing.assert_allclose(toy.parameters["fc.weight"].detach(), weight / 2, rtol=1e-6)


@pytest.mark.parametrize("method", ["variational", "l0"])
def test_a_stronger_penalty_leaves_fewer_weights(method):
    found = [
        train(toy_task(), first_weights(), method, QUICK | {"strength": strength})
        for strength in (0.0, 1.0, 10.0)
    ]
    sparsities = [trained.sparsity for trained in found]
    assert sparsities == sorted(sparsities)
    assert sparsities[-1] > sparsities[0] + 0.3
    assert found[1].after["top1"] > 0.8


def test_the_penalty_warms_up():
    for kind, method in ((VariationalDropout, "variational"), (L0Gates, "l0")):
        toy, sparsifier = made(kind, method)
        assert sparsifier.penalty(0) == 0
        half, whole, later = (float(sparsifier.penalty(step).detach()) for step in (12, 25, 90))
        assert half == pytest.approx(whole * 12 / 25)
        assert whole == later > 0
        assert set(sparsifier.weights) == set(NAMES) <= set(toy.parameters)


def test_layers_that_are_multiplied_otherwise_are_refused():
    toy = network(first_weights())
    bare = Network(toy.module, toy.parameters, {"fc.weight": toy.module.fc}, toy.products)
    with pytest.raises(OptionError, match=r"needs plain linear layers and convolutions, and 'conv.weight'"):
        product_of(bare, "conv.weight", "L0 regularisation")
    product_of(bare, "fc.weight", "L0 regularisation")


@pytest.mark.parametrize("method", ["variational", "l0"])
def test_a_weight_that_no_product_reads_is_left_out_unless_it_is_named(method):
    def without_reader(weights):
        toy = network(weights)
        return Network(toy.module, toy.parameters, {"fc.weight": toy.module.fc}, toy.products)

    task = dataclasses.replace(toy_task(), network=without_reader)
    trained = train(task, first_weights(), method, QUICK | {"epochs": 1})
    assert set(trained.masks) == {"fc.weight"}
    assert trained.weights["conv.weight"].all()
    with pytest.raises(OptionError, match=r"'conv\.weight' is neither"):
        train(task, first_weights(), method, QUICK | {"layers": ["conv.weight"]})
