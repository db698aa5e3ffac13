"""Saved CSB matrices: the same arrays come back, and a file that is not sound is refused in one sentence."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import CSBVizError, FileFormatError, InputError, OptionError
from csbviz.formats import CSBMatrix
from csbviz.formats.csb_files import SUFFIXES
from tests.strategies import csb_matrices

suffixes = st.sampled_from(SUFFIXES)


def saved(A, suffix) -> bytes:
    buffer = io.BytesIO()
    A.save(buffer, name=f"a{suffix}")
    return buffer.getvalue()


def load(content: bytes, suffix: str) -> CSBMatrix:
    return CSBMatrix.load(io.BytesIO(content), name=f"a{suffix}")


@pytest.fixture
def matrix():
    S = scipy.sparse.random(9, 7, 0.4, format="csr", dtype=np.float32, random_state=0)
    return CSBMatrix.from_scipy(S, (4, 2), "morton")


@given(csb_matrices(), suffixes)
def test_what_is_saved_comes_back(A, suffix):
    B = load(saved(A, suffix), suffix)
    assert (B.shape, B.block_shape, B.order) == (A.shape, A.block_shape, A.order)
    assert (B.transposed, B.dtype) == (A.transposed, A.dtype)
    assert (B.packed_ind is None) == (A.packed_ind is None)
    assert bool((B.values == A.values).all())
    for name in ("row_ind", "col_ind", "blk_ptr"):
        assert np.array_equal(getattr(B, name), getattr(A, name))
        assert getattr(B, name).dtype == getattr(A, name).dtype
    assert B.cache == {}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_loaded_arrays_can_be_written(matrix, suffix):
    """Read-only arrays would be other types to compiled kernels, and PyTorch warns of them."""
    B = load(saved(matrix, suffix), suffix)
    assert B.values.flags.writeable
    assert B.row_ind.flags.writeable
    assert load(saved(matrix.astype("bfloat16"), suffix), suffix).dtype == "bfloat16"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_paths(matrix, tmp_path, suffix):
    path = tmp_path / f"layer{suffix}"
    matrix.save(path)
    matrix.T.save(str(path))  # replaces the first
    assert CSBMatrix.load(path).transposed
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with path.open("rb") as file:
        assert np.array_equal(CSBMatrix.load(file).to_dense(), matrix.T.to_dense())


def test_other_programs_can_read_the_files(matrix, tmp_path):
    with np.load(io.BytesIO(saved(matrix, ".npz")), allow_pickle=False) as arrays:
        assert np.array_equal(arrays["values"], matrix.values)
        assert json.loads(arrays["header"].tobytes())["shape"] == [9, 7]
    tensors = safetensors.numpy.load(saved(matrix, ".safetensors"))
    assert np.array_equal(tensors["values"], matrix.values)
    half = safetensors.torch.load(saved(matrix.astype("bfloat16"), ".safetensors"))
    assert half["values"].dtype == torch.bfloat16


def test_a_failed_save_leaves_the_old_file(matrix, tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    matrix.save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OptionError, match=r"a\.npz cannot be written: No space left on device"):
        matrix.T.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_names_without_a_known_suffix(matrix, tmp_path):
    with pytest.raises(OptionError, match=r"saved as \.npz or \.safetensors"):
        matrix.save(tmp_path / "a.csb")
    with pytest.raises(OptionError, match="cannot be written: No such file"):
        matrix.save(tmp_path / "none" / "a.npz")
    (tmp_path / "a.csb").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"needed is \.npz or \.safetensors"):
        CSBMatrix.load(tmp_path / "a.csb")


def rewritten(A, suffix, header=None, drop=(), **arrays) -> bytes:
    """Return the bytes of A's file with header fields and arrays replaced."""
    with np.load(io.BytesIO(saved(A, ".npz"))) as old:
        held = {name: old[name] for name in old.files}
    fields = json.loads(held.pop("header").tobytes())
    if header is not None:
        fields = {**fields, **header} if isinstance(header, dict) else header
    text = json.dumps(fields) if not isinstance(fields, bytes) else fields.decode()
    held = {name: array for name, array in {**held, **arrays}.items() if name not in drop}
    if suffix == ".safetensors":
        return safetensors.numpy.save(held, metadata={"header": text} if "header" not in drop else None)
    buffer = io.BytesIO()
    if "header" not in drop:
        held["header"] = np.frombuffer(text.encode(), np.uint8)
    np.savez(buffer, **held)
    return buffer.getvalue()


BROKEN = {
    "no header": ({"drop": ("header",)}, "the header is missing"),
    "no values": ({"drop": ("values",)}, "the header is missing"),
    "no rows": ({"drop": ("row_ind",)}, "holds no indices"),
    "header no JSON": ({"header": b"{"}, "broken header"),
    "header a list": ({"header": [1]}, "broken header"),
    "header too deep": ({"header": b"[" * 100000}, "broken header"),
    "other format": ({"header": {"format": "csr"}}, "its format is 'csr'"),
    "later version": ({"header": {"version": 2}}, "version 2; this csbviz reads version 1"),
    "shape of one": ({"header": {"shape": [9]}}, "broken header"),
    "shape of text": ({"header": {"shape": "97"}}, "broken header"),
    "shape huge": ({"header": {"shape": [9, 2**40]}}, "broken header"),
    "shape negative": ({"header": {"shape": [9, -7]}}, "broken header"),
    "shape larger": ({"header": {"shape": [9, 9]}}, "blk_ptr has 13 elements; needed are 16"),
    "block shape smaller": (
        {"header": {"shape": [9, 4], "block_shape": [4, 1]}},
        "col_ind holds 1; the block has",
    ),
    "block shape": ({"header": {"block_shape": [3, 2]}}, "powers of two"),
    "order unknown": ({"header": {"order": "hilbert"}}, "'hilbert'; needed is one of"),
    "order wrong": ({"header": {"order": "col"}}, "out of col order"),
    "transposed a number": ({"header": {"transposed": 1}}, "broken header"),
    "dtype unknown": ({"header": {"dtype": "int8"}}, "broken header"),
    "dtype other": ({"header": {"dtype": "float64"}}, "values as 1-D float32; its header says float64"),
    "pointers fall": ({"blk_ptr": np.array([0, 9, 3, *[25] * 10], np.int32)}, "must never fall|runs from"),
    "rows too large": ({"row_ind": np.full(25, 200, np.uint8)}, "row_ind holds 200"),
    "rows too wide": ({"row_ind": np.zeros(25, np.int32)}, "row_ind is 1-D int32"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", BROKEN)
def test_an_unsound_file_is_refused_in_one_sentence(matrix, case, suffix):
    changes, message = BROKEN[case]
    assert matrix.nnz == 25
    with pytest.raises(InputError, match=message) as caught:
        load(rewritten(matrix, suffix, **changes), suffix)
    assert str(caught.value).startswith(f"a{suffix}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_and_foreign_files(matrix, suffix):
    content = saved(matrix, suffix)
    for broken in (content[: len(content) // 2], content[:-1], content[:5], b"", b"\x89PNG" * 30):
        with pytest.raises(FileFormatError, match=rf"no sound \{suffix} file"):
            load(broken, suffix)


@given(suffixes, st.data())
def test_a_damaged_file_raises_nothing_but_its_sentence(suffix, data):
    A = CSBMatrix.from_scipy(scipy.sparse.eye(5, 6, format="csr", dtype=np.float32), 2)
    content = saved(A, suffix)
    at, cut = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 12))
    damaged = content[:at] + data.draw(st.binary(max_size=12)) + content[at + cut :]
    try:
        B = load(damaged, suffix)
    except CSBVizError:
        return
    B.check_format()
