"""`A @ B` with operands on a GPU: same kind back, on the operand's own stream."""

import numpy as np
import pytest
import scipy.sparse as sp

import csbviz
from csbviz.errors import MatrixError, OptionError
from csbviz.formats import CSBMatrix

pytestmark = pytest.mark.gpu

ROWS, COLS, N = 300, 200, 33


@pytest.fixture
def csr():
    return sp.random(ROWS, COLS, density=0.2, format="csr", dtype=np.float32, random_state=4)


@pytest.fixture
def A(csr):
    return CSBMatrix.from_scipy(csr, block_shape=(64, 64))


def test_torch_and_cupy_give_back_their_kind(A, csr):
    import cupy
    import torch

    B = np.random.default_rng(0).standard_normal((COLS, N), dtype=np.float32)
    C = A @ torch.from_numpy(B).cuda()
    assert isinstance(C, torch.Tensor)
    assert C.is_cuda
    np.testing.assert_allclose(C.cpu().numpy(), csr @ B, rtol=1e-4, atol=1e-5)
    D = A @ cupy.asarray(B)
    assert isinstance(D, cupy.ndarray)
    np.testing.assert_array_equal(D.get(), C.cpu().numpy())
    G = np.random.default_rng(1).standard_normal((N, ROWS), dtype=np.float32)
    np.testing.assert_allclose((A.T @ torch.from_numpy(G).cuda().T).cpu(), csr.T @ G.T, rtol=1e-4, atol=1e-5)
    x = torch.from_numpy(B[:, 0].copy()).cuda()
    assert (A @ x).shape == (ROWS,)


def test_a_product_waits_for_the_work_before_it_on_the_operands_stream(A, csr):
    import torch

    A @ torch.zeros(COLS, N, device="cuda")  # the plan is made beforehand
    stream = torch.cuda.Stream()
    slow = torch.randn(4096, 4096, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(20):
            slow = slow @ slow * 1e-3
        B = torch.full((COLS, N), 2.0, device="cuda") + 0 * slow[:COLS, :N].nan_to_num(0, 0, 0)
        C = A @ B
    stream.synchronize()
    expected = csr @ np.full((COLS, N), 2.0, np.float32)
    np.testing.assert_allclose(C.cpu().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_out_is_written_in_place(A, csr):
    import torch

    B = torch.ones(COLS, N, device="cuda")
    out = torch.full((ROWS, N), float("nan"), device="cuda")
    assert csbviz.spmm(A, B, out=out) is out
    np.testing.assert_allclose(out.cpu().numpy(), csr @ B.cpu().numpy(), rtol=1e-4, atol=1e-5)


def test_bad_operands_get_one_sentence(A):
    import torch

    with pytest.raises(MatrixError, match="B has 3 rows; the product needs 200"):
        A @ torch.ones(3, N, device="cuda")
    with pytest.raises(OptionError, match="runs on cpu, but B lives on cuda"):
        csbviz.spmm(A, torch.ones(COLS, N, device="cuda"), kernel="csb_cpu")
    with pytest.raises(OptionError, match="out lives on cpu; B lives on cuda"):
        csbviz.spmm(A, torch.ones(COLS, N, device="cuda"), out=torch.ones(ROWS, N))


@pytest.fixture
def only_direct(A, monkeypatch):
    """The plan for a product of N columns is there, and the long way to a product is closed."""
    import torch

    from csbviz.ops import dispatch

    def closed(*arguments):
        raise AssertionError("the long way was taken")

    A @ torch.zeros(COLS, N, device="cuda")
    A.T @ torch.zeros(ROWS, N, device="cuda")
    monkeypatch.setattr(dispatch, "as_operand", closed)


def test_a_repeated_product_goes_straight_to_the_driver(A, csr, only_direct):
    import torch

    B, G = torch.randn(COLS, N, device="cuda"), torch.randn(ROWS, N, device="cuda")
    np.testing.assert_allclose((A @ B).cpu(), csr @ B.cpu().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((A.T @ G).cpu(), csr.T @ G.cpu().numpy(), rtol=1e-4, atol=1e-5)
    out = torch.full((ROWS, N), float("nan"), device="cuda")
    assert csbviz.spmm(A, B, out=out) is out
    torch.testing.assert_close(out, A @ B, rtol=0, atol=0)


@pytest.mark.parametrize(
    "operand",
    [
        lambda torch: torch.ones(COLS, N + 1, device="cuda"),
        lambda torch: torch.ones(N, COLS, device="cuda").T,
        lambda torch: torch.ones(COLS, N, device="cuda", dtype=torch.float64),
        lambda torch: np.ones((COLS, N), np.float32),
    ],
    ids=["another size", "another layout", "another dtype", "another device"],
)
def test_the_direct_way_is_for_operands_like_the_first(A, only_direct, operand):
    import torch

    with pytest.raises(AssertionError, match="the long way was taken"):
        A @ operand(torch)


def test_a_product_does_not_wait_for_the_device(A, only_direct):
    import torch

    B = torch.randn(COLS, N, device="cuda")
    slow = torch.randn(8192, 8192, device="cuda")
    torch.cuda.synchronize()
    for _ in range(10):
        slow = slow @ slow * 1e-3
    before = torch.cuda.Event()
    before.record()
    A @ B
    assert not before.query()  # the products before it are still under way
    torch.cuda.synchronize()


def test_a_product_can_be_captured_into_a_graph(A, csr, only_direct):
    import torch

    B, C = torch.zeros(COLS, N, device="cuda"), torch.empty(ROWS, N, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        csbviz.spmm(A, B, out=C)
    B.normal_()
    graph.replay()
    np.testing.assert_allclose(C.cpu(), csr @ B.cpu().numpy(), rtol=1e-4, atol=1e-5)
