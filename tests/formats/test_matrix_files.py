"""Matrix files: what is read, and how broken or hostile ones are refused: in a sentence and little memory."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from csbviz.errors import CSBVizError, FileFormatError, MatrixError
from csbviz.formats import CSBMatrix, file_bytes, load_matrix
from tests.strategies import messy_matrices, sparse_matrices

SMTX = b"3, 4, 5\n0 2 2 5 \n0 3 0 1 2 \n"
MTX = b"%%MatrixMarket matrix coordinate real general\n% a comment\n3 4 2\n1 2 1.5\n3 4 -2\n"
PATTERN = [[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 0]]


def load(content: bytes, name: str, **options):
    return load_matrix(io.BytesIO(content), name=name, **options)


def smtx_of(S) -> bytes:
    header = ", ".join(map(str, (*S.shape, S.nnz)))
    return "\n".join([header, " ".join(map(str, S.indptr)), " ".join(map(str, S.indices))]).encode()


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def scipy_npz(S, **changed) -> bytes:
    """Bytes of save_npz for a CSR matrix, with some of its arrays replaced."""
    arrays = {"format": b"csr", "shape": S.shape, "data": S.data, "indices": S.indices, "indptr": S.indptr}
    return npz(**{**arrays, **changed})


EYE = scipy.sparse.csr_matrix(np.eye(3, 4, dtype=np.float32))


# ---- good files ----


def test_smtx_gives_the_pattern_with_seeded_normals():
    S = load(SMTX, "a.smtx")
    assert (S.toarray() != 0).astype(int).tolist() == PATTERN
    assert S.dtype == np.float32
    assert np.array_equal(S.data, load(SMTX, "a.smtx").data)
    assert not np.array_equal(S.data, load(SMTX, "a.smtx", seed=1).data)


@given(sparse_matrices())
def test_smtx_reads_any_pattern(S):
    read = load(smtx_of(S), "a.smtx")
    assert read.shape == S.shape
    assert np.array_equal(read.indptr, S.indptr)
    assert np.array_equal(read.indices, S.indices)


@pytest.mark.skipif("DLMC_DIR" not in os.environ, reason="DLMC_DIR names no folder of DLMC matrices")
def test_every_real_smtx_file_is_read_as_its_text_says():
    files = sorted(Path(os.environ["DLMC_DIR"]).rglob("*.smtx*"))
    assert files
    for file in files:
        S = load_matrix(file)
        text = (gzip.open if file.suffix == ".gz" else open)(file, "rt").read().split("\n")
        assert (*S.shape, S.nnz) == tuple(map(int, text[0].split(",")))
        assert np.array_equal(S.indptr, np.array(text[1].split(), int))
        assert np.array_equal(S.indices, np.array(text[2].split(), int))


def test_smtx_columns_may_be_unsorted_and_repeated():
    S = load(b"1, 4, 3\n0 3\n3 1 3", "a.smtx")
    assert S.indices.tolist() == [1, 3]
    assert S.has_canonical_format


@pytest.mark.parametrize(
    ("layout", "field"),
    [("array", "real"), ("array", "integer"), *(("coordinate", f) for f in ("real", "integer", "pattern"))],
)
@pytest.mark.parametrize("symmetry", ["general", "symmetric"])
def test_mtx_reads_what_scipy_writes(layout, symmetry, field):
    dense = (
        np.array([[1, 0, 3], [0, 2, 0], [3, 0, 1]])
        if symmetry == "symmetric"
        else np.array([[0, 2], [1, 0], [0, 5]])
    )
    buffer = io.BytesIO()
    M = scipy.sparse.coo_matrix(dense) if layout == "coordinate" else dense
    scipy.io.mmwrite(buffer, M, field=field, symmetry=symmetry, comment="one\n two")
    S = load(buffer.getvalue(), "a.mtx")
    assert np.array_equal(S.toarray(), (dense != 0) if field == "pattern" else dense)
    assert S.dtype.kind == "f"


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("compressed", [True, False])
def test_npz_reads_what_scipy_saves(kind, compressed):
    S = scipy.sparse.random(12, 18, 0.2, format=kind, random_state=0)
    buffer = io.BytesIO()
    scipy.sparse.save_npz(buffer, S, compressed=compressed)
    assert np.array_equal(load(buffer.getvalue(), "a.npz").toarray(), S.toarray())


@given(messy_matrices(dtype="float64"), st.sampled_from(["csr", "coo", "csc"]))
def test_npz_of_untidy_matrices_is_sorted_and_summed(messy, kind):
    S, dense = messy
    buffer = io.BytesIO()
    scipy.sparse.save_npz(buffer, S.asformat(kind))
    read = load(buffer.getvalue(), "a.npz")
    assert read.has_canonical_format
    assert read.format == "csr"
    assert np.array_equal(read.toarray(), dense)


@pytest.mark.parametrize(
    ("dtype", "kept"), [("int32", "float64"), ("bool", "float32"), (">f8", "float64"), ("f2", "float32")]
)
def test_npz_values_become_floats_that_scipy_computes_with(dtype, kept):
    S = load(scipy_npz(EYE, data=np.ones(3, dtype)), "a.npz")
    assert S.dtype == kept
    assert np.array_equal(S.toarray(), EYE.toarray())


def test_a_saved_csb_matrix_is_a_matrix_file():
    A = CSBMatrix.from_scipy(EYE, 2, "morton").T
    buffer = io.BytesIO()
    A.save(buffer, name="a.npz")
    assert np.array_equal(load(buffer.getvalue(), "a.npz").toarray(), EYE.toarray().T)


@pytest.mark.parametrize(("name", "content"), [("a.smtx", SMTX), ("a.mtx", MTX), ("a.npz", scipy_npz(EYE))])
def test_paths_open_files_and_gzip_give_the_same(tmp_path, name, content):
    expected = load(content, name).toarray()
    plain, packed = tmp_path / name, tmp_path / f"{name.upper()}.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    with plain.open("rb") as file:  # its name comes with it, as with an uploaded file
        sources = [plain, str(plain), packed, file]
        assert all(np.array_equal(load_matrix(source).toarray(), expected) for source in sources)


@pytest.mark.parametrize("shape", ["0, 0, 0\n0\n\n", "0, 5, 0\n0\n", "2, 0, 0\n0 0 0\n"])
def test_smtx_without_cells(shape):
    assert load(shape.encode(), "a.smtx").nnz == 0


# ---- broken files ----

PICKLE = pickle.dumps(np.array([{}], dtype=object))
BROKEN = {
    "smtx of another kind": ("a.smtx", b"\x89PNG\r\n\x1a\n", FileFormatError, "first line must be"),
    "smtx empty": ("a.smtx", b"", FileFormatError, "first line must be"),
    "smtx header of two": ("a.smtx", b"3, 4\n0\n", FileFormatError, "first line must be"),
    "smtx endless header": ("a.smtx", b"9" * 5000 + b", 1, 1\n", FileFormatError, "first line must be"),
    "smtx truncated": ("a.smtx", SMTX[:-5], FileFormatError, "promises 9 numbers"),
    "smtx truncated in the middle": (
        "a.smtx",
        SMTX[:-9] + b"          ",
        FileFormatError,
        "promises 9 numbers and holds 5",
    ),
    "smtx too long": (
        "a.smtx",
        SMTX + b"1 2 3",
        FileFormatError,
        "goes on too long: .* promises 9 .* holds 12",
    ),
    "smtx column": (
        "a.smtx",
        SMTX.replace(b"0 3 0", b"0 4 0"),
        MatrixError,
        "column 4; the matrix has columns 0 to 3",
    ),
    "smtx negative column": (
        "a.smtx",
        SMTX.replace(b"0 3 0", b"0 -3 0"),
        MatrixError,
        "negative offset or index",
    ),
    "smtx beyond 64 bits": ("a.smtx", b"1, 4, 1\n0 1\n" + b"9" * 30, MatrixError, "has a nonzero in column"),
    "smtx offsets fall": (
        "a.smtx",
        SMTX.replace(b"0 2 2 5", b"0 3 2 5"),
        MatrixError,
        "Row 1 begins at entry 3",
    ),
    "smtx offsets short": (
        "a.smtx",
        SMTX.replace(b"0 2 2 5", b"0 2 2 4"),
        MatrixError,
        "offsets up to 4 but promises 5",
    ),
    "smtx offsets beyond": (
        "a.smtx",
        SMTX.replace(b"0 2 2 5", b"0 2 2 9"),
        MatrixError,
        "offsets up to 9 but promises 5",
    ),
    "smtx negative size": (
        "a.smtx",
        b"-3, 4, 5\n0\n0\n",
        MatrixError,
        "-3 rows; that number cannot be negative",
    ),
    "smtx with letters": ("a.smtx", SMTX.replace(b"0 1 2", b"0 x 2"), FileFormatError, "'x' stands among"),
    "smtx with fractions": (
        "a.smtx",
        SMTX.replace(b"0 1 2", b"0 1.5 2"),
        FileFormatError,
        r"'\.' stands among",
    ),
    "smtx huge claim": ("a.smtx", b"3, 4, 900000000000\n0 0\n", FileFormatError, "promises 900,000,000,004"),
    "smtx huge rows": ("a.smtx", b"900000000000, 4, 1\n0 0\n", MatrixError, "900,000,000,000 rows; at most"),
    "mtx of another kind": ("a.mtx", SMTX, FileFormatError, "must begin with a '%%MatrixMarket matrix"),
    "mtx complex": ("a.mtx", MTX.replace(b"real", b"complex"), MatrixError, "complex values"),
    "mtx truncated": ("a.mtx", MTX[:-7] + b"     \n", FileFormatError, "promises 2 entries and holds 1"),
    "mtx claims more": (
        "a.mtx",
        MTX.replace(b"3 4 2", b"3 4 999"),
        FileFormatError,
        "promises entries of 5,993 bytes",
    ),
    "mtx row": (
        "a.mtx",
        MTX.replace(b"3 4 -2", b"4 4 -2"),
        MatrixError,
        "entry in row 4; the file's rows are 1 to 3",
    ),
    "mtx row zero": (
        "a.mtx",
        MTX.replace(b"1 2 1.5", b"0 2 1.5"),
        MatrixError,
        "entry in row 0; the file's rows are 1 to",
    ),
    "mtx NaN": ("a.mtx", MTX.replace(b"-2", b"nan"), MatrixError, "value nan in row 2, column 3"),
    "mtx infinite": ("a.mtx", MTX.replace(b"-2", b"inf"), MatrixError, "value inf in row 2, column 3"),
    "mtx word": ("a.mtx", MTX.replace(b"1.5", b"abc"), FileFormatError, "no sound Matrix Market file"),
    "mtx negative size": ("a.mtx", MTX.replace(b"3 4 2", b"3 -4 2"), MatrixError, "-4 columns"),
    "mtx no size": ("a.mtx", MTX[:46] + b"% only this\n", FileFormatError, "line of sizes needs 3"),
    "mtx two sizes": ("a.mtx", MTX.replace(b"3 4 2", b"3 4"), FileFormatError, "line of sizes needs 3"),
    "mtx huge side": ("a.mtx", MTX.replace(b"3 4 2", b"3 99999999999 2"), MatrixError, "at most 16,777,216"),
    "mtx huge array": (
        "a.mtx",
        b"%%MatrixMarket matrix array real general\n9999999 9999999\n1\n",
        FileFormatError,
        "promises entries of 199,999,960,000,001 bytes",
    ),
    "mtx odd layout": ("a.mtx", MTX.replace(b"coordinate", b"elemental"), FileFormatError, "line of sizes"),
    "npz of another kind": ("a.npz", MTX, FileFormatError, "no sound .npz file"),
    "npz truncated": ("a.npz", scipy_npz(EYE)[:-40], FileFormatError, "no sound .npz file"),
    "npz of a model": (
        "a.npz",
        npz(weight=np.eye(2), bias=np.ones(2)),
        FileFormatError,
        "holds bias, weight; needed",
    ),
    "npz empty": ("a.npz", npz(), FileFormatError, "holds nothing; needed"),
    "npz unknown format": ("a.npz", scipy_npz(EYE, format=b"dok"), FileFormatError, "needed is a matrix of"),
    "npz object array": ("a.npz", npz(data=np.array([{}], dtype=object)), FileFormatError, "Python objects"),
    "npz column": (
        "a.npz",
        scipy_npz(EYE, indices=[0, 1, 4]),
        MatrixError,
        "column 4; the matrix has columns 0 to 3",
    ),
    "npz negative column": ("a.npz", scipy_npz(EYE, indices=[0, 1, -1]), MatrixError, "column -1"),
    "npz pointers fall": (
        "a.npz",
        scipy_npz(EYE, indptr=[0, 2, 1, 3]),
        MatrixError,
        "Row 1 begins at entry 2",
    ),
    "npz pointers beyond": ("a.npz", scipy_npz(EYE, indptr=[0, 1, 2, 4]), MatrixError, "run from 0 to 4"),
    "npz few pointers": (
        "a.npz",
        scipy_npz(EYE, indptr=[0, 3]),
        MatrixError,
        "2 row pointers; 3 rows need 4",
    ),
    "npz few values": ("a.npz", scipy_npz(EYE, data=np.ones(2)), MatrixError, "2 values for 3 indices"),
    "npz NaN": (
        "a.npz",
        scipy_npz(EYE, data=np.array([1, np.nan, 1])),
        MatrixError,
        "value nan in row 1, column 1",
    ),
    "npz complex": (
        "a.npz",
        scipy_npz(EYE, data=np.ones(3, complex)),
        MatrixError,
        "complex128; needed are 1-D real",
    ),
    "npz fractions": (
        "a.npz",
        scipy_npz(EYE, indices=[0.0, 1, 2]),
        MatrixError,
        "float64; needed are 1-D whole",
    ),
    "npz shape": ("a.npz", scipy_npz(EYE, shape=(3, 4, 1)), MatrixError, "needed are two whole numbers"),
    "npz negative shape": ("a.npz", scipy_npz(EYE, shape=(-3, 4)), MatrixError, "-3 rows"),
    "npz huge shape": ("a.npz", scipy_npz(EYE, shape=(3, 2**40)), MatrixError, "at most 16,777,216"),
    "npz csc row": (
        "a.npz",
        scipy_npz(EYE.tocsc(), format=b"csc", indices=[0, 3, 1]),
        MatrixError,
        "row 3; .* rows 0 to 2",
    ),
    "npz coo row": (
        "a.npz",
        npz(format=b"coo", shape=(2, 2), data=np.ones(1), row=[2], col=[0]),
        MatrixError,
        "row 2; the matrix has rows 0 to 1",
    ),
    "npz coo lengths": (
        "a.npz",
        npz(format=b"coo", shape=(2, 2), data=np.ones(1), row=[0, 1], col=[0]),
        MatrixError,
        "1 values, 2 rows and 1 columns",
    ),
    "npz bsr blocks": (
        "a.npz",
        npz(format=b"bsr", shape=(3, 4), data=np.ones((1, 2, 2)), indices=[0], indptr=[0, 1]),
        MatrixError,
        "do not divide its shape",
    ),
    "npz dia offsets": (
        "a.npz",
        npz(format=b"dia", shape=(3, 4), data=np.ones((2, 4)), offsets=[0, 0]),
        MatrixError,
        "2 diagonals for 2 distinct offsets|distinct offsets",
    ),
    "gz of another kind": ("a.smtx.gz", SMTX, FileFormatError, "no sound gzip data"),
    "gz truncated": ("a.smtx.gz", gzip.compress(SMTX)[:-10], FileFormatError, "is truncated"),
    "gz damaged": ("a.smtx.gz", gzip.compress(SMTX * 50)[:20] + b"\xff" * 40, FileFormatError, "gzip"),
    "name of another kind": ("a.csv", SMTX, FileFormatError, r"needed is .smtx, .mtx, .npz, each also .gz"),
    "pickle as npz": ("a.npz", PICKLE, FileFormatError, "no sound .npz file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_in_one_sentence_and_little_memory(case):
    name, content, error, message = BROKEN[case]
    tracemalloc.start()
    try:
        with pytest.raises(error, match=message) as caught:
            load(content, name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 250
    assert peak < 8e6  # nothing of the size that a header claims; importing SciPy's reader takes some


def test_a_pickle_inside_npz_is_never_run():
    class Trap:
        def __reduce__(self):
            return (os.putenv, ("CSBVIZ_TRAP", "sprung"))

    buffer = io.BytesIO()
    np.savez(buffer, format=np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(FileFormatError, match="Python objects"):
        load(buffer.getvalue(), "a.npz")


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (900000000000,)}", b"1234"),
            "3,600,000,000,000 bytes",
        ),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", b"1234"), "holds 4 of them"),
        (
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -2, -1)}", b"1234" * 4),
            "holds 16 of them",
        ),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"1234"), "Python objects"),
        (
            npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}", b"12345678"),
            "Python objects",
        ),
        (npy("__import__('os').getcwd()"), "no NumPy array"),
        (npy("(" * 2000), "no NumPy array"),
        (b"\x93NUMPY\x09\x00", "no NumPy array"),
        (b"not an array", "no NumPy array"),
        (b"", "no NumPy array"),
    ],
)
def test_hostile_arrays_inside_npz_are_refused(content, message):
    with pytest.raises(FileFormatError, match=message):
        load(zipped(data=content), "a.npz")


def test_archives_that_unpack_to_more_than_the_bound_are_cut_off(monkeypatch):
    monkeypatch.setattr(file_bytes, "MAX_BYTES", 2**20)
    bomb = b"3, 4, 5\n" + b"0 " * 2**23
    with pytest.raises(FileFormatError, match="unpacked, holds more than 1 MiB"):
        load(gzip.compress(bomb), "a.smtx.gz")
    with pytest.raises(FileFormatError, match="unpacks to more than 1 MiB"):
        load(zipped(data=bomb), "a.npz")
    with pytest.raises(FileFormatError, match=r"a\.smtx holds more than 1 MiB"):
        load(bomb, "a.smtx")


def test_a_gzip_bomb_is_not_unpacked_beyond_the_bound(monkeypatch):
    monkeypatch.setattr(file_bytes, "MAX_BYTES", 2**20)
    bomb = gzip.compress(b"\0" * 2**26)
    tracemalloc.start()
    try:
        with pytest.raises(FileFormatError):
            load(bomb, "a.mtx.gz")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(FileFormatError, match=r"none\.smtx cannot be read: No such file"):
        load_matrix(tmp_path / "none.smtx")
    with pytest.raises(FileFormatError, match="cannot be read: Is a directory"):
        load_matrix(tmp_path)
    with pytest.raises(FileFormatError, match="opened as text"):
        load_matrix(io.StringIO("3, 4"), name="a.smtx")


@pytest.mark.parametrize(
    ("end", "shown"),
    [  # at the first four SciPy's compiled reader runs past the end of its memory
        (b"1 2 1.5\x8cp2\rQ \x9f9\xbe1\0", "line 4 is '1 2 1.5"),
        (b"1 2 1.5\n3 4 571\xaf\xff ", "line 5 is '3 4 571¯ÿ'"),
        (b"1 2 1.5.\x932", "line 4 is '1 2 1.5."),
        (b"1 2 1.5\n3 4 -22-%?0\xdce\x8f 8+\xf7", "line 5 is '3 4 -22-"),
        (b"1 2 1.5\n3 4", "line 5 is '3 4'"),
        (b"1 2 1.5\n% a comment\n3 4 1\n", "line 5 is '% a comment'"),
    ],
)
def test_a_line_that_is_no_entry_is_named(end, shown):
    head = b"%%MatrixMarket matrix coordinate real general\n% a comment\n3 4 2\n"
    with pytest.raises(FileFormatError) as raised:
        load(head + end, "a.mtx")
    assert shown in str(raised.value)
    assert str(raised.value).endswith("needed is a row, a column and a value.")


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("symmetry", ["general", "symmetric", "skew-symmetric"])
@pytest.mark.parametrize("whole", [False, True])
def test_mtx_files_hold_what_scipy_wrote(sparse, symmetry, whole):
    rng = np.random.default_rng(5)
    M = rng.integers(-5, 6, (6, 6)) if whole else rng.standard_normal((6, 6)).round(6)
    M = {"general": M, "symmetric": M + M.T, "skew-symmetric": M - M.T}[symmetry]
    file = io.BytesIO()
    scipy.io.mmwrite(file, scipy.sparse.coo_matrix(M) if sparse else M, symmetry=symmetry)
    np.testing.assert_allclose(load(file.getvalue(), "a.mtx").toarray(), M, rtol=1e-6)


def test_an_empty_mtx_file_is_an_empty_matrix():
    assert load(b"%%MatrixMarket matrix array real general\n0 12\n", "a.mtx").shape == (0, 12)
    with pytest.raises(FileFormatError, match="goes on too long: it promises 0 entries and holds 2"):
        load(b"%%MatrixMarket matrix array real general\n0 12\n1\n2\n", "a.mtx")


@pytest.mark.parametrize("layout", ["array", "coordinate"])
@pytest.mark.parametrize("symmetry", ["symmetric", "skew-symmetric"])
def test_a_symmetric_matrix_must_be_square(layout, symmetry):
    sizes = "2 212" if layout == "array" else "2 212 1"
    content = f"%%MatrixMarket matrix {layout} integer {symmetry}\n{sizes}\n" + "1\n" * 500
    with pytest.raises(
        MatrixError, match=rf"is {symmetry} but has 2 rows and 212 columns; it must be square"
    ):
        load(content.encode(), "a.mtx")


@pytest.mark.parametrize("last", [b"3 4 -2", b"3 4 -2\n", b"3 4 -2\r\n", b"\n  3\t4  -2.e+0 \n\n"])
def test_lines_may_end_and_be_spaced_in_any_way(last):
    found = load(b"%%MatrixMarket matrix coordinate real general\n3 4 2\n1 2 1.5\n" + last, "a.mtx")
    np.testing.assert_array_equal(found.toarray(), [[0, 1.5, 0, 0], [0] * 4, [0, 0, 0, -2]])


@given(st.sampled_from(["a.smtx", "a.mtx", "a.npz", "a.smtx.gz"]), st.data())
def test_a_damaged_file_raises_nothing_but_its_sentence(name, data):
    """Flip, cut or insert bytes anywhere: the file is read or refused, never another exception."""
    content = {"a.smtx": SMTX, "a.mtx": MTX, "a.npz": scipy_npz(EYE), "a.smtx.gz": gzip.compress(SMTX)}[name]
    at = data.draw(st.integers(0, len(content)))
    cut = data.draw(st.integers(0, 12))
    damaged = content[:at] + data.draw(st.binary(max_size=12)) + content[at + cut :]
    try:
        S = load(damaged, name)
    except CSBVizError:
        return
    S.check_format(full_check=True)
    assert np.isfinite(S.data).all()
