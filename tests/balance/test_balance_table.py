"""The tables of docs/balance.md are what the script prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str, dlmc: str | None) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "DLMC_DIR"} | (
        {"DLMC_DIR": dlmc} if dlmc else {}
    )
    command = [sys.executable, "-m", "benchmarks.balance_table", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def test_the_document_holds_the_tables_that_the_script_prints(dlmc):
    done = run("--sparsity", "0.9", "0.98", dlmc=str(dlmc))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n|") > 30
    assert done.stdout.strip() in (ROOT / "docs" / "balance.md").read_text(encoding="utf-8")


def test_a_small_collection(tmp_path):
    """A layer whose first block row holds all entries: a fourth of the threads has all the work."""
    folder = tmp_path / "net" / "magnitude_pruning" / "0.9"
    folder.mkdir(parents=True)
    offsets = [min(row, 8) * 16 for row in range(33)]
    columns = list(range(16)) * 8
    text = f"32, 16, 128\n{' '.join(map(str, offsets))}\n{' '.join(map(str, columns))}\n"
    (folder / "layer.smtx").write_text(text)
    done = run("--block-size", "8", "--threads", "4", dlmc=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "| net magnitude pruning | 0.9 | 4.00 (4.00) | 4.00 (4.00) | 75% (75%) |" in done.stdout
    assert (
        "| net magnitude pruning | 0.9 | 1 | 4.00 (4.00) | 4.00 (4.00) | 2.00 (2.00) | 1.00 (1.00) |"
        in done.stdout
    )


def test_no_collection(tmp_path):
    assert "Set DLMC_DIR" in run(dlmc=None).stderr
    empty = run(dlmc=str(tmp_path))
    assert empty.returncode == 2
    assert "holds no files like NETWORK/METHOD/SPARSITY/NAME.smtx" in empty.stderr
