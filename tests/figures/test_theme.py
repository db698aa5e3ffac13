"""One look for all figures: the conditions under which its colours were chosen hold."""

import re
import tomllib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from csbviz.figures import theme

LOOKS = [pytest.param(theme.LIGHT, id="light"), pytest.param(theme.DARK, id="dark")]

# Machado, Oliveira, Fernandes (2009), severity 1: linear RGB as people with that sight perceive it.
SIGHTS = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# Ottosson (2020): linear RGB to cone responses, their cube roots to OKLab.
TO_CONES = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
]
TO_LAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def linear(color):
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def oklab(color, sight):
    seen = np.clip(np.array(SIGHTS[sight]) @ linear(color), 0, 1)
    return np.array(TO_LAB) @ np.cbrt(np.array(TO_CONES) @ seen)


def distance(first, second, sight):
    return np.linalg.norm(oklab(first, sight) - oklab(second, sight))


def test_contrast_of_black_and_white_is_21():
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert theme.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # WCAG's well-known example


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", theme.FORMAT_COLORS)
def test_formats_stand_out_from_both_backgrounds(look, name):
    assert theme.contrast(theme.FORMAT_COLORS[name], look.background) >= 3


@pytest.mark.parametrize("sight", SIGHTS)
def test_formats_differ_for_every_sight(sight):
    least = 0.07 if sight == "tritan" else 0.10
    pairs = {
        (a, b): distance(theme.FORMAT_COLORS[a], theme.FORMAT_COLORS[b], sight)
        for a, b in combinations(theme.FORMAT_COLORS, 2)
    }
    closest = min(pairs, key=pairs.get)
    assert pairs[closest] >= least, closest


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("look", LOOKS)
def test_excess_differs_from_load_and_kept_from_pruned(look, sight):
    assert distance(look.data, look.accent, sight) >= 0.10
    assert distance(look.data, look.soft, sight) >= 0.05  # pruned weights are hatched, too


@pytest.mark.parametrize("look", LOOKS)
def test_text_reads_and_marks_show(look):
    for color in (look.text, look.muted, look.accent):
        assert theme.contrast(color, look.background) >= 4.5
    for color in (look.data, look.soft):
        assert theme.contrast(color, look.background) >= 3


@pytest.mark.parametrize("look", LOOKS)
def test_every_density_shows_and_denser_shows_more(look):
    contrasts = [theme.contrast(color, look.background) for color in look.ramp]
    assert contrasts[0] >= 3
    assert contrasts == sorted(contrasts)


@pytest.mark.parametrize("dark", [False, True])
def test_smallest_density_has_the_first_color_of_the_ramp(dark):
    look = theme.look(dark)
    scale = theme.density_scale(dark, smallest=0.01)
    assert scale[0][0] == 0
    assert scale[-1][0] == 1  # exactly: Plotly drops a scale that ends anywhere else
    assert theme.scale_color(scale, 0) == look.background
    assert theme.contrast(theme.scale_color(scale, 0.01), look.background) >= 3
    assert theme.scale_color(scale, 1) == look.ramp[-1]
    assert [point for point, _ in scale] == sorted(point for point, _ in scale)


def test_binary_picture_has_two_colors():
    assert len({color for _, color in theme.density_scale(False, 1.0, binary=True)}) == 2


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", theme.FORMAT_COLORS)
def test_labels_in_a_formats_color_read(name, dark):
    color = theme.readable(theme.FORMAT_COLORS[name], dark)
    assert theme.contrast(color, theme.look(dark).background) >= 4.5


def test_variants_have_their_formats_color():
    assert theme.format_color("csr16") == theme.FORMAT_COLORS["csr"]
    assert theme.format_color("csb_packed") == theme.FORMAT_COLORS["csb"]
    assert theme.format_color("hyb") == theme.OTHER_COLOR
    assert {theme.base_format(name) for name in theme.FORMAT_TITLES} == set(theme.FORMAT_COLORS)


def test_every_size_format_has_a_title():
    from csbviz.formats.sizes import FORMATS

    assert set(FORMATS) == set(theme.FORMAT_TITLES)


@pytest.mark.parametrize("dark", [False, True])
def test_figures_have_the_template_and_no_other(dark):
    layout = theme.figure(dark, 300).to_plotly_json()["layout"]
    assert layout["height"] == 300
    assert "width" not in layout
    template = layout["template"]["layout"]
    assert template["paper_bgcolor"] == template["plot_bgcolor"] == theme.look(dark).background
    assert not layout["template"].get("data")


@pytest.mark.parametrize(("section", "look"), [("light", theme.LIGHT), ("dark", theme.DARK)])
def test_backgrounds_are_those_of_the_app(section, look):
    path = Path(__file__).parents[2] / ".streamlit" / "config.toml"
    if not path.is_file():
        pytest.skip("no .streamlit/config.toml in this tree")
    colors = tomllib.loads(path.read_text())["theme"][section]
    assert colors["backgroundColor"].lower() == look.background
    assert colors["textColor"].lower() == look.text


def test_colors_are_written_in_full():
    for look in (theme.LIGHT, theme.DARK):
        for color in (*look[:-1], *look.ramp):
            assert re.fullmatch("#[0-9a-f]{6}", color)
