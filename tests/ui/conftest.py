"""The app in Streamlit's test runner."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from streamlit.testing.v1 import AppTest

APP = Path(__file__).resolve().parents[2] / "app.py"


class App:
    """The app of one session: open pages, look for sentences."""

    def __init__(self, query: dict[str, str] | None = None) -> None:
        self.test = AppTest.from_file(str(APP), default_timeout=60)
        for name, value in (query or {}).items():
            self.test.query_params[name] = value

    def open(self, page: str) -> AppTest:
        """Draw a page; an exception on it fails the test."""
        if not hasattr(self, "drawn"):
            self.drawn = self.run()
        self.test.switch_page(f"csbviz/ui/pages/{page}.py")
        self.test.query_params.clear()  # as the browser does when the page changes
        return self.run()

    def run(self) -> AppTest:
        """Draw the page that is open again."""
        self.drawn = self.test
        self.test.run()
        problems = [problem.value for problem in self.test.exception]
        assert not problems, problems
        return self.test

    def upload(self, name: str, content: bytes) -> AppTest:
        """Put a file into the upload of the first page."""
        self.test.file_uploader[0].upload(name, content)
        return self.run()

    @property
    def words(self) -> str:
        """All text on the page."""
        test = self.test
        texts = (test.header, test.subheader, test.markdown, test.caption)
        kinds = (*texts, test.warning, test.error, test.success)
        return "\n".join(element.value for kind in kinds for element in kind)

    def query(self) -> dict[str, str]:
        """What the URL holds."""
        found = dict(self.test.query_params.items())
        return {name: value if isinstance(value, str) else value[0] for name, value in found.items()}


@pytest.fixture(autouse=True)
def _no_worker(monkeypatch):
    """Opening the page Run starts no worker process: these tests need none."""
    monkeypatch.setattr("csbviz.ui.warm.start_worker", lambda device: None)


@pytest.fixture
def app() -> App:
    """The app without any parameters in its URL."""
    return App()


def matrix_bytes(rows: int = 300, cols: int = 200, density: float = 0.1, seed: int = 3) -> bytes:
    """A sparse matrix as the bytes of a .npz file."""
    matrix = scipy.sparse.random(rows, cols, density, "csr", np.float32, np.random.default_rng(seed))
    file = io.BytesIO()
    scipy.sparse.save_npz(file, matrix)
    return file.getvalue()


def weights_bytes(**arrays: np.ndarray) -> bytes:
    """Weights as the bytes of a .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
