"""Models and matrices behind one view."""

import gzip
import io

import numpy as np
import pytest
import scipy.sparse

from csbviz.errors import InputError, OptionError
from csbviz.models.opened import open_bytes, open_sample


def npz(**arrays):
    """Arrays as the bytes of an archive."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def sparse_npz(matrix):
    """A sparse matrix as SciPy saves it."""
    file = io.BytesIO()
    scipy.sparse.save_npz(file, matrix)
    return file.getvalue()


def test_an_archive_of_weights_is_a_model():
    weight = np.eye(6, 4, dtype=np.float32)
    opened = open_bytes(npz(**{"fc.weight": weight, "fc.bias": np.ones(6, np.float32)}), "net.npz")
    assert [layer.label for layer in opened.layers] == ["fc"]
    assert (opened.size, opened.nnz, opened.sparsity) == (24, 4, pytest.approx(20 / 24))
    assert np.array_equal(opened.csr("fc.weight").toarray(), weight)
    assert opened.values("fc.weight").size == 24


def test_a_sparse_archive_is_a_matrix():
    matrix = scipy.sparse.random(30, 20, 0.1, "csr", np.float32, np.random.default_rng(1))
    opened = open_bytes(sparse_npz(matrix), "a.npz")
    assert opened.model is None
    (layer,) = opened.layers
    assert (layer.rows, layer.cols, layer.nnz, layer.kind) == (30, 20, matrix.nnz, "matrix")
    assert (opened.csr(layer.name) != matrix).nnz == 0


def test_a_packed_matrix_is_read_by_its_inner_ending():
    text = b"%%MatrixMarket matrix coordinate real general\n4 3 2\n1 1 1.5\n4 3 2.5\n"
    opened = open_bytes(gzip.compress(text), "tiny.mtx.gz")
    assert opened.matrix.toarray()[3, 2] == 2.5


def test_equal_contents_have_equal_digests_and_other_contents_others():
    first, again = (open_bytes(npz(w=np.ones((3, 3), np.float32)), name) for name in ("a.npz", "b.npz"))
    other = open_bytes(npz(w=np.full((3, 3), 2, np.float32)), "a.npz")
    assert first.digest == again.digest != other.digest


def test_arrays_that_are_handed_out_cannot_be_changed():
    matrix = scipy.sparse.eye_array(4, format="csr", dtype=np.float32)
    csr = open_bytes(sparse_npz(matrix), "a.npz").csr("a.npz")
    with pytest.raises(ValueError, match="read-only"):
        csr.data[0] = 9


@pytest.mark.parametrize("shape", [(1, 7), (40, 30), (3, 1)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_csr_of_a_layer_equals_scipys(shape, share):
    rng = np.random.default_rng(8)
    weight = np.where(rng.random(shape) < share, rng.normal(size=shape), 0).astype(np.float32)
    csr = open_bytes(npz(w=weight), "net.npz").csr("w")
    expected = scipy.sparse.csr_matrix(weight)
    for name in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(csr, name), getattr(expected, name))
    csr.check_format(full_check=True)
    assert csr.has_canonical_format


def test_look_up_tables_are_spared_and_not_shown_first():
    arrays = {"embeddings.weight": np.ones((50, 8), np.float32), "fc.weight": np.ones((4, 8), np.float32)}
    opened = open_bytes(npz(**arrays), "net.npz")
    kinds = {layer.name: layer.kind for layer in opened.layers}
    assert kinds["embeddings.weight"] == "embedding"
    assert opened.spared == ("embeddings.weight",)
    assert opened.main.name == "fc.weight"
    assert opened.sparsity_without({"embeddings.weight"}) == 0.0


def test_the_sample_opens_under_its_title():
    opened = open_sample("fashion_cnn")
    assert "Fashion" in opened.title
    assert opened.main.name == "fc1.weight"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "endings"),
        ("a.npz", b"PK\x03\x04 cut", "truncated or of another kind"),
        ("a.npz", npz(bias=np.ones(3, np.float32)), "nothing to prune"),
        ("a.mtx", b"%%MatrixMarket matrix coordinate real general\n0 3 0\n", "0 x 3"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(name, content, words):
    with pytest.raises(InputError, match=words) as caught:
        open_bytes(content, name)
    assert "\n" not in str(caught.value)


def test_an_unknown_layer_is_named():
    with pytest.raises(OptionError, match="nothing"):
        open_sample("fashion_cnn").csr("nothing")
