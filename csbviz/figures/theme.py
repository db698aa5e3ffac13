"""How every figure looks: one template for light and for dark, and the colours that stand for formats.

The colours of the formats are the same in both themes and in every figure. They were searched for under
these conditions, which the tests compute again: a contrast of at least 3:1 to both backgrounds, and
distances in OKLab of at least 0.10 between any two as seen by people with normal, protan or deutan sight
(0.07 for tritan). Colour is never alone in telling two things apart: figures label directly, and variants
carry a pattern.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = [
    "DARK",
    "FORMAT_COLORS",
    "FORMAT_TITLES",
    "LIGHT",
    "OTHER_COLOR",
    "PATTERNS",
    "Look",
    "base_format",
    "blend",
    "contrast",
    "density_scale",
    "figure",
    "format_color",
    "look",
    "readable",
    "rgba",
    "scale_color",
    "template",
]

FORMAT_COLORS = {
    "dense": "#8f949b",
    "csr": "#1455ff",
    "csc": "#4d98df",
    "coo": "#1e7358",
    "bsr": "#af8318",
    "ell": "#93659f",
    "bitmap": "#7d46bc",
    "csb": "#ba3807",
}
"""One colour a format, the same everywhere; a kernel has the colour of the format that it reads."""

OTHER_COLOR = "#6b7280"
"""The colour of a format that has none of its own."""

FORMAT_TITLES = {
    "dense": "Dense",
    "csr": "CSR",
    "csr16": "CSR, 16-bit columns",
    "csc": "CSC",
    "coo": "COO",
    "bsr": "BSR",
    "ell": "ELL",
    "bitmap": "Bitmap",
    "csb": "CSB",
    "csb_packed": "CSB, packed index",
}
"""Formats as axes and tables name them."""

PATTERNS = ("", "/", ".", "x", "-", "\\", "+", "|")
"""Fill patterns that tell variants of one format apart, plain first."""

FONT = (
    '"Source Sans", "Source Sans 3", "Source Sans Pro", system-ui, "Segoe UI", "Liberation Sans", sans-serif'
)
TEXT_SIZE = 13
TITLE_SIZE = 14


class Look(NamedTuple):
    """Colours of one theme.

    Attributes
    ----------
    background : str
        Behind the figure; also what "no nonzeros" looks like in density pictures.
    text, muted : str
        Titles and labels; axis ticks and notes. Both have a contrast of at least 4.5:1.
    grid, border : str
        Hairlines behind data; the frame of a picture.
    accent : str
        The mark of a selection or of what is too much, for use over data and over the background.
    data, soft : str
        Data that stand for no format, and the part of them that matters less.
    ramp : tuple of str
        From the smallest density above 0, with a contrast of at least 3:1 to the background, to the largest.
    """

    background: str
    text: str
    muted: str
    grid: str
    border: str
    accent: str
    data: str
    soft: str
    ramp: tuple[str, ...]


LIGHT = Look(
    background="#ffffff",
    text="#1f2430",
    muted="#5a6270",
    grid="#e6e8ec",
    border="#b3b9c3",
    accent="#d6006c",
    data="#2f78bd",
    soft="#8a94a3",
    ramp=("#4b97d2", "#337fc2", "#2a64aa", "#264c90", "#203570", "#172048"),
)
DARK = Look(
    background="#0e1117",
    text="#eceff4",
    muted="#a3abb8",
    grid="#262c37",
    border="#4a5262",
    accent="#ff5fa8",
    data="#5aa6e6",
    soft="#6d7788",
    ramp=("#34679c", "#2f8bb0", "#45afad", "#82cf9c", "#cbe58e", "#fffbc4"),
)


def look(dark: bool) -> Look:
    """The colours of the dark or the light theme."""
    return DARK if dark else LIGHT


def base_format(name: str) -> str:
    """The format that a variant belongs to: "csr" for "csr16", "csb" for "csb_packed"; else the name."""
    return next((known for known in FORMAT_COLORS if name.startswith(known)), name)


def format_color(name: str) -> str:
    """The colour of a format or of a variant of it."""
    return FORMAT_COLORS.get(base_format(name), OTHER_COLOR)


def _channels(color: str) -> tuple[float, float, float]:
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast of two colours ``#rrggbb`` as WCAG 2 defines it, 1 to 21."""
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def blend(color: str, background: str, share: float) -> str:
    """`share` of `color` over `background`, as ``#rrggbb``."""
    mixed = (
        share * a + (1 - share) * b for a, b in zip(_channels(color), _channels(background), strict=True)
    )
    return "#" + "".join(f"{round(255 * c):02x}" for c in mixed)


def rgba(color: str, opacity: float) -> str:
    """A colour ``#rrggbb`` with an opacity, as CSS writes it."""
    red, green, blue = (round(255 * c) for c in _channels(color))
    return f"rgba({red},{green},{blue},{opacity:g})"


def readable(color: str, dark: bool) -> str:
    """The colour for text: moved towards the theme's text until its contrast to the background is 4.5:1."""
    theme = look(dark)
    steps = (blend(color, theme.text, share / 20) for share in range(20, -1, -1))
    return next(step for step in steps if contrast(step, theme.background) >= 4.5)


def scale_color(scale: list[list], value: float) -> str:
    """The colour that a colour scale has at a value in 0 to 1."""
    value = min(max(value, 0.0), 1.0)
    for (low, first), (high, second) in pairwise(scale):
        if value <= high and high > low:
            return blend(second, first, (value - low) / (high - low))
    return scale[-1][1]


def density_scale(dark: bool, smallest: float, binary: bool = False) -> list[list]:
    """Colour scale of densities: the background for 0, a step, then the theme's ramp.

    Parameters
    ----------
    dark : bool
    smallest : float
        The smallest value above 0 as a share of the scale's end. The step lies at half of it, so that one
        single nonzero is as visible as the ramp's first colour.
    binary : bool
        True for a picture of 0 and 1 only: every nonzero has one strong colour.

    Returns
    -------
    list of [position, colour]
    """
    theme = look(dark)
    ramp = (theme.ramp[2],) * 2 if binary else theme.ramp
    step = min(max(smallest / 2, 1e-7), 0.5)
    points = [step + (1 - step) * i / (len(ramp) - 1) for i in range(len(ramp) - 1)] + [1.0]
    return [[0.0, theme.background], [step, theme.background], *map(list, zip(points, ramp, strict=True))]


@cache
def template(dark: bool = False) -> go.layout.Template:
    """The one Plotly template of csbviz, light or dark. Treat it as a constant: it is shared."""
    import plotly.graph_objects as go

    theme = look(dark)
    axis = {
        "automargin": True,
        "gridcolor": theme.grid,
        "linecolor": theme.border,
        "zerolinecolor": theme.border,
        "zeroline": False,
        "tickcolor": theme.border,
        "tickfont": {"color": theme.muted, "size": TEXT_SIZE - 1},
        "title": {"font": {"color": theme.muted, "size": TEXT_SIZE}, "standoff": 8},
        "exponentformat": "none",
        "separatethousands": True,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": TEXT_SIZE, "color": theme.text},
            "title": {"x": 0, "xref": "container", "xanchor": "left", "font": {"size": TITLE_SIZE}},
            "paper_bgcolor": theme.background,
            "plot_bgcolor": theme.background,
            "colorway": list(FORMAT_COLORS.values()),
            "margin": {"l": 8, "r": 8, "t": 32, "b": 8},
            "xaxis": axis,
            "yaxis": axis,
            "bargap": 0.3,
            "dragmode": "pan",
            "hovermode": "closest",
            "hoverlabel": {
                "bgcolor": blend(theme.text, theme.background, 0.08),
                "bordercolor": theme.border,
                "font": {"family": FONT, "size": TEXT_SIZE, "color": theme.text},
                "align": "left",
            },
            "legend": {
                "orientation": "h",
                "x": 0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "font": {"color": theme.text, "size": TEXT_SIZE},
                "bgcolor": "rgba(0,0,0,0)",
            },
            "modebar": {
                "bgcolor": "rgba(0,0,0,0)",
                "color": theme.muted,
                "activecolor": theme.text,
            },
            "annotationdefaults": {"font": {"color": theme.text, "size": TEXT_SIZE}, "showarrow": False},
        }
    )


def figure(dark: bool, height: int, **layout) -> go.Figure:
    """An empty figure in the theme: `height` in pixels, as wide as its container."""
    import plotly.graph_objects as go

    return go.Figure(layout={"template": template(dark), "height": height, "autosize": True, **layout})
