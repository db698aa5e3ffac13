"""Machine code kept on disk belongs to all sources of `kernels/cpu`, not to one file alone."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import ctypes
import numpy as np
from copied import spmm, workers

worker = workers.reduce_worker("float32", 16)
c, partial = np.full((1, 16), 1, np.float32), np.full((1, 16), 2, np.float32)
unit, table = np.zeros(1, np.int32), np.zeros(spmm.P_WORDS, np.int64)
table[spmm.P_C], table[spmm.P_PARTIALS], table[spmm.P_C_ROW] = c.ctypes.data, partial.ctypes.data, 64
table[spmm.P_SLOTS], table[spmm.P_SLOT_UNIT], table[spmm.P_BLOCK_OUT] = 1, unit.ctypes.data, 1
table[spmm.P_ROWS_OUT] = table[spmm.P_WORKERS] = 1
ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(worker.address)(0, 0, 0, 0, table.ctypes.data, 0)
assert (c == c[0, 0]).all()
print(int(c[0, 0]), worker.cache_hits)
"""


def rewrite(file, old, new):
    """Replace text by text of the same length, and keep the time of the file."""
    times = os.stat(file)
    text = file.read_text()
    assert old in text
    assert len(old) == len(new)
    file.write_text(text.replace(old, new))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_changed_helper_is_compiled_anew(tmp_path):
    shutil.copytree(ROOT / "kernels/cpu", tmp_path / "copied", ignore=shutil.ignore_patterns("__pycache__"))
    variables = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def result_and_hits():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=100,
        )
        return tuple(map(int, done.stdout.split()))

    assert result_and_hits() == (1 + 2, 0)
    assert result_and_hits() == (1 + 2, 1)  # loaded from the disk
    rewrite(tmp_path / "copied/simd.py", "builder.fadd(", "builder.fsub(")
    assert result_and_hits() == (1 - 2, 0)
    rewrite(tmp_path / "copied/program.py", "PARTIAL = 2", "PARTIAL = 4")
    assert result_and_hits() == (1 - 2, 0)


def cached_modules():
    files = [*ROOT.glob("csbviz/**/*.py"), *ROOT.glob("kernels/**/*.py")]
    return {file for file in files if "cache=True" in file.read_text()}


def test_other_cached_functions_use_their_own_file_only():
    """Elsewhere Numba's own rule is enough: what is compiled in stands in the file that Numba looks at."""
    modules = cached_modules() - {ROOT / "kernels/cpu/workers.py"}
    assert ROOT / "csbviz/formats/_loops.py" in modules
    for file in modules:
        imported = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                imported.add("." * node.level + (node.module or ""))
        ours = {name for name in imported if name.startswith((".", "csbviz", "kernels"))}
        assert not ours, f"{file.name} compiles functions of {ours}: let its cache look at those files too"


def test_every_cached_function_of_the_kernel_uses_the_digest():
    from csbviz.ops.csb_cpu import kernel_module

    workers = kernel_module("workers")
    kept = [value for value in vars(workers).values() if getattr(value, "__name__", "") in names(workers)]
    assert len(kept) == 5
    for function in kept:
        assert function.__code__.co_freevars == ("sources",)
        assert function.__closure__[0].cell_contents == workers._digest_of_sources()


def names(workers):
    """Names of the functions inside of `_cached_functions`."""
    return {code.co_name for code in workers._cached_functions.__code__.co_consts if hasattr(code, "co_name")}
