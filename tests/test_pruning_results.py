"""Every measured number in docs/pruning.md comes from a committed file of measurements."""

import pytest

from benchmarks import pruning_tables as tables


def test_the_document_holds_the_tables_of_the_data():
    text = tables.PAGE.read_text(encoding="utf-8")
    assert text == tables.with_blocks(text, tables.blocks()), (
        "run: python -m benchmarks.pruning_study --write"
    )


def test_a_block_without_a_place_is_noticed():
    with pytest.raises(ValueError, match="'cnn'"):
        tables.with_blocks("no markers", {"cnn": "table"})


def test_the_measurements_are_small():
    assert sum(path.stat().st_size for path in tables.DATA.glob("pruning_*.json")) <= 600_000
