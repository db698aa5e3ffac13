"""Numbers and names as people read them, and names from files as plain text in Markdown."""

from __future__ import annotations

import re

from csbviz.bench.names import OP_NAMES, class_name
from csbviz.figures.text import (
    count,
    html_escape,
    list_of,
    percent,
    plural,
    ratio,
    shape,
    significant,
    size,
    time_us,
)

__all__ = [
    "OP_NAMES",
    "class_name",
    "count",
    "escape",
    "html_escape",
    "list_of",
    "percent",
    "plural",
    "ratio",
    "shape",
    "significant",
    "size",
    "time_us",
]

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:>])")


def escape(text: str) -> str:
    """Make a name from a file plain text inside Markdown: no markup, formula, link, icon or HTML acts."""
    flat = " ".join(str(text).split())
    return _MARKDOWN.sub(r"\\\1", flat.replace("&", "&amp;")).replace("<", "&lt;")
