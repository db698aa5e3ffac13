"""The speed a user feels: import, conversion, first page, another layer or block size, a large layer.

Run ``python benchmarks/user_speed.py [--json PATH]``. It starts its own server and a headless Chromium,
uses the sample transformer where it is installed (else the CNN), and prints each figure beside its aim.
Browser times run from the user's action until the page is idle again with its new content drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy.sparse as sp

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from csbviz import CSBMatrix, sample_models  # noqa: E402  (the checkout is put on the path first)
from csbviz.ops.devices import cpu_name, versions  # noqa: E402

CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

AIMS = {
    "import csbviz [s]": 1.0,
    "CSR to CSB / S.tocsc(), 4096x4096 90 %": 1.5,
    "CSR to CSB / S.tocsc(), 2048x512 90 %": 1.5,
    "first page drawn [s]": 3.0,
    "another layer shown [s]": 1.0,
    "the largest layer shown [s]": 1.0,
    "another block size shown [s]": 1.0,
    "4096x4096 layout shown [s]": 1.5,
    "4096x4096 layout to the browser [MB]": 3.0,
}


def import_seconds(repeats: int = 5) -> float:
    """Median seconds that ``import csbviz`` adds to a fresh interpreter."""
    code = "import time; t = time.perf_counter(); import csbviz; print(time.perf_counter() - t)"
    runs = [
        subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) for _ in range(repeats)
    ]
    return statistics.median(map(float, runs))


def conversion_ratio(rows: int, cols: int, repeats: int = 21) -> float:
    """Median time of CSR to CSB over the median time of CSR to CSC, in turn on the same matrix."""
    csr = sp.random(rows, cols, density=0.1, format="csr", dtype=np.float32, random_state=0)
    CSBMatrix.from_scipy(csr)
    ours, theirs = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        CSBMatrix.from_scipy(csr)
        middle = time.perf_counter()
        csr.tocsc()
        ours.append(middle - start)
        theirs.append(time.perf_counter() - middle)
    return statistics.median(ours) / statistics.median(theirs)


@contextmanager
def server() -> Iterator[str]:
    """The app on a free port of this machine; yields its address once it is up."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py"]
    command += ["--server.port", str(port), "--server.headless", "true"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://localhost:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


class Visitor:
    """A browser page that counts what the server sends it."""

    def __init__(self, browser, address: str):
        self.address = address
        self.page = browser.new_page(viewport={"width": 1440, "height": 1000})
        self.received = 0
        self.page.on("websocket", lambda socket: socket.on("framereceived", self._count))

    def _count(self, payload) -> None:
        self.received += len(payload)

    def open(self, path: str, text: str) -> float:
        """Seconds until a page shows `text` and its figures; counts bytes from zero."""
        self.received = 0
        start = time.perf_counter()
        self.page.goto(f"{self.address}/{path}")
        self.page.get_by_text(text, exact=False).first.wait_for()
        self.idle()
        return time.perf_counter() - start

    def idle(self) -> None:
        """Wait until no script runs and no figure is missing."""
        self.page.wait_for_function(
            """() => !document.querySelector('[data-testid=stStatusWidget]')
                 && !document.querySelector('[data-stale=true]')
                 && [...document.querySelectorAll('[data-testid=stPlotlyChart]')]
                      .every(chart => chart.querySelector('.main-svg'))"""
        )

    def choose_layer(self, index: int) -> float:
        """Seconds until the layer at this place of the list is shown instead of another."""
        page = self.page
        page.get_by_role("combobox", name="Layer").first.click()
        option = page.get_by_role("option").nth(index)
        label = option.inner_text()
        before = page.locator(".st-key-selection [data-testid=stMarkdown]").last.inner_text()
        start = time.perf_counter()
        option.click()
        self._changed(".st-key-selection [data-testid=stMarkdown]", before)
        self.idle()
        seconds = time.perf_counter() - start
        print(f"    {label}: {seconds:.2f} s")
        return seconds

    def _changed(self, selector: str, before: str) -> None:
        self.page.wait_for_function(
            """([selector, before]) => {
                 const found = document.querySelectorAll(selector);
                 return found.length && found[found.length - 1].innerText !== before;
               }""",
            arg=[selector, before],
        )

    def press_on_slider(self, name: str, key: str) -> float:
        """Seconds until the block shape that a slider's key press gives is shown."""
        page = self.page
        before = page.locator(".st-key-selection [data-testid=stMarkdown]").last.inner_text()
        slider = page.get_by_role("slider", name=name).first
        slider.focus()
        start = time.perf_counter()
        page.keyboard.press(key)
        self._changed(".st-key-selection [data-testid=stMarkdown]", before)
        self.idle()
        return time.perf_counter() - start


def browser_figures(large: Path) -> dict[str, float]:
    """The figures that need a browser; `large` is a 4096x4096 layer to upload."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("A Chromium is needed for the browser figures; install the package chromium.")
    available = [sample.id for sample in sample_models() if sample.available]
    sample = "minilm_l6" if "minilm_l6" in available else "fashion_cnn"
    figures: dict[str, float] = {}
    with server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        visitor = Visitor(browser, address)
        figures["first page drawn [s]"] = visitor.open(f"?model={sample}", "Layers that can be pruned")
        visitor.open(f"layout?model={sample}", "Bytes in each format")
        time.sleep(5)  # the app loads heavy modules in the background after its first page
        typical, largest = ((0, 4, 3, 5, 4), 2) if sample == "minilm_l6" else ((0, 1, 3, 1, 0), 2)
        figures["another layer shown [s]"] = statistics.median(map(visitor.choose_layer, typical))
        figures["the largest layer shown [s]"] = visitor.choose_layer(largest)
        visitor.open(f"layout?model={sample}&block=64x64", "Bytes in each format")
        keys = ("ArrowLeft", "ArrowLeft", "ArrowRight", "ArrowLeft", "ArrowRight")
        figures["another block size shown [s]"] = statistics.median(
            visitor.press_on_slider("Block rows", key) for key in keys
        )
        visitor.open("", "Your own model or matrix")
        visitor.page.locator("input[type=file]").set_input_files(large)
        visitor.page.get_by_text("4,096 × 4,096").first.wait_for()
        visitor.idle()
        visitor.received = 0
        start = time.perf_counter()
        visitor.page.get_by_role("link", name="CSB layout").click()
        visitor.page.get_by_text("Bytes in each format").first.wait_for()
        visitor.idle()
        figures["4096x4096 layout shown [s]"] = time.perf_counter() - start
        figures["4096x4096 layout to the browser [MB]"] = visitor.received / 1e6
        browser.close()
    return figures


def main() -> None:
    """Measure, print, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures = {"import csbviz [s]": import_seconds()}
    for rows, cols in ((4096, 4096), (2048, 512)):
        figures[f"CSR to CSB / S.tocsc(), {rows}x{cols} 90 %"] = conversion_ratio(rows, cols)
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "layer_4096.npz"
        sp.save_npz(large, sp.random(4096, 4096, 0.1, "csr", np.float32, random_state=0))
        figures |= browser_figures(large)
    print(f"\n{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name, aim in AIMS.items():
        print(f"{name:44} {figures[name]:8.2f}   aim ≤ {aim:g} {'' if figures[name] <= aim else '  MISSED'}")
    if options.json:
        record = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": cpu_name(),
            "versions": versions(),
            "figures": figures,
            "aims": AIMS,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
