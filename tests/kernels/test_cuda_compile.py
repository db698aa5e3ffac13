"""Every CUDA kernel compiles for every architecture that csbviz names, on a machine without a GPU."""

from __future__ import annotations

import os

import pytest

from csbviz.errors import UnavailableError
from csbviz.ops.cuda.module import COMPILE_OPTIONS, SOURCES, Function, instantiations, read_source

ARCHITECTURES = ("sm_75", "sm_80", "sm_89", "sm_90a", "sm_120")


@pytest.fixture(scope="module")
def nvrtc():
    """NVRTC from NVIDIA's wheel. In CI its absence is a fault of the install, not a reason to skip."""
    if os.environ.get("CI") == "true":
        from cuda.bindings import nvrtc

        return nvrtc
    return pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")


def compile_source(
    nvrtc, source: str, expressions: list[str], architecture: str
) -> tuple[bool, str, list[int]]:
    """Compile; success, the compiler's log, and for each expression the size of its lowered name."""
    error, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], [])
    assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS
    for expression in expressions:
        (error,) = nvrtc.nvrtcAddNameExpression(program, expression.encode())
        assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS
    options = [*COMPILE_OPTIONS, f"-arch={architecture}"]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    # NVRTC writes into these objects: they must be new ones, and b" " * 1 or bytes(1) would be a shared one.
    log = bytes(size + 1)
    nvrtc.nvrtcGetProgramLog(program, log)
    ok = result == nvrtc.nvrtcResult.NVRTC_SUCCESS
    names, cubin = [], b""
    if ok:
        names = [nvrtc.nvrtcGetLoweredName(program, expression.encode())[1] for expression in expressions]
        _, size = nvrtc.nvrtcGetCUBINSize(program)
        cubin = bytes(size + 1)
        nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    # A kernel that compiles with a warning is not finished. NVRTC has no option that makes one an error.
    text = log.decode(errors="replace")
    return ok and "warning" not in text, text, [cubin.count(name) for name in names]


def fitting(functions, architecture: str) -> list[Function]:
    """Those whose source the architecture can run."""
    number = architecture.removeprefix("sm_").rstrip("a")
    capability = int(number[:-1]), int(number[-1])
    return [f for f in functions if SOURCES[f.source].fits(capability)]


def by_source(functions) -> dict[str, list[Function]]:
    groups: dict[str, list[Function]] = {}
    for function in functions:
        groups.setdefault(function.source, []).append(function)
    return groups


def values(functions) -> set[tuple]:
    """Every value of every template parameter of every kernel; True and 1 are two."""
    return {
        (f.name, place, value, type(value))
        for f in functions
        for place, value in enumerate(f.arguments or (None,))
    }


def one_of_each_value(functions) -> list[Function]:
    """Few instantiations in which all `values` occur: always the one that adds most of what is missing."""
    own = {function: values([function]) for function in functions}
    missing, chosen = values(functions), []
    while missing:
        chosen.append(max(own, key=lambda function: len(own[function] & missing)))
        missing -= own[chosen[-1]]
    return chosen


def assert_compiles(nvrtc, functions, architecture: str) -> None:
    for source, group in by_source(fitting(functions, architecture)).items():
        expressions = [function.expression for function in group]
        ok, log, found = compile_source(nvrtc, read_source(source), expressions, architecture)
        assert ok, f"{source} does not compile for {architecture}:\n{log}"
        assert all(found), f"{source}: the binary for {architecture} lacks an instantiation"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_kernel_compiles(nvrtc, architecture):
    assert_compiles(nvrtc, one_of_each_value(instantiations()), architecture)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_instantiation_compiles(nvrtc, architecture):
    assert_compiles(nvrtc, instantiations(), architecture)


def test_every_source_has_instantiations():
    assert set(by_source(instantiations())) == set(SOURCES)


def test_the_small_selection_covers_every_value():
    full, few = instantiations(), one_of_each_value(instantiations())
    assert {function.name for function in few} == {function.name for function in full}
    assert values(few) == values(full)
    assert len(few) < len(full)


@pytest.mark.parametrize(
    ("whole", "part", "complaint"),
    [
        ("float4 v = __ldg", "float3 v = __ldg", "float3"),
        ("__syncthreads();  // every entry", "__syncthread();  // every entry", "__syncthread"),
        ("int copied = 0;", "int copied = 0, unused = 0;", "unused"),
    ],
)
def test_a_broken_kernel_is_noticed(nvrtc, whole, part, complaint):
    source = read_source("csb_spmm.cu")
    assert whole in source
    expressions = [f.expression for f in one_of_each_value(instantiations()) if f.name == "csb_spmm_v2"]
    ok, log, _ = compile_source(nvrtc, source.replace(whole, part), expressions, "sm_80")
    assert not ok
    assert complaint in log


def test_a_missing_source_is_one_sentence():
    with pytest.raises(UnavailableError, match=r"nothing\.cu is missing from this installation"):
        read_source("nothing.cu")
