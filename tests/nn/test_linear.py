"""CSBLinear on the CPU: products, gradients, training, state, and what it says of bad input."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from csbviz.bench.verify import ERROR_BOUNDS, relative_error
from csbviz.errors import MatrixError, OptionError
from csbviz.formats import CSBMatrix
from csbviz.nn import CSBLinear

LAYOUTS = ("tokens_first", "features_first")


def make_pair(
    out_features=37, in_features=29, *, bias=True, dtype=torch.float64, density=0.3, seed=0, **options
):
    """A CSBLinear and a dense layer of the same weights, with a mask whose rows 3 and columns 5 are empty."""
    torch.manual_seed(seed)
    dense = torch.nn.Linear(in_features, out_features, bias, dtype=dtype)
    mask = torch.rand(out_features, in_features) < density
    mask[3] = False
    mask[:, 5] = False
    with torch.no_grad():
        dense.weight.mul_(mask)
    options.setdefault("block_shape", 16)
    return CSBLinear.from_linear(dense, mask, **options), dense, mask


def assert_exact(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Hold a result against that of float64 layers, by the bound of its type."""
    assert found.shape == exact.shape
    assert exact.dtype == torch.float64
    bound = ERROR_BOUNDS["fp32" if found.dtype == torch.float32 else "fp64"]
    assert relative_error(found.detach().cpu().numpy(), exact.detach().cpu().numpy()) <= bound


def gradients(layer, X, G):
    """Y, and the gradients of X and of the parameters by name."""
    X = X.detach().requires_grad_()
    Y = layer(X)
    names = [name for name, _ in layer.named_parameters()]
    found = torch.autograd.grad(Y, (X, *layer.parameters()), G)
    return Y, found[0], dict(zip(names, found[1:], strict=True))


def at_stored(layer, dense_gradient):
    """A dense gradient of the weights at the layer's stored positions."""
    rows, columns = layer.matrix.coordinates()
    return dense_gradient[rows, columns]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rest", [(), (1,), (7,), (130,), (3, 5), (2, 1, 4), (0,), (4, 0)])
def test_it_computes_what_the_masked_dense_layer_does(rest, bias, dtype, layout):
    layer, dense, _ = make_pair(bias=bias, dtype=dtype, layout=layout)
    X, G = torch.randn(*rest, 29, dtype=dtype), torch.randn(*rest, 37, dtype=dtype)
    Y, dX, others = gradients(dense.double(), X.double(), G.double())
    if layout == "features_first":
        to_layout = lambda tensor: tensor.movedim(-1, 0)  # noqa: E731
    else:
        to_layout = lambda tensor: tensor  # noqa: E731
    found, found_dX, found_others = gradients(layer, to_layout(X), to_layout(G))
    assert found.is_contiguous()
    assert_exact(found, to_layout(Y))
    assert_exact(found_dX, to_layout(dX))
    assert_exact(found_others["values"], at_stored(layer, others["weight"]))
    assert found_others.keys() == {"values", "bias"} if bias else {"values"}
    if bias:
        assert_exact(found_others["bias"], others["bias"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ["row", "col", "morton"])
@pytest.mark.parametrize("tokens", [1, 6])
def test_gradcheck(tokens, order, layout):
    layer, _, _ = make_pair(10, 8, order=order, layout=layout, block_shape=4)
    shape = (tokens, 8) if layout == "tokens_first" else (8, tokens)
    X = torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    def function(X, values, bias):
        return torch.func.functional_call(layer, {"values": values, "bias": bias}, (X,))

    arguments = X, layer.values.detach().requires_grad_(), layer.bias.detach().requires_grad_()
    assert torch.autograd.gradcheck(function, arguments)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("index", ["split", "packed"])
def test_weights_may_be_a_view_or_packed(index, transposed):
    rng = np.random.default_rng(0)
    S = sp.random(40, 24, density=0.2, format="csr", rng=rng)
    A = CSBMatrix.from_scipy(S, block_shape=(8, 16), index=index)
    A, W = (A.T, S.T) if transposed else (A, S)
    layer = CSBLinear(A)
    X = torch.from_numpy(rng.standard_normal((6, W.shape[1])))
    G = torch.from_numpy(rng.standard_normal((6, W.shape[0])))
    Y, dX, others = gradients(layer, X, G)
    weight = torch.from_numpy(W.toarray())
    torch.testing.assert_close(Y, X @ weight.T)
    torch.testing.assert_close(dX, G @ weight)
    torch.testing.assert_close(others["values"], at_stored(layer, G.T @ X))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_activations_may_have_any_strides(layout):
    layer, dense, _ = make_pair(layout=layout)
    wide = torch.randn(11, 58, dtype=torch.float64)
    for X in (wide[:, ::2], wide[:, :29].t().contiguous().t(), wide[:1, :29].expand(5, 29)):
        expected = dense(X)
        found = layer(X) if layout == "tokens_first" else layer(X.t()).t()
        torch.testing.assert_close(found, expected)


def test_a_gradient_may_have_any_strides():
    layer, dense, _ = make_pair()
    X = torch.randn(4, 29, dtype=torch.float64)
    for G in (
        torch.ones(1, 1, dtype=torch.float64).expand(4, 37),
        torch.randn(37, 4, dtype=torch.float64).t(),
    ):
        _, dX, others = gradients(layer, X, G)
        _, expected, expected_others = gradients(dense, X, G)
        torch.testing.assert_close(dX, expected)
        torch.testing.assert_close(others["values"], at_stored(layer, expected_others["weight"]))


@pytest.mark.parametrize("needed", ["X", "values", "bias", "none"])
def test_only_the_gradients_that_are_wanted_are_computed(needed, monkeypatch):
    import csbviz.nn.product as product

    calls = []
    real_multiply, real_sddmm = product._multiply, product.sddmm
    monkeypatch.setattr(
        product,
        "_multiply",
        lambda A, B: (calls.append("A.T" if A.transposed else "A"), real_multiply(A, B))[1],
    )
    monkeypatch.setattr(product, "sddmm", lambda *a, **k: (calls.append("sampled"), real_sddmm(*a, **k))[1])
    layer, _, _ = make_pair()
    layer.values.requires_grad_(needed == "values")
    layer.bias.requires_grad_(needed == "bias")
    X = torch.randn(4, 29, dtype=torch.float64, requires_grad=needed == "X")
    Y = layer(X)
    assert Y.requires_grad == (needed != "none")
    if needed != "none":
        Y.sum().backward()
    assert calls == {"X": ["A", "A.T"], "values": ["A", "sampled"]}.get(needed, ["A"])
    for name, tensor in (("X", X), ("values", layer.values), ("bias", layer.bias)):
        assert (tensor.grad is not None) == (name == needed)


def test_without_gradients_nothing_is_kept():
    layer, dense, _ = make_pair()
    X = torch.randn(4, 29, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        Y = layer(X)
    assert not Y.requires_grad
    torch.testing.assert_close(Y, dense(X).detach())


def test_a_second_derivative_is_refused():
    layer, _, _ = make_pair()
    X = torch.randn(4, 29, dtype=torch.float64, requires_grad=True)
    (dX,) = torch.autograd.grad(layer(X).square().sum(), X, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dX.sum().backward()


def test_training_gives_the_weights_of_the_masked_dense_layer():
    layers, others = [], []
    for seed, (rows, columns) in enumerate(((40, 24), (8, 40))):
        layer, dense, mask = make_pair(rows, columns, dtype=torch.float32, seed=seed)
        layers.append(layer)
        others.append((dense, mask))
    sparse = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1])
    dense = torch.nn.Sequential(others[0][0], torch.nn.Tanh(), others[1][0])
    steps = [
        torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=1e-3)
        for model in (sparse, dense)
    ]
    X, target = torch.randn(64, 24), torch.randn(64, 8)
    losses = []
    for _ in range(30):
        for model, optimizer in ((sparse, steps[0]), (dense, steps[1])):
            optimizer.zero_grad()
            loss = (model(X) - target).square().mean()
            loss.backward()
            if model is dense:
                for layer, mask in others:
                    layer.weight.grad.mul_(mask)
            optimizer.step()
            losses.append(loss.item())
    assert losses[-2] < 0.8 * losses[0]
    for layer, (other, _) in zip(layers, others, strict=True):
        torch.testing.assert_close(layer.to_linear().weight, other.weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(layer.bias, other.bias, rtol=1e-4, atol=1e-6)


def test_the_values_are_stored_once_and_a_step_is_seen():
    S = sp.random(40, 24, density=0.2, format="csr", rng=np.random.default_rng(0))
    A = CSBMatrix.from_scipy(S, block_shape=8)
    layer = CSBLinear(A)
    assert layer.values.data_ptr() == A.values.ctypes.data == layer.matrix.values.ctypes.data
    X = torch.ones(3, 24, dtype=torch.float64)
    before, plans = layer(X).detach(), dict(layer.matrix.cache["plans"])
    with torch.no_grad():
        layer.values.mul_(2)
    torch.testing.assert_close(layer(X).detach(), 2 * before)
    assert dict(layer.matrix.cache["plans"]) == plans  # nothing was planned anew
    np.testing.assert_allclose(A.to_dense(), 2 * S.toarray())


def test_a_frozen_layer_lets_kernels_look_at_its_values():
    """The cache says so, and starts anew when the values change all the same."""
    layer, dense, _ = make_pair(bias=False)
    X = torch.randn(3, 29, dtype=torch.float64)
    assert layer.matrix.cache["values_change"]
    layer.requires_grad_(False)
    matrix = layer.matrix
    assert not matrix.cache["values_change"]
    layer(X)
    assert layer.matrix is matrix
    layer.values.mul_(2)
    assert layer.matrix is not matrix
    torch.testing.assert_close(layer(X), 2 * dense(X).detach())
    layer.requires_grad_(True)
    assert layer.matrix.cache["values_change"]


def test_inference_mode():
    layer, dense, _ = make_pair()
    X = torch.randn(3, 29, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(layer(X), dense(X))
        torch.testing.assert_close(CSBLinear.from_linear(dense)(X), dense(X))


def test_values_that_moved_are_found():
    layer, dense, _ = make_pair(bias=False)
    X = torch.randn(3, 29, dtype=torch.float64)
    layer(X)
    layer.values.data = 3 * layer.values.data
    torch.testing.assert_close(layer(X), 3 * dense(X))
    layer.values = torch.nn.Parameter(torch.zeros_like(layer.values))
    assert not layer(X).any()
    layer.values.data = torch.zeros(2 * layer.nnz, dtype=torch.float64)[::2]  # not contiguous
    assert not layer(X).any()
    layer.values.data = torch.zeros(3, dtype=torch.float64)
    with pytest.raises(MatrixError, match=rf"The values have shape \(3,\); the structure has {layer.nnz}"):
        layer(X)


def test_a_step_between_forward_and_backward_is_refused():
    layer, _, _ = make_pair()
    Y = layer(torch.randn(3, 29, dtype=torch.float64))
    with torch.no_grad():
        layer.values.add_(1)
    with pytest.raises(RuntimeError, match="were changed in place"):
        Y.sum().backward()


def test_a_matrix_from_protected_memory_is_copied():
    S = sp.random(40, 24, density=0.2, format="csr", rng=np.random.default_rng(0))
    A = CSBMatrix.from_scipy(S, block_shape=8)
    for array in (A.values, A.row_ind, A.col_ind, A.blk_ptr):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = CSBLinear(A)
        layer.state_dict()
    with torch.no_grad():
        layer.values.zero_()
    assert not layer(torch.ones(1, 24, dtype=torch.float64)).any()
    assert A.values.any()


def test_a_compiled_model_runs_the_layer_beside_its_graphs():
    layer, dense, _ = make_pair()
    relu = torch.nn.ReLU()
    compiled = torch.compile(torch.nn.Sequential(layer, relu), backend="eager")
    X = torch.randn(4, 29, dtype=torch.float64)
    for _ in range(2):
        Y = compiled(X)
        torch.testing.assert_close(Y, relu(dense(X)))
    Y.sum().backward()
    assert layer.values.grad is not None


# ---- conversions -------------------------------------------------------------------------------------------


def test_from_linear_prunes_the_smallest_weights():
    dense = torch.nn.Linear(40, 30)
    layer = CSBLinear.from_linear(dense, sparsity=0.9)
    assert layer.nnz == 120
    assert layer.sparsity == pytest.approx(0.9)
    kept = layer.matrix.to_dense() != 0
    weights = dense.weight.detach().abs().numpy()
    assert weights[kept].min() >= weights[~kept].max()
    np.testing.assert_array_equal(layer.matrix.to_dense()[kept], dense.weight.detach().numpy()[kept])


def test_from_linear_stores_what_the_mask_says_zeros_included():
    dense = torch.nn.Linear(5, 4, bias=False)
    torch.nn.init.zeros_(dense.weight)
    mask = torch.eye(4, 5, dtype=torch.bool)
    layer = CSBLinear.from_linear(dense, mask)
    assert layer.nnz == 4
    assert layer.bias is None
    assert CSBLinear.from_linear(dense).nnz == 0
    np.testing.assert_array_equal(np.sort(layer.matrix.coordinates()[1]), np.arange(4))


def test_there_and_back():
    layer, dense, _ = make_pair(dtype=torch.float32)
    back = layer.to_linear()
    assert isinstance(back, torch.nn.Linear)
    assert torch.equal(back.weight, dense.weight)
    assert torch.equal(back.bias, dense.bias)
    assert back.weight.data_ptr() != dense.weight.data_ptr()
    assert layer.bias.data_ptr() != dense.bias.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_another_dtype(dtype):
    layer, dense, _ = make_pair(dtype=torch.float32)
    assert CSBLinear.from_linear(dense.to(dtype)).values.dtype == dtype
    layer.to(dtype)
    assert layer.matrix.dtype == str(dtype).removeprefix("torch.")
    torch.testing.assert_close(layer.to_linear().weight, dense.to(dtype).weight)


def test_double_after_use():
    layer, dense, _ = make_pair(dtype=torch.float32)
    layer(torch.ones(2, 29))
    X = torch.randn(2, 29, dtype=torch.float64)
    torch.testing.assert_close(layer.double()(X), dense.double()(X))


# ---- state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("index", ["split", "packed"])
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_dict_brings_structure_and_values(assign, index, transposed):
    rng = np.random.default_rng(1)
    A = CSBMatrix.from_scipy(sp.random(40, 24, density=0.2, format="csr", rng=rng), (8, 16), "morton", index)
    layer = CSBLinear(A.T if transposed else A, torch.randn(24 if transposed else 40))
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = CSBLinear.blank(layer.in_features, layer.out_features, dtype=torch.float64)
    other(torch.ones(1, layer.in_features, dtype=torch.float64))
    assert not other.load_state_dict(state, assign=assign).missing_keys
    assert other.matrix.transposed == transposed
    assert other.matrix.order == layer.matrix.order
    assert (other.matrix.stored.packed_ind is None) == (index == "split")
    X = torch.randn(5, layer.in_features, dtype=torch.float64)
    assert torch.equal(other(X), layer(X))
    gradients(other, X, torch.ones(5, layer.out_features, dtype=torch.float64))


def test_a_state_dict_of_a_model_and_16_bit_indices():
    big = sp.random(400, 600, density=0.01, format="csr", rng=np.random.default_rng(0))
    model = torch.nn.Sequential(CSBLinear(CSBMatrix.from_scipy(big, block_shape=512)), torch.nn.ReLU())
    assert model[0].matrix.row_ind.dtype == np.uint16
    other = torch.nn.Sequential(CSBLinear.blank(600, 400, False, torch.float64), torch.nn.ReLU())
    assert not any(other.load_state_dict(model.state_dict()))
    assert (other[0].matrix.to_scipy() != big).nnz == 0


def test_loading_the_same_structure_keeps_memory_and_optimizer():
    layer, _, _ = make_pair()
    parameter, address = layer.values, layer.values.data_ptr()
    state = copy.deepcopy(layer.state_dict())
    with torch.no_grad():
        layer.values.zero_()
    layer.load_state_dict(state)
    assert layer.values is parameter
    assert layer.values.data_ptr() == address
    assert torch.equal(layer.values, state["values"])


def broken_states():
    """Name, change of a state dict, and the complaint."""

    def entry(name, value):
        return lambda state: state.__setitem__(name, value(state[name]))

    return {
        "no structure": (lambda state: state.pop("layout"), "needs the tensors layout"),
        "no pointers": (lambda state: state.pop("blk_ptr"), "needs the tensors layout"),
        "no columns": (lambda state: state.pop("col_ind"), "needs row_ind and col_ind"),
        "no values": (lambda state: state.pop("values"), "the values are missing"),
        "too few values": (entry("values", lambda v: v[1:]), "the values are of shape"),
        "an index outside": (entry("row_ind", lambda v: v | 128), "row_ind holds"),
        "another version": (entry("layout", lambda v: v + 1), "version 1 of it is understood"),
        "an index dtype": (entry("row_ind", lambda v: v.to(torch.int64)), "row_ind is 1-D int64"),
        "falling pointers": (entry("blk_ptr", lambda v: v.flip(0)), "not sound"),
    }


@pytest.mark.parametrize("name", broken_states())
def test_a_broken_state_dict_is_refused(name):
    change, complaint = broken_states()[name]
    layer, dense, _ = make_pair()
    state = copy.deepcopy(layer.state_dict())
    change(state)
    with pytest.raises((RuntimeError, ValueError), match=complaint):
        layer.load_state_dict(state)
    X = torch.randn(2, 29, dtype=torch.float64)
    torch.testing.assert_close(layer(X), dense(X))  # as it was


def test_a_state_dict_of_another_size_is_refused():
    layer, _, _ = make_pair()
    with pytest.raises(RuntimeError, match="the weights are 37 x 29; the layer has 29 x 37"):
        CSBLinear.blank(37, 29).load_state_dict(layer.state_dict())


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_have_memory_of_their_own(how):
    layer, dense, _ = make_pair()
    X = torch.randn(2, 29, dtype=torch.float64)
    layer(X)
    other = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    with torch.no_grad():
        other.values.zero_()
        other.bias.zero_()
    assert not other(X).any()
    torch.testing.assert_close(layer(X), dense(X))


# ---- what it says ------------------------------------------------------------------------------------------


def test_its_name_says_what_it_holds():
    layer, _, _ = make_pair(block_shape=(16, 32))
    text = repr(layer)
    assert text.startswith(f"CSBLinear(in_features=29, out_features=37, nnz={layer.nnz}, sparsity=0.")
    assert text.endswith("block_shape=(16, 32), bias=True)")
    assert "layout" not in text
    layer, _, _ = make_pair(bias=False, layout="features_first")
    assert repr(layer).endswith("bias=False, layout='features_first')")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: CSBLinear(np.eye(3)), MatrixError, "The weights are a ndarray; a CSBMatrix is needed"),
        (lambda: CSBLinear(CSBMatrix.from_dense(np.eye(3)), np.ones(4)), MatrixError, r"needed is \(3,\)"),
        (lambda: make_pair(layout="sideways"), OptionError, "no layout 'sideways'"),
        (
            lambda: CSBLinear.from_linear(torch.nn.Linear(3, 2), torch.ones(2, 3)),
            MatrixError,
            r"float32 of shape \(2, 3\); needed is bool",
        ),
        (
            lambda: CSBLinear.from_linear(torch.nn.Linear(3, 2), torch.ones(3, 2, dtype=torch.bool)),
            MatrixError,
            r"needed is bool of shape \(2, 3\)",
        ),
        (
            lambda: CSBLinear.from_linear(
                torch.nn.Linear(3, 2), torch.ones(2, 3, dtype=torch.bool), sparsity=0.5
            ),
            OptionError,
            "Both a mask and a sparsity",
        ),
        (lambda: make_pair()[0](torch.ones(2, 30)), MatrixError, r"\(2, 30\); the layer needs 29 features"),
        (lambda: make_pair()[0](torch.tensor(1.0)), MatrixError, "needs 29 features in the last"),
        (
            lambda: make_pair(layout="features_first")[0](torch.ones(2, 29)),
            MatrixError,
            "needs 29 features in the first",
        ),
        (lambda: make_pair()[0](torch.ones(2, 29)), MatrixError, "float32 but the matrix holds float64"),
        (lambda: make_pair()[0].to("meta")(torch.ones(2, 29, device="meta")), OptionError, "lives on meta"),
    ],
)
def test_bad_input_is_one_sentence(make, error, message):
    with pytest.raises(error, match=message):
        make()
