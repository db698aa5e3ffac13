"""The package hands out every figure, and costs nothing until one is drawn."""

import subprocess
import sys

import pytest

from csbviz import figures


@pytest.mark.parametrize("name", figures.__all__)
def test_every_name_is_there(name):
    assert getattr(figures, name) is not None


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="plot_pie"):
        figures.plot_pie  # noqa: B018


def test_captions_and_infos_need_no_plotly():
    code = (
        "import sys\n"
        "from csbviz import figures\n"
        "for name in figures.__all__: getattr(figures, name)\n"
        "from csbviz.figures import text\n"
        "found = [name for name in ('plotly', 'streamlit', 'torch') if name in sys.modules]\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
