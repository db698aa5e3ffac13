"""The rules of docs/architecture.md, held: who imports whom, which names are public, what an import costs."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import csbviz
from tests.imports import ROOT, Import, imports_of, module_name, source_files

# A folder and the folders that it may name; what those may import, it may import too.
MAY_IMPORT = {
    "formats": (),
    "models": ("formats",),
    "tasks": ("models",),
    "pruning": ("models", "tasks"),
    "balance": ("formats",),
    "kernels": (),
    "ops": ("formats", "balance", "kernels"),
    "nn": ("ops", "pruning"),
    "bench": ("ops", "nn"),
    "service": (),
    "figures": ("formats", "models", "tasks", "pruning", "balance", "ops", "nn", "bench"),
    "commands": (
        "formats",
        "models",
        "tasks",
        "pruning",
        "balance",
        "ops",
        "nn",
        "bench",
        "service",
        "figures",
    ),
    "cli": ("commands",),
    "ui": ("formats", "models", "tasks", "pruning", "balance", "ops", "nn", "bench", "service", "figures"),
    "app": ("ui",),
}
EVERYBODY = {"errors"}

# Packages that only some folders may import.
ONLY_IN = {
    "streamlit": {"ui", "app"},
    "plotly": {"figures"},
    "cupy": {"ops", "bench"},
    "cupyx": {"ops", "bench"},
    "cupy_backends": {"ops", "bench"},
    "distributed": {"service"},
    "dask": {"service"},
    "onnx": {"models"},
    "onnxruntime": {"tasks"},
}

HEAVY = ("torch", "numba", "streamlit", "plotly", "cupy", "distributed", "onnx", "onnxruntime", "pandas")

FILES = source_files()
MODULES = {module_name(path): path for path in FILES}
IDS = [str(path.relative_to(ROOT)) for path in FILES]


def reachable(folder: str) -> set[str]:
    """The folder itself and all that it may import, directly or through others."""
    found, waiting = set(), [folder]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += MAY_IMPORT[one]
    return found | EVERYBODY


def folder_of(module: str) -> str:
    """The folder of the table that a module of the product belongs to; "" for the package itself."""
    parts = module.split(".")
    if parts[0] in ("kernels", "app"):
        return parts[0]
    if len(parts) == 1:
        return ""
    return "kernels" if parts[1] == "_kernels" else parts[1]


def target_folder(found: Import) -> str | None:
    """The folder that an import reaches: None for no import of the product, "" for the package itself."""
    if found.top not in ("csbviz", "kernels"):
        return None
    if found.module == "csbviz" and found.name:
        if found.name in csbviz._HOMES:
            return folder_of(csbviz._HOMES[found.name])
        return "" if found.name.startswith("__") else folder_of(f"csbviz.{found.name}")
    return folder_of(found.module)


DOORS = ("csbviz", "csbviz.__main__", "csbviz.errors")
"""Modules of the package itself: the first two open all of it, the last is open to all of it."""

INSIDE = [path for path in FILES if module_name(path) not in DOORS]


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_imports_only_what_the_table_allows(path):
    folder = folder_of(module_name(path))
    allowed = reachable(folder)
    wrong = []
    for found in imports_of(path):
        target = target_folder(found)
        if target is None or target in allowed:
            continue
        if target == "" and found.name == "__version__":
            continue
        wrong.append(f"line {found.line}: {found.module}.{found.name}")
    assert not wrong, f"{folder} may import {sorted(allowed)} only; found {wrong}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_package_with_one_home_is_imported_there_only(path):
    folder = folder_of(module_name(path))
    wrong = [
        f"line {found.line}: {found.module}"
        for found in imports_of(path)
        if found.top in ONLY_IN and folder not in ONLY_IN[found.top]
    ]
    assert not wrong, f"not in {folder or 'the package itself'}: {wrong}"


def test_every_folder_of_the_package_is_in_the_table():
    folders = {path.name for path in (ROOT / "csbviz").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders <= set(MAY_IMPORT), (
        "a new folder needs its row in the table of docs/architecture.md and here"
    )


def test_errors_imports_nothing_of_the_product():
    assert not [
        found for found in imports_of(ROOT / "csbviz" / "errors.py") if target_folder(found) is not None
    ]


def test_the_table_of_the_docs_is_the_table_of_this_test():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(?:csbviz/)?([\w.]+?)/?` \|.*\| ([^|]*) \|$", text, re.MULTILINE))
    library = set(MAY_IMPORT) - {"app", "cli", "commands", "ui", "kernels"}
    for folder, allowed in MAY_IMPORT.items():
        said = rows[f"{folder}.py" if folder in ("app", "cli") else folder]
        words = re.findall(r"[a-z]+", said)
        if words[:1] == ["all"]:
            assert set(allowed) == library - set(words[1:]) - {folder}, folder
        else:
            assert tuple(words) == allowed, folder


# ---- what an import of the package costs -------------------------------------------------------------------


def test_importing_csbviz_is_fast_and_light():
    code = (
        "import json, sys, time; start = time.perf_counter(); import csbviz; "
        "print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))"
    )
    seconds = []
    for _ in range(3):  # the first one may compile bytecode, and other programs run beside the tests
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        took, modules = json.loads(done.stdout)
        seconds.append(took)
        assert not set(HEAVY) & set(modules)
    assert min(seconds) <= 1.0


def test_every_module_can_be_imported_without_a_gpu():
    names = [
        module_name(path) for path in FILES if path.name != "app.py" and "/ui/pages/" not in path.as_posix()
    ]
    names = [name for name in names if not name.endswith("__main__")]
    code = (
        "import sys, importlib, warnings; sys.modules['cupy'] = None; warnings.simplefilter('error')\n"
        "for name in sys.argv[1:]: importlib.import_module(name)"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- public names ------------------------------------------------------------------------------------------


def public_names(path: Path) -> list[str] | None:
    """The __all__ of a file, or None."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            if isinstance(node.value, (ast.List, ast.Tuple)):
                return ast.literal_eval(node.value)
            return list(importlib.import_module(module_name(path)).__all__)  # computed
    return None


def defined_names(path: Path) -> set[str]:
    """Names that a file binds at its top level."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def sort_key(name: str) -> tuple:
    """CONSTANTS, Classes, functions: the order in which ruff sorts __all__."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


PUBLIC = {path: names for path in FILES if (names := public_names(path)) is not None}


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_sorted_and_exist(path):
    names = PUBLIC[path]
    assert names == sorted(set(names), key=sort_key)
    module = module_name(path)
    missing = set(names) - defined_names(path)
    if path.name == "__init__.py" and missing:  # names that are loaded on first use
        imported = importlib.import_module(module)
        missing = {name for name in missing if not hasattr(imported, name)}
    assert not missing


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_folders_use_only_public_names_of_each_other(path):
    folder = folder_of(module_name(path))
    wrong = []
    for found in imports_of(path):
        target = target_folder(found)
        if target in (None, "", folder) or not found.name or f"{found.module}.{found.name}" in MODULES:
            continue
        if found.module in MODULES and found.name not in PUBLIC.get(MODULES[found.module], [found.name]):
            wrong.append(f"line {found.line}: {found.name} of {found.module}")
    assert not wrong, f"missing in the __all__ of its module, or private: {wrong}"


def test_the_package_names_what_it_loads_on_first_use():
    assert csbviz.__all__ == sorted(csbviz._HOMES, key=sort_key)
    for name in csbviz.__all__:
        assert getattr(csbviz, name).__doc__, f"csbviz.{name} has no docstring"


def test_public_functions_and_classes_have_docstrings():
    bare = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree) and path.read_text(encoding="utf-8").strip():
            bare.append(f"{path.relative_to(ROOT)}")
        names = PUBLIC.get(path, ())
        bare += [
            f"{path.relative_to(ROOT)}: {node.name}"
            for node in tree.body
            if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            and node.name in names
            and not ast.get_docstring(node)
        ]
    assert not bare


# ---- sizes -------------------------------------------------------------------------------------------------


def test_modules_stay_small():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in FILES
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


# ---- what the docs promise ---------------------------------------------------------------------------------

DOCS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_and_pictures_exist(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    missing = []
    for target in targets:
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        aim = (path.parent / file) if file else path
        if not aim.exists() or (anchor and anchor not in headings(aim)):
            missing.append(target)
    assert not missing


def headings(path: Path) -> set[str]:
    """The anchors of a Markdown file's headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_kernel_is_documented():
    from csbviz.ops.registry import kernels

    text = (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8")
    for kernel in kernels():
        assert kernel.title, kernel.name
        assert kernel.summary.endswith("."), f"{kernel.name}: its summary must be a sentence"
        assert f"`{kernel.name}`" in text, f"docs/measuring.md does not name {kernel.name}"


def code_blocks(path: Path, language: str) -> list[str]:
    """The fenced code blocks of a Markdown file in one language."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in found if name == language]


def commands_in_docs() -> list[str]:
    """The arguments of every line ``python -m csbviz …`` or ``csbviz …`` of the docs' shell blocks."""
    text = "\n".join(block.replace("\\\n", " ") for path in DOCS for block in code_blocks(path, "bash"))
    return re.findall(r"^(?:python -m )?csbviz (.*)$", text, re.MULTILINE)


def test_the_commands_of_the_docs_are_understood():
    import shlex

    from csbviz.cli import build_parser

    found = commands_in_docs()
    assert {"doctor", "info", "prune", "layout", "bench", "tune"} <= {line.split()[0] for line in found}
    for line in found:
        words = shlex.split(line, comments=True)
        build_parser().parse_args(words)


def test_the_make_targets_of_the_docs_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in [*DOCS, ROOT / ".ci" / "run"]:
        used = set(re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(encoding="utf-8"), re.MULTILINE))
        assert used <= targets, path.name


def test_the_programs_of_the_makefile_exist():
    modules = re.findall(r"-m (benchmarks\.\w+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert modules
    assert all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in modules), modules


EXAMPLES = {
    f"{path.name} {number}": (path, block)
    for path in DOCS
    for number, block in enumerate(code_blocks(path, "python"), 1)
}


@pytest.mark.parametrize(("path", "example"), EXAMPLES.values(), ids=EXAMPLES)
def test_the_python_examples_of_the_docs_run(path, example, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(example, str(path), "exec"), {})


def test_the_changelog_speaks_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == csbviz.__version__
    assert f"## {csbviz.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
