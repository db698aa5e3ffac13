"""Laws of pruning: exact counts, kept values untouched, nothing kept is less important than what went."""

import itertools
import json
import math
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import save as save_safetensors

from csbviz.errors import InputError, MatrixError, OptionError
from csbviz.models import load_model, load_sample
from csbviz.pruning import GRANULARITIES, METHODS, default_layers, prune_array, prune_model

PLAIN = sorted(name for name, method in METHODS.items() if not method.needs)  # that need no data
SPARSITIES = st.floats(0, 1, exclude_max=True)
FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


@st.composite
def arrays(draw, dtype=None):
    """Finite weights; few different values on purpose, so that ties, zeros and negative zeros are common."""
    dtype = np.dtype(dtype or draw(FLOATS))
    shape = draw(
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=5) | hnp.array_shapes(max_dims=2, max_side=20)
    )
    width = 8 * dtype.itemsize
    few = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -2.0])
    any_value = st.floats(allow_nan=False, allow_infinity=False, width=width)
    return draw(hnp.arrays(dtype, shape, elements=draw(st.sampled_from([few, any_value]))))


@st.composite
def models(draw):
    """Models of two to four weights and a bias, in mixed types."""
    tensors = {"bias": torch.ones(3)}
    for index in range(draw(st.integers(2, 4))):
        dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
        values = draw(arrays(np.float16))
        tensors[f"layer{index}.weight"] = torch.from_numpy(values.reshape(-1, values.shape[-1])).to(dtype)
    return load_model(save_safetensors(tensors), "net.safetensors")


def zeros_of(array):
    return array.size - np.count_nonzero(array)


def expected_zeros(size, sparsity, zeros):
    return max(min(round(sparsity * size), size - 1), zeros)


def bits(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


@given(arrays(), st.sampled_from(PLAIN), SPARSITIES, st.integers(0, 2**40))
def test_counts_are_exact_and_kept_values_are_bit_equal(weight, method, sparsity, seed):
    before = weight.copy()
    pruned, mask = prune_array(weight, method, sparsity, seed)
    assert zeros_of(pruned) == expected_zeros(weight.size, sparsity, zeros_of(weight))
    assert abs(np.count_nonzero(~mask) - sparsity * weight.size) <= 1
    assert pruned.dtype == weight.dtype
    np.testing.assert_array_equal(bits(pruned[mask]), bits(before[mask]))
    assert not pruned[~mask].any()
    np.testing.assert_array_equal(bits(weight), bits(before))


@given(arrays(), SPARSITIES)
def test_no_pruned_magnitude_exceeds_a_kept_one(weight, sparsity):
    _, mask = prune_array(weight, "magnitude", sparsity)
    if (~mask).any() and mask.any():
        assert np.abs(weight[~mask]).max() <= np.abs(weight[mask]).min()


@given(models(), st.sampled_from(PLAIN), st.sampled_from(["global", "layer"]), SPARSITIES)
def test_models_obey_the_same_laws_over_all_their_layers(model, method, scope, sparsity):
    pruned = prune_model(model, method, scope, sparsity)
    pairs = [
        (model.layer(x.name).tensor.data, pruned.model.layer(x.name).tensor.data) for x in pruned.per_layer
    ]
    for old, new in pairs:
        changed = old != new
        assert not new[changed].any()  # whatever differs, bit for bit, is +0 now
    sizes = [layer.size for layer in model.prunable_layers()]
    zeros = [layer.size - layer.nnz for layer in model.prunable_layers()]
    left = [layer.size - layer.nnz for layer in pruned.per_layer]
    if scope == "global":
        assert sum(left) == expected_zeros(sum(sizes), sparsity, sum(zeros))
    else:
        assert left == [
            expected_zeros(*facts) for facts in zip(sizes, [sparsity] * len(sizes), zeros, strict=True)
        ]
    np.testing.assert_array_equal(pruned.model.layer("bias").weight(), model.layer("bias").weight())
    for row in pruned.per_layer:
        layer = pruned.model.layer(row.name)
        assert (row.rows, row.cols, row.size, row.nnz) == (layer.rows, layer.cols, layer.size, layer.nnz)
        assert row.sparsity == 1 - row.nnz / row.size


@given(models(), SPARSITIES)
def test_global_magnitude_has_one_threshold_for_the_whole_model(model, sparsity):
    pruned = prune_model(model, "magnitude", "global", sparsity).model
    gone, kept = [0.0], [math.inf]
    for layer in model.prunable_layers():
        old, new = np.abs(layer.weight().astype(np.float64)), pruned.layer(layer.name).weight()
        gone.append(old[(new == 0) & (old != 0)].max(initial=0))
        kept.append(old[new != 0].min(initial=math.inf))
    assert max(gone) <= min(kept)


@given(arrays(), st.lists(SPARSITIES, min_size=2, max_size=5), st.sampled_from(PLAIN))
def test_more_sparsity_keeps_a_subset(weight, sparsities, method):
    kept = [prune_array(weight, method, sparsity)[1] for sparsity in sorted(sparsities)]
    for more, fewer in itertools.pairwise(kept):
        assert not (fewer & ~more).any()


@given(arrays(), SPARSITIES, st.sampled_from(PLAIN))
def test_pruning_again_to_the_same_sparsity_changes_nothing(weight, sparsity, method):
    once, _ = prune_array(weight, method, sparsity)
    twice, _ = prune_array(once, method, sparsity)
    np.testing.assert_array_equal(bits(twice), bits(once))


def test_ties_fall_on_the_first_layer_and_position():
    ones = save_safetensors({"a": torch.ones(2, 3), "b": torch.ones(2, 2)})
    pruned = prune_model(load_model(ones, "x.safetensors"), sparsity=0.7).model
    assert pruned.layer("a").nnz == 0
    np.testing.assert_array_equal(pruned.layer("b").weight(), [[0, 1], [1, 1]])
    _, mask = prune_array(np.ones((2, 3)), sparsity=0.5)
    np.testing.assert_array_equal(mask, [[False] * 3, [True] * 3])


def test_a_layer_is_never_emptied_by_itself():
    for sparsity in (0.9, 0.999, math.nextafter(1, 0)):
        pruned, _ = prune_array(np.arange(1.0, 5.0), sparsity=sparsity)
        np.testing.assert_array_equal(pruned, [0, 0, 0, 4])


def test_zeros_that_are_there_count():
    weight = np.array([0, 3.0, -0.0, 1, 2, 0])
    for method in PLAIN:
        pruned, _ = prune_array(weight, method, 0.5)
        np.testing.assert_array_equal(bits(pruned), bits(weight))
    pruned, _ = prune_array(weight, "magnitude", 4 / 6)
    np.testing.assert_array_equal(pruned, [0, 3, 0, 0, 2, 0])
    assert np.signbit(pruned[2])


def test_random_follows_the_seed_and_is_fair():
    weight = np.ones((100, 100))
    first, again, other = (prune_array(weight, "random", 0.75, seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.count_nonzero(first != other) > 3000
    kept = sum(prune_array(weight, "random", 0.75, seed)[1] for seed in range(200))
    # 200 draws of a quarter each: mean 50, standard deviation 6.1; rows and columns average it out
    assert abs(kept.mean() - 50) < 1e-9
    for axis in (0, 1):
        assert np.abs(kept.mean(axis) - 50).max() < 6.1 / 10 * 5


def test_the_draw_of_a_layer_does_not_depend_on_the_others():
    model = load_model(save_safetensors({"a": torch.ones(20, 20), "b": torch.ones(20, 20)}), "x.safetensors")
    both = prune_model(model, "random", "layer", 0.5).model
    alone = prune_model(model, "random", "layer", 0.5, layers=["b"]).model
    np.testing.assert_array_equal(both.layer("b").weight(), alone.layer("b").weight())
    assert (both.layer("a").weight() != both.layer("b").weight()).any()


def test_bfloat16_arrays_are_pruned_in_their_own_type():
    weight = np.array([1.0, -0.25, 3.0, 0.5], ml_dtypes.bfloat16)
    pruned, mask = prune_array(weight, sparsity=0.5)
    assert pruned.dtype == weight.dtype
    np.testing.assert_array_equal(pruned.astype(np.float32), [1, 0, 3, 0])
    np.testing.assert_array_equal(mask, [True, False, True, False])


@pytest.fixture(scope="module")
def mixed():
    generator = torch.Generator().manual_seed(0)
    return load_model(
        save_safetensors(
            {
                "embed.weight": 0.001 * torch.randn(50, 8, generator=generator),
                "fc.weight": torch.randn(8, 8, generator=generator),
                "conv.weight": torch.randn(4, 2, 3, 3, generator=generator),
                "lstm.weight_hh": torch.randn(8, 4, generator=generator),
                "fc.bias": torch.randn(8, generator=generator),
            }
        ),
        "mixed.safetensors",
    )


def test_embeddings_are_left_out_unless_they_are_named_or_alone(mixed):
    assert set(default_layers(mixed)) == {"fc.weight", "conv.weight", "lstm.weight_hh"}
    rows = {row.name: row for row in prune_model(mixed, sparsity=0.5).per_layer}
    assert rows["embed.weight"].locked
    assert rows["embed.weight"].nnz == 400
    named = prune_model(mixed, sparsity=0.5, layers=["embed.weight"])
    assert {row.name for row in named.per_layer if not row.locked} == {"embed.weight"}
    alone = load_model(save_safetensors({"embed.weight": torch.ones(4, 4)}), "x.safetensors")
    assert default_layers(alone) == ("embed.weight",)


def test_sparsity_over_pruned_and_over_all_layers(mixed):
    pruned = prune_model(mixed, sparsity=0.5, layers=["fc", "conv.weight"])
    assert pruned.sparsity == 68 / 136
    assert pruned.total_sparsity == pytest.approx(68 / (400 + 64 + 72 + 32))


def test_names_may_come_as_labels_in_any_order_or_alone(mixed):
    first = prune_model(mixed, sparsity=0.5, layers=["fc.weight", "conv.weight"])
    second = prune_model(mixed, sparsity=0.5, layers=("conv", "fc", "fc"))
    assert first.settings == second.settings
    assert first.model.digest == second.model.digest
    assert prune_model(mixed, layers="fc").settings["layers"] == ["fc.weight"]


@pytest.mark.parametrize("layers", [None, ["fc.weight", "embed.weight"]])
@pytest.mark.parametrize("method", PLAIN)
def test_settings_reproduce_the_model(mixed, method, layers):
    pruned = prune_model(mixed, method, "global", np.float32(0.3), layers=layers, seed=np.int64(7))
    settings = json.loads(json.dumps(pruned.settings))
    again = prune_model(mixed, **settings)
    assert again.model.digest == pruned.model.digest != mixed.digest
    assert again.model.to_bytes() == pruned.model.to_bytes()
    assert again.settings == settings


def test_every_setting_changes_the_digest(mixed):
    changes = [
        {},
        {"method": "random"},
        {"scope": "layer"},
        {"sparsity": 0.8},
        {"seed": 1},
        {"layers": ["fc"]},
    ]
    digests = {prune_model(mixed, **{"sparsity": 0.9, **change}).model.digest for change in changes}
    assert len(digests) == len(changes)


def test_a_saved_model_says_how_it_was_pruned(mixed, tmp_path):
    pruned = prune_model(mixed, "random", "layer", 0.25, seed=3)
    pruned.model.save(tmp_path / "pruned.safetensors")
    again = load_model(tmp_path / "pruned.safetensors")
    assert again.history == ({"step": "prune", **pruned.settings},)
    assert [(x.name, x.nnz, x.dtype) for x in again.layers] == [
        (x.name, x.nnz, x.dtype) for x in pruned.model.layers
    ]
    twice = prune_model(again, sparsity=0.5)
    assert len(twice.model.history) == 2


def test_the_original_model_is_not_changed(mixed):
    before = mixed.to_bytes()
    prune_model(mixed, sparsity=0.9)
    assert mixed.to_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 1}, "sparsity 1 "),
        ({"sparsity": -0.1}, "sparsity"),
        ({"sparsity": 90}, "0 ≤ sparsity < 1"),
        ({"sparsity": float("nan")}, "sparsity"),
        ({"sparsity": "0.9"}, "sparsity"),
        ({"sparsity": True}, "sparsity"),
        ({"sparsity": None}, "sparsity"),
        ({"method": "guess"}, "magnitude, random"),
        ({"method": ["magnitude"]}, "method"),
        ({"scope": "model"}, "global, layer"),
        ({"granularity": "atom"}, "granularity"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"seed": True}, "seed"),
        ({"layers": []}, "no layer is chosen"),
    ],
)
def test_options_that_cannot_be(mixed, options, words):
    with pytest.raises(OptionError, match=words) as caught:
        prune_model(mixed, **options)
    assert str(caught.value).endswith(".")


def test_layers_that_cannot_be_pruned(mixed):
    with pytest.raises(InputError, match="no layer 'fc9'"):
        prune_model(mixed, layers=["fc9"])
    with pytest.raises(InputError, match="cannot be pruned"):
        prune_model(mixed, layers=["fc.bias"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite(bad):
    weight = torch.ones(3, 3)
    weight[1, 1] = bad
    model = load_model(save_safetensors({"a": torch.ones(2, 2), "b": weight}), "x.safetensors")
    with pytest.raises(MatrixError, match="layer 'b'"):
        prune_model(model)
    assert prune_model(model, layers=["a"]).sparsity == 0.75
    with pytest.raises(MatrixError, match="finite"):
        prune_array(weight.numpy())


@pytest.mark.parametrize("array", [np.ones((2, 2), int), np.array(["a"]), np.array([None])])
def test_arrays_of_other_types(array):
    with pytest.raises(MatrixError, match="floating-point"):
        prune_array(array)


def test_registries_describe_themselves():
    for registry in (METHODS, GRANULARITIES):
        for name, entry in registry.items():
            assert entry.name == name
            assert entry.title
            assert entry.summary.endswith(".")
    assert METHODS["random"].seeded
    assert not METHODS["magnitude"].seeded


def test_memory_stays_within_two_copies_of_the_weights():
    weight = torch.randn(1500, 1000, generator=torch.Generator().manual_seed(0))
    model = load_model(save_safetensors({"a": weight, "b": weight.clone()}), "x.safetensors")
    size = sum(layer.nbytes for layer in model.layers)
    tracemalloc.start()
    for method in PLAIN:
        tracemalloc.reset_peak()
        begin, _ = tracemalloc.get_traced_memory()
        prune_model(model, method, sparsity=0.9)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - begin <= 2.05 * size, method
    tracemalloc.stop()


def test_one_shot_pruning_of_the_sample_keeps_its_accuracy_at_a_half():
    from csbviz.tasks.accuracy import accuracy

    cnn = load_sample("fashion_cnn")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a loaded machine two wait for each other most of the time
    dense, half = (
        accuracy(model, limit=1000)["top1"] for model in (cnn, prune_model(cnn, sparsity=0.5).model)
    )
    torch.set_num_threads(threads)
    assert half > dense - 0.01
