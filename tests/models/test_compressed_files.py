"""A .csbz file is read bit for bit, or refused in one sentence and with little memory."""

import hashlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csbviz.errors import FileFormatError, InputError
from csbviz.models import SUFFIXES, load_model
from csbviz.models.opened import open_bytes
from csbviz.models.read_compressed import CODINGS, MAGIC
from csbviz.pruning.compression import encode
from tests.models.model_files import file_bytes


def model():
    """A model of one sparse weight with three values, and a bias."""
    weight = np.zeros((20, 30), np.float32)
    weight.reshape(-1)[[3, 50, 51, 200, 590]] = [1, 2, 1, 1, -4]
    buffer = io.BytesIO()
    np.savez(buffer, **{"fc.weight": weight, "fc.bias": np.arange(3, dtype=np.float32)})
    return load_model(buffer.getvalue(), name="net.npz")


FILES = {coding: encode(model(), coding=coding).data for coding in CODINGS}


def parts(data):
    """Header and bytes of the tensors."""
    length = int.from_bytes(data[12:16], "little")
    return json.loads(data[16 : 16 + length]), data[16 + length : -32]


def file_of(header, body, version=1, length=None):
    """A file with a right checksum, whatever else it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    data = MAGIC + version.to_bytes(2, "little") + b"\0\0" + size.to_bytes(4, "little") + text + body
    return data + hashlib.sha256(data).digest()


def refusal(data):
    with pytest.raises(FileFormatError) as caught:
        load_model(data, name="net.csbz")
    text = str(caught.value)
    assert text.startswith("net.csbz ")
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 300
    return text


def model_or_sentence(data):
    try:
        return load_model(data, name="net.csbz")
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_is_read(coding, tmp_path):
    path = tmp_path / "net.csbz"
    path.write_bytes(FILES[coding])
    for source in (path, io.BytesIO(FILES[coding])):
        found = load_model(source, name="net.csbz")
        assert found.name == "net"
        for layer in model().layers:
            assert found.layer(layer.name).tensor.data.tobytes() == layer.tensor.data.tobytes()
    assert open_bytes(FILES[coding], "net.csbz").nnz == 5
    assert parts(FILES[coding])[0]["tensors"][0]["coding"] == coding


def test_the_ending_is_known():
    assert ".csbz" in SUFFIXES
    with pytest.raises(FileFormatError, match=r"rename it to \.csbz"):
        load_model(FILES["raw"], name="net.npz")
    with pytest.raises(FileFormatError, match=r"rename it to \.npz"):
        load_model(file_bytes(".npz"), name="net.csbz")


@settings(max_examples=60)
@given(st.sampled_from(CODINGS), st.data())
def test_a_damaged_byte_or_a_missing_end_is_noticed(coding, data):
    good = FILES[coding]
    at = data.draw(st.integers(0, len(good) - 1))
    changed = bytes([good[at] ^ data.draw(st.integers(1, 255))])
    with pytest.raises(InputError):
        load_model(good[:at] + changed + good[at + 1 :], name="net.csbz")
    with pytest.raises(InputError):
        load_model(good[:at], name="net.csbz")


@settings(max_examples=80)
@given(st.sampled_from(CODINGS), st.data())
def test_wrong_bytes_under_a_right_checksum_give_a_sentence_or_weights(coding, data):
    header, body = parts(FILES[coding])
    body = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    found = model_or_sentence(file_of(header, bytes(body)))
    assert isinstance(found, str) or found.layer("fc.weight").shape == (20, 30)


JUNK = st.sampled_from(
    [None, -1, 0, 1, 2.5, 7, 255, 10**6, 1 << 62, "x", True, [], [1], {}, "float32", "raw"]
)


@settings(max_examples=80)
@given(st.sampled_from(CODINGS), st.data())
def test_wrong_headers_under_a_right_checksum_give_a_sentence_or_weights(coding, data):
    header, body = parts(FILES[coding])
    entry = data.draw(st.sampled_from([*header["tensors"], header]))
    key = data.draw(st.sampled_from(sorted(entry)))
    if data.draw(st.booleans()):
        entry[key] = data.draw(JUNK)
    else:
        del entry[key]
    found = model_or_sentence(file_of(header, body))
    assert not isinstance(found, str) or (found.endswith(".") and "\n" not in found)


def changed(coding="huffman", **fields):
    header, body = parts(FILES[coding])
    header["tensors"][0].update(fields)
    return header, body


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (MAGIC, "truncated"),
        (file_of(*parts(FILES["raw"]), version=2), "version 2"),
        (file_of(*parts(FILES["raw"]), length=1 << 31), "its header claims 2,147,483,648 bytes"),
        (file_of(b"[" * 100_000, b""), "not valid JSON"),
        (file_of(b"[]", b""), "a JSON object is needed"),
        (file_of({"metadata": {}}, b""), "'tensors' is missing"),
        (file_of({"metadata": {"a": 1}, "tensors": []}, b""), "text to text"),
        (file_of(*changed(name="fc.bias")), "a name appears twice"),
        (file_of(*changed(dtype="int32")), "only kept raw"),
        (file_of(*changed(entries=601)), "from 0 to 600"),
        (file_of(*changed(gap_bits=9)), "gap_bits must be"),
        (file_of(*changed(entries=1)), "gap_bytes must be"),
        (file_of(*changed(entries=100)), "do not end where its bits do"),
        (file_of(*changed(shape=[6, 100])), None),
        (file_of(*changed(shape=[30])), "run past its end"),
        (file_of(*changed("codes", centroids=0)), "bytes of tensors where its header needs"),
        (file_of(parts(FILES["raw"])[0], b""), "0 bytes of tensors"),
    ],
)
def test_what_is_wrong_is_said(data, words):
    if words is None:
        assert load_model(data, name="net.csbz").layer("fc").shape == (6, 100)
    else:
        assert words in refusal(data)


def test_a_code_that_is_not_complete_is_refused():
    header, body = parts(FILES["huffman"])
    book = 4 * header["tensors"][0]["centroids"]
    assert "not complete" in refusal(file_of(header, body[:book] + b"\x33" + body[book + 1 :]))


@pytest.mark.parametrize("shape", [[1 << 20, 1 << 20], [1 << 15, 1 << 15], [1 << 47, 1 << 47, 1 << 47]])
def test_a_small_file_cannot_fill_the_memory(shape):
    bomb = file_of(*changed(shape=shape))
    tracemalloc.start()
    try:
        assert "claims to unpack to" in refusal(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
