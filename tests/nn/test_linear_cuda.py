"""CSBLinear on a GPU: the same layer, in the parameter's own memory, on any stream, captured into a graph."""

from __future__ import annotations

import copy

import pytest
import torch

from csbviz.nn import CSBLinear
from tests.nn.test_linear import assert_exact, at_stored, gradients, make_pair

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _cuda():
    if not torch.cuda.is_available():
        pytest.skip("PyTorch was installed without CUDA")


def pair_on_gpu(**options):
    layer, dense, mask = make_pair(**options)
    return layer.cuda(), dense.cuda(), mask.cuda()


def exact_product(dense: torch.nn.Linear, X: torch.Tensor) -> torch.Tensor:
    """What the dense layer gives, in float64."""
    bias = None if dense.bias is None else dense.bias.double()
    return torch.nn.functional.linear(X.double(), dense.weight.double(), bias)


@pytest.mark.parametrize("layout", ["tokens_first", "features_first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rest", [(), (1,), (7,), (132,), (3, 5), (0,)])
def test_it_computes_what_the_masked_dense_layer_does(rest, bias, dtype, layout):
    layer, dense, _ = pair_on_gpu(bias=bias, dtype=dtype, layout=layout)
    X = torch.randn(*rest, 29, dtype=dtype, device="cuda")
    G = torch.randn(*rest, 37, dtype=dtype, device="cuda")
    Y, dX, others = gradients(dense.double(), X.double(), G.double())

    def to_layout(tensor):
        return tensor.movedim(-1, 0) if layout == "features_first" else tensor

    found, found_dX, found_others = gradients(layer, to_layout(X), to_layout(G))
    assert_exact(found, to_layout(Y))
    assert_exact(found_dX, to_layout(dX))
    assert_exact(found_others["values"], at_stored(layer, others["weight"]))
    if bias:
        assert_exact(found_others["bias"], others["bias"])


def test_gradcheck():
    layer, _, _ = pair_on_gpu(out_features=10, in_features=8, block_shape=4)
    X = torch.randn(6, 8, dtype=torch.float64, device="cuda", requires_grad=True)

    def function(X, values, bias):
        return torch.func.functional_call(layer, {"values": values, "bias": bias}, (X,))

    arguments = X, layer.values.detach().requires_grad_(), layer.bias.detach().requires_grad_()
    assert torch.autograd.gradcheck(function, arguments)


def test_the_kernels_read_the_parameter_itself():
    layer, dense, _ = pair_on_gpu(out_features=256, in_features=192, dtype=torch.float32, block_shape=64)
    X = torch.randn(64, 192, device="cuda")
    assert_exact(layer(X), exact_product(dense, X))
    cache = layer.matrix.cache
    (key,) = [key for key in cache if isinstance(key, tuple) and key[0] == "csb_cuda"]
    assert cache[key]["values"].data.ptr == layer.values.data_ptr()
    plans = dict(cache["plans"])
    for _ in range(2):
        with torch.no_grad():
            layer.values.mul_(-1e3)  # the range that a kernel may have looked at changes, too
            dense.weight.mul_(-1e3)
        assert_exact(layer(X), exact_product(dense, X))
    assert dict(layer.matrix.cache["plans"]) == plans  # nothing was planned anew


@pytest.mark.parametrize("density", [0.05, 0.3])
def test_a_frozen_layer_may_take_any_kernel(density):
    layer, dense, _ = pair_on_gpu(
        out_features=320, in_features=256, bias=False, dtype=torch.float32, density=density, block_shape=64
    )
    layer.requires_grad_(False)
    X = torch.randn(512, 256, device="cuda")
    for _ in range(3):
        assert_exact(layer(X), exact_product(dense, X))
        with torch.no_grad():
            layer.values.mul_(1e4)  # out of the range that a kernel may have looked at
            dense.weight.mul_(1e4)
            X /= 1e4


def test_training_gives_the_weights_of_the_masked_dense_layer():
    layer, dense, mask = pair_on_gpu(out_features=128, in_features=96, dtype=torch.float32, block_shape=64)
    models = (layer, dense)
    steps = [torch.optim.Adam(model.parameters(), lr=1e-2) for model in models]
    X, target = torch.randn(200, 96, device="cuda"), torch.randn(200, 128, device="cuda")
    losses = []
    for _ in range(20):
        for model, optimizer in zip(models, steps, strict=True):
            optimizer.zero_grad()
            loss = (model(X) - target).square().mean()
            loss.backward()
            if model is dense:
                dense.weight.grad.mul_(mask)
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    torch.testing.assert_close(layer.to_linear().weight, dense.weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    layer, dense, _ = pair_on_gpu(out_features=256, in_features=192, dtype=torch.float32, block_shape=64)
    layer.to(dtype)
    with torch.no_grad():
        dense.weight.copy_(dense.weight.to(dtype))
    X, G = torch.randn(128, 192, device="cuda").to(dtype), torch.randn(128, 256, device="cuda").to(dtype)
    Y, dX, others = gradients(layer, X, G)
    assert {tensor.dtype for tensor in (Y, dX, *others.values())} == {dtype}
    expected_Y, expected_dX, expected_others = gradients(dense, X.float(), G.float())
    expected_values = at_stored(layer, expected_others["weight"])
    for found, expected in ((Y, expected_Y), (dX, expected_dX), (others["values"], expected_values)):
        bound = 2e-3 if dtype == torch.float16 else 1e-2
        assert torch.linalg.norm(found.float() - expected) <= bound * torch.linalg.norm(expected)


def test_moving_between_devices():
    layer, dense, _ = make_pair()
    X = torch.randn(5, 29, dtype=torch.float64)
    expected = dense(X)
    layer(X)
    for device in ("cuda", "cpu", "cuda"):
        layer.to(device)
        torch.testing.assert_close(layer(X.to(device)).cpu(), expected)
        assert layer.matrix.to_scipy().nnz == layer.nnz
    other = CSBLinear.blank(29, 37, dtype=torch.float64).cuda()
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(X.cuda()).cpu(), expected)
    torch.testing.assert_close(copy.deepcopy(other)(X.cuda()).cpu(), expected)
    assert CSBLinear.from_linear(dense.cuda()).values.is_cuda


def test_forward_and_backward_on_another_stream_and_in_a_graph():
    layer, dense, _ = pair_on_gpu(out_features=256, in_features=192, dtype=torch.float32, block_shape=64)
    X = torch.randn(64, 192, device="cuda")
    G = torch.randn(64, 256, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            gradients(layer, X, G)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            Y, dX, others = gradients(layer, X, G)
    with torch.no_grad():
        layer.values.mul_(2)
        dense.weight.mul_(2)
    X.normal_()
    graph.replay()
    expected_Y, expected_dX, expected_others = gradients(dense, X, G)
    torch.testing.assert_close(Y, expected_Y, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(dX, expected_dX, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(
        others["values"], at_stored(layer, expected_others["weight"]), rtol=2e-5, atol=2e-5
    )
