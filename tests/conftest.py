"""What every test shares: real matrices, markers that skip visibly, thread counts, hypothesis profiles."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# Before anything imports Numba: at least two threads, so that work is shared on a one-core machine too.
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, os.cpu_count() or 1)))

import pytest
from hypothesis import HealthCheck, settings

_IN_CI = os.environ.get("CI") == "true"

# No deadline: the first call of a kernel compiles it. CI draws the same examples every time.
settings.register_profile(
    "quick",
    max_examples=40,
    deadline=None,
    derandomize=_IN_CI,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("full", settings.get_profile("quick"), max_examples=400, derandomize=False)
settings.load_profile("quick")


def _no_gpu() -> str | None:
    """Why tests marked gpu cannot run here, or None."""
    from csbviz.ops.devices import gpu_state

    name, reason = gpu_state()
    return None if name else reason


def _no_browser() -> str | None:
    """Why tests marked browser cannot run here, or None."""
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return None
    return "Chromium is not installed"


_FIND_REASON = {"gpu": _no_gpu, "browser": _no_browser}
_reasons: dict[str, str | None] = {}  # found once a session, on the first test that asks


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked gpu or browser where the device or the program is missing, and say so.

    It runs before any fixture, so that no fixture has to start what is missing. In CI a missing browser
    is a fault of the install, not a reason to skip.
    """
    for marker, find_reason in _FIND_REASON.items():
        if item.get_closest_marker(marker) is None:
            continue
        if marker not in _reasons:
            _reasons[marker] = find_reason()
        reason = _reasons[marker]
        if reason is not None:
            if marker == "browser" and _IN_CI:
                pytest.fail(f"browser test in CI: {reason}")
            pytest.skip(reason)


@pytest.fixture(scope="session")
def dlmc() -> Path:
    """The folder of Deep Learning Matrix Collection files that DLMC_DIR names."""
    folder = os.environ.get("DLMC_DIR")
    if not folder:
        pytest.skip("DLMC_DIR is not set: tests on real matrices of the DLMC are left out")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"DLMC_DIR is {folder!r}, which is not a folder")
    return path
