"""Laws of every granularity: whole units go, exactly as many as asked for, the least of them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import OptionError
from csbviz.formats import CSBMatrix
from csbviz.pruning import GRANULARITIES, masks_for, prune_array
from csbviz.pruning.granularity.heads import default_heads
from csbviz.pruning.options import granularity_and_options

WITHIN_A_WEIGHT = ["weight", "block", "kernel", "filter", "row", "column", "layer"]
SPARSITIES = st.floats(0, 1, exclude_max=True)
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def weights(draw):
    """Layers of every kind, in ragged shapes; small whole numbers, so that ties and zeros are common."""
    kinds = draw(
        st.lists(st.sampled_from(["linear", "conv", "recurrent", "embedding"]), min_size=1, max_size=4)
    )
    rng = np.random.default_rng(draw(SEEDS))
    side = st.integers(1, 9)
    found = {}
    for index, kind in enumerate(kinds):
        dims = draw(st.integers(3, 4)) if kind == "conv" else 2
        shape = tuple(draw(side) for _ in range(dims))
        values = rng.integers(-4, 5, shape) * (rng.random(shape) < draw(st.sampled_from([0.3, 1.0])))
        found[f"{kind}{index}"] = values.astype(draw(st.sampled_from([np.float16, np.float32, np.float64])))
    return found


def kind_of(name):
    return name.rstrip("0123456789")


def labels(granularity, name, shape, block):
    """The unit that each weight belongs to, counted here from the indices alone; None without such units."""
    kind, size = kind_of(name), int(np.prod(shape))
    first, rest = np.indices((shape[0], size // shape[0]))
    if granularity == "kernel" and kind != "conv":
        return None
    if granularity == "filter" and kind == "embedding":
        return None
    window = int(np.prod(shape[2:])) if kind == "conv" else 1
    found = {
        "weight": first * rest.shape[1] + rest,
        "block": (first // block[0]) * 1000 + rest // block[1],
        "kernel": first * 1000 + rest // window,
        "filter": first,
        "row": first,
        "column": rest,
        "layer": 0 * first,
    }[granularity]
    return np.unique(found, return_inverse=True)[1].reshape(shape)


def unit_means(values, units, power):
    sums = np.bincount(units.ravel(), np.abs(values.ravel().astype(np.float64)) ** power)
    return sums / np.bincount(units.ravel())


@given(
    weights(),
    st.sampled_from(WITHIN_A_WEIGHT),
    st.sampled_from(["magnitude", "l2", "random"]),
    st.sampled_from(["global", "layer"]),
    SPARSITIES,
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    SEEDS,
)
def test_whole_units_go_and_exactly_as_many_as_asked(
    arrays, granularity, method, scope, sparsity, block, seed
):
    kinds = {name: kind_of(name) for name in arrays}
    units = {name: labels(granularity, name, array.shape, block) for name, array in arrays.items()}
    options = {"block": block} if granularity == "block" else None
    call = (arrays, kinds, method, granularity, sparsity, scope, seed, options)
    having = [name for name in arrays if units[name] is not None]
    counts = {name: int(units[name].max()) + 1 for name in having}
    whole = scope == "layer" and all(counts[name] == 1 and arrays[name].size > 1 for name in having)
    if not having or whole:
        with pytest.raises(OptionError):
            masks_for(*call)
        return
    masks = masks_for(*call)
    assert list(masks) == list(arrays)
    kept, means = {}, {}
    for name, mask in masks.items():
        assert mask.shape == arrays[name].shape
        assert mask.dtype == bool
        if units[name] is None:
            assert mask.all()
            continue
        share = np.bincount(units[name].ravel(), mask.ravel()) / np.bincount(units[name].ravel())
        assert set(share) <= {0.0, 1.0}  # no unit is cut
        kept[name] = share == 1
        means[name] = unit_means(arrays[name], units[name], 2 if method == "l2" else 1)
    for together in [having] if scope == "global" else [[name] for name in having]:
        stays = np.concatenate([kept[name] for name in together])
        worth = np.concatenate([means[name] for name in together])
        assert np.count_nonzero(~stays) == min(round(sparsity * stays.size), stays.size - 1)
        if method == "random":  # units that are zero already go first
            worth = worth > 0
        if stays.any() and not stays.all():
            assert worth[~stays].max() <= worth[stays].min()


@given(weights(), st.sampled_from(WITHIN_A_WEIGHT), st.lists(SPARSITIES, min_size=2, max_size=4), SEEDS)
def test_more_sparsity_keeps_some_of_the_same_units(arrays, granularity, sparsities, seed):
    kinds = {name: kind_of(name) for name in arrays}
    before = None
    for sparsity in sorted(sparsities):
        try:
            masks = masks_for(arrays, kinds, "random", granularity, sparsity, seed=seed)
        except OptionError:
            assert granularity in ("kernel", "filter")
            return
        assert before is None or not any((masks[name] & ~before[name]).any() for name in masks)
        before = masks


@given(weights(), st.integers(1, 6), st.integers(0, 5), st.sampled_from(["magnitude", "random"]), SPARSITIES)
def test_every_m_neighbours_keep_n(arrays, n, more, method, sparsity):
    m = n + more
    kinds = {name: kind_of(name) for name in arrays}
    masks = masks_for(arrays, kinds, method, {"nm": (n, m)}, sparsity)
    for name, mask in masks.items():
        values = np.abs(arrays[name].reshape(mask.shape[0], -1))
        mask = mask.reshape(values.shape)
        for first in range(0, values.shape[1], m):
            part, worth = mask[:, first : first + m], values[:, first : first + m]
            assert (part.sum(axis=1) == min(n, part.shape[1])).all()
            if method == "magnitude":
                gone = np.where(part, -1, worth).max(axis=1)
                assert (gone <= np.where(part, worth, np.inf).min(axis=1)).all()


def test_two_of_four_keeps_the_later_of_equals_and_a_short_group_whole():
    weight = np.array([[1, 1, 1, 1, 5, 4, -6, 0, 7, 8]], np.float32)
    _, mask = prune_array(weight, granularity="nm")
    assert mask.astype(int).tolist() == [[0, 0, 1, 1, 1, 0, 1, 0, 1, 1]]
    _, mask = prune_array(weight, granularity="nm", options={"nm": "1:8"})
    assert mask.astype(int).tolist() == [[0, 0, 0, 0, 0, 0, 1, 0, 0, 1]]


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([(1, 1), (2, 4), (8, 8), (4, 1)]),
    st.sampled_from([1, 2, 4]),
    SPARSITIES,
    SEEDS,
)
def test_blocks_lie_on_the_grid_of_csb(rows, cols, block, times, sparsity, seed):
    weight = np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)
    pruned, mask = prune_array(weight, sparsity=sparsity, granularity={"block": block})
    csb = CSBMatrix.from_dense(pruned, block_shape=block)
    blocks = csb.block_nnz()
    kept = np.add.reduceat(
        np.add.reduceat(mask, np.arange(0, rows, block[0])), np.arange(0, cols, block[1]), 1
    )
    np.testing.assert_array_equal(blocks, kept)
    total = -(-rows // block[0]) * -(-cols // block[1])
    assert np.count_nonzero(blocks) == total - min(round(sparsity * total), total - 1)
    # A larger block of CSB holds whole units alone: its nonzeros are theirs.
    side = tuple(length * times for length in block)
    for (i, j), nnz in np.ndenumerate(CSBMatrix.from_dense(pruned, block_shape=side).block_nnz()):
        assert nnz == blocks[i * times : (i + 1) * times, j * times : (j + 1) * times].sum()


# ---- attention heads ---------------------------------------------------------------------------------------

BERT = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj")


def attention(names, heads, size, shared=None, seed=0, prefix="encoder.layer.0."):
    """Weights of one attention module: random, of the shapes that such a module has."""
    rng, width = np.random.default_rng(seed), heads * size
    rows = [width, (shared or heads) * size, (shared or heads) * size, 40]
    cols = [40, 40, 40, width]
    if len(names) == 2:
        rows, cols = [3 * width, 40], [40, width]
    return {
        f"{prefix}{name}": rng.standard_normal((rows[i], cols[i])).astype(np.float32)
        for i, name in enumerate(names)
    }


def rows_of_heads(mask, size):
    """For each block of `size` rows whether it stayed; it must be whole."""
    parts = mask.reshape(-1, size * mask.shape[1])
    assert (parts.all(axis=1) == parts.any(axis=1)).all()
    return parts.any(axis=1)


@given(st.sampled_from([BERT, LLAMA, (*LLAMA[:3], "out_proj")]), st.integers(1, 6), SPARSITIES, SEEDS)
def test_a_head_goes_with_its_rows_and_columns(names, heads, sparsity, seed):
    arrays = attention([f"{name}.weight" for name in names], heads, 4, seed=seed)
    arrays["encoder.layer.0.intermediate.dense.weight"] = np.ones((7, 5), np.float32)
    kinds = dict.fromkeys(arrays, "linear")
    masks = list(masks_for(arrays, kinds, "l2", {"heads": heads}, sparsity).values())
    stays = rows_of_heads(masks[0], 4)
    for mask in masks[1:3]:
        np.testing.assert_array_equal(rows_of_heads(mask, 4), stays)
    np.testing.assert_array_equal(rows_of_heads(np.ascontiguousarray(masks[3].T), 4), stays)
    assert np.count_nonzero(~stays) == min(round(sparsity * heads), heads - 1)
    assert masks[4].all()
    squares = [np.square(array.astype(np.float64)) for array in list(arrays.values())[:4]]
    worth = sum(part.reshape(heads, -1).sum(axis=1) for part in (*squares[:3], squares[3].T.copy()))
    if (~stays).any():
        assert worth[~stays].max() <= worth[stays].min()


def test_fused_projections_have_each_head_three_times():
    arrays = attention(["in_proj_weight", "out_proj.weight"], 3, 4, prefix="layers.1.self_attn.")
    masks = list(
        masks_for(arrays, dict.fromkeys(arrays, "linear"), granularity={"heads": 3}, sparsity=0.4).values()
    )
    thrice = rows_of_heads(masks[0], 4).reshape(3, 3)
    stays = rows_of_heads(np.ascontiguousarray(masks[1].T), 4)
    assert (thrice == stays).all()
    assert np.count_nonzero(~stays) == 1


def test_heads_that_share_their_keys_go_together():
    arrays = attention([f"{name}.weight" for name in LLAMA], 6, 4, shared=2)
    masks = list(
        masks_for(arrays, dict.fromkeys(arrays, "linear"), granularity={"heads": 6}, sparsity=0.5).values()
    )
    stays = rows_of_heads(masks[1], 4)
    assert np.count_nonzero(stays) == 1
    np.testing.assert_array_equal(rows_of_heads(masks[0], 4), np.repeat(stays, 3))
    np.testing.assert_array_equal(rows_of_heads(np.ascontiguousarray(masks[3].T), 4), np.repeat(stays, 3))


def test_heads_of_several_modules_are_ranked_together_or_each_by_itself():
    arrays = attention([f"{name}.weight" for name in BERT], 4, 8)
    weak = attention([f"{name}.weight" for name in BERT], 4, 8, prefix="encoder.layer.1.")
    arrays |= {name: 0.01 * array for name, array in weak.items()}
    kinds = dict.fromkeys(arrays, "linear")
    together = masks_for(arrays, kinds, granularity="head", options={"heads": 4}, sparsity=0.5)
    assert all(
        mask.all() == ("layer.0" in name) and mask.any() == ("layer.0" in name)
        for name, mask in together.items()
    )
    apart = masks_for(arrays, kinds, granularity="head", options={"heads": 4}, sparsity=0.5, scope="layer")
    assert {float(mask.mean()) for mask in apart.values()} == {0.5}


def test_an_attention_of_which_a_part_is_missing_stays():
    arrays = attention([f"{name}.weight" for name in BERT], 4, 8)
    arrays |= attention([f"{name}.weight" for name in BERT[:3]], 4, 8, prefix="encoder.layer.1.")
    masks = masks_for(arrays, dict.fromkeys(arrays, "linear"), granularity={"heads": 4}, sparsity=0.5)
    assert all(mask.all() == ("layer.1" in name) for name, mask in masks.items())
    del arrays[f"encoder.layer.0.{BERT[1]}.weight"]
    with pytest.raises(OptionError, match="queries, keys, values and output projection"):
        masks_for(arrays, dict.fromkeys(arrays, "linear"), granularity="head")


def test_a_number_of_heads_that_does_not_fit():
    arrays = attention([f"{name}.weight" for name in BERT], 4, 8)
    with pytest.raises(OptionError, match=r"query.weight has 32 rows .* 5 heads cannot share"):
        masks_for(arrays, dict.fromkeys(arrays, "linear"), granularity={"heads": 5})
    arrays = attention([f"{name}.weight" for name in BERT], 1, 33)
    with pytest.raises(OptionError, match="no usual number of heads"):
        masks_for(arrays, dict.fromkeys(arrays, "linear"), granularity="head")


def test_the_usual_number_of_heads():
    assert [default_heads(width) for width in (384, 768, 1024, 512, 96, 33)] == [12, 12, 16, 8, 3, None]


# ---- turned weights, options -------------------------------------------------------------------------------


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from(["nm", "block", "row", "column", "weight"]),
    SPARSITIES,
    SEEDS,
)
def test_weights_kept_as_inputs_by_outputs_are_pruned_like_their_transpose(
    rows, cols, granularity, sparsity, seed
):
    weight = np.random.default_rng(seed).integers(-3, 4, (rows, cols)).astype(np.float32)
    one = {"a": np.array([[2.0, 3.0]], np.float32)}  # so that a single unit is not alone
    kinds = {"w": "linear", "a": "linear"}
    plain = masks_for({"w": weight, **one}, kinds, "magnitude", granularity, sparsity)
    turned = masks_for(
        {"w": weight.T.copy(), **one}, kinds, "magnitude", granularity, sparsity, turned=("w",)
    )
    np.testing.assert_array_equal(turned["w"].T, plain["w"])


@pytest.mark.parametrize(
    ("granularity", "options", "name", "found"),
    [
        ("nm", None, "nm", {"nm": [2, 4]}),
        ("nm", {"nm": "1:4"}, "nm", {"nm": [1, 4]}),
        ({"nm": [3, 8]}, None, "nm", {"nm": [3, 8]}),
        ({"block": "16x4"}, None, "block", {"block": [16, 4]}),
        ({"block": 8}, None, "block", {"block": [8, 8]}),
        ({"block": np.array([2, 3]).tolist()}, None, "block", {"block": [2, 3]}),
        ({"heads": 12}, None, "head", {"heads": 12}),
        ("head", {"heads": "12"}, "head", {"heads": 12}),
        ("head", None, "head", {"heads": None}),
        ("row", {}, "row", {}),
    ],
)
def test_options_are_completed_and_json_safe(granularity, options, name, found):
    got, completed = granularity_and_options(granularity, options)
    assert (got.name, completed) == (name, found)
    assert json.loads(json.dumps(completed)) == completed


@pytest.mark.parametrize(
    ("granularity", "options", "words"),
    [
        ("nm", {"nm": (4, 2)}, "1 ≤ N ≤ M"),
        ("nm", {"nm": (0, 2)}, "1 ≤ N ≤ M"),
        ("nm", {"nm": "2/4"}, "2:4"),
        ("nm", {"nm": (2.0, 4)}, "whole numbers"),
        ("block", {"block": (8, 0)}, "at least 1"),
        ("block", {"block": (8, 8, 8)}, "8x8"),
        ("block", {"block": None}, "8x8"),
        ("head", {"heads": 0}, "heads is 0"),
        ("head", {"heads": True}, "heads is True"),
        ("row", {"block": (8, 8)}, "row has no option 'block'; it has none"),
        ("block", {"nm": (2, 4)}, "only block"),
        ("atom", None, "there is weight, nm, block"),
        ({"block": 8, "nm": "2:4"}, None, "granularity"),
        ({"what": 8}, None, "granularity"),
        (3, None, "granularity"),
    ],
)
def test_options_that_cannot_be(granularity, options, words):
    with pytest.raises(OptionError, match=words) as caught:
        granularity_and_options(granularity, options)
    assert str(caught.value).endswith(".")


def test_every_granularity_has_a_law_here():
    assert set(GRANULARITIES) == {*WITHIN_A_WEIGHT, "nm", "head"}
