"""The main job in a real browser: from the upload to the verdict, with clicks on the pictures on the way."""

import io
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import settled

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def model_bytes() -> bytes:
    """A small network as an archive of weights: one layer, whose upper left corner is far from zero."""
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(256, 512)).astype(np.float32)
    weight[:64, :64] += 9
    file = io.BytesIO()
    np.savez(file, **{"fc.weight": weight, "fc.bias": np.zeros(256, np.float32)})
    return file.getvalue()


def go(page, name: str) -> None:
    """Open a page through the navigation."""
    page.get_by_role("link", name=name, exact=True).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    settled(page)


def upload(page, name: str, content: bytes) -> None:
    """Hand a file to the upload of the first page."""
    page.locator('input[type="file"]').set_input_files({"name": name, "mimeType": "", "buffer": content})
    settled(page)


def picture_box(page, name: str) -> dict:
    """Where the picture's plot area is on the screen."""
    area = page.locator(".js-plotly-plot .nsewdrag").first
    area.scroll_into_view_if_needed()
    expect(area).to_be_visible()
    return area.bounding_box()


def test_from_upload_to_verdict(page):
    page.goto("/")
    expect(page.get_by_text("Fashion-MNIST CNN").first).to_be_visible()
    settled(page)

    # a file that cannot be used is one sentence, and what was open stays
    upload(page, "broken.safetensors", b"not a model")
    expect(page.get_by_role("alert")).to_contain_text("broken.safetensors")
    expect(page.get_by_text("128 × 3,136 weights")).to_be_visible()

    upload(page, "mine.npz", model_bytes())
    expect(page.get_by_text("256 × 512 weights")).to_be_visible()
    assert "model=file-" in page.url

    go(page, "Prune")
    slider = page.get_by_role("slider", name="Sparsity")
    for value in ("89.5", "89", "88.5", "88"):
        slider.press("ArrowLeft")
        expect(slider).to_have_value(value)
    expect(page.get_by_text("88.0 % sparse")).to_be_visible()
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the pruned model").click()
    assert re.fullmatch(r"mine.*88\.safetensors", download.value.suggested_filename)

    go(page, "Sparsity")
    box = picture_box(page, "spy")
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4, steps=5)
    page.mouse.up()
    page.wait_for_url(re.compile(r"rows=\d-6\d&cols=\d-1[23]\d"))
    settled(page)
    expect(page.get_by_text(re.compile(r"Rows \d–6\d, columns \d–1[23]\d"))).to_be_visible()
    page.get_by_role("button", name="Whole layer").click()
    expect(page.get_by_text("Rows 0–255, columns 0–511")).to_be_visible()

    go(page, "CSB layout")
    page.get_by_text("Automatic", exact=False).first.click()
    settled(page)
    page.get_by_role("slider", name="Block rows").press("ArrowLeft")
    page.wait_for_url(re.compile("block=64x64"))
    settled(page)
    box = picture_box(page, "blocks")
    page.mouse.click(box["x"] + 0.99 * box["width"], box["y"] + 0.99 * box["height"])
    page.wait_for_url(re.compile("at="))
    settled(page)
    expect(page.get_by_text("Block 3, 7", exact=True)).to_be_visible()

    go(page, "Balance")
    page.get_by_text("Equal nonzeros", exact=True).click()
    settled(page)
    assert "balance=equal_nnz" in page.url

    go(page, "Run")
    page.get_by_role("button", name="Run", exact=True).click()
    verdict = page.locator(".st-key-verdict")
    expect(verdict).to_be_visible(timeout=150_000)
    expect(verdict).to_contain_text("For A·B CSB is")
    expect(verdict).to_contain_text("Why:")
    expect(page.get_by_role("heading", name="Measurements")).to_be_visible()

    # a changed setting keeps the results and says what they are of
    page.get_by_text("float64", exact=True).click()
    stale = page.get_by_role("alert").filter(has_text="earlier settings")
    expect(stale).to_contain_text("earlier settings (values: float32)")
    expect(verdict).to_contain_text("For A·B CSB is")


def test_a_run_can_be_cancelled(page):
    page.goto("/run?model=fashion_cnn&ns=512,1024,2048,4096")
    settled(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("It was cancelled")).to_be_visible(timeout=60_000)
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_enabled()


def test_a_link_opens_the_same_view_in_another_session(page):
    page.goto("/layout?model=fashion_cnn&layer=conv2.weight&method=magnitude&block=16x32&at=1,2&sparsity=70")
    expect(page.get_by_text("blocks 16 × 32")).to_be_visible()
    settled(page)
    expect(page.get_by_text("Block 1, 2")).to_be_visible()
    page.goto("/layout?model=fashion_cnn&sparsity=150")
    expect(page.get_by_role("alert")).to_contain_text("99.9 is used")


def test_back_in_the_history_brings_the_settings_back(page):
    page.goto("/layout?model=fashion_cnn&layer=fc1.weight&method=magnitude&block=16x16")
    expect(page.get_by_text("blocks 16 × 16")).to_be_visible()
    settled(page)
    page.get_by_role("slider", name="Block rows").press("ArrowRight")
    expect(page.get_by_text("blocks 32 × 32")).to_be_visible()
    settled(page)
    page.go_back()
    expect(page.get_by_text("blocks 16 × 16")).to_be_visible()
