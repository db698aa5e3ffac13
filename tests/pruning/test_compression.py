"""Deep Compression: code books, Huffman codes, and files that give back every bit."""

import heapq
import io
import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from csbviz.errors import CSBVizError, InputError, MatrixError, OptionError
from csbviz.models import Model, load_model, load_sample
from csbviz.models.huffman_loops import LONGEST_CODE
from csbviz.models.read_compressed import canonical_codes
from csbviz.models.tensors import StoredTensor
from csbviz.pruning import prune_model
from csbviz.pruning.compression import code_book, compress_stages, encode, quantise, save
from csbviz.pruning.compression.huffman import code_lengths, entropy

COUNTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=256).map(np.array)
VALUES = npst.arrays(np.float32, st.integers(1, 300), elements=st.floats(-8, 8, width=32))


def model_of(**arrays):
    """A model of arrays by name; a double underscore stands for the dot of "fc.weight"."""
    tensors = [StoredTensor.of(name.replace("__", "."), np.asarray(array)) for name, array in arrays.items()]
    return Model(tensors, name="net", digest="0" * 64, source="net")


def bits_of(model):
    return {layer.name: (layer.dtype, layer.shape, layer.tensor.data.tobytes()) for layer in model.layers}


def opened(data):
    return load_model(io.BytesIO(data), name="net.csbz")


def sparse_weight(shape, sparsity, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) * (rng.random(shape) >= sparsity)).astype(dtype)


# ---- code books --------------------------------------------------------------------------------------------


@given(VALUES, st.integers(1, 40))
def test_rounds_of_k_means_never_raise_the_error_and_end_at_means(values, count):
    book = code_book(values, count)
    assert 1 <= len(book.centroids) <= count
    assert (np.diff(book.centroids) > 0).all()
    slack = 1e-9 * (1 + (values.astype(float) ** 2).sum())
    assert all(later <= before + slack for before, later in itertools.pairwise(book.errors))
    nearest = book.nearest(values.astype(float))
    distance = np.abs(values[:, None].astype(float) - book.centroids)
    assert np.allclose(
        np.take_along_axis(distance, nearest[:, None], 1)[:, 0], distance.min(axis=1), atol=1e-9
    )
    assert (((values - book.centroids[nearest]) ** 2).sum()) == pytest.approx(book.errors[-1], abs=slack)
    for index in np.unique(nearest):
        members = values[nearest == index].astype(float)
        assert book.centroids[index] == pytest.approx(members.mean(), abs=1e-9)


@given(VALUES, st.integers(1, 40), st.randoms(use_true_random=False))
def test_a_code_book_does_not_depend_on_order_or_chance(values, count, random):
    shuffled = values.copy()
    random.shuffle(shuffled)
    assert np.array_equal(code_book(values, count).centroids, code_book(shuffled, count).centroids)


def test_the_first_centroids_are_spaced_evenly():  # at 0, 5 and 10; from other starts come other groups
    values = np.array([0, 0, 0, 0, 1, 2, 3, 10.0])
    book = code_book(values, 3)
    assert book.centroids == pytest.approx([0.2, 2.5, 10.0])
    assert code_book(values, 100).centroids.tolist() == [0, 1, 2, 3, 10]


# ---- Huffman codes -----------------------------------------------------------------------------------------


def depths(counts):
    """Lengths of an unlimited Huffman code, by the textbook's queue."""
    heap = [(int(n), i, (i,)) for i, n in enumerate(counts) if n]
    found = np.zeros(len(counts), int)
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, i, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        found[[*left, *right]] += 1
        heapq.heappush(heap, (a + b, i, left + right))
    return found


@given(COUNTS)
def test_a_code_is_complete_near_the_entropy_and_as_short_as_huffmans(counts):
    lengths = code_lengths(counts).astype(int)
    used = counts > 0
    assert (lengths[~used] == 0).all()
    assert lengths.max() <= LONGEST_CODE
    if used.sum() < 2:
        assert not lengths.any()
        return
    assert (2.0 ** -lengths[used]).sum() == 1
    mean = counts @ lengths / counts.sum()
    best = depths(counts)
    if best.max() <= LONGEST_CODE:
        assert counts @ lengths == counts @ best
        assert entropy(counts) - 1e-9 <= mean < entropy(counts) + 1


@given(COUNTS)
def test_no_canonical_code_begins_another(counts):
    lengths = code_lengths(counts)
    used = np.flatnonzero(lengths)
    if not used.size:
        return
    codes = canonical_codes(lengths)
    words = sorted(format(codes[i], f"0{lengths[i]}b") for i in used)
    assert not [(a, b) for a, b in itertools.pairwise(words) if b.startswith(a)]


def test_a_limit_of_length_costs_as_little_as_it_can():
    fibonacci = np.array([1, 1, 2, 3, 5, 8])  # an unlimited code has the lengths 5 5 4 3 2 1
    assert code_lengths(fibonacci).tolist() == [5, 5, 4, 3, 2, 1]
    possible = [x for x in itertools.product((1, 2, 3), repeat=6) if sum(0.5**length for length in x) <= 1]
    assert fibonacci @ code_lengths(fibonacci, 3) == min(fibonacci @ np.array(x) for x in possible)
    long = np.array([1, 1] + [2**i for i in range(30)])
    assert code_lengths(long).max() == LONGEST_CODE
    with pytest.raises(OptionError, match="5 symbols cannot have codes of at most 2 bits"):
        code_lengths(np.ones(5, int), 2)


# ---- files -------------------------------------------------------------------------------------------------

WEIGHTS = st.builds(
    sparse_weight,
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
    st.integers(0, 99),
    st.sampled_from([np.float32, np.float64, np.float16, ml_dtypes.bfloat16]),
)


def stored(weight):
    """A model of the weight, whatever its type, and a bias."""
    dtype = weight.dtype.name
    bits = weight.view(np.uint16) if dtype == "bfloat16" else weight
    bias = StoredTensor.of("fc.bias", np.arange(3, dtype=np.float32))
    return Model([StoredTensor.of("fc.weight", bits, dtype), bias], name="net", digest="0" * 64, source="net")


@settings(max_examples=60)
@given(WEIGHTS, st.integers(1, 8), st.integers(1, 8), st.sampled_from(["raw", "sparse", "codes", "huffman"]))
def test_the_decoder_gives_the_quantised_model_bit_for_bit(weight, bits, gap_bits, coding):
    shared = quantise(stored(weight), linear_bits=bits)
    file = encode(shared, linear_gap_bits=gap_bits, coding=coding)
    again = opened(file.data)
    assert bits_of(again) == bits_of(shared)
    assert again.history == shared.history
    kept = shared.layer("fc.weight").weight()
    assert len(np.unique(kept[kept != 0])) < 1 << bits
    assert (kept[np.asarray(weight, np.float64) == 0] == 0).all()
    assert encode(again, linear_gap_bits=gap_bits, coding=coding).data == file.data


@settings(max_examples=40)
@given(
    npst.arrays(np.uint32, (3, 200), elements=st.sampled_from([0, 0, 0, 0, 1 << 31, 0x7FC00001, 0x3F800000]))
)
def test_no_bit_is_lost_not_even_of_what_is_no_number(bits):
    model = stored(bits.view(np.float32))
    for coding in ("raw", "sparse", "codes", "huffman"):
        assert bits_of(opened(encode(model, linear_gap_bits=2, coding=coding).data)) == bits_of(model)


def test_sizes_are_near_the_entropy_and_long_gaps_take_fillers():
    shared = quantise(model_of(fc__weight=sparse_weight((300, 1000), 0.95)), linear_bits=5)
    file = encode(shared)
    (layer,) = file.layers
    assert layer["coding"] == "huffman"
    assert layer["fillers"] > 0
    assert layer["entries"] == layer["nnz"] + layer["fillers"]
    for what in ("code", "gap"):
        assert layer[f"{what}_entropy"] <= layer[f"{what}_bits"] < layer[f"{what}_entropy"] + 0.1
    least = layer["entries"] * (layer["code_entropy"] + layer["gap_entropy"]) / 8
    assert least < len(file.data) < 1.02 * least + 800
    assert encode(shared, linear_gap_bits=8).layers[0]["fillers"] == 0


def test_every_tensor_of_a_network_comes_back():
    model = model_of(
        conv__weight=sparse_weight((4, 3, 3, 3), 0.5),
        fc__weight=sparse_weight((60, 70), 0.9),
        fc__bias=np.array([np.nan, -0.0, 1], np.float32),
        steps=np.array(7, np.int64),
        mask=np.array([True, False]),
        nothing=np.empty((0, 5), np.float32),
    )
    shared = quantise(model, conv_bits=3, linear_bits=2)
    again = opened(encode(shared).data)
    assert bits_of(again) == bits_of(shared)
    assert bits_of(again)["fc.bias"] == bits_of(model)["fc.bias"]
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    values = {name: np.unique(shared.layer(name).weight()) for name in ("conv.weight", "fc.weight")}
    assert [len(found) for found in values.values()] == [8, 4]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: quantise(model, conv_bits=9), "conv_bits is 9"),
        (lambda model: quantise(model, linear_bits=0), "from 1 to 8"),
        (lambda model: quantise(model, linear_bits=2.0), "2.0"),
        (lambda model: encode(model, linear_gap_bits=True), "True"),
        (lambda model: encode(model, coding="zip"), "'zip'"),
        (lambda model: compress_stages(model, linear_gap_bits=12), "12"),
        (lambda model: save("net.npz", encode(model).data), "the ending .csbz"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_sentence(call, words):
    with pytest.raises(OptionError, match=words):
        call(model_of(fc__weight=np.eye(4, dtype=np.float32)))


def test_a_weight_that_is_no_number_has_no_code_book():
    with pytest.raises(MatrixError, match="NaN"):
        quantise(model_of(fc__weight=np.full((2, 2), np.nan, np.float32)))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    data = encode(model_of(fc__weight=np.eye(4, dtype=np.float32))).data
    save(tmp_path / "net.csbz", data)
    assert load_model(tmp_path / "net.csbz").layer("fc").nnz == 4
    with pytest.raises(InputError, match="cannot be written"):
        save(tmp_path / "none" / "net.csbz", data)
    assert [path.name for path in tmp_path.iterdir()] == ["net.csbz"]


# ---- stages ------------------------------------------------------------------------------------------------


def test_stages_of_the_sample_network():
    dense, told = load_sample("fashion_cnn"), []
    found = compress_stages(
        dense, sparsity=0.8, limit=200, progress=lambda fraction, message: told.append(fraction)
    )
    assert told == sorted(told)
    assert told[-1] == 1
    stages = found["stages"]
    assert [stage["stage"] for stage in stages] == ["dense", "pruned", "quantised", "huffman"]
    assert [stage["bytes"] for stage in stages] == sorted((s["bytes"] for s in stages), reverse=True)
    assert stages[0]["bytes"] == dense.nbytes
    assert stages[3]["bytes"] == len(found["file"])
    assert stages[3]["ratio"] > 15
    assert {stage["metrics"]["examples"] for stage in stages} == {200}
    assert stages[3]["metrics"] == stages[2]["metrics"]
    assert stages[3]["metrics"]["top1"] > stages[0]["metrics"]["top1"] - 0.03
    again = opened(found["file"])
    pruned = prune_model(dense, sparsity=0.8).model
    assert bits_of(again) == bits_of(quantise(pruned))
    assert [step["step"] for step in again.history] == ["prune", "quantise"]
    assert sum(layer["bytes"] for layer in found["layers"]) < len(found["file"])


def test_stages_of_a_model_that_is_pruned_already_and_has_no_data():
    dense = model_of(fc__weight=sparse_weight((40, 50), 0.0))
    pruned = prune_model(dense, sparsity=0.7).model
    found = compress_stages(pruned, sparsity=None, dense=dense, linear_bits=3)
    assert [stage["nnz"] for stage in found["stages"]] == [2000, 600, 600, 600]
    assert found["task"] is None
    assert [stage["metrics"] for stage in found["stages"]] == [{}] * 4
    with pytest.raises(CSBVizError, match="no data"):
        compress_stages(dense, method="wanda")
