"""The code in docs/csb_format.md runs, and what its tables claim of orders is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from csbviz.formats import CSBMatrix

TEXT = (Path(__file__).parents[2] / "docs" / "csb_format.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
def test_code_runs(code):
    exec(code, {})


def test_the_table_of_orders():
    rows = re.findall(r'^\| `"(\w+)"` \|.*\| ([\d ·]+) \|$', TEXT, re.MULTILINE)
    assert len(rows) == 3
    dense = np.arange(1, 17, dtype=np.float32).reshape(4, 4)
    for order, cells in rows:
        values = CSBMatrix.from_dense(dense, 4, order).values
        assert values.tolist() == [int(cell) for cell in cells.replace("·", " ").split()]
