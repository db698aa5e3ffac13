"""Names from files stay plain text."""

import re

import pytest

from csbviz.ui.text import escape


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "**bold** _it_",
        ":red[x] :material/home:",
        "$x^2$",
        "[a](http://b)",
        "`c`",
        "# h",
        "a|b~c~",
    ],
)
def test_no_character_of_markup_is_left_bare(name):
    escaped = escape(name)
    assert "<" not in escaped
    assert not re.search(r"(?<!\\)[*_`\[\]()#$:|~!]", escaped)


def test_a_name_keeps_its_words_and_loses_its_line_breaks():
    assert escape("fc1\nweight") == "fc1 weight"


def test_an_entity_is_shown_as_typed():
    assert escape("a&lt;b") == "a&amp;lt;b"
