"""Criteria that look at data, each against a slow reference, and the laws that all of them keep."""

import dataclasses
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from csbviz.pruning import METHODS, masks_for, prune_array
from csbviz.pruning.evidence import collect
from csbviz.pruning.masks import Ranking, view_of
from csbviz.pruning.methods import sparsegpt
from csbviz.pruning.options import granularity_and_options
from tests.pruning import toy_task

ON_DATA = ["taylor", "wanda", "sparsegpt"]
SEEDS = st.integers(0, 2**32 - 1)
SPARSITIES = st.floats(0, 1, exclude_max=True)


def evidence_of(x, gradients=None, shape=None):
    """What `collect` would say of a linear layer with these inputs, (examples, cols)."""
    x = np.asarray(x, np.float64)
    return {
        "gradients": np.ones(shape or (1, x.shape[1])) if gradients is None else gradients,
        "input_norms": np.linalg.norm(x, axis=0),
        "second_moments": (x.T @ x).astype(np.float32),
    }


def needed(method, known):
    return {need: known[need] for need in METHODS[method].needs}


@st.composite
def layers(draw, most=12):
    """A weight with zeros, inputs some of which never come, and gradients."""
    rng = np.random.default_rng(draw(SEEDS))
    rows, cols = draw(st.integers(1, most)), draw(st.integers(1, most))
    weight = rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) < draw(st.sampled_from([0.4, 1])))
    mix = rng.standard_normal((cols, cols)) if draw(st.booleans()) else np.eye(cols)
    x = rng.standard_normal((draw(st.integers(1, 2 * most)), cols)) @ mix
    x *= 10.0 ** rng.integers(-3, 4, cols)
    x[:, rng.random(cols) < draw(st.sampled_from([0, 0.3]))] = 0
    gradients = rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) < 0.8)
    return weight.astype(np.float32), x, evidence_of(x, gradients)


def error(weight, after, x):
    """Squared error of each output."""
    return np.square((after.astype(np.float64) - weight) @ x.T).sum(axis=1)


def damped(x):
    """H as the paper damps it: plus one hundredth of its mean diagonal."""
    moments = x.T @ x
    mean = np.trace(moments) / len(moments)
    return moments + 0.01 * mean * np.eye(len(moments)) if mean > 0 else np.eye(len(moments))


# ---- laws of all ------------------------------------------------------------------------------------------


@given(layers(), st.sampled_from(ON_DATA), SPARSITIES)
def test_counts_are_exact_and_zeros_go_first_and_stay_zero(layer, method, sparsity):
    weight, _, known = layer
    before = weight.copy()
    pruned, mask = prune_array(weight, method, sparsity, evidence=needed(method, known))
    count = min(round(sparsity * weight.size), weight.size - 1)
    assert np.count_nonzero(~mask) == count
    assert not pruned[(weight == 0) | ~mask].any()
    zeros = np.count_nonzero(weight == 0)
    if count <= zeros:
        np.testing.assert_array_equal(pruned, weight)
    else:
        assert mask[weight == 0].sum() == 0
    assert np.isfinite(pruned).all()
    if METHODS[method].update is None:
        np.testing.assert_array_equal(pruned[mask], weight[mask])
    again, _ = prune_array(weight, method, sparsity, evidence=needed(method, known))
    np.testing.assert_array_equal(pruned, again)
    np.testing.assert_array_equal(weight, before)


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-6e4, 6e4, width=16) | st.sampled_from([0.0, 6e-8, 1.0]),
    ),
    st.integers(-36, 36),
    st.integers(-18, 18),
    st.sampled_from(ON_DATA),
    st.sampled_from(["weight", "nm", "block", "filter", "column", "layer"]),
    SEEDS,
)
def test_any_scale_gives_finite_numbers(weight, scale, inputs, method, granularity, seed):
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = weight * weight.dtype.type(10.0**scale)
    weight = np.where(np.isfinite(scaled), scaled, weight).astype(weight.dtype)
    x = np.random.default_rng(seed).standard_normal((3, weight.shape[1])) * 10.0**inputs
    known = evidence_of(x, np.full(weight.shape, 10.0**inputs))
    options = {"block": (2, 2)} if granularity == "block" else None
    pruned, mask = prune_array(
        weight, method, 0.5, granularity=granularity, options=options, evidence=needed(method, known)
    )
    assert pruned.dtype == weight.dtype
    assert np.isfinite(pruned).all()
    assert not pruned[~mask].any()


@pytest.mark.parametrize("method", ON_DATA)
def test_weights_that_nothing_comes_to_go_first(method):
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((8, 10)).astype(np.float32), rng.standard_normal((50, 10))
    x[:, [2, 5, 7]] = 0
    weight[:, [2, 5, 7]] *= 100
    known = evidence_of(x, np.where(np.arange(10) % 5 == 2, 0, rng.standard_normal((8, 10))))
    known["gradients"][:, 5] = 0
    _, mask = prune_array(weight, method, 0.3, evidence=needed(method, known))
    assert not mask[:, [2, 5, 7]].any()
    nothing = evidence_of(np.zeros((4, 10)), np.zeros((8, 10)))
    pruned, mask = prune_array(weight, method, 0.5, evidence=needed(method, nothing))
    assert np.count_nonzero(mask) == 40
    np.testing.assert_array_equal(pruned[mask], weight[mask])  # nothing to make up for


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("granularity", ["weight", {"nm": (2, 4)}, {"block": (2, 2)}, "kernel", "filter"])
@pytest.mark.parametrize("method", ON_DATA)
def test_a_network_is_pruned_in_every_unit(method, granularity, scope):
    net = toy_task.network(toy_task.first_weights())
    known = collect(toy_task.toy_task(), net, METHODS[method].needs, 64)
    weights = {name: net.weights()[name] for name in toy_task.NAMES}
    kinds = {"conv.weight": "conv", "fc.weight": "linear"}
    masks = masks_for(weights, kinds, method, granularity, 0.5, scope, evidence=known)
    gone = {name: np.count_nonzero(~mask) for name, mask in masks.items()}
    if granularity == "weight":
        total = sum(array.size for array in weights.values())
        assert sum(gone.values()) == round(0.5 * total)
        if scope == "layer":
            assert gone == {"conv.weight": 18, "fc.weight": 216}
    if isinstance(granularity, dict) and "nm" in granularity:
        assert masks["fc.weight"].reshape(-1, 4).sum(axis=1).tolist() == [2] * 108
    again = masks_for(weights, kinds, method, granularity, 0.5, scope, evidence=known)
    for name in masks:
        np.testing.assert_array_equal(masks[name], again[name])


def test_methods_say_what_they_do():
    for name in ON_DATA:
        method = METHODS[name]
        assert method.needs
        assert method.reference
        json.dumps([method.title, method.summary, method.needs, method.reference])


# ---- gradient x weight ------------------------------------------------------------------------------------


def change_of_loss(net, name, unit):
    """d loss / d scale of a unit's weights at 1, by central differences in double precision."""
    images, labels = (torch.from_numpy(array[:40]) for array in toy_task.data(0))
    weight = net.parameters[name]
    kept, losses = weight.detach().clone(), []
    for step in (1e-4, -1e-4):
        with torch.no_grad():
            weight.copy_(kept + step * kept * torch.from_numpy(unit))
            losses.append(float(toy_task.loss(net, images.double(), labels)))
            weight.copy_(kept)
    return (losses[0] - losses[1]) / 2e-4


@pytest.mark.parametrize("granularity", ["weight", "kernel", "row", "column", {"block": (2, 5)}])
def test_taylor_is_the_slope_of_the_loss(granularity):
    weights = toy_task.first_weights(3)
    known = collect(toy_task.toy_task(), toy_task.network(weights), ("gradients",), 40)
    net = toy_task.network(weights)
    net.module.double().eval()
    name = "conv.weight" if granularity == "kernel" else "fc.weight"
    view = view_of(name, weights[name].shape, "conv" if granularity == "kernel" else "linear")
    found, options = granularity_and_options(granularity)
    ranking = Ranking(
        [view], lambda _: weights[name], METHODS["taylor"], found, options, "global", 0.5, 0, known
    )
    (family,) = ranking.families
    scores = ranking.unit_scores(family)
    height, width = family.parts[0].block
    across = family.parts[0].grid[1]
    for unit in np.random.default_rng(0).permutation(family.count)[:12]:
        chosen = np.zeros((view.rows, view.cols))
        top, left = unit // across * height, unit % across * width
        chosen[top : top + height, left : left + width] = 1
        slope = change_of_loss(net, name, chosen.reshape(view.shape))
        assert scores[unit] == pytest.approx(abs(slope), rel=1e-3, abs=1e-7)


def test_signs_count_within_a_unit():
    weight = np.array([[1.0, 1.0], [0.3, 0.2]], np.float32)
    known = {"gradients": np.array([[5.0, -5.0], [1.0, 1.0]])}
    _, rows = prune_array(weight, "taylor", 0.5, granularity="row", evidence=known)
    assert rows.tolist() == [[False, False], [True, True]]
    _, single = prune_array(weight, "taylor", 0.5, evidence=known)
    assert single.tolist() == [[True, True], [False, False]]


# ---- weight x input ---------------------------------------------------------------------------------------


@given(layers(), SPARSITIES)
def test_wanda_takes_the_same_share_of_each_output_by_weight_times_norm(layer, sparsity):
    weight, x, known = layer
    weight[weight == 0] = 0.5
    _, mask = prune_array(weight, "wanda", sparsity, evidence=needed("wanda", known))
    gone = (~mask).sum(axis=1)
    assert gone.max() - gone.min() <= 1
    worth = np.abs(weight) * np.sqrt(np.square(x).sum(axis=0))
    for row, kept in zip(worth, mask, strict=True):
        if kept.any() and not kept.all():
            assert row[~kept].max() <= row[kept].min() * (1 + 1e-5)


@given(layers(), layers(), SPARSITIES, st.floats(0.01, 100))
def test_wanda_over_several_layers_looks_at_shares_of_their_outputs(one, other, sparsity, scale):
    weights = {"a": one[0], "b": other[0]}
    kinds = dict.fromkeys(weights, "linear")

    def masks(factor):
        norms = {"a": one[2]["input_norms"], "b": factor * other[2]["input_norms"]}
        known = SimpleNamespace(input_norms=norms)
        return masks_for(weights, kinds, "wanda", sparsity=sparsity, evidence=known)

    power = 2.0 ** round(np.log2(scale))  # exact in floating point
    for first, second in zip(masks(1).values(), masks(power).values(), strict=True):
        np.testing.assert_array_equal(first, second)


# ---- second order -----------------------------------------------------------------------------------------


@given(layers())
def test_the_factor_is_that_of_the_inverse(layer):
    moments = damped(layer[1] / (np.abs(layer[1]).max() or 1.0))
    factor = sparsegpt.inverse_factor(moments)
    np.testing.assert_array_equal(factor, np.triu(factor))
    np.testing.assert_allclose(factor @ moments @ factor.T, np.eye(len(moments)), atol=1e-6)


@given(layers(), SEEDS, st.floats(0, 1), st.booleans())
def test_outputs_are_never_further_off_than_without_an_update(layer, seed, share, exactly):
    weight, x, known = layer
    mask = np.random.default_rng(seed).random(weight.shape) >= share
    before, sparsegpt._EXACT = sparsegpt._EXACT, 1e9 if exactly else 0
    try:
        after = sparsegpt.update(weight, mask, needed("sparsegpt", known))
    finally:
        sparsegpt._EXACT = before
    plain = error(weight, np.where(mask, weight, 0), x)
    rounding = 1e-5 * np.square(np.abs(weight) @ np.abs(x).T).sum(axis=1)
    assert (error(weight, after, x) <= plain + rounding).all()
    assert not after[~mask].any()


@given(layers(), SEEDS)
def test_a_small_layer_gets_the_least_squares(layer, seed):
    weight, x, known = layer
    weight[weight == 0] = 1
    mask = np.random.default_rng(seed).random(weight.shape) < 0.5
    after = sparsegpt.update(weight, mask, needed("sparsegpt", known))
    moments = damped(x)
    for old, new, kept in zip(weight.astype(np.float64), after, mask, strict=True):
        change = np.where(kept, new - old, -old)
        best = np.where(kept, 0, -old)
        if kept.any():
            right = -moments[np.ix_(kept, ~kept)] @ best[~kept]
            best[kept] = np.linalg.lstsq(moments[np.ix_(kept, kept)], right, rcond=None)[0]
        objective = [d @ moments @ d for d in (change, best, np.where(kept, 0, -old))]
        assert objective[0] <= objective[1] * (1 + 1e-3) + 1e-6 * objective[2] + 1e-9 * np.trace(moments)


def textbook(weight, moments, chosen):
    """SparseGPT by inverting what is left at each column; chosen(column, worth of this row's) → stays."""
    after = weight.astype(np.float64).copy()
    cols = after.shape[1]
    for column in range(cols):
        inverse = np.linalg.inv(moments[column:, column:])
        stays = chosen(column, after, inverse)
        for row in range(len(after)):
            if not stays[row]:
                after[row, column:] -= after[row, column] / inverse[0, 0] * inverse[0]
                after[row, column] = 0
    return after


@given(SEEDS, st.integers(1, 5), st.integers(1, 9), st.sampled_from([2, 3, 128]))
def test_the_sweep_is_the_textbook_one(seed, rows, cols, width):
    rng = np.random.default_rng(seed)
    weight, x = rng.standard_normal((rows, cols)), rng.standard_normal((20, cols))
    mask, moments = rng.random((rows, cols)) < 0.5, damped(x)
    factor = sparsegpt.inverse_factor(moments)
    after = sparsegpt._sweep(weight.T.copy(), factor, width, sparsegpt._Given(mask.T)).T
    right = textbook(weight, moments, lambda column, *_: mask[:, column])
    np.testing.assert_allclose(after, right, atol=1e-8)


@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(0, 2))
def test_groups_are_chosen_after_the_changes_so_far(seed, rows, groups, n, more):
    m = n + more
    rng = np.random.default_rng(seed)
    weight, x = rng.standard_normal((rows, groups * m)), rng.standard_normal((30, groups * m))
    known = {"second_moments": x.T @ x}
    moments, marks = damped(x), np.zeros(weight.shape, bool)

    def chosen(column, after, _):
        if column % m == 0:
            for row in range(rows):
                worth = [
                    after[row, c] ** 2 / np.linalg.inv(moments[c:, c:])[0, 0]
                    for c in range(column, column + m)
                ]
                marks[row, column + np.argsort(worth)[m - n :]] = True
        return marks[:, column]

    textbook(weight, moments, chosen)
    np.testing.assert_array_equal(sparsegpt.choose(weight, known, 0, (n, m)), marks)


def test_blocks_of_columns_lose_equal_shares_and_the_best_of_them(monkeypatch):
    monkeypatch.setattr(sparsegpt, "_BLOCK", 4)
    rng = np.random.default_rng(5)
    weight, x = rng.standard_normal((6, 12)), rng.standard_normal((40, 12))
    mask = sparsegpt.choose(weight, {"second_moments": x.T @ x}, 36)
    assert [int(mask[:, c : c + 4].sum()) for c in (0, 4, 8)] == [12, 12, 12]
    moments = damped(x)
    first = [weight[:, c] ** 2 / np.linalg.inv(moments[c:, c:])[0, 0] for c in range(4)]
    worth = np.stack(first, axis=1)
    assert worth[~mask[:, :4]].max() <= worth[mask[:, :4]].min()


def test_correlated_inputs_are_made_up_for():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 8)) @ rng.standard_normal((8, 64)) + 0.1 * rng.standard_normal((500, 64))
    weight = rng.standard_normal((32, 64)).astype(np.float32)
    known = {"second_moments": x.T @ x}
    for granularity in ("weight", {"nm": (2, 4)}, "column"):
        pruned, _ = prune_array(weight, "sparsegpt", 0.5, granularity=granularity, evidence=known)
        plain, _ = prune_array(weight, "magnitude", 0.5, granularity=granularity)
        assert error(weight, pruned, x).sum() < 0.1 * error(weight, plain, x).sum()


@pytest.mark.parametrize("shape", [(1536, 384), (384, 1536)])
def test_a_layer_of_a_transformer_takes_seconds_at_most(shape):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(shape).astype(np.float32)
    x = rng.standard_normal((2000, shape[1])).astype(np.float32)
    known = {"second_moments": x.T @ x}
    begin = time.process_time()
    pruned, _ = prune_array(weight, "sparsegpt", 0.5, evidence=known)
    assert np.count_nonzero(pruned) == weight.size // 2
    assert time.process_time() - begin < 10  # processor time, wide for a loaded machine


def test_evidence_is_asked_for_by_name():
    assert {name: METHODS[name].needs for name in ON_DATA} == {
        "taylor": ("gradients",),
        "wanda": ("input_norms",),
        "sparsegpt": ("second_moments",),
    }
    assert dataclasses.replace(METHODS["wanda"], within_rows=False).scores is METHODS["wanda"].scores
