"""The settings of a session, and their form in the URL.

Every control of the app writes one field of :class:`Settings`. A link holds the fields that differ from
their defaults. Whoever opens a link may have edited it, so :func:`from_query` checks every value: it clamps
numbers, drops what it cannot use, and says so in one sentence a value. Nothing here imports Streamlit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

__all__ = [
    "BLOCK_SIDES",
    "LOADED",
    "NS",
    "TRAINED",
    "Settings",
    "from_query",
    "to_query",
]

LOADED, TRAINED = "none", "trained"
"""Settings of `method` that are no criterion: weights as loaded, and weights that were trained here."""
SCOPES = ("global", "layer")
ORDERS = ("row", "col", "morton")
DIRECTIONS = ("A@B", "A.T@B")
OPS = (*DIRECTIONS, "A@x", "A.T@x", "layer")
DTYPES = ("float32", "float64", "float16", "bfloat16")
SOURCES = ("here", "recorded")
DEVICES = ("cpu", "cuda")
MODES = ("warm", "cold")
BLOCK_SIDES = tuple(2**p for p in range(2, 13))
NS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
MAX_SPARSITY = 99.9
MAX_WORKERS = 1024
MAX_TILES = 64
MAX_SEED = 2**31 - 1
MAX_NAME = 300
"""Longest name of a model, layer or kernel that is taken from a link."""
MAX_GROUP = 64
"""Largest M of N:M."""
MAX_UNIT = 4096
"""Longest side of a block that is pruned."""
MAX_NS = 4
"""Most values of N in one run: each is timed for every kernel and operation."""


@dataclass(frozen=True)
class Settings:
    """What the user has chosen; ``None`` stands for "automatic" or "nothing chosen".

    ``kernels`` is None for the kernels that `csbviz.ui.kernel_choice` picks, ("*",) for all of them;
    ``recording`` and ``run`` name what is looked at on the page Run, ``matrix`` and ``way`` a recording and
    one of its runs on the page Balance.
    ``unit`` is the block shape of pruning, None for that of the CSB layout; ``nm`` is N and M.
    ``sparsity`` is in percent; ``block``, ``rows``, ``cols`` and ``at`` are pairs of ints: the block shape,
    the half-open ranges of the zoomed picture, the selected block as (block row, block column).
    """

    model: str | None = None
    layer: str | None = None
    method: str | None = None
    scope: str = "global"
    granularity: str = "weight"
    nm: tuple[int, int] = (2, 4)
    unit: tuple[int, int] | None = None
    sparsity: float = 90.0
    seed: int = 0
    locked: tuple[str, ...] | None = None
    block: tuple[int, int] | None = None
    linked: bool = True
    order: str = "row"
    rows: tuple[int, int] | None = None
    cols: tuple[int, int] | None = None
    at: tuple[int, int] | None = None
    balance: str = "auto"
    direction: str = "A@B"
    played: str = "simulated"
    matrix: str | None = None
    way: str | None = None
    units: str = "cpu"
    workers: int | None = None
    tiles: int = 1
    ns: tuple[int, ...] = (128,)
    dtype: str = "float32"
    ops: tuple[str, ...] = DIRECTIONS
    device: str = "cpu"
    kernels: tuple[str, ...] | None = None
    mode: str = "warm"
    threads: int | None = None
    source: str = "here"
    recording: str | None = None
    run: str | None = None


class _Refused(ValueError):
    """A value of the URL that cannot be used; the message says what is needed."""


_Parsed = tuple[object, str | None]
"""A usable value, and a sentence when it is not quite what was asked for."""


def _choice(options: tuple[str, ...]) -> Callable[[str], _Parsed]:
    def parse(text: str) -> _Parsed:
        if text not in options:
            raise _Refused(f"it must be one of {', '.join(options)}")
        return text, None

    return parse


def _clamped(kind: type, low: float, high: float) -> Callable[[str], _Parsed]:
    def parse(text: str) -> _Parsed:
        try:
            number = kind(text)
        except ValueError:
            raise _Refused("it must be a number" if kind is float else "it must be a whole number") from None
        if number != number:
            raise _Refused("it must be a number")
        used = kind(min(max(number, low), high))
        return used, None if used == number else f"it must lie in {low:g} to {high:g}, so {used:g} is used"

    return parse


def _name(text: str) -> _Parsed:
    if not text or len(text) > MAX_NAME:
        raise _Refused(f"it must have 1 to {MAX_NAME} characters")
    return text, None


def _flag(text: str) -> _Parsed:
    if text not in ("0", "1"):
        raise _Refused("it must be 0 or 1")
    return text == "1", None


def _nearest_side(number: int) -> int:
    return min(BLOCK_SIDES, key=lambda side: (abs(side - number), side))


def _block(text: str) -> _Parsed:
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text)
    if not match:
        raise _Refused("it must look like 64x64, two powers of two")
    asked = (int(match[1]), int(match[2]))
    used = (_nearest_side(asked[0]), _nearest_side(asked[1]))
    low, high = BLOCK_SIDES[0], BLOCK_SIDES[-1]
    if used == asked:
        return used, None
    return used, f"block sides must be powers of two from {low} to {high}, so {used[0]}x{used[1]} is used"


def _unit(text: str) -> _Parsed:
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text)
    if not match:
        raise _Refused("it must look like 8x8, rows and columns")
    asked = (int(match[1]), int(match[2]))
    used = tuple(min(max(side, 1), MAX_UNIT) for side in asked)
    if used == asked:
        return used, None
    return used, f"sides must lie in 1 to {MAX_UNIT}, so {used[0]}x{used[1]} is used"


def _nm(text: str) -> _Parsed:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if not match:
        raise _Refused("it must look like 2:4")
    asked = (int(match[1]), int(match[2]))
    group = min(max(asked[1], 1), MAX_GROUP)
    used = (min(max(asked[0], 1), group), group)
    if used == asked:
        return used, None
    return used, f"1 ≤ N ≤ M ≤ {MAX_GROUP} is needed, so {used[0]}:{used[1]} is used"


def _range(text: str) -> _Parsed:
    match = re.fullmatch(r"(\d{1,12})-(\d{1,12})", text)
    if not match or int(match[1]) >= int(match[2]):
        raise _Refused("it must be a range such as 0-512")
    return (int(match[1]), int(match[2])), None


def _cell(text: str) -> _Parsed:
    match = re.fullmatch(r"(\d{1,12}),(\d{1,12})", text)
    if not match:
        raise _Refused("it must be a block row and a block column, such as 0,3")
    return (int(match[1]), int(match[2])), None


def _several(parse_one: Callable[[str], _Parsed], most: int) -> Callable[[str], _Parsed]:
    """Parse a comma separated list; keep what can be used, at most `most` values, each once."""

    def parse(text: str) -> _Parsed:
        if text == "":
            return (), None
        kept, notes = [], []
        for part in text.split(","):
            try:
                value, note = parse_one(_unquote_comma(part))
            except _Refused as error:
                note = str(error)
            else:
                kept.append(value)
            if note:
                notes.append(note)
        values = tuple(dict.fromkeys(kept))
        if not values:
            raise _Refused(notes[0])
        if len(values) > most:
            notes.append(f"at most {most} values are used")
        return values[:most], notes[0] if notes else None

    return parse


def _quote_comma(text: str) -> str:
    return text.replace("%", "%25").replace(",", "%2C")


def _unquote_comma(text: str) -> str:
    return text.replace("%2C", ",").replace("%25", "%")


def _strategy(text: str) -> _Parsed:
    from csbviz.balance import STRATEGIES

    return _choice(("auto", *STRATEGIES))(text)


def _method(text: str) -> _Parsed:
    from csbviz.pruning.registry import METHODS

    return _choice((LOADED, *METHODS, TRAINED))(text)


def _granularity(text: str) -> _Parsed:
    from csbviz.pruning.registry import GRANULARITIES

    return _choice(tuple(GRANULARITIES))(text)


def _sparsity(text: str) -> _Parsed:
    return _clamped(float, 0.0, MAX_SPARSITY)(text)


_PARSERS: dict[str, Callable[[str], _Parsed]] = {
    "model": _name,
    "layer": _name,
    "method": _method,
    "granularity": _granularity,
    "nm": _nm,
    "unit": _unit,
    "scope": _choice(SCOPES),
    "sparsity": _sparsity,
    "seed": _clamped(int, 0, MAX_SEED),
    "locked": _several(_name, 512),
    "block": _block,
    "linked": _flag,
    "order": _choice(ORDERS),
    "rows": _range,
    "cols": _range,
    "at": _cell,
    "balance": _strategy,
    "direction": _choice(DIRECTIONS),
    "played": _choice(("simulated", "recorded")),
    "matrix": _name,
    "way": _name,
    "units": _choice(DEVICES),
    "workers": _clamped(int, 1, MAX_WORKERS),
    "tiles": _clamped(int, 1, MAX_TILES),
    "ns": _several(_clamped(int, 1, 65536), MAX_NS),
    "dtype": _choice(DTYPES),
    "ops": _several(_choice(OPS), len(OPS)),
    "device": _choice(DEVICES),
    "kernels": _several(_name, 64),
    "mode": _choice(MODES),
    "threads": _clamped(int, 1, max(64, os.cpu_count() or 1)),
    "source": _choice(SOURCES),
    "recording": _name,
    "run": _name,
}


def from_query(query: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Read settings from the parameters of a URL.

    Returns
    -------
    settings : Settings
        Defaults where a value is missing or cannot be used.
    notes : list of str
        One sentence for each value that was changed or dropped, and for each unknown name.
    """
    values, notes = {}, []
    for key, text in query.items():
        shown = text if len(text) <= 40 else text[:37] + "…"
        if key not in _PARSERS:
            notes.append(f"The link's “{key[:40]}” is not a setting of this app and is ignored.")
            continue
        try:
            values[key], note = _PARSERS[key](text)
        except _Refused as error:
            notes.append(f"The link's {key} “{shown}” cannot be used: {error}.")
        else:
            if note:
                notes.append(f"The link's {key} is “{shown}”: {note}.")
    settings = Settings(**values)
    if settings.block and settings.block[0] != settings.block[1]:
        settings = replace(settings, linked=False)
    return settings, notes


def _to_text(value: object, key: str) -> str:
    if key == "nm":
        return ":".join(map(str, value))
    if key in ("block", "unit"):
        return "x".join(map(str, value))
    if key in ("rows", "cols"):
        return "-".join(map(str, value))
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ",".join(_quote_comma(str(part)) for part in value)
    return str(value)


def to_query(settings: Settings) -> dict[str, str]:
    """Give the URL parameters of all settings that differ from their defaults."""
    default = Settings()
    query = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value is not None and value != getattr(default, field.name):
            query[field.name] = _to_text(value, field.name)
    return query
