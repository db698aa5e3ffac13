"""The install: requirements and metadata agree, and a wheel holds the kernels where the launchers look."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata

import pytest

from tests.imports import ROOT, imports_of, source_files

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# The package that brings a module of another name.
PACKAGE_OF = {"google": "protobuf", "cupyx": "cupy", "cupy_backends": "cupy", "cuda": "cuda-pathfinder"}

# Used where they are found, and never needed: requirements-gpu.txt brings them.
OPTIONAL = {"cupy", "cuda-pathfinder"}


def pins(name: str) -> dict[str, str]:
    """Package → version of a requirements file; every line must be an exact pin."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[\w+\])?==([^\s;]+)", line) for line in lines if line]
    assert all(found), f"{name} has a line that is no exact pin"
    return {match[1].lower().replace("_", "-"): match[2] for match in found}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


REQUIREMENTS = sorted(path.name for path in ROOT.glob("requirements*.txt"))


def test_requirements_are_exact_pins_and_agree():
    assert len(REQUIREMENTS) == 4
    found: dict[str, str] = {}
    for name in REQUIREMENTS:
        for package, version in pins(name).items():
            assert found.setdefault(package, version) == version, f"{package} has two versions"


def test_the_installed_versions_are_the_pinned_ones():
    for package, version in pins("requirements.txt").items():
        assert metadata.version(package).partition("+")[0] == version


def test_pins_satisfy_the_ranges_of_the_metadata():
    ranges = dict(entry.split(">=") for entry in PROJECT["project"]["dependencies"])
    pinned = pins("requirements.txt")
    assert set(ranges) == set(pinned)
    for package, least in ranges.items():
        assert numbers(pinned[package]) >= numbers(least), package


def foreign_packages(files) -> set[str]:
    """Packages that the files import and the project does not hold."""
    own = {
        "benchmarks",
        "csbviz",
        "kernels",
        "sample_models",
        "tests",
        "__future__",
        *(path.stem for path in files),
    }
    return {
        PACKAGE_OF.get(found.top, found.top).replace("_", "-")
        for path in files
        for found in imports_of(path)
        if found.top not in sys.stdlib_module_names | own
    }


def test_every_imported_package_is_required():
    assert foreign_packages(source_files()) <= set(pins("requirements.txt")) | OPTIONAL


MAKES_DATA_ONCE = {"sample_models/make_spam_extract.py": {"tokenizers"}}
"""What a script needs that made a committed file: it says so, and nothing else imports it."""


def test_every_package_of_tests_and_scripts_is_required():
    files = [
        path for folder in ("tests", "benchmarks", "sample_models") for path in (ROOT / folder).rglob("*.py")
    ]
    required = set(pins("requirements.txt")) | set(pins("requirements-dev.txt")) | OPTIONAL
    once = {ROOT / name: packages for name, packages in MAKES_DATA_ONCE.items()}
    assert foreign_packages([path for path in files if path not in once]) <= required
    for path, packages in once.items():
        assert foreign_packages([path]) <= required | packages


def test_every_folder_with_code_is_packed():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in source_files() if path.parent != ROOT}
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    packed = {re.sub(r"^kernels", "csbviz._kernels", name) for name in names}
    cuda = {"csbviz._kernels.cuda"}  # holds CUDA C++ only
    assert packed | cuda == listed


@pytest.fixture(scope="session")
def unpacked_wheel(tmp_path_factory):
    """A wheel built from a copy of the tree, unpacked."""
    work = tmp_path_factory.mktemp("wheel")
    tree = work / "tree"
    skip = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for name in ("csbviz", "kernels"):
        shutil.copytree(ROOT / name, tree / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    code = "from setuptools import build_meta; build_meta.build_wheel('dist')"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "site")
    return work / "site"


def test_a_wheel_holds_the_kernels_under_the_package_and_nothing_beside_it(unpacked_wheel):
    tops = {path.name for path in unpacked_wheel.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"csbviz"}
    sources = {path.name for path in (ROOT / "kernels" / "cuda").glob("*.cu*")}
    assert {path.name for path in (unpacked_wheel / "csbviz" / "_kernels" / "cuda").glob("*.cu*")} == sources
    assert sources
    data = {path.relative_to(ROOT) for path in (ROOT / "csbviz").rglob("*.json")}
    assert {path.relative_to(unpacked_wheel) for path in (unpacked_wheel / "csbviz").rglob("*.json")} == data
    assert data
    (info,) = unpacked_wheel.glob("*.dist-info")
    assert "csbviz = csbviz.cli:main" in (info / "entry_points.txt").read_text()


def run_outside(code: str, site, folder) -> None:
    """Run code in a folder where only the unpacked wheel holds csbviz."""
    first = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import csbviz; assert csbviz.__file__.startswith(sys.argv[1]), csbviz.__file__\n"
    )
    last = "\nassert 'kernels' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-P", "-c", first + code + last, str(site)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_wheel_finds_its_kernels_outside_of_the_checkout(unpacked_wheel, tmp_path):
    code = (
        "from csbviz.ops.registry import availability, kernels\n"
        "found = {kernel.name: availability(kernel) for kernel in kernels()}\n"
        "assert found['csb_cpu'].ok, found\n"
        "assert 'csb_cuda' in found\n"
        "from csbviz.ops.csb_cpu import kernel_module\n"
        "assert kernel_module('spmm').__name__ == 'csbviz._kernels.cpu.spmm'\n"
        "from csbviz.ops.cuda.module import read_source\n"
        "assert '__global__' in read_source('csb_spmm.cu')\n"
    )
    run_outside(code, unpacked_wheel, tmp_path)


@pytest.mark.slow
def test_a_wheel_multiplies_outside_of_the_checkout(unpacked_wheel, tmp_path):
    code = (
        "import numpy as np\n"
        "D = np.diag(np.arange(1, 6, dtype=np.float32))\n"
        "A = csbviz.CSBMatrix.from_dense(D, block_shape=2)\n"
        "assert np.array_equal(A @ np.eye(5, dtype=np.float32), D)\n"
    )
    run_outside(code, unpacked_wheel, tmp_path)
