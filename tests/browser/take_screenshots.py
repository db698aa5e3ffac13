"""Write the screenshots of the seven pages into docs/images.

python -m tests.browser.take_screenshots             # the sample CNN, light, 1440 pixels wide
python -m tests.browser.take_screenshots --dark --width 800 --out /tmp/shots --query model=minilm_l6
python -m tests.browser.take_screenshots --only balance,run --query "source=recorded&played=recorded"
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.browser.conftest import ARGUMENTS, ROOT, Served, find_chromium, settled

PAGES = {
    "model": "Model",
    "prune": "Prune",
    "accuracy": "Accuracy",
    "sparsity": "Sparsity",
    "layout": "CSB layout",
    "balance": "Balance",
    "run": "Run",
}
DEFAULT_QUERY = "model=fashion_cnn&layer=fc1.weight&method=magnitude&sparsity=90"
MOST_PIXELS = 2600


def take(tab, width: int, path: Path) -> None:
    """Make the window as high as the page, and write what it shows."""
    height = tab.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    tab.set_viewport_size({"width": width, "height": min(height + 8, MOST_PIXELS)})
    tab.wait_for_timeout(1200)  # figures follow the size of the window with a delay
    tab.mouse.move(1, 1)
    tab.screenshot(path=path)
    tab.set_viewport_size({"width": width, "height": 900})


def prepare(tab, page: str) -> None:
    """Bring a page into the state that is worth showing: accuracy measured, a run done."""
    if page == "prune" and tab.get_by_role("button", name="Measure the accuracy").count():
        tab.get_by_role("button", name="Measure the accuracy").click()
        tab.wait_for_function("!document.body.innerText.includes('not measured')", timeout=300_000)
        settled(tab)
    if page == "run" and tab.get_by_role("button", name="Run", exact=True).count():
        tab.get_by_role("button", name="Run", exact=True).click()
        tab.wait_for_selector(".st-key-verdict", timeout=300_000)
        settled(tab)


def shoot(served: Served, query: str, width: int, dark: bool, out: Path, pages: list[str]) -> None:
    """Open the link once, then walk through the pages as a user does."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=ARGUMENTS)
        tab = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        tab.set_default_timeout(60_000)
        tab.goto(f"{served.url}/?{query}")
        settled(tab)
        for page in pages:
            title = PAGES[page]
            tab.get_by_role("link", name=title, exact=True).click()
            tab.get_by_role("heading", name=title, exact=True).wait_for()
            settled(tab)
            prepare(tab, page)
            take(tab, width, out / f"{page}.png")
            print(out / f"{page}.png")
        browser.close()


def main() -> None:
    """Read the arguments, serve the app, take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder of the pictures")
    parser.add_argument("--query", default=DEFAULT_QUERY, help="settings, as in the app's links")
    parser.add_argument("--only", default=",".join(PAGES), help="pages (default: all)")
    parser.add_argument("--width", type=int, default=1440, help="pixels across")
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        served = Served(Path(folder) / "app.log")
        try:
            pages = [page for page in PAGES if page in options.only.split(",")]
            shoot(served, options.query, options.width, options.dark, options.out, pages)
        finally:
            served.close()


if __name__ == "__main__":
    main()
