"""What commands print: tables that fit 100 columns, and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["WIDTH", "emit", "joined", "table", "wrapped"]

WIDTH = 100
"""Columns that every table fits into."""

_GAP = "  "


def emit(destination: str | None, result: Any, lines: Iterable[str]) -> None:
    """Print the lines, and write the result as JSON where that was asked for.

    Parameters
    ----------
    destination : str or None
        Path of the JSON file; "-" writes JSON to stdout instead of the lines.
    result : object
        Lists, dicts and numbers; a number that is not finite is written as null, because JSON has none.
    lines : iterable of str
        What a person reads.
    """
    if destination == "-":
        print(_to_json(result))
        return
    if destination is not None:
        Path(destination).write_text(_to_json(result) + "\n", encoding="utf-8")
    for line in lines:
        print(_printable(line))


def _printable(line: str) -> str:
    """The line without control characters, which a name from a file may hold, in what stdout can encode."""
    line = "".join(character if character.isprintable() else "�" for character in line)
    encoding = sys.stdout.encoding or "utf-8"
    return line.encode(encoding, "replace").decode(encoding)


def _to_json(result: Any) -> str:
    return json.dumps(_clean(result), indent=2, ensure_ascii=False, allow_nan=False)


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy scalars and arrays
        return _clean(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(
    header: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1, width: int = WIDTH
) -> list[str]:
    """Lines of a table: the first `left` columns flush left, the others flush right.

    Where the table is wider than `width`, the first column, which holds names, gets lines of its own.
    """
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    stacked = sum(widths) + len(_GAP) * (len(widths) - 1) > width
    if stacked:
        widths[0] = 0  # the numbers stand below the name, indented by the gap
    rule = "-" * (sum(widths) + len(_GAP) * (len(widths) - 1))
    lines = []
    for row in cells:
        if stacked:
            lines.append(_shorten(row[0], width))
            row[0] = ""
        padded = [
            cell.ljust(widths[index]) if index < left else cell.rjust(widths[index])
            for index, cell in enumerate(row)
        ]
        lines.append(_GAP.join(padded).rstrip())
    lines.insert(2 if stacked else 1, rule)
    return lines


def _shorten(text: str, width: int) -> str:
    """The text without its middle where it is longer than `width`."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return text[:head] + "…" + text[len(text) - (width - 1 - head) :]


def wrapped(label: str, text: str, indent: int = 12, width: int = WIDTH) -> list[str]:
    """Lines of a labelled text that is broken between words."""
    import textwrap

    return textwrap.wrap(
        text,
        width,
        initial_indent=label.ljust(indent),
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    ) or [label]


def joined(values: Iterable[Any]) -> str:
    """Values separated by commas, or a dash for none."""
    return ", ".join(map(str, values)) or "-"
