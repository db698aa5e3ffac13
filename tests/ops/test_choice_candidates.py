"""The settings among which the choice decides: each can run, none twice, for every shape and width."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from csbviz.formats import CSBMatrix
from csbviz.ops import choice_candidates
from csbviz.ops.choice_terms import variant_of
from csbviz.ops.cuda import mma, panel_costs, panel_launch, wgmma_plan
from csbviz.ops.cuda.module import DeviceLimits
from csbviz.ops.registry import get_kernel

H100 = DeviceLimits(0, 132, 231424, (9, 0), 50 << 20, 233472, 2048)
TURING = DeviceLimits(0, 46, 65536 - 1024, (7, 5), 4 << 20, 65536, 1024)


@pytest.fixture
def device(monkeypatch, request):
    for module in (choice_candidates, mma):
        monkeypatch.setattr(module, "current_device", lambda: request.param)
    return request.param


def matrix(rows, columns, density, dtype=np.float32):
    return CSBMatrix.from_scipy(sp.random(rows, columns, density, "csr", dtype=dtype, random_state=1), 64)


@pytest.mark.parametrize("device", [H100, TURING], indirect=True, ids=["sm_90", "sm_75"])
@pytest.mark.parametrize("n", [1, 4, 100, 2048])
@pytest.mark.parametrize(("rows", "columns"), [(40, 30), (128, 512), (2048, 256), (300, 2304)])
@pytest.mark.parametrize("name", ["csb_rows", "csb_wgmma", "csb_mma", "csb_gather"])
def test_candidates_are_settings_that_the_kernel_offers(device, name, rows, columns, n):
    A = matrix(rows, columns, 0.1)
    tunables = get_kernel(name).tunables
    for op in ("A@B", "A.T@B"):
        found = list(choice_candidates.choice_candidates(name, A, op, n))
        keys = [repr(sorted(params.items())) for params in found]
        assert len(keys) == len(set(keys))
        assert found or name in ("csb_gather", "csb_rows")
        for params in found:
            assert all(value in tunables[key] for key, value in params.items() if value)
            assert variant_of(name, params) is not None


@pytest.mark.parametrize("device", [H100, TURING], indirect=True, ids=["sm_90", "sm_75"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("density", [0.01, 0.3])
def test_launches_of_rows_fit_the_device(device, dtype, density):
    A = matrix(512, 1024, density, dtype)
    for transpose, op in ((False, "A@B"), (True, "A.T@B")):
        structure = panel_launch.structure_of(A, transpose)
        found = list(choice_candidates.choice_candidates("csb_rows", A, op, 512))
        assert any(params["form"] == "direct" for params in found)
        for params in found:
            launch = panel_launch.Launch(**params)
            assert panel_launch.refusal(structure, launch, device) is None
            assert panel_costs.choose_launch(structure, 512, device, **params) == launch


@pytest.mark.parametrize("device", [H100], indirect=True)
def test_launches_of_wgmma_are_taken_as_they_are(device):
    A = matrix(512, 1024, 0.2)
    for params in choice_candidates.choice_candidates("csb_wgmma", A, "A@B", 512):
        assert wgmma_plan.choose_shape(512, 1024, 512, 132, 0, **params) == wgmma_plan.Shape(**params)
