"""Numbers as people read them, for captions, labels, tables and the terminal. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = [
    "bytes_per_nonzero",
    "count",
    "html_escape",
    "list_of",
    "percent",
    "percent_tick",
    "plural",
    "ratio",
    "shape",
    "significant",
    "size",
    "span",
    "time_scale",
    "time_us",
]


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits, never in exponent form: 0.0123, −4.07, 1,530."""
    value = float(value)
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = int(f"{abs(rounded):e}".split("e")[1])
    return f"{rounded:,.{max(0, digits - 1 - exponent)}f}".replace("-", "−")


def count(number: float) -> str:
    """A whole number in groups of three digits: 1,048,576."""
    return f"{round(number):,}"


def plural(number: float, noun: str) -> str:
    """The number with its noun: "1 block", "5 blocks"."""
    ending = "" if number == 1 else "s"
    return f"{count(number)} {noun}{ending}"


def percent(share: float, digits: int = 1) -> str:
    """A share in 0 to 1 as percent; it is never rounded down to 0 or up to 100 when it is neither."""
    step = 10.0**-digits
    text = f"{100 * share:.{digits}f}"
    if 0 < share < 1 and float(text) >= 100:
        return f"> {100 - step:.{digits}f} %"
    if 0 < share < 1 and float(text) == 0:
        return f"< {step:.{digits}f} %"
    return f"{text} %"


def percent_tick(share: float) -> str:
    """A round share as percent without idle zeros, for axes: 0 %, 12.5 %, 0.02 %."""
    return f"{100 * share:.8f}".rstrip("0").rstrip(".") + " %"


def size(number: float) -> str:
    """A number of bytes with a binary unit: 512 B, 1.21 MiB."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1023.5 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{significant(value)} {unit}"


def bytes_per_nonzero(value: float) -> str:
    """Bytes that one nonzero costs: 4.07 B."""
    return f"{value:.2f} B"


def shape(sides: Sequence[int]) -> str:
    """Sides joined by a times sign: 256 × 2,304."""
    return " × ".join(count(side) for side in sides)


def span(begin: int, end: int) -> str:
    """A half-open range as people say it, with its last member: 128–191, or 7 alone."""
    return count(begin) if end - begin <= 1 else f"{count(begin)}–{count(end - 1)}"


def ratio(value: float) -> str:
    """A factor: 1.84×."""
    return f"{significant(value)}×"


def time_scale(microseconds: Iterable[float]) -> tuple[float, str]:
    """The unit in which the smallest of the times is at least 0.1, as (microseconds a unit, its name)."""
    positive = [value for value in microseconds if value > 0]
    least = min(positive, default=1.0)
    for scale, unit in ((1e6, "s"), (1e3, "ms")):
        if least >= 0.1 * scale:
            return scale, unit
    return 1.0, "µs"


def time_us(microseconds: float) -> str:
    """A duration with the unit that keeps it readable: 85.3 µs, 1.43 ms, 2.10 s."""
    if microseconds == 0:
        return "0 µs"
    if microseconds < 999.5:
        return f"{significant(microseconds)} µs"
    if microseconds < 999.5e3:
        return f"{significant(microseconds / 1e3)} ms"
    return f"{significant(microseconds / 1e6)} s"


def list_of(words: Iterable[str]) -> str:
    """A, B and C."""
    words = list(words)
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def html_escape(text: str) -> str:
    """A name as plain text where a few HTML tags act, such as in the titles of figures."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
