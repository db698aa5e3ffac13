"""Models pruned in units: bit-equal, repeatable, explained; methods that need data or change what is kept."""

import dataclasses
import io
import json
import tracemalloc
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse
import torch
from safetensors.torch import save as save_safetensors

from csbviz.errors import InputError, MatrixError, OptionError
from csbviz.models import Model, load_model
from csbviz.models.opened import of_model, open_bytes
from csbviz.models.tensors import StoredTensor
from csbviz.pruning import GRANULARITIES, METHODS, default_layers, masks_for, prune_array, prune_model
from csbviz.pruning.opened import prune_matrix, prune_opened
from csbviz.pruning.registry import Method
from csbviz.pruning.unit_map import unit_map

OPTIONS = {"nm": {"nm": (1, 3)}, "block": {"block": (3, 5)}, "head": {"heads": 4}}


@pytest.fixture(scope="module")
def model():
    """One layer of each kind, in four types."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape, dtype=torch.float32):
        return torch.randn(shape, generator=generator).to(dtype)

    tensors = {
        "attention.self.query.weight": weight(16, 16),
        "attention.self.key.weight": weight(16, 16),
        "attention.self.value.weight": weight(16, 16, dtype=torch.bfloat16),
        "attention.output.dense.weight": weight(16, 16, dtype=torch.float16),
        "attention.output.dense.bias": weight(16),
        "conv.weight": weight(6, 4, 3, 3),
        "conv1d.weight": weight(5, 3, 7, dtype=torch.bfloat16),
        "depthwise.weight": weight(8, 1, 3, 3),
        "embed.weight": weight(20, 7),
        "fc.weight": weight(9, 11, dtype=torch.float64),
        "lstm.weight_hh": weight(8, 2, dtype=torch.float16),
    }
    return load_model(save_safetensors(tensors), "mixed.safetensors")


def bits(layer):
    return layer.tensor.data.view(f"u{layer.tensor.data.dtype.itemsize}")


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("method", ["magnitude", "l2", "random"])
@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
def test_what_stays_is_bit_equal_and_the_masks_are_those_of_masks_for(model, granularity, method, scope):
    if granularity == "layer" and scope == "layer":
        with pytest.raises(OptionError, match='scope "global"'):
            prune_model(model, method, scope, 0.5, granularity=granularity)
        return
    options = OPTIONS.get(granularity)
    pruned = prune_model(model, method, scope, 0.5, seed=3, granularity=granularity, options=options)
    names = default_layers(model)
    arrays = {name: model.layer(name).weight() for name in names}
    kinds = {name: model.layer(name).kind for name in names}
    masks = masks_for(arrays, kinds, method, granularity, 0.5, scope, 3, options)
    assert (
        not any(mask.all() for name, mask in masks.items() if name not in pruned.skipped) or scope == "global"
    )
    for layer in model.layers:
        before, after = bits(layer), bits(pruned.model.layer(layer.name))
        expected = np.where(masks[layer.name], before, 0) if layer.name in masks else before
        np.testing.assert_array_equal(after, expected)
    assert {row.name for row in pruned.per_layer if row.locked} == {"embed.weight", *pruned.skipped}
    assert all(why.endswith(".") for why in pruned.skipped.values())


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
def test_settings_reproduce_the_model_and_options_change_its_digest(model, granularity):
    call = {"method": "random", "sparsity": 0.4, "seed": 5, "granularity": granularity}
    pruned = prune_model(model, **call, options=OPTIONS.get(granularity))
    settings = json.loads(json.dumps(pruned.settings))
    again = prune_model(model, **settings)
    assert again.settings == settings
    assert again.model.to_bytes() == pruned.model.to_bytes()
    assert again.model.digest == pruned.model.digest
    assert pruned.model.history[-1] == {"step": "prune", **settings}
    if granularity in OPTIONS:
        others = {"nm": "2:3", "block": "5x3", "head": 2}
        (name,) = settings["options"]
        other = prune_model(model, **call, options={name: others[granularity]})
        assert other.settings["options"] != settings["options"]
        assert other.model.digest != pruned.model.digest


def test_an_option_alone_says_the_granularity(model):
    one = prune_model(model, sparsity=0.5, granularity={"block": (2, 2)})
    other = prune_model(model, sparsity=0.5, granularity="block", options={"block": "2x2"})
    assert one.model.digest == other.model.digest


def test_the_sparsity_of_n_to_m_follows_from_n_and_m(model):
    first, second = (
        prune_model(model, sparsity=s, granularity="nm", layers=["conv", "fc"]) for s in (0.9, 0.1)
    )
    assert first.settings == second.settings
    assert first.settings["sparsity"] == 0.5
    # 36 columns are nine groups of four; 11 are two and a group of three, which keeps two as well.
    kept = {row.name: row.nnz for row in first.per_layer if not row.locked}
    assert kept == {"conv.weight": 6 * 18, "fc.weight": 9 * 6}
    assert prune_model(model, granularity={"nm": (1, 4)}).settings["sparsity"] == 0.75


def test_kernels_are_those_of_convolutions_alone(model):
    pruned = prune_model(model, sparsity=0.5, granularity="kernel")
    assert {row.name for row in pruned.per_layer if not row.locked} == {
        "conv.weight",
        "conv1d.weight",
        "depthwise.weight",
    }
    assert pruned.skipped["fc.weight"].startswith("a layer of the kind 'linear' has no kernels")
    kernels = {"conv.weight": (24, 9), "conv1d.weight": (15, 7), "depthwise.weight": (8, 9)}
    gone = 0
    for name, shape in kernels.items():
        stays = (pruned.model.layer(name).weight() != 0).reshape(shape)
        assert (stays.all(axis=1) == stays.any(axis=1)).all()
        gone += np.count_nonzero(~stays.any(axis=1))
    assert gone == round(0.5 * (24 + 15 + 8)) == 24
    with pytest.raises(OptionError, match=r"fc.weight is left as it is, because .* no kernels"):
        prune_model(model, granularity="kernel", layers=["fc"])
    pointwise = np.random.default_rng(0).standard_normal((5, 4, 1, 1))
    np.testing.assert_array_equal(
        prune_array(pointwise, granularity="kernel", sparsity=0.6)[0], prune_array(pointwise, sparsity=0.6)[0]
    )


def test_l1_and_l2_differ_where_a_unit_has_one_large_weight():
    weight = np.array([[3, 0, 0, 0], [1, 1, 1, 1]], np.float32)
    for method, row in (("magnitude", 1), ("l2", 0)):
        pruned, _ = prune_array(weight, method, 0.5, granularity="row")
        assert np.flatnonzero(pruned.any(axis=1)) == [row]
    for granularity in ("weight", "nm"):
        one, other = (prune_array(weight, m, 0.5, granularity=granularity)[1] for m in ("magnitude", "l2"))
        np.testing.assert_array_equal(one, other)


def test_units_of_unequal_size_are_compared_by_their_means():
    arrays = {"wide": np.full((1, 100), 0.5, np.float32), "narrow": np.full((3, 2), 0.6, np.float32)}
    kinds = dict.fromkeys(arrays, "linear")
    masks = masks_for(arrays, kinds, granularity="row", sparsity=0.25)
    assert not masks["wide"].any()
    assert masks["narrow"].all()


def test_random_units_have_the_same_chance_whatever_their_size():
    arrays = {"wide": np.ones((50, 40), np.float32), "narrow": np.ones((50, 2), np.float32)}
    kinds = dict.fromkeys(arrays, "linear")
    kept = np.zeros(2)
    for seed in range(100):
        masks = masks_for(arrays, kinds, "random", "row", 0.8, seed=seed)
        kept += [masks["wide"][:, 0].sum(), masks["narrow"][:, 0].sum()]
    # 100 draws of 20 from 100 rows: each layer has 1,000 on average, standard deviation 20
    assert kept.sum() == 2000
    assert abs(kept[0] - 1000) < 100


def test_units_that_are_tiny_are_not_taken_for_zero():
    weight = np.array([[1e-200, 1e-200], [0, 0], [2e-200, 0]])
    for method in ("magnitude", "l2"):
        pruned, _ = prune_array(weight, method, 1 / 3, granularity="row")
        np.testing.assert_array_equal(pruned, weight)
        pruned, _ = prune_array(weight.T, method, 1 / 3, granularity="column")
        np.testing.assert_array_equal(pruned.T, weight)


def test_a_graph_that_keeps_inputs_by_outputs_is_pruned_along_its_inputs():
    weight = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    graph = Model([StoredTensor.of("w", weight, op="matmul")], name="g", digest="0" * 64, source="")
    assert (graph.layer("w").rows, graph.layer("w").cols) == (5, 12)
    pruned = prune_model(graph, granularity="nm").model.layer("w").weight()
    assert ((pruned.reshape(3, 4, 5) != 0).sum(axis=1) == 2).all()
    rows = prune_model(graph, sparsity=0.4, granularity="row").model.layer("w").weight()
    assert sorted((rows != 0).sum(axis=0)) == [0, 0, 12, 12, 12]
    np.testing.assert_array_equal(rows[rows != 0], weight[rows != 0])


def test_masks_of_other_types():
    weight = np.array([[1.0, -0.25], [3.0, 0.5]], ml_dtypes.bfloat16)
    masks = masks_for({"w": weight}, {"w": "linear"}, sparsity=0.5)
    np.testing.assert_array_equal(masks["w"], [[True, False], [True, False]])
    with pytest.raises(MatrixError, match="w has the type int64; floating-point"):
        masks_for({"w": np.ones((2, 2), np.int64)}, {"w": "linear"})


def test_masks_take_a_quarter_of_the_memory_of_the_weights():
    weight = np.random.default_rng(0).standard_normal((1500, 1000)).astype(np.float32)
    for granularity in ("weight", "nm", "block", "row"):
        masks_for({"w": weight}, {"w": "linear"}, granularity=granularity)
        tracemalloc.start()
        masks_for({"w": weight}, {"w": "linear"}, granularity=granularity)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak <= 0.25 * weight.nbytes + (4 << 20), granularity


# ---- methods that need data, or change what is kept --------------------------------------------------------


@pytest.fixture
def data_method(monkeypatch):
    """|w| · ‖x‖ with an update that doubles what is kept, for the engine's part of the work."""

    def scores(weight, rng, evidence):
        assert set(evidence) == {"input_norms", "gradients"}
        assert evidence["gradients"].shape == weight.shape
        return weight * evidence["input_norms"]

    method = Method(
        name="data",
        title="Data",
        summary="For the tests.",
        scores=scores,
        needs=("input_norms", "gradients"),
        update=lambda weight, mask, evidence: 2 * weight,
    )
    monkeypatch.setitem(METHODS, "data", method)
    return method


def evidence_for(model, names, scale=1.0):
    return SimpleNamespace(
        input_norms={name: scale * np.arange(1.0, model.layer(name).cols + 1) for name in names},
        gradients={name: np.zeros(model.layer(name).shape) for name in names},
    )


def test_a_method_gets_the_evidence_of_its_layer_and_may_update(model, data_method):
    pruned = prune_model(
        model, "data", "layer", 0.5, ["fc", "conv"], evidence=evidence_for(model, ["fc.weight"])
    )
    assert pruned.skipped == {
        "conv.weight": "the method data needs the norms of its inputs, which were not collected."
    }
    before, after = model.layer("fc").weight(), pruned.model.layer("fc").weight()
    worth = np.abs(before) * np.arange(1, 12)
    assert worth[after == 0].max() <= worth[after != 0].min()
    assert np.count_nonzero(after == 0) == round(0.5 * 99)
    np.testing.assert_array_equal(after[after != 0], 2 * before[after != 0])
    np.testing.assert_array_equal(bits(pruned.model.layer("conv")), bits(model.layer("conv")))


def test_without_evidence_such_a_method_says_what_is_missing(model, data_method):
    with pytest.raises(InputError, match="norms of its inputs and gradients: collect evidence"):
        prune_model(model, "data")


def test_the_digest_tells_evidence_apart(model, data_method):
    names = ["fc.weight", "conv.weight"]
    one, same, other = (
        prune_model(model, "data", layers=names, evidence=evidence_for(model, names, scale))
        for scale in (1, 1, 2)
    )
    assert one.model.digest == same.model.digest != other.model.digest
    assert one.settings == other.settings
    arrays = {name: model.layer(name).weight() for name in names}
    kinds = {name: model.layer(name).kind for name in names}
    masks = masks_for(arrays, kinds, "data", evidence=evidence_for(model, names))
    for name, mask in masks.items():
        np.testing.assert_array_equal(mask, one.model.layer(name).weight() != 0)


def test_a_single_array_takes_its_evidence_as_arrays(data_method):
    weight = np.array([[4.0, 3.0, 2.0, 1.0]])
    known = {"input_norms": np.array([1, 1, 1, 10]), "gradients": np.zeros((1, 4))}
    pruned, mask = prune_array(weight, "data", 0.5, evidence=known)
    assert mask.tolist() == [[True, False, False, True]]
    assert pruned.tolist() == [[8, 0, 0, 2]]
    with pytest.raises(InputError, match="collect evidence"):
        prune_array(weight, "data")


# ---- opened files and what the picture shows ---------------------------------------------------------------


def test_a_sparse_matrix_loses_whole_blocks():
    matrix = scipy.sparse.random(30, 22, 0.2, "csr", np.float32, np.random.default_rng(4))
    pruned = prune_matrix(matrix, "magnitude", 0.5, granularity={"block": (4, 4)})
    dense, after = matrix.toarray(), pruned.toarray()
    _, mask = prune_array(dense, sparsity=0.5, granularity={"block": (4, 4)})
    np.testing.assert_array_equal(after, np.where(mask, dense, 0))
    assert pruned.nnz == np.count_nonzero(after)


def test_a_matrix_too_large_for_its_zeros_is_refused():
    matrix = scipy.sparse.csr_matrix((1 << 15, 1 << 14), dtype=np.float32)
    with pytest.raises(OptionError, match="too large"):
        prune_matrix(matrix, "magnitude", 0.5, granularity="row")


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
def test_the_map_of_units_agrees_with_the_pruned_weights(model, granularity):
    opened, options = of_model(model), OPTIONS.get(granularity)
    locked = ("lstm.weight_hh", "embed.weight")
    pruned = prune_opened(opened, "l2", "global", 0.5, locked, granularity=granularity, options=options)
    layer = "conv.weight" if granularity == "kernel" else "attention.self.key.weight"
    units = unit_map(opened, pruned, layer, "l2", granularity, options, locked)
    after = pruned.model.layer(layer).matrix()
    assert units.kept.shape == units.scores.shape
    big = np.kron(units.kept, np.ones(units.block, bool))[: after.shape[0], : after.shape[1]]
    np.testing.assert_array_equal(big, after != 0)
    assert units.noun == ("weight" if granularity in ("weight", "nm") else granularity)
    assert units.group == ((1, 3) if granularity == "nm" else None)
    if granularity != "nm" and units.kept.any() and not units.kept.all():
        assert units.scores[~units.kept].max() <= units.scores[units.kept].min()
    with pytest.raises(OptionError, match="is locked"):
        unit_map(opened, pruned, "embed.weight", "l2", granularity, options, locked)


def test_the_map_of_a_matrix_and_of_a_layer_without_units(model):
    file = io.BytesIO()
    matrix = scipy.sparse.random(9, 8, 0.5, "csr", np.float32, np.random.default_rng(4))
    scipy.sparse.save_npz(file, matrix)
    opened = open_bytes(file.getvalue(), "a.npz")
    pruned = prune_opened(opened, "random", sparsity=0.5, granularity="column")
    units = unit_map(opened, pruned, "a.npz", "random", "column")
    np.testing.assert_array_equal(units.kept[0], pruned.matrix.toarray().any(axis=0))
    np.testing.assert_allclose(units.scores[0], np.abs(matrix.toarray()).mean(axis=0), rtol=1e-6)
    opened = of_model(model)
    with pytest.raises(OptionError, match=r"fc.weight stays as it is, because .* no kernels"):
        unit_map(opened, opened, "fc.weight", granularity="kernel")


def test_the_registry_says_what_its_entries_need():
    for method in METHODS.values():
        assert set(method.needs) <= {"gradients", "input_norms", "second_moments"}
        assert method.power in (1, 2)
        assert dataclasses.is_dataclass(method)
    assert METHODS["random"].of_units
    for granularity in GRANULARITIES.values():
        assert set(granularity.options) <= {"nm", "block", "heads"}
