"""Settings in the URL: read back what was written, and survive what anybody may type."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csbviz.ui.settings import BLOCK_SIDES, DTYPES, OPS, ORDERS, Settings, from_query, to_query

names = st.text(min_size=1, max_size=40)
ranges = st.tuples(st.integers(0, 500), st.integers(501, 9000))
all_settings = st.builds(
    Settings,
    model=st.none() | names,
    layer=st.none() | names,
    method=st.none() | st.sampled_from(["none", "magnitude", "random"]),
    sparsity=st.integers(0, 998).map(lambda tenths: tenths / 10),
    locked=st.none() | st.lists(names, unique=True, max_size=4).map(tuple),
    block=st.none() | st.tuples(st.sampled_from(BLOCK_SIDES), st.sampled_from(BLOCK_SIDES)),
    linked=st.just(False),
    order=st.sampled_from(ORDERS),
    rows=st.none() | ranges,
    cols=st.none() | ranges,
    at=st.none() | st.tuples(st.integers(0, 99), st.integers(0, 99)),
    balance=st.sampled_from(["auto", "in_order", "swizzle", "chunks", "equal_nnz"]),
    ns=st.lists(st.integers(1, 65536), unique=True, min_size=1, max_size=4).map(tuple),
    dtype=st.sampled_from(DTYPES),
    ops=st.sampled_from([OPS, OPS[:1], OPS[1:]]),
    workers=st.none() | st.integers(1, 1024),
    seed=st.integers(0, 2**31 - 1),
)


@given(all_settings)
def test_a_link_gives_the_settings_back(settings):
    assert from_query(to_query(settings)) == (settings, [])


def test_defaults_make_an_empty_link():
    assert to_query(Settings()) == {}


@given(st.dictionaries(st.sampled_from([field.name for field in fields(Settings)]), st.text(max_size=30)))
def test_any_text_gives_settings_that_can_be_written_again(query):
    settings, _ = from_query(query)
    assert from_query(to_query(settings))[0] == settings


@pytest.mark.parametrize(
    ("query", "field", "used"),
    [
        ({"sparsity": "150"}, "sparsity", 99.9),
        ({"sparsity": "-3"}, "sparsity", 0.0),
        ({"block": "48x64"}, "block", (32, 64)),
        ({"block": "1x100000"}, "block", (4, 4096)),
        ({"workers": "0"}, "workers", 1),
        ({"ns": "0,128"}, "ns", (1, 128)),
        ({"ns": "1,2,3,4,5,6"}, "ns", (1, 2, 3, 4)),
        ({"seed": "99999999999999"}, "seed", 2**31 - 1),
    ],
)
def test_values_out_of_range_are_clamped_with_one_sentence(query, field, used):
    settings, notes = from_query(query)
    assert getattr(settings, field) == used
    assert len(notes) == 1
    assert notes[0].endswith(".")


@pytest.mark.parametrize(
    "query",
    [
        {"sparsity": "nan"},
        {"sparsity": "much"},
        {"block": "64"},
        {"block": "axb"},
        {"rows": "9-3"},
        {"at": "1"},
        {"balance": "best"},
        {"device": "tpu"},
        {"ops": "B@A"},
        {"model": ""},
        {"layer": "x" * 301},
        {"linked": "yes"},
    ],
)
def test_values_that_cannot_be_used_fall_back_with_one_sentence(query):
    settings, notes = from_query(query)
    assert settings == Settings()
    assert len(notes) == 1


def test_unknown_names_are_named():
    settings, notes = from_query({"colour": "red"})
    assert settings == Settings()
    assert "colour" in notes[0]


@pytest.mark.parametrize("field", ["locked", "kernels"])
def test_none_of_a_list_differs_from_nothing_chosen(field):
    assert getattr(from_query({field: ""})[0], field) == ()
    assert getattr(from_query({})[0], field) is None
