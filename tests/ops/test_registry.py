import pytest

from csbviz.errors import OptionError
from csbviz.ops import OPS, SPMM_OPS, SPMV_OPS, Kernel, Prepared, availability, get_kernel, kernels, register
from csbviz.ops.registry import require


def make(**changes):
    values = {
        "name": "x",
        "title": "X",
        "format": "csb",
        "device": "cpu",
        "ops": OPS,
        "dtypes": ("float32",),
        "precision": {"float32": "fp32"},
        "prepare": lambda A, op, n, *, threads, balance="auto": Prepared(lambda B, out: out, 0),
        "summary": "x",
    }
    return Kernel(**(values | changes))


def test_entries_are_complete():
    found = kernels()
    assert {kernel.device for kernel in found} == {"cpu", "cuda"}
    for kernel in found:
        assert kernel.title
        assert kernel.summary.endswith(".")
        state = availability(kernel)
        assert state.ok or state.reason.endswith("."), kernel.name


def test_csb_kernels_offer_both_directions():
    for kernel in kernels():
        if kernel.format == "csb":
            for pair in (SPMM_OPS, SPMV_OPS):
                assert len(set(pair) & set(kernel.ops)) in (0, 2), kernel.name
            assert kernel.ops


def test_filters():
    assert all(kernel.device == "cpu" for kernel in kernels(device="cpu"))
    assert all("float64" in kernel.dtypes for kernel in kernels(dtype="float64"))
    assert "csr_mkl_copy" not in [kernel.name for kernel in kernels(op="A@B")]


def test_unknown_name_lists_the_known():
    with pytest.raises(OptionError, match=r"no kernel named 'nope'; known kernels are .*csb_cpu"):
        get_kernel("nope")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "csb_cpu"}, "registered twice"),
        ({"ops": ("A+B",)}, "unknown operations"),
        ({"dtypes": ("float32", "float16")}, "no precision for"),
    ],
)
def test_faulty_entries_are_refused(changes, message):
    kernels()
    with pytest.raises(ValueError, match=message):
        register(make(**changes))


def test_require_says_what_a_kernel_takes():
    kernel = get_kernel("csr_mkl_copy")
    with pytest.raises(OptionError, match=r"does not compute A@B; it computes A\.T@B"):
        require(kernel, "A@B", "float32")
    with pytest.raises(OptionError, match="does not multiply float16"):
        require(kernel, "A.T@B", "float16")
