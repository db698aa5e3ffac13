"""The app served on a free port, and a Chromium page that looks at it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


def find_chromium() -> str | None:
    """Path of the system's Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Served:
    """The app in a process of its own; `close` ends it with everything that it started."""

    def __init__(self, log: Path) -> None:
        self.url = f"http://localhost:{free_port()}"
        self.log = log
        command = [
            sys.executable,
            "-m",
            "streamlit",
            "run",
            "app.py",
            "--server.port",
            self.url.rsplit(":", 1)[1],
            "--server.headless",
            "true",
        ]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the app ended while it started:\n{self.log.read_text()}")
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2).close()
            except OSError:
                time.sleep(0.1)
            else:
                return
        self.close()
        raise RuntimeError(f"the app did not come up in a minute:\n{self.log.read_text()}")

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Iterator[Served]:
    """The app, served for the session; its log must hold no uncaught exception at the end."""
    app = Served(tmp_path_factory.mktemp("served") / "app.log")
    yield app
    app.close()
    log = app.log.read_text()
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, served) -> Iterator:
    """A fresh page of 1440 x 1000 pixels; errors that its scripts raise fail the test."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, base_url=served.url)
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    problems: list[str] = []
    tab.on("pageerror", lambda error: problems.append(str(error)))
    yield tab
    context.close()
    assert not problems, problems


def settled(tab) -> None:
    """Wait until the script has run to its end and the figures are drawn."""
    tab.wait_for_timeout(150)  # the browser needs a moment to tell the server of a click
    tab.wait_for_selector('[data-test-script-state="notRunning"]')
    tab.wait_for_timeout(350)
