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

    Where the table is wider than `width`, the texts of the first column lose their middle.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    if excess > 0:
        widths[0] = max(len(header[0]), 12, widths[0] - excess)
    lines = []
    for row in [list(header), *cells]:
        row[0] = _shorten(row[0], widths[0])
        padded = [
            cell.ljust(widths[index]) if index < left else cell.rjust(widths[index])
            for index, cell in enumerate(row)
        ]
        lines.append(_GAP.join(padded).rstrip())
    lines.insert(1, "-" * min(width, sum(widths) + len(_GAP) * (len(widths) - 1)))
    return lines


def _shorten(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    head = (width - 1) // 3
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
