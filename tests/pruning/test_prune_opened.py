"""Models and matrices are pruned alike."""

import io

import numpy as np
import pytest
import scipy.sparse

from csbviz.models.opened import open_bytes, open_sample
from csbviz.pruning.opened import prune_matrix, prune_opened, values_before_and_after

RNG = np.random.default_rng(2)
MATRIX = scipy.sparse.random(60, 40, 0.3, "csr", np.float32, RNG)


def opened_matrix():
    """The matrix as an opened file."""
    file = io.BytesIO()
    scipy.sparse.save_npz(file, MATRIX)
    return open_bytes(file.getvalue(), "a.npz")


@pytest.mark.parametrize("sparsity", [0.8, 0.9, 0.99])
@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_a_matrix_keeps_the_right_number_of_its_own_entries(method, sparsity):
    pruned = prune_matrix(MATRIX, method, sparsity)
    assert abs(pruned.nnz - (1 - sparsity) * 2400) <= 1
    kept = pruned.toarray() != 0
    assert np.array_equal(pruned.toarray()[kept], MATRIX.toarray()[kept])


def test_magnitude_keeps_the_largest():
    pruned = prune_matrix(MATRIX, "magnitude", 0.9)
    dropped = abs(MATRIX.toarray()[(pruned.toarray() == 0) & (MATRIX.toarray() != 0)])
    assert abs(pruned.data).min() >= dropped.max()


def test_a_matrix_that_is_sparser_already_stays():
    assert prune_matrix(MATRIX, "magnitude", 0.5) is MATRIX


def test_before_and_after_stand_position_by_position():
    opened = opened_matrix()
    pruned = prune_opened(opened, "magnitude", sparsity=0.9)
    before, after = values_before_and_after(opened, pruned, "a.npz")
    assert before.shape == after.shape
    assert np.count_nonzero(after) == pruned.nnz
    assert np.array_equal(before[after != 0], after[after != 0])


def test_locked_layers_of_a_model_keep_their_weights():
    opened = open_sample("fashion_cnn")
    pruned = prune_opened(opened, "magnitude", sparsity=0.9, locked=["conv1.weight"])
    assert pruned.layer("conv1.weight").nnz == opened.layer("conv1.weight").nnz
    assert pruned.sparsity_without({"conv1.weight"}) == pytest.approx(0.9, abs=1e-5)
    assert pruned.digest != opened.digest
    before, after = values_before_and_after(opened, pruned, "fc1.weight")
    assert np.array_equal(before[after != 0], after[after != 0])


def test_with_everything_locked_nothing_changes():
    opened = opened_matrix()
    assert prune_opened(opened, "magnitude", locked=["a.npz"]) is opened
